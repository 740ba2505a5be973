"""nbgrader without a kernel: its commands, rules and gradebooks, with the oracle's points."""

import contextlib
import copy
import glob
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import a_course as a
import nbformat
import numpy as np
import pytest
import torch
from a_server import free_ports
from nbgrader.utils import determine_grade

from autograder.classroom import executor, grading, settings, teaching
from autograder.classroom.mending import handed_out, mend
from autograder.judge import checks_of
from autograder.oracle.zygote import Unavailable, Zygote

pytestmark = [pytest.mark.xdist_group("nbgrader"), *a.WARNINGS]

WRONG = """\
def softmax(scores, dim=-1):
    return torch.exp(scores) / torch.exp(scores).sum(dim, keepdim=True)"""
SOFTMAX = a.PARTS["softmax"].points
CHECK = "check-softmax"
BIN = Path(sys.executable).parent


def course(folder, more="", source=None):
    """A project with one unit released, and more in its settings."""
    project = a.project(folder)
    if source is not None:
        a.write(project / "build/source" / a.UNIT / "attention.ipynb", source)
    with (project / "nbgrader_config.py").open("a") as file:
        file.write(f"\n{more}\n")
    with contextlib.chdir(project):
        list(teaching.init(settings.read()))
        list(teaching.release(settings.read(), ["01"]))
    return project


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return course(tmp_path_factory.mktemp("executor") / "project")


@pytest.fixture(scope="module")
def released(project):
    return json.loads((project / f"build/release/{a.UNIT}/attention.ipynb").read_text("utf-8"))


@pytest.fixture(scope="module")
def whole(released):
    return a.everything_right(released)


def hand_in(project, student, notebook, moment="2026-01-01 10:00:00 UTC"):
    home = project / "build/submitted" / student / a.UNIT
    a.write(home / "attention.ipynb", notebook)
    (home / "timestamp.txt").write_text(moment)
    return home / "attention.ipynb"


def autograde(project, student, unit=a.UNIT):
    """What nbgrader's own Autograde says, with the project's settings and --force."""
    from nbgrader.converters import Autograde
    from nbgrader.converters.base import NbGraderException

    found = settings.read(project)
    found.coursedir.assignment_id, found.coursedir.student_id = unit, student
    with settings.listening() as heard:
        with contextlib.suppress(NbGraderException):
            settings.quietly(Autograde, found, force=True).start()
    return heard.getvalue()


def feedback(project, student):
    """The page that the learner gets."""
    from nbgrader.converters import GenerateFeedback
    from traitlets.config import Config

    found = settings.read(project)
    found.coursedir.assignment_id, found.coursedir.student_id = a.UNIT, student
    with settings.listening():
        worker = settings.quietly(GenerateFeedback, found, force=True)
        worker.update_config(Config({"HTMLExporter": {"template_name": "feedback"}}))
        worker.start()
    page = project / "build/feedback" / student / a.UNIT / "attention.html"
    return page.read_text("utf-8")


@contextlib.contextmanager
def book_of(project):
    with settings.listening(), teaching.gradebook(settings.read(project)) as book:
        yield book


def given(project, student):
    """Automatic points by check, as they stand in the gradebook."""
    with book_of(project) as book:
        found = book.find_submission(a.UNIT, student)
        return {each.name: each.auto_score for nb in found.notebooks for each in nb.grades}


def waits(project, student):
    """Whether nothing has points, and all of it waits for a person."""
    with book_of(project) as book:
        grades = book.find_submission(a.UNIT, student).notebooks[0].grades
        return all(each.auto_score is None and each.needs_manual_grade for each in grades)


# nbgrader's own commands


LEARNERS = "ada bob cem dia eva fay hal jon".split()


