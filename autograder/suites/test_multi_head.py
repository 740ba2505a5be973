"""03 Several heads look for several things."""

import torch
from torch import nn

from autograder.checks import (
    B,
    D,
    H,
    K,
    S,
    T,
    check,
    gradients_of,
    holds,
    letters,
    refuses,
    same,
    same_with_gradients,
)
from autograder.torchs import ask, hidden

EDGES = ((1, T, 1, D), (1, 1, H, K), (B, T, D, 1))  # B, T, H, d_k

# split_heads


@check("split_heads", points=2)
def test_a_head_holds_neighbouring_features(work, draw):
    """Head h holds the features h·d_k to (h+1)·d_k - 1 of every token."""
    x = draw(B, T, D)

    expected = torch.stack([x[:, :, h * K : (h + 1) * K] for h in range(H)], 1)
    law = "heads[:, h] is x[:, :, h·d_k : (h+1)·d_k]"
    same_with_gradients(work.split_heads(x, H), expected, [x], law)


@check("split_heads", points=1)
def test_splitting_keeps_tokens_apart(work, draw):
    """A change of one token changes this token in every head, and no other."""
    x, t = draw(B, T, D), 2
    other = x.detach().clone()
    other[:, t] += 1

    changed = (work.split_heads(other, H) != work.split_heads(x, H)).any(-1).any(0)
    law = f"a change of token {t} changes [head, {t}] in each of {H} heads, and nothing else"
    same(changed, (torch.arange(T) == t).expand(H, T), law)


@check("split_heads", points=1)
def test_splitting_at_the_edges(work, draw):
    """The shape is [B, H, T, d_k], also for one head, one token and heads of width one."""
    for b, t, h, k in ((B, T, H, K), *EDGES):
        law = f"[{b}, {t}, {h * k}] split into {h} heads is [B, H, T, d_k]"
        found = work.split_heads(draw(b, t, h * k), h)
        same(letters(found.shape), letters((b, h, t, k)), law)


# merge_heads


@check("merge_heads", points=1)
def test_heads_stand_side_by_side(work, draw):
    """The result of a token is the result of head 0, then of head 1, and so on."""
    x = draw(B, H, T, K)

    expected = torch.cat([x[:, h] for h in range(H)], -1)
    law = "merged[:, :, h·d_k : (h+1)·d_k] is x[:, h]"
    same_with_gradients(work.merge_heads(x), expected, [x], law)


@check("merge_heads", points=1)
def test_merging_undoes_splitting(work, draw):
    """What was split comes back as it was, for any number of heads."""
    x = draw(B, T, D)

    for n_heads in (H, 1, D):
        found = work.merge_heads(work.split_heads(x, n_heads))
        same(found, x, f"merge_heads(split_heads(x, {n_heads})) is x")


@check("merge_heads", points=1)
def test_merging_keeps_tokens_apart(work, draw):
    """A change of one token in one head changes this token alone."""
    x, t = draw(B, H, T, K), 2
    other = x.detach().clone()
    other[:, 1, t] += 1

    changed = (work.merge_heads(other) != work.merge_heads(x)).any(-1).any(0)
    law = f"a change of token {t} in head 1 changes token {t}, and no other"
    same(changed, torch.arange(T) == t, law)


@check("merge_heads", points=1)
def test_merging_at_the_edges(work, draw):
    """The shape is [B, T, D], also for one head, one token and heads of width one."""
    for b, t, h, k in ((B, T, H, K), *EDGES):
        law = f"[{b}, {h}, {t}, {k}] merged is [B, T, D]"
        found = work.merge_heads(draw(b, h, t, k))
        same(letters(found), letters((b, t, h * k)), law)


# MultiHeadAttention


@check("MultiHeadAttention", points=3)
def test_multi_head_output_is_torchs(work, draw):
    """The output and its gradients are those of nn.MultiheadAttention with the same weights."""
    module, inputs = _module_and_inputs(work, draw)

    expected, _ = _torchs(module, *inputs)
    law = "output = out_proj(heads side by side), each head attending in its own slice of features"
    same_with_gradients(_pair(module(*inputs))[0], expected, draw.leaves, law)


@check("MultiHeadAttention", points=1)
def test_multi_head_weights_are_one_matrix_per_head(work, draw):
    """The second result is [B, H, T, S]: a matrix of weights per head, rows that sum to 1."""
    module, inputs = _module_and_inputs(work, draw)

    _, expected = _torchs(module, *inputs)
    _, weights = _pair(module(*inputs))
    same(letters(weights), letters((B, H, T, S)), "the weights are [B, H, T, S]")
    law = "over the keys, the weights of each head sum to 1"
    same(weights.sum(-1), torch.ones(B, H, T, dtype=torch.float64), law)
    law = "weights[:, h] is softmax(QKᵀ / √d_k) of head h"
    same(weights, expected, law)


@check("MultiHeadAttention", points=2)
def test_multi_head_obeys_its_mask(work, draw):
    """The mask, True where a query may look, reaches every head, whatever shape it has."""
    module, inputs = _module_and_inputs(work, draw)

    for shape in ((T, S), (B, 1, 1, S), (B, 1, T, S), (B, H, T, S)):
        mask = draw.mask(*shape)
        expected, _ = _torchs(module, *inputs, mask)
        output, _ = _pair(module(*inputs, mask))
        law = f"a mask of shape {list(shape)} spreads over [B, H, T, S] and hides what is False"
        same(output, expected, law)


