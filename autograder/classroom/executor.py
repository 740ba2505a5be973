"""What takes the place of nbgrader's kernel: the oracle's points, as outputs of the check cells.

`nbgrader_config.py` names these three, in the order in which nbgrader meets them: `nbgrader
autograde`, the formgrader's button and `lab course grade` all come through here.

Reader   reads a hand-in whatever has become of the file
Mend     puts every cell that was handed out in its place, before nbgrader compares them
Oracle   runs no kernel: it asks the oracle, and writes what nbgrader takes for just these points

Everything after that is nbgrader's own: the gradebook, comments, late penalties, manual points.
"""

# ruff: noqa: E402 (nbgrader is made ready before it is imported)

from __future__ import annotations

import atexit
import functools
import math
import os
import threading
from collections.abc import Mapping
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

from autograder.classroom.settings import VARIABLE, make_ready

make_ready()

import nbformat
import torch
from nbconvert.exporters import NotebookExporter
from nbgrader.api import Gradebook
from nbgrader.coursedir import CourseDirectory
from nbgrader.preprocessors import Execute, NbGraderPreprocessor
from nbgrader.utils import is_grade, is_solution

from autograder.checks import Check
from autograder.classroom.mending import cell_like, handed_out, mend, names_in
from autograder.diagnosis import Diagnosis
from autograder.judge import checks_of
from autograder.oracle import grading
from autograder.oracle.sandbox import caution
from autograder.oracle.zygote import Zygote
from autograder.report import Line, Report
from autograder.submission import Cell, Submission
from lab.course import PARTS, UNITS, Unit

Notebook = tuple[Any, Any]  # as nbconvert hands it on: the notebook, and what goes with it
PYTHON = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


class Ungraded(Exception):
    """A hand-in that has no points, not even 0, and why; it waits for a person."""


class Reader(NotebookExporter):
    """A notebook as `Submission` reads it: byte order marks, UTF-16, 50 MB of output, odd cells."""

    def from_filename(
        self, filename: str, resources: dict[str, Any] | None = None, **options: Any
    ) -> Notebook:
        resources = {} if resources is None else resources
        submission = Submission.load(Path(filename))
        if submission.unit is None:  # an assignment of the teacher's own
            return super().from_filename(filename, resources, **options)
        if not submission.cells:
            with Gradebook(resources["nbgrader"]["db_url"]) as book:
                _leave_ungraded(book, resources["nbgrader"])
            raise Ungraded("; ".join(submission.problems) or "it has no cells")
        cells = [cell_like(each.kind, each.source, {**each.metadata}) for each in submission.cells]
        content = {"nbformat": 4, "nbformat_minor": 5, "metadata": PYTHON, "cells": cells}
        resources["problems"] = submission.problems
        return self.from_notebook_node(nbformat.from_dict(content), resources, **options)


class Mend(NbGraderPreprocessor):
    """Every cell that was handed out once and in its place. What was wrong is a warning.

    From here on the hand-in waits for a person, until it has points: whatever may happen to it, no
    old ones are left.
    """

    def preprocess(self, nb: Any, resources: Any) -> Notebook:
        known = resources["nbgrader"]
        folders = CourseDirectory(parent=self)
        source = folders.format_path(folders.source_directory, ".", known["assignment"])
        order = names_in(Path(source) / f"{known['notebook']}.ipynb")
        with Gradebook(known["db_url"]) as book:
            released = handed_out(book, known["assignment"], known["notebook"], order)
            if _unit_of(released) is None:
                return nb, resources
            _leave_ungraded(book, known)
        mended, notes = mend(nb.cells, released)
        for _, note in notes:
            self.log.warning("%s, %s: %s", known["student"], known["assignment"], note)
        nb = nbformat.from_dict(mended)
        found = replace(_submission(nb, resources), problems=resources.get("problems", ()))
        if fault := grading.ungradable(found):
            raise Ungraded(fault)
        return nb, resources


class Oracle(NbGraderPreprocessor):
    """The oracle in the kernel's place. Only a teacher's own assignments still run in a kernel."""

    def preprocess(self, nb: Any, resources: Any) -> Notebook:
        submission = _submission(nb, resources)
        if submission.unit is None:
            return Execute(parent=self.parent)(nb, resources)
        try:
            result = _graded(submission)
            outputs = outputs_of(nb, submission.unit, result)
        except BaseException:
            os.environ.pop(VARIABLE, None)  # nbgrader forgets it: submit() would be silent for ever
            raise
        for number, found in outputs.items():
            nb.cells[number].outputs = [nbformat.from_dict(each) for each in found]
        if result["sandbox"] and (said := caution(result["sandbox"])):
            self.log.warning(said)
        nb.metadata["lab"] = {"sandbox": result["sandbox"], "seconds": result["seconds"]}
        return nb, resources


def _submission(nb: Any, resources: Any) -> Submission:
    """A notebook that nbgrader has in hand, as the oracle takes it."""
    known = resources["nbgrader"]
    path = Path(known["student"]) / known["assignment"] / f"{known['notebook']}.ipynb"
    cells = (Cell(n, c.cell_type, c.source, c.metadata) for n, c in enumerate(nb.cells, 1))
    return Submission(path, _unit_of(nb), tuple(cells))


