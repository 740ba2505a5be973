"""01: what goes wrong in softmax, look-up and attention."""

import math

import torch
from torch import nn

from autograder.mistakes import mistake
from lab.parts import scaled_dot_product_attention

# softmax


@mistake(
    "softmax",
    "S1",
    "no maximum taken off",
    "exp overflows: for scores of some hundreds it is inf, and inf / inf is NaN.",
    "Only differences between scores count. Take the largest of each slice off before exp.",
)
def no_maximum(scores, dim=-1):
    exponentials = torch.exp(scores)
    total = exponentials.sum(dim, keepdim=True)
    return exponentials / total.masked_fill(total == 0, 1)


@mistake(
    "softmax",
    "S1b",
    "no maximum taken off, and 0/0 in a slice of -inf",
    "exp overflows for scores of some hundreds, and a slice that is all -inf becomes 0 / 0 = NaN.",
    "Take the largest of each slice off before exp; then think of the slice whose largest is -inf.",
)
def plain_formula(scores, dim=-1):
    return torch.exp(scores) / torch.exp(scores).sum(dim, keepdim=True)


@mistake(
    "softmax",
    "S2",
    "one maximum for all rows",
    "The largest score of the whole tensor is taken off, so rows far below it become 0 / 0 = NaN.",
    "Take the maximum over `dim`, with keepdim=True: each slice has a peak of its own.",
)
def global_maximum(scores, dim=-1):
    lost = (scores == -math.inf).all(dim, keepdim=True)
    exponentials = torch.exp(scores - scores.max().detach())
    total = exponentials.sum(dim, keepdim=True)
    return (exponentials / total).masked_fill(lost, 0)


@mistake(
    "softmax",
    "S3",
    "dim is not used",
    "The weights sum to 1 over the last axis, whichever axis was asked for.",
    "Pass `dim` on to amax and sum.",
)
def last_axis_always(scores, dim=-1):
    return _softmax(scores, -1)


@mistake(
    "softmax",
    "S4",
    "keepdim is missing",
    "Without keepdim=True the sums lie along the wrong axis: rows are divided by other rows' sums.",
    "amax(dim, keepdim=True) and sum(dim, keepdim=True) keep the axis, so that division lines up.",
)
def no_keepdim(scores, dim=-1):
    exponentials = torch.exp(scores - scores.detach().amax(dim, keepdim=True))
    return exponentials / exponentials.sum(dim)


@mistake(
    "softmax",
    "S5",
    "the graph is cut",
    "No gradient flows back to the scores: .detach(), .data or numpy stands on the way.",
    "Only the peak may be detached; exp and the division must stay in the graph.",
)
def cut_graph(scores, dim=-1):
    return _softmax(scores.detach(), dim)


@mistake(
    "softmax",
    "M14",
    "0/0 in a slice of -inf",
    "A slice that is all -inf gives NaN: its peak is -inf, and -inf - (-inf) is NaN.",
    "Replace a peak of -inf by 0, and a sum of 0 by 1.",
)
def nan_for_a_lost_slice(scores, dim=-1):
    exponentials = torch.exp(scores - scores.amax(dim, keepdim=True))
    return exponentials / exponentials.sum(dim, keepdim=True)


@mistake(
    "softmax",
    "M14b",
    "equal shares for a slice of -inf",
    "A slice that is all -inf gets equal weights; who may look at nothing should get zeros.",
    "Where every score is -inf, the sum of exponentials is 0: leave the weights 0 there.",
)
def equal_shares(scores, dim=-1):
    lost = (scores == -math.inf).all(dim, keepdim=True)
    return _softmax(scores.masked_fill(lost, 0), dim)


@mistake(
    "softmax",
    "A7",
    "sum in place of exp's sum",
    "The scores are divided by their sum: weights can be negative, and differences do not count.",
    "exp first: it makes every score positive and turns differences into ratios.",
)
def no_exp(scores, dim=-1):
    return scores / scores.sum(dim, keepdim=True)


@mistake(
    "softmax",
    "A11",
    "the input is changed in place",
    "The scores themselves are overwritten: whoever passed them in finds other numbers there.",
    "`scores = scores - peak` makes a new tensor; `scores -= peak` and `exp_` do not.",
)
def in_place(scores, dim=-1):
    with torch.no_grad():
        peak = scores.amax(dim, keepdim=True)
        scores -= peak.masked_fill(peak == -math.inf, 0)
    return _softmax(scores, dim)


