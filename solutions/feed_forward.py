# %% [markdown]
"""
# 06 Feed-forward thinks per token

Attention moves information between tokens; this layer works on what each token has gathered.
"""

# %%
import torch
from jaxtyping import Float
from torch import Tensor, nn

# %% [markdown]
"""
## FeedForward

Wider, bend, narrower (§3.3): max(0, xW₁ + b₁)W₂ + b₂.
"""


# %% solution="FeedForward"
class FeedForward(nn.Module):
    """Two linear layers with a ReLU between, for each token alone."""

    def __init__(self, d_model: int, d_ff: int):
        super().__init__()
        self.linear1 = nn.Linear(d_model, d_ff)
        self.linear2 = nn.Linear(d_ff, d_model)

    def forward(self, x: Float[Tensor, "*axes D"]) -> Float[Tensor, "*axes D"]:
        return self.linear2(torch.relu(self.linear1(x)))
