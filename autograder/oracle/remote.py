"""A learner's parts in processes apart, before the suites of this one.

    with Zygote() as zygote:
        reports = judged(submission, zygote, seed)

What one part breaks, no other part sees. Parts that do not speak of each other are asked for one
after the other in the same process, and one that does not pass there is asked for again in a fresh
one. A process that has died or does not answer is replaced, and the next check is asked of another.
Of the other parts' cells only those are run that the part needs, and where they end the process,
its own cell alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import torch

from autograder.cells import Missing, Program
from autograder.judge import SECONDS, Elsewhere, Outcome, TooLong
from autograder.oracle.peer import LARGEST, Gone, Peer
from autograder.oracle.sandbox import Limits
from autograder.oracle.sandbox import Report as Sandbox
from autograder.oracle.transcript import Tape, recalled
from autograder.oracle.zygote import Child, Unavailable, Zygote
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
    alone: bool = False  # without the cells of the other parts


class Room:
    """A process for some parts, started when it is needed, and again when it has ended."""

    def __init__(self, zygote: Zygote, parts: Sequence[str], limits: Limits | None = None):
        self.zygote, self.parts, self.limits = zygote, parts, limits
        self.fresh = True  # no part has been asked for in it
        self._child: Child | None = None

    def enter(self) -> Child:
        """The process, for the next part from now on."""
        if self._child is None:
            try:
                self._child = self.zygote.spawn(self.limits)
            except OSError as error:  # the machine's; every other OSError here is the learner's
                raise Unavailable(str(error)) from error
        self.fresh = False
        return self._child

    def close(self) -> None:
        if self._child is not None:
            self._child.close()
        self._child, self.fresh = None, True

    def __enter__(self) -> Room:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Part(Elsewhere):
    """A part as the judge uses it, in its room."""

    def __init__(self, room: Room, part: str, program: Program):
        self.room, self.part = room, part
        self.program = [[list(each) for each in some] for some in
                        (program.imports, program.given, program.cells)]  # fmt: skip
        self.until = time.monotonic() + IN_ALL
        self.sandbox: Sandbox = {}
        self.lost: Exception | None = None
        self._peer: Peer | None = None
        self._tape: Tape | None = None
        self._stand_in: Any = None

    def start(self) -> Any:
        """The part over there. The error of its cell, where that gives one."""
        if self._peer is not None and self._peer.gone:
            self.close()
        if self._peer is None:
            if time.monotonic() > self.until:
                raise TooLong(f"its checks together have taken {IN_ALL} s")
            child = self.room.enter()
            self.sandbox = child.sandbox
            self._tape = Tape(child.socket)
            self._peer = Peer(self._tape, strict=True, heard=_print)
            self._within()
            self._stand_in = self._peer.begin(self.part, self.program, self.room.parts)
        return self._stand_in

    @contextmanager
    def awake(self) -> Iterator[Any]:
        try:
            stand_in = self.start()
        except Unavailable:
            raise
        except (Exception, SystemExit) as error:  # a cell that ran before may not run again
            self.lost = error if isinstance(error, Exception) else None
            yield _raising(error)
            return
        peer = self._peer
        assert peer is not None and self._tape is not None
        self._within()
        self._tape.check()
        try:
            yield stand_in
        finally:
            try:
                peer.reset()
            except (Exception, SystemExit) as error:  # an answer that `reset` does not have
                peer.gone = peer.gone or Gone(f"it answers with what is no answer ({error})")
            if peer.gone:
                self.lost = peer.gone

    def outcomes(self, ask: Callable[[], list[Outcome]], seed: int) -> list[Outcome]:
        peer, tape = self._peer, self._tape
        if peer is None or tape is None or peer.gone:
            return ask()
        introduction = b"".join(turn.heard for turn in tape.turns())
        known = recalled(self.part, seed, introduction)
        if (outcomes := tape.follow(known, self._within, LARGEST)) is not None:
            peer.reset()
            return outcomes
        outcomes = ask()
        if tape.astray:  # it rounds otherwise than before, and the part has heard too much already
            known.forget()
            self.close()
            self.lost = None
            return ask()
        if self._peer is peer and not peer.gone:
            known.keep(tape.turns(), outcomes)
        return outcomes

    def shortcut(self, source: str) -> str | None:
        with suppress(Exception, SystemExit):  # who has something to hide says nothing in any case
            if self._peer is not None and not self._peer.gone:
                self._within()
                return str(self._peer.ask("shortcut", source=source))[:300] or None
        return None

    def close(self) -> None:
        """End the process; the next one is nobody's yet."""
        self.room.close()
        self._peer = None

    def leave(self) -> None:
        """Let the next part have the process, if it still stands."""
        if self._peer is not None and self._peer.gone:
            self.close()

    def _within(self) -> float:
        """Until when a check may take from now on."""
        assert self._peer is not None
        self._peer.deadline = min(self.until, time.monotonic() + SECONDS)
        return self._peer.deadline


def _print(text: str) -> None:
    print(text, end="")


def _raising(error: BaseException) -> Callable[..., Any]:
    def part(*_: Any, **__: Any) -> Any:
        raise error

    return part


def judged(
    submission: Submission, zygote: Zygote, seed: int, only: Sequence[str] | None = None
) -> Iterator[Judged]:
    """Every part of a submission, those in one room one after the other."""
    program = submission.program()
    parts = submission.unit.parts if submission.unit else ()
    alone = False
    for together in program.apart(part for part in parts if only is None or part in only):
        with Room(zygote, together) as room:
            for part in together:
                each = judged_part(submission, room, part, program, seed, alone)
                alone = alone or each.alone
                yield each


@torch.random.fork_rng(devices=())  # a part's answers bring the state of theirs
def judged_part(
    submission: Submission,
    room: Room,
    part: str,
    program: Program,
    seed: int,
    alone: bool = False,
) -> Judged:
    begun = time.monotonic()
    there = Part(room, part, _only(program, part) if alone else program.of(part))
    cell = submission.by_id.get(part)
    if dict(program.cells)[part] is None or cell is None:
        error = Missing(f"The notebook has no code cell for {part}.")
        return Judged(report_of_error(part, error, {}), {}, 0.0)
    fresh = room.fresh
    try:
        there.start()
    except Unavailable:
        raise  # the machine's fault
    except (Exception, SystemExit) as error:
        if fresh and isinstance(error, (Gone, TooLong)) and not alone:
            there.close()  # it was another part's cell, perhaps
            return judged_part(submission, room, part, program, seed, alone=True)
        report = report_of_error(part, error, {})
    else:
        report = report_on(part, there, seed, source=cell.source)
    if not (report.passed or fresh):  # it was who came before, perhaps
        there.close()
        return judged_part(submission, room, part, program, seed, alone)
    there.leave()
    return Judged(report, there.sandbox, time.monotonic() - begun, there.lost, alone)


def _only(program: Program, part: str) -> Program:
    """A program without the cells of the other parts, which are stock's there."""
    cells = tuple((name, text if name == part else "") for name, text in program.cells)
    return replace(program, cells=cells)
