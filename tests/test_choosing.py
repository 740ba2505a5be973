"""Choosing implementations: every place that uses a part gets the one in force."""

from threading import Thread

import pytest
import torch
from torch import nn

import solutions.attention
import solutions.multi_head
from lab import parts, stock
from lab.course import PARTS, UNITS
from lab.model import Config, build
from lab.parts import from_package, implementation, using

CONFIG = Config(11, d_model=6, n_heads=3, n_layers=2, d_ff=7)


class Silent(nn.Module):
    """A feed-forward layer that says nothing, for good measure."""

    def __init__(self, d_model: int, d_ff: int):
        super().__init__()

    def forward(self, x):
        return torch.zeros_like(x)


@pytest.mark.parametrize("work", ["stock", "solutions"], indirect=True)
def test_a_choice_reaches_every_place(work):
    """One part replaced is replaced in each layer, and the rest stays as it was."""
    with using({"FeedForward": Silent}):
        model = build(CONFIG)

    layers = [*model.encoder.layers, *model.decoder.layers]
    assert all(type(layer.feed_forward) is Silent for layer in layers)
    assert all(type(layer.self_attention) is work.MultiHeadAttention for layer in layers)


def test_a_choice_reaches_functions_called_later(draw):
    """A module asks for its functions when it runs, not when it is built."""
    module, x = solutions.multi_head.MultiHeadAttention(6, 3).double(), draw(1, 4, 6)
    asked = []

    def attention(query, key, value, mask=None):
        asked.append(query.shape)
        return stock.scaled_dot_product_attention(query, key, value, mask)

    with using({"scaled_dot_product_attention": attention}):
        module(x, x, x)
    module(x, x, x)

    assert asked == [(1, 3, 4, 2)]


def test_a_choice_ends_with_its_block():
    """Inner choices add to outer ones, and each is undone, also after a failure."""
    with using({"softmax": len}):
        with using({"LayerNorm": Silent}):
            assert implementation("softmax") is len
            assert implementation("LayerNorm") is Silent
        assert implementation("softmax") is len
        assert implementation("LayerNorm") is stock.LayerNorm
        with pytest.raises(ZeroDivisionError), using({"softmax": sum}):
            raise ZeroDivisionError
        assert implementation("softmax") is len
    assert implementation("softmax") is stock.softmax


def test_threads_do_not_see_each_others_choice():
    """A choice holds in the thread that made it."""
    seen = []

    with using({"softmax": len}):
        thread = Thread(target=lambda: seen.append(implementation("softmax")))
        thread.start()
        thread.join()

    assert seen == [stock.softmax]


def test_stock_serves_what_nobody_chose():
    """Every part of the course is there from day one."""
    for part in PARTS:
        assert implementation(part) is getattr(stock, part)


def test_a_stand_in_asks_at_every_call():
    """What was imported earlier follows a later choice; a part has one stand-in."""
    from lab.parts import softmax

    with using({"softmax": lambda scores: "mine"}):
        assert softmax([1.0]) == "mine"
    assert softmax(torch.zeros(2)).tolist() == [0.5, 0.5]
    assert softmax is parts.softmax
    assert softmax.__name__ == "softmax"


def test_a_package_gives_all_parts():
    """One module per unit, every part of the table, each from its unit's module."""
    found = from_package("solutions")

    assert list(found) == [part for unit in UNITS for part in unit.parts]
    assert found["softmax"] is solutions.attention.softmax


@pytest.mark.parametrize(
    "ask, error, message",
    [
        (lambda: implementation("sofmax"), AttributeError, "no part 'sofmax': choose from softmax"),
        (lambda: parts.sofmax, AttributeError, "no part 'sofmax'"),
        (
            lambda: using({"b": len, "softmax": len, "a": len}).__enter__(),
            ValueError,
            "no such parts: a, b; choose from softmax",
        ),
    ],
)
def test_an_unknown_part_is_refused(ask, error, message):
    """One error that names all that is wrong and what there is."""
    with pytest.raises(error, match=message):
        ask()
    assert implementation("softmax") is stock.softmax
