"""A course on disk: made, released, collected, given feedback and exported.

    build/                  the course's folder
      nbgrader_config.py    course and exchange, written here, read by every nbgrader command
      source/ release/ submitted/ repaired/ autograded/ feedback/ gradebook.db
    build/exchange/<course>/
      course.json           dates, for everyone to read
      outbound/ inbound/ feedback/    as nbgrader makes them: who hands in cannot see who else did

Every function takes the settings, does its work with nbgrader's own classes and gives what there
is to say, line by line.
"""

from __future__ import annotations

import csv
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from autograder.classroom.settings import SETTINGS, WRITTEN, Settings, listening, quietly, read
from lab.course import UNITS, unit_named
from lab.files import replacing

# Making a course


def init(
    settings: Settings,
    roster: Path | None = None,
    exchange: Path | None = None,
    course_id: str | None = None,
) -> Iterator[str]:
    """Exchange, gradebook, roster and settings; what is there already stays as it is."""
    learners = read_roster(roster) if roster else []
    course_id = _course_id(settings, course_id)
    where = Path(os.path.abspath(exchange or settings.exchange or settings.root / "exchange"))
    settings.root.mkdir(parents=True, exist_ok=True)
    yield _keep_settings(settings, course_id, where)
    settings = read(settings.project)
    yield from _make_exchange(settings, where)
    yield from _enter(settings, learners)
    if not learners:
        yield "no roster: learners enter the gradebook when their first hand-in is graded"


def _course_id(settings: Settings, wanted: str | None) -> str:
    course_id = wanted or settings.course_id
    if not re.fullmatch(r"[\w.-]+", course_id):
        raise ValueError(f"course {course_id!r}: use letters, digits, '.', '_' and '-' only")
    if course_id != settings.course_id and _begun(settings) and released(settings):
        raise ValueError(
            f"{settings.root / 'gradebook.db'} holds units of the course {settings.course_id!r}: "
            f"move it away before you begin {course_id!r}"
        )
    return course_id


def _keep_settings(settings: Settings, course_id: str, exchange: Path) -> str:
    path = settings.root / SETTINGS
    here = f"Path(__file__).resolve().parent / {exchange.name!r}"  # so that a clone can be moved
    place = here if exchange.parent == settings.root else repr(str(exchange))
    text = (
        f'{WRITTEN}; every nbgrader command run in the project reads it."""\n\n'
        "from pathlib import Path\n\n"
        "c = get_config()  # noqa: F821 (nbgrader provides it)\n\n"
        f"c.CourseDirectory.course_id = {course_id!r}\n"
        f"c.Exchange.root = str({place})\n"
    )
    if path.exists() and path.read_text("utf-8") == text:
        return f"kept {path}"
    path.write_text(text, encoding="utf-8")
    return f"wrote {path}: course {course_id}, exchange {exchange}"


def _make_exchange(settings: Settings, where: Path) -> Iterator[str]:
    """The folders of the exchange, made by nbgrader so that the permissions are its own."""
    from nbgrader.exchange import ExchangeError
    from nbgrader.exchange.default import ExchangeReleaseAssignment, ExchangeReleaseFeedback

    if sys.platform == "win32":
        raise ValueError("nbgrader has no exchange on Windows: use WSL2, or collect files by hand")
    course = where / settings.course_id
    folders = [course / name for name in ("outbound", "inbound", "feedback")]
    before = [folder for folder in folders if folder.is_dir()]
    with listening():
        try:
            releasing = quietly(ExchangeReleaseAssignment, settings)
            releasing.ensure_root()
            releasing.init_dest()
            quietly(ExchangeReleaseFeedback, settings).init_dest()
        except (ExchangeError, OSError) as error:
            raise ValueError(f"the exchange {where} cannot be made: {error}") from None
    if not dates_path(settings).exists():
        _keep_dates(settings, {})
    for folder in folders:
        mode = oct(folder.stat().st_mode & 0o7777)[2:]
        yield f"{'kept' if folder in before else 'made'} {folder} ({mode})"


