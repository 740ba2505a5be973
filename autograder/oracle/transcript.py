"""What a suite and a part have said to each other, so that the same answers are not judged twice.

    tape = Tape(child.socket)                       # in the connection's place
    known = recalled(part, seed, introduction)      # what is known from here on
    outcomes = tape.follow(known, until, most)      # None: the suite is to be run
    known.keep(tape.turns(), outcomes)

A suite is a function of its seed and of what the part answers: they decide what it asks next and
what comes of it. So the questions of an earlier hand-in are asked again as they were, and as long
as the answers are the same, byte by byte, nothing has to be drawn, computed or compared. At the
first other byte the suite itself is run, on the answers that are there already, and goes on asking
where they end. What comes out is what would have come out in any case.

That takes one seed for many hand-ins: a secret of the run, drawn before a line of a learner's code
is run. A process gets its own questions, one at a time, as ever; it dies with its hand-in and tells
the next one nothing. What is known stays on the judge's side and is never sent ahead: a question
may hold what a right part has answered before.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from autograder.judge import Lost, Outcome, TooLong
from autograder.oracle import wire
from autograder.oracle.wire import Buffer, Connection, WireError

MOST = 64 << 20  # bytes that are kept; then it begins anew
MACHINES = (TooLong, Lost, MemoryError, OSError)  # what may be otherwise another time


@dataclass
class Turn:
    """A message of the judge's and what came back; `starts`: with it a check began."""

    starts: bool
    said: bytes
    heard: bytes


@dataclass
class Known:
    """What the suite says next, and how it goes on after each answer that was given to it."""

    starts: bool = False
    said: bytes = b""
    answers: dict[bytes, Known] = field(default_factory=dict)
    outcomes: list[Outcome] | None = None  # at the end

    def keep(self, turns: list[Turn], outcomes: list[Outcome]) -> None:
        """Remember a conversation and what came of it, unless it was the machine's doing."""
        global _kept
        if any(isinstance(each.error, MACHINES) for each in outcomes):
            return
        for turn in turns:
            self.starts, self.said = turn.starts, turn.said
            if turn.heard not in self.answers:
                _kept += len(turn.said) + len(turn.heard)
            self = self.answers.setdefault(turn.heard, Known())
        for each in outcomes:
            if each.error is not None:  # it is kept, what it came through is not
                each.error.__traceback__ = each.error.__context__ = None
        self.outcomes = outcomes

    def forget(self) -> None:
        """From here on nothing is known."""
        self.said, self.answers, self.outcomes = b"", {}, None


_known: dict[tuple[str, int, bytes], Known] = {}
_kept = 0


def recalled(part: str, seed: int, heard: bytes) -> Known:
    """What is known of a part that has introduced itself with these words."""
    global _kept
    if _kept > MOST:
        _known.clear()
        _kept = 0
    return _known.setdefault((part, seed, heard), Known())


class Tape:
    """A connection that notes what goes through it, and can give some of it once more."""

    def __init__(self, connection: Connection):
        self.connection = connection
        self.astray = False  # the suite has not asked what it had asked before
        self._turns: list[Turn] = []
        self._starts = False
        self._said, self._heard = bytearray(), bytearray()
        self._to_say, self._to_hear = b"", memoryview(b"")  # what was said and heard already
        self._fault: Exception | None = None  # what happened after that

    def check(self) -> None:
        """A check begins."""
        self._starts = True

    def turns(self) -> list[Turn]:
        """What has been said since this was last asked."""
        self._turn()
        turns, self._turns = self._turns, []
        return turns

    def follow(self, known: Known, within: Callable[[], float], most: int) -> list[Outcome] | None:
        """Ask what was asked before, as long as the answers are the same; what came of it then.

        None where an answer is another one: then the suite is to be run on this connection. A
        check has until the time that `within` says at its start; `most` is `wire.recv`'s.
        """
        said, heard, deadline = [], [], within()
        while known.said:
            if known.starts:
                deadline = within()
            try:
                said.append(known.said)
                self.connection.settimeout(max(1e-3, deadline - time.monotonic()))
                self.connection.sendall(known.said)
                heard.append(wire.frame(self.connection, deadline, most))
            except ConnectionError:
                self._fault = EOFError("the other side is gone")
                break
            except (EOFError, OSError, WireError) as error:
                self._fault = error
                break
            if heard[-1] not in known.answers:
                break
            known = known.answers[heard[-1]]
        if known.outcomes is None:
            self._to_say, self._to_hear = b"".join(said), memoryview(b"".join(heard))
        return known.outcomes

    # What a Peer does with its connection

    def settimeout(self, seconds: float | None) -> None:
        self.connection.settimeout(seconds)

    def sendall(self, data: Buffer) -> None:
        if self._heard:
            self._turn()
        self._said += data
        if not self._to_say:
            self.connection.sendall(data)
        elif self._to_say.startswith(bytes(data)):
            self._to_say = self._to_say[len(data) :]
        else:
            self.astray = True
            raise BrokenPipeError("the suite asks something else than it did before")

    def recv_into(self, buffer: memoryview) -> int:
        if self._to_hear:
            count = min(len(buffer), len(self._to_hear))
            buffer[:count] = self._to_hear[:count]
            self._to_hear = self._to_hear[count:]
        elif self._fault is not None:
            raise self._fault
        else:
            count = self.connection.recv_into(buffer)
        self._heard += buffer[:count]
        return count

    def _turn(self) -> None:
        if self._said:
            self._turns.append(Turn(self._starts, bytes(self._said), bytes(self._heard)))
            self._starts = False
        self._said, self._heard = bytearray(), bytearray()
