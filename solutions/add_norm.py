# %% [markdown]
"""
# 05 Add and norm keep depth trainable

Each sub-layer adds to what was there, and the sum is brought back to one scale.
"""

# %%
import torch
from jaxtyping import Float
from torch import Tensor, nn

# %% [markdown]
"""
## LayerNorm

Each token alone: mean 0, variance 1, then a learned scale γ and shift β (Ba et al. 2016).
"""


# %% solution="LayerNorm"
class LayerNorm(nn.Module):
    """As torch.nn.LayerNorm: variance divides by D, eps stands under the root."""

    def __init__(self, d_model: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_model))  # γ
        self.bias = nn.Parameter(torch.zeros(d_model))  # β

    def forward(self, x: Float[Tensor, "*axes D"]) -> Float[Tensor, "*axes D"]:
        centred = x - x.mean(dim=-1, keepdim=True)
        variance = centred.square().mean(dim=-1, keepdim=True)
        return self.weight * centred / torch.sqrt(variance + self.eps) + self.bias


# %% [markdown]
"""
## AddNorm

norm(x + dropout(sublayer(x))): post-norm, as in the paper (§3.1, §5.4).
"""


# %% solution="AddNorm"
class AddNorm(nn.Module):
    """Adds a sub-layer's output to its input, then normalises."""

    def __init__(self, d_model: int, dropout: float = 0.1):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.norm = LayerNorm(d_model)

    def forward(
        self,
        x: Float[Tensor, "*axes D"],
        sublayer_output: Float[Tensor, "*axes D"],
    ) -> Float[Tensor, "*axes D"]:
        return self.norm(x + self.dropout(sublayer_output))
