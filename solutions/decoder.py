# %% [markdown]
"""
# 08 The decoder writes the target

It looks at what it has written, then at the source, then thinks.
"""

# %%
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lab.parts import AddNorm, FeedForward, MultiHeadAttention

# %% [markdown]
"""
## DecoderLayer

Self-attention, cross-attention, feed-forward (Figure 1, right). In cross-attention the target asks
and the source answers: queries from x, keys and values from memory.
"""


# %% solution="DecoderLayer"
class DecoderLayer(nn.Module):
    """Every target token gathers from earlier ones and from the source, then thinks alone."""

    def __init__(self, d_model: int, n_heads: int, d_ff: int, dropout: float = 0.1):
        super().__init__()
        self.self_attention = MultiHeadAttention(d_model, n_heads)
        self.add_norm1 = AddNorm(d_model, dropout)
        self.cross_attention = MultiHeadAttention(d_model, n_heads)
        self.add_norm2 = AddNorm(d_model, dropout)
        self.feed_forward = FeedForward(d_model, d_ff)
        self.add_norm3 = AddNorm(d_model, dropout)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        memory: Float[Tensor, "B S D"],
        self_mask: Bool[Tensor, "... #T #T"] | None = None,
        cross_mask: Bool[Tensor, "... #T #S"] | None = None,
    ) -> Float[Tensor, "B T D"]:
        attended, _ = self.self_attention(x, x, x, self_mask)
        x = self.add_norm1(x, attended)
        attended, _ = self.cross_attention(x, memory, memory, cross_mask)
        x = self.add_norm2(x, attended)
        return self.add_norm3(x, self.feed_forward(x))


# %% [markdown]
"""
## Decoder

Every layer looks at the same memory.
"""


# %% solution="Decoder"
class Decoder(nn.Module):
    """A stack of decoder layers."""

    def __init__(self, n_layers: int, d_model: int, n_heads: int, d_ff: int, dropout: float = 0.1):
        super().__init__()
        self.layers = nn.ModuleList(
            DecoderLayer(d_model, n_heads, d_ff, dropout) for _ in range(n_layers)
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
