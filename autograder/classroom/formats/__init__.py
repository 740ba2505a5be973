"""Grades for others to read: `lab export --format …`, one module a format.

    tables.py       CSV: quoted, harmless, sheets filled in
    nbgrader.py     nbgrader's columns, and a note
    canvas.py       Canvas' gradebook
    moodle.py       Moodle's grading worksheet
    gradescope.py   results.json, and the autograder's zip
    classroom50.py  Classroom 50's result.json
    junit.py        JUnit XML

Each has `write(entries, to, …)`, which writes the whole file or none and gives what there is to say
about it. Nobody gets 0 for what could not be graded: there the cell stays empty, or no file is
written.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from autograder.classroom.results import Entry

FORMATS = {  # and what the file is called where nothing else is said
    "nbgrader": "grades.csv",
    "canvas": "canvas.csv",
    "moodle": "moodle.csv",
    "gradescope": "results.json",
    "gradescope-zip": "autograder.zip",
    "classroom50": "result.json",
    "junit": "junit.xml",
}
SHEETS = ("canvas", "moodle")  # which can be a sheet that was downloaded, filled in


def export(
    format: str,
    entries: Sequence[Entry],
    to: Path,
    sheet: Path | None = None,
    column: str | None = None,
) -> Iterator[str]:
    """Write these entries in one of the formats; what there is to say, line by line."""
    if format not in FORMATS:
        raise ValueError(f"there is no format {format!r}: choose from {', '.join(FORMATS)}")
    if format not in SHEETS and (sheet or column):
        raise ValueError(f"--sheet and --column are for {' and '.join(SHEETS)}, not for {format}")
    if not to.parent.is_dir():
        raise ValueError(f"{to}: there is no folder {to.parent}")
    module = importlib.import_module(f"{__name__}.{format}")
    more = (sheet, column) if format in SHEETS else ()
    yield from module.write(entries, to, *more)
    for entry in entries:
        if entry.result is not None and not entry.graded:
            yield f"  no grade for {entry.name}, {entry.unit or 'no unit'}: {entry.why_not}"
