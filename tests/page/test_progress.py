"""The Progress tab: what is reached, what comes next, and checks that are run from the page."""

import json
import multiprocessing
import threading
import time

import a_folder_of_work as a
import pytest

from autograder import progress as record
from autograder.page import checking, progress
from autograder.page.checking import Checks
from autograder.page.live import Live
from autograder.page.work import Work
from lab.course import PARTS, UNITS, unit_named
from lab.page.questions import Refused
from lab.page.words import WORDS

ATTENTION = "scaled_dot_product_attention"
QUIZ = record.quiz_of("01-attention")


def test_the_units_have_the_course_s_titles():
    """In English word by word; each has one in Chinese too."""
    for unit in UNITS:
        word = f"units.{unit.name[3:].replace('-', '_')}"
        assert WORDS["en"][word] == unit.title and word in WORDS["zh-CN"]


@pytest.fixture
def live(tmp_path, monkeypatch):
    """A folder of work, and a record of its own."""
    monkeypatch.setenv("LAB_PROGRESS", str(tmp_path / "progress"))
    monkeypatch.delenv("NBGRADER_EXECUTION", raising=False)
    made = []

    def of(solved=False, records=True, **other):
        work = Work(a.a_folder(tmp_path / "exercises", solved, **other))
        made.append(Live(work, Checks(work, records), zygote=None))
        return made[-1]

    yield of
    for each in made:
        each.checks.close()


def row(table, name):
    return next(row for unit in table["units"] for row in unit["rows"] if row["name"] == name)


def when_done(live, seconds=120):
    deadline = time.monotonic() + seconds
    while live.checks.status()["running"]:
        assert time.monotonic() < deadline
        live.checks._thread.join(0.05)


def test_nothing_begun_is_a_table_too(live):
    """Every part and quiz of the course, no points, and where to begin."""
    table = progress.table(live())

    assert not table["begun"] and table["points"] == 0 and table["passed"] == 0
    assert table["of"] == sum(unit.points for unit in UNITS)
    assert table["rows"] == len(PARTS) + len(UNITS)
    assert table["next"] == "softmax"
    assert row(table, "softmax")["state"] == "stub"
    assert row(table, "softmax")["minutes"] == 20
    json.dumps(table, allow_nan=False)


def test_checks_from_the_page_are_those_of_lab_check(live):
    """Points, the named mistake and an attempt each, as the notebook's own check() keeps them."""
    there = live(softmax=a.right("softmax"), **{ATTENTION: a.wrong(ATTENTION)})

    progress.answer(there, {"check": "01-attention"})
    when_done(there)
    table = progress.table(there)

    good, bad = row(table, "softmax"), row(table, ATTENTION)
    assert (good["state"], good["points"], good["attempts"]) == ("passed", 6, 1)
    assert bad["state"] == "partial" and 0 < bad["points"] < 10 and bad["attempts"] == 1
    assert bad["headline"] == "Not divided by √d_k"
    assert [passed for _, passed in bad["checks"]].count(False) > 0
    assert table["next"] == "soft_lookup"
    kept = record.load()
    assert kept["softmax"]["source"] == a.right("softmax") and "passed" in kept["softmax"]
    assert kept[ATTENTION]["attempts"] == 1 and set(kept) == {"softmax", ATTENTION}
    assert table["points"] == 6 + bad["points"]


def test_a_look_up_is_no_attempt(live, monkeypatch):
    """What Your code asks of the checks by itself is not counted."""
    there = live(softmax=a.right("softmax"))
    result = {"state": "passed", "points": 6.0}
    monkeypatch.setattr(Checks, "_asked", lambda self, question: result)

    assert there.checks.look_up("softmax") is None
    when_done(there)

    assert there.checks.look_up("softmax") == result
    assert record.load() == {}


def test_visitors_of_a_public_page_leave_no_trace(live, monkeypatch):
    """Their checks are shown, and are no attempts of the owner's."""
    there = live(softmax=a.right("softmax"), records=False)
    monkeypatch.setattr(Checks, "_asked", lambda *_: {"state": "passed", "points": 6.0})

    progress.answer(there, {"check": "all"})
    when_done(there)

    table = progress.table(there)
    assert row(table, "softmax")["state"] == "passed" and not table["counts"]
    assert record.load() == {}


