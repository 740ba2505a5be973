"""From the model's probabilities to sentences: greedy, beam and sampling, batched and cached.

The functions of lesson 11, with their names and arguments, give token for token what the lesson's
plain functions give. Faster, because each step feeds one new token: the keys and values of earlier
ones are kept (the KV cache), those of the source are computed once; and sentences that have ended
leave the batch.

Unasked, a model of stock parts is decoded by `lab.fast`, any other by `model.decode` at every step:
somebody's own part must show what it does. With `cache=True` it is the readable cache below, which
serves any model of the contract's modules; with `cache=False` always `model.decode`.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from heapq import nlargest
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lab import parts
from lab.fast import FastSteps

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
    """One step of beam_decode: B sentences still being written, each with `beam` hypotheses.

    What cannot follow has the total and the score -inf.
    """

    gains: Float[Tensor, "B beam V"]  # what the model says: log-probabilities of the next token
    totals: Float[Tensor, "B beam V"]  # log-probability of each hypothesis with each token
    scores: Float[Tensor, "B beam V"]  # the same, by the length penalty
    best: Int[Tensor, "B kept"]  # what stays: hypothesis * V + token, -1 for nothing


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
    found: dict[int, list[tuple[list[int], float]]] = {}
    with inference(model):
        steps = _steps(model, src, bos_id, max_len, cache)
        sentences = list(range(len(src)))  # those still in the batch
        beams = [[Hypothesis(0.0, 0.0, 0, False, row, bos_id)] for row in sentences]
        ids = src.new_full((len(src), 1), bos_id)  # a row for each hypothesis
        while sentences and ids.size(1) < max_len:
            gains = steps.logits(ids).log_softmax(-1)
            only = prefix[ids.size(1) - 1] if ids.size(1) <= len(prefix) else None
            said = _said(gains, beam_size, only)
            before, width = beams, len(beams[0])
            beams = [
                _extended(beam, said, at * width, beam_size, length_penalty, eos_id, model.pad_id)
                for at, beam in enumerate(beams)
            ]
            if watch is not None:
                watch(_beam_step(before, beams, gains, only, length_penalty, model.pad_id))
            rows = src.new_tensor([one.row for beam in beams for one in beam])
            newest = src.new_tensor([one.token for beam in beams for one in beam])
            ids = torch.cat([ids[rows], newest.unsqueeze(1)], dim=1)
            ended = [all(one.ended for one in beam) for beam in beams]
            if sum(ended) > LEAVE * len(ended):
                found.update(_found(sentences, beams, ids))
                stay = [at for at, end in enumerate(ended) if not end]
                sentences, beams = [sentences[at] for at in stay], [beams[at] for at in stay]
                here = [at * beam_size + one for at in stay for one in range(beam_size)]
                rows, ids = rows[here], ids[here]
            if sentences:
                steps.select(rows)
    found.update(_found(sentences, beams, ids))
    return [found[sentence] for sentence in range(len(src))]


class Hypothesis(NamedTuple):
    """What a beam may go on with."""

    score: float
    total: float  # log-probability of all its tokens
    length: int  # in tokens, bos not counted
    ended: bool
    row: int  # of ids: the hypothesis it goes on from
    token: int  # what it adds


Said = list[tuple[tuple[int, float], ...]]  # for each row, tokens and their log-probabilities


def _said(gains: Float[Tensor, "rows V"], count: int, only: int | None) -> Said:
    """The most probable tokens: a beam takes no more than its size from one hypothesis."""
    if only is not None:
        return [((only, gain),) for gain in gains[:, only].tolist()]
    best, tokens = gains.topk(min(count, gains.size(-1)))
    rows = zip(tokens.tolist(), best.tolist(), strict=True)
    return [tuple(zip(*row, strict=True)) for row in rows]


def _extended(
    beam: list[Hypothesis],
    said: Said,
    first: int,
    beam_size: int,
    length_penalty: float,
    eos_id: int,
    pad_id: int,
) -> list[Hypothesis]:
    """The best of a beam's hypotheses with one more token each; `first` is the beam's first row.

    What has ended competes as it is, with padding as its token. Where there are fewer than
    beam_size, impossible ones fill up: all beams are of one size.
    """
    candidates = []
    for row, one in enumerate(beam, start=first):
        if one.ended:
            candidates.append(one._replace(row=row, token=pad_id))
            continue
        length = one.length + 1
        penalty = _penalty(length, length_penalty)
        for token, gain in said[row]:
            total = one.total + gain
            ended = token == eos_id or total == -math.inf
            candidates.append(Hypothesis(total / penalty, total, length, ended, row, token))
    missing = Hypothesis(-math.inf, -math.inf, 0, True, first, pad_id)
    kept = nlargest(beam_size, candidates, key=lambda one: one.score)
    return kept + [missing] * (beam_size - len(kept))


def _beam_step(
    before: list[list[Hypothesis]],
    after: list[list[Hypothesis]],
    gains: Float[Tensor, "rows V"],
    only: int | None,
    length_penalty: float,
    pad_id: int,
) -> BeamStep:
    """For those who watch: every token that could have followed; where `only` one may, that one."""
    wide = gains.double().unflatten(0, (len(before), -1))
    total, length, ended = (
        wide.new_tensor([[one[at] for one in beam] for beam in before]).unsqueeze(-1)
        for at in (1, 2, 3)
    )
    token = torch.arange(wide.size(-1), device=wide.device)
    allowed = (ended == 0) & (token == (token if only is None else only))
    totals = (total + wide).where(allowed, -math.inf)
    totals = totals.where((ended == 0) | (token != pad_id), total)
    scores = totals / _penalty(length + 1 - ended, length_penalty)
    width, size = wide.shape[1:]
    best = [
        [-1 if one.score == -math.inf else (one.row % width) * size + one.token for one in beam]
        for beam in after
    ]
    return BeamStep(wide, totals, scores, torch.tensor(best, device=gains.device))


def _found(
    sentences: list[int], beams: list[list[Hypothesis]], ids: Int[Tensor, "rows T"]
) -> dict[int, list[tuple[list[int], float]]]:
    """Of each sentence in the batch, its hypotheses as they are at this step."""
    texts = iter(ids.tolist())
    return {
        sentence: [
            (text[: one.length + 1], one.score)
            for one, text in zip(beam, texts, strict=False)
            if one.score > -math.inf
        ]
        for sentence, beam in zip(sentences, beams, strict=True)
    }


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
    """Token after token by `choose`, until every sentence has ended or has max_len ids.

    `choose` is shown all B sentences, those that have ended with logits that mean nothing.
    """
    with inference(model):
        steps = _steps(model, src, bos_id, max_len, cache)
        ids = src.new_full((src.size(0), max_len), model.pad_id)
        ids[:, 0] = bos_id
        length = 1
        written, here = ids, None  # the sentences still in the batch, and which those are of all
        ended = [False] * len(ids)
        while length < max_len and not all(ended):
            if sum(ended) > LEAVE * len(ended):
                stay = ~torch.tensor(ended, device=src.device)
                steps.select(stay.nonzero().squeeze(1))
                here = stay.nonzero().squeeze(1) if here is None else here[stay]
                written, ended = ids[here], [False] * len(here)
            logits = steps.logits(written[:, :length])
            if here is None or choose is most_probable:
                chosen = choose(logits)
            else:
                of_all = logits.new_zeros(len(ids), logits.size(-1)).index_copy(0, here, logits)
                chosen = choose(of_all)[here]
            if any(ended):
                chosen = chosen.masked_fill(torch.tensor(ended, device=src.device), model.pad_id)
            written[:, length] = chosen
            if here is not None:
                ids[here, length] = chosen
            tokens = chosen.tolist()
            ended = [end or token == eos_id for end, token in zip(ended, tokens, strict=True)]
            length += 1
    return ids[:, :length].contiguous()


LEAVE = 0.25  # the share of sentences in the batch that have ended with which they leave it


def most_probable(logits: Float[Tensor, "B V"]) -> Int[Tensor, " B"]:
    """Each row by itself: so it need not be shown the rows that have ended."""
    return logits.argmax(-1)


def chooser(
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> Choose:
    """What draws the next token of each sentence from its logits; temperature 0 takes the best."""
    check_sampling(temperature, top_k, top_p)
    if temperature == 0:
        return most_probable

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
    in_training = [module for module in modules if module.training]
    for module in in_training:
        module.training = False
    try:
        with torch.no_grad():
            yield
    finally:
        for module in in_training:
            module.training = True


def _penalty(length: Any, alpha: float) -> Any:
    return ((5 + length) / 6) ** alpha


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


def _steps(
    model: Any, src: Int[Tensor, "B S"], bos_id: int, max_len: int, cache: bool | None
) -> Steps:
    if max_len < 1:
        raise ValueError(f"max_len={max_len}: a sentence has at least its first token")
    if cache is None and parts.are_stock(model) and _is_made_of_parts(model):
        # Where a row has nothing to look at, the contract's attention gives zeros.
        if bos_id != model.pad_id and (src != model.pad_id).any(1).all():
            return FastSteps(model, src)
    if cache and _is_made_of_parts(model):
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
