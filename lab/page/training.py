"""The Training tab: what a reference asks of the model, and a small model that learns."""

from collections.abc import Mapping
from functools import lru_cache, partial

import gradio as gr

from lab import learning
from lab.learning import Place, learn
from lab.model import Checkpoint
from lab.page.questions import MAX_CHARACTERS, MAX_PIECES, Refused, sentence, whole
from lab.page.view import Value, answers, drawing
from lab.page.words import label
from lab.steps import follow

Checkpoints = Mapping[str, Checkpoint]

# As right as what the model writes by itself, in other words: place by place nothing agrees.
REFERENCES = {
    "en-de": {
        "A man in a blue shirt is standing on a ladder.": (
            "Auf einer Leiter steht ein Mann in einem blauen Hemd."
        ),
    },
    "en-fr": {
        "A man in a blue shirt is standing on a ladder.": (
            "Sur une échelle se tient un homme en chemise bleue."
        ),
    },
    "en-zh": {"I don't know what to do.": "该做什么，我不知道。"},
}
# Few enough that a class soon has every run: each of them takes a second.
WIDTHS = (16, 32, 64)
WARM_UPS = (1, 3, 10, 30, 100, 300)
SMOOTHINGS = (0, 0.1, 0.3, 0.6, 1)


def build(checkpoints: Checkpoints, _: object = None) -> None:
    """Put the tab's drawings and their events into the Blocks around it."""
    pairs = list(checkpoints)
    first = checkpoints[pairs[0]]
    with gr.Tabs(overflow_behavior="wrap"):
        with gr.Tab(label("training.tabs.teacher"), id="training-teacher"):
            view = drawing(
                "teacher",
                {},
                scripts=["maps", "curves"],
                pairs=pairs,
                example=next(iter(first.examples), ""),
                references=REFERENCES,
                vocabulary={pair: each.config.vocab_size for pair, each in checkpoints.items()},
            )
            answers(view, partial(taught, checkpoints))
        with gr.Tab(label("training.tabs.learner"), id="training-learner"):
            view = drawing(
                "learner",
                {},
                scripts=["maps", "curves"],
                widths=WIDTHS,
                warm_ups=WARM_UPS,
                smoothings=SMOOTHINGS,
                steps=learning.STEPS,
            )
            answers(view, learned, concurrency_id="learner")  # nobody's translation waits for it


def taught(checkpoints: Checkpoints, question: Value) -> Value:
    """Each piece of a reference, or of the model's own translation where none is given."""
    checkpoint, text = sentence(checkpoints, question)
    reference = question.get("reference")
    if not isinstance(reference, str) or not reference.strip():
        reference = follow(checkpoint, [text])[0].translation.text
    if len(reference) > MAX_CHARACTERS:
        raise Refused("refused.long_text", characters=len(reference), limit=MAX_CHARACTERS)
    if (pieces := len(checkpoint.tokenizer.encode(reference))) > MAX_PIECES:
        raise Refused("refused.many_tokens", pieces=pieces, limit=MAX_PIECES)
    return {
        "pair": checkpoint.pair,
        "text": text,
        "reference": reference,
        "language": {"zh": "zh-CN"}.get(checkpoint.target, checkpoint.target),
        "places": [_place(each) for each in learning.taught(checkpoint, text, reference)],
    }


def _place(place: Place) -> Value:
    return {
        name: float(f"{value:.4g}") if isinstance(value, float) else value
        for name, value in vars(place).items()
    }


def learned(question: Value) -> Value:
    """A run of the small model; each setting is a place in its list."""
    at = {
        name: whole(question, name, len(choices))
        for name, choices in (("width", WIDTHS), ("warmup", WARM_UPS), ("smoothing", SMOOTHINGS))
    }
    at["shifted"] = question.get("shifted") is not False
    return {**at, **_run(**at)}


@lru_cache(maxsize=len(WIDTHS) * len(WARM_UPS) * len(SMOOTHINGS) * 2)  # all there are
def _run(width: int, warmup: int, smoothing: int, shifted: bool) -> Value:
    found = learn(
        d_model=WIDTHS[width],
        warmup=WARM_UPS[warmup],
        smoothing=SMOOTHINGS[smoothing],
        shifted=shifted,
    )
    return {**vars(found), "losses": [float(f"{loss:.4g}") for loss in found.losses]}