@check("MultiHeadAttention", points=1)
def test_multi_head_keeps_the_order_of_time(work, draw):
    """Under a causal mask, a change of the last token reaches the last output alone."""
    module, x = draw.fill(work.MultiHeadAttention(D, H)), draw(B, T, D)
    past = torch.ones(T, T, dtype=torch.bool).tril()
    other = x.detach().clone()
    other[:, -1] += 1

    before, after = (_pair(module(each, each, each, past))[0] for each in (x, other))
    changed = (before - after).abs().amax((0, 2)) > 1e-9
    law = "what is hidden from a token never reaches its output; changed outputs, token by token"
    same(changed, torch.arange(T) == T - 1, law)


@check("MultiHeadAttention", points=1)
def test_multi_head_has_the_contracts_names(work, draw):
    """Four Linears q_proj, k_proj, v_proj and out_proj with bias, and nothing else to train."""
    found = work.MultiHeadAttention(D, H).state_dict()

    expected = {f"{name}_proj.weight": [D, D] for name in ("q", "k", "v", "out")}
    expected |= {f"{name}_proj.bias": [D] for name in ("q", "k", "v", "out")}
    law = "q_proj, k_proj, v_proj and out_proj are Linear(d_model, d_model), all heads in one"
    same(sorted((name, list(x.shape)) for name, x in found.items()), sorted(expected.items()), law)


@check("MultiHeadAttention", points=1)
def test_a_query_that_sees_nothing_in_any_head(work, draw):
    """A query that may look at nothing gets zeros from its heads, and finite gradients flow."""
    module, inputs = _module_and_inputs(work, draw)
    lost = torch.arange(T) == 1
    mask = draw.mask(T, S).masked_fill(lost.unsqueeze(1), False)

    output, weights = _pair(module(*inputs, mask))
    left = module.out_proj(torch.zeros(B, 1, D, dtype=torch.float64))
    law = "for a query that sees nothing only the bias of out_proj is left"
    same(output[:, lost], left, law)
    found = weights[..., lost, :]
    same(found, torch.zeros_like(found), "a query that sees nothing has weights of zero")
    gradients = gradients_of((output, weights), draw.leaves)
    finite = all(gradient.isfinite().all() for gradient in gradients)
    holds(finite, "gradients stay finite where a query sees nothing", "a gradient is NaN or inf")


@check("MultiHeadAttention", points=1)
def test_heads_must_divide_the_width(work, draw):
    """A d_model that is not a multiple of n_heads is refused with a ValueError."""
    refuses(lambda: work.MultiHeadAttention(10, 3), "10 features do not split into 3 equal heads")
    refuses(lambda: work.MultiHeadAttention(H, D), f"{H} features do not split into {D} heads")


@check("MultiHeadAttention", points=1)
def test_multi_head_at_the_edges(work, draw):
    """One sentence, one token, one head and d_k = 1 are no special cases."""
    for b, t, n_heads in ((1, 1, 1), (1, T, D), (B, 1, 1)):
        module = draw.fill(work.MultiHeadAttention(D, n_heads))
        query, memory = draw(b, t, D), draw(b, S, D)
        expected, _ = _torchs(module, query, memory, memory, n_heads=n_heads)
        output, _ = _pair(module(query, memory, memory))
        law = f"B={b}, T={t}, n_heads={n_heads} follow the same formula"
        same(output, expected, law, tolerance=1e-6)  # √12 may have been rounded to float32


@check("MultiHeadAttention", points=1)
def test_multi_head_has_no_moods(work, draw):
    """In training as in eval mode and in half precision it gives the same; inputs stay as is."""
    module, inputs = _module_and_inputs(work, draw)
    mask = draw.mask(T, S)
    expected, _ = _torchs(module, *inputs, mask)

    found, _ = _pair(module.train()(*inputs, mask))
    same(found, expected.detach(), "in training mode the result is the same: no dropout here")
    holds(draw.untouched(), "attention leaves its inputs as they were", "an input has changed")
    half, _ = _pair(module.half()(*(x.detach().half() for x in inputs), mask))
    same(half, expected.half(), "float16 in, float16 out, and no -1e9, which float16 has not")


def _module_and_inputs(work, draw):
    """A filled module; three inputs from three sources, so that none can stand for another."""
    module = draw.fill(work.MultiHeadAttention(D, H), std=0.3)
    return module, (draw(B, T, D), draw(B, S, D), draw(B, S, D))


def _pair(found):
    """Output and weights; whatever else comes back breaks a law."""
    law = "MultiHeadAttention gives two tensors, (output, weights)"
    whole = isinstance(found, (tuple, list)) and len(found) == 2
    holds(whole, law, "" if whole else f"a {type(found).__name__} came back")
    return found


def _torchs(module, query, key, value, mask=None, n_heads=H):
    """What nn.MultiheadAttention answers with these weights; its masks say who may NOT look."""
    bias = any(name.endswith("bias") for name, _ in module.named_parameters())
    layer = nn.MultiheadAttention(D, n_heads, bias=bias, batch_first=True, dtype=query.dtype)
    hide = hidden(mask, query.size(0), n_heads, query.size(1), key.size(1))
    return ask(layer, module, query, key, value, attn_mask=hide, average_attn_weights=False)
