"""01 Attention is a soft look-up."""

import math

import torch
import torch.nn.functional as F

from autograder.checks import (
    DV,
    B,
    D,
    H,
    K,
    S,
    T,
    check,
    gradients_of,
    holds,
    same,
    same_with_gradients,
)

LOST = torch.tensor([False, True, False, False, False])  # the second of T queries sees nothing


# softmax


@check("softmax", points=2)
def test_softmax_over_the_axis_asked_for(work, draw):
    """Over any axis, the weights are positive and sum to 1."""
    scores = draw(T, S, K)

    for dim in (-1, 0, 1):
        law = f"softmax(scores, dim={dim}) is exp(scores), divided by its sum over axis {dim}"
        same_with_gradients(work.softmax(scores, dim), F.softmax(scores, dim), [scores], law)
    square = draw(K, K)
    law = "the weights of each row of a square sum to 1"
    same(work.softmax(square), F.softmax(square, -1), law)


@check("softmax", points=1)
def test_softmax_of_huge_scores(work, draw):
    """Scores of ±10,000 give finite weights."""
    scores = draw.keep(draw(T, S) * 1e4)

    law = "softmax stays finite for large scores: the largest of a slice is taken off before exp"
    same(work.softmax(scores), F.softmax(scores, -1), law)
    single = draw.keep(scores.float())
    same(work.softmax(single), F.softmax(single, -1), law)


@check("softmax", points=1)
def test_softmax_rows_do_not_share_a_peak(work, draw):
    """A row of small scores beside a row of large ones keeps its weights."""
    scores = draw.keep(draw(T, S) + torch.tensor([0.0, -1e4, 0, 1e4, 0]).unsqueeze(1))

    same(work.softmax(scores), F.softmax(scores, -1), "each slice has a peak of its own")


@check("softmax", points=1)
def test_softmax_of_a_lost_slice(work, draw):
    """A slice that is all -inf gives zeros and a finite gradient; a single -inf gets weight 0."""
    scores = draw(T, S)
    single = torch.zeros(T, S, dtype=torch.bool)
    single[0, 2] = True
    one_lost = draw.keep(scores.masked_fill(single, -math.inf))
    all_lost = draw.keep(scores.masked_fill(LOST.unsqueeze(1), -math.inf))

    law = "a score of -inf gets weight 0"
    same(work.softmax(one_lost), F.softmax(one_lost, -1), law)
    weights = work.softmax(all_lost)
    expected = F.softmax(scores, -1).masked_fill(LOST.unsqueeze(1), 0)
    same(weights, expected, "a slice that is all -inf gives zeros")
    (gradient,) = gradients_of(weights.square(), [scores])
    leaf = all_lost.detach().requires_grad_()
    (own,) = gradients_of(work.softmax(leaf).square(), [leaf])
    law = "the gradient in a slice that is all -inf is zero, not NaN"
    holds(own.isfinite().all(), law, "a gradient is NaN or inf")
    wanted = torch.autograd.grad(expected.square().sum(), scores)[0]
    same(gradient, wanted, "the gradient through a slice that is all -inf is zero, not NaN")


@check("softmax", points=1)
def test_softmax_keeps_its_input(work, draw):
    """The scores are not changed, and half precision gives half precision."""
    scores = draw(T, S)

    work.softmax(scores)
    holds(draw.untouched(), "softmax leaves its input as it was", "the scores have changed")
    half = draw.keep(scores.detach().half())
    same(work.softmax(half), F.softmax(half, -1), "softmax follows the dtype of its input")


# soft_lookup


@check("soft_lookup", points=1)
def test_lookup_by_hand(work, draw):
    """Scores of ln 1, ln 2 and ln 5 give weights of 1/8, 2/8 and 5/8."""
    query = torch.tensor([1.0, 0.0])
    keys = torch.tensor([[math.log(1), 9.0], [math.log(2), -9.0], [math.log(5), 0.0]])
    values = torch.tensor([[8.0], [0.0], [16.0]])

    found = work.soft_lookup(query, keys, values)

    expected = torch.tensor([11.0]), torch.tensor([1.0, 2.0, 5.0]) / 8
    same(found, expected, "soft_lookup gives (result, weights): weights = softmax(keys · query)")