def _softmax(scores, dim):
    peak = scores.detach().amax(dim, keepdim=True)
    exponentials = torch.exp(scores - peak.masked_fill(peak == -math.inf, 0))
    total = exponentials.sum(dim, keepdim=True)
    return exponentials / total.masked_fill(total == 0, 1)


# soft_lookup


@mistake(
    "soft_lookup",
    "K1",
    "scaled by √d",
    "The scores are divided by √d; here they are plain dot products.",
    "Leave the scale to scaled_dot_product_attention.",
)
def scaled_lookup(query, keys, values):
    weights = torch.softmax(keys @ query / math.sqrt(query.size(-1)), -1)
    return weights @ values, weights


@mistake(
    "soft_lookup",
    "K2",
    "hard look-up",
    "Only the best key counts: its value comes back whole, and nothing can be learned from it.",
    "Weigh all values with softmax instead of taking the argmax.",
)
def hard_lookup(query, keys, values):
    weights = torch.zeros_like(keys @ query)
    weights[(keys @ query).argmax()] = 1
    return weights @ values, weights + 0 * (keys @ query)


@mistake(
    "soft_lookup",
    "K3",
    "softmax forgotten",
    "The raw scores weigh the values: they do not sum to 1 and can be negative.",
    "Put the scores through softmax before they weigh anything.",
)
def lookup_without_softmax(query, keys, values):
    scores = keys @ query
    return scores @ values, scores


@mistake(
    "soft_lookup",
    "K4",
    "scores returned as weights",
    "The second result is the scores; it should be the weights after softmax.",
    "Return the tensor that weighed the values.",
)
def lookup_gives_scores(query, keys, values):
    scores = keys @ query
    return torch.softmax(scores, -1) @ values, scores


@mistake(
    "soft_lookup",
    "K5",
    "sum of values without division",
    "The values are weighed with exp(score) and never divided by the sum: not a mean.",
    "Divide the exponentials by their sum; softmax does both.",
)
def lookup_not_normalised(query, keys, values):
    weights = torch.exp(keys @ query)
    return weights @ values, weights


@mistake(
    "soft_lookup",
    "K6",
    "only the result is returned",
    "One tensor comes back; two are asked for: (result, weights).",
    "return result, weights",
)
def lookup_without_weights(query, keys, values):
    return torch.softmax(keys @ query, -1) @ values


# scaled_dot_product_attention: each step can go wrong by itself


def attend(
    query,
    key,
    value,
    mask=None,
    scale=None,
    hide=lambda scores, mask: scores.masked_fill(~mask, -math.inf),
    normalise=lambda scores: _softmax(scores, -1),
    after=lambda weights, mask: weights,
    mean=lambda weights, key, value: weights @ value,
):
    """Attention, a step at a time."""
    scores = query @ key.transpose(-2, -1) / (scale or math.sqrt(query.size(-1)))
    if mask is not None:
        scores = hide(scores, mask)
    weights = after(normalise(scores), mask)
    return mean(weights, key, value), weights


def attention_mistake(id, name, sentence, hint):
    return mistake("scaled_dot_product_attention", id, name, sentence, hint)


@attention_mistake(
    "A1",
    "not divided by √d_k",
    "The scores are not divided by √d_k: they grow with d_k, and softmax takes one key for all.",
    "Divide query @ keyᵀ by math.sqrt(query.size(-1)).",
)
def no_scale(query, key, value, mask=None):
    return attend(query, key, value, mask, scale=1.0)


@attention_mistake(
    "A2",
    "divided by d_k",
    "The scores are divided by d_k; the paper divides by its square root, and the weights are "
    "too even.",
    "Divide by math.sqrt(d_k): the variance of a sum of d_k products is d_k.",
)
def scale_without_root(query, key, value, mask=None):
    return attend(query, key, value, mask, scale=query.size(-1))


@attention_mistake(
    "A3a",
    "√ of the values' width",
    "The scores are divided by √d_v, the width of a value; it is the width of a key that counts.",
    "d_k is query.size(-1) or key.size(-1).",
)
def root_of_value_width(query, key, value, mask=None):
    return attend(query, key, value, mask, scale=math.sqrt(value.size(-1)))


@attention_mistake(
    "A3b",
    "√ of the number of queries",
    "The scores are divided by √T, the number of queries; it is the width d_k that counts.",
    "size(-1) is the width, size(-2) the number of tokens.",
)
def root_of_length(query, key, value, mask=None):
    return attend(query, key, value, mask, scale=math.sqrt(query.size(-2)))