@pytest.fixture(scope="module")
def commanded(tmp_path_factory):
    """A course that nothing but nbgrader's commands has touched, and what they said."""
    folder = tmp_path_factory.mktemp("commands")
    project = a.project(folder / "project")
    (folder / "tmp").mkdir()

    def nbgrader(*arguments):
        environment = {name: each for name, each in os.environ.items() if name != "VIRTUAL_ENV"}
        environment |= {"PATH": "/usr/bin:/bin", "TMPDIR": str(folder / "tmp")}
        command = [BIN / "nbgrader", *arguments]
        return subprocess.run(
            command, cwd=project, env=environment, capture_output=True, text=True, timeout=200
        )

    made = nbgrader("generate_assignment", a.UNIT, "--create")
    assert made.returncode == 0, made.stderr
    path = project / "exercises" / a.UNIT / "attention.ipynb"
    for name, notebook in notebooks(json.loads(path.read_text("utf-8"))).items():
        hand_in(project, name, notebook)
    cem = project / "build/submitted/cem" / a.UNIT / "attention.ipynb"
    cem.write_bytes(cem.read_bytes()[:2000])
    fay = project / "build/submitted/fay" / a.UNIT / "attention.ipynb"
    fay.write_bytes(b"\xef\xbb\xbf" + fay.read_bytes())
    graded = nbgrader("autograde", a.UNIT, "--no-execute")
    shown = nbgrader("generate_feedback", a.UNIT)
    assert shown.returncode == 0, shown.stderr
    return project, graded, folder / "tmp"


def notebooks(released):
    """Every fault that ends plain nbgrader, for one learner or for all after them."""
    whole = a.everything_right(released)
    made = dict.fromkeys(("ada", "cem", "fay"), whole)
    made["bob"] = a.answer(whole, softmax=WRONG)
    made["hal"] = a.answer(whole, soft_lookup="import os\nos._exit(0)")
    dia = made["dia"] = copy.deepcopy(whole)  # copied and lost cells, a mark of their own
    dia["cells"].append(copy.deepcopy(a.cell_of(dia, "softmax")))
    dia["cells"].append(copy.deepcopy(a.cell_of(dia, CHECK)))
    dia["cells"].remove(a.cell_of(dia, "check-soft_lookup"))
    a.cell_of(dia, "given-1")["metadata"]["nbgrader"]["grade_id"] = "mine"
    eva = made["eva"] = a.answer(whole, softmax=WRONG)  # a check that pays itself
    a.cell_of(eva, CHECK)["source"] = "6.0"
    a.cell_of(eva, CHECK)["metadata"]["nbgrader"]["points"] = 600
    return made | {"jon": released}


def test_commands_grade_everybody_who_can_be_read(commanded):
    """Points as check() gives them; `--no-execute` gives nobody full points for silence."""
    project, graded, _ = commanded
    points = {}
    for name in LEARNERS:
        points[name] = given(project, name)

    full = {CHECK: 6, "check-soft_lookup": 4, "check-scaled_dot_product_attention": 10,
            "check-SelfAttention": 6, "check-quiz": 6}  # fmt: skip
    partly = full | {CHECK: points["bob"][CHECK]}
    assert 0 < points["bob"][CHECK] < SOFTMAX
    assert points["ada"] == points["fay"] == points["dia"] == full
    assert points["bob"] == points["eva"] == partly
    assert points["hal"] == full | {"check-soft_lookup": 0}
    assert points["jon"] == dict.fromkeys(full, 0)
    assert graded.returncode == 1  # cem


def test_commands_say_who_could_not_be_graded(commanded):
    """A reason in a sentence, no points, and the others are graded."""
    project, graded, _ = commanded

    assert "Ungraded: attention.ipynb is no notebook: line " in graded.stderr
    assert "processing assignment '01-attention' for student 'cem'" in graded.stderr
    assert waits(project, "cem")


def test_no_kernel_is_started(commanded):
    """And nothing of the learners' processes is left."""
    _, graded, folder = commanded

    assert "Executing notebook with kernel" not in graded.stderr
    assert not list(folder.glob("attention-lab-*"))


