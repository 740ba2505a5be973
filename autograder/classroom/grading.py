"""Grading that loses nobody: every hand-in is looked at, mended where it can be, then graded.

Learners hand in files that no longer are what was handed out: cells deleted, copied or moved,
checks edited, another kernel, fifty megabytes of output, half a file. nbgrader repairs some of it,
gives up on the whole notebook for the rest, and a table shows 0.0 for both. So a mended copy goes
into `repaired/`, the original stays as it was handed in, nbgrader grades the copies one by one, and
there is a line for everybody.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from autograder.classroom import teaching
from autograder.classroom.settings import Settings, listening, quietly
from autograder.submission import Submission
from lab.course import unit_named

Cell = dict[str, Any]
# What nbgrader gives a kernel, and that it keeps to itself what is no error.
KERNEL = ["--HistoryManager.hist_file=:memory:", "--IPKernelApp.log_level=ERROR"]
FROM_NBGRADER = {"timestamp.txt", "submission_secret.txt"}


class Unreadable(ValueError):
    """A hand-in that is no notebook, whatever one does."""


@dataclass(frozen=True)
class Result:
    """What came of one hand-in: points, or why there are none; what was found, and mended."""

    student: str
    points: float | None = None
    max_points: float = 0.0
    late: timedelta = timedelta()
    notes: tuple[str, ...] = ()
    failure: str = ""

    @property
    def graded(self) -> bool:
        return self.points is not None and not self.failure

    def text(self, width: int = 0) -> str:
        """One line, and one for everything that was found."""
        if self.points is None:
            head = f"NOT GRADED: {self.failure}"
        else:
            head = f"{self.points:g} of {self.max_points:g}"
            head += f"  late by {teaching.lateness(self.late)}" if self.late else ""
            head += f"  LOOK AT IT: {self.failure}" if self.failure else ""
        return "\n".join([f"{self.student:<{width}}  {head}", *(f"    {x}" for x in self.notes)])


def grade(
    settings: Settings, unit: str, student: str | None = None, force: bool = False
) -> Iterator[Result]:
    """Grade the collected hand-ins of a unit, one after the other; those graded stay so.

    `force` grades again what has not changed since.
    """
    students = teaching.submitted(settings, unit)
    if student is not None and student not in students:
        raise ValueError(f"{student} has no collected hand-in of {unit}: run `lab course collect`")
    released = _released(settings, unit)
    for each in [student] if student else students:
        yield _grade_one(settings, unit, each, released, force)


def _grade_one(settings: Settings, unit: str, student: str, released: Cell, force: bool) -> Result:
    try:
        notes = _prepare(settings, unit, student, released)
    except Exception as error:  # whatever is in a file, the others are graded
        _leave_ungraded(settings, unit, student)
        known = isinstance(error, Unreadable)
        return Result(student, failure=str(error) if known else f"{type(error).__name__}: {error}")
    if force or not _is_graded(settings, unit, student):
        if failure := _autograde(settings, unit, student):
            _leave_ungraded(settings, unit, student)
            # It did not run, but the formgrader can show it, and a person give it points.
            shown = settings.path("autograded", unit, student)
            shutil.rmtree(shown, ignore_errors=True)
            shutil.copytree(settings.root / "repaired" / student / unit, shown)
            return Result(student, failure=failure, notes=tuple(notes))
    with teaching.gradebook(settings) as book:
        troubles = _look_at(book, unit, student, _troubles(settings, unit, student))
        found = book.find_submission(unit, student)
        late = timedelta(seconds=found.total_seconds_late)
        failure = "; ".join(troubles)
        return Result(student, found.score, found.max_score, late, tuple(notes), failure)


# Looking and mending


def _released(settings: Settings, unit: str) -> Cell:
    """The notebook as learners got it."""
    path = settings.root / "release" / unit / f"{unit_named(unit).module}.ipynb"
    if not path.exists():
        raise ValueError(f"{path} is missing: run `lab course release {unit}`")
    notebook = json.loads(path.read_text("utf-8"))
    cells = [
        _cell(each["cell_type"], "".join(each["source"]), each["metadata"])
        for each in notebook["cells"]
    ]
    return {"metadata": notebook["metadata"], "cells": cells}


def _prepare(settings: Settings, unit: str, student: str, released: Cell) -> list[str]:
    """Put a mended copy of a hand-in into repaired/; what was found, in sentences."""
    if fault := teaching.fault_of(student):  # nbgrader would look for it as a pattern
        raise Unreadable(fault)
    source = settings.path("submitted", unit, student)
    target = settings.root / "repaired" / student / unit
    shutil.rmtree(target, ignore_errors=True)
    submission, notes = _find(source, unit)
    if not submission.cells:
        raise Unreadable(submission.problems[0] if submission.problems else "it has no cells")
    cells = [_cell(each.kind, each.source, dict(each.metadata)) for each in submission.cells]
    mended, done = mend(cells, released)
    notes += submission.problems
    notes += [note for name, note in done if not any(name in each.split() for each in notes)]
    ignore = shutil.ignore_patterns("*.ipynb", *settings.coursedir.ignore)
    shutil.copytree(source, target, ignore=ignore)
    text = json.dumps(mended, ensure_ascii=False, indent=1)
    name = f"{unit_named(unit).module}.ipynb"
    (target / name).write_text(text, encoding="utf-8", errors="replace")
    return notes


def _find(folder: Path, unit: str) -> tuple[Submission, list[str]]:
    """The notebook of a hand-in: the one of the right name, else the only one that could be it."""
    named = unit_named(unit)
    name = f"{named.module}.ipynb"
    if (folder / name).is_file():
        return Submission.load(folder / name, named), []
    others = [Submission.load(path, named) for path in sorted(folder.glob("*.ipynb"))]
    others = [each for each in others if set(each.by_id) & set(named.parts)]
    if len(others) == 1:
        return others[0], [f"{name} is missing; {others[0].path.name} is graded in its place"]
    found = ", ".join(sorted({path.name for path in folder.iterdir()} - FROM_NBGRADER))
    raise Unreadable(f"{name} is missing; handed in: {found or 'nothing'}")


def _cell(kind: str, source: str, metadata: Cell) -> Cell:
    kind = kind if kind in ("code", "markdown") else "raw"
    cell = {"cell_type": kind, "metadata": metadata, "source": source}
    return cell | ({"execution_count": None, "outputs": []} if kind == "code" else {})


def mend(cells: list[Cell], released: Cell) -> tuple[Cell, list[tuple[str, str]]]:
    """A notebook with every cell that was handed out, once, locked ones as they were handed out.

    The learner's own cells stay where they are. Gives what was done, each with the cell's name.
    """
    notes: list[tuple[str, str]] = []
    originals = {_id(cell): cell for cell in released["cells"] if _id(cell)}
    cells = _once(deepcopy(cells), originals, notes)
    place = -1  # of the last cell that was handed out, so far
    for name, original in originals.items():
        at = next((i for i, cell in enumerate(cells) if _id(cell) == name), None)
        locked = not _is_solution(original)
        if at is None and not locked and (at := _defining(cells, name)) is not None:
            notes.append((name, f"the cell of {name} had lost its mark: known by what it defines"))
        if at is None:
            place += 1
            cells.insert(place, deepcopy(original))
            notes.append((name, f"the cell {name} was missing: put back as it was handed out"))
            continue
        if locked and cells[at]["source"] != original["source"]:
            notes.append((name, f"the cell {name} was changed: put back as it was handed out"))
        if locked and at < place:  # a check above what it checks
            notes.append((name, f"the cell {name} was moved up: put back behind its part"))
            cells.insert(place, cells.pop(at))
            at = place
        kept = original if locked else original | {"source": cells[at]["source"]}
        cells[at] = deepcopy(kept)
        place = max(place, at)
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    head = {"nbformat": 4, "nbformat_minor": 5, "metadata": released["metadata"]}
    return head | {"cells": cells}, notes


def _defining(cells: list[Cell], part: str) -> int | None:
    """The last unmarked code cell that defines a part."""
    definition = re.compile(rf"^(def|class) {re.escape(part)}\b", re.M)
    for at, cell in reversed(list(enumerate(cells))):
        if cell["cell_type"] == "code" and not _id(cell) and definition.search(cell["source"]):
            return at
    return None


def _once(
    cells: list[Cell], originals: dict[str, Cell], notes: list[tuple[str, str]]
) -> list[Cell]:
    """Each mark once, and none that was not handed out: nbgrader gives up over either.

    Of copied solutions the last one keeps the mark; of copied checks the first one stays.
    """
    names = [_id(cell) for cell in cells]
    kept = []
    for at, (cell, name) in enumerate(zip(cells, names, strict=True)):
        again = name in names[at + 1 :]
        if name in originals and again:
            notes.append((name, f"the cell {name} is there more than once"))
        locked = name in originals and not _is_solution(originals[name])
        if locked and name in names[:at]:
            continue
        if name not in originals or (again and not locked):
            cell["metadata"].pop("nbgrader", None)
        kept.append(cell)
    return kept


def _is_solution(cell: Cell) -> bool:
    return cell["metadata"]["nbgrader"]["solution"]


def _id(cell: Cell) -> str:
    mark = cell["metadata"].get("nbgrader")
    name = mark.get("grade_id") if isinstance(mark, dict) else None
    return name if isinstance(name, str) else ""


# Grading


def _autograde(settings: Settings, unit: str, student: str) -> str:
    """Let nbgrader grade one mended hand-in; why it could not, or ""."""
    from nbgrader.converters import Autograde
    from traitlets.config import Config

    coursedir = settings.coursedir
    kept = coursedir.submitted_directory, coursedir.student_id
    coursedir.assignment_id, coursedir.student_id = unit, student
    coursedir.submitted_directory = "repaired"
    with listening() as heard:
        try:
            worker = quietly(Autograde, settings, force=True)
            worker.update_config(Config({"Execute": {"extra_arguments": KERNEL}}))
            worker.start()
        except Exception as error:  # whatever it is, the others are graded
            return _why(error, heard.getvalue())
        finally:
            coursedir.submitted_directory, coursedir.student_id = kept
    return ""


def _why(error: Exception, log: str) -> str:
    """What nbgrader's log means, in a sentence."""
    for pattern, meaning in _MEANINGS:
        if re.search(pattern, log):
            return meaning
    last = [line for line in log.splitlines() if re.match(r"\w+(\.\w+)*(Error|Exception)\b", line)]
    return f"nbgrader stopped: {last[-1] if last else error}"


