"""Many hand-ins: each graded once, whatever happens in between.

    with Processes(2, kept.seed) as graders:
        for number, result in grade_all(found, graders, kept): ...

A result is kept under the hash of what decides it: the bytes of the notebook and the code of the
course. So a run that was killed goes on where it was, identical hand-ins are graded once, and
grading twice changes nothing. What was the machine's fault is not kept, and tried again.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import queue
import statistics
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import lab
from autograder.oracle.finding import HandIn, Refused
from autograder.oracle.job import Job
from autograder.oracle.result import Result, blank, secret
from autograder.oracle.sandbox import Report as Sandbox
from autograder.oracle.sandbox import strength
from lab.course import UNITS


@dataclass(frozen=True)
class Task:
    """A notebook to be graded, and the key of its result."""

    key: str
    name: str
    raw: bytes


class Graders(ABC):
    """What grades tasks, several at a time: processes here, or a cluster."""

    room: int  # tasks that may wait or be underway at once
    sandbox: Sandbox | None = None  # what learners' code is kept in, once something has started

    @abstractmethod
    def submit(self, task: Task) -> None:
        """Have it graded. TooWeak or OSError, before any learner's code is run, where the first
        one cannot be."""

    @abstractmethod
    def next(self) -> tuple[str, Result]:
        """The key and the result of a task that has come to its end, whatever became of it."""

    @abstractmethod
    def close(self) -> None:
        """End everything that was started."""

    def __enter__(self) -> Graders:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def grade_all(
    found: Sequence[HandIn], graders: Graders, kept: Kept, require: bool = False
) -> Iterator[tuple[int, Result]]:
    """A result for every hand-in, with its number, in the order in which they come to an end.

    `require`: what was graded in less than a full sandbox is graded again.
    """
    waiting: dict[str, list[int]] = {}

    def settle() -> Iterator[tuple[int, Result]]:
        key, result = graders.next()
        kept.put(key, result)
        for number in waiting.pop(key):
            yield number, _of(found[number], result)

    # Unit by unit: what its known mistakes give is remembered while it is graded.
    units = [each.unit.name if each.unit else "" for each in found]
    for number in sorted(range(len(found)), key=units.__getitem__):
        each = found[number]
        try:
            raw = each.read()
        except Refused as why:
            yield number, blank(each.name, each.unit, str(why), "rejected")
            continue
        key = kept.key(each, raw)
        if key in waiting:
            waiting[key].append(number)
        elif (known := kept.get(key)) and (not require or _full(known)):
            yield number, _of(each, known)
        else:
            while len(waiting) >= graders.room:
                yield from settle()
            waiting[key] = [number]
            graders.submit(Task(key, each.name, raw))
    while waiting:
        yield from settle()


def _of(hand_in: HandIn, result: Result) -> Result:
    """The result of a notebook under the name of this hand-in."""
    ours, theirs = Path(hand_in.name).name, Path(result["notebook"]).name
    own = {"notebook": hand_in.name, "reason": result["reason"].replace(theirs, ours)}
    if result["unit"] is None and (unit := hand_in.unit):
        own |= {"unit": unit.name, "max_points": unit.points}
    return result | own


def _full(result: Result) -> bool:
    """Whether nothing of it ran outside of a full sandbox."""
    return not result["sandbox"] or strength(result["sandbox"]) == "full"


# What is kept


class Kept:
    """Results by key, in a folder where there is one; else as long as this lives."""

    def __init__(self, folder: Path | None = None):
        self.folder = folder
        self._here: dict[str, Result] = {}
        if folder is not None:
            folder.mkdir(mode=0o700, exist_ok=True)

    def key(self, hand_in: HandIn, raw: bytes) -> str:
        """The hash of what decides a result. The name does where the notebook says no unit."""
        unit = hand_in.unit.name if hand_in.unit else ""
        return hashlib.sha256(f"{self.version} {unit} ".encode() + raw).hexdigest()

    def get(self, key: str) -> Result | None:
        """What came of it before. A file that breaks off is none."""
        if self.folder is not None and key not in self._here:
            with suppress(OSError, ValueError):
                self._here[key] = json.loads((self.folder / f"{key}.json").read_text("utf-8"))
        return self._here.get(key)

    def put(self, key: str, result: Result) -> None:
        if result["status"] == "error":
            return
        self._here[key] = result
        if self.folder is not None:
            write(self.folder / f"{key}.json", result)

    @functools.cached_property
    def seed(self) -> int:
        """The run's: one that was killed goes on with its own, the next one has another."""
        if self.folder is None:
            return secret()
        place = self.folder / "seed"
        if not place.exists():
            place.touch(mode=0o600)
            place.write_text(str(secret()))
        return int(place.read_text() or secret())

    @functools.cached_property
    def version(self) -> str:
        return version()

    def done(self) -> None:
        """The run has come to its end."""
        if self.folder is not None:
            (self.folder / "seed").unlink(missing_ok=True)


