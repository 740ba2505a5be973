"""Parts that are wrong in ways everybody writes once, to be switched on in a trained model.

    with parts.using(FAULTS["the residual is missing"]):
        model = build(checkpoint.config)  # every AddNorm in it loses its residual

Names are those of the checks where these know the mistake, too.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lab import parts, stock

# Masks


def causal_mask_forgotten(
    length: int, device: torch.device | str | None = None
) -> Bool[Tensor, "T T"]:
    """Everybody may look at everything, the future too."""
    return torch.ones(length, length, dtype=torch.bool, device=device)


def decoder_mask_without_causal(ids: Int[Tensor, "B T"], pad_id: int) -> Bool[Tensor, "B 1 T T"]:
    """Only padding is hidden."""
    return parts.padding_mask(ids, pad_id).expand(-1, -1, ids.size(1), -1)


def attention_with_mask_upside_down(
    query: Float[Tensor, "*heads T K"],
    key: Float[Tensor, "*heads S K"],
    value: Float[Tensor, "*heads S Dv"],
    mask: Bool[Tensor, "..."] | None = None,
) -> tuple[Float[Tensor, "*heads T Dv"], Float[Tensor, "*heads T S"]]:
    """Hides where the mask says "may look"."""
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    if mask is not None:
        scores = scores.masked_fill(mask, -math.inf)
    weights = parts.softmax(scores)
    return weights @ value, weights


def attention_masked_after_softmax(
    query: Float[Tensor, "*heads T K"],
    key: Float[Tensor, "*heads S K"],
    value: Float[Tensor, "*heads S Dv"],
    mask: Bool[Tensor, "..."] | None = None,
) -> tuple[Float[Tensor, "*heads T Dv"], Float[Tensor, "*heads T S"]]:
    """Hidden keys have taken their share before they are hidden: rows sum to less than 1."""
    weights = parts.softmax(query @ key.transpose(-2, -1) / math.sqrt(query.size(-1)))
    if mask is not None:
        weights = weights.masked_fill(~mask, 0)
    return weights @ value, weights


# Attention


def attention_not_scaled(
    query: Float[Tensor, "*heads T K"],
    key: Float[Tensor, "*heads S K"],
    value: Float[Tensor, "*heads S Dv"],
    mask: Bool[Tensor, "..."] | None = None,
) -> tuple[Float[Tensor, "*heads T Dv"], Float[Tensor, "*heads T S"]]:
    """Scores √d_k times too large: softmax takes nearly one key for all."""
    larger = query * math.sqrt(query.size(-1))
    return stock.scaled_dot_product_attention(larger, key, value, mask)


def attention_over_the_queries(
    query: Float[Tensor, "*heads T K"],
    key: Float[Tensor, "*heads S K"],
    value: Float[Tensor, "*heads S Dv"],
    mask: Bool[Tensor, "..."] | None = None,
) -> tuple[Float[Tensor, "*heads T Dv"], Float[Tensor, "*heads T S"]]:
    """Columns sum to 1 in place of rows."""
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.size(-1))
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    weights = parts.softmax(scores, -2)
    return weights @ value, weights


# Add and norm


class NoResidual(stock.AddNorm):
    """What x was is lost."""

    def forward(
        self, x: Float[Tensor, "*axes D"], sublayer_output: Float[Tensor, "*axes D"]
    ) -> Float[Tensor, "*axes D"]:
        return self.norm(self.dropout(sublayer_output))


class ResidualAfterNorm(stock.AddNorm):
    """The sum is not normed: half of pre-norm, with weights that have learned post-norm."""

    def forward(
        self, x: Float[Tensor, "*axes D"], sublayer_output: Float[Tensor, "*axes D"]
    ) -> Float[Tensor, "*axes D"]:
        return x + self.norm(self.dropout(sublayer_output))


class NoNorm(stock.AddNorm):
    """The sum as it is: it grows with every layer."""

    def forward(
        self, x: Float[Tensor, "*axes D"], sublayer_output: Float[Tensor, "*axes D"]
    ) -> Float[Tensor, "*axes D"]:
        return x + self.dropout(sublayer_output)


class NormOverTokens(stock.LayerNorm):
    """Mean and variance of a feature in all tokens, not of a token in all features."""

    def forward(self, input: Float[Tensor, "*axes T D"]) -> Float[Tensor, "*axes T D"]:
        mean, variance = input.mean(-2, keepdim=True), input.var(-2, correction=0, keepdim=True)
        return self.weight * (input - mean) / torch.sqrt(variance + self.eps) + self.bias


# Feed-forward


class NoActivation(stock.FeedForward):
    """Two linear layers are one, however wide the middle is."""

    def forward(self, x: Float[Tensor, "*axes D"]) -> Float[Tensor, "*axes D"]:
        return self.linear2(self.linear1(x))


class Gelu(stock.FeedForward):
    """The activation of BERT and GPT, close to ReLU but not what was trained."""

    def forward(self, x: Float[Tensor, "*axes D"]) -> Float[Tensor, "*axes D"]:
        return self.linear2(F.gelu(self.linear1(x)))


class TokensMixed(stock.FeedForward):
    """A token's result depends on its neighbours, in the decoder on the future."""

    def forward(self, x: Float[Tensor, "*axes T D"]) -> Float[Tensor, "*axes T D"]:
        hidden = F.relu(self.linear1(x))
        return self.linear2(hidden + hidden.mean(-2, keepdim=True))


FAULTS: Mapping[str, Mapping[str, Callable[..., Any]]] = {
    "forgot the causal mask": {
        "causal_mask": causal_mask_forgotten,
        "decoder_mask": decoder_mask_without_causal,
    },
    "mask upside down": {"scaled_dot_product_attention": attention_with_mask_upside_down},
    "masked after softmax": {"scaled_dot_product_attention": attention_masked_after_softmax},
    "not divided by √d_k": {"scaled_dot_product_attention": attention_not_scaled},
    "softmax over the queries": {"scaled_dot_product_attention": attention_over_the_queries},
    "the residual is missing": {"AddNorm": NoResidual},
    "the residual is added after the norm": {"AddNorm": ResidualAfterNorm},
    "the norm is missing": {"AddNorm": NoNorm},
    "normed over the tokens": {
        "LayerNorm": NormOverTokens,
        "AddNorm": stock.AddNorm,  # which asks the parts for its norm
    },
    "no activation between the layers": {"FeedForward": NoActivation},
    "GELU in place of ReLU": {"FeedForward": Gelu},
    "tokens are mixed": {"FeedForward": TokensMixed},
}
