"""A learner's part in a process of its own, before the suites of this one.

    with Zygote() as zygote:
        reports = judged(submission, zygote, seed)

One process a part: what one part breaks, no other part sees. A process that has died or does not
answer is replaced, and the next check is asked of another.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from autograder.cells import Missing, Program
from autograder.judge import SECONDS, Elsewhere, TooLong
from autograder.oracle.peer import Gone, Peer
from autograder.oracle.sandbox import Limits
from autograder.oracle.sandbox import Report as Sandbox
from autograder.oracle.zygote import Child, Zygote
from autograder.report import Report, report_on
from autograder.submission import Submission, report_of_error

IN_ALL = 3 * SECONDS  # for all checks of a part together


@dataclass(frozen=True)
class Judged:
    """A part's report, how its process was kept, and how often it had to be replaced."""

    report: Report
    sandbox: Sandbox
    seconds: float
    lost: Exception | None = None  # what became of a process that had to be replaced


class Part(Elsewhere):
    """A part as the judge uses it: a fresh process behind it, started when it is needed."""

    def __init__(self, zygote: Zygote, part: str, program: Program, limits: Limits | None = None):
        self.zygote, self.part, self.limits = zygote, part, limits
        self.program = [[list(each) for each in some] for some in
                        (program.imports, program.given, program.cells)]  # fmt: skip
        self.until = time.monotonic() + IN_ALL
        self.sandbox: Sandbox = {}
        self.lost: Exception | None = None
        self._child: Child | None = None
        self._peer: Peer | None = None
        self._stand_in: Any = None

    def start(self) -> Any:
        """The part over there. The error of its cell, where that gives one."""
        if self._peer is not None and self._peer.gone:
            self.close()
        if self._peer is None:
            if time.monotonic() > self.until:
                raise TooLong(f"its checks together have taken {IN_ALL} s")
            self._child = self.zygote.spawn(self.limits)
            self.sandbox = self._child.sandbox
            self._peer = Peer(self._child.socket, strict=True, heard=_print)
            self._within()
            self._stand_in = self._peer.begin(self.part, self.program)
        return self._stand_in

    @contextmanager
    def awake(self) -> Iterator[Any]:
        stand_in = self.start()
        peer = self._peer
        assert peer is not None
        self._within()
        try:
            yield stand_in
        finally:
            with suppress(Gone, TooLong):
                peer.reset()
            if peer.gone:
                self.lost = peer.gone

    def shortcut(self, source: str) -> str | None:
        with suppress(Gone, TooLong):
            if self._peer is not None and not self._peer.gone:
                self._within()
                return str(self._peer.ask("shortcut", source=source))[:300] or None
        return None

    def close(self) -> None:
        if self._child is not None:
            self._child.close()
        self._child = self._peer = None

    def _within(self) -> None:
        assert self._peer is not None
        self._peer.deadline = min(self.until, time.monotonic() + SECONDS)


def _print(text: str) -> None:
    print(text, end="")


def judged(
    submission: Submission, zygote: Zygote, seed: int, only: Sequence[str] | None = None
) -> Iterator[Judged]:
    """Every part of a submission, each in a process of its own."""
    program = submission.program()
    for part in submission.unit.parts if submission.unit else ():
        if only is None or part in only:
            yield judged_part(submission, zygote, part, program, seed)


def judged_part(
    submission: Submission, zygote: Zygote, part: str, program: Program, seed: int
) -> Judged:
    begun = time.monotonic()
    there = Part(zygote, part, program)
    try:
        cell = submission.by_id.get(part)
        if dict(program.cells)[part] is None or cell is None:
            error = Missing(f"The notebook has no code cell for {part}.")
            return Judged(report_of_error(part, error, {}), {}, 0.0)
        try:
            there.start()
        except OSError:
            raise  # the machine's fault
        except Exception as error:
            report = report_of_error(part, error, {})
        else:
            report = report_on(part, there, seed, source=cell.source)
        return Judged(report, there.sandbox, time.monotonic() - begun, there.lost)
    finally:
        there.close()
