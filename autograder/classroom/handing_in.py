"""Handing in: submit("03-multi-head") in the notebook's last cell, `lab submit` in a shell.

The unit's folder goes through nbgrader's exchange, where every hand-in is kept. The learner gets
a receipt with the hash of the notebook; receipts are kept beside the progress, one JSON object a
line.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import warnings
from contextlib import redirect_stderr
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from autograder import progress
from autograder.classroom import settings, teaching
from lab.course import Unit, unit_named

STUDENT = "LAB_STUDENT"  # who hands in, where it is not the account


class NotHandedIn(ValueError):
    """Nothing was handed in; the message says what to do."""


@dataclass(frozen=True)
class Receipt:
    """What was handed in, and when."""

    course: str
    unit: str
    student: str
    number: int  # of this learner's hand-ins of this unit
    time: str  # ISO 8601, UTC
    notebook: str
    saved: str  # when the notebook was last saved, UTC
    sha256: str
    points: float | None  # by the last check() of each part; None before the first
    max_points: int
    due: str | None
    late_seconds: int

    def text(self) -> str:
        time, saved = map(datetime.fromisoformat, (self.time, self.saved))
        again = f" ({_ordinal(self.number)} time; the earlier ones are kept)"
        lines = [
            f"Handed in: {self.unit}, by {self.student}{again if self.number > 1 else ''}",
            f"  time      {_moment(time)}",
            f"  notebook  {self.notebook}, as saved {_ago(time - saved)}",
            f"  sha256    {self.sha256}",
        ]
        if self.points is not None:
            lines.append(f"  points    {self.points:g} of {self.max_points} by your last checks")
        if self.late_seconds:
            late = teaching.lateness(timedelta(seconds=self.late_seconds))
            lines.append(f"  LATE      by {late}: it was due {_due(self.due)}")
        elif self.due:
            lines.append(f"  on time   due {_due(self.due)}")
        lines.append("Changed something since? Save first (Ctrl-S), then hand in again.")
        return "\n".join(lines)

    def _ipython_display_(self) -> None:
        """Nothing: submit() has printed it."""


def submit(unit: str, student: str | None = None) -> Receipt | None:
    """Hand a unit in and print the receipt, or what is in the way. Silent while nbgrader grades."""
    if os.environ.get(settings.VARIABLE):
        return None
    try:
        receipt = hand_in(unit, student)
    except ValueError as error:
        print(f"Not handed in: {error}")
        return None
    print(receipt.text())
    return receipt


def hand_in(unit: str, student: str | None = None, folder: Path | None = None) -> Receipt:
    """Hand in the notebook of a unit as it was last saved."""
    named = unit_named(unit)
    folder = _folder(named, folder)
    notebook = _notebook(named, folder)
    found = settings.read_for(folder)
    _check_exchange(found, named, notebook)
    who = _student(student)
    content = notebook.read_bytes()
    saved = datetime.fromtimestamp(notebook.stat().st_mtime, UTC)
    time = _through_nbgrader(found, named, folder, who)
    due = teaching.due(found, named.name)
    receipt = Receipt(
        course=found.course_id,
        unit=named.name,
        student=who,
        number=1 + sum(_same(each, found.course_id, named.name, who) for each in receipts()),
        time=time.isoformat(timespec="seconds"),
        notebook=notebook.name,
        saved=saved.isoformat(timespec="seconds"),
        sha256=hashlib.sha256(content).hexdigest(),
        points=_points(named),
        max_points=named.points,
        due=due.isoformat() if due else None,
        late_seconds=max(0, int((time - due).total_seconds())) if due else 0,
    )
    _keep(receipt)
    return receipt


def receipts() -> list[dict[str, Any]]:
    """All receipts of this learner, the oldest first."""
    found = []
    path = progress.folder() / "receipts.jsonl"
    for line in path.read_text("utf-8").splitlines() if path.exists() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue  # a line cut off
    return [each for each in found if isinstance(each, dict)]


def _keep(receipt: Receipt) -> None:
    folder = progress.folder()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "receipts.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(receipt), ensure_ascii=False) + "\n")


# What is handed in, and by whom


def _folder(unit: Unit, folder: Path | None) -> Path:
    """The unit's folder: here, if this is it, else exercises/<unit> of the project."""
    if folder is not None:
        return folder.resolve()
    here = Path.cwd()
    if here.name == unit.name:
        return here
    try:
        return settings.project(here) / "exercises" / unit.name
    except ValueError:
        return here / unit.name


