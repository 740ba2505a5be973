"""Grades as CSV, for `lab course export` and for nbgrader's own command:

nbgrader export --exporter autograder.classroom.export.Grades
"""

# ruff: noqa: E402 (nbgrader is made ready before it is imported)

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from autograder.classroom.settings import make_ready
from lab.files import replacing

make_ready()

from nbgrader.api import MissingEntry
from nbgrader.plugins import ExportPlugin

COLUMNS = (
    "assignment", "duedate", "timestamp", "student_id", "last_name", "first_name", "email",
    "raw_score", "late_submission_penalty", "score", "max_score", "note",
)  # fmt: skip


class Grades(ExportPlugin):
    """nbgrader's columns, quoted, and a note.

    nbgrader's own table says 0.0 for work that was not handed in, and for work that could not be
    graded. Here the score is empty in both cases and the note says which.
    """

    def export(self, gradebook: Any) -> None:
        rows = [
            self._row(gradebook, assignment, student)
            for assignment in gradebook.assignments
            if not self.assignment or assignment.name in self.assignment
            for student in gradebook.students
            if not self.student or student.id in self.student
        ]
        self.notes = [row["note"] for row in rows]
        with replacing(Path(self.to or "grades.csv")) as path:
            with path.open("w", encoding="utf-8", newline="") as file:
                table = csv.DictWriter(file, COLUMNS)
                table.writeheader()
                table.writerows({key: _harmless(row[key]) for key in COLUMNS} for row in rows)

    def _row(self, gradebook: Any, assignment: Any, student: Any) -> dict[str, Any]:
        row = {
            "assignment": assignment.name,
            "duedate": assignment.duedate,
            "student_id": student.id,
            "last_name": student.last_name,
            "first_name": student.first_name,
            "email": student.email,
            "max_score": assignment.max_score,
        }
        try:
            submission = gradebook.find_submission(assignment.name, student.id)
        except MissingEntry:
            return dict.fromkeys(COLUMNS) | row | {"note": "not handed in"}
        row["timestamp"] = submission.timestamp
        if ungraded(submission):
            return dict.fromkeys(COLUMNS) | row | {"note": "not graded yet"}
        penalty = submission.late_submission_penalty or 0.0
        return row | {
            "raw_score": submission.score,
            "late_submission_penalty": penalty,
            "score": max(0.0, submission.score - penalty),
            "note": note_of(submission),
        }


def ungraded(submission: Any) -> bool:
    """Whether no cell of a submission has points yet, from nbgrader or from a person."""
    grades = [grade for notebook in submission.notebooks for grade in notebook.grades]
    return all(grade.auto_score is None and grade.manual_score is None for grade in grades)


def note_of(submission: Any) -> str:
    notes = ["late"] if submission.total_seconds_late > 0 else []
    if submission.needs_manual_grade:
        notes.append("to be looked at in the formgrader")
    return ", ".join(notes)


def _harmless(value: Any) -> Any:
    """A name is text: no spreadsheet is to take it for a formula."""
    return f"'{value}" if isinstance(value, str) and value[:1] in set("=+-@") else value