# The roster


class Learner(NamedTuple):
    id: str
    first_name: str = ""
    last_name: str = ""
    email: str = ""


def read_roster(path: Path) -> list[Learner]:
    """The learners of a CSV file with the columns id, first_name, last_name, email.

    Commas, semicolons or tabs; with or without a byte order mark. All faults in one ValueError.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ValueError(
            f"{path} is not UTF-8: save it as “CSV UTF-8” in your spreadsheet"
        ) from None
    if not any(lines):
        raise ValueError(f"{path} is empty: the first line names the columns, id among them")
    separator = max(",;\t", key=lines[0].count)
    table = csv.reader(lines, delimiter=separator)
    columns = [name.strip().lower() for name in next(table)]
    if "id" not in columns:
        raise ValueError(f"{path} has no column id: its first line names {', '.join(columns)}")
    learners: dict[str, Learner] = {}
    faults = []
    for row in table:
        if not any(each.strip() for each in row):
            continue
        entry = dict(zip(columns, map(str.strip, row), strict=False))
        learner = Learner(**{name: entry.get(name, "") for name in Learner._fields})
        fault = fault_of(learner.id)
        if learner.id in learners:
            fault = f"the id {learner.id!r} is there twice"
        if fault:
            faults.append(f"line {table.line_num}: {fault}")
        learners[learner.id] = learner
    if faults:
        raise ValueError(f"{path}: {'; '.join(faults)}")
    return list(learners.values())


def fault_of(student: str) -> str:
    """Why this cannot be a learner's id, or ""; ids are part of nbgrader's paths and patterns."""
    if not student:
        return "there is no id"
    if bad := sorted(set(student) & set("+*?[]{}/\\,\"'<>|:")):
        return f"the id {student!r} has {' '.join(bad)} in it, which nbgrader's paths cannot have"
    if student.startswith(".") or not student.isprintable() or student != student.strip():
        return f"the id {student!r} begins with a dot, or has characters that cannot be seen"
    return ""


def _enter(settings: Settings, learners: Sequence[Learner]) -> Iterator[str]:
    with gradebook(settings, new=True) as book:
        before = {student.id for student in book.students}
        for learner in learners:
            given = {name: value or None for name, value in learner._asdict().items()}
            book.update_or_create_student(given.pop("id"), **given)
    named = {learner.id for learner in learners}
    yield f"gradebook {settings.root / 'gradebook.db'}: {len(before | named)} learners"
    if named:
        yield f"roster: {len(named - before)} entered, {len(named & before)} were there"
        if strangers := sorted(before - named):
            yield f"in the gradebook, not in the roster: {', '.join(strangers)}"


def gradebook(settings: Settings, new: bool = False) -> Any:
    """nbgrader's gradebook; use it in a `with`."""
    from nbgrader.api import Gradebook

    if not new and not _begun(settings):
        raise ValueError("there is no gradebook yet: run `lab course init` first")
    return Gradebook(settings.coursedir.db_url, settings.course_id)


def _begun(settings: Settings) -> bool:
    """Whether there is a gradebook; of a server other than SQLite's file we take it for granted."""
    url = settings.coursedir.db_url
    return not url.startswith("sqlite:///") or Path(url.removeprefix("sqlite:///")).exists()


# Dates: in the gradebook for the teacher, in course.json for learners, who cannot read a gradebook


def dates_path(settings: Settings) -> Path:
    """Beside outbound, not in it: nbgrader takes whatever lies there for an assignment."""
    if settings.exchange is None:
        raise ValueError("no exchange is set up: run `lab course init` first")
    return settings.exchange / settings.course_id / "course.json"


def due(settings: Settings, unit: str) -> datetime | None:
    """When a unit is due, if its teacher said so."""
    try:
        found = json.loads(dates_path(settings).read_text("utf-8"))["due"].get(unit)
        return datetime.fromisoformat(found) if found else None
    except (OSError, ValueError, KeyError, AttributeError):
        return None


