"""A learner's notebook is read whatever has become of it, and `lab check` says what came of it."""

import json
import os
import signal
import subprocess
import sys
import time
from copy import deepcopy
from pathlib import Path

import pytest
from a_lesson import NOTEBOOK, ROOT, UNIT, ask, project

from autograder import cells, cli, notebook, submission
from autograder.cells import python_of
from autograder.release import build
from autograder.submission import Submission, report
from lab.course import UNITS


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A project with the small lesson, built."""
    folder = project(tmp_path_factory.mktemp("project"))
    list(build([UNIT], folder, questions=ask))
    return folder


@pytest.fixture
def stub(folder):
    """The notebook as it is handed out."""
    return json.loads((folder / NOTEBOOK).read_text("utf-8"))


@pytest.fixture
def right(folder, stub):
    """The notebook with every part written, as it stands in the text."""
    right = deepcopy(stub)
    source = json.loads((folder / f"build/source/{UNIT.name}/{UNIT.module}.ipynb").read_text())
    for part in UNIT.parts:
        lines = "".join(cell_of(source, part)["source"]).split("\n")
        write(right, part, "\n".join(line for line in lines if "### " not in line))
    return right


@pytest.fixture
def load(tmp_path):
    """A notebook, saved and read."""

    def load(content, name="attention.ipynb"):
        path = tmp_path / name
        if not isinstance(content, bytes):
            content = json.dumps(content).encode()
        path.write_bytes(content)
        return Submission.load(path)

    return load


def cell_of(notebook, name):
    return next(
        cell
        for cell in notebook["cells"]
        if cell["metadata"].get("nbgrader", {}).get("grade_id") == name
    )


def write(notebook, name, source):
    cell_of(notebook, name)["source"] = source


def own(source):
    """A cell that a learner added."""
    return {"cell_type": "code", "metadata": {}, "source": source, "outputs": []}


def states(found):
    return {each.part: each.state for each in report(found)}


# Reading


def test_what_is_handed_out_has_no_problems(load, stub, right):
    """Neither untouched nor written; parts that were written are known."""
    untouched, written = load(stub), load(right)

    assert untouched.unit == written.unit == UNIT
    assert untouched.problems == written.problems == ()
    assert untouched.touched() == []
    assert written.touched() == list(UNIT.parts)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_every_exercise_reads_without_problems(unit):
    """Checksums agree with nbgrader's, and check cells are what is expected."""
    path = ROOT / "exercises" / unit.name / f"{unit.module}.ipynb"
    if not path.exists():
        pytest.fail(f"run `lab build {unit.name}`")
    found = Submission.load(path)

    assert found.unit == unit
    assert found.problems == ()
    assert found.touched() == []
    assert set(found.by_id) >= {*unit.parts, *(f"check-{part}" for part in unit.parts)}
    assert len(found.answers()) == unit.quiz


@pytest.mark.parametrize(
    "content, said",
    [
        (b"", "attention.ipynb is empty"),
        (b" \n\n", "attention.ipynb is empty"),
        (b'{"cells": [', "ends in the middle, at line 1: the file is cut off"),
        (b"import torch\n", "is no notebook: line 1, column 1 is no JSON"),
        (b'{\n<<<<<<< HEAD\n"cells": []\n', "holds a merge that was not finished"),
        (b"[1, 2]", "is JSON, but no notebook: it has no list of cells"),
        (b'{"cells": 3}', "is JSON, but no notebook"),
        (
            b'{"nbformat": 3, "worksheets": []}',
            "has version 3 of the format: open it in JupyterLab",
        ),
        (b"[" * 100_000, "is no notebook"),
        (b"\x89PNG\r\n\x1a\n\x00", "is no notebook"),
    ],
)
def test_what_is_no_notebook_is_one_sentence(load, content, said):
    """No cells, one problem or two, no error."""
    found = load(content)

    assert found.cells == ()
    assert said in " ".join(found.problems)
    assert all("\n" not in problem for problem in found.problems)
    assert report(found) and {each.points for each in report(found)} == {0.0}


