"""What became of everybody's work: the one table that reports and exports are made from.

    entries(read(Path("grades.json")), read_roster(Path("roster.csv")))
    of_gradebook(book)

The first road is the JSON of `lab grade`, the second nbgrader's gradebook, where it holds the
grades. Both give an `Entry` for every learner and unit, also for who handed in nothing. What could
not be graded has no points: not here, and so in no export.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path, PurePath
from typing import Any

from autograder.classroom.settings import Settings
from autograder.classroom.teaching import Learner
from lab.course import UNITS, unit_named

Result = dict[str, Any]  # of a notebook, as autograder.oracle.grading makes it
STATUSES = ("graded", "rejected", "error")


@dataclass(frozen=True)
class Entry:
    """A learner and a unit: the result, or None where nothing was handed in."""

    learner: Learner
    unit: str  # "" where nothing tells to which one a notebook belongs
    max_points: float | None = None
    result: Result | None = None
    due: datetime | None = None
    handed_in: datetime | None = None
    penalty: float = 0.0
    notes: tuple[str, ...] = ()
    numbers: frozenset[str] = frozenset()  # under which Moodle or Canvas knows who handed it in

    @property
    def graded(self) -> bool:
        return self.result is not None and self.result["status"] == "graded"

    @property
    def raw_points(self) -> float | None:
        """Without what lateness costs; None where there is no grade."""
        return float(self.result["points"]) if self.result and self.graded else None

    @property
    def points(self) -> float | None:
        return None if self.raw_points is None else max(0.0, self.raw_points - self.penalty)

    @property
    def why_not(self) -> str:
        """Why there are no points; "" where there are."""
        if self.result is None:
            return "not handed in"
        if self.graded:
            return ""
        reason = self.result.get("reason") or "no reason was given"
        return {"error": "fault of the machine: "}.get(self.result["status"], "") + reason

    @property
    def parts(self) -> list[Result]:
        return self.result["parts"] if self.result and self.graded else []

    @property
    def name(self) -> str:
        """ "Ada Byron (ada)"; the id alone where no name is known."""
        full = full_name(self.learner)
        return f"{full} ({self.learner.id})" if full else self.learner.id


def full_name(learner: Learner) -> str:
    """ "Ada Byron", but 张伟: Chinese names begin with the family's."""
    first, last = learner.first_name, learner.last_name
    if first and last and all("\u3400" <= each <= "\u9fff" for each in first + last):
        return last + first
    return f"{first} {last}".strip()


# From `lab grade`


