"""A small course in a temporary folder: the first unit, its own words and pictures left out."""

import copy
import functools
import json
import shutil
from pathlib import Path

import pytest

from autograder.quizzes import questions
from autograder.release import read_lesson
from lab.course import unit_named

ROOT = Path(__file__).parents[1]
UNIT = "01-attention"
PARTS = unit_named(UNIT).parts
POINTS = unit_named(UNIT).points

# What nbgrader 0.9 and the libraries below it warn of; nothing of ours.
WARNINGS = [
    pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SAWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@functools.cache
def _source():
    """What the builder makes of the lesson, without what needs seconds and no grading."""
    notebook = read_lesson(unit_named(UNIT), ROOT / "solutions")
    notebook["cells"] = [
        cell
        for cell in notebook["cells"]
        if cell["metadata"].get("nbgrader") or "quiz" in cell["metadata"].get("lab", {})
    ]
    return notebook


def right(part):
    """The text of a right answer, as a learner has it in the cell."""
    lines = cell_of(_source(), part)["source"].splitlines()
    return "\n".join(line for line in lines if not line.strip().startswith("###"))


def everything_right(notebook):
    """All parts written, and the quiz answered."""
    notebook = copy.deepcopy(notebook)
    answers = {each.id: each.right for each in questions(UNIT)}
    quiz = next(cell for cell in notebook["cells"] if "quiz" in cell["metadata"].get("lab", {}))
    quiz["source"] = f"answers = {answers!r}"
    return answer(notebook, **{part: right(part) for part in PARTS})


def project(folder):
    """A project with nothing in it but nbgrader's settings and the source of one unit."""
    _ask_for_the_version_once()
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "nbgrader_config.py", folder)
    write(folder / "build" / "source" / UNIT / "attention.ipynb", _source())
    return folder


def _ask_for_the_version_once():
    """Of a gradebook's tables: for each new one nbgrader starts a process that takes seconds."""
    from nbgrader import api

    if not hasattr(api.get_alembic_version, "cache_info"):
        api.get_alembic_version = functools.cache(api.get_alembic_version)


def write(path, notebook):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(notebook, indent=1), encoding="utf-8")
    return path


def cell_of(notebook, grade_id):
    """The cell with this mark; the last, if there are more."""
    return [each for each in notebook["cells"] if mark_of(each) == grade_id][-1]


def mark_of(cell):
    return cell["metadata"].get("nbgrader", {}).get("grade_id")


def answer(notebook, **parts):
    """A copy with these texts in the cells of parts: answer(notebook, softmax="def softmax …")."""
    notebook = copy.deepcopy(notebook)
    for part, text in parts.items():
        cell_of(notebook, part)["source"] = text
    return notebook