def test_a_file_that_is_not_there_is_one_sentence(tmp_path):
    """So is a folder of that name."""
    (tmp_path / "masks.ipynb").mkdir()

    missing = Submission.load(tmp_path / "attention.ipynb")
    assert missing.problems == (f"attention.ipynb is missing in {tmp_path.name}",)
    assert missing.unit == UNIT
    assert "masks.ipynb cannot be read" in Submission.load(tmp_path / "masks.ipynb").problems[0]


def test_other_encodings_are_read_and_named(load, right):
    """A byte order mark is nothing special; UTF-16 and Latin-1 are said."""
    text = json.dumps(right, ensure_ascii=False)

    assert load(b"\xef\xbb\xbf" + text.encode()).problems == ()
    for encoding, said in (("utf-16", "is UTF-16"), ("latin-1", "is not UTF-8")):
        found = load(text.replace("√", "").replace("·", "").encode(encoding, errors="ignore"))
        assert any(said in problem for problem in found.problems)
        assert set(states(found).values()) == {"passed"}


def spoil(name):
    def decorate(function):
        SPOILED.append(pytest.param(function, name, id=function.__name__))
        return function

    return decorate


SPOILED: list = []


@spoil("the cell of softmax is missing: take a fresh notebook and copy your work into it")
def deleted(notebook):
    notebook["cells"].remove(cell_of(notebook, "softmax"))


@spoil("the cell softmax is there more than once (5 and 6): the last one counts")
def doubled(notebook):
    cells = notebook["cells"]
    cells.insert(cells.index(cell_of(notebook, "softmax")), deepcopy(cell_of(notebook, "softmax")))


@spoil("the cell of softmax is text now: make it a code cell again")
def made_text(notebook):
    cell_of(notebook, "softmax")["cell_type"] = "markdown"


@spoil('the cell check-softmax was changed: grading puts check("softmax") back')
def edited_check(notebook):
    write(notebook, "check-softmax", "6.0")


@spoil("the cell check-quiz is missing: grading puts it back")
def deleted_check(notebook):
    notebook["cells"].remove(cell_of(notebook, "check-quiz"))


@spoil("the given cell given-2 was changed: grading puts it back as it was handed out")
def edited_given(notebook):
    write(notebook, "given-2", "EPSILON = 0")


@spoil("attention.ipynb has the kernel R 4.4: choose Python 3 (Kernel, Change Kernel)")
def other_kernel(notebook):
    spec = {"name": "ir", "display_name": "R 4.4", "language": "R"}
    notebook["metadata"]["kernelspec"] = spec


@spoil("softmax uses peak_of of cell 37: put it into the cell of softmax")
def helper_elsewhere(notebook):
    notebook["cells"] += [{"cell_type": "raw"} for _ in range(36 - len(notebook["cells"]))]
    notebook["cells"].append(own("def peak_of(x):\n    return x.amax()"))
    write(notebook, "softmax", "def softmax(scores, dim=-1):\n    return scores - peak_of(scores)")


@pytest.mark.parametrize("change, said", SPOILED)
def test_what_is_odd_is_said(load, right, change, said):
    """One sentence with the cell's name and what to do, and nothing besides."""
    change(right)

    assert load(right).problems == (said,)


def test_another_python_is_no_problem(load, right):
    """An environment of one's own has another name and the same language."""
    right["metadata"]["kernelspec"] = {"name": "my-env", "language": "python"}

    assert load(right).problems == ()


def test_a_stranger_s_notebook_is_said(load):
    """A notebook without one of our cells belongs to no unit."""
    found = load({"cells": [own("x = 1")]}, "scratch.ipynb")

    assert found.problems == (
        "scratch.ipynb belongs to no unit: it has none of the cells handed out",
    )
    assert report(found) == []