@check("soft_lookup", points=2)
def test_lookup_is_a_mean_of_values(work, draw):
    """The result is the mean of the values, weighted by how well their keys match."""
    query, keys, values = draw(K), draw(S, K), draw(S, DV)

    found = work.soft_lookup(query, keys, values)

    weights = F.softmax(torch.einsum("sk,k->s", keys, query), -1)
    expected = torch.einsum("s,sv->v", weights, values), weights
    same_with_gradients(found, expected, draw.leaves, "result = Σ weights · values, plain scores")


@check("soft_lookup", points=1)
def test_lookup_of_an_exact_key(work, draw):
    """A query that points far along one key returns that key's value."""
    keys = torch.eye(S, dtype=torch.float64)
    values = draw(S, DV)

    result, weights = work.soft_lookup(keys[2] * 1_000, keys, values)
    same(weights, keys[2], "one perfect match takes all of the weight")
    same(result, values[2], "one perfect match returns its value")


# scaled_dot_product_attention


@check("scaled_dot_product_attention", points=3)
def test_attention_is_the_papers(work, draw):
    """Output and weights are those of softmax(QKᵀ / √d_k) V, in any batch of heads."""
    for axes in ((), (B,), (B, H)):
        query, key, value = draw(*axes, T, K), draw(*axes, S, K), draw(*axes, S, DV)
        found = work.scaled_dot_product_attention(query, key, value)
        expected = _attention(query, key, value)
        law = f"weights = softmax(QKᵀ / √d_k) over the keys, output = weights · V, for {len(axes)}"
        law += " leading axes"
        same_with_gradients(found, expected, [query, key, value], law)


@check("scaled_dot_product_attention", points=2)
def test_attention_obeys_its_mask(work, draw):
    """A mask is True where a query may look; what it hides gets weight 0 and never matters."""
    query, key, value = draw(B, H, T, K), draw(B, H, S, K), draw(B, H, S, DV)

    for shape in ((T, S), (B, 1, 1, S), (B, 1, T, S), (B, H, T, S)):
        mask = draw.mask(*shape)
        found = work.scaled_dot_product_attention(query, key, value, mask)
        law = "hidden keys get no weight, and the others share all of it"
        same_with_gradients(found, _attention(query, key, value, mask), draw.leaves, law)


@check("scaled_dot_product_attention", points=1)
def test_a_hidden_key_never_matters(work, draw):
    """However low all other scores are, a hidden key has weight 0."""
    query, key, value = (
        draw.keep(30 + draw(B, T, K)),
        draw.keep(-30 - draw(B, S, K)),
        draw(B, S, DV),
    )
    mask = draw.mask(T, S)

    found = work.scaled_dot_product_attention(query, key, value, mask)
    law = "a hidden key gets no weight at all, even where all other scores are below -1000"
    same(found, _attention(query, key, value, mask), law)


@check("scaled_dot_product_attention", points=1)
def test_a_query_that_sees_nothing(work, draw):
    """A query that may look at nothing gets zeros, and finite gradients flow."""
    query, key, value = draw(B, T, K), draw(B, S, K), draw(B, S, DV)
    mask = draw.keep(draw.mask(T, S).masked_fill(LOST.unsqueeze(1), False))

    output, weights = work.scaled_dot_product_attention(query, key, value, mask)
    expected = _attention(query, key, value, mask)
    same((output, weights), expected, "a query that may look at nothing gets zeros")
    gradients = gradients_of((output, weights), draw.leaves)
    finite = all(gradient.isfinite().all() for gradient in gradients)
    holds(finite, "gradients stay finite where a query sees nothing", "a gradient is NaN or inf")


@check("scaled_dot_product_attention", points=1)
def test_attention_in_half_precision(work, draw):
    """In float16 nothing overflows: neither the fill of hidden scores nor the products."""
    query, key, value = draw(B, T, K), draw(B, S, K), draw(B, S, DV)
    mask = draw.mask(T, S)
    expected = [x.half() for x in _attention(query, key, value, mask)]

    half = [draw.keep(x.detach().half()) for x in (query, key, value)]
    found = work.scaled_dot_product_attention(*half, mask)
    law = "float16 in, float16 out; -1e9 does not exist in float16, -inf does"
    same(tuple(found), tuple(expected), law)


