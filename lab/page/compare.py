"""The Compare tab: one sentence through the moments of a training run, or through two models."""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch

from lab.model import Checkpoint, parameter_count, shipped
from lab.page.questions import one_of, sentence
from lab.page.view import Value, answers, drawing, message, packed
from lab.page.words import say
from lab.recording import KINDS
from lab.snapshots import SHIPPED, snapshots
from lab.steps import follow
from lab.tokens import BOS_ID, pad
from lab.translation import MAX_LEN, encode, finished

SCORES = ("validation_loss", "bleu", "chrf")
WARM_UP = 3  # tokens: a GPU's first ones take long for reasons that are not the model's


@dataclass(frozen=True)
class Version:
    """A model that can be compared with another of its pair; `load` it to have it at work."""

    key: str  # what a question calls it: "shipped:en-de@cpu", or "shipped:500" in a run
    name: Value  # a message
    pair: str
    scores: dict[str, float]  # on its validation split, where they are known
    step: int | None  # of its run, for a moment of one
    load: Callable[[], Checkpoint]


@dataclass(frozen=True)
class Run:
    """A training run, moment by moment."""

    key: str
    name: Value
    moments: list[Version]


def build(checkpoints: Mapping[str, Checkpoint], folder: Path | None = None) -> None:
    """Put the tab's drawing and its event into the Blocks around it; `folder` is that of a
    checkpoint that was trained here, with the snapshots of its run if it has some."""
    runs = find_runs(checkpoints, folder)
    versions = find_versions(checkpoints, folder) + [each for run in runs for each in run.moments]
    pairs = [pair for pair in checkpoints if sum(each.pair == pair for each in versions) > 1]
    if not pairs:
        drawing(
            "compare", message("compare.alone"), scripts=["panel"], pairs=[], runs=[], versions=[]
        )
        return
    of = checkpoints[pairs[0]]
    view = drawing(
        "compare",
        {},
        scripts=["panel"],
        pairs=pairs,
        example=next(iter(of.examples), ""),
        runs=[_listed(run, run.moments[0].pair) for run in runs],
        versions=[_listed(each, each.pair) for each in versions],
    )
    answers(view, comparing(pairs, runs, versions), trigger_mode="multiple")


def _listed(each: Run | Version, pair: str) -> Value:
    return {"key": each.key, "name": each.name, "pair": pair}


# What there is to compare


def find_runs(checkpoints: Mapping[str, Checkpoint], folder: Path | None) -> list[Run]:
    """The runs that have kept moments, the visitor's own first."""
    device = next(next(iter(checkpoints.values())).model.parameters()).device
    runs = []
    for place, key in ((folder, "own"), (SHIPPED, "shipped")):
        found = snapshots(place) if place else []
        found = [each for each in found if each.pair in checkpoints]
        if len(found) < 2:
            continue
        moments = [
            Version(
                key=f"{key}:{each.step}",
                name=say("compare.moment", run=say(f"compare.run.{key}"), step=each.step),
                pair=each.pair,
                scores={name: each.scores[name] for name in SCORES},
                step=each.step,
                load=lru_cache(partial(each.load, device)),
            )
            for each in found
        ]
        runs.append(Run(key, say(f"compare.run.{key}"), moments))
    return runs


def find_versions(checkpoints: Mapping[str, Checkpoint], folder: Path | None) -> list[Version]:
    """Whole models: the visitor's own, the shipped ones; each on CPU too where the page has a
    GPU."""
    own = next(iter(checkpoints)) if folder else None  # see server.load
    places = {f"own:{own}": (own, folder)} if own and folder else {}
    places |= {f"shipped:{pair}": (pair, place) for pair, place in shipped().items()}
    found = []
    for key, (pair, place) in places.items():
        if pair not in checkpoints:
            continue
        at_work = checkpoints[pair]
        usual = next(at_work.model.parameters()).device
        for device in dict.fromkeys([usual, torch.device("cpu")]):
            ready = device == usual and (pair != own or place == folder)
            load = partial(Checkpoint.load, place, device) if not ready else lambda at=at_work: at
            name = say(f"compare.model.{key.split(':')[0]}", folder=place.name, on=_device(device))
            scores = _scores(place)
            found.append(Version(f"{key}@{device.type}", name, pair, scores, None, lru_cache(load)))
    return found