@pytest.mark.parametrize(
    "cell",
    [None, 3, {}, {"cell_type": "code"}, {"cell_type": "code", "source": None, "metadata": None},
     {"cell_type": "code", "source": [1, None], "metadata": {"nbgrader": 3, "lab": [1]}},
     {"cell_type": "code", "source": "x = '\ud800'", "metadata": {"nbgrader": {"grade_id": 3}}},
     {"cell_type": "code", "source": "x = '\0'", "metadata": {"lab": {"quiz": 1}}},
     {"cell_type": "code", "source": "(" * 5000, "metadata": {"lab": {"quiz": 1}}}],
)  # fmt: skip
def test_odd_cells_cost_nothing(load, right, cell):
    """Whatever stands among the cells, the parts are found."""
    right["cells"].insert(3, cell)
    found = load(right)

    assert set(states(found).values()) == {"passed"}
    assert isinstance(found.answers(), dict)


def test_fifty_megabytes_of_output_are_read(load, right):
    """And said, with the part of it that is output."""
    line = "x" * 99 + "\n"
    cell_of(right, "check-softmax")["outputs"] = [
        {"output_type": "stream", "name": "stdout", "text": [line] * 520_000}
    ]
    found = load(right)

    assert found.problems[0].startswith("attention.ipynb has 5")
    assert "MB of it outputs: clear them and save" in found.problems[0]
    assert len(found.problems) == 1
    assert set(states(found).values()) == {"passed"}


def test_what_is_far_too_large_is_not_read(load, right, monkeypatch):
    """It is measured first."""
    monkeypatch.setattr(submission, "TOO_LARGE", 1_000)
    found = load(right)

    assert found.cells == ()
    assert found.problems[0].endswith("too much to read: clear its outputs")


def test_answers_are_read_without_running_them(load, stub):
    """What the dictionary says; nothing where it is no plain dictionary any more."""
    cell = next(cell for cell in stub["cells"] if "quiz" in cell["metadata"].get("lab", {}))
    cell["source"] = '# mine\nanswers = {"why-scale": "b", "shape": (2, 4)}'
    assert load(stub).answers() == {"why-scale": "b", "shape": (2, 4)}
    for source in ("answers = dict(a=1)", "answers = [1]", "answers = {", "1 / 0"):
        cell["source"] = source
        assert load(stub).answers() == {}


# Running


def test_a_right_notebook_passes_and_a_stub_is_not_started(load, stub, right):
    """All points, and none."""
    assert set(states(load(right)).values()) == {"passed"}
    assert set(states(load(stub)).values()) == {"not started"}


@pytest.mark.parametrize(
    "source, said",
    [
        ("def softmax(scores, dim=-1)\n    return scores", "line 1: def softmax(scores, dim=-1)"),
        ("x = 1\n\nraise ValueError('mine')", "ValueError: mine\n→ line 3: raise ValueError"),
        ("import sys\nsys.exit(3)", "The cell does not run."),
        ("softmax_ = len", "The cell of softmax does not define softmax."),
        ("del softmax, nothing", "The cell does not run."),
        ("softmax = 3", "softmax: 0 of 6 points"),
        ("name = input('who?')", "The cell does not run."),
        ("while True:\n    pass", "It does not come to an end"),
    ],
)
def test_a_cell_that_fails_costs_its_own_part(load, right, monkeypatch, capfd, source, said):
    """Its line is shown, the other parts are judged, and nothing reaches the screen."""
    monkeypatch.setattr(cells, "SECONDS", 0.5)
    write(right, "softmax", source)
    first, *others = report(load(right))

    assert first.points == 0.0
    assert said in first.text()
    assert [each.state for each in others] == ["passed"] * 3
    assert capfd.readouterr() == ("", "")


def test_an_error_in_a_part_shows_the_learner_s_line(load, right):
    """The line as it is numbered in the cell, also below empty lines and magics."""
    write(right, "softmax", "\n\n%time 1\ndef softmax(scores, dim=-1):\n    return scores / zero")
    first = report(load(right))[0]

    assert "zero is not defined" in first.text()
    assert "line 5: return scores / zero" in first.text()


