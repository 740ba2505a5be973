"""The commands for what a class did: lab report, lab export."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from autograder.classroom.results import Entry

Results = Annotated[
    list[Path] | None,
    typer.Argument(
        metavar="RESULTS",
        help="Files of `lab grade --json`; none: the gradebook of the course here.",
    ),
]
Roster = Annotated[
    Path | None,
    typer.Option(help="CSV with id, first_name, last_name, email; else the course's learners."),
]
OneUnit = Annotated[str | None, typer.Option("--unit", help="Only this one: 03-multi-head, 03 …")]


def report_command(
    results: Results = None,
    html: Annotated[Path | None, typer.Option(help="Write a page instead: one file.")] = None,
    unit: OneUnit = None,
    roster: Roster = None,
    similar: Annotated[
        bool, typer.Option(help="Look for hand-ins that resemble each other.")
    ] = True,
) -> None:
    """What the class did: points, where it is stuck, mistakes by name, similar hand-ins."""
    from autograder.classroom.report import Report, sources_of

    entries = collected(results or [], unit, roster)
    report = Report.of(entries, sources_of(entries) if similar else None)
    if html is not None:
        if not html.absolute().parent.is_dir():
            raise ValueError(f"{html}: there is no folder {html.parent}")
        report.write(html)
        print(f"wrote {html}: {', '.join(each.unit.name for each in report.units)}")
        return
    terminal = sys.stdout.isatty()
    print(report.text(_width() if terminal else None, colour=terminal), end="")
    if not results:
        print("Mistakes by name stand in the results of `lab grade --json`: lab report FILE")


def export_command(
    results: Results = None,
    format: Annotated[
        str,
        typer.Option(
            help="nbgrader, canvas, moodle, gradescope, gradescope-zip, classroom50, junit."
        ),
    ] = "nbgrader",
    to: Annotated[Path | None, typer.Option(help="The file to write.")] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="The sheet of Canvas or Moodle to be filled in.")
    ] = None,
    column: Annotated[
        str | None, typer.Option(help="Title of the sheet's column for the grades.")
    ] = None,
    unit: OneUnit = None,
    roster: Roster = None,
) -> None:
    """Write grades as another program reads them.

    Exit status: 0 what there is was written; 1 there is nothing that could be.
    """
    from autograder.classroom import formats
    from autograder.classroom.settings import project
    from lab.course import unit_named

    if format not in formats.FORMATS:
        raise ValueError(f"there is no format {format!r}: choose from {', '.join(formats.FORMATS)}")
    to = to or Path(formats.FORMATS[format])
    if format == "gradescope-zip":
        from autograder.classroom.formats.gradescope import write_zip

        lines = write_zip(project(), to, unit_named(unit).name if unit else None)
    else:
        entries = collected(results or [], unit, roster)
        lines = formats.export(format, entries, to, sheet, column)
    for line in lines:
        print(line, flush=True)


def collected(files: list[Path], unit: str | None, roster: Path | None) -> list[Entry]:
    """Everybody's entries from these files, else from the gradebook of the course here."""
    from autograder.classroom import results, settings, teaching
    from lab.course import unit_named

    wanted = unit_named(unit).name if unit else None
    if files:
        people = teaching.read_roster(roster) if roster else _of_the_course()
        found = results.entries((each for file in files for each in results.read(file)), people)
    else:
        if roster is not None:
            raise ValueError("--roster goes with files of results: the gradebook has its own")
        course = settings.read()
        with teaching.gradebook(course) as book, settings.listening():
            found = results.of_gradebook(book)
        found = [results.with_notebook(each, course) for each in found]
    found = [each for each in found if wanted is None or each.unit in (wanted, "")]
    if not any(each.unit for each in found):
        raise ValueError(f"there is no result{f' of {wanted}' if wanted else ''}")
    return found


def _of_the_course() -> list:
    """The learners of the course here, if there is one."""
    from autograder.classroom import settings, teaching
    from autograder.classroom.teaching import Learner

    try:
        course = settings.read()
        with teaching.gradebook(course) as book, settings.listening():
            return [
                Learner(each.id, each.first_name or "", each.last_name or "", each.email or "")
                for each in book.students
            ]
    except ValueError:
        return []


def _width() -> int:
    import shutil

    return shutil.get_terminal_size((100, 24)).columns
