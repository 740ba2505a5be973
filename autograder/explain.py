"""Errors in words: the learner's own line, and what a message of torch's means."""

from __future__ import annotations

import linecache
import re
from collections.abc import Callable
from types import TracebackType
from typing import Any

from autograder.checks import Broken, letter
from autograder.judge import Lost, TooLong


def in_words(error: BaseException | None, namespace: dict[str, Any]) -> str:
    """What went wrong, in a sentence."""
    if isinstance(error, Broken):
        return f"{error.law}. Seen: {error.seen}." if error.seen else f"{error.law}."
    if isinstance(error, NotImplementedError):
        return "Not all of it is written yet: a `raise NotImplementedError` still stands here."
    if isinstance(error, SyntaxError):
        return f"Python cannot read this cell: {error.msg}."
    if isinstance(error, TooLong):
        return f"It does not come to an end: {error}. Does every loop have a way out?"
    if isinstance(error, Lost):
        return f"{error}."
    if isinstance(error, RecursionError):
        return "It calls itself without an end."
    if error is None:
        return ""
    message = " ".join(str(error)[:2_000].split())
    words = f"{type(error).__name__}: {message[:300]}" if message else type(error).__name__
    for pattern, say in _MEANINGS:
        if found := re.search(pattern, message):
            words = say(found)
            break
    if place(error, namespace):
        return words
    law = "What the part takes, gives or holds is not what the stub says: compare names and shapes."
    return f"{law} {words}"


def place(error: BaseException | None, namespace: dict[str, Any]) -> str:
    """The learner's line an error comes from: "line 7: scores = query @ key"; "" if none."""
    if error is None or isinstance(error, Broken):
        return ""
    if isinstance(told := getattr(error, "place", None), str):  # it happened in another process
        return told
    if isinstance(error, SyntaxError) and error.lineno:
        return f"line {error.lineno}: {(error.text or '').strip()}".rstrip(": ")
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
    if len(size) > 9:
        return size
    return f"{named}={size}" if (named := letter(int(size))) else size


def _shape(sizes: str) -> str:
    return "[" + ", ".join(_letter(size) for size in re.findall(r"\d+", sizes)) + "]"


# torch's messages, and what they mean for somebody who writes attention
_MEANINGS: list[tuple[str, Callable[[re.Match[str]], str]]] = [
    (
        r"Expected tensor for argument #1 'indices'",
        lambda m: "An embedding takes ids, whole numbers, and is given vectors. Are two arguments "
        "swapped, or is its table meant (`.weight`)?",
    ),
    (
        r"probability tensor contains either",
        lambda m: "torch.multinomial is given what is no probability: inf, NaN or less than 0.",
    ),
    (
        r"output with shape \[([\d, ]*)\] doesn't match the broadcast shape \[([\d, ]*)\]",
        lambda m: f"An in-place change does not fit: {_shape(m[1])} is on the left, the right side "
        f"makes it {_shape(m[2])}.",
    ),
    (
        r"key's sequence and batch dims",
        lambda m: "Keys and values must be equally many: they come from the same tokens.",
    ),
    (
        r"__init__\(\) takes (?:from \d+ to )?(\d+) positional arguments? but (\d+) w",
        lambda m: f"A class that takes {int(m[1]) - 1} arguments is made with {int(m[2]) - 1}.",
    ),
    (
        r"Boolean value of Tensor with more than one value is ambiguous",
        lambda m: "`if`, `and`, `or` and `not` want one True or False, and a tensor has many: ask "
        "`mask is not None`, and combine masks with `&`, `|` and `~`.",
    ),
    (
        r"The shape of the mask \[([\d, ]+)\] at index \d+ does not match the shape of the indexed "
        r"tensor \[([\d, ]+)\]",
        lambda m: f"`x[mask]` wants a mask of the shape of x: {_shape(m[1])}, not {_shape(m[2])}. "
        "`masked_fill` and `torch.where` broadcast it.",
    ),
    (
        r"torch\.return_types\.(max|min|sort|topk)",
        lambda m: f"`{m[1]}` over an axis gives two tensors, values and indices: take `.values`"
        + (f" (or a{m[1]})." if m[1] in ("max", "min") else "."),
    ),
    (
        r"on the expected device meta|[Tt]ensors? .*(?:same|different) device.*meta",
        lambda m: "Two devices meet: a tensor was made on the CPU. Make it on the device of the "
        "input (`meta` stands for a GPU here).",
    ),
    (
        r"Unexpected key\(s\): (.*?)\. Missing key",
        lambda m: f"The layer holds other names than those asked for ({m[1]}): names are part of "
        "the task, compare them with the text above the cell.",
    ),
    (
        r"empty\(\): argument 'size'.*NoneType",
        lambda m: "A layer is made with the width None: which width takes its place?",
    ),
    (
        r"argument 'shape'.*but\s?got float|'float' object cannot be interpreted as an integer",
        lambda m: "A size must be a whole number: divide with `//`, not `/`.",
    ),
    (
        r"sqrt\(\): argument 'input'.*must be Tensor, not int",
        lambda m: "torch.sqrt takes a tensor; for a number there is math.sqrt.",
    ),
    (
        r"not enough values to unpack \(expected (\d+), got (\d+)\)|"
        r"too many values to unpack \(expected (\d+)",
        lambda m: f"{m[1] or m[3]} names on the left take {m[2] or 'more'} values. A shape has "
        "as many sizes as axes (count from the end: x.size(-1)); attention gives two "
        "things, (output, weights).",
    ),
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
        lambda m: f"{m[1]} has no attribute {m[2]}. Where it is one of your own, compare its name "
        "with the lesson's list.",
    ),
    (
        r"name '(\w+)' is not defined",
        lambda m: f"{m[1]} is not defined: run the cells above, or look for a slip in its name.",
    ),
    (
        r"(\w+)\(\) got an unexpected keyword argument '(\w+)'",
        lambda m: f"{m[1]} does not take an argument {m[2]}.",
    ),
    (
        r"(\w+)\(\) takes (?:from \d+ to )?(\d+) positional arguments? but (\d+) w",
        lambda m: f"{m[1]} takes {m[2]} arguments, it is called with {m[3]}.",
    ),
    (
        r"(\w+)\(\) missing (\d+) required positional arguments?: (.*)",
        lambda m: f"{m[1]} is called without {m[3]}.",
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