_MEANINGS = (
    (
        r"DeadKernelError|Kernel died",
        "the kernel died while the notebook ran: a cell ends the process, or uses too much memory",
    ),
    (
        r"UnresponsiveKernelError|kernel became unresponsive",
        "a cell runs without an end and could not be interrupted",
    ),
    (r"NoSuchKernel", "the kernel python3 is not installed for this user"),
    (
        r"partial credit cannot be greater",
        "a check cell gave more points than it has: somebody wrote over check()",
    ),
)


def _is_graded(settings: Settings, unit: str, student: str) -> bool:
    """Whether just this hand-in has points already."""
    from nbgrader.api import MissingEntry

    from autograder.classroom.export import ungraded

    handed_in = settings.path("submitted", unit, student) / "timestamp.txt"
    autograded = settings.path("autograded", unit, student) / "timestamp.txt"
    if not (handed_in.exists() and autograded.exists()):
        return False
    if handed_in.read_bytes() != autograded.read_bytes():
        return False
    with teaching.gradebook(settings) as book:
        try:
            return not ungraded(book.find_submission(unit, student))
        except MissingEntry:
            return False


def _leave_ungraded(settings: Settings, unit: str, student: str) -> None:
    """In the gradebook it is handed in and waits for a person: no points, not even old ones."""
    stamp = settings.coursedir.get_existing_timestamp(
        str(settings.path("submitted", unit, student))
    )
    with teaching.gradebook(settings) as book:
        book.update_or_create_student(student)
        submission = book.update_or_create_submission(unit, student, timestamp=stamp)
        for notebook in submission.notebooks:
            for each in notebook.grades:
                each.auto_score, each.needs_manual_grade = None, True
        book.db.commit()


