"""Attention seen in other ways: several heads in one picture, rollout, entropy, a sink hidden.

Weights are those of lab.translation: one sentence, `[L, H, T, S]` for each kind.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from lab.translation import entropy

RESIDUAL = 0.5  # share of a token that passes a sub-layer by (Abnar & Zuidema 2020, §3)


def mean(weights: Float[Tensor, "heads T S"]) -> Float[Tensor, "T S"]:
    """The mean of some heads; its rows still sum to 1."""
    return weights.mean(0)


def maximum(weights: Float[Tensor, "heads T S"]) -> Float[Tensor, "T S"]:
    """The highest weight any of the heads gives; its rows may sum to more than 1."""
    return weights.amax(0)


def choose(
    weights: Float[Tensor, "L H T S"], heads: Iterable[tuple[int, int]] | None = None
) -> Float[Tensor, "heads T S"]:
    """The heads (layer, head), all without a choice: `mean(choose(weights, [(0, 1), (2, 3)]))`."""
    n_layers, n_heads = weights.shape[:2]
    places = [*heads] if heads is not None else None
    if places is None:
        return weights.flatten(0, 1)
    if not places:
        raise ValueError("no head is chosen: choose at least one")
    for layer, head in places:
        if not (0 <= layer < n_layers and 0 <= head < n_heads):
            raise ValueError(
                f"there is no head {head} in layer {layer}: choose from {n_heads} heads (from 0) "
                f"in {n_layers} layers"
            )
    return torch.stack([weights[place] for place in places])


def rollout(weights: Float[Tensor, "L H T T"]) -> Float[Tensor, "T T"]:
    """How much of each input token has reached each token at the top of a stack.

    A layer passes on half of a token and half of the mean of its heads; the layers are multiplied
    (Abnar & Zuidema 2020, §3). Rows sum to 1. What values and feed-forward do is left out.
    """
    found = torch.eye(weights.size(-1), dtype=weights.dtype, device=weights.device)
    for layer in weights:
        found = _mixed(layer) @ found
    return found


def rollout_to_source(
    attention: Mapping[str, Float[Tensor, "L H _ _"]],
) -> tuple[Float[Tensor, "T S"], Float[Tensor, "T T"]]:
    """The rollout through the whole model: shares of the source and of the target so far.

    The paper has one stack. Here each decoder layer mixes twice, by its self-attention and by its
    cross-attention, which brings in the encoder's rollout. The two shares of a row sum to 1.
    """
    memory = rollout(attention["encoder"])
    n_read, n_written = memory.size(-1), attention["decoder"].size(-1)
    source = memory.new_zeros(n_written, n_read)
    target = torch.eye(n_written, dtype=memory.dtype, device=memory.device)
    for own, cross in zip(attention["decoder"], attention["cross"], strict=True):
        source, target = _mixed(own) @ source, _mixed(own) @ target
        source = RESIDUAL * source + (1 - RESIDUAL) * cross.mean(0) @ memory
        target = RESIDUAL * target
    return source, target


def _mixed(weights: Float[Tensor, "H T T"]) -> Float[Tensor, "T T"]:
    passing = torch.eye(weights.size(-1), dtype=weights.dtype, device=weights.device)
    return RESIDUAL * passing + (1 - RESIDUAL) * weights.mean(0)


def entropy_per_head(weights: Float[Tensor, "L H T S"]) -> Float[Tensor, "L H"]:
    """How broadly each head looks, in bits, the mean over its queries."""
    return entropy(weights).mean(-1)


def hide(
    weights: Float[Tensor, "*axes T S"], keys: Sequence[int]
) -> tuple[Float[Tensor, "*axes T S"], Float[Tensor, "*axes T"]]:
    """Weights without some keys, and the share of each row that was hidden.

    What is left is divided by its sum: say so where it is shown. A row that looked at nothing else
    becomes zeros. `hide(weights, [-1])` hides the end of the source, where heads with nothing to do
    like to look.
    """
    length = weights.size(-1)
    if wrong := [key for key in keys if not -length <= key < length]:
        raise ValueError(f"there is no key {wrong[0]}: choose from 0 to {length - 1}")
    hidden = torch.zeros(length, dtype=torch.bool, device=weights.device)
    hidden[[*keys]] = True
    left = weights.masked_fill(hidden, 0)
    total = left.sum(-1, keepdim=True)
    share = weights.masked_fill(~hidden, 0).sum(-1)
    return torch.where(total > 0, left / total.where(total > 0, 1), 0), share


def _row_maximum(weights: Float[Tensor, "*axes T S"]) -> Float[Tensor, "*axes T S"]:
    highest = weights.amax(-1, keepdim=True)
    return weights / highest.where(highest > 0, 1)


# What full colour stands for. The name is printed beside the picture.
SCALES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "0–1": lambda weights: weights,
    "row maximum": _row_maximum,
}


def scaled(weights: Float[Tensor, "*axes T S"], scale: str = "0–1") -> Float[Tensor, "*axes T S"]:
    """Weights as colours from 0 to 1: as they are, or the highest of each row as 1."""
    if scale not in SCALES:
        raise ValueError(f"scale {scale!r}: choose from {', '.join(SCALES)}")
    return SCALES[scale](weights)
