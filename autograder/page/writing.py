"""How a sentence is written by a model and explained: the same on the page and in the sandbox."""

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from lab import parts
from lab.recording import KINDS, record
from lab.tokens import BOS_ID, EOS_ID
from lab.translation import forced, log_probabilities

SEARCHES = {"greedy": "greedy_decode", "beam": "beam_search", "sample": "sample_decode"}
BEAM, PENALTY = 4, 0.6
CUTS = (1.0, 20, None)  # temperature, top-k, top-p of a sample; its seed is 0


def arguments(search: str, max_len: int) -> list[Any]:
    """What a decoding part is given after the model and the source."""
    of = {
        "greedy": [BOS_ID, EOS_ID, max_len],
        "beam": [BOS_ID, EOS_ID, BEAM, max_len, PENALTY],
        "sample": [BOS_ID, EOS_ID, max_len, *CUTS],
    }
    return of[search]


def seeded(part: str) -> list[torch.Generator]:
    """What a part that draws is given to draw from: the same for stock's and for others."""
    return [torch.Generator().manual_seed(0)] if part == "sample_decode" else []


def most_likely(found: Any) -> Tensor:
    """The ids of a translation: of a beam's hypotheses the best one."""
    return found if isinstance(found, Tensor) else torch.tensor([found[0][0]])


def written(model: Any, source: Int[Tensor, "1 S"], search: str, max_len: int) -> Tensor:
    """The ids of a translation, <s> first, by the decoding part in force."""
    part = SEARCHES[search]
    found = getattr(parts, part)(model, source, *arguments(search, max_len), *seeded(part))
    return most_likely(found)


def explained(
    model: Any, source: Int[Tensor, "1 S"], target: Int[Tensor, "1 T"]
) -> tuple[float, dict[str, Tensor]]:
    """The translation's log-probability, and the attention weights behind it by kind."""
    with record(model) as recorded:
        gains = log_probabilities(forced(model, source, target), target)
    return float(gains.sum()), {kind: recorded[kind][:, 0].float() for kind in KINDS}
