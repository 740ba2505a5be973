"""Views on attention: worked by hand, by brute force, and by what they leave alone."""

import math
from itertools import pairwise, product

import pytest
import torch
from a_checkpoint import SENTENCES, a_checkpoint
from torch.testing import assert_close

from lab import views
from lab.steps import follow

L, H, T, S = 3, 2, 4, 5


def rows(*shape, seed=0):
    """Random weights whose rows sum to one."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64).log().mul(2).softmax(-1)


def causal(weights):
    weights = weights.tril()
    return weights / weights.sum(-1, keepdim=True)


def test_any_set_of_heads():
    """Mean and maximum of those chosen, entry by entry, and of all without a choice."""
    weights, heads = rows(L, H, T, S), [(0, 1), (2, 0), (1, 1)]

    some, all_ = views.choose(weights, heads), views.choose(weights)

    assert all_.shape == (L * H, T, S)
    for t, s in product(range(T), range(S)):
        values = [weights[layer, head, t, s].item() for layer, head in heads]
        assert views.mean(some)[t, s].item() == pytest.approx(sum(values) / 3)
        assert views.maximum(some)[t, s].item() == max(values)
        assert views.maximum(all_)[t, s] == weights[:, :, t, s].max()


def test_heads_that_are_not_there():
    """Each is named, with those that are."""
    weights = rows(L, H, T, S)

    for wrong in [(L, 0), (0, H), (-1, 0)]:
        with pytest.raises(ValueError, match=f"there is no head {wrong[1]} in layer {wrong[0]}"):
            views.choose(weights, [wrong])
    with pytest.raises(ValueError, match="no head is chosen"):
        views.choose(weights, [])


def test_rollout_adds_up_every_way():
    """Abnar & Zuidema: a way from token to token through all layers counts the product of its
    steps, each half staying where it is and half as the heads look; all ways are summed."""
    weights = rows(L, H, T, T)

    def step(layer, to, whence):
        return 0.5 * (to == whence) + 0.5 * weights[layer, :, to, whence].mean().item()

    found = views.rollout(weights)

    for top, bottom in product(range(T), repeat=2):
        total = 0.0
        for between in product(range(T), repeat=L - 1):
            way = pairwise((bottom, *between, top))
            total += math.prod(step(n, to, whence) for n, (whence, to) in enumerate(way))
        assert found[top, bottom].item() == pytest.approx(total)
    assert_close(found.sum(-1), torch.ones(T, dtype=torch.float64))


def test_rollout_of_nobody_looking_elsewhere():
    """Tokens that look at themselves alone stay what they are."""
    weights = torch.eye(T).expand(L, H, T, T)

    assert_close(views.rollout(weights), torch.eye(T))


def test_rollout_through_the_whole_model():
    """By hand for one layer; for more, source and target share each row, the future has none."""
    one = {
        "encoder": rows(1, H, S, S),
        "decoder": causal(rows(1, H, T, T)),
        "cross": rows(1, H, T, S),
    }
    more = {
        "encoder": rows(L, H, S, S),
        "decoder": causal(rows(L, H, T, T)),
        "cross": rows(L, H, T, S),
    }

    source, target = views.rollout_to_source(one)
    memory = 0.5 * torch.eye(S).double() + 0.5 * one["encoder"][0].mean(0)
    assert_close(source, 0.5 * one["cross"][0].mean(0) @ memory)
    assert_close(target, 0.25 * torch.eye(T).double() + 0.25 * one["decoder"][0].mean(0))

    source, target = views.rollout_to_source(more)
    assert_close(source.sum(-1) + target.sum(-1), torch.ones(T, dtype=torch.float64))
    assert source.shape == (T, S) and not target.triu(1).any() and (source > 0).all()


def test_entropy_of_each_head():
    """Heads that look at 1, 2, 4 keys alike: 0, 1, 2 bits."""
    weights = torch.zeros(1, 3, T, S)
    for head, n_keys in enumerate((1, 2, 4)):
        weights[0, head, :, :n_keys] = 1 / n_keys

    assert_close(views.entropy_per_head(weights), torch.tensor([[0.0, 1.0, 2.0]]))


def test_a_hidden_sink():
    """The rest keeps its proportions and sums to one; what was hidden is told."""
    weights = rows(H, T, S)

    left, hidden = views.hide(weights, [-1, 1])

    assert_close(hidden, weights[..., 1] + weights[..., -1])
    assert not left[..., [1, S - 1]].any()
    assert_close(left.sum(-1), torch.ones(H, T, dtype=torch.float64))
    assert_close(left[..., 0] * weights[..., 2], left[..., 2] * weights[..., 0])


def test_a_row_that_looked_at_nothing_else():
    """Zeros, and a share of one: no division by zero."""
    left, hidden = views.hide(torch.tensor([[0.0, 0.0, 1.0], [0.25, 0.25, 0.5]]), [2])

    assert_close(left, torch.tensor([[0.0, 0.0, 0.0], [0.5, 0.5, 0.0]]))
    assert_close(hidden, torch.tensor([1.0, 0.5]))


def test_nothing_hidden():
    """No keys, no change; a key that is not there is named."""
    weights = rows(T, S)

    left, hidden = views.hide(weights, [])
    assert_close(left, weights)
    assert not hidden.any()
    with pytest.raises(ValueError, match=f"there is no key {S}: choose from 0 to {S - 1}"):
        views.hide(weights, [0, S])


def test_scales():
    """0–1 leaves weights as they are; by the row maximum the highest of each row is 1."""
    weights = torch.tensor([[0.1, 0.4, 0.5], [0.0, 0.0, 0.0]])

    assert_close(views.scaled(weights), weights)
    assert_close(
        views.scaled(weights, "row maximum"), torch.tensor([[0.2, 0.8, 1.0], [0.0, 0.0, 0.0]])
    )
    with pytest.raises(ValueError, match="scale 'sqrt': choose from 0–1, row maximum"):
        views.scaled(weights, "sqrt")


@pytest.mark.parametrize("name", ["tiny", "en-de"])
def test_a_real_translation_has_all_views(name):
    """What translate explains is what the views take, for each kind."""
    [path] = follow(a_checkpoint(name), SENTENCES[1:], explain=True, max_len=9)
    attention = path.translation.attention

    source, target = views.rollout_to_source(attention)

    n_read, n_written = len(path.translation.source_pieces), len(path.ids)
    assert source.shape == (n_written, n_read) and target.shape == (n_written, n_written)
    assert_close(source.sum(-1) + target.sum(-1), torch.ones(n_written))
    for weights in attention.values():
        assert_close(views.mean(views.choose(weights)), weights.mean((0, 1)))
        assert views.entropy_per_head(weights).shape == weights.shape[:2]