def test_a_missing_cell_has_no_points_and_says_so(load, right):
    """The other parts that use it get stock's."""
    deleted(right)
    first, *others = report(load(right))

    assert first.state == "failed"
    assert "The notebook has no code cell for softmax." in first.text()
    assert [each.state for each in others] == ["passed"] * 3


def test_one_mistake_costs_one_part(load, right):
    """A softmax over the wrong axis is softmax's fault alone."""
    write(right, "softmax", "def softmax(scores, dim=-1):\n    return torch.zeros_like(scores)")

    found = states(load(right))
    assert found.pop("softmax") == "failed"
    assert set(found.values()) == {"passed"}


def test_the_last_of_two_cells_counts(load, right):
    """As in nbgrader."""
    doubled(right)
    first = cell_of(right, "softmax")
    first["source"] = "def softmax(scores, dim=-1):\n    return scores"

    assert states(load(right))["softmax"] == "passed"
    cells = right["cells"]
    cells.insert(20, cells.pop(cells.index(first)))
    assert states(load(right))["softmax"] == "failed"


def test_imports_of_all_cells_are_there_and_nothing_else_runs(load, right):
    """A learner's own cell gives its imports; what it does besides does not happen."""
    right["cells"].insert(3, own("import math as m, nowhere_at_all\nfrom torch import exp as e"))
    right["cells"].insert(3, own("import sys as s\nraise SystemExit(1 / 0)"))
    text = "".join(cell_of(right, "softmax")["source"]).replace("torch.exp(", "(s and e)(")
    write(right, "softmax", text)
    found = load(right)

    assert states(found)["softmax"] == "passed"
    assert "m" in found.implementations().namespace


@pytest.mark.parametrize(
    "source",
    [
        "%matplotlib inline\n{}",
        "!ls\nfiles = !ls\n{}",
        "%%time\n{}",
        "\n%%capture out\n{}",
        "torch.exp?\n{}",
        "%time x = 1\n{}\n%timeit 1",
    ],
)
def test_ipython_s_magics_do_nothing(load, right, source):
    """A cell with magics is Python all the same."""
    text = "".join(cell_of(right, "softmax")["source"])
    write(right, "softmax", source.format(text))

    assert states(load(right))["softmax"] == "passed"


def test_python_stays_as_it_is():
    """Line by line; what is wrong stays wrong, for the learner's own words."""
    assert python_of("x = 1\n\ny = 2") == "x = 1\n\ny = 2"
    assert python_of("def f(:") == "def f(:"
    assert python_of("\n\n%time 1\nx = 1").split("\n").index("x = 1") == 3


# lab check


@pytest.fixture
def lab(folder, right, tmp_path, monkeypatch, capsys):
    """The command, in a project whose notebook has just been saved."""
    here = project(tmp_path / "here")
    (here / NOTEBOOK).parent.mkdir(parents=True)
    monkeypatch.chdir(here)
    monkeypatch.setenv("LAB_PROGRESS", str(tmp_path / "progress"))

    def run(*arguments, notebook=right):
        if notebook is not None:
            Path(NOTEBOOK).write_text(json.dumps(notebook))
        with pytest.raises(SystemExit) as end:
            cli.main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return end.value.code, said.out, said.err

    return run


def test_lab_check_says_what_came_of_each_part(lab, right, stub):
    """Status 0 when all pass, 1 when something is wrong, 3 when something is not written."""
    code, out, err = lab("check", "01-attention")
    assert (code, err) == (0, "")
    assert out.count("All checks passed.") == 4
    assert "All parts: 26 of 26 points" in out

    write(right, "soft_lookup", cell_of(stub, "soft_lookup")["source"])
    code, out, _ = lab("check", "01")
    assert code == 3
    assert "soft_lookup: 0 of 4 points\n\nNot started" in out

    write(right, "softmax", "def softmax(scores, dim=-1):\n    return scores")
    code, out, _ = lab("check", "attention")
    assert code == 1
    assert "✗ " in out