def test_warnings_are_true(commanded):
    """Of honest hand-ins none; of every other one what was done to it."""
    _, graded, _ = commanded
    warnings = [line for line in graded.stderr.splitlines() if "WARNING" in line]
    told = "\n".join(warnings)

    for name in ("ada", "bob", "fay", "hal", "jon"):
        assert f"{name}, {a.UNIT}" not in told
    assert f"eva, {a.UNIT}: the cell {CHECK} was changed: put back" in told
    assert f"dia, {a.UNIT}: the cell softmax is there more than once" in told
    assert f"dia, {a.UNIT}: the cell given-1 was missing" in told
    assert "has changed!" not in told  # nbgrader's own, said of what is honest too
    assert sum(f"{name}, " in told for name in LEARNERS) == 2


def test_feedback_has_the_sentences(commanded):
    """What check() says, with the mistake by name, and no number that only nbgrader needs."""
    project, _, _ = commanded
    bob = (project / "build/feedback/bob" / a.UNIT / "attention.html").read_text("utf-8")
    jon = (project / "build/feedback/jon" / a.UNIT / "attention.html").read_text("utf-8")

    assert "No maximum taken off" in bob
    for check in checks_of("softmax"):
        assert check.sentence.replace("'", "&#x27;") in bob, check.sentence
    assert "<pre>4.0</pre>" not in bob and "<pre>10.0</pre>" not in bob
    assert "Not started" in jon


# The rules by which nbgrader reads a cell's outputs


def result_of(text):
    return {"output_type": "execute_result", "metadata": {}, "execution_count": 1,
            "data": {"text/plain": text}}  # fmt: skip


STDERR = {"output_type": "stream", "name": "stderr", "text": "a warning"}
ERROR = {"output_type": "error", "ename": "E", "evalue": "", "traceback": []}
HTML = {**result_of(""), "data": {"text/html": "<b>4</b>"}}

# What stands in the check cell, and what it shows; of 6 points nbgrader gives these.
ROWS = {
    "4": ([result_of("4")], 4),
    "4.0": ([result_of("4.0")], 4),
    "1e0": ([result_of("1e0")], 1),
    "'٣'": ([result_of("٣")], 3),
    "torch.tensor(3.)": ([result_of("tensor(3.)")], 6),
    "np.float64(2.5)": ([result_of("np.float64(2.5)")], 6),
    "[2.0]": ([result_of("[2.0]")], 6),
    "'3'": ([result_of("'3'")], 6),
    "True": ([result_of("True")], 6),
    "False": ([result_of("False")], 6),
    "None": ([], 6),
    "-1": ([result_of("-1")], 6),
    "float('nan')": ([result_of("nan")], 6),
    "6.5": ([result_of("6.5")], ValueError),
    "float('inf')": ([result_of("inf")], ValueError),
    "1_0": ([result_of("1_0")], ValueError),
    "HTML('<b>4</b>')": ([HTML], KeyError),
    "warn('w')\n4": ([STDERR, result_of("4")], 0),
    "raise E": ([ERROR], 0),
    "display(4)\nraise E": ([result_of("4"), ERROR], 4),
    "display(1)\n6": ([result_of("1"), result_of("6")], 1),
    "print(4)": ([{"output_type": "stream", "name": "stdout", "text": "4"}], 6),
}


@pytest.mark.parametrize("source", ROWS)
def test_rules_of_nbgrader_are_as_they_were_read(source):
    """What a kernel's outputs would be worth: the facts that the outputs here are written for."""
    outputs, points = ROWS[source]
    mark = {"grade": True, "solution": False, "grade_id": CHECK, "points": 6}
    cell = nbformat.from_dict(
        {"cell_type": "code", "source": source, "metadata": {"nbgrader": mark}, "outputs": outputs}
    )

    if isinstance(points, type):
        with pytest.raises(points):
            determine_grade(cell)
    else:
        assert determine_grade(cell) == (points, 6)


