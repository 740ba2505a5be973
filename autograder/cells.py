"""The cells of a notebook, run without the notebook: each part's cell by itself, in one namespace.

    work = define(Program(imports, given, cells))
    work.found["softmax"], work.failed["SelfAttention"]

A cell that does not run costs its own part; nothing is printed, nothing is asked.
"""

from __future__ import annotations

import ast
import builtins
import functools
import io
import linecache
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from autograder.judge import SECONDS, quiet, within
from lab import parts
from lab.course import PARTS

LONG = 1_000_000  # characters that are read for magics, the whole cell once for each

Source = tuple[str, str]  # a name and, as Python, what stands there


class Missing(ValueError):
    """There is no cell for a part, or it does not define the part."""


class Withheld(RuntimeError):
    """A cell asks for the lab's own version of the part that it is to give."""


@dataclass(frozen=True)
class Program:
    """What of a notebook is run: imports from anywhere, given cells, and the parts' own."""

    imports: tuple[Source, ...] = ()
    given: tuple[Source, ...] = ()
    cells: tuple[tuple[str, str | None], ...] = ()  # None where a part has no code cell

    def of(self, part: str) -> Program:
        """What of it one part needs: its own cell, and those that give it a name.

        Other parts are stock's when it is judged, so their cells count only for what it reads while
        it is defined (a base class, say): what such a cell does besides costs no other part.
        """
        sources = {name: source or "" for name, source in self.cells}
        needed, waiting = {part}, [part]
        while waiting:
            read = _reads(sources[waiting.pop()])
            for name, source in sources.items():
                gives = _gives(source) - set(PARTS) | {name}
                if name not in needed and any(each in gives for each in read):
                    needed.add(name)
                    waiting.append(name)
        cells = tuple((name, text if name in needed else "") for name, text in self.cells)
        return replace(self, cells=cells)

    def apart(self, wanted: Iterable[str]) -> list[list[str]]:
        """Parts in groups; within a group no cell speaks of another's part."""
        named = {part: _named(source or "") for part, source in self.cells}
        groups: list[list[str]] = []
        for part in wanted:
            for group in groups:
                if not any(part in named[each] or each in named[part] for each in group):
                    group.append(part)
                    break
            else:
                groups.append([part])
        return groups


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
            if _withheld(error):  # a try with the whole model, below the part
                error = None
            if error is None and namespace.get(part) is stand_ins[part]:
                error = Missing(f"The cell of {part} does not define {part}.")
            if error is None:
                work.found[part] = namespace[part]
            else:
                work.failed[part] = error
                namespace.clear()
                namespace.update(before)
    return work


def _withheld(error: BaseException | None) -> bool:
    """Whether an error comes from what is not there, whoever passed it on."""
    while error is not None and not isinstance(error, Withheld):
        error = error.__cause__ or error.__context__
    return error is not None


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


@functools.lru_cache(maxsize=128)
def tree_of(source: str) -> ast.Module:
    """A cell's syntax, to be read; nothing where it is no Python."""
    try:
        return ast.parse(python_of(source))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ast.Module([], [])


@functools.lru_cache(maxsize=128)
def nodes_of(source: str) -> tuple[ast.AST, ...]:
    """All nodes of a cell's syntax, the outer ones first."""
    return tuple(ast.walk(tree_of(source)))


@functools.lru_cache(maxsize=128)
def _gives(source: str) -> frozenset[str]:
    """The names that a cell binds, those within its functions left out."""
    inside = _in_functions(source)
    return frozenset(n for node in nodes_of(source) if node not in inside for n in _bound(node))


@functools.lru_cache(maxsize=128)
def _reads(source: str) -> frozenset[str]:
    """The names that a cell reads from elsewhere; those of parts only where no call waits for them.

    A part's name in the body of a function is looked up when that runs, and means stock's then.
    """
    inside = _in_functions(source)
    own = {name for node in nodes_of(source) for name in _bound(node)} - set(PARTS)
    return frozenset(
        node.id
        for node in nodes_of(source)
        if isinstance(node, ast.Name)
        and isinstance(node.ctx, ast.Load)
        and not (node.id in PARTS and node in inside)
        and node.id not in own
    )


@functools.lru_cache(maxsize=128)
def _named(source: str) -> frozenset[str]:
    """The parts that a cell speaks of, wherever."""
    nodes = nodes_of(source)
    names = {node.id for node in nodes if isinstance(node, ast.Name)}
    return frozenset((names | {n.attr for n in nodes if isinstance(n, ast.Attribute)}) & set(PARTS))


@functools.lru_cache(maxsize=128)
def _in_functions(source: str) -> set[ast.AST]:
    """All that runs only when a function is called."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    bodies = [node.body for node in nodes_of(source) if isinstance(node, functions)]
    roots = [each for body in bodies for each in (body if isinstance(body, list) else [body])]
    return {node for root in roots for node in ast.walk(root)}


def _bound(node: ast.AST) -> list[str]:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
            return [name]
        case ast.Global(names=names):
            return names
    return []


@functools.lru_cache(maxsize=128)  # the cells of a notebook, each of which is asked for often
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
        if len(source) * len(re.findall(r"^\s*[%!?]|\?\s*$|= *[%!]", source, re.M)) > LONG:
            raise ValueError("it takes a pass for each magic")
        changed = TransformerManager().transform_cell(source)
        ast.parse(changed)
    except (SyntaxError, ValueError, RuntimeError, MemoryError):  # RuntimeError: too many magics
        return source  # the error is the learner's, and so are its words
    above = re.match(r"(?:[ \t]*\n)*", source)  # IPython takes empty lines off the top
    return "\n" * (above[0].count("\n") if above else 0) + changed