def read(path: Path) -> list[Result]:
    """The results in a file of `lab grade --json`. Anything else is a ValueError that says so."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path} is missing: write it with `lab grade … --json {path}`") from None
    except ValueError:
        raise ValueError(f"{path} holds no results: it is not JSON") from None
    if not isinstance(found, list):
        raise ValueError(f"{path} holds no results: `lab grade --json` writes a list")
    for number, each in enumerate(found, 1):
        if fault := _fault(each):
            raise ValueError(f"{path}: result {number} {fault}")
    return found


def _fault(result: Any) -> str:
    """What is wrong with one result, or ""."""
    if not isinstance(result, dict):
        return "is no object"
    missing = {"notebook", "unit", "points", "max_points", "status", "parts"} - set(result)
    if missing:
        return f"has no {', '.join(sorted(missing))}"
    if result["status"] not in STATUSES:
        return f"has the status {result['status']!r}: it is one of {', '.join(STATUSES)}"
    if result["unit"] is not None and result["unit"] not in {unit.name for unit in UNITS}:
        return f"belongs to the unit {result['unit']!r}, which there is not"
    if result["status"] == "graded" and not _is_number(result["points"]):
        return f"is graded, but its points are {result['points']!r}"
    fits = isinstance(result["parts"], list) and all(map(_is_part, result["parts"]))
    return "" if fits else "has parts that are none"


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value


def _is_part(part: Any) -> bool:
    return (
        isinstance(part, dict)
        and {"part", "points", "max_points", "state", "mistake", "message"} <= set(part)
        and _is_number(part["points"])
        and isinstance(part.get("checks", []), list)
    )


def entries(results: Iterable[Result], roster: Sequence[Learner] = ()) -> list[Entry]:
    """Everybody in the roster, then who is not in it, for every unit that somebody handed in."""
    found: dict[tuple[str, str], Entry] = {}
    seek = finder(roster)
    for result in results:
        learner, numbers = seek(str(result["notebook"]))
        unit = result["unit"] or ""
        if (key := (learner.id, unit)) in found:
            both = f"{found[key].result['notebook']} and {result['notebook']}"  # type: ignore[index]
            raise ValueError(f"{learner.id} has two notebooks of {unit or 'no unit'}: {both}")
        found[key] = Entry(learner, unit, result["max_points"], result, numbers=numbers)
    learners = {each.id: each for each in roster} | {
        e.learner.id: e.learner for e in found.values()
    }
    table = []
    for unit in UNITS:
        if any(name == unit.name for _, name in found):
            empty = [(each.id, Entry(each, unit.name, unit.points)) for each in learners.values()]
            table += [found.get((id, unit.name), entry) for id, entry in empty]
    return table + [entry for (_, unit), entry in found.items() if not unit]


# Who handed a file in

_MOODLE = re.compile(r"(?P<name>.+)_(?P<number>\d+)_assignsubmission_file")
_CANVAS = re.compile(r"(?P<name>[^_]+?)_(?:LATE_)?(?P<number>\d+)_\d+_")
_UNITS = {name for unit in UNITS for name in (unit.name, unit.module)}


def finder(roster: Sequence[Learner] = ()) -> Callable[[str], tuple[Learner, frozenset[str]]]:
    """Whose a file is, by its path, and the numbers that a learning platform put into it.

    A name in the roster, wherever it stands; what Moodle and Canvas call a downloaded hand-in;
    else the folder (`ada/01-attention/attention.ipynb`) or the file itself (`ada.ipynb`).
    """
    by_id = {each.id: each for each in roster}
    by_name: dict[str, list[Learner]] = {}
    for each in roster:
        for key in {
            _plain(each.first_name + each.last_name),
            _plain(each.last_name + each.first_name),
        }:
            by_name.setdefault(key, []).append(each)

    def seek(path: str) -> tuple[Learner, frozenset[str]]:
        pieces = _pieces(path)
        for piece in pieces:
            if piece in by_id:
                return by_id[piece], frozenset()
        for piece in pieces:
            if match := _MOODLE.match(piece) or _CANVAS.match(piece):
                same = by_name.get(_plain(match["name"]), [])
                learner = same[0] if len(same) == 1 else Learner(match["name"])
                return learner, frozenset({match["number"]})
        return Learner(pieces[0]), frozenset()

    return seek


def _pieces(path: str) -> list[str]:
    """What a path may say of who handed it in, the likeliest first."""
    pure = PurePath(path.replace("\\", "/"))
    folders = [parent.name.removesuffix(".zip") for parent in pure.parents]
    of_unit = bool(folders) and folders[0] in _UNITS  # ada/01-attention/mine.ipynb
    names = [*folders, pure.stem] if of_unit else [pure.stem, *folders]
    return [name for name in names if name and name not in _UNITS] or [pure.stem]


def _plain(name: str) -> str:
    return "".join(filter(str.isalnum, name.casefold()))


# From nbgrader's gradebook


def of_gradebook(book: Any, units: Iterable[str] = (), students: Iterable[str] = ()) -> list[Entry]:
    """Every learner and unit of a gradebook, or of these; use it while the gradebook is open."""
    units, students = set(units), set(students)
    return [
        _entry(book, assignment, student)
        for assignment in book.assignments
        if not units or assignment.name in units
        for student in book.students
        if not students or student.id in students
    ]


def _entry(book: Any, assignment: Any, student: Any) -> Entry:
    from nbgrader.api import MissingEntry

    names = (student.first_name or "", student.last_name or "", student.email or "")
    entry = Entry(Learner(student.id, *names), assignment.name, assignment.max_score,
                  due=assignment.duedate)  # fmt: skip
    try:
        submission = book.find_submission(assignment.name, student.id)
    except MissingEntry:
        return entry
    waiting = ungraded(submission)
    result = {
        "notebook": "",
        "unit": assignment.name,
        "points": None if waiting else submission.score,
        "max_points": assignment.max_score,
        "status": "rejected" if waiting else "graded",
        "reason": "not graded yet" if waiting else "",
        "parts": [] if waiting else list(_parts(submission)),
    }
    return Entry(
        entry.learner,
        entry.unit,
        entry.max_points,
        result,
        entry.due,
        submission.timestamp,
        submission.late_submission_penalty or 0.0,
        () if waiting else _notes(submission),
    )


def with_notebook(entry: Entry, settings: Settings) -> Entry:
    """The entry of a gradebook, and where the notebook lies that it is about."""
    if entry.result is None:
        return entry
    folder = settings.path("submitted", entry.unit, entry.learner.id)
    path = folder / f"{unit_named(entry.unit).module}.ipynb"
    others = sorted(folder.glob("*.ipynb"))
    path = others[0] if not path.exists() and len(others) == 1 else path
    return replace(entry, result=entry.result | {"notebook": str(path)})


def _parts(submission: Any) -> Iterator[Result]:
    for notebook in submission.notebooks:
        for grade in notebook.grades:
            points, most = grade.score or 0.0, grade.max_score
            yield {
                "part": grade.name.removeprefix("check-"),
                "points": points,
                "max_points": most,
                "state": "passed" if points >= most else "partial" if points else "failed",
                "mistake": None,
                "message": "",
                "checks": [],
            }


def ungraded(submission: Any) -> bool:
    """Whether no cell of a submission has points yet, from nbgrader or from a person."""
    grades = [grade for notebook in submission.notebooks for grade in notebook.grades]
    return all(grade.auto_score is None and grade.manual_score is None for grade in grades)


def _notes(submission: Any) -> tuple[str, ...]:
    late = ("late",) if submission.total_seconds_late > 0 else ()
    waiting = ("to be looked at in the formgrader",) if submission.needs_manual_grade else ()
    return (*late, *waiting)
