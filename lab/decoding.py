"""From the model's probabilities to sentences: greedy, beam and sampling, batched and cached.

The functions of lesson 11, with their names and arguments, give token for token what the lesson's
plain functions give. Faster, because each step feeds one new token: the keys and values of earlier
ones are kept (the KV cache), those of the source are computed once.

The cache takes the weights of the contract's modules and does their arithmetic itself. Unasked, it
serves only a model of stock parts; with `cache=True`, any model of the contract's modules. All
others run `model.decode` at every step: somebody's own part must show what it does.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lab import parts

Choose = Callable[[Float[Tensor, "B V"]], Int[Tensor, " B"]]


def greedy_decode(
    model: Any,
    src: Int[Tensor, "B S"],
    bos_id: int,
    eos_id: int,
    max_len: int = 64,
    *,
    cache: bool | None = None,
) -> Int[Tensor, "B T"]:
    """The most probable next token at every step, until every sentence has ended.

    Ids start with bos_id; eos_id stays, model.pad_id follows it; at most max_len ids, bos counted.
    """
    return write(model, src, bos_id, eos_id, max_len, chooser(temperature=0.0), cache=cache)


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
    *,
    cache: bool | None = None,
) -> Int[Tensor, "B T"]:
    """As greedy_decode, each token drawn by its probability; temperature 0 is greedy."""
    choose = chooser(temperature, top_k, top_p, generator)
    return write(model, src, bos_id, eos_id, max_len, choose, cache=cache)


def beam_search(
    model: Any,
    src: Int[Tensor, "1 S"],
    bos_id: int,
    eos_id: int,
    beam_size: int = 4,
    max_len: int = 64,
    length_penalty: float = 0.6,
    *,
    cache: bool | None = None,
) -> list[tuple[list[int], float]]:
    """The beam_size best sentences found for one source, best first, each with its score."""
    return beam_decode(model, src, bos_id, eos_id, beam_size, max_len, length_penalty, cache=cache)[
        0
    ]


@dataclass(frozen=True)
class BeamStep:
    """One step of beam_decode. A hypothesis that is not there has the score -inf everywhere."""

    gains: Float[Tensor, "B beam V"]  # what the model says: log-probabilities of the next token
    totals: Float[Tensor, "B beam V"]  # log-probability of each hypothesis with each token
    scores: Float[Tensor, "B beam V"]  # the same, by the length penalty
    best: Int[Tensor, "B beam"]  # what stays: hypothesis * V + token


def beam_decode(
    model: Any,
    src: Int[Tensor, "B S"],
    bos_id: int,
    eos_id: int,
    beam_size: int = 4,
    max_len: int = 64,
    length_penalty: float = 0.6,
    *,
    cache: bool | None = None,
    prefix: Sequence[int] = (),
    watch: Callable[[BeamStep], None] | None = None,
) -> list[list[tuple[list[int], float]]]:
    """beam_search for a batch: all hypotheses of all sentences take each step together.

    score = log-probability / ((5 + length) / 6)^length_penalty, bos not counted in length
    (Wu et al. 2016, equation 14). With a `prefix`, the best of the sentences that begin with it.
    `watch` is shown every step.
    """
    if beam_size < 1:
        raise ValueError(f"beam_size={beam_size}: a beam holds at least one hypothesis")
    batch = src.size(0)
    rows = torch.arange(batch, device=src.device).unsqueeze(1) * beam_size  # first of each sentence
    with inference(model):
        steps = _steps(model, src, max_len, cache)
        steps.select(torch.arange(batch, device=src.device).repeat_interleave(beam_size))
        ids = src.new_full((batch * beam_size, 1), bos_id)
        total = torch.full((batch, beam_size), -math.inf, dtype=torch.float64, device=src.device)
        total[:, 0] = 0  # one hypothesis to begin with; the others are not there yet
        length = torch.zeros_like(total)
        ended = torch.zeros_like(total, dtype=torch.bool)
        while ids.size(1) < max_len and not (ended | total.isneginf()).all():
            gains = steps.logits(ids).double().log_softmax(-1).unflatten(0, (batch, beam_size))
            candidates = total.unsqueeze(-1) + gains  # (B, beam, V)
            if ids.size(1) <= len(prefix):
                forced = torch.arange(gains.size(-1), device=src.device) == prefix[ids.size(1) - 1]
                candidates = candidates.where(forced, -math.inf)
            candidates = candidates.masked_fill(ended.unsqueeze(-1), -math.inf)
            candidates[..., model.pad_id] = torch.where(ended, total, candidates[..., model.pad_id])
            length = length + ~ended
            scores = candidates / _penalty(length, length_penalty).unsqueeze(-1)
            best = scores.flatten(1).topk(beam_size).indices  # (B, beam)
            origin, token = best // scores.size(-1), best % scores.size(-1)
            if watch is not None:
                watch(BeamStep(gains, candidates, scores, best))

            total = candidates.flatten(1).gather(1, best)
            length, was_ended = length.gather(1, origin), ended.gather(1, origin)
            ended = was_ended | (token == eos_id)
            kept = (rows + origin).flatten()
            ids = torch.cat([ids[kept], token.view(-1, 1)], dim=1)
            steps.select(kept)
    scores = total / _penalty(length, length_penalty)
    return [
        _hypotheses(*of_sentence)
        for of_sentence in zip(
            ids.unflatten(0, (batch, beam_size)).tolist(),
            length.long().tolist(),
            scores.tolist(),
            strict=True,
        )
    ]


def write(
    model: Any,
    src: Int[Tensor, "B S"],
    bos_id: int,
    eos_id: int,
    max_len: int,
    choose: Choose,
    *,
    cache: bool | None = None,
) -> Int[Tensor, "B T"]:
    """Token after token by `choose`, until every sentence has ended or has max_len ids."""
    with inference(model):
        steps = _steps(model, src, max_len, cache)
        ids = src.new_full((src.size(0), 1), bos_id)
        ended = torch.zeros(src.size(0), dtype=torch.bool, device=src.device)
        while ids.size(1) < max_len and not ended.all():
            chosen = choose(steps.logits(ids)).masked_fill(ended, model.pad_id)
            ids = torch.cat([ids, chosen.unsqueeze(1)], dim=1)
            ended = ended | (chosen == eos_id)
    return ids


def chooser(
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> Choose:
    """What draws the next token of each sentence from its logits; temperature 0 takes the best."""
    check_sampling(temperature, top_k, top_p)
    if temperature == 0:
        return lambda logits: logits.argmax(-1)

    def draw(logits: Float[Tensor, "B V"]) -> Int[Tensor, " B"]:
        probabilities = next_token_probabilities(logits, temperature, top_k, top_p)
        return torch.multinomial(probabilities, 1, generator=generator).squeeze(-1)

    return draw


def next_token_probabilities(
    logits: Float[Tensor, "B V"],
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Float[Tensor, "B V"]:
    """Divide by temperature, keep the top_k, of those the fewest that reach top_p; renormalise."""
    ordered, order = (logits / temperature).sort(dim=-1, descending=True)
    if top_k is not None:
        ordered[:, top_k:] = -math.inf
    probabilities = ordered.softmax(dim=-1)
    if top_p is not None:
        before = probabilities.cumsum(dim=-1) - probabilities
        probabilities = F.normalize(probabilities.masked_fill(before >= top_p, 0), p=1, dim=-1)
    return torch.zeros_like(probabilities).scatter(-1, order, probabilities)


@contextmanager
def inference(model: Any) -> Iterator[None]:
    """No gradients, eval mode; afterwards every module is back in the mode it was found in."""
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    modes = [module.training for module in modules]
    for module in modules:
        module.training = False
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


def _penalty(length: Float[Tensor, "B beam"], alpha: float) -> Float[Tensor, "B beam"]:
    return ((5 + length) / 6) ** alpha


def _hypotheses(
    ids: list[list[int]], lengths: list[int], scores: list[float]
) -> list[tuple[list[int], float]]:
    found = zip(ids, lengths, scores, strict=True)
    return [(row[: n + 1], score) for row, n, score in found if score > -math.inf]


def check_sampling(temperature: float, top_k: int | None, top_p: float | None) -> None:
    if not 0 <= temperature < math.inf:
        raise ValueError(f"temperature={temperature}: choose 0 (greedy) or more")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k={top_k}: keep at least one token")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p={top_p}: choose a share above 0 and up to 1")


# What a search needs of a model: the logits after the ids so far, and rows that can be reordered.


@runtime_checkable
class Steps(Protocol):
    def logits(self, ids: Int[Tensor, "B T"]) -> Float[Tensor, "B V"]: ...

    def select(self, rows: Int[Tensor, " rows"]) -> None: ...


def _steps(model: Any, src: Int[Tensor, "B S"], max_len: int, cache: bool | None) -> Steps:
    if max_len < 1:
        raise ValueError(f"max_len={max_len}: a sentence has at least its first token")
    wanted = parts.are_stock(model) if cache is None else cache
    if wanted and _is_made_of_parts(model):
        return CachedSteps(model, src)
    return PlainSteps(model, src)


def _is_made_of_parts(model: Any) -> bool:
    layers = getattr(getattr(model, "decoder", None), "layers", None)
    if not isinstance(layers, nn.ModuleList) or not hasattr(model, "positions"):
        return False
    projections = ("q_proj", "k_proj", "v_proj", "out_proj")
    return hasattr(model.positions, "table") and all(
        hasattr(getattr(layer, attention, None), projection)
        for layer in layers
        for attention in ("self_attention", "cross_attention")
        for projection in projections
    )


class PlainSteps:
    """Every step decodes the whole sentence so far."""

    def __init__(self, model: Any, src: Int[Tensor, "B S"]):
        self.model, self.src = model, src
        self.memory = model.encode(src)

    def logits(self, ids: Int[Tensor, "B T"]) -> Float[Tensor, "B V"]:
        return self.model.decode(ids, self.memory, self.src)[:, -1]

    def select(self, rows: Int[Tensor, " rows"]) -> None:
        self.memory, self.src = self.memory[rows], self.src[rows]


class CachedSteps:
    """Every step decodes the newest token; keys and values of all others are at hand."""

    def __init__(self, model: Any, src: Int[Tensor, "B S"]):
        self.model = model
        memory = model.encode(src)
        self.source_mask = (src != model.pad_id)[:, None, None, :]
        self.layers = [CachedLayer(layer, memory) for layer in model.decoder.layers]

    def logits(self, ids: Int[Tensor, "B T"]) -> Float[Tensor, "B V"]:
        newest, table = ids.size(1) - 1, self.model.positions.table
        if newest >= table.size(0):
            raise ValueError(
                f"{ids.size(1)} tokens do not fit into max_len={table.size(0)} positions: "
                "decode with a smaller max_len"
            )
        x = self.model.embedding(ids[:, -1:])
        x = x + table[newest].to(x.dtype)
        target_mask = (ids != self.model.pad_id)[:, None, None, :]
        for layer in self.layers:
            x = layer.step(x, target_mask, self.source_mask)
        return F.linear(x[:, 0], self.model.embedding.embedding.weight)

    def select(self, rows: Int[Tensor, " rows"]) -> None:
        self.source_mask = self.source_mask[rows]
        for layer in self.layers:
            layer.select(rows)


class CachedLayer:
    """A decoder layer that remembers the keys and values of the source and of the target so far."""

    def __init__(self, layer: Any, memory: Float[Tensor, "B S D"]):
        self.layer = layer
        self.over_target = CachedAttention(layer.self_attention, memory[:, :0])
        self.over_source = CachedAttention(layer.cross_attention, memory)

    def step(
        self,
        x: Float[Tensor, "B 1 D"],
        target_mask: Bool[Tensor, "B 1 1 T"],
        source_mask: Bool[Tensor, "B 1 1 S"],
    ) -> Float[Tensor, "B 1 D"]:
        self.over_target.remember(x)
        x = self.layer.add_norm1(x, self.over_target(x, target_mask))
        x = self.layer.add_norm2(x, self.over_source(x, source_mask))
        return self.layer.add_norm3(x, self.layer.feed_forward(x))

    def select(self, rows: Int[Tensor, " rows"]) -> None:
        self.over_target.select(rows)
        self.over_source.select(rows)


class CachedAttention:
    """The weights of a multi-head attention, and the keys and values it has seen."""

    def __init__(self, attention: Any, x: Float[Tensor, "B S D"]):
        self.attention = attention
        token = x.new_zeros(1, 1, x.size(2))
        # How many heads there are is no attribute of the contract: the weights [1, H, 1, 1] tell.
        # (`forward` itself, so that nothing is recorded.)
        self.n_heads = attention.forward(token, token, token)[1].size(1)
        self.key, self.value = self._keys_and_values(x)  # [B, H, S, K]

    def __call__(
        self, x: Float[Tensor, "B 1 D"], mask: Bool[Tensor, "B 1 1 S"]
    ) -> Float[Tensor, "B 1 D"]:
        query = self._split(self.attention.q_proj(x))
        heads = F.scaled_dot_product_attention(query, self.key, self.value, attn_mask=mask)
        return self.attention.out_proj(heads.transpose(1, 2).flatten(2))

    def remember(self, x: Float[Tensor, "B 1 D"]) -> None:
        key, value = self._keys_and_values(x)
        self.key = torch.cat([self.key, key], dim=2)
        self.value = torch.cat([self.value, value], dim=2)

    def select(self, rows: Int[Tensor, " rows"]) -> None:
        self.key, self.value = self.key[rows], self.value[rows]

    def _keys_and_values(
        self, x: Float[Tensor, "B S D"]
    ) -> tuple[Float[Tensor, "B H S K"], Float[Tensor, "B H S K"]]:
        return self._split(self.attention.k_proj(x)), self._split(self.attention.v_proj(x))

    def _split(self, x: Float[Tensor, "B S D"]) -> Float[Tensor, "B H S K"]:
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
