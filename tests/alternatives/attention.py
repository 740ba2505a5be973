"""01 written otherwise."""

import math

import torch
from torch import nn

from lab.parts import scaled_dot_product_attention


def softmax_by_where(scores, dim=-1):
    peak = scores.max(dim=dim, keepdim=True).values
    peak = torch.where(torch.isneginf(peak), torch.zeros_like(peak), peak)
    e = (scores - peak).exp()
    total = e.sum(dim=dim, keepdim=True)
    return torch.where(total > 0, e / torch.where(total > 0, total, torch.ones_like(total)), 0 * e)


def softmax_with_clamp(x, dim=-1):
    """Other names of arguments, a clamp for the peak."""
    shifted = x - x.amax(dim=dim, keepdim=True).clamp(min=torch.finfo(x.dtype).min)
    e = torch.exp(shifted)
    return e / e.sum(dim=dim, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)


def softmax_moved_axis(scores, dim=-1):
    rows = scores.movedim(dim, -1)
    lost = (rows == -math.inf).all(-1, keepdim=True)
    rows = rows.masked_fill(lost, 0.0)
    e = torch.exp(rows - rows.max(-1, keepdim=True)[0])
    weights = (e / e.sum(-1, keepdim=True)).masked_fill(lost, 0.0)
    return weights.movedim(-1, dim)


def lookup_by_einsum(query, keys, values):
    weights = torch.einsum("sk,k->s", keys, query).softmax(0)
    return torch.einsum("s,sv->v", weights, values), weights


def lookup_by_loop(query, keys, values):
    scores = torch.stack([(query * key).sum() for key in keys])
    weights = torch.exp(scores - scores.max()) / torch.exp(scores - scores.max()).sum()
    result = sum(weight * value for weight, value in zip(weights, values, strict=True))
    return result, weights


def attention_by_einsum(query, key, value, mask=None):
    scale = query.shape[-1] ** -0.5
    scores = torch.einsum("...td,...sd->...ts", query * scale, key)
    if mask is not None:
        scores = scores.masked_fill(mask.logical_not(), float("-inf"))
    weights = torch.nan_to_num(torch.softmax(scores, dim=-1)) if mask is None else _zeros(scores)
    return torch.einsum("...ts,...sv->...tv", weights, value), weights


def _zeros(scores):
    lost = torch.isneginf(scores).all(-1, keepdim=True)
    return scores.masked_fill(lost, 0).softmax(-1).masked_fill(lost, 0)


def attention_with_finite_fill(query, key, value, mask=None):
    """The lowest number of the dtype, then zeros where nothing may be seen."""
    scores = (query / math.sqrt(query.size(-1))).matmul(key.mT)
    if mask is not None:
        scores = torch.where(mask, scores, torch.finfo(scores.dtype).min)
    weights = torch.softmax(scores, dim=-1)
    if mask is not None:
        weights = weights * mask.any(-1, keepdim=True)
        weights = weights * mask.expand(weights.shape)
    return weights.matmul(value), weights


def attention_with_added_bias(query, key, value, mask=None, *, temperature=1.0):
    """A mask of 0 and -inf that is added; one more argument by keyword."""
    scores = query @ key.swapaxes(-1, -2) * (1 / math.sqrt(key.shape[-1])) / temperature
    seen = True
    if mask is not None:
        seen = mask.any(-1, keepdim=True)
        bias = torch.zeros(mask.shape, dtype=scores.dtype, device=scores.device)
        scores = scores + bias.masked_fill(~mask & seen, -torch.inf)
    weights = torch.softmax(scores, -1)
    if mask is not None:
        weights = torch.where(seen, weights, torch.zeros_like(weights))
    return weights @ value, weights


class SelfAttentionInline(nn.Module):
    """Without the function, attributes in another order."""

    def __init__(self, d_model, d_k=None, d_v=None):
        super().__init__()
        d_k = d_model if d_k is None else d_k
        d_v = d_model if d_v is None else d_v
        self.v_proj = nn.Linear(d_model, d_v)
        self.k_proj = nn.Linear(d_model, d_k)
        self.q_proj = nn.Linear(d_model, d_k)
        self.scale = math.sqrt(d_k)

    def forward(self, x, mask=None):
        scores = self.q_proj(x) @ self.k_proj(x).transpose(1, 2) / self.scale
        if mask is not None:
            scores = scores.masked_fill(~mask, -math.inf)
        weights = torch.softmax(scores, dim=-1)
        return weights @ self.v_proj(x), weights


class SelfAttentionByName(nn.Module):
    """Layers set by name, the attention of the lab."""

    def __init__(self, d_model, d_k=None, d_v=None):
        super().__init__()
        for name, width in (("q_proj", d_k), ("k_proj", d_k), ("v_proj", d_v)):
            setattr(self, name, nn.Linear(d_model, width or d_model, bias=True))

    def forward(self, tokens, mask=None):
        projected = [getattr(self, name)(tokens) for name in ("q_proj", "k_proj", "v_proj")]
        output, weights = scaled_dot_product_attention(*projected, mask=mask)
        return output, weights


ALTERNATIVES = {
    "softmax": [softmax_by_where, softmax_with_clamp, softmax_moved_axis],
    "soft_lookup": [lookup_by_einsum, lookup_by_loop],
    "scaled_dot_product_attention": [
        attention_by_einsum,
        attention_with_finite_fill,
        attention_with_added_bias,
    ],
    "SelfAttention": [SelfAttentionInline, SelfAttentionByName],
}
