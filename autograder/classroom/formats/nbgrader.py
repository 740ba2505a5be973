"""nbgrader's table of grades, quoted, with a note where a number would mislead.

nbgrader's own says 0.0 for work that was not handed in, and for work that could not be graded. Here
the score is empty in both cases and the note says which.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from autograder.classroom.formats import tables
from autograder.classroom.results import Entry

COLUMNS = (
    "assignment", "duedate", "timestamp", "student_id", "last_name", "first_name", "email",
    "raw_score", "late_submission_penalty", "score", "max_score", "note",
)  # fmt: skip


def write(entries: Sequence[Entry], to: Path) -> Iterator[str]:
    """Write the table; what there is to say about it."""
    rows = [_row(each) for each in entries if each.unit]
    tables.write(to, [COLUMNS, *([row[name] for name in COLUMNS] for row in rows)])
    yield f"wrote {to}: {len(rows)} rows"
    notes = [row["note"] for row in rows]
    for note in sorted(set(notes) - {""}):
        yield f"  {notes.count(note)} × {note}"


def _row(entry: Entry) -> dict[str, Any]:
    row = dict.fromkeys(COLUMNS) | {
        "assignment": entry.unit,
        "duedate": entry.due,
        "student_id": entry.learner.id,
        "last_name": entry.learner.last_name,
        "first_name": entry.learner.first_name,
        "email": entry.learner.email,
        "max_score": entry.max_points,
        "note": entry.why_not or ", ".join(entry.notes),
    }
    if entry.graded:
        row |= {
            "timestamp": entry.handed_in,
            "raw_score": entry.raw_points,
            "late_submission_penalty": entry.penalty,
            "score": entry.points,
        }
    return row
