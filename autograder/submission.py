"""A learner's notebook, read as it is: whatever has become of it, a sentence says so.

    submission = Submission.load(Path("exercises/03-multi-head/multi_head.ipynb"))
    for each in report(submission):
        print(each.text())

Only the cells of the parts count, each by itself: a cell that does not run costs its own part.
"""

from __future__ import annotations

import ast
import builtins
import functools
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autograder import explain
from autograder.cells import Implementations, Missing, Program, define, nodes_of, python_of, tree_of
from autograder.diagnosis import Diagnosis
from autograder.judge import checks_of
from autograder.report import Line, Report, report_on
from lab.course import PARTS, UNITS, Unit

MB = 1_000_000
LARGE, TOO_LARGE = 10 * MB, 500 * MB  # above the one it is said, above the other it is not read


def check_source(part: str) -> str:
    """What stands in the check cell of a part."""
    return f'check("{part}")'


def quiz_source(unit: str) -> str:
    """What stands in the check cell of a quiz."""
    return f'quiz("{unit}", answers)'


@dataclass(frozen=True)
class Cell:
    """A cell of a notebook: its number from 1, and what nbgrader knows of it."""

    number: int
    kind: str
    source: str
    metadata: Mapping[str, Any]

    @property
    def mark(self) -> Mapping[str, Any]:
        return _mapping(self.metadata.get("nbgrader"))

    @property
    def grade_id(self) -> str:
        """The name nbgrader has for the cell; "" where it has none."""
        name = self.mark.get("grade_id")
        return name if isinstance(name, str) else ""

    @property
    def touched(self) -> bool:
        """Whether it says something else than when it was handed out."""
        return self.mark.get("checksum") not in (None, _checksum(self))


@dataclass(frozen=True)
class Submission:
    """A notebook as somebody saved it. `problems` says in sentences what is odd about it."""

    path: Path
    unit: Unit | None  # None where nothing tells
    cells: tuple[Cell, ...] = ()
    problems: tuple[str, ...] = ()

    @classmethod
    def load(cls, path: Path, unit: Unit | None = None, raw: bytes | None = None) -> Submission:
        """Read a notebook, or its bytes where they are known. Never fails: what cannot be read has
        no cells, and a problem."""
        path = Path(path)
        try:
            content, said = _read(path, raw)
            cells = tuple(_cells(content))
        except Unreadable as error:
            return cls(path, unit or _unit_of(path), (), (str(error),))
        unit = unit or _unit_of(path, cells)
        if unit is None:
            said.append(f"{path.name} belongs to no unit: it has none of the cells handed out")
        return cls(path, unit, cells, (*said, *_kernel(path, content), *_odd(cells, unit)))

    @functools.cached_property
    def by_id(self) -> dict[str, Cell]:
        """The cells that nbgrader knows, by name. Of several the last one counts, as there."""
        return {cell.grade_id: cell for cell in self.cells if cell.grade_id}

    def touched(self) -> list[str]:
        """The parts whose cell is no longer the stub that was handed out."""
        names = self.unit.parts if self.unit else ()
        return [part for part in names if part in self.by_id and self.by_id[part].touched]

    def answers(self) -> dict[str, Any]:
        """What the quiz was answered; {} where the cell is missing or is no plain dictionary."""
        for cell in reversed(self.cells):
            if "quiz" not in _mapping(cell.metadata.get("lab")):
                continue
            try:
                for node in ast.parse(cell.source).body:
                    if isinstance(node, ast.Assign):
                        return dict(ast.literal_eval(node.value))
            except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
                pass
        return {}

    def program(self) -> Program:
        """What of it is run: its imports, what was given, and the cells of the parts."""
        given = {n: c for n, c in self.by_id.items() if n.startswith("given-") and n != "given-0"}
        cells = {part: self.by_id.get(part) for part in (self.unit.parts if self.unit else ())}
        return Program(
            tuple((f"cell {cell.number}", text) for cell in self.cells for text in _imports(cell)),
            tuple((name, python_of(cell.source)) for name, cell in given.items()),
            tuple(
                (part, python_of(cell.source) if cell and cell.kind == "code" else None)
                for part, cell in cells.items()
            ),
        )

    def implementations(self) -> Implementations:
        """What its cells define, run in this process."""
        return define(self.program())


def report(submission: Submission, only: str | None = None) -> list[Report]:
    """A report for every part of the unit, or for one. A missing cell is a part without points."""
    if submission.unit is None:
        return []
    work = submission.implementations()
    return [
        _report(submission, work, part)
        for part in submission.unit.parts
        if only is None or part == only
    ]


