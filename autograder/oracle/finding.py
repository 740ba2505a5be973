"""What was handed in, wherever it lies: notebooks, folders, zips in zips, nbgrader's submitted/.

    for each in find([Path("submitted"), Path("moodle.zip")]):
        print(each.name, len(each.read()))

Nothing is unpacked to the disk. What cannot be graded is found as well: `read` says why.
"""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from lab.course import UNITS, Unit

MB = 1_000_000
TOO_LARGE = 100 * MB  # of a notebook; without its outputs it has a hundredth of one
UNPACKED = 4_000 * MB  # of everything in a zip together
MEMBERS = 100_000
ZIPS = 3  # one in the other: a course's, a learner's, a folder's
METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2)
ENCRYPTED, UTF_8 = 0x1, 0x800  # bits of a member's flags
DAMAGED = (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, NotImplementedError)
OF_SYSTEMS = ("__MACOSX", "__pycache__")
OF_NBGRADER = {"timestamp.txt", "submission_secret.txt"}


class Refused(ValueError):
    """A hand-in that is not read, and why."""


@dataclass(frozen=True)
class HandIn:
    """A notebook that was handed in: its name, for people, and its bytes."""

    name: str
    opened: Callable[[], BinaryIO] = field(repr=False)

    @property
    def unit(self) -> Unit | None:
        """The unit that the file or its folder is named after."""
        path = PurePosixPath(self.name.replace(os.sep, "/"))
        known = {path.stem, path.parent.name}
        return next((unit for unit in UNITS if {unit.module, unit.name} & known), None)

    def read(self) -> bytes:
        """Its bytes. Refused where there are none, or too many."""
        try:
            with self.opened() as file:
                raw = file.read(TOO_LARGE + 1)
        except Refused:
            raise
        except DAMAGED as error:
            why = error.strerror if isinstance(error, OSError) else None
            raise Refused(f"it cannot be read: {why or error}") from None
        if len(raw) > TOO_LARGE:
            raise Refused(f"it has more than {TOO_LARGE // MB} MB: clear its outputs and save")
        return raw


def find(paths: Iterable[Path]) -> list[HandIn]:
    """All that was handed in under these paths, each once, in order."""
    found: list[HandIn] = []
    seen: set[str] = set()
    for path in paths:
        if not path.exists():
            raise ValueError(f"{path} is not there")
        here = list(_in_folder(path)) if path.is_dir() else [(path, "")]
        if not here:
            raise ValueError(f"{path} holds no notebook, and no zip")
        for file, fault in here:
            if os.path.abspath(file) not in seen:
                seen.add(os.path.abspath(file))
                found += [_refused(str(file), fault)] if fault else _in_file(file)
    return _told_apart(found)


def _in_folder(folder: Path) -> Iterator[tuple[Path, str]]:
    """The files that were handed in, and what keeps one from being read, or ""."""
    closed: list[OSError] = []
    for place, folders, names in os.walk(folder, onerror=closed.append):
        folders[:] = sorted(each for each in folders if not _of_a_system(each))
        here = Path(place)
        files = [here / each for each in sorted(names) if not _of_a_system(each)]
        wanted = [each for each in files if each.suffix.lower() in (".ipynb", ".zip")]
        unit = next((each for each in UNITS if each.name == here.name), None)
        if unit is not None and here / "timestamp.txt" in files:  # a hand-in as nbgrader keeps it
            folders.clear()
            expected = here / f"{unit.module}.ipynb"
            wanted = [expected] if expected in wanted or len(wanted) != 1 else wanted
        for each in wanted:
            yield each, _fault(each)
    for error in closed:
        yield Path(error.filename), f"the folder cannot be read: {error.strerror}"


def _fault(path: Path) -> str:
    if path.is_symlink():
        return "it is a link to another file: put the file itself there"
    if not path.exists():
        there = sorted({each.name for each in path.parent.iterdir()} - OF_NBGRADER)
        return f"it is missing; handed in: {', '.join(there) or 'nothing'}"
    return "" if path.is_file() else "it is no file"


