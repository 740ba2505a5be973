"""The queue of what was handed in on the page: one after the other, the first come first.

    queue = Queue(inbox)
    queue.start()             # what was left over from the last time comes first
    queue.add(handed_in)
    queue.before(handed_in)   # 3 before it; 0: it is its turn; None: not in the queue

A thread asks the oracle's process (`autograder.oracle.job`), which outlives whatever a notebook
does to it. What has no result when the server stops is in the queue when it starts again.
"""

from __future__ import annotations

import json
import logging
import threading
from typing import Any

from autograder.classroom import teaching
from autograder.classroom.inbox import READING, HandIn, Inbox
from autograder.classroom.mending import cell_like, handed_out, mend, names_in
from autograder.classroom.settings import Settings, listening
from autograder.oracle.grading import secret
from autograder.oracle.job import Job, failed
from autograder.oracle.sandbox import Report as Sandbox
from autograder.submission import LARGE, Submission
from lab.course import unit_named

PAUSE = 30  # seconds before a fault of this machine is tried again
_log = logging.getLogger(__name__)


class Queue:
    """Grades the last hand-in of everybody; one that has been replaced loses its place."""

    def __init__(self, inbox: Inbox, require: bool = False):
        """`require`: run nothing outside of a full sandbox."""
        self.inbox = inbox
        self.changes = 0  # counts up; who remembers a number knows whether something has happened
        self._job = Job(secret(), require)
        self._waiting: list[HandIn] = []  # the first one is being graded
        self._news = threading.Condition()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="queue", daemon=True)

    def start(self) -> Sandbox:
        """Begin, and say how well learners' code is kept apart. OSError or TooWeak where no process
        is to be had for it."""
        self._job.start()
        sandbox = self._job.sandbox
        for each in self.inbox.last():
            if (each.result or {"status": "error"})["status"] == "error":
                self.add(each)
        self._thread.start()
        return sandbox

    def stop(self) -> None:
        with self._news:
            self._stopped.set()
            self._news.notify_all()
        self._job.close()
        if self._thread.is_alive():
            self._thread.join()
        self._job.close()  # in case it was about to try again

    def add(self, handed_in: HandIn) -> None:
        """At the end of the queue; an earlier one of the same learner and unit leaves it."""
        with self._news:
            if handed_in in self._waiting:
                return
            first, later = self._waiting[:1], self._waiting[1:]
            self._waiting = first + [x for x in later if x.owner != handed_in.owner] + [handed_in]
            self.changes += 1
            self._news.notify()

    def before(self, handed_in: HandIn) -> int | None:
        with self._news:
            return self._waiting.index(handed_in) if handed_in in self._waiting else None

    def all(self) -> list[HandIn]:
        with self._news:
            return list(self._waiting)

    def _work(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._waiting or self._stopped.is_set())
                if self._stopped.is_set():
                    return
                handed_in = self._waiting[0]
            try:
                result = graded(handed_in, self._job, self.inbox.settings)
                if self._stopped.is_set():  # the process was taken away: that is no result
                    return
                handed_in.keep(result)
            except Exception:  # a full disk, a locked database: nothing is lost, and it goes on
                _log.exception("%s is not graded yet", handed_in.folder)
                self._stopped.wait(PAUSE)
                continue
            with self._news:
                self._waiting.remove(handed_in)
                self.changes += 1


def graded(handed_in: HandIn, job: Job, settings: Settings) -> dict[str, Any]:
    """What `lab course grade` would come to: the cells are put in their places before."""
    name = str(handed_in.notebook)
    try:
        with READING:
            raw, said = mended(handed_in, settings)
    except OSError as error:
        return failed(name, f"its file cannot be read: {error.strerror or error}")
    result = job.grade(name, raw)
    if result["status"] == "graded" and said is not None:
        result["reason"] = said
    return result


def mended(handed_in: HandIn, settings: Settings) -> tuple[bytes, str | None]:
    """A notebook with every cell that was handed out, and what was odd about it. One too large to
    be read here is given as it is."""
    raw = handed_in.notebook.read_bytes()
    if len(raw) > LARGE:
        return raw, None
    unit = unit_named(handed_in.receipt.unit)
    submission = Submission.load(handed_in.notebook, unit, raw)
    if not submission.cells:
        return raw, None
    order = names_in(settings.path("source", unit.name) / f"{unit.module}.ipynb")
    with teaching.gradebook(settings) as book, listening():
        released = handed_out(book, unit.name, unit.module, order)
    cells = [cell_like(each.kind, each.source, dict(each.metadata)) for each in submission.cells]
    content, _ = mend(cells, released)
    return json.dumps(content | {"nbformat": 4, "nbformat_minor": 5}).encode(), "; ".join(
        submission.problems
    )
