"""What learners hand in on the page: kept before anything is done with it, and kept for ever.

    build/hand-ins/<learner>/<unit>/
      0001/  0002/          a folder for each hand-in, the last one counts
        attention.ipynb       its bytes
        receipt.json          what the learner was told
        result.json           what came of it, once it is graded
      before-<hash>.ipynb   what stood in submitted/ and had not come this way
    build/submitted/<learner>/<unit>/    the last one, as nbgrader's `collect` would bring it

A hand-in appears with one rename, whole or not at all, and is never changed again. Nothing else is
remembered: who starts anew reads these folders and goes on.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import IO, Any

from autograder.classroom import teaching
from autograder.classroom.accounts import Rate, a_while
from autograder.classroom.handing_in import NotHandedIn, Receipt
from autograder.classroom.settings import Settings, listening
from autograder.oracle.grading import ungradable
from autograder.submission import LARGE, Submission
from lab.course import PARTS, UNITS, Unit, unit_named
from lab.files import replacing

MB = 1_000_000
STAMP = "timestamp.txt"  # nbgrader's
MARK = re.compile(rb'"grade_id"\s*:\s*"(\w+)"')
# One notebook at a time: in memory it is many times its size, and where two threads parse at once,
# Python 3.11 may fail for no reason (python/cpython#106905, a SystemError of ast.parse).
READING = threading.Lock()
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Limits:
    """What the page takes of one learner."""

    file: int = 100 * MB
    learner: int = 1_000 * MB
    times: int = 30  # files an hour
    at_once: int = 2
    spare: int = 500 * MB  # of the disk, left free for everybody


@dataclass(frozen=True)
class HandIn:
    """One hand-in, as its folder has it."""

    folder: Path
    receipt: Receipt

    @classmethod
    def read(cls, folder: Path) -> HandIn:
        return cls(folder, Receipt(**json.loads((folder / "receipt.json").read_text("utf-8"))))

    @property
    def id(self) -> str:
        return f"{self.receipt.unit}/{self.receipt.number}"

    @property
    def owner(self) -> tuple[str, str]:
        return self.receipt.student, self.receipt.unit

    @property
    def notebook(self) -> Path:
        return self.folder / f"{unit_named(self.receipt.unit).module}.ipynb"

    @cached_property
    def size(self) -> int:
        return self.notebook.stat().st_size

    @property
    def result(self) -> dict[str, Any] | None:
        """What came of it; None before it is graded."""
        try:
            return json.loads((self.folder / "result.json").read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            return None

    def keep(self, result: dict[str, Any]) -> None:
        with replacing(self.folder / "result.json", mode=0o600) as new:
            new.write_text(json.dumps(result, ensure_ascii=False), encoding="utf-8")


class Upload:
    """A file on its way in: nobody else's eyes, no more bytes than are allowed."""

    def __init__(self, file: IO[bytes], most: int, why: str):
        self.file, self.most, self.why = file, most, why
        self.size, self.hash = 0, hashlib.sha256()

    def write(self, chunk: bytes) -> None:
        self.size += len(chunk)
        if self.size > self.most:
            raise NotHandedIn(self.why)
        self.hash.update(chunk)
        self.file.write(chunk)

    def expect(self, size: int) -> None:
        """Refuse at once what says itself that it is too large."""
        if size > self.most:
            raise NotHandedIn(self.why)

    @property
    def path(self) -> Path:
        return Path(self.file.name)


