"""A learner's parts beside stock's, each given what stock's is given in the trained model.

So the first part that differs is the first that is wrong: what comes after it is not judged by what
it was fed. Both sides compute in float64, where a difference is no rounding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from autograder.page.apart import Apart, Ended, Failed
from autograder.page.tracing import Call, Seen, Trace
from autograder.page.writing import SEARCHES, arguments, explained, written
from lab import model, parts, stock
from lab.course import PARTS
from lab.model import Checkpoint
from lab.translation import encode

TOLERANCE = 1e-4  # of the largest number: sines of float32 angles differ by half of it
SECONDS = 5  # for a part; it takes a fraction of one
FAR = 1e8  # a score of -1e9 hides as well as one of -inf does
ROWS, COLUMNS = 64, 128  # of a heat map


@dataclass(frozen=True)
class Written:
    """A sentence as a model writes it."""

    ids: list[int]
    pieces: list[str]
    text: str
    ended: bool
    log_probability: float
    attention: dict[str, Tensor] = field(repr=False)  # by kind: (L, H, T, S)


@dataclass(frozen=True)
class Stock:
    """What stock's parts do with a sentence: the translation, and each call of a part."""

    source: Tensor
    pieces: list[str]
    written: Written
    trace: Trace
    calls: dict[str, list[Call]]
    max_len: int


@dataclass(frozen=True)
class Difference:
    """Where a part first gives something else than stock's: `most` is the largest difference, and
    `yours` and `stocks` the matrix that it stands in."""

    call: Call
    place: str  # within the part; "" for what it gives itself
    name: str
    shape: list[int]
    most: float
    at: list[int]
    stocks: Tensor
    yours: Tensor
    corner: tuple[int, int] = (0, 0)  # where the matrix begins in a larger one
    other_shape: list[int] | None = None  # of the learner's, where it is another
    then: Difference | None = None  # and the first that differs where shapes are the same


@dataclass
class Verdict:
    """What came of a part on this sentence: "same", "differs", "raises", "timeout", "crashed"."""

    state: str
    most: float = 0.0
    calls: int = 0
    words: str = ""
    where: str = ""
    changes: bool = False  # its input, in place
    first: int | None = None  # the first of its calls that is not as stock's
    others: dict[str, Any] = field(default_factory=dict)

    @property
    def runs(self) -> bool:
        return self.state in ("same", "differs")


def of_stock(checkpoint: Checkpoint, text: str, search: str, max_len: int) -> Stock:
    """Translate with stock's parts and watch all of them."""
    source = torch.tensor(encode(checkpoint, [text]))
    with parts.using({}, alone=True):
        translator = _model(checkpoint)
        ids = written(translator, source, search, max_len)
        found = _written(checkpoint, ids, explained(translator, source, ids), source)
    trace = Trace()
    with parts.using(trace.watched({part: getattr(stock, part) for part in PARTS}), alone=True):
        watched = _model(checkpoint).double()
        trace.hook(watched)
        with torch.no_grad():
            watched(source, ids[:, :-1])
    calls: dict[str, list[Call]] = {}
    for call in trace.calls:
        calls.setdefault(call.part, []).append(call)
    decode = Call(SEARCHES[search], "", [source, *arguments(search, max_len)], {}, None)
    decode.gave = (ids,)
    calls[decode.part] = [decode]
    pieces = checkpoint.tokenizer.pieces(source[0].tolist())
    return Stock(source, pieces, found, trace, calls, max_len)


def _model(checkpoint: Checkpoint) -> Any:
    built = model.build(checkpoint.config)
    built.load_state_dict(checkpoint.model.state_dict())
    return built.eval()