@pytest.mark.parametrize("softmax", [None, WRONG], ids=["right", "wrong"])
def test_nothing_in_a_check_cell_counts(project, whole, softmax):
    """Row by row, a row a check cell, with its outputs: the points are those of the parts."""
    notebook = a.answer(whole, softmax=softmax) if softmax else whole
    hand_in(project, "row", notebook)
    autograde(project, "row")
    honest = given(project, "row")
    assert 0 < honest[CHECK] <= SOFTMAX and (honest[CHECK] < SOFTMAX) == bool(softmax)

    for first in range(0, len(ROWS), len(a.PARTS)):
        rows = list(ROWS.items())[first : first + len(a.PARTS)]
        played = copy.deepcopy(notebook)
        for part, (source, (outputs, _)) in zip(a.PARTS, rows, strict=False):
            for name in (f"check-{part}", part):
                a.cell_of(played, name)["outputs"] = outputs
            a.cell_of(played, f"check-{part}")["source"] = source
        hand_in(project, "row", played)
        autograde(project, "row")
        assert given(project, "row") == honest


def test_what_the_part_itself_shows_costs_nothing(project, whole):
    """Warnings, stderr, numbers and errors that are caught: honest, and worth all the points."""
    loud = f"""
import sys, warnings
warnings.warn("careful")
print("6.0", file=sys.stderr)
600.0
{a.right("softmax").replace("def softmax", "def quiet")}
def softmax(scores, dim=-1):
    warnings.warn("careful")
    print(600.0, file=sys.stderr)
    print(600.0)
    return quiet(scores, dim)
"""
    hand_in(project, "loud", a.answer(whole, softmax=loud))
    autograde(project, "loud")

    assert given(project, "loud")[CHECK] == SOFTMAX


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        (4, 4), (4.0, 4), (np.float64(2.5), 2.5), (torch.tensor(3.0), 3), (True, 1), (-1, 0),
        (-0.0, 0), (6.5, 6), (600, 6), (1e-7, 1e-7),
        (float("nan"), None), (float("inf"), None), (float("-inf"), None), (None, None),
        ([2.0], None),
    ],
)  # fmt: skip
def test_any_points_arrive_as_a_number_in_range(project, whole, monkeypatch, points, expected):
    """Whatever the oracle should come to say: never too many, and no number means no points."""
    asked = executor.grading.grade

    def odd(*arguments):
        result = asked(*arguments)
        result["parts"][0]["points"] = points
        return result

    monkeypatch.setattr(executor.grading, "grade", odd)
    monkeypatch.setattr(executor, "_report", lambda part: _Shown)
    hand_in(project, "odd", whole)
    said = autograde(project, "odd")

    if expected is None:
        assert "which is no number" in said and waits(project, "odd")
    else:
        assert given(project, "odd")[CHECK] == expected


class _Shown:
    text = html = staticmethod(lambda: "")


# Faults


def test_a_fault_of_the_machine_is_not_zero(project, whole, monkeypatch):
    """No process to be had: no points, not even old ones, and a reason; then it is graded."""
    hand_in(project, "unlucky", whole)
    autograde(project, "unlucky")
    before = given(project, "unlucky")

    with monkeypatch.context() as patch:
        patch.setattr(Zygote, "spawn", _no_process)
        said = autograde(project, "unlucky")
        assert waits(project, "unlucky")
        assert "Ungraded: the machine gave no process to run it in: no memory left" in said
        assert settings.VARIABLE not in os.environ
        with contextlib.chdir(project):
            result = next(grading.grade(settings.read(), a.UNIT, "unlucky"))
    assert result.points is None and "no memory left" in result.text()

    autograde(project, "unlucky")
    assert given(project, "unlucky") == before and sum(before.values()) == a.POINTS


def _no_process(*_):
    raise Unavailable("no memory left")


def test_a_dead_parent_is_replaced(project, whole):
    """The warm process is killed between two hand-ins; nobody notices."""
    zygote = executor._zygote(os.getpid(), executor.threading.get_ident())
    hand_in(project, "ada", whole)
    autograde(project, "ada")
    first = zygote._home.process
    first.kill()
    first.wait()
    autograde(project, "ada")

    assert sum(given(project, "ada").values()) == a.POINTS
    assert zygote._home.process.pid != first.pid


