"""03: honest answers that differ from the reference in style only."""

import math

import torch
import torch.nn.functional as F
from torch import einsum, nn

from lab.parts import merge_heads, scaled_dot_product_attention, softmax, split_heads

# split_heads


def split_by_view(x, n_heads):
    B, T, D = x.shape
    return x.view(B, T, n_heads, D // n_heads).permute(0, 2, 1, 3)


def split_by_chunks(x, n_heads):
    return torch.stack(torch.chunk(x, n_heads, dim=2), dim=1)


def split_by_slices(x, n_heads=8):
    d_k = x.size(-1) // n_heads
    heads = []
    for h in range(n_heads):
        heads.append(x[..., h * d_k : (h + 1) * d_k].unsqueeze(1))
    return torch.cat(heads, dim=1)


def split_by_unflatten(x, n_heads):
    return x.unflatten(-1, (n_heads, -1)).movedim(-2, 1).contiguous()


# merge_heads


def merge_by_view(x):
    B, H, T, d_k = x.shape
    return x.permute(0, 2, 1, 3).contiguous().view(B, T, H * d_k)


def merge_by_cat(x):
    return torch.cat([x[:, h] for h in range(x.size(1))], dim=-1)


def merge_by_unbind(x):
    return torch.hstack([head.mT for head in x.unbind(dim=1)]).mT


def merge_by_einsum(x):
    return einsum("bhtk->bthk", x).reshape(x.shape[0], x.shape[2], -1)


# MultiHeadAttention


class WithEinsum(nn.Module):
    """No split, no merge: the axis of heads lives in the weights."""

    def __init__(self, d_model, n_heads):
        super().__init__()
        if d_model % n_heads != 0:
            raise ValueError("d_model must be a multiple of n_heads")
        self.n_heads, self.d_k = n_heads, d_model // n_heads
        self.out_proj = nn.Linear(d_model, d_model)
        self.v_proj = nn.Linear(d_model, d_model)
        self.k_proj = nn.Linear(d_model, d_model)
        self.q_proj = nn.Linear(d_model, d_model)

    def forward(self, query, key, value, mask=None):
        query, key, value = (
            einsum("bld,hkd->bhlk", x, each.weight.unflatten(0, (self.n_heads, self.d_k)))
            + each.bias.unflatten(0, (self.n_heads, 1, self.d_k))
            for each, x in ((self.q_proj, query), (self.k_proj, key), (self.v_proj, value))
        )
        scores = einsum("bhtk,bhsk->bhts", query, key) / self.d_k**0.5
        if mask is not None:
            scores = torch.where(mask, scores, float("-inf"))
        weights = softmax(scores)
        heads = einsum("bhts,bhsk->bthk", weights, value)
        return self.out_proj(heads.flatten(2)), weights


class WithALoop(nn.Module):
    """Head by head, each with its own slice of the features."""

    def __init__(self, d_model: int, n_heads: int):
        super().__init__()
        self.d_k, rest = divmod(d_model, n_heads)
        if rest:
            raise ValueError(f"{d_model} features, {n_heads} heads: {rest} features left over")
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (
            nn.Linear(d_model, d_model) for _ in range(4)
        )

    def forward(self, query, key, value, mask=None):
        query, key, value = self.q_proj(query), self.k_proj(key), self.v_proj(value)
        n_heads = query.shape[-1] // self.d_k
        if mask is not None:
            mask = mask.broadcast_to(query.size(0), n_heads, query.size(1), key.size(1))
        outputs, weights = [], []
        for h in range(n_heads):
            own = slice(h * self.d_k, (h + 1) * self.d_k)
            output, weight = scaled_dot_product_attention(
                query[..., own],
                key[..., own],
                value[..., own],
                None if mask is None else mask[:, h],
            )
            outputs.append(output)
            weights.append(weight)
        return self.out_proj(torch.cat(outputs, dim=-1)), torch.stack(weights, dim=1)


class WithTheHeadsInTheBatch(nn.Module):
    """[B·H, T, d_k] and bmm, as torch does it; a helper without parameters, a buffer, a default."""

    def __init__(self, d_model, n_heads=8, dropout=0.0, bias=True):
        super().__init__()
        if d_model / n_heads != d_model // n_heads:
            raise ValueError(f"cannot split {d_model} into {n_heads}")
        self.h = n_heads
        self.dropout = nn.Dropout(dropout)
        self.q_proj = nn.Linear(d_model, d_model, bias=bias)
        self.k_proj = nn.Linear(d_model, d_model, bias=bias)
        self.v_proj = nn.Linear(d_model, d_model, bias=bias)
        self.out_proj = nn.Linear(d_model, d_model, bias=bias)
        self.register_buffer("scale", torch.tensor((d_model // n_heads) ** -0.5), persistent=False)

    def forward(self, query, key, value, mask=None, need_weights=True):
        B, T, D = query.shape
        S = key.shape[1]

        def fold(x):
            return x.view(B, -1, self.h, D // self.h).transpose(1, 2).flatten(0, 1)

        q, k, v = fold(self.q_proj(query)), fold(self.k_proj(key)), fold(self.v_proj(value))
        scores = torch.bmm(q * self.scale, k.transpose(1, 2)).view(B, self.h, T, S)
        if mask is not None:
            scores = scores.masked_fill(mask.logical_not(), torch.finfo(scores.dtype).min)
        weights = torch.softmax(scores, dim=-1)
        if mask is not None:
            weights = weights * mask  # rows that see nothing had equal shares
        weights = self.dropout(weights)
        heads = torch.bmm(weights.flatten(0, 1), v).view(B, self.h, T, -1)
        return self.out_proj(heads.transpose(1, 2).reshape(B, T, D)), weights


class Fused(nn.Module):
    """One product for all three projections where the three inputs are one; super() of its own."""

    def __init__(self, d_model, n_heads):
        nn.Module.__init__(self)
        if not (d_model / n_heads).is_integer():
            raise ValueError(f"d_model={d_model}, n_heads={n_heads}")
        self.heads = n_heads
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            self.add_module(name, nn.Linear(d_model, d_model))

    def forward(self, query, key, value, mask=None):
        layers = (self.q_proj, self.k_proj, self.v_proj)
        if query is key is value:
            weight = torch.cat([each.weight for each in layers])
            bias = torch.cat([each.bias for each in layers])
            projected = F.linear(query, weight, bias).chunk(3, dim=-1)
        else:
            projected = [each(x) for each, x in zip(layers, (query, key, value), strict=True)]
        q, k, v = (split_heads(x, self.heads) for x in projected)
        scores = q / math.sqrt(q.shape[-1]) @ k.mT
        if mask is not None:
            blind = ~mask.any(-1, keepdim=True)
            scores = scores.masked_fill(~(mask | blind), -torch.inf)
        attn = F.softmax(scores, -1)
        if mask is not None:
            attn = attn.masked_fill(blind, 0.0)
        return self.out_proj(merge_heads(attn @ v)), attn


ALTERNATIVES = {
    "split_heads": [split_by_view, split_by_chunks, split_by_slices, split_by_unflatten],
    "merge_heads": [merge_by_view, merge_by_cat, merge_by_unbind, merge_by_einsum],
    "MultiHeadAttention": [WithEinsum, WithALoop, WithTheHeadsInTheBatch, Fused],
}