def _notebook(unit: Unit, folder: Path) -> Path:
    notebook = folder / f"{unit.module}.ipynb"
    if notebook.exists():
        return notebook
    others = ", ".join(sorted(path.name for path in folder.glob("*.ipynb")))
    there = f" (there is {others}: give it its name back)" if others else ""
    raise NotHandedIn(f"{notebook} is not there{there}")


def _student(student: str | None) -> str:
    """Who hands in: the one named, LAB_STUDENT, or the account, as nbgrader takes it."""
    from nbgrader.utils import get_username

    who = student or os.environ.get(STUDENT)
    try:
        who = who or get_username()
    except (KeyError, OSError):
        raise NotHandedIn(f"who are you? Set {STUDENT}, or say submit(…, student=…)") from None
    if fault := teaching.fault_of(who):
        raise NotHandedIn(fault)
    return who


def _points(unit: Unit) -> float | None:
    """By the last check of each part and of the quiz."""
    kept = progress.load()
    last = [
        kept[name]["last"]
        for name in (*unit.parts, progress.quiz_of(unit.name))
        if "last" in kept.get(name, {})
    ]
    return float(sum(last)) if last else None


# Through the exchange


def _check_exchange(found: settings.Settings, unit: Unit, notebook: Path) -> None:
    send = f"or send the file {notebook}"
    if found.exchange is None:
        raise NotHandedIn(
            f"no exchange is set up here. Your teacher runs `lab course init`; {send}"
        )
    place = found.exchange / found.course_id
    if not (place / "inbound").is_dir():
        raise NotHandedIn(
            f"the exchange {place} is not there: is it on another machine? Ask your teacher; {send}"
        )
    if not (place / "outbound" / unit.name).is_dir():
        raise NotHandedIn(
            f"{unit.name} is not released in {found.course_id} yet. "
            f"Your teacher runs `lab course release {unit.name}`; {send}"
        )


def _through_nbgrader(found: settings.Settings, unit: Unit, folder: Path, who: str) -> datetime:
    """Copy the folder into the exchange with nbgrader's own class; the time it wrote down."""
    from nbgrader.auth import Authenticator
    from nbgrader.exchange import ExchangeError
    from nbgrader.exchange.default import ExchangeSubmit
    from nbgrader.utils import parse_utc

    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    limit = min(found.coursedir.max_file_size, found.coursedir.max_dir_size) * 1000
    if size > limit:  # nbgrader would say so in bytes, or leave the notebook out
        raise NotHandedIn(
            f"{folder} is {size / 1e6:,.0f} MB, the exchange takes {limit / 1e6:,.0f}. Clear the "
            "outputs (Edit, Clear Outputs of All Cells), save (Ctrl-S) and hand in again"
        )
    found.coursedir.assignment_id, found.coursedir.student_id = unit.name, who
    with settings.listening(), warnings.catch_warnings(), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        worker = settings.quietly(
            ExchangeSubmit,
            found,
            assignment_dir=str(folder.parent),
            authenticator=Authenticator(config=found.config),
        )
        try:
            worker.start()
        except (ExchangeError, OSError, RuntimeError) as error:
            raise NotHandedIn(str(error)) from error
    return parse_utc(worker.timestamp).replace(tzinfo=UTC)


# In words


def _same(receipt: dict[str, Any], *wanted: str) -> bool:
    return tuple(receipt.get(name) for name in ("course", "unit", "student")) == wanted


def _moment(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M:%S} UTC ({time.astimezone():%Y-%m-%d %H:%M:%S %Z})"


def _due(text: str | None) -> str:
    return teaching.said(datetime.fromisoformat(text)) if text else ""


def _ago(span: timedelta) -> str:
    return "just now" if span < timedelta(seconds=5) else f"{teaching.lateness(span)} ago"


def _ordinal(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if number % 100 in (11, 12, 13) else ending}"
