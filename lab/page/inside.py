"""The Look inside tab: the journey of one token through one layer, with the real numbers."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import torch

from lab import parts
from lab.inside import STEPS, Journey, look_inside
from lab.model import Checkpoint
from lab.page.mathml import mathml
from lab.page.questions import one_of, prefix, sentence, whole
from lab.page.view import Value, answers, drawing
from lab.recording import KINDS
from lab.tokens import BOS_ID, EOS_ID
from lab.translation import MAX_LEN

TRANSLATIONS = 256  # kept, so that the next step of a journey needs no search
DIGITS = 4  # of the numbers sent: one more than is shown


def build(checkpoints: Mapping[str, Checkpoint], _: object = None) -> None:
    """Put the tab's drawing and its event into the Blocks around it."""
    pairs = list(checkpoints)
    view = drawing(
        "inside",
        {},
        scripts=("inside_layer", "inside_pictures", "inside_sentences"),
        pairs=pairs,
        example=next(iter(checkpoints[pairs[0]].examples), ""),
        formulas={key: mathml(formula) for key, (formula, *_) in STEPS.items()},
    )
    answers(view, answerer(checkpoints))


def answerer(checkpoints: Mapping[str, Checkpoint]) -> Callable[[Value], Value]:
    """Answers questions {pair, text, ids, kind, layer, head, query, key} by journeys.

    The target are the `ids`, else the model's own greedy translation. Of the places all may be
    missing: then it is the cross-attention of the last layer, its first head, a content word, and
    the key it looks at most. A place beyond the last one is the last: sentences differ in length.
    """

    @lru_cache(TRANSLATIONS)
    def translated(pair: str, text: str, written: tuple[int, ...]) -> tuple[list[int], list[int]]:
        """The ids that the encoder reads, and those of the translation, <s> first."""
        checkpoint = checkpoints[pair]
        source = checkpoint.tokenizer.encode(text)
        if written:
            return source, [BOS_ID, *written]
        max_len = min(MAX_LEN, checkpoint.config.max_len)
        batch = torch.tensor([source], device=_device(checkpoint))
        target = parts.greedy_decode(checkpoint.model, batch, BOS_ID, EOS_ID, max_len)[0].tolist()
        return source, target[: target.index(EOS_ID) + 1] if EOS_ID in target else target

    def answer(question: Value) -> Value:
        checkpoint, text = sentence(checkpoints, question)
        source, target = translated(question["pair"], text, prefix(checkpoint, question.get("ids")))
        read = target[:-1]  # what is written last is read no more
        kind = one_of({"kind": "cross"} | question, "kind", list(KINDS))
        asking, answering = {
            "encoder": (source, source), "decoder": (read, read), "cross": (read, source),
        }[kind]  # fmt: skip
        config = checkpoint.config
        places = {
            "layer": _place(question, "layer", config.n_layers, config.n_layers - 1),
            "head": _place(question, "head", config.n_heads, 0),
            "query": _place(question, "query", len(asking), _content(checkpoint, asking)),
        }
        batches = [torch.tensor([ids], device=_device(checkpoint)) for ids in (source, read)]

        def look(key: int) -> Journey:
            return look_inside(checkpoint.model, *batches, kind=kind, key=key, **places)

        key = _place(question, "key", len(answering), -1)
        journey = look(max(key, 0))
        if key < 0 and (most := _most_looked_at(journey)):
            journey = look(most)
        pieces, language = checkpoint.tokenizer.pieces, checkpoint.target
        return {
            "pair": question["pair"],
            "text": text,
            "translation": checkpoint.tokenizer.decode(target),
            "languages": {
                "source": checkpoint.source,
                "target": {"zh": "zh-CN"}.get(language, language),
            },
            "source": pieces(source),
            "written": pieces(target[1:]),
            "layers": config.n_layers,
            "sizes": {
                "B": 1, "S": len(source), "T": len(read), "D": config.d_model, "F": config.d_ff,
                "H": config.n_heads, "d_k": config.d_model // config.n_heads, "1": 1,
            },
            **rounded(journey.data()),
        }  # fmt: skip

    return answer


def rounded(value: Any) -> Any:
    """The same with DIGITS significant digits: half the bytes, and all that is ever shown."""
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    if isinstance(value, list):
        return [rounded(each) for each in value]
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    return value


def _place(question: Value, field: str, count: int, usual: int) -> int:
    if question.get(field) is None:
        return usual
    return min(whole(question, field, below=1_000_000), count - 1)


def _content(checkpoint: Checkpoint, ids: list[int]) -> int:
    """The place of a content word, as a rule: of the piece with the most letters."""
    pieces = checkpoint.tokenizer.pieces(ids)
    letters = [
        -1 if token in (BOS_ID, EOS_ID) else sum(map(str.isalpha, piece))
        for token, piece in zip(ids, pieces, strict=True)
    ]
    return letters.index(max(letters))


def _most_looked_at(journey: Journey) -> int:
    weights = next(step.value for step in journey.steps if step.key == "weights")
    return int(weights.argmax())


def _device(checkpoint: Checkpoint) -> torch.device:
    return next(checkpoint.model.parameters()).device