def _in_file(path: Path) -> Iterator[HandIn]:
    """A file of any name is a notebook if it was asked for."""
    suffix = path.suffix.lower()
    if suffix == ".zip" or (suffix != ".ipynb" and zipfile.is_zipfile(path)):
        yield from _in_zip(str(path), path, _Budget(UNPACKED, MEMBERS))
    else:
        yield HandIn(str(path), lambda: path.open("rb"))


def _told_apart(found: list[HandIn]) -> list[HandIn]:
    """The same, of one name the second with a number: a zip may hold a name twice."""
    counts: Counter[str] = Counter()
    apart = []
    for each in found:
        counts[each.name] += 1
        again = counts[each.name]
        apart.append(replace(each, name=f"{each.name} ({again})") if again > 1 else each)
    return apart


def _of_a_system(name: str) -> bool:
    """Copies and leftovers that a system made: .ipynb_checkpoints, ._notebook.ipynb."""
    return name.startswith(".") or name in OF_SYSTEMS


def _refused(name: str, why: str) -> HandIn:
    def opened() -> BinaryIO:
        raise Refused(why)

    return HandIn(name, opened)


# Zips: names are names and no places, sizes are counted and not believed


@dataclass
class _Budget:
    """How much more may come out of a zip that somebody packed, and of those within it."""

    left: int  # bytes
    members: int


def _in_zip(name: str, file: Path | BinaryIO, budget: _Budget, depth: int = 1) -> Iterator[HandIn]:
    try:
        archive = zipfile.ZipFile(file)
    except DAMAGED as error:
        yield _refused(name, f"it is no zip that can be read: {error}")
        return
    for member in archive.infolist():
        inner = name_of(member)
        if member.is_dir() or any(map(_of_a_system, inner.split("/"))):
            continue
        kind = inner.rpartition(".")[2].lower()
        if kind not in ("ipynb", "zip"):
            continue
        budget.members -= 1
        if budget.members < 0:
            yield _refused(name, f"it holds more than {MEMBERS:,} files: unpack it, grade a folder")
            return
        whole = HandIn(f"{name}/{inner}", _opened(archive, member, budget))
        if kind == "ipynb":
            yield whole
            continue
        try:
            if depth == ZIPS:
                raise Refused(f"more than {ZIPS} zips, one in the other: unpack it")
            raw = whole.read()
        except Refused as why:
            yield _refused(whole.name, str(why))
        else:
            yield from _in_zip(whole.name, io.BytesIO(raw), budget, depth + 1)


def name_of(member: zipfile.ZipInfo) -> str:
    """A member's name as whoever packed it saw it, without what leads out of the zip.

    Where a zip does not say that its names are UTF-8, they are all the same on macOS, GB 2312 in
    China, and else the code page of DOS. The first two are hard to take for something else.
    """
    name = member.filename
    if not member.flag_bits & UTF_8:
        raw = name.encode("cp437", errors="replace")
        for encoding in ("utf-8", "gb2312", "cp437"):
            try:
                name = raw.decode(encoding)
                break
            except UnicodeDecodeError:
                continue
    steps = name.replace("\\", "/").split("/")
    printable = ["".join(x for x in step if x.isprintable()) for step in steps]
    return "/".join(step for step in printable if step.strip(". ") and not step.endswith(":"))


def _opened(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, budget: _Budget
) -> Callable[[], BinaryIO]:
    def opened() -> BinaryIO:
        if member.flag_bits & ENCRYPTED:
            raise Refused("it has a password: unpack it, and grade the folder")
        if member.compress_type not in METHODS:
            raise Refused("it is packed in a way that is not read: unpack it, and grade the folder")
        raw = b""
        if budget.left > 0:
            with archive.open(member) as file:
                raw = file.read(min(TOO_LARGE, budget.left) + 1)
            budget.left -= len(raw)
        if budget.left <= 0:
            raise Refused(f"the zip unpacks to more than {UNPACKED / MB:,.0f} MB: grade a folder")
        return io.BytesIO(raw)

    return opened
