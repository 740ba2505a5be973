"""Parts, masks and positions, broken on purpose: what each is for shows when it is wrong or gone.

Nothing here changes a model or a part for anybody else: faults are in force in one context
(lab.parts), and whatever is broken belongs to a model that shares only the weights.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from lab import decoding, parts
from lab.faults import FAULTS
from lab.heads import attention_of, heads_of, twin
from lab.model import Checkpoint, build
from lab.recording import record
from lab.steps import Path, Step, follow, follow_ids, read_back
from lab.tokens import pad
from lab.translation import MAX_LEN, Search, encode

# Faults

ENOUGH = 40  # ids of a broken translation


@dataclass(frozen=True)
class Layer:
    """What a layer hands on."""

    size: float  # root mean square of its numbers
    alike: float  # mean cosine of each two tokens: 1 where all say the same


@dataclass(frozen=True)
class Broken:
    """A translation by the parts in force, and by the same with a fault among them."""

    right: Path
    wrong: Path
    change: float  # in the log-probability of the right translation, step by step
    layers: tuple[list[Layer], list[Layer]]  # as both read the right one: encoder, then decoder


def break_with(
    checkpoint: Checkpoint,
    sentence: str,
    faults: Iterable[str],
    search: Search = Search(),  # noqa: B008 (frozen)
    *,
    right: Path | None = None,
    explain: bool = False,
) -> Broken:
    """Translate with some of FAULTS switched on; `right` is the translation without, where known.

    The weights stay as they were trained: a part that is a module is built anew around them. What
    comes to no end is cut off at ENOUGH, or at twice the length of the right translation.

    Forgetting the causal mask ruins training most of all. Here the step that writes is as blind as
    before, but the pieces before it, which now see each other, are not those it was trained with.
    (The weights explained are of one pass over the finished sentence: they look ahead.)
    """
    wrong_parts = _parts_of(faults)
    if right is None:
        right = follow(checkpoint, [sentence], search, explain=explain)[0]
    enough = min(MAX_LEN, max(ENOUGH, 2 * len(right.ids)))
    layers = _layers(checkpoint, sentence, right)
    with parts.using(wrong_parts):
        broken = _rebuilt(checkpoint)
        wrong = follow(broken, [sentence], search, explain=explain, max_len=enough)[0]
        forced = follow(broken, [sentence], prefixes=[right.ids])[0]
        return Broken(
            right,
            wrong,
            _log_probability(forced) - _log_probability(right),
            (layers, _layers(broken, sentence, right)),
        )


def _rebuilt(checkpoint: Checkpoint) -> Checkpoint:
    """The same weights in a model of the parts in force."""
    model = build(checkpoint.config)
    model.load_state_dict(checkpoint.model.state_dict(), assign=True)
    return replace(checkpoint, model=model.to(next(model.parameters()).device).eval())


def _layers(checkpoint: Checkpoint, sentence: str, path: Path) -> list[Layer]:
    model: Any = twin(checkpoint.model)
    states: list[Float[Tensor, "T D"]] = []
    for layer in [*model.encoder.layers, *model.decoder.layers]:
        layer.register_forward_hook(lambda module, args, output: states.append(output[0].float()))
    read_back(replace(checkpoint, model=model), encode(checkpoint, [sentence])[0], path.ids)
    return [Layer(state.square().mean().sqrt().item(), _alike(state)) for state in states]


def _alike(tokens: Float[Tensor, "T D"]) -> float:
    """The mean cosine of each two; 1 for one alone."""
    directions = F.normalize(tokens, dim=-1)
    among = ~torch.eye(len(tokens), dtype=torch.bool, device=tokens.device)
    return (directions @ directions.T)[among].mean().item() if len(tokens) > 1 else 1.0


def _log_probability(path: Path) -> float:
    """Of the whole, as its steps saw it; the least a float32 can say where one was 0."""
    return sum(math.log(max(step.chosen.probability, 1e-45)) for step in path.steps)


def _parts_of(faults: Iterable[str]) -> dict[str, Callable[..., Any]]:
    found: dict[str, Callable[..., Any]] = {}
    for fault in faults:
        if fault not in FAULTS:
            raise ValueError(f"fault {fault!r}: choose from {', '.join(FAULTS)}")
        if twice := found.keys() & FAULTS[fault].keys():
            raise ValueError(f"{fault!r} and another fault both replace {twice.pop()}: choose one")
        found.update(FAULTS[fault])
    return found


# One attention, its mask painted


@dataclass(frozen=True)
class Attended:
    """One call of an attention module, and what the model says of the target with it."""

    mask: Bool[Tensor, "T S"]
    weights: Float[Tensor, "H T S"]
    output: Float[Tensor, "T D"]
    steps: list[Step]  # of the target, by teacher forcing


@dataclass(frozen=True)
class Painted:
    """The same call with the model's own mask and with another."""

    before: Attended
    after: Attended


