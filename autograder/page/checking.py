"""Checks that are run from the page: the autograder's suites, a part at a time, with what came.

    checks = Checks(work)
    checks.want(["softmax", "causal_mask"])
    checks.status()            # {"part": "softmax", "done": 0, "total": 2, …}
    checks.result("softmax")   # {"state": "partial", "points": 4.0, "mistake": …} once it is there

The suites run in a process of their own, and each part in a sandboxed one behind it (see
`oracle.remote`), so that neither slows nor stops the page.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
import time
from collections.abc import Iterable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from autograder import progress
from autograder.page.apart import plain
from autograder.page.work import Work
from autograder.quizzes import questions
from lab.course import PARTS, UNITS, unit_named

Result = dict[str, Any]

QUIZZES = {progress.quiz_of(unit.name): unit for unit in UNITS}
PATIENCE = 2  # seconds that a check may have run and still end by itself when all are cancelled
KEPT = 500


class Checks:
    """What was checked, what is being checked, and what waits; shared by all who look."""

    def __init__(self, work: Work, records: bool = True, strict: bool = False):
        """`records`: attempts count as those of `lab check`; `strict`: a full sandbox or none."""
        self.work, self.records, self.strict = work, records, strict
        self.changes = 0
        self._results: dict[str, Result] = {}  # by the key of what was run
        self._waiting: dict[str, bool] = {}  # names, and whether the attempt counts
        self._now, self._begun = "", 0.0
        self._done = self._total = 0
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._process: Any = None
        self._connection: Connection | None = None

    def want(self, names: Iterable[str], counts: bool = True) -> None:
        """Check these parts and quizzes, after those that wait already."""
        with self._lock:
            if not self._now and not self._waiting:
                self._done = self._total = 0
            for name in names:
                if name not in self._waiting and (name != self._now or counts):
                    self._total += 1
                    self._waiting[name] = counts
            if self._waiting and not (self._thread and self._thread.is_alive()):
                self._thread = threading.Thread(target=self._work, daemon=True)
                self._thread.start()
            self.changes += 1

    def cancel(self) -> None:
        """Check nothing more; what has just begun may end."""
        with self._lock:
            self._waiting.clear()
            self._total = self._done + bool(self._now)
            self.changes += 1
            late = self._now and time.monotonic() - self._begun > PATIENCE
            if late and self._process is not None:
                self._process.kill()

    def status(self) -> Result:
        with self._lock:
            running = bool(self._now or self._waiting)
            return {"running": running, "part": self._now, "done": self._done,
                    "total": self._total, "changes": self.changes}  # fmt: skip

    def result(self, part: str) -> Result | None:
        """What came of a part as it is written now."""
        return self._results.get(self.work.cells[part].key)

    def look_up(self, part: str) -> Result | None:
        """The same; where there is none yet, it is asked for, and no attempt is counted."""
        result = self.result(part)
        if result is None and self.work.cells[part].state in ("written", "forbidden"):
            self.want([part], counts=False)
        return result

    def close(self) -> None:
        self.cancel()
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.join()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._now = ""
                    self.changes += 1
                    return
                self._now = next(iter(self._waiting))
                counts, self._begun = self._waiting.pop(self._now), time.monotonic()
                self.changes += 1
            try:
                self._one(self._now, counts and self.records)
            finally:
                with self._lock:
                    self._done += 1

    def _one(self, name: str, counts: bool) -> None:
        if name in QUIZZES:
            points, answered, of = quiz(self.work, name)
            if counts and answered:
                progress.record(name, float(points), points == of)
            return
        cell, unit = self.work.cells[name], PARTS[name]
        if cell.state in ("missing", "stub"):
            return
        result = self._asked((unit.name, self.work.notebooks[unit.name].raw, name))
        if result["state"] != "cancelled":
            self._results[cell.key] = result
        for old in list(self._results)[:-KEPT]:
            del self._results[old]
        if counts and result["state"] not in ("not started", "cancelled", "error"):
            passed = result["state"] == "passed"
            progress.record(name, result["points"], passed, cell.source)

    def _asked(self, question: Any) -> Result:
        try:
            if self._process is None or not self._process.is_alive():
                self._start()
            assert self._connection is not None
            self._connection.send(question)
            return self._connection.recv()
        except (EOFError, OSError):
            self._process = None
            return {"state": "cancelled", "points": 0.0}

    def _start(self) -> None:
        of = multiprocessing.get_context("spawn")
        self._connection, theirs = of.Pipe()
        self._process = of.Process(target=main, args=(theirs, self.strict), daemon=True)
        self._process.start()
        theirs.close()


def quiz(work: Work, name: str) -> tuple[int, int, int]:
    """Of a unit's quiz: right answers, answers, questions."""
    unit = QUIZZES[name]
    answers = work.notebooks[unit.name].answers
    asked = questions(unit.name)
    given = [each for each in asked if answers.get(each.id) is not None]
    right = sum(each.judge(answers[each.id])[0] for each in given)
    return right, len(given), len(asked)


# The process with the suites


def main(connection: Connection, strict: bool) -> None:
    """Judge what comes in until nobody is there any more."""
    import torch

    from autograder.oracle.grader import Strict
    from autograder.oracle.zygote import Zygote

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the page's
    torch.set_num_threads(1)
    with (Strict if strict else Zygote)() as zygote:
        while True:
            try:
                unit, raw, part = connection.recv()
            except (EOFError, OSError):
                return
            connection.send(judged(unit, raw, part, zygote))


def judged(unit: str, raw: bytes, part: str, zygote: Any) -> Result:
    """What came of a part of a notebook, as plain values."""
    from autograder.judge import TooLong
    from autograder.oracle import remote
    from autograder.submission import Submission

    of = unit_named(unit)
    submission = Submission.load(Path(f"{of.module}.ipynb"), of, raw)
    try:
        each = next(iter(remote.judged(submission, zygote, 0, [part])))
    except OSError as error:
        return {"state": "error", "points": 0.0, "message": plain(str(error))}
    report, diagnosis = each.report, each.report.diagnosis
    state = {"shortcut": "forbidden"}.get(report.state, report.state)
    if state == "failed":
        lost = "timeout" if isinstance(each.lost, TooLong) else "crashed"
        state = "partial" if report.points else lost if each.lost else "failed"
    named = diagnosis.named if diagnosis else None
    return {
        "state": state,
        "points": report.points,
        "mistake": named.name if named else None,
        "headline": plain(diagnosis.headline) if diagnosis else "",
        "message": plain(diagnosis.sentence) if diagnosis else "",
        "where": plain(diagnosis.where) if diagnosis else "",
        "hint": named.hint if named else "",
        "checks": [[line.check.sentence, line.passed] for line in report.lines],
    }