def _report(submission: Submission, work: Implementations, part: str) -> Report:
    if part in work.found:
        return report_on(part, work.found[part], source=submission.by_id[part].source)
    return report_of_error(part, work.failed[part], work.namespace)


def report_of_error(part: str, error: BaseException, namespace: dict[str, Any]) -> Report:
    """What there is to say of a part whose cell gave an error, or is not there."""
    lines = tuple(Line(check, False) for check in checks_of(part))
    if isinstance(error, Missing):
        return Report(part, "failed", lines, Diagnosis("No cell", str(error)))
    words = explain.in_words(error, namespace)
    if not isinstance(error, SyntaxError):
        words = f"The cell does not run. {words}"
    return Report(part, "failed", lines, Diagnosis("", words, explain.place(error, namespace)))


# Reading


class Unreadable(ValueError):
    """A file that holds no cells, and why."""


def _read(path: Path, raw: bytes | None = None) -> tuple[Mapping[str, Any], list[str]]:
    """The notebook's content, and what was odd about the file."""
    name, said = path.name, []
    try:
        size = path.stat().st_size if raw is None else len(raw)
        if size > TOO_LARGE:
            raise Unreadable(f"{name} has {_megabytes(size)}, too much to read: clear its outputs")
        raw = path.read_bytes() if raw is None else raw
    except FileNotFoundError:
        raise Unreadable(f"{name} is missing in {path.parent.name or path.parent}") from None
    except OSError as error:
        raise Unreadable(f"{name} cannot be read: {error.strerror or error}") from None
    if not raw.strip():
        raise Unreadable(f"{name} is empty")
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError as error:
        text = raw.decode(encoding, errors="replace")
        said.append(
            f"{name} is not UTF-8: what cannot be read from byte {error.start} on became a �"
        )
    if encoding == "utf-16":
        said.append(f"{name} is UTF-16, not UTF-8: save it with JupyterLab")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unreadable(_no_json(name, text, error)) from None
    if isinstance(content, dict) and ("worksheets" in content or _version(content) < 4):
        raise Unreadable(
            f"{name} has version {_version(content)} of the format: open it in JupyterLab, save it"
        )
    if not isinstance(content, dict) or not isinstance(content.get("cells"), list):
        raise Unreadable(f"{name} is JSON, but no notebook: it has no list of cells")
    if size > LARGE:
        outputs = size - len(json.dumps(_without_outputs(content), ensure_ascii=False).encode())
        said.append(
            f"{name} has {_megabytes(size)}, {_megabytes(max(outputs, 0))} of it outputs: clear "
            "them and save (Edit, Clear Outputs of All Cells)"
        )
    return content, said


def _no_json(name: str, text: str, error: Exception) -> str:
    if re.search(r"^<{7} ", text, re.M):
        return f"{name} holds a merge that was not finished: lines with <<<<<<< and >>>>>>>"
    if isinstance(error, json.JSONDecodeError):
        if error.pos >= len(text.rstrip()):
            return f"{name} ends in the middle, at line {error.lineno}: the file is cut off"
        return (
            f"{name} is no notebook: line {error.lineno}, column {error.colno} is no JSON "
            f"({error.msg})"
        )
    return f"{name} is no notebook: it is not JSON ({error})"


def _version(content: Mapping[str, Any]) -> int:
    version = content.get("nbformat", 4)
    return version if isinstance(version, int) else 4


def _without_outputs(content: Mapping[str, Any]) -> dict[str, Any]:
    cells = [{**cell, "outputs": []} for cell in content["cells"] if isinstance(cell, dict)]
    return {**content, "cells": cells}


def _megabytes(size: int) -> str:
    return f"{size / MB:,.1f} MB"


def _cells(content: Mapping[str, Any]) -> Iterator[Cell]:
    for number, cell in enumerate(content["cells"], 1):
        if not isinstance(cell, dict):
            continue
        source = cell.get("source")
        text = "".join(map(str, source)) if isinstance(source, list) else str(source or "")
        text = text.replace("\r\n", "\n")
        yield Cell(number, str(cell.get("cell_type")), text, _mapping(cell.get("metadata")))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _checksum(cell: Cell) -> str:
    """nbgrader's, over everything that decides what a cell is."""
    mark = cell.mark
    said = [cell.source, cell.kind, *(str(bool(mark.get(x))) for x in ("grade", "solution"))]
    said += [str(bool(mark.get("locked"))), cell.grade_id]
    if mark.get("grade"):
        said.append(str(float(mark.get("points") or 0)))
    text = "".join(said).encode("utf-8", "surrogatepass")
    return hashlib.md5(text, usedforsecurity=False).hexdigest()