class Inbox:
    """The hand-ins of a course."""

    def __init__(self, settings: Settings, limits: Limits | None = None):
        self.settings, self.limits = settings, limits or Limits()
        self.root = settings.root / "hand-ins"
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for left in self.root.glob(".*"):  # of uploads that a stop has cut off
            left.unlink() if left.is_file() else shutil.rmtree(left)
        self._all: dict[tuple[str, str], list[HandIn]] = defaultdict(list)
        self._lock = threading.Lock()  # of the table, and of what is on its way
        self._delivering = threading.Lock()
        self._under_way: dict[str, int] = defaultdict(int)
        self._rate = Rate(self.limits.times, 3600)
        for path in sorted(self.root.glob("*/*/*/receipt.json")):
            if not path.parent.name.startswith("."):
                found = HandIn.read(path.parent)
                self._all[found.owner].append(found)
        for each in self.last():
            self._deliver(each)

    # What is there

    def of(self, student: str) -> list[HandIn]:
        """Everything a learner handed in, unit by unit, the last first."""
        with self._lock:
            return [
                each for unit in UNITS for each in self._all.get((student, unit.name), [])[::-1]
            ]

    def last(self) -> list[HandIn]:
        """Of every learner and unit the one that counts, in the order in which they came."""
        with self._lock:
            return sorted((each[-1] for each in self._all.values() if each), key=_time)

    def used(self, student: str) -> int:
        return sum(each.size for each in self.of(student))

    # What comes in

    @contextmanager
    def upload(self, student: str) -> Iterator[Upload]:
        """Room for a file of this learner. NotHandedIn where there is none, or no longer."""
        limits = self.limits
        if fault := teaching.fault_of(student):
            raise NotHandedIn(fault)
        if wait := self._rate.wait(student):
            raise NotHandedIn(
                f"you sent {limits.times} files within an hour: wait {a_while(wait)}. What you "
                "handed in before counts"
            )
        with self._lock:
            if self._under_way[student] >= limits.at_once:
                raise NotHandedIn("other files of yours are on their way: wait for them")
            self._under_way[student] += 1
        self._rate.count(student)
        try:
            left = limits.learner - self.used(student)
            most, why = limits.file, f"it has more than {_size(limits.file)}"
            if left < most:
                most, why = (
                    left,
                    (
                        f"with it you would have handed in more than {_size(limits.learner)} "
                        "altogether, and nothing is thrown away"
                    ),
                )
            if shutil.disk_usage(self.root).free < limits.file + limits.spare:
                raise NotHandedIn("there is no room left on the course's disk: tell your teacher")
            help = "clear its outputs (Edit, Clear Outputs of All Cells), save, hand in again"
            with tempfile.NamedTemporaryFile(dir=self.root, prefix=".upload-") as file:
                yield Upload(file, most, f"{why}: {help}")
        finally:
            with self._lock:
                self._under_way[student] -= 1

    def keep(self, student: str, upload: Upload, name: str, saved: datetime | None) -> HandIn:
        """Take a file in: the hand-in with its receipt, or NotHandedIn with what is wrong.

        Just what was handed in last gives its receipt once more, and nothing changes.
        """
        upload.file.flush()
        os.fsync(upload.file.fileno())
        unit = self._unit_of(upload, name)
        if unit.name not in self.released():
            raise NotHandedIn(f"{unit.name} is not open for handing in yet")
        with self._lock:
            before = self._all[student, unit.name]
            if before and before[-1].receipt.sha256 == upload.hash.hexdigest():
                return before[-1]
            number = before[-1].receipt.number + 1 if before else 1
            found = self._put(student, unit, upload, name, saved, number)
            before.append(found)
        try:
            self._deliver(found)
        except OSError:  # it is kept, and the next start puts it there
            _log.exception("%s is not in submitted/", found.folder)
        return found

    def released(self) -> list[str]:
        with listening():
            return teaching.released(self.settings)

    def _unit_of(self, upload: Upload, name: str) -> Unit:
        """The unit of a file that can be graded. What is too large to be read here is looked at by
        its marks, and for the rest where it is graded."""
        shown = Path(plain(name) or "the file")
        if upload.size > LARGE:
            return _unit_of_large(upload.path, shown.name)
        with READING:
            submission = Submission.load(shown, raw=upload.path.read_bytes())
            if fault := ungradable(submission):
                raise NotHandedIn(fault)
        assert submission.unit is not None
        return submission.unit

    def _put(
        self,
        student: str,
        unit: Unit,
        upload: Upload,
        name: str,
        saved: datetime | None,
        number: int,
    ) -> HandIn:
        now = datetime.now(UTC)
        due = teaching.due(self.settings, unit.name)
        receipt = Receipt(
            course=self.settings.course_id,
            unit=unit.name,
            student=student,
            number=number,
            time=now.isoformat(),
            notebook=plain(name) or f"{unit.module}.ipynb",
            saved=(min(saved, now) if saved else now).isoformat(timespec="seconds"),
            sha256=upload.hash.hexdigest(),
            points=None,
            max_points=unit.points,
            due=due.isoformat() if due else None,
            late_seconds=max(0, int((now - due).total_seconds())) if due else 0,
        )
        home = self.root / student / unit.name
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = home / f"{number:04}"
        with tempfile.TemporaryDirectory(dir=self.root, prefix=".new-") as new:
            made = Path(new) / "hand-in"
            made.mkdir(mode=0o700)
            os.link(upload.path, made / f"{unit.module}.ipynb")
            with replacing(made / "receipt.json", mode=0o600) as file:
                file.write_text(json.dumps(asdict(receipt), ensure_ascii=False), encoding="utf-8")
            os.rename(made, folder)  # which fails where there is one already
            _settle(home)
        return HandIn(folder, receipt)

    def _deliver(self, handed_in: HandIn) -> None:
        """Put a hand-in where nbgrader looks for it, unless a later one is there."""
        with self._delivering:
            self._put_for_nbgrader(handed_in)

    def _put_for_nbgrader(self, handed_in: HandIn) -> None:
        receipt = handed_in.receipt
        target = self.settings.path("submitted", receipt.unit, receipt.student)
        target.mkdir(parents=True, exist_ok=True)
        notebook, stamp = target / handed_in.notebook.name, target / STAMP
        if notebook.exists():
            if _moment_in(stamp) >= _time(handed_in):
                return
            found = _hash(notebook)
            if found == receipt.sha256 and stamp.exists():
                return
            ours = {each.receipt.sha256 for each in self._all[handed_in.owner]}
            kept = handed_in.folder.parent / f"before-{found[:12]}.ipynb"
            if found not in ours and not kept.exists():
                with replacing(kept, mode=0o600) as new:
                    shutil.copyfile(notebook, new)
        with replacing(notebook) as new:
            shutil.copyfile(handed_in.notebook, new)
        with replacing(stamp) as new:
            new.write_text(f"{_time(handed_in):%Y-%m-%d %H:%M:%S.%f} UTC", encoding="utf-8")


