"""The Masks and positions tab: what a part is for shows when it is painted, broken or gone."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import gradio as gr
from jaxtyping import Float
from torch import Tensor

from lab import experiments
from lab.course import PARTS
from lab.experiments import Layer, Painted, Shuffled
from lab.faults import FAULTS
from lab.model import Checkpoint
from lab.page.questions import Refused, one_of, sentence, whole
from lab.page.view import Value, answers, drawing, packed
from lab.page.words import label
from lab.recording import KINDS
from lab.steps import Path, Step, follow
from lab.translation import Translation, encode

Checkpoints = Mapping[str, Checkpoint]

BEGIN = "<s>"
FAULT_GROUPS: Mapping[str, Mapping[str, str]] = {  # short names for the browser
    "masks": {
        "forgot": "forgot the causal mask",
        "upside_down": "mask upside down",
        "late": "masked after softmax",
    },
    "attention": {"unscaled": "not divided by √d_k", "over_queries": "softmax over the queries"},
    "add_norm": {
        "no_residual": "the residual is missing",
        "residual_late": "the residual is added after the norm",
        "no_norm": "the norm is missing",
        "over_tokens": "normed over the tokens",
    },
    "feed_forward": {
        "no_activation": "no activation between the layers",
        "gelu": "GELU in place of ReLU",
        "mixed": "tokens are mixed",
    },
}
FAULT_NAMES = {name: fault for group in FAULT_GROUPS.values() for name, fault in group.items()}
ORDERS = ("random", "reversed")
LENGTH = 64  # positions in the table, a little more than the longest sentence
SEEDS = 10_000


def build(checkpoints: Checkpoints, _: object = None) -> None:
    """Put the tab's drawings and their events into the Blocks around it."""
    pairs = list(checkpoints)
    props: dict[str, Any] = dict(
        pairs=pairs,
        example=checkpoints[pairs[0]].examples[0],
        layers={pair: each.config.n_layers for pair, each in checkpoints.items()},
        heads={pair: each.config.n_heads for pair, each in checkpoints.items()},
        faults={
            group: [_fault(name, FAULTS[fault]) for name, fault in faults.items()]
            for group, faults in FAULT_GROUPS.items()
        },
    )
    with gr.Tabs(overflow_behavior="wrap"):
        for name, answer in VIEWS.items():
            with gr.Tab(label(f"masks.tabs.{name}"), id=f"masks-{name}"):
                view = drawing(name, {}, scripts=["maps"], **props)
                answers(view, partial(answer, checkpoints))


def _fault(name: str, fault: Mapping[str, Any]) -> Value:
    """Two faults that replace the same part cannot both be on; the first part has the lesson."""
    replaced = [*fault]
    return {"name": name, "parts": replaced, "lesson": PARTS[replaced[0]].name}


# Paint a mask


def painted(checkpoints: Checkpoints, question: Value) -> Value:
    """One attention with the model's own mask and with the one that was painted."""
    checkpoint, text = sentence(checkpoints, question)
    kind = one_of(question, "kind", list(KINDS))
    layer = whole(question, "layer", checkpoint.config.n_layers)
    path = follow(checkpoint, [text])[0]
    queries, keys = _axes(kind, path.translation)
    mask = _mask(question.get("mask"), len(queries), len(keys))
    found = experiments.paint(checkpoint, text, kind, layer, mask, path.ids)
    before, after = found.before, found.after
    return {
        **_about(checkpoint, text),
        "kind": kind,
        "layer": layer,
        "queries": queries,
        "keys": keys,
        "own": _rows(before.mask),
        "mask": _rows(after.mask),
        "weights": {"before": packed(before.weights), "after": packed(after.weights)},
        "output": _change_of_output(found),
        "steps": [
            {
                "piece": was.chosen.piece,
                "before": _short(was.chosen.probability),
                "after": _short(now.chosen.probability),
                "now": now.candidates[0].piece,
                "differs": now.candidates[0].id != was.candidates[0].id,
            }
            for was, now in zip(before.steps, after.steps, strict=True)
        ],
        "sum": {"before": _sum(before.steps), "after": _sum(after.steps)},
    }


def _axes(kind: str, translation: Translation) -> tuple[list[str], list[str]]:
    """The pieces that ask and those that are looked at."""
    source, target = translation.source_pieces, translation.target_pieces
    if kind == "encoder":
        return source, source
    return target, source if kind == "cross" else [BEGIN, *target[:-1]]


def _mask(rows: Any, n_rows: int, n_columns: int) -> list[list[bool]] | None:
    """From one text of 1 (may look) and 0 for each query; None is the model's own mask."""
    if rows is None:
        return None
    right = isinstance(rows, list) and len(rows) == n_rows
    if not (right and all(_is_row(row, n_columns) for row in rows)):
        raise Refused("masks.paint.refused", rows=n_rows, columns=n_columns)
    return [[cell == "1" for cell in row] for row in rows]


