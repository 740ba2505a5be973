"""A learner's folder of notebooks, as it was last saved.

work = Work(Path("exercises"))
work.look()          # another number whenever a notebook was saved
work.cells["softmax"].state, work.cells["softmax"].source
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autograder import policy, progress
from autograder.cells import Program
from autograder.oracle.grading import is_stub
from autograder.submission import Submission
from lab.course import UNITS, Unit

SETTLED = 0.2  # seconds that a file stays as it is before it is read: who writes it may not be done
PAUSE = 0.5  # between two looks, however many ask


@dataclass(frozen=True)
class Cell:
    """A part's cell. `key` names all that it runs with: the same key, the same result."""

    part: str
    unit: Unit
    state: str  # "missing", "stub", "forbidden" or "written"
    source: str = ""
    key: str = ""
    words: str = ""


@dataclass(frozen=True)
class Notebook:
    """A unit's notebook and what was found in it; without a file there are only missing cells."""

    unit: Unit
    path: Path
    raw: bytes = b""
    submission: Submission | None = None
    program: Program | None = None
    answers: Mapping[str, Any] = field(default_factory=dict)  # to the quiz
    stamp: tuple[int, int] | None = None


class Work:
    """The notebooks of a folder: `FOLDER/01-attention/attention.ipynb`, or all in one place."""

    def __init__(self, folder: Path):
        self.folder = Path(folder).resolve()
        if not self.folder.is_dir():
            raise ValueError(f"--work {folder} is no folder: name the one with your notebooks")
        self.notebooks = {unit.name: Notebook(unit, self._path(unit)) for unit in UNITS}
        self.cells: dict[str, Cell] = {}
        self.version = 0
        self.saved: list[str] = []  # the notebooks that were saved last
        self._next = 0.0
        self._looking = threading.Lock()
        self.look(at_once=True)
        if not any(each.stamp for each in self.notebooks.values()):
            raise ValueError(
                f"--work {folder} has none of the units' notebooks ({UNITS[0].name}/"
                f"{UNITS[0].module}.ipynb …): name the folder with them; `lab build` makes them"
            )

    def _path(self, unit: Unit) -> Path:
        flat = self.folder / f"{unit.module}.ipynb"
        return flat if flat.is_file() else self.folder / unit.name / flat.name

    def look(self, at_once: bool = False) -> int:
        """Read what was saved since the last look; a number that has changed if anything was."""
        with self._looking:
            now = time.monotonic()
            if now < self._next and not at_once:
                return self.version
            self._next = now + PAUSE
            changed = [
                each
                for each in self.notebooks.values()
                if (stamp := _stamp(each.path)) != each.stamp
                and (at_once or stamp is None or not 0 <= time.time() - stamp[0] / 1e9 < SETTLED)
            ]
            for each in changed:
                self._read(each)
            if changed:
                self.version += 1
                self.saved = [each.path.name for each in changed]
            return self.version

    def _read(self, old: Notebook) -> None:
        unit, path = old.unit, old.path
        stamp, raw = _stamp(path), b""
        try:
            raw = path.read_bytes()
        except OSError:
            stamp = None
        submission = Submission.load(path, unit, raw)
        program = submission.program()
        answers = submission.answers()
        self.notebooks[unit.name] = Notebook(unit, path, raw, submission, program, answers, stamp)
        for part in unit.parts:
            self.cells[part] = _cell(part, unit, submission, program)

    def name(self, unit: Unit) -> str:
        """Where a unit's notebook stands, as its owner would say it."""
        path = self.notebooks[unit.name].path.relative_to(self.folder)
        return f"{self.folder.name}/{path.as_posix()}"

    def passed(self) -> set[str]:
        """The parts that passed as they are written now."""
        kept = {part: str(text).strip() for part, text in progress.sources().items()}
        return {
            part
            for part, cell in self.cells.items()
            if cell.state == "written" and kept.get(part) == cell.source.strip()
        }


def _stamp(path: Path) -> tuple[int, int] | None:
    """What changes when a file is saved; None while it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _cell(part: str, unit: Unit, submission: Submission, program: Program) -> Cell:
    cell = submission.by_id.get(part)
    if cell is None or cell.kind != "code":
        return Cell(part, unit, "missing")
    if is_stub(cell):
        return Cell(part, unit, "stub", cell.source)
    shortcut = policy.in_source(part, cell.source)
    state = "forbidden" if shortcut else "written"
    return Cell(part, unit, state, cell.source, key(program.of(part)), shortcut or "")


def key(program: Program) -> str:
    """The same for programs that run alike."""
    return hashlib.sha256(json.dumps(sent(program)).encode("utf-8", "replace")).hexdigest()


def sent(program: Program) -> list[Any]:
    """A program as it is sent to a learner's process."""
    return [[list(each) for each in some]
            for some in (program.imports, program.given, program.cells)]  # fmt: skip