def compare(apart: Apart, found: Stock, part: str) -> Verdict:
    """Give a part of the learner's what stock's was given, call by call."""
    calls = found.calls[part]
    try:
        answers = apart.ask("compare", SECONDS, part=part, calls=[_sent(call) for call in calls])
    except Failed as error:
        return Verdict("raises", words=error.words, where=error.where, first=0)
    except Ended as error:
        return Verdict(error.state, first=0)
    verdict = Verdict("same", calls=len(calls))
    answers = answers if isinstance(answers, list) else []
    for number, call in enumerate(calls):
        answer = answers[number] if number < len(answers) else None
        if not isinstance(answer, dict):
            return Verdict("crashed", first=number)
        if "raised" in answer:
            error = Failed(answer["raised"])
            return Verdict("raises", words=error.words, where=error.where, first=number)
        gave = answer.get("gave")
        verdict.changes |= answer.get("changed") is True
        most = _gives(call, gave if isinstance(gave, list) else [gave])
        verdict.most = max(verdict.most, most)
        if (most > TOLERANCE or verdict.changes) and verdict.first is None:
            verdict.state, verdict.first = "differs", number
    return verdict


def _sent(call: Call) -> dict[str, Any]:
    made = None if call.made is None else [call.made[0], call.made[1]]
    return {"place": call.place, "made": made, "args": call.args, "kwargs": call.kwargs}


def _gives(call: Call, gave: list[Any]) -> float:
    """The largest difference among what a call gives, against the largest number there."""
    if len(gave) != len(call.gave):
        return FAR
    return max(map(distance, call.gave, gave), default=0.0)


def distance(one: Any, other: Any) -> float:
    """How far apart, in parts of the largest number (of at least 1)."""
    if not isinstance(one, Tensor) or not _is_tensor(other) or one.shape != other.shape:
        return FAR
    if one.numel() == 0:
        return 0.0
    size = _bounded(one).abs()
    largest = size.where(size < FAR / 10, 0).max().clamp(min=1)
    return float(_apart(one, other).max() / largest)


def _apart(one: Tensor, other: Tensor) -> Tensor:
    """|one - other|; masks count as 0 and 1, and -1e9 as -inf."""
    return (_bounded(one) - _bounded(other)).abs().nan_to_num(nan=FAR, posinf=FAR).clamp(max=FAR)


def _bounded(tensor: Tensor) -> Tensor:
    return tensor.double().clamp(-FAR, FAR)


def first(found: Stock, verdicts: dict[str, Verdict]) -> tuple[str, Call] | None:
    """The part that is the first not to do what stock's does, and its call."""
    wrong = [
        (found.calls[part][verdict.first], part)
        for part, verdict in verdicts.items()
        if verdict.first is not None
    ]
    if not wrong:
        return None
    order = {id(call): number for number, call in enumerate(found.trace.calls)}
    last = len(order)  # decoding comes after all that the model does
    call, part = min(wrong, key=lambda each: order.get(id(each[0]), last))
    return part, call


def difference(apart: Apart, found: Stock, part: str, call: Call) -> Difference | None:
    """The first tensor that differs in a call, and where. None where none can be had."""
    pairs: Iterable[tuple[Seen, Any]]
    try:
        if part in SEARCHES.values():
            answers = apart.ask("compare", SECONDS, part=part, calls=[_sent(call)])
            pairs = [(Seen("", "output", call.gave[0]), answers[0]["gave"][0])]
        else:
            theirs = apart.ask("inside", part=part, call=_sent(call))
            pairs = _matched(found.trace.inside(call), theirs)
        wrong = [each for each in pairs if distance(each[0].value, each[1]) > TOLERANCE]
        if not wrong:
            return None
        first = _difference(call, *wrong[0])
        alike = (each for each in wrong if _same_shape(*each))
        then = None if first.other_shape is None else next(alike, None)
        return replace(first, then=then and _difference(call, *then))
    except (Failed, Ended, LookupError, TypeError, ValueError):
        return None


def _same_shape(ours: Seen, other: Any) -> bool:
    return _is_tensor(other) and other.shape == ours.value.shape


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor) and value.device.type == "cpu"  # "meta" has no numbers


def _matched(ours: Iterable[Seen], theirs: Any) -> Iterator[tuple[Seen, Any]]:
    """Tensors of the same name, the first with the first, the second with the second."""
    waiting: dict[tuple[str, str], list[Any]] = {}
    for place, name, value in theirs:
        waiting.setdefault((str(place), str(name)), []).append(value)
    for each in ours:
        if of_name := waiting.get((each.place, each.name)):
            yield each, of_name.pop(0)