def _troubles(settings: Settings, unit: str, student: str) -> dict[str, str]:
    """The check cells whose points do not come from a check, and why; by grade_id.

    nbgrader gives 0 for an error and for a single word on stderr, and full points for a cell that
    gives nothing at all. Neither is a grade.
    """
    name = f"{unit_named(unit).module}.ipynb"
    notebook = json.loads((settings.path("autograded", unit, student) / name).read_text("utf-8"))
    found = {}
    for cell in notebook["cells"]:
        if not cell["metadata"].get("nbgrader", {}).get("grade"):
            continue
        trouble = _trouble(cell["outputs"]) if cell["cell_type"] == "code" else ""
        if trouble:
            found[_id(cell)] = f"{_id(cell)} {trouble}"
    return found


def _trouble(outputs: list[Cell]) -> str:
    for output in outputs:
        if output["output_type"] == "error":
            return f"did not run ({output['ename']}: {output['evalue']}): nbgrader counts 0"
        if output["output_type"] == "stream" and output["name"] == "stderr":
            return "wrote to stderr: nbgrader counts 0"
        if output["output_type"] == "execute_result":
            text = "".join(output["data"].get("text/plain", ""))
            if not re.fullmatch(r"\d+(\.\d+)?", text):
                return f"gave {text[:40]!r} and no points: nbgrader counts all of them"
            return ""
    return "gave nothing: nbgrader counts all its points"


def _look_at(book: Any, unit: str, student: str, troubles: dict[str, str]) -> list[str]:
    """Put what nobody has given points yet into the formgrader's queue; what that is."""
    left = []
    for name, trouble in troubles.items():
        found = book.find_grade(name, unit_named(unit).module, unit, student)
        if found.manual_score is None:
            found.needs_manual_grade = True
            left.append(trouble)
    book.db.commit()
    return left