def test_a_part_that_was_changed_wants_another_check(live):
    """Passed counts for what was written then; its points stay."""
    there = live(softmax=a.right("softmax"))
    record.record("softmax", 6, True, a.right("softmax"))
    assert row(progress.table(there), "softmax")["state"] == "passed"

    a.write(there.work.folder, unit_named("01"), False, softmax=a.right("softmax") + "# other\n")
    there.work.look(at_once=True)

    found = row(progress.table(there), "softmax")
    assert (found["state"], found["points"]) == ("changed", 6)


def test_the_quiz_counts(live, monkeypatch):
    """Right answers of the quiz are points; those that were not given are no attempt."""
    there = live(solved=True)
    monkeypatch.setattr(Checks, "_asked", lambda *_: {"state": "cancelled", "points": 0.0})

    progress.answer(there, {"check": QUIZ})
    when_done(there)

    found = row(progress.table(there), QUIZ)
    assert (found["points"], found["state"], found["attempts"]) == (6, "passed", 1)
    assert checking.quiz(live(solved=False).work, QUIZ) == (0, 0, 6)


def test_a_run_can_be_cancelled(live, monkeypatch):
    """What waits is dropped; what has just begun ends and is kept."""
    there = live(solved=True)
    begun, go = threading.Event(), threading.Event()

    def asked(self, question):
        begun.set()
        assert go.wait(60)
        return {"state": "passed", "points": 6.0}

    monkeypatch.setattr(Checks, "_asked", asked)
    status = progress.answer(there, {"check": "all"})["status"]
    assert status["running"] and status["total"] == len(PARTS) + len(UNITS)
    assert begun.wait(60)
    status = progress.answer(there, {"cancel": True})["status"]
    assert status["total"] == 1
    go.set()
    when_done(there)

    states = [row(progress.table(there), part)["state"] for part in PARTS]
    assert states.count("passed") == 1 and states[0] == "passed"


def test_a_dead_process_is_no_verdict(live, monkeypatch):
    """A part whose check was killed is not checked; the next one finds a process."""
    there = live(softmax=a.right("softmax"))
    monkeypatch.setattr(Checks, "_start", _starts_dead)

    progress.answer(there, {"check": "softmax"})
    when_done(there)

    assert row(progress.table(there), "softmax")["state"] == "written"
    assert record.load() == {}


def _starts_dead(checks):
    checks._connection, theirs = multiprocessing.Pipe()
    theirs.close()


def test_only_what_was_not_passed_is_checked_again(live):
    """The first button spares what is done; all of it takes the other one."""
    there = live(softmax=a.right("softmax"), soft_lookup=a.right("soft_lookup"))
    record.record("softmax", 6, True, a.right("softmax"))

    assert progress.wanted(there, {"check": "open"}) == ["soft_lookup"]
    assert progress.wanted(there, {"check": "all"}) == ["softmax", "soft_lookup"]


@pytest.mark.parametrize(
    "name", [None, 7, "", "../..", ["softmax"], {"a": 1}, "Softmax", "x" * 100]
)
def test_only_parts_of_the_course_are_checked(live, name):
    """Whatever a browser names is one of the parts, or refused."""
    there = live()

    with pytest.raises(Refused):
        progress.answer(there, {"check": name})
    assert not there.checks.status()["running"]


@pytest.mark.parametrize("entry", [
    {"points": "many", "attempts": -3}, {"points": float("inf"), "attempts": 1e99}, {},
    {"points": None, "passed": 7, "source": ["x"]},
])  # fmt: skip
def test_an_edited_record_breaks_nothing(live, entry):
    """Numbers that are none count as none."""
    there = live(softmax=a.right("softmax"))
    record.folder().mkdir(parents=True)
    (record.folder() / "progress.json").write_text(json.dumps({"softmax": entry}))

    table = progress.table(there)

    assert row(table, "softmax")["points"] == 0 and row(table, "softmax")["attempts"] == 0
    json.dumps(table, allow_nan=False)