def _difference(call: Call, ours: Seen, other: Any) -> Difference:
    """The matrix around the largest difference: its rows and columns are the last two axes."""
    shape = list(ours.value.shape)
    if not _same_shape(ours, other):
        theirs = list(other.shape) if isinstance(other, Tensor) else []
        nothing = torch.zeros(0, 0)
        return Difference(call, ours.place, ours.name, shape, FAR, [], nothing, nothing,
                          other_shape=theirs)  # fmt: skip
    apart = _apart(ours.value, other)
    at = [int(each) for each in torch.unravel_index(apart.argmax(), apart.shape)]
    stocks, yours = (_matrix(_bounded(each), at) for each in (ours.value, other.nan_to_num(FAR)))
    row, column = ([0, 0] + at)[-2:]
    top, left = _corner(row, ROWS, stocks.size(0)), _corner(column, COLUMNS, stocks.size(1))
    window = slice(top, top + ROWS), slice(left, left + COLUMNS)
    return Difference(call, ours.place, ours.name, shape, float(apart.max()), at,
                      stocks[window], yours[window], (top, left))  # fmt: skip


def _matrix(tensor: Tensor, at: Sequence[int]) -> Tensor:
    while tensor.dim() > 2:
        tensor, at = tensor[at[0]], at[1:]
    return tensor.reshape(-1, tensor.size(-1)) if tensor.dim() else tensor.reshape(1, 1)


def _corner(at: int, window: int, size: int) -> int:
    return max(0, min(at - window // 2, size - window))


def write(
    apart: Apart, checkpoint: Checkpoint, found: Stock, on: Sequence[str], search: str
) -> Written:
    """The sentence by the model of these parts. Failed or Ended where they give none."""
    answer = apart.ask("write", seconds=20, on=list(on), source=found.source, search=search,
                       max_len=found.max_len)  # fmt: skip
    ids, gain, attention = answer if isinstance(answer, list) and len(answer) == 3 else [None] * 3
    vocabulary = checkpoint.config.vocab_size
    if not isinstance(ids, Tensor) or not _are_ids(ids, found.max_len, vocabulary):
        raise Failed({"words": "What the search gives are no ids of tokens: (1, T), int64."})
    size, target, read = checkpoint.config, ids.size(1) - 1, found.source.size(1)
    shapes = {"encoder": (read, read), "decoder": (target, target), "cross": (target, read)}
    fits = isinstance(attention, dict) and all(
        _is_tensor(attention.get(kind))
        and attention[kind].shape == (size.n_layers, size.n_heads, *shape)
        for kind, shape in shapes.items()
    )
    if not fits or not isinstance(gain, float):
        raise Failed({"words": "The attention of these parts has another shape than (B, H, T, S)."})
    return _written(checkpoint, ids, (gain, attention), found.source)


def _are_ids(ids: Tensor, max_len: int, vocabulary: int) -> bool:
    return (
        _is_tensor(ids)
        and ids.dtype == torch.int64
        and ids.dim() == 2
        and ids.size(0) == 1
        and 2 <= ids.size(1) <= max_len
        and bool(((ids >= 0) & (ids < vocabulary)).all())
    )


def _written(checkpoint: Checkpoint, ids: Tensor, why: Any, source: Tensor) -> Written:
    gain, attention = why
    read = ids[0, 1:].tolist()
    return Written(
        read, checkpoint.tokenizer.pieces(read), checkpoint.tokenizer.decode(read),
        bool((ids == 2).any()), gain,
        {kind: each.float().nan_to_num(0, 0, 0) for kind, each in attention.items()},
    )  # fmt: skip


def weights(apart: Apart, checkpoint: Checkpoint) -> None:
    """Give a learner's process the trained model's weights."""
    state = {name: each.cpu() for name, each in checkpoint.model.state_dict().items()}
    apart.keep("weights", state=state, config=asdict(checkpoint.config))