def test_lab_check_takes_a_part_or_a_path(lab, right, tmp_path):
    """One report; any notebook."""
    code, out, _ = lab("check", "01", "--part", "softmax")
    assert code == 0
    assert out.startswith("softmax: 6 of 6 points") and "soft_lookup" not in out

    elsewhere = tmp_path / "mine.ipynb"
    elsewhere.write_text(json.dumps(right))
    code, out, _ = lab("check", elsewhere)
    assert code == 0 and "All parts: 26 of 26 points" in out


def test_lab_check_reads_the_quiz_where_it_is_answered(lab, right):
    """With the course's own questions."""
    cell = next(cell for cell in right["cells"] if "quiz" in cell["metadata"].get("lab", {}))
    cell["source"] = 'answers = {"three-roles": "b"}'
    _, out, _ = lab("check", "01")

    assert "Quiz: 1 of 6 points" in out


def test_lab_check_keeps_progress(lab):
    """`lab status` then shows the points."""
    lab("check", "01")
    code, out, _ = lab("status")

    assert code == 0
    assert "26 of 32" in out.splitlines()[0]


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["check", "12"], "there is no unit '12': choose from 01-attention"),
        (["check", "01", "--part", "sofmax"], "no part 'sofmax': choose from softmax, soft_lookup"),
        (["hint", "sofmax"], "there is no part 'sofmax': do you mean 'softmax'?"),
        (["check", "02"], "masks.ipynb is not there: run `lab build 02-masks`"),
    ],
)
def test_what_the_caller_can_mend_is_one_line(lab, arguments, said):
    """On stderr, with status 1."""
    code, out, err = lab(*arguments)

    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert said in " ".join(err.split())


def test_lab_check_of_a_broken_file_says_what_it_is(lab):
    """No traceback."""
    Path(NOTEBOOK).write_text('{"cells": [')
    code, out, err = lab("check", "01", notebook=None)

    assert (code, err) == (1, "")
    assert out == "error: attention.ipynb ends in the middle, at line 1: the file is cut off\n"


def test_lab_hint_gives_hints(lab, monkeypatch):
    """From the gentlest on, or the level asked for."""
    monkeypatch.setattr(notebook, "_last", {})
    code, out, _ = lab("hint", "softmax")
    assert code == 0 and out.startswith("Hint 1 of 3 (nudge)")
    assert lab("hint", "softmax")[1].startswith("Hint 2 of 3 (pseudo-code)")
    assert lab("hint", "softmax", "--level", "1")[1] == out
    assert lab("hint", "softmax", "--level", "4")[0] == 2


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="ends a watch by a signal")
def test_lab_check_watches_a_file(folder, right, tmp_path):
    """Again whenever it is saved, also when it is away for a moment; Ctrl-C ends with status 0."""
    path = tmp_path / "attention.ipynb"
    path.write_text(json.dumps(right))
    code = "from autograder.cli import main; import sys; main(sys.argv[1:])"
    watch = subprocess.Popen(
        [sys.executable, "-c", code, "check", str(path), "--watch", "--part", "softmax"],
        cwd=folder, env={**os.environ, "LAB_PROGRESS": str(tmp_path / "progress")},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert "softmax: 6 of 6 points" in _until(watch, "waiting for the next save")
        write(right, "softmax", "def softmax(scores, dim=-1):\n    return scores")
        path.unlink()
        time.sleep(0.5)  # the watch looks every 0.3 s: it shall see that the file is away
        path.write_text(json.dumps(right))
        said = _until(watch, "waiting for the next save")
        assert "softmax: 0 of 6 points" in said or "✗" in said
        watch.send_signal(signal.SIGINT)
        out, err = watch.communicate(timeout=20)
    finally:
        watch.kill()
        watch.communicate()

    assert watch.returncode == 0
    assert err == ""
    assert out.endswith("ended\n")


def _until(process, wanted):
    said = ""
    for line in process.stdout:
        said += line
        if wanted in line:
            return said
    raise AssertionError(said + process.stderr.read())