def _unit_of(path: Path, cells: tuple[Cell, ...] = ()) -> Unit | None:
    """The unit whose parts the cells have; else the one the file is named after."""
    names = {cell.grade_id for cell in cells}
    for unit in UNITS:
        if names & set(unit.parts):
            return unit
    known = {path.stem, path.parent.name}
    return next((unit for unit in UNITS if {unit.module, unit.name} & known), None)


# What is odd


def _kernel(path: Path, content: Mapping[str, Any]) -> Iterator[str]:
    metadata = _mapping(content.get("metadata"))
    kernel = _mapping(metadata.get("kernelspec"))
    language = kernel.get("language") or _mapping(metadata.get("language_info")).get("name")
    name = str(kernel.get("name") or "")
    if (language or "python") != "python" or (not language and name[:6] not in ("", "python")):
        said = kernel.get("display_name") or name or language
        yield f"{path.name} has the kernel {said}: choose Python 3 (Kernel, Change Kernel)"


def _odd(cells: tuple[Cell, ...], unit: Unit | None) -> Iterator[str]:
    """Cells that are missing, doubled or changed."""
    if unit is None:
        return
    found: dict[str, list[Cell]] = {}
    for cell in cells:
        if cell.grade_id:
            found.setdefault(cell.grade_id, []).append(cell)
    for name, same in found.items():
        if len(same) > 1:
            numbers = " and ".join(str(cell.number) for cell in same)
            yield f"the cell {name} is there more than once ({numbers}): the last one counts"
    checks = {f"check-{part}": check_source(part) for part in unit.parts}
    checks["check-quiz"] = quiz_source(unit.name)
    for part in unit.parts:
        if part not in found:
            yield f"the cell of {part} is missing: take a fresh notebook and copy your work into it"
        elif found[part][-1].kind != "code":
            yield f"the cell of {part} is text now: make it a code cell again"
    for name, source in checks.items():
        if name not in found:
            yield f"the cell {name} is missing: grading puts it back"
        elif found[name][-1].source.strip() != source:
            yield f"the cell {name} was changed: grading puts {source} back"
    for name, same in found.items():
        if name not in unit.parts and name not in checks and same[-1].touched:
            yield f"the given cell {name} was changed: grading puts it back as it was handed out"
    yield from _out_of_reach(cells, unit)


def _out_of_reach(cells: tuple[Cell, ...], unit: Unit) -> Iterator[str]:
    """Helpers in cells of the learner's own, which are not read."""
    counted = {cell.grade_id: cell for cell in cells}
    helpers: dict[str, int] = {}
    for cell in cells:
        if cell.kind == "code" and not cell.grade_id:
            helpers.update({name: cell.number for name in _defined(cell.source)})
    inside = {name for cell in counted.values() if cell.grade_id for name in _defined(cell.source)}
    for part in unit.parts:
        used = _names(counted[part].source) if part in counted else set()
        for name in sorted(used & set(helpers) - inside - set(dir(builtins)) - set(PARTS)):
            yield f"{part} uses {name} of cell {helpers[name]}: put it into the cell of {part}"


def _imports(cell: Cell) -> list[str]:
    """The imports at the top level of a code cell, without the autograder's functions."""
    if cell.kind != "code":
        return []
    return [
        ast.unparse(node)
        for node in tree_of(cell.source).body
        if (isinstance(node, ast.ImportFrom) and (node.module or "") != "autograder")
        or (isinstance(node, ast.Import) and all(x.name != "autograder" for x in node.names))
    ]


def _defined(source: str) -> set[str]:
    """The names of functions, classes and values that a cell defines at its top level."""
    names = set()
    for node in tree_of(source).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {each.id for each in node.targets if isinstance(each, ast.Name)}
    return names


def _names(source: str) -> set[str]:
    """The names a cell reads and does not bind anywhere itself."""
    names = [node for node in nodes_of(source) if isinstance(node, ast.Name)]
    bound = {node.id for node in names if not isinstance(node.ctx, ast.Load)}
    bound |= {node.arg for node in nodes_of(source) if isinstance(node, ast.arg)}
    return {node.id for node in names} - bound
