# %% [markdown]
"""
# 01 Attention is a soft look-up

A dictionary returns the value whose key equals the query. Attention returns a mean of all values,
weighted by how well each key matches.
"""

# %%
import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

# %% [markdown]
"""
## softmax

Scores become weights: positive, with sum one. Only differences between scores count, so the largest
is taken off first and `exp` never overflows.
"""


# %% solution="softmax"
def softmax(scores: Float[Tensor, "*axes"], dim: int = -1) -> Float[Tensor, "*axes"]:
    """Positive weights that sum to 1 over `dim`; a slice that is all -inf gives zeros."""
    peak = scores.detach().amax(dim, keepdim=True)
    peak = peak.masked_fill(peak == -math.inf, 0)  # -inf - -inf would be NaN
    exponentials = torch.exp(scores - peak)
    total = exponentials.sum(dim, keepdim=True)
    return exponentials / total.masked_fill(total == 0, 1)


# %% [markdown]
"""
## soft_lookup

One query asks a table of keys and values.
"""


# %% solution="soft_lookup"
def soft_lookup(
    query: Float[Tensor, " K"],
    keys: Float[Tensor, "S K"],
    values: Float[Tensor, "S Dv"],
) -> tuple[Float[Tensor, " Dv"], Float[Tensor, " S"]]:
    """The mean of the values, weighted by how well their keys match the query."""
    weights = softmax(keys @ query)
    return weights @ values, weights


# %% [markdown]
"""
## scaled_dot_product_attention

Every query asks at once (§3.2.1): softmax(QKᵀ / √d_k) V.
"""


# %% solution="scaled_dot_product_attention"
def scaled_dot_product_attention(
    query: Float[Tensor, "*heads T K"],
    key: Float[Tensor, "*heads S K"],
    value: Float[Tensor, "*heads S Dv"],
    mask: Bool[Tensor, "..."] | None = None,  # broadcasts to (..., T, S)
) -> tuple[Float[Tensor, "*heads T Dv"], Float[Tensor, "*heads T S"]]:
    """Each query takes a weighted mean of the values whose keys match it."""
    query = query / math.sqrt(query.size(-1))  # before the product: half precision overflows late
    scores = query @ key.transpose(-2, -1)  # (..., T, S)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    weights = softmax(scores, dim=-1)
    return weights @ value, weights


# %% [markdown]
"""
## SelfAttention

The tokens ask each other. Three learned projections let one vector play three roles.
"""


# %% solution="SelfAttention"
class SelfAttention(nn.Module):
    """One head whose queries, keys and values come from the same tokens."""

    def __init__(self, d_model: int, d_k: int | None = None, d_v: int | None = None):
        super().__init__()
        self.q_proj = nn.Linear(d_model, d_k or d_model)
        self.k_proj = nn.Linear(d_model, d_k or d_model)
        self.v_proj = nn.Linear(d_model, d_v or d_model)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        mask: Bool[Tensor, "... #T #T"] | None = None,
    ) -> tuple[Float[Tensor, "B T Dv"], Float[Tensor, "B T T"]]:
        query, key, value = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        return scaled_dot_product_attention(query, key, value, mask)
