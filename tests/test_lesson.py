"""What the lessons draw with, and a learner's part inside the trained model."""

import base64
import math

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import nn

from lab import parts
from lab.lesson import rebuilt, see, show, trained, translate_with
from lab.parts import from_package, using
from lab.plotting import bars, heat_map, heat_maps, lines
from lab.translation import translate

IN_THE_MODEL = [
    part
    for part in from_package("solutions")
    if part not in ("soft_lookup", "SelfAttention", "LearnedPositions", "causal_mask",
                    "shift_target", "label_smoothing_loss", "noam_learning_rate", "train_step",
                    "greedy_decode", "beam_search", "sample_decode")
]  # fmt: skip


def test_a_cell_waits_for_an_unwritten_part(capsys):
    """One line in place of a traceback; every other error is shown."""
    with see("softmax", "soft_lookup"):
        raise NotImplementedError
    assert capsys.readouterr().out == "This waits for softmax and soft_lookup.\n"

    with pytest.raises(ZeroDivisionError), see("softmax"):
        1 / 0  # noqa: B018


@pytest.mark.parametrize("part", IN_THE_MODEL)
def test_the_trained_model_really_uses_a_part_put_into_it(part):
    """The reference in place of stock is called, and the translation stays the same."""
    called = []
    reference = from_package("solutions")[part]

    def counting(*args, **kwargs):
        called.append(part)
        return reference(*args, **kwargs)

    with using({part: counting}, alone=True):
        (found,) = translate(rebuilt(), ["Two dogs are playing."], max_len=12)

    with using({}, alone=True):
        (usual,) = translate(trained(), ["Two dogs are playing."], max_len=12)
    assert called
    assert found.text == usual.text


def test_translating_with_a_broken_part_shows_what_it_does(capsys):
    """Attention that looks everywhere alike translates into something else."""

    def everywhere(query, key, value, mask=None):
        weights = query.new_ones(*query.shape[:-1], key.size(-2)) / key.size(-2)
        return weights @ value, weights

    found = translate_with({"scaled_dot_product_attention": everywhere}, ["Two dogs are playing."])

    said = capsys.readouterr().out
    assert found != translate_with({}, ["Two dogs are playing."])
    assert "with yours" in said and "with stock" in said
    assert "0 of 1 translations are the same" in said


def test_an_adopted_part_serves_until_using_says_otherwise():
    """For the whole process; a block may still put it aside."""

    class Mine(nn.Linear):
        pass

    try:
        parts.adopt({"FeedForward": Mine})
        assert type(parts.FeedForward(4, 5)) is Mine
        with using({}, alone=True):
            assert type(parts.FeedForward(4, 5)) is not Mine
        with using({"AddNorm": nn.Identity}):
            assert type(parts.FeedForward(4, 5)) is Mine
        with pytest.raises(ValueError, match="no such parts: Rest"):
            parts.adopt({"Rest": Mine})
    finally:
        parts.adopt({})
    assert type(parts.FeedForward(4, 5)) is not Mine


def drawn(figure: Figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def test_a_heat_map_is_labelled_and_dark_is_much():
    """Rows ask, columns answer; a gradient or a device does not matter."""
    weights = torch.tensor([[1.0, 0.0], [0.25, 0.75]], requires_grad=True)

    figure = heat_map(weights, ["it", "was"], ["animal", "street"], "looks", numbers=True)

    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["it", "was"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["animal", "street"]
    assert {text.get_text() for text in axes.texts} == {"1.00", "0.00", "0.25", "0.75"}
    shown = axes.images[0]
    dark, light = shown.cmap(shown.norm(1.0)), shown.cmap(shown.norm(0.0))
    assert sum(dark[:3]) < sum(light[:3])
    assert drawn(figure).std() > 0


def test_heat_maps_share_one_scale_and_show_signs():
    """Equal numbers have equal colours in every map; zero is white when there are negatives."""
    figure = heat_maps({"a": [[1.0, -2.0]], "b": [[0.0, 0.5]], "c": torch.eye(2).bool()})

    limits = {image.get_clim() for axes in figure.axes for image in axes.images}
    assert limits == {(-2.0, 2.0)}
    drawn(figure)


def test_many_heat_maps_wrap_to_rows():
    """Five maps stand in two rows, the empty places stay empty."""
    figure = heat_maps({str(i): np.eye(3) for i in range(5)})

    assert sum(axes.get_visible() for axes in figure.axes) == 5
    drawn(figure)


def test_lines_and_bars_are_labelled():
    """Names in the legend, units on the axes."""
    figure = lines(
        {"a": [1, 2], "b": torch.tensor([2.0, 1.0])}, [4, 8], xlabel="d_k", logx=True, logy=True
    )
    assert figure.axes[0].get_xlabel() == "d_k"
    assert [t.get_text() for t in figure.axes[0].get_legend().get_texts()] == ["a", "b"]
    drawn(figure)
    drawn(bars({"one": 1.0, "two": math.e}, ylabel="nats"))


def test_outside_a_notebook_show_does_nothing(capsys):
    """Lessons can be run as modules."""
    show(bars({"a": 1.0}))

    assert capsys.readouterr().out == ""


def test_in_a_notebook_a_figure_is_a_sharp_picture_with_words(monkeypatch):
    """A PNG at twice its size, and its titles where pictures cannot be shown."""
    shown = {}
    monkeypatch.setattr("IPython.core.getipython.get_ipython", object)
    monkeypatch.setattr(
        "IPython.display.display", lambda bundle, **settings: shown.update(bundle, **settings)
    )

    show(heat_map(np.eye(2), title="who looks where"))

    width = int.from_bytes(base64.b64decode(shown["image/png"])[16:20], "big")
    assert width == pytest.approx(2 * shown["metadata"]["image/png"]["width"], abs=2)
    assert shown["text/plain"] == "a figure: who looks where"
    assert shown["raw"] is True
