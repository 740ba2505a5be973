"""Grades as CSV, for nbgrader's own command:

nbgrader export --exporter autograder.classroom.export.Grades
"""

# ruff: noqa: E402 (nbgrader is made ready before it is imported)

from __future__ import annotations

from pathlib import Path
from typing import Any

from autograder.classroom.settings import make_ready

make_ready()

from nbgrader.plugins import ExportPlugin

from autograder.classroom.formats.nbgrader import write
from autograder.classroom.results import of_gradebook, ungraded

__all__ = ["Grades", "ungraded"]


class Grades(ExportPlugin):
    """nbgrader's columns, quoted, and a note; `said` is what there is to say about them."""

    def export(self, gradebook: Any) -> None:
        entries = of_gradebook(gradebook, self.assignment or (), self.student or ())
        self.said = list(write(entries, Path(self.to or "grades.csv")))