def test_an_endless_cell_costs_its_own_part(project, whole, monkeypatch):
    """The process is ended after its time."""
    monkeypatch.setattr("autograder.oracle.remote.SECONDS", 2)
    monkeypatch.setattr("autograder.oracle.remote.IN_ALL", 2)
    hand_in(project, "slow", a.answer(whole, soft_lookup="while True: pass"))
    autograde(project, "slow")

    assert given(project, "slow")["check-soft_lookup"] == 0
    assert sum(given(project, "slow").values()) == a.POINTS - a.PARTS["soft_lookup"].points


def test_another_language_is_no_answer(project, whole):
    """A notebook in R is not 0 points: it waits for a person."""
    other = a.answer(whole, **{part: "f <- function(x) {x}" for part in a.PARTS})
    other["metadata"] = {"kernelspec": {"name": "ir", "display_name": "R", "language": "R"}}
    hand_in(project, "rob", other)
    said = autograde(project, "rob")

    assert "Ungraded: it is not written in Python: attention.ipynb has the kernel R" in said
    assert waits(project, "rob")


# What is nbgrader's stays nbgrader's


def with_a_question(source):
    """A unit with an answer in words, graded by hand."""
    source = copy.deepcopy(source)
    mark = {"grade": True, "grade_id": "in-words", "locked": False, "points": 5,
            "schema_version": 3, "solution": True, "task": False}  # fmt: skip
    source["cells"].append(
        {"cell_type": "markdown", "id": "in-words", "metadata": {"nbgrader": mark}, "source": "?"}
    )
    return source


def test_manual_points_survive(tmp_path):
    """An answer in words waits for a person; a second run keeps what was given by hand."""
    project = course(tmp_path / "project", source=with_a_question(a._source()))
    path = project / f"build/release/{a.UNIT}/attention.ipynb"
    whole = a.everything_right(json.loads(path.read_text("utf-8")))
    a.cell_of(whole, "in-words")["source"] = "Because the variance grows."
    hand_in(project, "ada", whole)
    autograde(project, "ada")

    with book_of(project) as book:
        words, check = _two(book)
        assert words.auto_score is None and words.needs_manual_grade
        assert check.auto_score == SOFTMAX and not check.needs_manual_grade
        words.manual_score, words.needs_manual_grade = 4, False
        check.manual_score, check.extra_credit = 5.5, 1
        book.find_comment("softmax", "attention", a.UNIT, "ada").manual_comment = "Nicely put."
        book.db.commit()
    autograde(project, "ada")
    with book_of(project) as book:
        words, check = _two(book)
        assert (words.score, check.score) == (4, 6.5)
        assert words.needs_manual_grade and check.needs_manual_grade  # as nbgrader does
        assert book.find_submission(a.UNIT, "ada").score == a.POINTS - SOFTMAX + 6.5 + 4
    page = feedback(project, "ada")
    assert "Nicely put." in page and "Because the variance grows." in page


def _two(book):
    return (book.find_grade(name, "attention", a.UNIT, "ada") for name in ("in-words", CHECK))


def test_late_penalties(tmp_path, whole):
    """nbgrader's plugin takes what it takes."""
    project = course(tmp_path / "project", 'c.LateSubmissionPlugin.penalty_method = "zero"')
    due = datetime.now(UTC) - timedelta(days=1)
    with contextlib.chdir(project):
        list(teaching.release(settings.read(), ["01"], due))
    for name, hours in (("early", -1), ("late", 1)):
        moment = due + timedelta(hours=hours)
        hand_in(project, name, whole, f"{moment:%Y-%m-%d %H:%M:%S} UTC")
        autograde(project, name)

    with book_of(project) as book:
        penalties = [
            book.find_submission(a.UNIT, name).late_submission_penalty for name in ("early", "late")
        ]
    assert penalties == [0, a.POINTS]


