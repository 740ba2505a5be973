# %% [markdown]
"""
# 07 The encoder reads the source

Tokens look at each other, think, and look again.
"""

# %%
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lab.parts import AddNorm, FeedForward, MultiHeadAttention

# %% [markdown]
"""
## EncoderLayer

Self-attention, then feed-forward, each with its add-and-norm (Figure 1, left).
"""


# %% solution="EncoderLayer"
class EncoderLayer(nn.Module):
    """Every token gathers from all tokens it may look at, then thinks alone."""

    def __init__(self, d_model: int, n_heads: int, d_ff: int, dropout: float = 0.1):
        super().__init__()
        self.self_attention = MultiHeadAttention(d_model, n_heads)
        self.add_norm1 = AddNorm(d_model, dropout)
        self.feed_forward = FeedForward(d_model, d_ff)
        self.add_norm2 = AddNorm(d_model, dropout)

    def forward(
        self,
        x: Float[Tensor, "B S D"],
        mask: Bool[Tensor, "... #S #S"] | None = None,
    ) -> Float[Tensor, "B S D"]:
        attended, _ = self.self_attention(x, x, x, mask)
        x = self.add_norm1(x, attended)
        return self.add_norm2(x, self.feed_forward(x))


# %% [markdown]
"""
## Encoder

The same kind of layer again and again, each with weights of its own.
"""


# %% solution="Encoder"
class Encoder(nn.Module):
    """A stack of encoder layers."""

    def __init__(self, n_layers: int, d_model: int, n_heads: int, d_ff: int, dropout: float = 0.1):
        super().__init__()
        self.layers = nn.ModuleList(
            EncoderLayer(d_model, n_heads, d_ff, dropout) for _ in range(n_layers)
        )

    def forward(
        self,
        x: Float[Tensor, "B S D"],
        mask: Bool[Tensor, "... #S #S"] | None = None,
    ) -> Float[Tensor, "B S D"]:
        for layer in self.layers:
            x = layer(x, mask)
        return x
