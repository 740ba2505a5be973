"""The cells of a notebook, run without the notebook: each part's cell by itself, in one namespace.

    work = define(Program(imports, given, cells))
    work.found["softmax"], work.failed["SelfAttention"]

A cell that does not run costs its own part; nothing is printed, nothing is asked.
"""

from __future__ import annotations

import ast
import builtins
import io
import linecache
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from autograder.judge import SECONDS, quiet, within
from lab import parts
from lab.course import PARTS

Source = tuple[str, str]  # a name and, as Python, what stands there


class Missing(ValueError):
    """There is no cell for a part, or it does not define the part."""


@dataclass(frozen=True)
class Program:
    """What of a notebook is run: imports from anywhere, given cells, and the parts' own."""

    imports: tuple[Source, ...] = ()
    given: tuple[Source, ...] = ()
    cells: tuple[tuple[str, str | None], ...] = ()  # None where a part has no code cell


@dataclass(frozen=True)
class Implementations:
    """What the cells of a notebook define, and the errors of the cells that define nothing."""

    found: dict[str, Any] = field(default_factory=dict)
    failed: dict[str, BaseException] = field(default_factory=dict)
    namespace: dict[str, Any] = field(default_factory=dict, repr=False)


def define(program: Program) -> Implementations:
    """Run imports, given cells and each part's cell in a fresh namespace, in this process."""
    stand_ins = {part: getattr(parts, part) for part in PARTS}
    namespace: dict[str, Any] = {
        "__name__": "__main__", "__builtins__": builtins, "get_ipython": _Shell, **stand_ins,
    }  # fmt: skip
    work = Implementations(namespace=namespace)
    with _undisturbed():
        for name, source in (*program.imports, *program.given):
            _try(name, source, namespace)
        for part, source in program.cells:
            if source is None:
                work.failed[part] = Missing(f"The notebook has no code cell for {part}.")
                continue
            before = dict(namespace)
            error = _try(part, source, namespace)
            if error is None and namespace.get(part) is stand_ins[part]:
                error = Missing(f"The cell of {part} does not define {part}.")
            if error is None:
                work.found[part] = namespace[part]
            else:
                work.failed[part] = error
                namespace.clear()
                namespace.update(before)
    return work


def _try(name: str, source: str, namespace: dict[str, Any]) -> BaseException | None:
    """Run a cell. Its lines can be looked up under its name; what goes wrong comes back."""
    file = f"<{name}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    try:
        with within(SECONDS):
            exec(compile(source, file, "exec"), namespace)
    except (Exception, SystemExit) as error:
        return error
    return None


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Nothing is printed, and nothing is asked: input() finds the end of the file."""
    before = sys.stdin
    sys.stdin = io.StringIO()
    try:
        with quiet():
            yield
    finally:
        sys.stdin = before


class _Shell:
    """What IPython's magics talk to: get_ipython().run_line_magic("matplotlib", "inline")."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


def tree_of(source: str) -> ast.Module:
    """A cell's syntax; nothing where it is no Python."""
    try:
        return ast.parse(python_of(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ast.Module([], [])


def python_of(source: str) -> str:
    """A cell as Python, line by line: `%time`, `!ls` and `?` become calls that do nothing."""
    try:
        ast.parse(source)
        return source
    except (SyntaxError, ValueError):
        pass
    except (RecursionError, MemoryError):  # brackets in brackets: whoever runs it will see
        return source
    magic = re.match(r"(\s*)%%(time|timeit|capture|prun)\b.*", source)
    if magic:  # the cell below is Python
        return python_of(f"{magic[1]}#{source[magic.end() :]}")
    from IPython.core.inputtransformer2 import TransformerManager

    try:
        changed = TransformerManager().transform_cell(source)
        ast.parse(changed)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return source  # the error is the learner's, and so are its words
    above = re.match(r"(?:[ \t]*\n)*", source)  # IPython takes empty lines off the top
    return "\n" * (above[0].count("\n") if above else 0) + changed