@attention_mistake(
    "A3c",
    "√ of the number of keys",
    "The scores are divided by √S, the number of keys; it is the width d_k that counts.",
    "size(-1) is the width, size(-2) the number of tokens.",
)
def root_of_keys(query, key, value, mask=None):
    return attend(query, key, value, mask, scale=math.sqrt(key.size(-2)))


@attention_mistake(
    "A3d",
    "a constant in place of √d_k",
    "The scores are divided by 8, which is √64, the paper's d_k; here the width is another.",
    "Take the width from the tensor: query.size(-1).",
)
def constant_scale(query, key, value, mask=None):
    return attend(query, key, value, mask, scale=8.0)


@attention_mistake(
    "A4",
    "softmax over the queries",
    "The weights sum to 1 over the queries (columns), not over the keys (rows).",
    "The keys are the last axis of the scores: dim=-1.",
)
def over_queries(query, key, value, mask=None):
    return attend(query, key, value, mask, normalise=lambda scores: _softmax(scores, -2))


@attention_mistake(
    "A5",
    "softmax over the first axis",
    "The weights sum to 1 over axis 0: sentences of a batch compete with each other.",
    "The keys are the last axis of the scores: dim=-1.",
)
def over_batch(query, key, value, mask=None):
    return attend(query, key, value, mask, normalise=lambda scores: _softmax(scores, 0))


@attention_mistake(
    "A6",
    "scaled after the softmax",
    "The weights are divided by √d_k, so each row sums to 1/√d_k instead of 1.",
    "Divide the scores, before the softmax.",
)
def scaled_late(query, key, value, mask=None):
    late = math.sqrt(query.size(-1))
    return attend(query, key, value, mask, scale=1.0, after=lambda weights, _: weights / late)


@attention_mistake(
    "A7a",
    "no softmax",
    "The scores weigh the values as they are: no row sums to 1, and some weights are negative.",
    "Put the scores through softmax over the keys.",
)
def no_softmax(query, key, value, mask=None):
    return attend(query, key, value, mask, normalise=lambda scores: scores)


@attention_mistake(
    "A7b",
    "sigmoid in place of softmax",
    "Each weight lies between 0 and 1 for itself, but the rows do not sum to 1.",
    "Keys compete for one whole: softmax over the keys.",
)
def sigmoid(query, key, value, mask=None):
    return attend(query, key, value, mask, normalise=torch.sigmoid)


@attention_mistake(
    "A8a",
    "key not transposed",
    "query @ key multiplies without a transpose, and the shapes do not fit.",
    "key.transpose(-2, -1) turns [.., S, d_k] into [.., d_k, S].",
)
def no_transpose(query, key, value, mask=None):
    scores = query @ key / math.sqrt(query.size(-1))
    weights = _softmax(scores, -1)
    return weights @ value, weights


@attention_mistake(
    "A8b",
    "axes 0 and 1 transposed",
    "key.transpose(0, 1) swaps the first two axes, which are the batch and the heads here.",
    "Count from the end: .transpose(-2, -1) is right for any number of leading axes.",
)
def wrong_transpose(query, key, value, mask=None):
    scores = query @ key.transpose(0, 1) / math.sqrt(query.size(-1))
    weights = _softmax(scores, -1)
    return weights @ value, weights


@attention_mistake(
    "A8c",
    "axes 1 and 2 transposed",
    "key.transpose(1, 2) is right for [B, S, d_k] only; with heads in front it swaps other axes.",
    "Count from the end: .transpose(-2, -1) is right for any number of leading axes.",
)
def transpose_of_three_axes(query, key, value, mask=None):
    scores = query @ key.transpose(1, 2) / math.sqrt(query.size(-1))
    weights = _softmax(scores, -1)
    return weights @ value, weights


@attention_mistake(
    "A9",
    "keys used as values",
    "The weights take a mean of the keys; the values are never looked at.",
    "output = weights @ value",
)
def keys_as_values(query, key, value, mask=None):
    return attend(query, key, value, mask, mean=lambda weights, key, _: weights @ key)


@attention_mistake(
    "A10",
    "dropout on the weights",
    "The weights change from call to call: dropout is on. This part has none.",
    "Leave dropout to the layers (§5.4); attention itself is always the same.",
)
def dropout_always(query, key, value, mask=None):
    drop = torch.nn.functional.dropout
    return attend(query, key, value, mask, after=lambda weights, _: drop(weights, 0.1))