def _is_row(row: Any, length: int) -> bool:
    return isinstance(row, str) and len(row) == length and set(row) <= {"0", "1"}


def _rows(mask: Tensor) -> list[str]:
    return ["".join("01"[cell] for cell in row) for row in mask.tolist()]


def _change_of_output(found: Painted) -> list[float]:
    """Of each query, as a share of its length before."""
    before, after = found.before.output, found.after.output
    change = (after - before).norm(dim=-1) / before.norm(dim=-1).clamp(min=1e-9)
    return [_short(share) for share in change.tolist()]


def _sum(steps: Sequence[Step]) -> float:
    """The log-probability of the whole; the least a float32 can say where one step was 0."""
    return _short(sum(math.log(max(step.chosen.probability, 1e-45)) for step in steps))


# Break a part


def broken(checkpoints: Checkpoints, question: Value) -> Value:
    """The translation as it is, and with the mistakes that were switched on."""
    checkpoint, text = sentence(checkpoints, question)
    names = question.get("faults")
    if not isinstance(names, list) or len(names) > len(FAULT_NAMES):
        raise Refused("refused.choice", field="faults", choices=", ".join(FAULT_NAMES))
    names = [one_of({"faults": name}, "faults", list(FAULT_NAMES)) for name in names]
    faults = [FAULT_NAMES[name] for name in dict.fromkeys(names)]
    found = experiments.break_with(checkpoint, text, faults, explain=True)
    return {
        **_about(checkpoint, text),
        "faults": names,
        "source": found.right.translation.source_pieces,
        "right": _side(found.right),
        "wrong": _side(found.wrong),
        "change": _short(found.change),
        "layers": [[_layer(each) for each in side] for side in found.layers],
    }


def _side(path: Path) -> Value:
    attention = path.translation.attention
    assert attention is not None, "follow with explain=True"
    return {
        "text": path.translation.text,
        "pieces": path.translation.target_pieces,
        "ended": path.translation.ended,
        "weights": {kind: _mean_of_heads(attention[kind]) for kind in KINDS},
    }


def _layer(layer: Layer) -> Value:
    return {"size": _short(layer.size), "alike": _short(layer.alike)}


def _mean_of_heads(weights: Float[Tensor, "L H T S"]) -> dict[str, Any]:
    return packed(weights.mean(1))


# Positions


def waves(checkpoints: Checkpoints, question: Value) -> Value:
    """The table of positions for the model's width, and the products of its rows."""
    checkpoint = checkpoints[one_of(question, "pair", list(checkpoints))]
    found = experiments.positions(LENGTH, checkpoint.config.d_model)
    diagonals = [found.products.diagonal(distance) for distance in range(LENGTH)]
    most = found.products.abs().max().item()
    return {
        "pair": checkpoint.pair,
        "table": packed((found.table + 1) / 2),  # from -1 to 1
        "products": packed((found.products / most + 1) / 2),  # from -most to most
        "most": _short(most),
        "spread": _short(max((each.max() - each.min()).item() for each in diagonals)),
        "by_distance": [_short(each.mean().item()) for each in diagonals],
        "wavelengths": [_short(length) for length in found.wavelengths[::2]],
    }


def shuffled(checkpoints: Checkpoints, question: Value) -> Value:
    """The sentence and its pieces in another order, read without positions and with them."""
    checkpoint, text = sentence(checkpoints, question)
    order = one_of(question, "order", ORDERS)
    seed = whole(question, "seed", SEEDS)
    ids = encode(checkpoint, [text])[0]
    places = None if order == "random" else [*range(len(ids) - 1)][::-1] + [len(ids) - 1]
    without, with_ = (
        experiments.shuffle(checkpoint, text, places, positions=positions, seed=seed)
        for positions in (False, True)
    )
    return {
        **_about(checkpoint, text),
        "order": without.order,
        "pieces": without.before.translation.source_pieces,
        "off": _reading(without),
        "on": _reading(with_),
    }


def _reading(found: Shuffled) -> Value:
    return {
        "before": found.before.translation.text,
        "after": found.after.translation.text,
        "difference": _short(found.difference),
        "weights": {
            "before": _mean_of_heads(found.weights_before),
            "after": _mean_of_heads(found.weights_after),
        },
    }


# All of them


def _about(checkpoint: Checkpoint, text: str) -> Value:
    languages = {
        side: {"zh": "zh-CN"}.get(code, code)
        for side, code in (("source", checkpoint.source), ("target", checkpoint.target))
    }
    return {"pair": checkpoint.pair, "text": text, "languages": languages}


def _short(number: float) -> float:
    """To four digits: what is shown has no more."""
    return float(f"{number:.4g}")


VIEWS: dict[str, Callable[[Checkpoints, Value], Value]] = {
    "masks": painted, "faults": broken, "positions": waves, "shuffle": shuffled,
}  # fmt: skip