def version() -> str:
    """The hash of what grades: suites, quizzes, mistakes, and all the code that they run on."""
    ours, labs = Path(__file__).parents[1], Path(lab.__path__[0])
    kinds = ("*.py", "*.toml", "sealed.txt")
    files = [*(each for kind in kinds for each in ours.rglob(kind)), *labs.glob("*.py")]
    texts = [hashlib.sha256(each.read_bytes()).digest() for each in sorted(files)]
    return hashlib.sha256(metadata.version("torch").encode() + b"".join(texts)).hexdigest()


def write(path: Path, content: Any, indent: int | None = None) -> None:
    """JSON, whole or not at all."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        text = json.dumps(content, ensure_ascii=False, indent=indent)
        aside.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


# Processes of this machine


class Processes(Graders):
    """Processes side by side, each with a thread here that waits for it."""

    def __init__(self, count: int, seed: int, require: bool = False):
        self.room = 2 * count  # none waits while the next notebook is read
        self._jobs = [Job(seed, require) for _ in range(count)]
        self._idle: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[str, Result]] = queue.SimpleQueue()
        self._threads = ThreadPoolExecutor(count)

    def submit(self, task: Task) -> None:
        if self.sandbox is None:
            list(self._threads.map(Job.start, self._jobs))
            self.sandbox = self._jobs[0].sandbox
            for job in self._jobs:
                self._idle.put(job)
        self._threads.submit(self._grade, task)

    def _grade(self, task: Task) -> None:
        job = self._idle.get()
        self._done.put((task.key, job.grade(task.name, task.raw)))
        self._idle.put(job)

    def next(self) -> tuple[str, Result]:
        while True:
            with suppress(queue.Empty):
                return self._done.get(timeout=1)  # on Windows Ctrl-C is heard in between

    def close(self) -> None:
        for job in self._jobs:
            job.end()
        self._threads.shutdown(cancel_futures=True)
        for job in self._jobs:
            job.close()


# What there is to say in the end


@dataclass(frozen=True)
class Row:
    """A unit, or all hand-ins without one: how many, and what they reached."""

    unit: str
    count: int
    graded: int
    median: float | None
    max_points: int | None
    whole: int  # hand-ins with all points


def summary(results: Iterable[Result]) -> list[Row]:
    """A row a unit, in the order of the course."""
    of: dict[str, list[Result]] = {}
    for each in results:
        of.setdefault(each["unit"] or "", []).append(each)
    names = [unit.name for unit in UNITS if unit.name in of] + [""] * ("" in of)
    return [_row(name, of[name]) for name in names]


def _row(unit: str, results: list[Result]) -> Row:
    points = [each["points"] for each in results if each["status"] == "graded"]
    most = results[0]["max_points"]
    median = statistics.median(points) if points else None
    return Row(unit, len(results), len(points), median, most, sum(x == most for x in points))
