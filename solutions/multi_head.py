# %% [markdown]
"""
# 03 Several heads look for several things

One softmax gives one mean. Heads look side by side, each in its own slice of the features.
"""

# %%
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lab.parts import scaled_dot_product_attention

# %% [markdown]
"""
## split_heads

The features of a token are dealt out to the heads, and the heads become an axis of their own.
"""


# %% solution="split_heads"
def split_heads(x: Float[Tensor, "B T D"], n_heads: int) -> Float[Tensor, "B H T K"]:
    """Head h takes features h*K to (h+1)*K - 1 of every token."""
    batch, length, d_model = x.shape
    return x.reshape(batch, length, n_heads, d_model // n_heads).transpose(1, 2)


# %% [markdown]
"""
## merge_heads

The way back: first the tokens in front of the heads again, then side by side.
"""


# %% solution="merge_heads"
def merge_heads(x: Float[Tensor, "B H T K"]) -> Float[Tensor, "B T D"]:
    """The inverse of split_heads."""
    return x.transpose(1, 2).flatten(start_dim=2)


# %% [markdown]
"""
## MultiHeadAttention

Project, split, attend, merge, project (§3.2.2, Figure 2 right).
"""


# %% solution="MultiHeadAttention"
class MultiHeadAttention(nn.Module):
    """Attention in n_heads slices at once; d_model must be a multiple of n_heads."""

    def __init__(self, d_model: int, n_heads: int):
        super().__init__()
        if n_heads < 1 or d_model % n_heads != 0:
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
        output, weights = scaled_dot_product_attention(
            split_heads(self.q_proj(query), self.n_heads),
            split_heads(self.k_proj(key), self.n_heads),
            split_heads(self.v_proj(value), self.n_heads),
            mask,
        )
        return self.out_proj(merge_heads(output)), weights