@check("scaled_dot_product_attention", points=1)
def test_attention_gives_the_same_twice(work, draw):
    """Inputs stay as they were, and a second call gives the same."""
    query, key, value = draw(B, T, K), draw(B, S, K), draw(B, S, DV)
    mask = draw.mask(T, S)

    first = work.scaled_dot_product_attention(query, key, value, mask)
    holds(draw.untouched(), "attention leaves its inputs as they were", "an input has changed")
    second = work.scaled_dot_product_attention(query, key, value, mask)
    same(tuple(second), tuple(first), "attention has no dropout: two calls give the same")


@check("scaled_dot_product_attention", points=1)
def test_attention_at_the_edges(work, draw):
    """One token, one key and d_k = 1 are no special cases."""
    for sizes in ((1, 1, 1), (T, 1, K), (1, S, 1)):
        t, s, k = sizes
        query, key, value = draw(1, t, k), draw(1, s, k), draw(1, s, 1)
        found = work.scaled_dot_product_attention(query, key, value)
        law = f"T={t}, S={s}, d_k={k} follow the same formula"
        same(tuple(found), _attention(query, key, value), law)


def _attention(query, key, value, mask=None):
    """Torch's own attention, and the weights worked out beside it."""
    scores = torch.einsum("...tk,...sk->...ts", query, key) / query.size(-1) ** 0.5
    if mask is None:
        weights = F.softmax(scores, -1)
        return F.scaled_dot_product_attention(query, key, value), weights
    mask = mask.expand(scores.shape)
    seen = mask.any(-1, keepdim=True)
    hidden = scores.masked_fill(~mask & seen, -math.inf)
    weights = F.softmax(hidden, -1).masked_fill(~seen, 0)
    output = F.scaled_dot_product_attention(query, key, value, attn_mask=mask | ~seen)
    return output.masked_fill(~seen, 0), weights


# SelfAttention


@check("SelfAttention", points=1)
def test_self_attention_has_the_contracts_names(work, draw):
    """Three Linears q_proj, k_proj and v_proj with bias, and nothing else to train."""
    for widths in ((), (K,), (K, DV)):
        d_k, d_v = (*widths, D, D)[:2] if len(widths) != 1 else (K, D)
        sizes = {
            name: list(x.shape) for name, x in work.SelfAttention(D, *widths).named_parameters()
        }
        expected = {
            "q_proj.weight": [d_k, D],
            "q_proj.bias": [d_k],
            "k_proj.weight": [d_k, D],
            "k_proj.bias": [d_k],
            "v_proj.weight": [d_v, D],
            "v_proj.bias": [d_v],
        }
        law = "q_proj and k_proj are Linear(d_model, d_k), v_proj is Linear(d_model, d_v)"
        same(sorted(sizes.items()), sorted(expected.items()), law)


@check("SelfAttention", points=3)
def test_self_attention_projects_then_attends(work, draw):
    """Queries, keys and values are three projections of the same tokens, and then they attend."""
    for widths in ((K, DV), ()):
        module, x = draw.fill(work.SelfAttention(D, *widths)), draw(B, T, D)
        law = "output, weights = attention(q_proj(x), k_proj(x), v_proj(x))"
        expected = _attention(*_projected(module, x))
        same_with_gradients(module(x), expected, draw.leaves, law)


@check("SelfAttention", points=1)
def test_self_attention_passes_its_mask_on(work, draw):
    """The mask reaches attention, whatever form it has."""
    module, x = draw.fill(work.SelfAttention(D, K, DV)), draw(B, T, D)

    for shape in ((T, T), (B, T, T), (B, 1, T)):
        mask = draw.mask(*shape)
        expected = _attention(*_projected(module, x), mask=mask)
        same(tuple(module(x, mask)), expected, "the mask is passed on to attention")


@check("SelfAttention", points=1)
def test_self_attention_of_tokens_in_another_order(work, draw):
    """Without positions, tokens in another order give the same outputs in that order."""
    module, x = draw.fill(work.SelfAttention(D, K, DV)), draw(B, T, D)
    order = torch.tensor([2, 0, 4, 1, 3])

    output, weights = module(x[:, order])
    straight, straight_weights = module(x)
    same(output, straight[:, order], "self-attention does not know the order of its tokens")
    same(weights, straight_weights[:, order][:, :, order], "and neither do its weights")


def _projected(module, x):
    return [
        F.linear(x, module.get_parameter(f"{name}.weight"), module.get_parameter(f"{name}.bias"))
        for name in ("q_proj", "k_proj", "v_proj")
    ]
