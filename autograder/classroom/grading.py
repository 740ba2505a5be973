"""Grading that loses nobody: every hand-in is looked at, then graded by nbgrader and the oracle.

nbgrader grades what it finds under the right name. Here every hand-in has a line: its points and
what was found in it, or why it has none. A notebook under another name is graded as a copy in
`repaired/`; the original stays as it was handed in.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from autograder.classroom import teaching
from autograder.classroom.mending import cell_like, handed_out, mend, names_in
from autograder.classroom.settings import Settings, listening, quietly
from autograder.submission import Submission
from lab.course import unit_named

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
        return self.points is not None

    def text(self, width: int = 0) -> str:
        """One line, and one for everything that was found."""
        if self.points is None:
            head = f"NOT GRADED: {self.failure}"
        else:
            head = f"{self.points:g} of {self.max_points:g}"
            head += f"  late by {teaching.lateness(self.late)}" if self.late else ""
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
    name = unit_named(unit).module
    order = names_in(settings.path("source", unit) / f"{name}.ipynb")
    with teaching.gradebook(settings) as book:
        released = handed_out(book, unit, name, order)
    for each in [student] if student else students:
        yield _grade_one(settings, unit, each, released, force)


def _grade_one(
    settings: Settings, unit: str, student: str, released: dict[str, Any], force: bool
) -> Result:
    notes: list[str] = []
    try:
        folder, notes = _look(settings, unit, student, released)
        if force or not _is_graded(settings, unit, student):
            _autograde(settings, unit, student, folder)
        failure = ""
    except Exception as error:  # whatever is in a file, the others are graded
        _leave_ungraded(settings, unit, student)
        known = isinstance(error, (Unreadable, Stopped))
        failure = str(error) if known else f"{type(error).__name__}: {error}"
    return _result(settings, unit, student, notes, failure)


def _result(settings: Settings, unit: str, student: str, notes: list[str], failure: str) -> Result:
    """The points of the gradebook, a person's too where nothing else could give any."""
    from autograder.classroom.export import ungraded

    with teaching.gradebook(settings) as book:
        found = book.find_submission(unit, student)
        if ungraded(found):
            return Result(student, failure=failure, notes=tuple(notes))
        late = timedelta(seconds=found.total_seconds_late)
        said = [*notes, f"points given by hand: {failure}"] if failure else notes
        return Result(student, found.score, found.max_score, late, tuple(said))


# Looking


def _look(
    settings: Settings, unit: str, student: str, released: dict[str, Any]
) -> tuple[str, list[str]]:
    """The step nbgrader is to grade from, and what was found in the notebook, in sentences."""
    if fault := teaching.fault_of(student):  # nbgrader would look for it as a pattern
        raise Unreadable(fault)
    source = settings.path("submitted", unit, student)
    submission, notes = _find(source, unit)
    if not submission.cells:
        raise Unreadable(submission.problems[0] if submission.problems else "it has no cells")
    cells = [cell_like(each.kind, each.source, dict(each.metadata)) for each in submission.cells]
    _, done = mend(cells, released)
    notes += submission.problems
    notes += [note for name, note in done if not any(name in each.split() for each in notes)]
    name = f"{unit_named(unit).module}.ipynb"
    if submission.path.name == name:
        return "submitted", notes
    target = settings.root / "repaired" / student / unit
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(*settings.coursedir.ignore))
    shutil.copy(submission.path, target / name)
    return "repaired", notes


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


# Grading


class Stopped(RuntimeError):
    """What nbgrader said when it gave a hand-in up."""


def _autograde(settings: Settings, unit: str, student: str, folder: str) -> None:
    """Let nbgrader grade one hand-in of a folder: submitted or repaired."""
    from nbgrader.converters import Autograde

    coursedir = settings.coursedir
    kept = coursedir.submitted_directory, coursedir.student_id
    coursedir.assignment_id, coursedir.student_id = unit, student
    if folder != "submitted":
        coursedir.submitted_directory = folder
    with listening() as heard:
        try:
            quietly(Autograde, settings, force=True).start()
        except Exception as error:
            raise Stopped(_why(error, heard.getvalue())) from None
        finally:
            coursedir.submitted_directory, coursedir.student_id = kept


def _why(error: Exception, log: str) -> str:
    """The reason in nbgrader's log, in a sentence."""
    if found := re.findall(r"^autograder\.\S+\.Ungraded: (.+)", log, re.M):
        return found[-1]
    last = re.findall(r"^\w+(?:\.\w+)*(?:Error|Exception)\b.*", log, re.M)
    return f"nbgrader stopped: {last[-1] if last else error}"


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
    from autograder.classroom.executor import leave_ungraded

    stamp = settings.coursedir.get_existing_timestamp(
        str(settings.path("submitted", unit, student))
    )
    with teaching.gradebook(settings) as book:
        book.update_or_create_student(student)
        submission = book.update_or_create_submission(unit, student, timestamp=stamp)
        leave_ungraded(book, submission)