@attention_mistake(
    "A11",
    "an input is changed in place",
    "The query is scaled in place: the caller's tensor is another one afterwards.",
    "`query = query / …` makes a new tensor, `query /= …` does not.",
)
def in_place_scale(query, key, value, mask=None):
    with torch.no_grad():
        query /= math.sqrt(query.size(-1))
    return attend(query, key, value, mask, scale=1.0)


@attention_mistake(
    "A10b",
    "dropout on the output",
    "The output changes from call to call: dropout is on. This part has none.",
    "Leave dropout to the layers (§5.4); attention itself is always the same.",
)
def dropout_on_output(query, key, value, mask=None):
    output, weights = attend(query, key, value, mask)
    return torch.nn.functional.dropout(output, 0.1), weights


@attention_mistake(
    "A12",
    "as many keys as queries",
    "Only the first T keys are looked at, as if there were as many keys as queries; in "
    "cross-attention the two lengths differ.",
    "T comes from the query, S from the key; nothing needs to be cut.",
)
def as_many_keys_as_queries(query, key, value, mask=None):
    length = query.size(-2)
    if mask is not None:
        mask = mask[..., :length]
    return attend(query, key[..., :length, :], value[..., :length, :], mask)


@attention_mistake(
    "M1",
    "mask upside down",
    "Hidden and visible are swapped: True in a mask means the query MAY look.",
    "scores.masked_fill(~mask, -inf): fill where the mask is False.",
)
def inverted_mask(query, key, value, mask=None):
    return attend(query, key, value, mask, hide=lambda s, m: s.masked_fill(m, -math.inf))


@attention_mistake(
    "M2",
    "masked after the softmax",
    "Weights are set to 0 after the softmax, so the rows no longer sum to 1 and hidden keys "
    "still take a share.",
    "Hide the scores, with -inf, before the softmax.",
)
def masked_late(query, key, value, mask=None):
    def hide_weights(weights, mask):
        return weights if mask is None else weights * mask

    return attend(query, key, value, mask, hide=lambda s, m: s, after=hide_weights)


@attention_mistake(
    "M3",
    "hidden scores set to 0",
    "A score of 0 is no small score: e⁰ = 1, and the hidden key gets a share.",
    "Fill with -inf: e^-inf is 0.",
)
def zero_fill(query, key, value, mask=None):
    return attend(query, key, value, mask, hide=lambda s, m: s.masked_fill(~m, 0.0))


@attention_mistake(
    "M4",
    "the fill is not negative enough",
    "Hidden scores are set to -100, and scores of thousands leave that far behind or below.",
    "Fill with -inf: no score is lower.",
)
def weak_fill(query, key, value, mask=None):
    return attend(query, key, value, mask, hide=lambda s, m: s.masked_fill(~m, -100.0))


@attention_mistake(
    "M5",
    "the mask is added as numbers",
    "True and False are added as 1 and 0: hidden keys stay visible, a little paler.",
    "A boolean mask selects: scores.masked_fill(~mask, -inf).",
)
def added_mask(query, key, value, mask=None):
    return attend(query, key, value, mask, hide=lambda s, m: s + m)


@attention_mistake(
    "M14",
    "NaN for a query that sees nothing",
    "A row that is all -inf goes through torch's softmax and comes out as NaN.",
    "Your own softmax gives zeros there; torch's does not.",
)
def nan_for_the_lost(query, key, value, mask=None):
    return attend(query, key, value, mask, normalise=lambda s: torch.softmax(s, -1))


@attention_mistake(
    "M14b",
    "equal shares for a query that sees nothing",
    "All scores hidden with one finite number are equal, so such a query looks everywhere alike.",
    "Fill with -inf and give zeros where a whole row is hidden.",
)
def shares_for_the_lost(query, key, value, mask=None):
    def hide(scores, mask):
        return scores.masked_fill(~mask, torch.finfo(scores.dtype).min)

    return attend(query, key, value, mask, hide=hide)


@attention_mistake(
    "M0",
    "the mask is not used",
    "The result is the same with and without a mask.",
    "Before the softmax: if mask is not None, fill the scores where it is False with -inf.",
)
def ignored_mask(query, key, value, mask=None):
    return attend(query, key, value, None)


@attention_mistake(
    "H13",
    "scores returned as weights",
    "The second result is the scores; it should be the weights after softmax.",
    "return output, weights",
)
def returns_scores(query, key, value, mask=None):
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    return _softmax(scores, -1) @ value, scores


