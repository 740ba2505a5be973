"""PyTorch's own layers behind the contract's names.

The whole model runs on these from day one. What torch offers as a layer is torch's layer here; what
only connects parts is written out, and asks `lab.parts` for each part it connects.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lab import parts

# 11-decoding: the lab's own fast search gives what the lesson's plain functions give
from lab.decoding import beam_search, greedy_decode, sample_decode  # noqa: F401

# 01-attention


def softmax(scores: Float[Tensor, "*axes"], dim: int = -1) -> Float[Tensor, "*axes"]:
    """Softmax over one dimension; a slice that is all -inf gives zeros."""
    lost = scores.detach().isneginf().all(dim, keepdim=True)
    return F.softmax(scores.masked_fill(lost, 0), dim).masked_fill(lost, 0)


def soft_lookup(
    query: Float[Tensor, " K"], keys: Float[Tensor, "S K"], values: Float[Tensor, "S Dv"]
) -> tuple[Float[Tensor, " Dv"], Float[Tensor, " S"]]:
    """The mean of the values, weighted by how well their keys match the query."""
    weights = F.scaled_dot_product_attention(query[None], keys, _identity(keys), scale=1.0)[0]
    return weights @ values, weights


def scaled_dot_product_attention(
    query: Float[Tensor, "*heads T K"],
    key: Float[Tensor, "*heads S K"],
    value: Float[Tensor, "*heads S Dv"],
    mask: Bool[Tensor, "..."] | None = None,  # broadcasts to (..., T, S)
) -> tuple[Float[Tensor, "*heads T Dv"], Float[Tensor, "*heads T S"]]:
    """Torch's fused attention. It keeps its weights to itself, so it is asked for the mean of the
    identity's rows: those means are the weights. With a softmax of somebody's own: the formula."""
    if mask is not None:
        mask = mask.expand(*query.shape[:-1], key.size(-2))
    if parts.chosen("softmax"):
        scaled = query / math.sqrt(query.size(-1))  # before the product: float16 overflows after it
        scores = torch.einsum("...tk,...sk->...ts", scaled, key)
        weights = parts.softmax(scores if mask is None else scores.where(mask, -math.inf))
        return weights @ value, weights
    weights = F.scaled_dot_product_attention(query, key, _identity(key), attn_mask=mask)
    return weights @ value, weights


def _identity(key: Float[Tensor, "*heads S K"]) -> Float[Tensor, "*heads S S"]:
    length = key.size(-2)
    one = torch.eye(length, dtype=key.dtype, device=key.device)
    return one.expand(*key.shape[:-2], length, length)


class SelfAttention(nn.Module):
    """One head whose queries, keys and values come from the same tokens."""

    def __init__(self, d_model: int, d_k: int | None = None, d_v: int | None = None):
        super().__init__()
        self.q_proj = nn.Linear(d_model, d_k or d_model)
        self.k_proj = nn.Linear(d_model, d_k or d_model)
        self.v_proj = nn.Linear(d_model, d_v or d_model)

    def forward(
        self, x: Float[Tensor, "B T D"], mask: Bool[Tensor, "... #T #T"] | None = None
    ) -> tuple[Float[Tensor, "B T Dv"], Float[Tensor, "B T T"]]:
        return parts.scaled_dot_product_attention(
            self.q_proj(x), self.k_proj(x), self.v_proj(x), mask
        )


# 02-masks


def padding_mask(ids: Int[Tensor, "B S"], pad_id: int) -> Bool[Tensor, "B 1 1 S"]:
    """Every query may look at every token that is not padding."""
    return torch.ne(ids, pad_id).unflatten(0, (-1, 1, 1))


def causal_mask(length: int, device: torch.device | str | None = None) -> Bool[Tensor, "T T"]:
    """A position may look at itself and at what came before it."""
    mask = nn.Transformer.generate_square_subsequent_mask(length, device=device)  # type: ignore[arg-type]
    return mask.isfinite()


def decoder_mask(ids: Int[Tensor, "B T"], pad_id: int) -> Bool[Tensor, "B 1 T T"]:
    """Both: neither the future nor padding."""
    future = parts.causal_mask(ids.size(1), device=ids.device).logical_not()
    return parts.padding_mask(ids, pad_id).masked_fill(future, False)


# 03-multi-head


def split_heads(x: Float[Tensor, "B T D"], n_heads: int) -> Float[Tensor, "B H T K"]:
    """Head h takes features h*K to (h+1)*K - 1."""
    return torch.stack(x.chunk(n_heads, dim=-1), dim=1)


def merge_heads(x: Float[Tensor, "B H T K"]) -> Float[Tensor, "B T D"]:
    """The inverse of split_heads."""
    return torch.cat(x.unbind(1), dim=-1)


class MultiHeadAttention(nn.Module):
    """`F.multi_head_attention_forward` with the contract's names, masks and zero rows.

    Around a part of somebody's own (softmax, attention, splitting, merging) it asks the parts.
    """

    def __init__(self, d_model: int, n_heads: int):
        super().__init__()
        if n_heads < 1 or d_model % n_heads:
            divisors = [n for n in range(1, d_model + 1) if d_model % n == 0]
            raise ValueError(
                f"d_model={d_model} does not split into n_heads={n_heads} equal heads: "
                f"choose n_heads from {divisors}"
            )
        self.n_heads = n_heads
        self.q_proj = nn.Linear(d_model, d_model)
        self.k_proj = nn.Linear(d_model, d_model)
        self.v_proj = nn.Linear(d_model, d_model)
        self.out_proj = nn.Linear(d_model, d_model)

    def forward(
        self,
        query: Float[Tensor, "B T D"],
        key: Float[Tensor, "B S D"],
        value: Float[Tensor, "B S D"],
        mask: Bool[Tensor, "... #T #S"] | None = None,
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "B H T S"]]:
        if any(map(parts.chosen, _INSIDE_HEADS)):
            return self._of_parts(self.q_proj(query), self.k_proj(key), self.v_proj(value), mask)
        batch, length, d_model = query.shape
        hidden = lost = None
        if mask is not None:  # torch's polarity is the opposite: True there means "may not look"
            mask = mask.expand(batch, self.n_heads, length, key.size(1))
            lost = ~mask.any(-1, keepdim=True)  # torch would answer NaN: let them look, then undo
            hidden = ~(mask | lost).flatten(0, 1)
        heads, weights = F.multi_head_attention_forward(
            query.transpose(0, 1),
            key.transpose(0, 1),
            value.transpose(0, 1),
            d_model,
            self.n_heads,
            in_proj_weight=None,
            in_proj_bias=torch.cat([self.q_proj.bias, self.k_proj.bias, self.v_proj.bias]),
            bias_k=None,
            bias_v=None,
            add_zero_attn=False,
            dropout_p=0.0,
            out_proj_weight=torch.eye(d_model, dtype=query.dtype, device=query.device),
            out_proj_bias=None,  # type: ignore[arg-type]
            attn_mask=hidden,
            use_separate_proj_weight=True,
            q_proj_weight=self.q_proj.weight,
            k_proj_weight=self.k_proj.weight,
            v_proj_weight=self.v_proj.weight,
            average_attn_weights=False,
        )
        heads = heads.transpose(0, 1)
        if lost is not None:
            weights = weights.masked_fill(lost, 0)  # type: ignore[union-attr]
            per_feature = (
                lost.squeeze(-1).transpose(1, 2).repeat_interleave(d_model // self.n_heads, dim=-1)
            )
            heads = heads.masked_fill(per_feature, 0)
        return self.out_proj(heads), weights  # type: ignore[return-value]

    def _of_parts(self, *projected: Any) -> tuple[Tensor, Tensor]:
        *each, mask = projected
        heads = (parts.split_heads(x, self.n_heads) for x in each)
        output, weights = parts.scaled_dot_product_attention(*heads, mask)
        return self.out_proj(parts.merge_heads(output)), weights


_INSIDE_HEADS = ("softmax", "scaled_dot_product_attention", "split_heads", "merge_heads")


# 04-positions


def sinusoidal_positions(max_len: int, d_model: int) -> Float[Tensor, "max_len D"]:
    """Sine and cosine of an angle are the two parts of one complex number of length one."""
    if d_model % 2:
        raise ValueError(f"d_model={d_model} is odd: each frequency takes a sine and a cosine")
    frequency = torch.logspace(0, -1, d_model // 2 + 1, base=10_000, dtype=torch.float64)[:-1]
    angle = math.pi / 2 - torch.outer(torch.arange(max_len, dtype=torch.float64), frequency)
    return torch.view_as_real(torch.polar(torch.ones_like(angle), angle)).flatten(1).float()


class PositionalEncoding(nn.Module):
    """Adds the table of sinusoids to the tokens."""

    table: Tensor

    def __init__(self, d_model: int, dropout: float = 0.1, max_len: int = 512):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        table = parts.sinusoidal_positions(max_len, d_model)
        self.register_buffer("table", table, persistent=False)

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        _check_length(x.size(1), self.table.size(0))
        return self.dropout(x.add(self.table[: x.size(1)].to(x.dtype)))


class LearnedPositions(nn.Module):
    """Adds a table that training fills."""

    def __init__(self, d_model: int, dropout: float = 0.1, max_len: int = 512):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.embedding = nn.Embedding(max_len, d_model)

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        _check_length(x.size(1), self.embedding.num_embeddings)
        return self.dropout(x.add(self.embedding.weight[: x.size(1)]))


def _check_length(length: int, max_len: int) -> None:
    if length > max_len:
        raise ValueError(
            f"{length} tokens do not fit into max_len={max_len} positions: "
            "shorten the text or build the model with a larger max_len"
        )


# 05-add-norm


class LayerNorm(nn.LayerNorm):
    """torch.nn.LayerNorm over the last dimension."""

    def __init__(self, d_model: int, eps: float = 1e-5):
        super().__init__(d_model, eps=eps)


class AddNorm(nn.Module):
    """Post-norm residual connection."""

    def __init__(self, d_model: int, dropout: float = 0.1):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.norm = parts.LayerNorm(d_model)

    def forward(
        self, x: Float[Tensor, "*axes D"], sublayer_output: Float[Tensor, "*axes D"]
    ) -> Float[Tensor, "*axes D"]:
        return self.norm(torch.add(x, self.dropout(sublayer_output)))


# 06-feed-forward


class FeedForward(nn.Module):
    """Two linear layers with a ReLU between, for each token alone."""

    def __init__(self, d_model: int, d_ff: int):
        super().__init__()
        self.linear1 = nn.Linear(d_model, d_ff)
        self.linear2 = nn.Linear(d_ff, d_model)

    def forward(self, x: Float[Tensor, "*axes D"]) -> Float[Tensor, "*axes D"]:
        return self.linear2(F.relu(self.linear1(x)))


# 07-encoder


class EncoderLayer(nn.Module):
    """Figure 1, left."""

    def __init__(self, d_model: int, n_heads: int, d_ff: int, dropout: float = 0.1):
        super().__init__()
        self.self_attention = parts.MultiHeadAttention(d_model, n_heads)
        self.add_norm1 = parts.AddNorm(d_model, dropout)
        self.feed_forward = parts.FeedForward(d_model, d_ff)
        self.add_norm2 = parts.AddNorm(d_model, dropout)

    def forward(
        self, x: Float[Tensor, "B S D"], mask: Bool[Tensor, "... #S #S"] | None = None
    ) -> Float[Tensor, "B S D"]:
        x = self.add_norm1(x, self.self_attention(x, x, x, mask)[0])
        return self.add_norm2(x, self.feed_forward(x))


class Encoder(nn.Module):
    """A stack of encoder layers."""

    def __init__(self, n_layers: int, d_model: int, n_heads: int, d_ff: int, dropout: float = 0.1):
        super().__init__()
        self.layers = nn.ModuleList(
            parts.EncoderLayer(d_model, n_heads, d_ff, dropout) for _ in range(n_layers)
        )

    def forward(
        self, x: Float[Tensor, "B S D"], mask: Bool[Tensor, "... #S #S"] | None = None
    ) -> Float[Tensor, "B S D"]:
        for layer in self.layers:
            x = layer(x, mask)
        return x


# 08-decoder


class DecoderLayer(nn.Module):
    """Figure 1, right."""

    def __init__(self, d_model: int, n_heads: int, d_ff: int, dropout: float = 0.1):
        super().__init__()
        self.self_attention = parts.MultiHeadAttention(d_model, n_heads)
        self.add_norm1 = parts.AddNorm(d_model, dropout)
        self.cross_attention = parts.MultiHeadAttention(d_model, n_heads)
        self.add_norm2 = parts.AddNorm(d_model, dropout)
        self.feed_forward = parts.FeedForward(d_model, d_ff)
        self.add_norm3 = parts.AddNorm(d_model, dropout)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        memory: Float[Tensor, "B S D"],
        self_mask: Bool[Tensor, "... #T #T"] | None = None,
        cross_mask: Bool[Tensor, "... #T #S"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        x = self.add_norm1(x, self.self_attention(x, x, x, self_mask)[0])
        x = self.add_norm2(x, self.cross_attention(x, memory, memory, cross_mask)[0])
        return self.add_norm3(x, self.feed_forward(x))


class Decoder(nn.Module):
    """A stack of decoder layers."""

    def __init__(self, n_layers: int, d_model: int, n_heads: int, d_ff: int, dropout: float = 0.1):
        super().__init__()
        self.layers = nn.ModuleList(
            parts.DecoderLayer(d_model, n_heads, d_ff, dropout) for _ in range(n_layers)
        )

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        memory: Float[Tensor, "B S D"],
        self_mask: Bool[Tensor, "... #T #T"] | None = None,
        cross_mask: Bool[Tensor, "... #T #S"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        for layer in self.layers:
            x = layer(x, memory, self_mask, cross_mask)
        return x


# 09-transformer


class TokenEmbedding(nn.Module):
    """A vector per token, times the square root of its width."""

    def __init__(self, vocab_size: int, d_model: int, pad_id: int = 0):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, d_model, padding_idx=pad_id)

    def forward(self, ids: Int[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        return self.embedding(ids).mul(self.embedding.embedding_dim**0.5)


class Transformer(nn.Module):
    """Figure 1: encoder, decoder, and one embedding for source, target and output."""

    def __init__(
        self,
        vocab_size: int,
        d_model: int = 256,
        n_heads: int = 4,
        n_layers: int = 3,
        d_ff: int = 1024,
        dropout: float = 0.1,
        max_len: int = 512,
        pad_id: int = 0,
    ):
        super().__init__()
        self.pad_id = pad_id
        self.embedding = parts.TokenEmbedding(vocab_size, d_model, pad_id)
        self.positions = parts.PositionalEncoding(d_model, dropout, max_len)
        self.encoder = parts.Encoder(n_layers, d_model, n_heads, d_ff, dropout)
        self.decoder = parts.Decoder(n_layers, d_model, n_heads, d_ff, dropout)

    def encode(self, src: Int[Tensor, "B S"]) -> Float[Tensor, "B S D"]:
        return self.encoder(
            self.positions(self.embedding(src)), parts.padding_mask(src, self.pad_id)
        )

    def decode(
        self,
        tgt: Int[Tensor, "B T"],
        memory: Float[Tensor, "B S D"],
        src: Int[Tensor, "B S"],
    ) -> Float[Tensor, "B T V"]:
        x = self.decoder(
            self.positions(self.embedding(tgt)),
            memory,
            parts.decoder_mask(tgt, self.pad_id),
            parts.padding_mask(src, self.pad_id),
        )
        return F.linear(x, self.embedding.embedding.weight)

    def forward(self, src: Int[Tensor, "B S"], tgt: Int[Tensor, "B T"]) -> Float[Tensor, "B T V"]:
        return self.decode(tgt, self.encode(src), src)


# 10-training


def shift_target(tgt: Int[Tensor, "B T"]) -> tuple[Int[Tensor, "B T-1"], Int[Tensor, "B T-1"]]:
    """Teacher forcing: what the decoder reads, and what it should say next."""
    steps = tgt.size(1) - 1
    return tgt.narrow(1, 0, steps), tgt.narrow(1, 1, steps)


def label_smoothing_loss(
    logits: Float[Tensor, "*axes V"],
    expected: Int[Tensor, "*axes"],
    smoothing: float = 0.1,
    pad_id: int = 0,
) -> Float[Tensor, ""]:
    """Cross-entropy against a target that keeps `smoothing` for all words alike."""
    rows = logits.reshape(-1, logits.size(-1))  # one per position, also where there is no axis
    return F.cross_entropy(
        rows, expected.reshape(-1), ignore_index=pad_id, label_smoothing=smoothing
    )


def noam_learning_rate(step: int, d_model: int, warmup: int = 4000) -> float:
    """Up in a straight line to the peak at `warmup`, then down with the root of the step (§5.3)."""
    progress = max(step, 1) / warmup
    return min(progress, progress**-0.5) / math.sqrt(d_model * warmup)


def train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    src: Int[Tensor, "B S"],
    tgt: Int[Tensor, "B T"],
    pad_id: int = 0,
    max_norm: float = 1.0,
    smoothing: float = 0.1,
) -> float:
    """One update on one batch; the loss before it."""
    optimizer.zero_grad()
    decoder_input, expected = parts.shift_target(tgt)
    loss = parts.label_smoothing_loss(
        model.train()(src, decoder_input), expected, smoothing, pad_id
    )
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    optimizer.step()
    return loss.item()