def _scores(folder: Path) -> dict[str, float]:
    """Of the weights that were kept: those with the best chrF."""
    try:
        history = json.loads((folder / "history.json").read_text(encoding="utf-8"))
        best = max(history, key=lambda entry: entry["chrf"])
        return {name: float(best[name]) for name in SCORES}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _device(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()


# Answers


def comparing(pairs: list[str], runs: Iterable[Run], versions: Iterable[Version]):
    """Answers {pair, text, kind, run} or {pair, text, kind, two: [key, key]}."""
    run_of = {run.key: run for run in runs}
    version_of = {version.key: version for version in versions}

    @lru_cache(maxsize=64)
    def moments(run: str, text: str, kind: str) -> list[Value]:
        """All read the translation of the last one: the same rows, so that one sees them change."""
        at = run_of[run].moments
        last = at[-1].load()
        ids = follow(last, [text])[0].ids
        return [look(moment, text, kind, ids) for moment in at]

    @lru_cache(maxsize=64)
    def alone(key: str, text: str, kind: str) -> Value:
        return look(version_of[key], text, kind)

    def answer(question: Value) -> Value:
        pair = one_of(question, "pair", pairs)
        kind = one_of(question, "kind", list(KINDS))
        here = {key: each for key, each in version_of.items() if each.pair == pair}
        if "run" in question:
            known = [key for key, run in run_of.items() if run.moments[0].pair == pair]
            run = one_of(question, "run", known)
            _, text = sentence({pair: run_of[run].moments[-1].load()}, question)
            looks = moments(run, text, kind)
        else:
            two = question.get("two")
            sides = dict(zip("AB", two, strict=False)) if isinstance(two, list) else {}
            keys = [one_of(sides, side, list(here)) for side in "AB"]
            for key in keys:  # each reads with a tokenizer of its own
                sentence({pair: here[key].load()}, question)
            text = question["text"]
            looks = [alone(key, text, kind) for key in keys]
        asked = {name: question[name] for name in ("run", "two") if name in question}
        return {"pair": pair, "text": text, "kind": kind, **asked, "looks": looks}

    return answer


def look(version: Version, text: str, kind: str, ids: list[int] | None = None) -> dict[str, Any]:
    """What a model writes, how fast, and where it looks as it reads that, or `ids`."""
    checkpoint = version.load()
    device = next(checkpoint.model.parameters()).device
    encoded = encode(checkpoint, [text])
    # Early moments find no end.
    most = MAX_LEN if version.step is None else min(MAX_LEN, 2 * len(encoded[0]) + 10)
    if device.type == "cuda":
        follow(checkpoint, [text], max_len=WARM_UP)
    start = time.perf_counter()
    path = follow(checkpoint, [text], max_len=most)[0]
    seconds = time.perf_counter() - start
    source, target = (pad([row]).to(device) for row in (encoded[0], [BOS_ID, *(ids or path.ids)]))
    read = finished(checkpoint, [text], source, target, explain=True)[0]
    attention = (read.attention or {})[kind]
    return {
        "key": version.key,
        "step": version.step,
        "scores": {name: float(f"{score:.3f}") for name, score in version.scores.items()},
        "text": path.translation.text,
        "ended": path.translation.ended,
        "source": read.source_pieces,
        "target": read.target_pieces,
        "log_probability": float(f"{read.log_probability:.4g}"),
        "parameters": parameter_count(checkpoint.model),
        "device": _device(device),
        "ms": float(f"{1000 * seconds / len(path.ids):.2g}"),
        "layers": attention.size(0),
        "heads": attention.size(1),
        "attention": packed(attention),
    }
