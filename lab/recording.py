"""Every attention weight of a run, by kind, layer and head.

    with record(model) as attention:
        model(src, tgt)
    attention["cross"]  # [L, B, H, T, S]

L is the layers, the other letters as everywhere. lab.fast calls no module that could be recorded,
but it has the weights of its every step: for one sentence they can be kept, which is next to free.

    with keep(model) as kept:
        ids = greedy_decode(model, src, bos_id, eos_id)
    logits, attention = kept.find(src[0].tolist(), ids[0].tolist())  # attention: [L, H, T, S]
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from threading import get_ident
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

# Where the contract puts each kind. "encoder" and "decoder" are self-attention.
KINDS = {
    "encoder": ("encoder", "self_attention"),
    "decoder": ("decoder", "self_attention"),
    "cross": ("decoder", "cross_attention"),
}


class Recording:
    """The weights of the calls so far: `recording[kind]` of the last one, `calls(kind)` of all."""

    def __init__(self, n_layers: dict[str, int]):
        self._layers = {kind: [[] for _ in range(count)] for kind, count in n_layers.items()}

    def __getitem__(self, kind: str) -> Float[Tensor, "L B H T S"]:
        calls = self.calls(kind)
        if not calls:
            raise LookupError(
                f"no {kind} attention was recorded: run the model inside `with record`"
            )
        return calls[-1]

    def calls(self, kind: str) -> list[Float[Tensor, "L B H T S"]]:
        if kind not in self._layers:
            raise KeyError(f"{kind!r}: choose from {', '.join(KINDS)}")
        return [torch.stack(of_layers) for of_layers in zip(*self._layers[kind], strict=False)]


@contextmanager
def record(model: nn.Module) -> Iterator[Recording]:
    """Record the attention weights of every call of `model` in the block; results do not change.

    Calls of other threads are theirs: sessions that share a model do not see each other's.
    Any implementation of the parts will do: the weights are the second result of the contract's
    attention modules.
    """
    here = get_ident()
    recording = Recording({kind: len(_layers(model, side)) for kind, (side, _) in KINDS.items()})
    with ExitStack() as hooks:
        for kind, (side, name) in KINDS.items():
            for layer, calls in zip(_layers(model, side), recording._layers[kind], strict=True):

                def add(module: nn.Module, inputs: object, output: tuple, calls=calls) -> None:
                    if get_ident() == here:
                        calls.append(output[1].detach())

                hooks.enter_context(getattr(layer, name).register_forward_hook(add))
        yield recording


def _layers(model: nn.Module, side: str) -> nn.ModuleList:
    return getattr(model, side).layers


class Step(NamedTuple):
    """What lab.fast computed for a new token; several rows are the hypotheses of a beam."""

    ids: Int[Tensor, "rows T"]  # what it read
    logits: Float[Tensor, "rows V"]
    layers: list[tuple[Float[Tensor, "heads 1 T"], Float[Tensor, "rows H S"]]]  # decoder, cross


class Run(NamedTuple):
    """One sentence's search by lab.fast."""

    source: list[int]
    encoder: list[Float[Tensor, "H S S"]]  # of each layer
    steps: list[Step]

    def way(self, ids: Sequence[int]) -> list[tuple[int, Step]]:
        """The steps that wrote these ids after <s>, each with the row in which they were."""
        way = []
        for length, step in zip(range(1, len(ids)), self.steps, strict=False):
            read, begun = step.ids.tolist(), list(ids[:length])
            if begun not in read:
                break
            way.append((read.index(begun), step))
        return way

    def attention(self, way: Sequence[tuple[int, Step]]) -> dict[str, Float[Tensor, "L H _ _"]]:
        """By kind, as `record` has it of one pass over what was written."""
        size, n_heads = len(way), self.encoder[0].size(0)
        decoder, cross = [], []
        for layer in range(len(way[0][1].layers)):
            looked = [(row, *step.layers[layer]) for row, step in way]
            own = [weights.view(-1, n_heads, weights.size(-1))[row] for row, weights, _ in looked]
            decoder.append(torch.cat(own, dim=-1))  # (H, 1 + 2 + … + T)
            cross.append(torch.stack([weights[row] for row, _, weights in looked], dim=1))
        square = decoder[0].new_zeros(len(decoder), n_heads, size, size)
        query, key = torch.tril_indices(size, size, device=square.device)
        square[..., query, key] = torch.stack(decoder)
        kinds = {"encoder": torch.stack(self.encoder), "decoder": square}
        return {**kinds, "cross": torch.stack(cross)}


class Kept:
    """The searches that lab.fast made in a block, for one sentence each."""

    def __init__(self, model: object):
        self.model = model
        self.runs: list[Run] = []

    def find(
        self, source: Sequence[int], ids: Sequence[int]
    ) -> tuple[Float[Tensor, "T V"], dict[str, Float[Tensor, "L H _ _"]]] | None:
        """Logits and attention behind each of the ids after <s>; None where they were written in
        another way: in a batch, or by `model.decode`."""
        for run in self.runs:
            way = run.way(ids) if run.source == list(source) else []
            if 0 < len(way) == len(ids) - 1:
                return torch.stack([step.logits[row] for row, step in way]), run.attention(way)
        return None


_keeping: ContextVar[Kept | None] = ContextVar("keeping", default=None)


@contextmanager
def keep(model: object) -> Iterator[Kept]:
    """Keep what lab.fast computes for `model` in the block, in this thread."""
    kept = Kept(model)
    token = _keeping.set(kept)
    try:
        yield kept
    finally:
        _keeping.reset(token)


def run_to_keep(model: object, src: Int[Tensor, "B S"]) -> Run | None:
    """For lab.fast: where to put what it computes, if somebody wants it."""
    kept = _keeping.get()
    if kept is None or kept.model is not model or len(src) > 1:
        return None
    kept.runs.append(Run(src[0].tolist(), [], []))
    return kept.runs[-1]