def paint(
    checkpoint: Checkpoint,
    sentence: str,
    kind: str,
    layer: int,
    mask: Tensor | Sequence[Any] | None = None,  # [T, S], also as lists
    target: Sequence[int] | None = None,
) -> Painted:
    """Give one attention (a kind in a layer) a mask of one's own: True where a query may look.

    `target` are the ids of a translation without <s>, the model's own if it is not given. Without
    a mask, `before` and `after` are the same: the mask in force, to begin painting with.
    """
    heads_of(checkpoint, kind, layer)  # says what is not there
    if target is None:
        target = follow(checkpoint, [sentence])[0].ids
    if not target:
        raise ValueError("the target is empty: give at least one id")
    before = _attended(checkpoint, sentence, kind, layer, target, None)
    if mask is None:
        return Painted(before, before)
    painted = _as_mask(mask, tuple(before.mask.shape))
    return Painted(before, _attended(checkpoint, sentence, kind, layer, target, painted))


def _as_mask(mask: Any, size: tuple[int, ...]) -> Bool[Tensor, "T S"]:
    ask = f"paint a mask of {size[0]} rows (queries) and {size[1]} columns (keys), True or False"
    try:
        painted = torch.as_tensor(mask)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{ask}: {error}") from error
    if painted.dtype != torch.bool or painted.shape != size:
        raise ValueError(f"{ask}; this one is {list(painted.shape)} of {painted.dtype}")
    return painted


def _attended(
    checkpoint: Checkpoint,
    sentence: str,
    kind: str,
    layer: int,
    target: Sequence[int],
    painted: Bool[Tensor, "T S"] | None,
) -> Attended:
    model = twin(checkpoint.model)
    attention = attention_of(model, kind, layer)
    caught: list[Any] = []

    def put(module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict] | None:
        if painted is None:
            return None
        kwargs = {name: value for name, value in kwargs.items() if name != "mask"}
        return args[:3], {**kwargs, "mask": painted.to(args[0].device)}

    def catch(module: nn.Module, args: tuple, kwargs: dict, result: tuple) -> None:
        caught[:] = [args[3] if len(args) > 3 else kwargs.get("mask"), *result]

    attention.register_forward_pre_hook(put, with_kwargs=True)
    attention.register_forward_hook(catch, with_kwargs=True)
    source = encode(checkpoint, [sentence])[0]
    steps = read_back(replace(checkpoint, model=model), source, target)
    mask, output, weights = caught
    if mask is None:
        mask = torch.ones_like(weights, dtype=torch.bool)
    return Attended(
        mask=mask.expand_as(weights)[0, 0].cpu(),
        weights=weights[0].float().cpu(),
        output=output[0].float().cpu(),
        steps=steps,
    )


# Positions


def without_positions(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint whose model adds no positions: its encoder reads a bag of words."""
    model: Any = twin(checkpoint.model)
    model.positions = nn.Identity()
    return replace(checkpoint, model=model)


@dataclass(frozen=True)
class Shuffled:
    """A sentence and the same pieces in another order: piece t now is piece `order[t]` before."""

    order: list[int]
    before: Path
    after: Path
    weights_before: Float[Tensor, "L H S S"]  # the encoder's
    weights_after: Float[Tensor, "L H S S"]
    difference: float  # the largest, once the pieces are back in their old order


def shuffle(
    checkpoint: Checkpoint,
    sentence: str,
    order: Sequence[int] | None = None,
    *,
    positions: bool = False,
    seed: int = 0,
    search: Search = Search(),  # noqa: B008 (frozen)
) -> Shuffled:
    """Read a sentence in another order, with positions or without.

    Without them self-attention is the same, shuffled: `difference` is no more than rounding. By
    default a seed orders all pieces but </s>, which stays last.
    """
    ids = encode(checkpoint, [sentence])[0]
    if order is None:
        generator = torch.Generator().manual_seed(seed)
        order = [*torch.randperm(len(ids) - 1, generator=generator).tolist(), len(ids) - 1]
    if sorted(order) != [*range(len(ids))]:
        raise ValueError(f"order {list(order)}: name each place from 0 to {len(ids) - 1} once")
    model = checkpoint if positions else without_positions(checkpoint)
    both = [ids, [ids[place] for place in order]]
    texts = [sentence, checkpoint.tokenizer.decode(both[1])]
    before, after = follow_ids(model, texts, both, search)
    weights_before, weights_after = (_reading(model, each) for each in both)
    apart = weights_after - weights_before[..., order, :][..., order]
    return Shuffled(
        [*order], before, after, weights_before, weights_after, apart.abs().max().item()
    )


def _reading(checkpoint: Checkpoint, ids: list[int]) -> Float[Tensor, "L H S S"]:
    model: Any = checkpoint.model
    source = pad([ids]).to(next(model.parameters()).device)
    with decoding.inference(model), record(model) as recorded:
        model.encode(source)
    return recorded["encoder"][:, 0].float().cpu()


@dataclass(frozen=True)
class Positions:
    """The table of sinusoids, and what can be read from it."""

    table: Float[Tensor, "T D"]  # column i is the wave of feature i
    products: Float[Tensor, "T T"]  # of each two positions: it hangs on their distance alone
    wavelengths: list[float]  # of each column, in positions (paper, §3.5: from 2π to 10000·2π)


def positions(length: int, d_model: int) -> Positions:
    """The waves of `sinusoidal_positions`, the part in force."""
    table = parts.sinusoidal_positions(length, d_model)
    waves = [2 * math.pi * 10_000 ** (2 * (i // 2) / d_model) for i in range(d_model)]
    return Positions(table, table @ table.T, waves)
