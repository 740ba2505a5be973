"""Errors in words: the learner's own line, and what a message of torch's means."""

from __future__ import annotations

import linecache
import re
from collections.abc import Callable
from types import TracebackType
from typing import Any

from autograder.checks import LETTERS, Broken
from autograder.judge import TooLong


def in_words(error: BaseException | None, namespace: dict[str, Any]) -> str:
    """What went wrong, in a sentence."""
    if isinstance(error, Broken):
        return f"{error.law}. Seen: {error.seen}." if error.seen else f"{error.law}."
    if isinstance(error, NotImplementedError):
        return "Not all of it is written yet: a `raise NotImplementedError` still stands here."
    if isinstance(error, TooLong):
        return f"It does not come to an end: {error}. Does every loop have a way out?"
    if isinstance(error, RecursionError):
        return "It calls itself without an end."
    if error is None:
        return ""
    message = " ".join(str(error).split())
    for pattern, say in _MEANINGS:
        if found := re.search(pattern, message):
            return say(found)
    return f"{type(error).__name__}: {message[:300]}" if message else type(error).__name__


def place(error: BaseException | None, namespace: dict[str, Any]) -> str:
    """The learner's line an error comes from: "line 7: scores = query @ key"; "" if none."""
    if error is None or isinstance(error, Broken):
        return ""
    line = file = None
    step: TracebackType | None = error.__traceback__
    while step is not None:
        if step.tb_frame.f_globals is namespace:
            line, file = step.tb_lineno, step.tb_frame.f_code.co_filename
        step = step.tb_next
    if line is None or file is None:
        return ""
    text = linecache.getline(file, line).strip()
    return f"line {line}: {text}" if text else f"line {line}"


def _letter(size: str) -> str:
    return f"{LETTERS[int(size)]}={size}" if int(size) in LETTERS else size


def _shape(sizes: str) -> str:
    return "[" + ", ".join(_letter(size) for size in re.findall(r"\d+", sizes)) + "]"


# torch's messages, and what they mean for somebody who writes attention
_MEANINGS: list[tuple[str, Callable[[re.Match[str]], str]]] = [
    (
        r"mat1 and mat2 shapes cannot be multiplied \((\d+)x(\d+) and (\d+)x(\d+)\)",
        lambda m: f"A matrix product does not fit: {_letter(m[2])} columns on the left meet "
        f"{_letter(m[3])} rows on the right, and the two must be equal. "
        "Is a transpose missing, or does a Linear expect another width?",
    ),
    (
        r"Expected size for first two dimensions of batch2 tensor to be: \[(\d+), (\d+)\] "
        r"but got: \[(\d+), (\d+)\]",
        lambda m: f"A batched matrix product does not fit: the left side ends in {_letter(m[2])}, "
        f"the right side has {_letter(m[4])} where that should stand. Transpose the last two axes "
        "of the right side: .transpose(-2, -1).",
    ),
    (
        r"size of tensor a \((\d+)\) must match the size of tensor b \((\d+)\) at non-singleton "
        r"dimension (\d+)",
        lambda m: f"Two shapes do not go together: {_letter(m[1])} meets {_letter(m[2])} on axis "
        f"{m[3]}. Axes are lined up from the right; each pair must be equal or 1.",
    ),
    (
        r"expanded size of the tensor \((\d+)\) must match the existing size \((\d+)\)",
        lambda m: f"A tensor cannot be spread to this shape: {_letter(m[2])} stands where "
        f"{_letter(m[1])} is wanted, and only an axis of 1 can be spread.",
    ),
    (
        r"shape '\[([\d, -]+)\]' is invalid for input of size (\d+)",
        lambda m: f"A view or reshape to {_shape(m[1])} does not hold {m[2]} numbers: which axes "
        "does the tensor have before it?",
    ),
    (
        r"view size is not compatible with input tensor's size and stride",
        lambda m: "`view` needs the numbers in one piece, and a transpose leaves them scattered: "
        "use `reshape` (or `.contiguous()` first).",
    ),
    (
        r"[Dd]imension out of range \(expected to be in range of \[(-?\d+), (-?\d+)\], "
        r"but got (-?\d+)\)",
        lambda m: f"Axis {m[3]} is asked for, but this tensor has only axes {m[1]} to {m[2]}.",
    ),
    (
        r"[Ee]xpected .*dtype.*|expected scalar type (\w+) but found (\w+)|"
        r"must have the same dtype",
        lambda m: f"Numbers of two kinds meet ({m[0]}): new tensors should take dtype and device "
        "of the inputs.",
    ),
    (
        r"a leaf Variable that requires grad is being used in an in-place operation|"
        r"modified by an inplace operation",
        lambda m: "An input is changed in place (`+=`, `masked_fill_`, `x[...] =`): make a new "
        "tensor instead.",
    ),
    (
        r"result type Float can't be cast to the desired output type (\w+)|"
        r"masked_fill_? only supports boolean masks|only supports boolean masks",
        lambda m: "The mask should be boolean, True where a query may look: check its dtype.",
    ),
    (
        r"'NoneType' object (.*)",
        lambda m: f"Something is None here that should not be ({m[1]}): is a `return` missing, or "
        "is mask=None not dealt with?",
    ),
    (
        r"'(\w+)' object has no attribute '(\w+)'",
        lambda m: f"{m[1]} has no attribute {m[2]}: attribute names are part of the task, "
        "compare them with the stub.",
    ),
    (
        r"name '(\w+)' is not defined",
        lambda m: f"{m[1]} is not defined: run the cells above, or look for a slip in its name.",
    ),
    (
        r"(\w+)\(\) got an unexpected keyword argument '(\w+)'",
        lambda m: f"{m[1]} does not take {m[2]}: names and order of the arguments are the stub's.",
    ),
    (
        r"(\w+)\(\) takes (?:from \d+ to )?(\d+) positional arguments? but (\d+) w",
        lambda m: f"{m[1]} takes {m[2]} arguments, it is called with {m[3]}: keep the stub's "
        "arguments.",
    ),
    (
        r"(\w+)\(\) missing (\d+) required positional arguments?: (.*)",
        lambda m: f"{m[1]} is called without {m[3]}: keep the stub's arguments and defaults.",
    ),
    (
        r"cannot assign module before Module\.__init__|__init__\(\) call",
        lambda m: "super().__init__() comes first in __init__ of a module.",
    ),
    (
        r"(?:too many|not enough) values to unpack.*",
        lambda m: f"A tuple does not fit the names that take it ({m[0]}): attention gives "
        "(output, weights).",
    ),
]  # fmt: skip
