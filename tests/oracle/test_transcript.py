"""A part that answers as another one did is not judged twice, and comes out as if it had been."""

import os
import signal
import socket
from types import SimpleNamespace

import pytest

from autograder import explain, judge
from autograder.cells import Program
from autograder.checks import alike
from autograder.judge import Outcome, TooLong, alone, checks_of, quiet
from autograder.mistakes import mistakes_of
from autograder.oracle import transcript
from autograder.oracle.peer import Gone, Peer
from autograder.oracle.remote import Part
from autograder.oracle.transcript import Known, Tape, Turn
from autograder.source import namespace_of
from lab.parts import from_package

PART, SEED = "split_heads", 7
REFERENCE = from_package("solutions")[PART]


class Room:
    """Forks of this process, in the place of the Zygote's."""

    parts = ()
    pid = 0

    def __init__(self, implementation):
        self.implementation = implementation

    def enter(self):
        ours, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                ours.close()
                namespace = namespace_of(self.implementation)
                peer = Peer(theirs, place=lambda error: explain.place(error, namespace))
                peer.verbs["begin"] = lambda **_: peer.lend(self.implementation)
                with alone(PART, self.implementation), quiet():
                    peer.serve()
            finally:
                os._exit(0)
        theirs.close()
        self.socket = ours
        return SimpleNamespace(socket=ours, sandbox={})

    def close(self):
        if self.pid:
            self.socket.close()
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    monkeypatch.setattr(transcript, "_known", {})
    monkeypatch.setattr(transcript, "_kept", 0)


@pytest.fixture
def asked(monkeypatch):
    """The checks whose suite was run."""
    names, judge_one = [], judge.judge_one

    def noted(check, *args):
        names.append(check.name)
        return judge_one(check, *args)

    monkeypatch.setattr(judge, "judge_one", noted)
    return names


def judged(implementation):
    """What comes of a part in another process, and that process's `lost`."""
    room = Room(implementation)
    there = Part(room, PART, Program())
    try:
        there.start()
        return judge.judge(PART, there, SEED), there
    finally:
        room.close()


def assert_same(one, other):
    for a, b in zip(one, other, strict=True):
        assert (a.check, a.passed, str(a.error)) == (b.check, b.passed, str(b.error))
        assert type(a.error).__name__ == type(b.error).__name__
        assert alike(a.found, b.found) and a.printed == b.printed


def test_the_same_answers_are_judged_once(asked):
    """The second time no check is run, and the outcomes are the same."""
    first, _ = judged(REFERENCE)
    count = len(asked)
    second, there = judged(REFERENCE)

    assert count == len(checks_of(PART)) and len(asked) == count
    assert_same(first, second)
    assert all(each.passed for each in second)
    assert there.lost is None


def test_other_answers_are_judged_by_the_suite(asked):
    """Whatever was heard before, a mistake is what it is when it comes first; and it is kept."""
    wrong = [mistake.implementation for mistake in mistakes_of(PART)]
    judged(REFERENCE)
    for implementation in (*wrong, REFERENCE, *wrong):
        here = judge.judge(PART, implementation, SEED)
        there, _ = judged(implementation)
        assert_same(here, there)

    asked.clear()
    assert not judged(wrong[0])[0][0].passed and not asked


def test_a_part_that_changes_its_mind_is_judged_by_the_suite():
    """It answers as the right one does, but from its third answer on."""
    judged(REFERENCE)
    calls = []

    def turncoat(x, n_heads):
        calls.append(x)
        return REFERENCE(x, n_heads) + (len(calls) > 2)

    there, _ = judged(turncoat)
    calls.clear()
    assert_same(judge.judge(PART, turncoat, SEED), there)
    assert there[0].passed and not all(each.passed for each in there)


def test_a_process_that_ends_is_not_remembered(asked):
    """Its checks are what they are without a memory, and the next part is judged by the suite."""

    def ends(x, n_heads):
        os._exit(1)

    first, there = judged(ends)
    assert isinstance(there.lost, Gone) and isinstance(first[0].error, Gone)
    asked.clear()
    second, _ = judged(ends)

    assert len(asked) == len(checks_of(PART))
    assert_same(first, second)


def test_a_process_that_ends_on_the_way_is_seen(asked):
    """It ends after answers that are known: the suite is run on them, and finds nobody."""
    judged(REFERENCE)
    calls = []

    def ends(x, n_heads):
        calls.append(x)
        return REFERENCE(x, n_heads) if len(calls) <= 1 else os._exit(1)

    found, there = judged(ends)

    assert isinstance(there.lost, Gone)
    assert not any(each.passed for each in found[1:])


def test_a_suite_that_asks_something_else_is_run_anew(asked):
    """A computation may round otherwise than before; then a fresh process is asked."""
    judged(REFERENCE)
    (known,) = transcript._known.values()
    while len(known.answers) == 1:  # to its last question, which is made another one
        last, (known,) = known, known.answers.values()
    last.said = last.said.replace(b'"grad",true', b'"grad",null')
    last.answers.clear()

    found, there = judged(REFERENCE)

    assert all(each.passed for each in found) and there.lost is None


def test_the_machine_s_doing_is_not_kept():
    """What took too long once may be in time the next time."""
    known = Known()
    check = checks_of(PART)[0]
    known.keep([Turn(True, b"a", b"b")], [Outcome(check, TooLong("it ran for 20 s"), [])])
    assert known.outcomes is None and not known.answers


def test_what_is_kept_is_bounded(monkeypatch):
    """Beyond it everything begins anew."""
    monkeypatch.setattr(transcript, "MOST", 1_000)
    root = transcript.recalled(PART, SEED, b"hello")
    root.keep([Turn(True, b"a" * 900, b"b" * 200)], [])

    assert transcript.recalled(PART, SEED, b"hello") is not root
    assert transcript._kept == 0


def test_a_tape_gives_once_more_what_was_heard():
    """Then the connection itself is asked; what the suite says again is not sent."""
    ours, theirs = socket.socketpair()
    tape = Tape(ours)
    tape._to_say, tape._to_hear = b"one", memoryview(b"two")
    buffer = bytearray(8)

    tape.sendall(b"one")
    assert buffer[: tape.recv_into(memoryview(buffer))] == b"two"
    tape.sendall(b"three")
    theirs.sendall(b"four")
    assert theirs.recv(8) == b"three"
    assert buffer[: tape.recv_into(memoryview(buffer))] == b"four"
    assert [(each.said, each.heard) for each in tape.turns()] == [
        (b"one", b"two"),
        (b"three", b"four"),
    ]
    tape._to_say = b"five"
    with pytest.raises(BrokenPipeError):
        tape.sendall(b"six")
    assert tape.astray
    ours.close()
    theirs.close()