def _unit_of_large(path: Path, name: str) -> Unit:
    raw = path.read_bytes()
    if raw.lstrip()[:1] != b"{":
        raise NotHandedIn(f"{name} is no notebook: it is not JSON")
    for found in MARK.finditer(raw):
        if (unit := PARTS.get(found[1].decode())) is not None:
            return unit
    raise NotHandedIn(f"{name} belongs to no unit: it has none of the cells handed out")


def plain(name: str) -> str:
    """The last step of a file's name as a person reads it; never part of a path here."""
    last = re.split(r"[/\\]", name)[-1]
    return "".join(each for each in last if each.isprintable()).strip()[:120]


def _time(handed_in: HandIn) -> datetime:
    return datetime.fromisoformat(handed_in.receipt.time)


def _moment_in(stamp: Path) -> datetime:
    """When what lies there was handed in, as nbgrader wrote it down."""
    from nbgrader.utils import parse_utc

    with suppress(OSError, ValueError, OverflowError):
        return parse_utc(stamp.read_text("utf-8").strip()).replace(tzinfo=UTC)
    return datetime.min.replace(tzinfo=UTC)


def _settle(folder: Path) -> None:
    """What was renamed into a folder is there after a power cut, too."""
    with suppress(OSError):  # not every system opens folders
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _size(count: int) -> str:
    return f"{count / (1000 * MB):g} GB" if count >= 1000 * MB else f"{count / MB:g} MB"


def late(receipt: Receipt) -> str:
    """ "2 h 5 min", or "" for what came in time."""
    seconds = receipt.late_seconds
    return teaching.lateness(timedelta(seconds=seconds)) if seconds else ""
