# %% [markdown]
"""
# 04 Positions tell the order

Attention sees a set: shuffle the tokens and each gets the same answer. So each position adds a
pattern of its own.
"""

# %%
import torch
from jaxtyping import Float
from torch import Tensor, nn

# %% [markdown]
"""
## sinusoidal_positions

Waves from fast to slow (§3.5), like the hands of a clock.
"""


# %% solution="sinusoidal_positions"
def sinusoidal_positions(max_len: int, d_model: int) -> Float[Tensor, "max_len D"]:
    """Column 2i is sin(position / 10000^(2i/D)), column 2i+1 the cosine of the same angle."""
    if d_model % 2 != 0:
        raise ValueError(f"d_model={d_model} is odd: each frequency takes a sine and a cosine")
    position = torch.arange(max_len, dtype=torch.float64)
    frequency = 10_000 ** (-torch.arange(0, d_model, 2, dtype=torch.float64) / d_model)
    angle = position[:, None] * frequency  # (max_len, D/2), in radians
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(start_dim=1).float()


# %% [markdown]
"""
## PositionalEncoding

The table is added to the tokens. It is no parameter: training leaves it alone.
"""


# %% solution="PositionalEncoding"
class PositionalEncoding(nn.Module):
    """dropout(x + table), for at most max_len tokens."""

    table: Float[Tensor, "max_len D"]

    def __init__(self, d_model: int, dropout: float = 0.1, max_len: int = 512):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("table", sinusoidal_positions(max_len, d_model), persistent=False)

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        length, max_len = x.size(1), self.table.size(0)
        if length > max_len:
            raise ValueError(
                f"{length} tokens do not fit into max_len={max_len} positions: "
                "shorten the text or build the model with a larger max_len"
            )
        return self.dropout(x + self.table[:length].to(x.dtype))


# %% [markdown]
"""
## LearnedPositions

The other way: let training find the table.
"""


# %% solution="LearnedPositions"
class LearnedPositions(nn.Module):
    """dropout(x + embedding of 0, 1, 2, ...), for at most max_len tokens."""

    def __init__(self, d_model: int, dropout: float = 0.1, max_len: int = 512):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.embedding = nn.Embedding(max_len, d_model)

    def forward(self, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        length, max_len = x.size(1), self.embedding.num_embeddings
        if length > max_len:
            raise ValueError(
                f"{length} tokens do not fit into max_len={max_len} positions: "
                "shorten the text or build the model with a larger max_len"
            )
        positions = torch.arange(length, device=x.device)
        return self.dropout(x + self.embedding(positions))
