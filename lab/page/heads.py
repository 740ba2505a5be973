"""The Heads tab: the translation without some heads, and how much each of them matters."""

import time
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from lab import heads
from lab.heads import Head, Importance, heads_of, importance, switch_off, without
from lab.model import Checkpoint
from lab.page.questions import Refused, one_of, sentence, whole
from lab.page.view import Value, answers, drawing, packed
from lab.steps import Path as Steps
from lab.steps import follow, read_back
from lab.translation import encode

MAX_SENTENCES = 20
SLICE = 0.6  # seconds: then the table lets others ask the model before it goes on
RULES = {  # of heads.label, and what each reads in a head's habits
    "sink": ("sink", heads.SINK),
    "previous token": ("previous", heads.PREVIOUS),
    "alignment": ("alignment", heads.ALIGNMENT),
    "broad": ("breadth", heads.BREADTH),
}
CAPTIONS = [
    "A man in a blue shirt is standing on a ladder.",
    "Two dogs are playing in the snow.",
    "A little girl is climbing into a wooden playhouse.",
    "The young woman is reading a book on a bench.",
    "Three people are sitting at a table outside.",
    "A boy in a red jacket jumps over a puddle.",
    "An old man plays the guitar on the street.",
    "A brown horse runs across a green field.",
    "Several children are swimming in a lake.",
    "A woman with a black hat is holding an umbrella.",
    "The cyclist rides down a steep hill.",
    "People are walking past a shop in the city.",
]
SENTENCES = {  # what heads are measured on, unless the visitor brings others
    "en-de": CAPTIONS,
    "en-fr": CAPTIONS,
    "en-zh": [
        "Where is the nearest hospital?",
        "I have never been to Paris.",
        "She is reading a letter from her friend.",
        "What time does the train leave?",
        "He doesn't want to go to school today.",
        "The weather is very good this morning.",
        "My father works in a big company.",
        "Please close the door behind you.",
        "I think you should see a doctor.",
        "They lived in this house for ten years.",
        "Can you help me with my homework?",
        "Tom bought a new car last week.",
    ],
}


def build(checkpoints: Mapping[str, Checkpoint], folder: Path | None = None) -> None:
    """Put the tab's two drawings and their events into the Blocks around it; the first checkpoint
    is the visitor's own where a `folder` is given."""
    pairs = list(checkpoints)
    sentences = defaults(checkpoints, own=pairs[0] if folder else None)
    view = drawing("heads", {}, pairs=pairs, example=next(iter(checkpoints[pairs[0]].examples), ""))
    # an answer that came late asks the next question at once, while its own event still ends
    answers(view, switching(checkpoints), trigger_mode="multiple")
    table = drawing(
        "importance",
        {},
        pairs=pairs,
        sentences=sentences,
        limit=MAX_SENTENCES,
        rules=[{"name": name, "reads": reads, "least": n} for name, (reads, n) in RULES.items()],
    )
    answers(table, measuring(checkpoints), trigger_mode="multiple")


def defaults(checkpoints: Mapping[str, Checkpoint], own: str | None = None) -> dict[str, list[str]]:
    """What to measure on, by pair: a model of one's own was trained on sentences of another kind,
    and brings examples of them."""
    return {
        pair: SENTENCES[pair] if pair in SENTENCES and pair != own else list(checkpoint.examples)
        for pair, checkpoint in checkpoints.items()
    }


# Some heads off


def switching(checkpoints: Mapping[str, Checkpoint]):
    """Answers {pair, text, off: [[kind, layer, head], …]} with both translations."""

    @lru_cache(maxsize=32)
    def usual(pair: str, text: str) -> Steps:
        return follow(checkpoints[pair], [text], explain=True)[0]

    def answer(question: Value) -> Value:
        checkpoint, text = sentence(checkpoints, question)
        off = _off(checkpoint, question)
        before = usual(checkpoint.pair, text)
        found = switch_off(checkpoint, text, off, before=before, explain=True)
        less, source = without(checkpoint, off), encode(checkpoint, [text])[0]
        attention = before.translation.attention or {}
        return {
            "pair": checkpoint.pair,
            "text": text,
            "off": [list(head) for head in off],
            "layers": checkpoint.config.n_layers,
            "heads": checkpoint.config.n_heads,
            "before": _told(before),
            "after": _told(found.after),
            "change": _short(found.change),
            # of each piece of the translation before: its probability with all heads, and now
            "chances": [
                [_short(usually.chosen.probability), _short(now.chosen.probability)]
                for usually, now in zip(
                    before.steps, read_back(less, source, before.ids, top=1), strict=True
                )
            ],
            "attention": {kind: packed(weights) for kind, weights in attention.items()},
        }

    return answer


def _off(checkpoint: Checkpoint, question: Value) -> list[Head]:
    asked, known = question.get("off"), heads_of(checkpoint)
    if not isinstance(asked, list) or len(asked) > len(known):
        raise Refused("heads.refused")
    off = [head for head in known if list(head) in asked]
    if len(off) != len(asked):  # another model's, something else, or the same one twice
        raise Refused("heads.refused")
    return off


def _told(path: Steps) -> Value:
    translation = path.translation
    return {
        "text": translation.text,
        "pieces": translation.target_pieces,
        "log_probability": _short(translation.log_probability or 0.0),
        "ended": translation.ended,
    }


def _short(number: float) -> float:
    """As many digits as are shown."""
    return float(f"{number:.4g}")


# Every head in turn


def measuring(checkpoints: Mapping[str, Checkpoint]):
    """Answers {pair, sentences: […], done: n} with the table's rows after the first n, as many as
    a slice of time allows: the browser asks until it has all, or its visitor has seen enough."""

    @lru_cache(maxsize=64)
    def table(pair: str, sentences: tuple[str, ...]) -> list[Importance]:
        return []  # filled by whoever asks first

    def answer(question: Value) -> Value:
        checkpoint = checkpoints[one_of(question, "pair", list(checkpoints))]
        sentences = _checked(checkpoints, question)
        wanted = heads_of(checkpoint)
        done = whole(question, "done", below=len(wanted))
        rows = table(checkpoint.pair, sentences)
        if len(rows) <= done:
            until = time.monotonic() + SLICE
            rows += importance(
                checkpoint,
                sentences,
                wanted[len(rows) :],
                progress=lambda n, _: n == 0 or time.monotonic() < until,
            )
        return {
            "pair": checkpoint.pair,
            "n": len(sentences),
            "done": done,
            "total": len(wanted),
            "rows": [_row(row) for row in rows[done:]],
        }

    return answer


def _checked(checkpoints: Mapping[str, Checkpoint], question: Value) -> tuple[str, ...]:
    lines = question.get("sentences")
    if not isinstance(lines, list) or not lines:
        raise Refused("heads.no_sentences", limit=MAX_SENTENCES)
    if len(lines) > MAX_SENTENCES:
        raise Refused("heads.many_sentences", given=len(lines), limit=MAX_SENTENCES)
    for number, line in enumerate(lines, 1):
        try:
            sentence(checkpoints, {"pair": question["pair"], "text": line})
        except Refused as error:
            raise Refused("heads.in_line", line=number, reason=error.message) from error
    return tuple(lines)


def _row(row: Importance) -> dict[str, Any]:
    habits = {
        name: None if value is None else _short(value) for name, value in vars(row.habits).items()
    }
    numbers = {"loss": _short(row.loss), "changed": _short(row.changed)}
    return {**row.head._asdict(), **numbers, "label": row.label, "habits": habits}
