"""Parts that passed serve the lessons after them."""

import json

import pytest
import torch

from autograder import check, yours
from autograder.finished import finished
from autograder.submission import Submission
from lab import parts, stock
from lab.course import unit_named

SOFTMAX = """def softmax(scores, dim=-1):
    lost = (scores == -math.inf).all(dim, keepdim=True)
    scores = scores.masked_fill(lost, 0)
    e = torch.exp(scores - scores.detach().amax(dim, keepdim=True))
    return (e / e.sum(dim, keepdim=True)).masked_fill(lost, 0)"""


def cell(source, grade_id=None):
    metadata = {"nbgrader": {"grade_id": grade_id, "solution": True}} if grade_id else {}
    return {"cell_type": "code", "metadata": metadata, "source": source, "outputs": []}


def save(path, softmax):
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [cell("import math\nimport torch"), cell(softmax, "softmax")]
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4}), "utf-8")


@pytest.fixture
def exercises(tmp_path, monkeypatch):
    """A folder of notebooks in which softmax is written, has passed and is saved."""
    monkeypatch.setenv("LAB_PROGRESS", str(tmp_path / "progress"))
    monkeypatch.delenv("NBGRADER_EXECUTION", raising=False)
    path = tmp_path / "01-attention" / "attention.ipynb"
    save(path, SOFTMAX)
    found = Submission.load(path, unit_named("01")).implementations().found
    assert check("softmax", found["softmax"]) == 6
    yield tmp_path
    parts.adopt({})


def test_a_part_that_passed_serves_from_the_next_lesson_on(exercises, capsys):
    """lab.parts gives the learner's, everything else stays stock's."""
    yours(exercises)

    assert capsys.readouterr().out.endswith("Yours: softmax. PyTorch's own: the rest.\n")
    assert parts.implementation("softmax").__code__.co_filename == "<softmax>"
    assert parts.implementation("soft_lookup") is stock.soft_lookup
    torch.testing.assert_close(parts.softmax(torch.zeros(2)), torch.tensor([0.5, 0.5]))


def test_a_part_that_was_changed_since_is_stock_again(exercises):
    """Until it has passed once more."""
    save(exercises / "01-attention" / "attention.ipynb", SOFTMAX.replace("0)", "1)"))

    assert finished(exercises) == {}


def test_a_part_that_never_passed_stays_stock(exercises, monkeypatch):
    """Whatever is saved in the notebook."""
    monkeypatch.setenv("LAB_PROGRESS", str(exercises / "nobody"))

    assert finished(exercises) == {}


def test_without_notebooks_everything_is_stock(exercises, capsys):
    """No error in a folder of something else."""
    yours(exercises / "elsewhere")

    assert "PyTorch's own" in capsys.readouterr().out
    assert parts.implementation("softmax") is stock.softmax


def test_a_grader_adopts_nothing(exercises, monkeypatch, capsys):
    """Everybody's parts are judged among stock's."""
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")
    capsys.readouterr()

    yours(exercises)

    assert capsys.readouterr().out == ""
    assert parts.implementation("softmax") is stock.softmax