def test_hidden_checks_are_not_shown(project, released, monkeypatch):
    """Neither their sentence nor what was seen in them; their points count."""
    hidden = [replace(each, hidden=True) for each in checks_of("softmax")]
    real = executor.checks_of
    monkeypatch.setattr(
        executor, "checks_of", lambda part: hidden if part == "softmax" else real(part)
    )
    hand_in(project, "bob", a.answer(released, softmax=WRONG))
    autograde(project, "bob")
    page = feedback(project, "bob")

    assert 0 < given(project, "bob")[CHECK] < SOFTMAX
    assert "A hidden check." in page and "One of the hidden checks is not met." in page
    assert "No maximum taken off" not in page
    for check in hidden:
        assert check.sentence not in page


def test_a_learner_s_words_are_text_in_the_feedback(project, whole):
    """What a part raises is shown, and is no part of the page."""
    text = 'def softmax(*_, **__): raise ValueError("<script>alert(1)</script>")'
    hand_in(project, "xss", a.answer(whole, softmax=text))
    autograde(project, "xss")

    page = (project / "build/autograded/xss" / a.UNIT / "attention.ipynb").read_text("utf-8")
    shown = ["".join(each["data"]["text/html"]) for each in _outputs(page)]
    assert any("&lt;script&gt;" in each for each in shown)
    assert not any("<script>" in each for each in shown)


def _outputs(text):
    return [each for cell in json.loads(text)["cells"] for each in cell.get("outputs", [])]


def test_what_ran_it_is_kept(project, whole):
    """The sandbox stands in the graded notebook."""
    hand_in(project, "ada", whole)
    autograde(project, "ada")
    path = project / "build/autograded/ada" / a.UNIT / "attention.ipynb"

    assert json.loads(path.read_text("utf-8"))["metadata"]["lab"]["sandbox"]


def test_a_teacher_s_own_check_in_a_unit(tmp_path):
    """A silent cell would be worth all its points: it is named, and nobody has any."""
    source = copy.deepcopy(a._source())
    own = copy.deepcopy(a.cell_of(source, CHECK))
    own["metadata"]["nbgrader"]["grade_id"] = "check-mine"
    own["id"], own["source"] = "check-mine", "assert True"
    source["cells"].append(own)
    project = course(tmp_path / "project", source=source)
    path = project / f"build/release/{a.UNIT}/attention.ipynb"
    hand_in(project, "ada", a.everything_right(json.loads(path.read_text("utf-8"))))
    said = autograde(project, "ada")

    assert "check-mine is no check of 01-attention" in said
    assert waits(project, "ada")


def test_points_of_another_release(tmp_path, whole):
    """A check that had other points when it was released: nobody gets more or less by it."""
    source = copy.deepcopy(a._source())
    a.cell_of(source, CHECK)["metadata"]["nbgrader"]["points"] = 5
    project = course(tmp_path / "project", source=source)
    hand_in(project, "ada", whole)
    said = autograde(project, "ada")

    assert f"{CHECK} has 5 points in the gradebook and 6 by its checks: build and release" in said
    assert waits(project, "ada")


def test_whatever_nbgrader_stumbles_over_leaves_no_old_points(tmp_path, whole):
    """A gradebook that contradicts itself: nbgrader stops, and the points of before are gone."""
    project = course(tmp_path / "project")
    hand_in(project, "ada", whole)
    autograde(project, "ada")
    assert given(project, "ada")[CHECK] == SOFTMAX
    with book_of(project) as book:
        book.find_source_cell(CHECK, "attention", a.UNIT).checksum = "0" * 32
        book.db.commit()

    assert "Inconsistent checksums" in autograde(project, "ada")
    assert waits(project, "ada")


