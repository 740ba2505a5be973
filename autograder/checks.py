"""The language the suites are written in.

    @check("softmax", points=2)
    def test_rows_sum_to_one(work, draw):
        \"\"\"The weights sum to 1 over the axis that was asked for.\"\"\"
        weights = work.softmax(draw(T, S), dim=0)

        same(weights.sum(0), torch.ones(S), "softmax(scores, dim=0) sums to 1 over axis 0")

The docstring is what the learner sees beside ✓ or ✗. A statement (`same`, `holds`, `refuses`) takes
what the part gave, what it should have given, and the law behind it in a sentence; what the part
gave is kept, for the diagnosis compares it with what known mistakes give.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

# The sizes of everything the suites draw. No two are equal, so that a swapped axis shows itself,
# and a size in an error message can be given its letter back.
B, H, K, T, DV, S, D_FF, V = 2, 3, 4, 5, 6, 7, 9, 11
D = H * K  # 12
LAYERS = 3
PAD = 1  # not the default, which is 0
LETTERS = {B: "B", H: "H", K: "d_k", T: "T", DV: "d_v", S: "S", D_FF: "d_ff", V: "V", D: "D"}
# How the signatures of the parts spell them, in shapes and among the arguments.
SPELLED = {
    "K": "d_k", "Dv": "d_v", "d_model": "D", "n_heads": "H", "vocab_size": "V",
    **{each: each for each in LETTERS.values()},
}  # fmt: skip

# What tens of roundings in a dtype may add up to. Of float64 less is asked than it gives: an honest
# part may hold a constant such as √d_k in float32.
TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 1e-1}


@dataclass(frozen=True)
class Check:
    """One test of a suite: what it asks, of which part, for how many points."""

    part: str
    points: int
    name: str
    sentence: str
    function: Callable[[Any, Any], None] = field(compare=False, repr=False)
    hidden: bool = False  # kept from learners where a teacher hands out a bundle


class Broken(AssertionError):
    """A part broke a law."""

    def __init__(self, law: str, seen: str = ""):
        super().__init__(f"{law} — {seen}" if seen else law)
        self.law, self.seen = law, seen


def check(part: str, points: int, hidden: bool = False) -> Callable[[Callable], Callable]:
    """Mark a test of a suite. Its two arguments are `work` (the parts) and `draw` (inputs)."""

    def mark(function: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
        sentence = " ".join((function.__doc__ or "").split())
        name = function.__name__.removeprefix("test_")
        function.check = Check(part, points, name, sentence, function, hidden)  # type: ignore[attr-defined]
        return function

    return mark


# What the part gave, in the order of the statements


_found: ContextVar[list[Any] | None] = ContextVar("found", default=None)


@contextmanager
def keeping_found() -> Iterator[list[Any]]:
    """Everything the statements in this block are given as `found`."""
    found: list[Any] = []
    token = _found.set(found)
    try:
        yield found
    finally:
        _found.reset(token)


def _keep(found: Any) -> None:
    if (kept := _found.get()) is not None:
        kept.append(_detached(found))


def _detached(found: Any) -> Any:
    if isinstance(found, Tensor):
        return found.detach().clone()
    if isinstance(found, (list, tuple)):
        return (
            type(found)(_detached(each) for each in found)
            if type(found) in (list, tuple)
            else found
        )
    return found


# The statements


def same(found: Any, wanted: Any, law: str, tolerance: float | None = None) -> None:
    """`found` equals `wanted`: same kind, shape and numbers, up to rounding.

    Both may be a tensor, a number, a bool, or tuples and lists of them.
    """
    _keep(found)
    _compare(found, wanted, law, tolerance, "")


def holds(truth: Any, law: str, seen: str = "") -> None:
    """A law that is true or not; `seen` says what was seen instead."""
    _keep(bool(truth))
    if not truth:
        raise Broken(law, seen)


def same_with_gradients(
    found: Any, wanted: Any, leaves: Iterable[Tensor], law: str, tolerance: float | None = None
) -> None:
    """Equal results, and for the same random push on them equal gradients in every leaf."""
    same(found, wanted, law, tolerance)
    found, wanted = _tensors(found), _tensors(wanted)
    leaves = list(leaves)
    generator = torch.Generator().manual_seed(1)
    push = [torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x) for x in wanted]
    gradients = gradients_of(found, leaves, push)
    expected = torch.autograd.grad(wanted, leaves, push, allow_unused=True)
    for leaf, ours, theirs in zip(leaves, gradients, expected, strict=True):
        theirs = torch.zeros_like(leaf) if theirs is None else theirs
        same(
            ours,
            theirs,
            f"{law}; the gradients that flow back are the same too",
            tolerance,
        )


def gradients_of(
    found: Any, leaves: Sequence[Tensor], push: Sequence[Tensor] | None = None
) -> list[Tensor]:
    """The gradients of results in leaves; zeros where none arrives. A cut graph breaks a law."""
    found = _tensors(found)
    if not any(x.requires_grad for x in found):
        _keep("no gradient")
        raise Broken(
            "Gradients flow back to the inputs",
            "the result is cut off from its inputs: .detach(), .data, .item() or numpy on the way",
        )
    push = [torch.ones_like(x) for x in found] if push is None else push
    pairs = [(x, p) for x, p in zip(found, push, strict=True) if x.requires_grad]
    outputs, weights = zip(*pairs, strict=True)
    gradients = torch.autograd.grad(outputs, leaves, weights, allow_unused=True)
    return [
        torch.zeros_like(leaf) if gradient is None else gradient
        for leaf, gradient in zip(leaves, gradients, strict=True)
    ]


def refuses(
    call: Callable[[], Any], law: str, *needed: Any, kind: type[Exception] = ValueError
) -> None:
    """The call raises a ValueError whose message has the `needed` values in it."""
    try:
        call()
    except kind as error:
        message = str(error)
    else:
        _keep("no error")
        raise Broken(law, f"no {kind.__name__} was raised")
    _keep(kind.__name__)
    if missing := [str(each) for each in needed if str(each) not in message]:
        raise Broken(law, f"the message {message!r} does not say {' and '.join(missing)}")


# Comparing, with words for the first thing that differs


def _compare(found: Any, wanted: Any, law: str, tolerance: float | None, place: str) -> None:
    if isinstance(wanted, Tensor):
        _compare_tensors(found, wanted, law, tolerance, place)
    elif isinstance(wanted, (list, tuple)):
        kind = "tuple" if isinstance(wanted, tuple) else "list"
        if not isinstance(found, (list, tuple)):
            raise Broken(law, f"{place or 'the result'} is {describe(found)}, not a {kind}")
        if len(found) != len(wanted):
            raise Broken(law, f"{place or 'the result'} has {len(found)} items, not {len(wanted)}")
        for i, (ours, theirs) in enumerate(zip(found, wanted, strict=True)):
            _compare(ours, theirs, law, tolerance, f"{place or 'result'}[{i}]")
    elif isinstance(wanted, float) and isinstance(found, (int, float)):
        if not math.isclose(found, wanted, rel_tol=tolerance or 1e-6, abs_tol=tolerance or 1e-8):
            raise Broken(law, f"{place or 'it'} is {found:.6g}, not {wanted:.6g}")
    elif type(found) is not type(wanted) or found != wanted:
        raise Broken(law, f"{place or 'it'} is {describe(found)}, not {describe(wanted)}")


def _compare_tensors(
    found: Any, wanted: Tensor, law: str, tolerance: float | None, place: str
) -> None:
    place = place or "the result"
    if not isinstance(found, Tensor):
        raise Broken(law, f"{place} is {describe(found)}, not a tensor")
    if found.shape != wanted.shape:
        raise Broken(law, f"{place} has shape {letters(found)}, not {letters(wanted)}")
    if found.dtype != wanted.dtype:
        raise Broken(law, f"{place} is {_name(found.dtype)}, not {_name(wanted.dtype)}")
    if found.device != wanted.device:
        raise Broken(law, f"{place} is on {found.device}, not on {wanted.device}")
    ours, theirs = found.detach(), wanted.detach()
    if not ours.is_floating_point():
        wrong = ours != theirs
    else:
        lost = ours.isnan() & ~theirs.isnan()
        if lost.any():
            where = _first(lost)
            raise Broken(
                law, f"NaN at {_subscript(where)}{_share(lost)}: 0/0, or inf - inf, on the way"
            )
        near = tolerance or TOLERANCE[theirs.dtype]
        wrong = ~torch.isclose(ours.double(), theirs.double(), rtol=near, atol=near)
    if wrong.any():
        where = _first(wrong)
        at = f" at {_subscript(where)}" if where else ""
        raise Broken(
            law,
            f"{place}{at} is {_number(ours[where])}, not {_number(theirs[where])}{_share(wrong)}",
        )


_part: ContextVar[str] = ContextVar("part", default="")


@contextmanager
def speaking_of(part: str) -> Iterator[None]:
    """In this block sizes get the letters that the signature of this part has."""
    token = _part.set(part)
    try:
        yield
    finally:
        _part.reset(token)


def letter(size: int) -> str | None:
    """The letter of a size, if the part that is spoken of has it."""
    return _letters_of(_part.get()).get(size)


@functools.cache
def _letters_of(part: str) -> dict[int, str]:
    if not part:
        return LETTERS
    source = inspect.getsource(getattr(importlib.import_module("lab.stock"), part))
    words = {SPELLED.get(word) for word in re.findall(r"[A-Za-z]\w*", source)}
    return {size: name for size, name in LETTERS.items() if name in words}


def letters(shape: Tensor | Sequence[int]) -> str:
    """A shape with its letters: "[B, T, D] = [2, 5, 12]"."""
    sizes = list(shape.shape if isinstance(shape, Tensor) else shape)
    named = [letter(size) or str(size) for size in sizes]
    if all(name.isdigit() for name in named):
        return str(sizes)
    return f"[{', '.join(named)}] = {sizes}"


def describe(value: Any) -> str:
    """A value in a few words, never an array dump."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {letters(value)}"
    if isinstance(value, (list, tuple)) and (
        len(value) > 8 or any(not isinstance(each, (bool, int, float, str)) for each in value)
    ):
        return f"a {type(value).__name__} of {len(value)}"
    if value is None:
        return "None (is a `return` missing?)"
    if isinstance(value, (bool, int, float, str, list, tuple)):
        return repr(value)
    return f"a {type(value).__name__}"


