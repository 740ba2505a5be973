"""The commands of the classroom: lab course …, lab submit, lab bundle."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

course = typer.Typer(
    help="Run a course with nbgrader: init, release, collect, grade, feedback, export.",
    no_args_is_help=True,
)

Unit = Annotated[
    str | None, typer.Argument(help="A unit: 03-multi-head, 03 or multi_head; none: all released.")
]


@course.command()
def init(
    roster: Annotated[
        Path | None, typer.Option(help="CSV with the columns id, first_name, last_name, email.")
    ] = None,
    exchange: Annotated[
        Path | None, typer.Option(help="Folder that you and the learners reach.")
    ] = None,
    course_id: Annotated[str | None, typer.Option("--course", help="Name of the course.")] = None,
) -> None:
    """Make exchange and gradebook, enter the roster. Run it again whenever the roster changes."""
    from autograder.classroom import teaching as work

    _say(work.init(_settings(), roster, exchange, course_id))


@course.command()
def release(
    units: Annotated[
        list[str] | None, typer.Argument(help="Units; none: all that are built.")
    ] = None,
    due: Annotated[
        str | None, typer.Option(help='"2026-12-01 18:00" on your clock; a date alone: its end.')
    ] = None,
) -> None:
    """Give units out, or give them another due date."""
    from autograder.classroom import teaching as work

    date = work.read_date(due) if due else None
    _say(work.release(_settings(), units or [], date))


@course.command()
def collect(
    unit: Unit = None,
    before_due: Annotated[
        bool, typer.Option(help="The last hand-in before the due date, where there is one.")
    ] = False,
) -> None:
    """Bring in the last hand-in of every learner."""
    from autograder.classroom import teaching as work

    _say(work.collect(_settings(), unit, before_due))


@course.command()
def grade(
    unit: Unit = None,
    student: Annotated[str | None, typer.Option(help="Only this learner.")] = None,
    force: Annotated[bool, typer.Option(help="Grade again what is graded already.")] = False,
) -> None:
    """Grade what was collected: a line for everybody; status 1 if somebody could not be graded."""
    from autograder.classroom import grading
    from autograder.classroom import teaching as work

    settings = _settings()
    failed = 0
    for name in work.units_meant(settings, unit):
        print(f"{name}: {len(work.submitted(settings, name))} hand-ins", flush=True)
        width = max(map(len, work.submitted(settings, name)), default=0)
        for result in grading.grade(settings, name, student, force):
            print(result.text(width), flush=True)
            failed += not result.graded
        if student is None and (absent := work.absent(settings, name)):
            print(f"nothing from {', '.join(absent)}")
    if failed:
        print(f"{failed} not graded, or not wholly: see above, and the formgrader")
        raise typer.Exit(1)


@course.command()
def feedback(unit: Unit = None) -> None:
    """Write a page for every graded hand-in and give it back through the exchange."""
    from autograder.classroom import teaching as work

    _say(work.feedback(_settings(), unit))


@course.command()
def export(
    to: Annotated[Path, typer.Option(help="The file to write.")] = Path("grades.csv"),
) -> None:
    """Write all grades as CSV."""
    from autograder.classroom import teaching as work

    _say(work.export(_settings(), to))


@course.command()
def accounts(
    teacher: Annotated[
        list[str] | None, typer.Option("--teacher", help="Who teaches; may be given again.")
    ] = None,
    reset: Annotated[
        list[str] | None, typer.Option("--reset", help="Who has forgotten the password.")
    ] = None,
    remove: Annotated[list[str] | None, typer.Option("--remove", help="Who leaves.")] = None,
) -> None:
    """Accounts for the page: for who is in the gradebook and has none, with first passwords as CSV.

    The passwords are nowhere else: `lab course accounts > passwords.csv`.
    """
    from autograder.classroom import accounts as work

    lines = list(work.enter(_settings(), teacher or [], reset or [], remove or []))
    print("\n".join(lines)) if lines else typer.echo("no new account, no new password", err=True)


def submit_command(
    unit: Annotated[str, typer.Argument(help="A unit: 03-multi-head, 03 or multi_head.")],
    student: Annotated[str | None, typer.Option(help="Who hands in; else your account.")] = None,
    folder: Annotated[
        Path | None, typer.Option(help="The unit's folder, where it is not exercises/<unit>.")
    ] = None,
) -> None:
    """Hand in the notebook of a unit as it was last saved."""
    from autograder.classroom.handing_in import hand_in

    print(hand_in(unit, student, folder).text())


def bundle_command(
    out: Annotated[Path, typer.Option(help="The zip to write.")] = Path("attention-lab.zip"),
    hidden_too: Annotated[
        bool, typer.Option(help="Keep the hidden checks in it, for learners without a teacher.")
    ] = False,
) -> None:
    """Pack what learners get where answers must stay away."""
    from autograder.classroom.bundle import bundle

    _say(bundle(out, hidden_too=hidden_too))


def _settings():
    from autograder.classroom import settings

    return settings.read()


def _say(lines: Iterator[str]) -> None:
    for line in lines:
        print(line, flush=True)