def test_a_teacher_s_own_assignment_runs_in_a_kernel(project):
    """What is no unit of the course is nbgrader's, cell by cell."""
    from nbgrader.converters import GenerateAssignment

    def cell(name, source, **mark):
        mark = {"grade_id": name, "schema_version": 3, "locked": False, "solution": False,
                "grade": False, "task": False} | mark  # fmt: skip
        return {"cell_type": "code", "id": name, "source": source, "outputs": [],
                "execution_count": None, "metadata": {"nbgrader": mark}}  # fmt: skip

    own = {"nbformat": 4, "nbformat_minor": 5, "cells": [
        cell("double", "def double(x):\n    return 2 * x", solution=True),
        cell("test", "assert double(2) == 4\n1.5", grade=True, locked=True, points=3),
    ], "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}}}  # fmt: skip
    a.write(project / "build/source/own/own.ipynb", own)
    found = settings.read(project)
    found.coursedir.assignment_id = "own"
    with settings.listening():
        settings.quietly(GenerateAssignment, found, force=True).start()
    home = project / "build/submitted/ada/own"
    a.write(home / "own.ipynb", own)
    autograde(project, "ada", "own")

    with book_of(project) as book:
        assert book.find_submission("own", "ada").score == 1.5


# A gradebook on a server


@pytest.fixture(scope="module")
def postgres():
    """The address of a PostgreSQL of this test's own, as an ordinary user runs it."""
    pytest.importorskip("psycopg", reason="no psycopg here: install the extra postgres")
    places = [shutil.which("initdb"), *sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))]
    initdb = next(filter(None, reversed(places)), None)
    if initdb is None:
        pytest.skip("no initdb here (Debian: apt-get install postgresql): no server was started")
    programs = Path(initdb).resolve().parent
    folder = Path(tempfile.mkdtemp(prefix="attention-lab-postgres-"))
    who = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    if who:  # PostgreSQL refuses to be run by root
        os.chown(folder, who["user"], who["group"])
    (port,) = free_ports()

    def call(program, *arguments):
        command = [programs / program, "-D", folder / "data", *arguments]
        with (folder / "said").open("a") as said:
            subprocess.run(
                command, cwd=folder, check=True, stdout=said, stderr=said, timeout=60, **who
            )

    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    try:
        call("initdb", "-U", "teacher", "-A", "trust", "-E", "UTF8", "--no-sync")
        call("pg_ctl", "-w", "-l", str(folder / "log"), "-o", options, "start")
        yield f"postgresql+psycopg://teacher@127.0.0.1:{port}/postgres"
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            call("pg_ctl", "-m", "immediate", "stop")
        shutil.rmtree(folder)


def test_a_gradebook_on_a_server(tmp_path, postgres, whole):
    """The same round on PostgreSQL: release, release again, points, manual points, table."""
    project = course(tmp_path / "project", f"c.CourseDirectory.db_url = {postgres!r}")
    with contextlib.chdir(project):
        list(teaching.release(settings.read(), ["01"]))
    for name, notebook in notebooks(whole).items():
        hand_in(project, name, notebook)
    said = {name: autograde(project, name) for name in LEARNERS}

    assert not (project / "build/gradebook.db").exists()
    assert {name: sum(given(project, name).values()) for name in ("ada", "hal", "dia")} == {
        "ada": a.POINTS, "hal": a.POINTS - 4, "dia": a.POINTS
    }  # fmt: skip
    assert f"eva, {a.UNIT}: the cell {CHECK} was changed" in said["eva"]
    assert "WARNING" not in said["ada"].replace("WARNING Removing existing assignment", "")
    with book_of(project) as book:
        found = book.find_grade(CHECK, "attention", a.UNIT, "ada")
        found.manual_score = 3
        book.db.commit()
    autograde(project, "ada")
    with contextlib.chdir(project):
        list(teaching.export(settings.read(), tmp_path / "grades.csv"))
    assert f"ada,,,,{a.POINTS - 3}.0" in (tmp_path / "grades.csv").read_text("utf-8")
    assert "softmax" in feedback(project, "bob")


def test_cells_come_back_in_the_order_of_the_lesson(project, released):
    """Databases have no order; from a notebook without a single mark it is the lesson's."""
    names = [name for cell in released["cells"] if (name := a.mark_of(cell))]
    with book_of(project) as book:
        original = handed_out(book, a.UNIT, "attention", names)
        turned = handed_out(book, a.UNIT, "attention", names[::-1])

    assert [a.mark_of(cell) for cell in mend([], original)[0]["cells"]] == names
    assert [a.mark_of(cell) for cell in mend([], turned)[0]["cells"]] == names[::-1]
