"""The same points and the same words here and there: every reference, mistake and alternative.

Each is judged twice, in this process and in a fork of it that is asked over the wire.
"""

import importlib
import json
import os
import re
import socket
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from autograder import explain
from autograder.checks import alike
from autograder.judge import Elsewhere, alone, judge, quiet
from autograder.mistakes import mistakes_of
from autograder.oracle.grading import grade
from autograder.oracle.peer import Peer
from autograder.source import namespace_of
from autograder.submission import Submission, report
from lab.course import PARTS, UNITS
from lab.parts import from_package

ROOT = Path(__file__).parents[2]
SEED = 7
REFERENCE = from_package("solutions")
ALTERNATIVES = {
    part: ways
    for unit in UNITS
    for part, ways in importlib.import_module(f"alternatives.{unit.module}").ALTERNATIVES.items()
}


class Forked(Elsewhere):
    """A part in a fork of this process."""

    def __init__(self, peer):
        self.peer = peer
        self.stand_in = peer.begin("", [])

    @contextmanager
    def awake(self):
        self.peer.deadline = time.monotonic() + 20
        yield self.stand_in
        self.peer.reset()

    def shortcut(self, source):
        return None


@contextmanager
def forked(part, implementation):
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            ours.close()
            namespace = namespace_of(implementation)
            peer = Peer(theirs, place=lambda error: explain.place(error, namespace))
            peer.verbs["begin"] = lambda **_: peer.lend(implementation)
            with alone(part, implementation), quiet():
                peer.serve()
        finally:
            os._exit(0)
    theirs.close()
    with ours:
        yield Forked(Peer(ours, strict=True))
    os.waitpid(pid, 0)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_is_judged_the_same_there(part):
    """Passed or not, what was found, and the error's words, check by check."""
    mistakes = [mistake.implementation for mistake in mistakes_of(part)]
    for implementation in (REFERENCE[part], *ALTERNATIVES[part], *mistakes):
        here = judge(part, implementation, SEED)
        with forked(part, implementation) as away:
            there = judge(part, away, SEED)

        for one, other in zip(here, there, strict=True):
            what = implementation, one.check.name, one.error, other.error
            assert one.passed == other.passed, what
            assert str(one.error) == str(other.error), what
            assert alike(one.found, other.found), what


# Real notebooks, and the real process


@pytest.fixture
def zygote(learners):
    return learners


def solved(unit, folder, change=lambda part, text: text):
    """The unit's notebook with the reference in every cell, perhaps changed."""
    lesson = (ROOT / f"solutions/{unit.module}.py").read_text("utf-8")
    cells = dict(re.findall(r'^# %% solution="(\w+)"\n(.*?)(?=^# %%)', lesson, re.M | re.S))
    notebook = json.loads((ROOT / f"exercises/{unit.name}/{unit.module}.ipynb").read_text("utf-8"))
    for cell in notebook["cells"]:
        part = cell["metadata"].get("nbgrader", {}).get("grade_id")
        if part in cells:
            cell["source"] = change(part, cells[part])
    path = folder / f"{unit.module}.ipynb"
    path.write_text(json.dumps(notebook), "utf-8")
    return Submission.load(path)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_a_notebook_earns_the_same_there(unit, zygote, tmp_path):
    """Points and sentences are those of `lab check`, whose seed is 0."""
    submission = solved(unit, tmp_path)
    here = {each.part: each for each in report(submission)}

    found = grade(submission, zygote, seed=0)

    assert (found["status"], found["unit"]) == ("graded", unit.name)
    assert found["points"] == unit.points - unit.quiz
    for part in found["parts"][:-1]:
        assert (part["points"], part["state"]) == (here[part["part"]].points, "passed")


def test_a_wrong_part_is_named_there(zygote, tmp_path):
    """With the same words, and the line of an error."""
    wrong = {
        "softmax": lambda text: text.replace("sum(dim,", "sum(-1,"),
        "soft_lookup": lambda text: text.replace(
            "weights @ values, weights", "weights, weights @ values"
        ),
        "SelfAttention": lambda text: "def SelfAttention(:",
    }
    submission = solved(UNITS[0], tmp_path, lambda part, text: wrong.get(part, str)(text))

    here, there = report(submission), grade(submission, zygote, seed=0)["parts"]

    for one, other in zip(here, there, strict=False):
        assert one.points == other["points"]
        assert other["message"] == (one.diagnosis.text if one.diagnosis else "")
    assert sum(one.passed for one in here) == 1


def test_no_suite_and_no_answer_is_in_the_process(zygote, tmp_path):
    """Neither as a module, nor as stock's own version of the part, nor as a file."""
    probe = """
import sys, lab.stock
def tried(action):
    try:
        return repr(action())
    except Exception as error:
        return type(error).__name__
raise ValueError(" ".join([
    *(name for name in sys.modules if name.startswith(("autograder.", "solutions"))
      and not name.startswith("autograder.oracle") and name.count(".") > 0),
    "call", tried(lambda: lab.stock.softmax(torch.ones(2))),
    "import", tried(lambda: __import__("autograder.suites.test_attention")),
    "file", tried(lambda: open(lab.stock.__file__).read()),
]))
"""
    change = {"softmax": lambda text: probe}
    submission = solved(UNITS[0], tmp_path, lambda part, text: change.get(part, str)(text))
    said = grade(submission, zygote, seed=0)["parts"][0]["message"]

    for name in ("suites", "mistakes", "quizzes", "hints", "solutions", "notebook", "classroom"):
        assert f"autograder.{name}" not in said and f" {name}" not in said
    assert "call Withheld" in said
    assert "import ModuleNotFoundError" in said
    assert "file PermissionError" in said
