# %% [markdown]
"""
# 11 Decoding turns probabilities into sentences

The model gives the probability of every next word. A search decides which word is written.
"""

# %%
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lab.decoding import inference

# %% [markdown]
"""
Given is `inference(model)`: no gradients, no dropout, and the model is left as it was found.
"""

# %% [markdown]
"""
## greedy_decode

Write the most probable word, read it back, write the next.
"""


# %% solution="greedy_decode"
def greedy_decode(
    model: Any, src: Int[Tensor, "B S"], bos_id: int, eos_id: int, max_len: int = 64
) -> Int[Tensor, "B T"]:
    """The most probable next token at every step, until every sentence has ended."""
    with inference(model):
        memory = model.encode(src)
        ids = src.new_full((src.size(0), 1), bos_id)
        ended = torch.zeros_like(ids, dtype=torch.bool)  # (B, 1)
        while ids.size(1) < max_len and not ended.all():
            logits = model.decode(ids, memory, src)[:, -1]
            chosen = logits.argmax(dim=-1, keepdim=True)
            chosen = chosen.masked_fill(ended, model.pad_id)
            ids = torch.cat([ids, chosen], dim=1)
            ended = ended | (chosen == eos_id)
    return ids


# %% [markdown]
"""
## beam_search

Keep the best few unfinished sentences instead of one. Long sentences multiply more probabilities,
so the score is divided by a penalty that grows with length (Wu et al. 2016, equation 14).
"""


# %% solution="beam_search"
def beam_search(
    model: Any,
    src: Int[Tensor, "1 S"],
    bos_id: int,
    eos_id: int,
    beam_size: int = 4,
    max_len: int = 64,
    length_penalty: float = 0.6,
) -> list[tuple[list[int], float]]:
    """The beam_size best sentences found, best first, each with its score.

    score = log-probability / ((5 + length) / 6)^length_penalty, bos not counted in length.
    """

    def score(hypothesis: tuple[list[int], float]) -> float:
        ids, log_probability = hypothesis
        length = len(ids) - 1
        return log_probability / ((5 + length) / 6) ** length_penalty

    with inference(model):
        memory = model.encode(src)
        beam = [([bos_id], 0.0)]
        ended = []
        for _ in range(max_len - 1):
            candidates = list(ended)  # an ended sentence stays in the race with its score
            for ids, log_probability in beam:
                logits = model.decode(src.new_tensor([ids]), memory, src)[0, -1]
                best = logits.log_softmax(dim=-1).topk(min(beam_size, logits.size(-1)))
                for gain, token in zip(best.values.tolist(), best.indices.tolist(), strict=True):
                    if gain > float("-inf"):
                        candidates.append(([*ids, token], log_probability + gain))
            best_first = sorted(candidates, key=score, reverse=True)[:beam_size]
            ended = [hypothesis for hypothesis in best_first if hypothesis[0][-1] == eos_id]
            beam = [hypothesis for hypothesis in best_first if hypothesis[0][-1] != eos_id]
            if not beam:
                break
    return [
        (ids, score((ids, total))) for ids, total in sorted(ended + beam, key=score, reverse=True)
    ]


# %% [markdown]
"""
## sample_decode

Draw the next word by its probability: temperature sharpens or flattens, top_k and top_p cut the
tail (Holtzman et al. 2020).
"""


# %% solution="sample_decode"
def sample_decode(
    model: Any,
    src: Int[Tensor, "B S"],
    bos_id: int,
    eos_id: int,
    max_len: int = 64,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> Int[Tensor, "B T"]:
    """A random sentence, drawn token by token; temperature 0 is greedy."""
    if temperature == 0:
        return greedy_decode(model, src, bos_id, eos_id, max_len)
    with inference(model):
        memory = model.encode(src)
        ids = src.new_full((src.size(0), 1), bos_id)
        ended = torch.zeros_like(ids, dtype=torch.bool)
        while ids.size(1) < max_len and not ended.all():
            logits = model.decode(ids, memory, src)[:, -1]
            probabilities = next_token_probabilities(logits, temperature, top_k, top_p)
            drawn = torch.multinomial(probabilities, 1, generator=generator)
            drawn = drawn.masked_fill(ended, model.pad_id)
            ids = torch.cat([ids, drawn], dim=1)
            ended = ended | (drawn == eos_id)
    return ids


def next_token_probabilities(
    logits: Float[Tensor, "B V"],
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Float[Tensor, "B V"]:
    """Temperature, then top_k, then top_p on what is left; the token that crosses top_p stays."""
    ordered, order = (logits / temperature).sort(dim=-1, descending=True)
    if top_k is not None:
        ordered[:, top_k:] = -torch.inf
    probabilities = ordered.softmax(dim=-1)
    if top_p is not None:
        before = probabilities.cumsum(dim=-1) - probabilities  # mass of the more probable tokens
        probabilities = probabilities.masked_fill(before >= top_p, 0)
        probabilities = probabilities / probabilities.sum(dim=-1, keepdim=True)
    return torch.zeros_like(probabilities).scatter(-1, order, probabilities)