def _tensors(found: Any) -> list[Tensor]:
    return [found] if isinstance(found, Tensor) else list(found)


def _first(wrong: Tensor) -> tuple[int, ...]:
    return tuple(wrong.nonzero()[0].tolist())


def _subscript(where: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, where))}]"


def _share(wrong: Tensor) -> str:
    count = int(wrong.sum())
    return f" ({count} of {wrong.numel()} numbers differ)" if count > 1 else ""


def _number(value: Tensor) -> str:
    number = value.item()
    return f"{number:.4g}" if isinstance(number, float) else str(number)


def _name(dtype: torch.dtype) -> str:
    return re.sub(r"^torch\.", "", str(dtype))


# Which of two results is the other


def alike(one: Any, other: Any) -> bool:
    """Whether two findings are the same, NaN and inf included; up to rounding."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        if one.shape != other.shape or one.dtype != other.dtype or one.device != other.device:
            return False
        if one.device.type == "meta":
            return True
        if not one.is_floating_point():
            return bool((one == other).all())
        near = 1e-7 if one.dtype == torch.float64 else 10 * TOLERANCE[one.dtype]
        return torch.allclose(one.double(), other.double(), rtol=near, atol=near, equal_nan=True)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-5) or (math.isnan(one) and math.isnan(other))
    return type(one) is type(other) and bool(one == other)


@functools.cache
def suite(module: str) -> tuple[Check, ...]:
    """The checks of a unit's suite, in the order they stand there: suite("attention")."""
    functions = vars(importlib.import_module(f"autograder.suites.test_{module}")).values()
    return tuple(each.check for each in functions if hasattr(each, "check"))