def _keep_dates(settings: Settings, dates: dict[str, str]) -> None:
    path = dates_path(settings)
    with replacing(path) as new:
        text = json.dumps({"course": settings.course_id, "due": dates}, indent=1, sort_keys=True)
        new.write_text(text + "\n", encoding="utf-8")
    path.chmod(0o644)


def read_date(text: str) -> datetime:
    """A date of the teacher's clock, or of the zone it names: "2026-12-01 18:00"."""
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"due {text!r}: write it like 2026-12-01 18:00") from None
    if len(text.strip()) == len("2026-12-01"):
        found = found.replace(hour=23, minute=59, second=59)  # the whole day
    return found.astimezone(UTC)


def said(moment: datetime) -> str:
    """A moment in UTC and on this machine's clock."""
    local = moment.astimezone()
    return f"{moment:%Y-%m-%d %H:%M} UTC ({local:%Y-%m-%d %H:%M %Z})"


def lateness(late: timedelta) -> str:
    """ "2 d 3 h", "14 min": the two largest units of a span."""
    seconds = int(late.total_seconds())
    spans = [("d", seconds // 86_400), ("h", seconds // 3_600 % 24), ("min", seconds // 60 % 60)]
    told = [f"{count} {name}" for name, count in spans if count][:2]
    return " ".join(told) or f"{max(seconds, 1)} s"


# Releasing


def release(
    settings: Settings, units: Iterable[str] = (), date: datetime | None = None
) -> Iterator[str]:
    """Enter units in the gradebook and put their notebooks where learners fetch them."""
    from nbgrader.converters import GenerateAssignment
    from nbgrader.exchange.default import ExchangeReleaseAssignment

    dates_path(settings)  # there is an exchange
    names = [unit_named(name).name for name in units] or [
        unit.name for unit in UNITS if settings.path("source", unit.name).is_dir()
    ]
    if missing := [name for name in names if not settings.path("source", name).is_dir()] or (
        not names and ["any unit"]
    ):
        raise ValueError(f"there is no source notebook for {', '.join(missing)}: run `lab build`")
    for name in names:
        settings.coursedir.assignment_id = name
        kept = settings.coursedir.release_directory
        settings.coursedir.release_directory = "release"  # exercises/ may be somebody's work
        try:
            with listening() as heard:
                _run(quietly(GenerateAssignment, settings, force=True), name, heard)
                _run(quietly(ExchangeReleaseAssignment, settings, force=True), name, heard)
        finally:
            settings.coursedir.release_directory = kept
        if date is not None:
            _set_due(settings, name, date)
        when = due(settings, name)
        yield f"{name}: released, {f'due {said(when)}' if when else 'no due date'}"


def _run(worker: Any, name: str, heard: Any) -> None:
    from nbgrader.converters.base import NbGraderException
    from nbgrader.exchange import ExchangeError

    try:
        worker.start()
    except (NbGraderException, ExchangeError) as error:
        errors = [line for line in heard.getvalue().splitlines() if line.startswith("ERROR")]
        raise ValueError(f"{name}: {error} {' '.join(errors[:2])}") from error


def _set_due(settings: Settings, unit: str, date: datetime) -> None:
    with gradebook(settings) as book:  # which keeps UTC without saying so
        naive = date.astimezone(UTC).replace(tzinfo=None)
        book.update_or_create_assignment(unit, duedate=naive)
    kept = json.loads(dates_path(settings).read_text("utf-8"))["due"]
    _keep_dates(settings, kept | {unit: date.astimezone(UTC).isoformat()})


def released(settings: Settings) -> list[str]:
    """The units of the gradebook, in the order of the course."""
    with gradebook(settings) as book:
        names = {assignment.name for assignment in book.assignments}
    return [unit.name for unit in UNITS if unit.name in names]


def units_meant(settings: Settings, name: str | None) -> list[str]:
    """The unit of that name, number or module; every released one where none is named."""
    known = released(settings)
    if name is None:
        if not known:
            raise ValueError("nothing is released yet: run `lab course release`")
        return known
    if (wanted := unit_named(name).name) not in known:
        raise ValueError(f"{wanted} is not released yet: run `lab course release {wanted}`")
    return [wanted]


# Collecting


def collect(settings: Settings, unit: str | None = None, before_due: bool = False) -> Iterator[str]:
    """Bring the last hand-in of every learner into submitted/; the exchange keeps all."""
    from nbgrader.exchange.default import ExchangeCollect

    dates_path(settings)
    for name in units_meant(settings, unit):
        settings.coursedir.assignment_id = name
        with listening() as heard:
            worker = quietly(ExchangeCollect, settings, update=True, before_duedate=before_due)
            _run(worker, name, heard)
        lines = heard.getvalue().splitlines()
        new = sum("Collecting submission" in line for line in lines)
        newer = sum("Updating submission" in line for line in lines)
        there = submitted(settings, name)
        yield f"{name}: {len(there)} hand-ins ({new} new, {newer} newer than before)"
        for line in lines:
            if found := re.search(r"claims to be submitted by (.+) but is owned by (\S+);", line):
                yield f"  {found[1]}: handed in from the account {found[2]}"
        if missing := absent(settings, name):
            yield f"  nothing from {', '.join(missing)}"


def submitted(settings: Settings, unit: str) -> list[str]:
    """Who has a collected hand-in of a unit."""
    pattern = settings.path("submitted", unit, "*")
    folders = pattern.parent.parent.glob(f"*/{unit}")
    return sorted(folder.parent.name for folder in folders if folder.is_dir())


def absent(settings: Settings, unit: str) -> list[str]:
    """Who is in the gradebook, and handed in nothing."""
    with gradebook(settings) as book:
        return sorted({student.id for student in book.students} - set(submitted(settings, unit)))


# Feedback


def feedback(settings: Settings, unit: str | None = None) -> Iterator[str]:
    """Pages with code, reports and points, one a hand-in, put where only its learner finds it."""
    from nbgrader.converters import GenerateFeedback
    from nbgrader.exchange.default import ExchangeReleaseFeedback
    from traitlets.config import Config

    for name in units_meant(settings, unit):
        pages = settings.path("feedback", name, "*")
        if not list(settings.path("autograded", name, "*").parent.parent.glob(f"*/{name}")):
            yield f"{name}: nothing is graded yet: run `lab course grade {name}`"
            continue
        settings.coursedir.assignment_id = name
        waiting = _waiting(settings, name)
        settings.coursedir.student_id_exclude = ",".join(waiting)
        with listening() as heard:
            worker = quietly(GenerateFeedback, settings, force=True)
            worker.update_config(Config({"HTMLExporter": {"template_name": "feedback"}}))
            _run(worker, name, heard)
            count = len(list(pages.parent.parent.glob(f"*/{name}/*.html")))
            yield f"{name}: feedback for {count} learners in {pages.parent.parent}"
            if settings.exchange is not None:
                _run(quietly(ExchangeReleaseFeedback, settings), name, heard)
                yield f"  in the exchange: learners run `nbgrader fetch_feedback {name}`"
        if waiting:
            yield f"  none yet for {', '.join(waiting)}: not graded"


def _waiting(settings: Settings, unit: str) -> list[str]:
    """Whose hand-in has no points yet."""
    from autograder.classroom.export import ungraded

    with gradebook(settings) as book:
        found = book.assignment_submissions(unit)
        return sorted(each.student.id for each in found if ungraded(each))


# Grades as a table


def export(settings: Settings, to: Path) -> Iterator[str]:
    """All grades as CSV: nbgrader's columns, and a note where a number would mislead."""
    from autograder.classroom.export import Grades

    with gradebook(settings) as book, listening():
        plugin = Grades(to=str(to))
        plugin.export(book)
    yield from plugin.said