@attention_mistake(
    "H13b",
    "weights and output swapped",
    "The two results come in the wrong order: (output, weights) is asked for.",
    "return output, weights",
)
def swapped_results(query, key, value, mask=None):
    return attend(query, key, value, mask)[::-1]


# SelfAttention


class _Self(nn.Module):
    """Right as it stands; the mistakes below change one method."""

    def __init__(self, d_model, d_k=None, d_v=None):
        super().__init__()
        self.q_proj = nn.Linear(d_model, d_k or d_model)
        self.k_proj = nn.Linear(d_model, d_k or d_model)
        self.v_proj = nn.Linear(d_model, d_v or d_model)

    def forward(self, x, mask=None):
        return scaled_dot_product_attention(self.q_proj(x), self.k_proj(x), self.v_proj(x), mask)


@mistake(
    "SelfAttention",
    "H8a",
    "keys from the queries' projection",
    "q_proj makes the keys as well: the scores are symmetric, and k_proj never learns.",
    "key = self.k_proj(x)",
)
class OneProjection(_Self):
    def forward(self, x, mask=None):
        return scaled_dot_product_attention(self.q_proj(x), self.q_proj(x), self.v_proj(x), mask)


@mistake(
    "SelfAttention",
    "H8b",
    "queries and keys swapped",
    "The keys ask and the queries answer: the weights are turned over.",
    "attention(query, key, value): q_proj first.",
)
class Swapped(_Self):
    def forward(self, x, mask=None):
        return scaled_dot_product_attention(self.k_proj(x), self.q_proj(x), self.v_proj(x), mask)


@mistake(
    "SelfAttention",
    "H8c",
    "the tokens themselves as values",
    "The values are not projected: v_proj never learns, and the output has the width of x.",
    "value = self.v_proj(x)",
)
class RawValues(_Self):
    def forward(self, x, mask=None):
        return scaled_dot_product_attention(self.q_proj(x), self.k_proj(x), x, mask)


@mistake(
    "SelfAttention",
    "H8d",
    "the mask is not passed on",
    "A mask changes nothing: it never reaches the attention.",
    "scaled_dot_product_attention(query, key, value, mask)",
)
class NoMask(_Self):
    def forward(self, x, mask=None):
        return super().forward(x, None)


@mistake(
    "SelfAttention",
    "H8e",
    "projections without bias",
    "The Linears have no bias; the contract's have one.",
    "nn.Linear has a bias unless it is told otherwise.",
)
class NoBias(_Self):
    def __init__(self, d_model, d_k=None, d_v=None):
        nn.Module.__init__(self)
        self.q_proj = nn.Linear(d_model, d_k or d_model, bias=False)
        self.k_proj = nn.Linear(d_model, d_k or d_model, bias=False)
        self.v_proj = nn.Linear(d_model, d_v or d_model, bias=False)


@mistake(
    "SelfAttention",
    "H8f",
    "d_k and d_v are not used",
    "All three projections have the width d_model, whatever d_k and d_v say.",
    "q_proj and k_proj are d_k wide, v_proj is d_v wide; without them, d_model.",
)
class IgnoresWidths(_Self):
    def __init__(self, d_model, d_k=None, d_v=None):
        super().__init__(d_model)


@mistake(
    "SelfAttention",
    "H10",
    "projections in a plain list",
    "Layers in a Python list are invisible to PyTorch: no optimizer and no checkpoint finds them.",
    "Give each its own attribute: self.q_proj = nn.Linear(…).",
)
class PlainList(nn.Module):
    def __init__(self, d_model, d_k=None, d_v=None):
        super().__init__()
        widths = (d_k or d_model, d_k or d_model, d_v or d_model)
        self.projections = [nn.Linear(d_model, width).double() for width in widths]

    def forward(self, x, mask=None):
        query, key, value = (project(x) for project in self.projections)
        return scaled_dot_product_attention(query, key, value, mask)


@mistake(
    "SelfAttention",
    "L1",
    "the input is added",
    "x is added to the output; the residual belongs to AddNorm, not to attention.",
    "Return what attention gives.",
)
class WithResidual(_Self):
    def __init__(self, d_model, d_k=None, d_v=None):
        super().__init__(d_model, d_k, d_v)

    def forward(self, x, mask=None):
        output, weights = super().forward(x, mask)
        return (output + x if output.shape == x.shape else output), weights