def _unit_of(nb: Mapping[str, Any]) -> Unit | None:
    """The unit whose checks a notebook has, by the marks that nbgrader has seen to."""
    marks = [cell["metadata"].get("nbgrader", {}) for cell in nb["cells"]]
    names = {mark.get("grade_id") for mark in marks}
    return next((u for u in UNITS if names & {f"check-{part}" for part in u.parts}), None)


# Points as nbgrader understands them


def outputs_of(nb: Any, unit: Unit, result: grading.Result) -> dict[int, list[dict[str, Any]]]:
    """What to write into which cell, so that nbgrader gives just the points of the result.

    Of a cell's outputs nbgrader takes the first plain number for its points. No number at all, or
    one below 0, gives full points; one above the maximum, or a word on stderr, takes all of them.
    """
    parts = {f"check-{part['part']}": part for part in result["parts"]}
    found = {}
    for number, cell in enumerate(nb.cells):
        if not is_grade(cell) or is_solution(cell) or cell.cell_type != "code":
            continue  # graded by hand, or not at all
        name = cell.metadata.nbgrader.grade_id
        if name not in parts:
            raise Ungraded(
                f"{name} is no check of {unit.name}, and a silent cell would get all its points: "
                "make it a cell that is graded by hand"
            )
        part, most = parts[name], float(cell.metadata.nbgrader.points)
        if most != part["max_points"]:
            raise Ungraded(
                f"{name} has {most:g} points in the gradebook and {part['max_points']} by its "
                f"checks: build and release {unit.name} again"
            )
        points = _points(part, most)
        text, html = _words(part, unit)
        found[number] = [
            {"output_type": "display_data", "metadata": {},
             "data": {"text/plain": text, "text/html": html}},
            {"output_type": "execute_result", "metadata": {}, "execution_count": None,
             "data": {"text/plain": repr(points), "text/html": ""}},
        ]  # fmt: skip
    return found


def _points(part: Mapping[str, Any], most: float) -> float:
    """A plain number from 0 to what the cell has."""
    try:
        points = float(part["points"])
    except (TypeError, ValueError):
        points = math.nan
    if not math.isfinite(points):
        raise Ungraded(f"{part['part']} was given {part['points']!r} points, which is no number")
    return min(max(points, 0.0), most)


# Words for the feedback


def _words(part: grading.Result, unit: Unit) -> tuple[str, str]:
    """A part as text and as HTML; of hidden checks only that there are any."""
    if part["part"] not in PARTS:
        return _quiz(part)
    report = _report(part)
    return report.text(), report.html()


def _report(part: grading.Result) -> Report:
    """The report that `check()` would show."""
    checks = {each.name: each for each in checks_of(part["part"])}
    lines = tuple(
        Line(_shown(checks[each["name"]]), each["passed"], each["message"])
        for each in part["checks"]
    )
    state = {"forbidden": "shortcut", "passed": "passed", "not started": "not started"}
    failed = next((line for line in lines if not line.passed), None)
    said = part["message"]
    if failed and failed.check.hidden and part["state"] in ("failed", "partial"):
        said = "One of the hidden checks is not met."
    diagnosis = Diagnosis("", said) if said else None
    return Report(part["part"], state.get(part["state"], "failed"), lines, diagnosis)


def _shown(check: Check) -> Check:
    return replace(check, sentence="A hidden check.") if check.hidden else check


def _quiz(part: grading.Result) -> tuple[str, str]:
    head = f"Quiz: {part['points']:g} of {part['max_points']} points"
    said = [
        f"{'✓' if each['passed'] else '✗'} {number}. {each['message']}"
        for number, each in enumerate(part["checks"], 1)
    ]
    rows = "".join(f"<p style='margin:.3em 0'>{escape(each)}</p>" for each in said)
    return "\n".join([head, *said]), f"<b>{head}</b>{rows}"


# The oracle, warm


def _graded(submission: Submission) -> grading.Result:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the tensors are tiny: a second thread costs more than it gives
    try:
        result = grading.grade(submission, _zygote(os.getpid(), threading.get_ident()), _seed())
    finally:
        torch.set_num_threads(threads)
    if result["status"] != "graded":
        raise Ungraded(result["reason"])
    return result


@functools.cache
def _zygote(process: int, thread: int) -> Zygote:
    """One for all hand-ins that this thread grades, until the process ends."""
    zygote = Zygote()
    atexit.register(_close, zygote, process)
    return zygote


def _close(zygote: Zygote, process: int) -> None:
    if process == os.getpid():  # of a process that was forked from this one it is not
        zygote.close()


@functools.cache
def _seed() -> int:
    """The same for all hand-ins of a run: they are compared."""
    return grading.secret()


def _leave_ungraded(book: Any, known: Mapping[str, str]) -> None:
    leave_ungraded(book, book.find_submission(known["assignment"], known["student"]))


def leave_ungraded(book: Any, submission: Any) -> None:
    """Take a submission's automatic points away, and put it into the formgrader's queue."""
    for notebook in submission.notebooks:
        for each in notebook.grades:
            each.auto_score, each.needs_manual_grade = None, True
    book.db.commit()
