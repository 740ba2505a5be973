# %% [markdown]
"""
# 02 Masks say who may look at whom

A mask is a table of booleans, one row per query, one column per key: True means "may look".
"""

# %%
import torch
from jaxtyping import Bool, Int
from torch import Tensor

# %% [markdown]
"""
## padding_mask

Sentences of a batch are filled up to one length. Nobody may look at the filling.
"""


# %% solution="padding_mask"
def padding_mask(ids: Int[Tensor, "B S"], pad_id: int) -> Bool[Tensor, "B 1 1 S"]:
    """Every head and every query of a sentence may look at its real tokens."""
    not_padding = ids != pad_id
    return not_padding[:, None, None, :]


# %% [markdown]
"""
## causal_mask

Who writes from left to right must not read what is not yet written.
"""


# %% solution="causal_mask"
def causal_mask(length: int, device: torch.device | str | None = None) -> Bool[Tensor, "T T"]:
    """A position may look at itself and at what came before it."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()


# %% [markdown]
"""
## decoder_mask

The decoder's own tokens: neither the future nor the filling.
"""


# %% solution="decoder_mask"
def decoder_mask(ids: Int[Tensor, "B T"], pad_id: int) -> Bool[Tensor, "B 1 T T"]:
    """A position may look where both masks agree."""
    return causal_mask(ids.size(1), ids.device) & padding_mask(ids, pad_id)
