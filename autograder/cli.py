"""The `lab` command as a whole: lab's own commands, and those for lessons and courses."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Literal

import typer

from lab.cli import CheckpointFolder, Device, app, main
from lab.course import PARTS, UNITS, Unit, unit_named

__all__ = ["main"]

LEVELS = 3  # as in autograder.hints
PAUSE = 0.3  # seconds between two looks at a file that is watched

app.info.help = "Attention Lab: the lessons, their checks, courses; train, translate, evaluate."

UnitName = Annotated[
    str | None, typer.Argument(help="A unit: 03-multi-head, 03 or multi_head; none: choose there.")
]


@app.command()
def notebook(
    unit: UnitName = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65_535, help="Else the first free one from 8888 on.")
    ] = None,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Only say where JupyterLab is.")
    ] = False,
) -> None:
    """Open the lessons in JupyterLab."""
    folder = _project() / "exercises"
    page = "/lab"
    if unit is not None:
        path = _notebook_of(unit_named(unit))
        page = f"/lab/tree/{path.relative_to(folder).as_posix()}"
    if port is not None and _taken(port):
        raise ValueError(f"port {port} is taken: choose another, or leave out --port")
    command = [
        sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder}",
        f"--LabApp.default_url={page}",
        # The teacher's page is opened in the project's folder; here it would only complain.
        "--ServerApp.jpserver_extensions={'nbgrader.server_extensions.formgrader': False}",
    ]  # fmt: skip
    command += [f"--port={port}", "--ServerApp.port_retries=0"] if port else []
    command += ["--no-browser"] if no_browser else []
    server = subprocess.Popen(command)
    while True:
        try:
            raise typer.Exit(server.wait())
        except KeyboardInterrupt:  # JupyterLab hears it too, and asks whether to stop
            continue


@app.command()
def check(
    unit: Annotated[
        str, typer.Argument(help="A unit (03-multi-head, 03, multi_head) or a notebook's path.")
    ],
    part: Annotated[str | None, typer.Option(help="Only this part.")] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Again whenever the notebook is saved; Ctrl-C ends.")
    ] = False,
) -> None:
    """Check the parts in a notebook as it was last saved, and the quiz where it is answered.

    Exit status: 0 every part passes; 1 something is wrong; 3 nothing is wrong, but not every part
    is written. With --watch 0, once you end it.
    """
    path = Path(unit) if unit.endswith(".ipynb") else None
    wanted = None if path else unit_named(unit)
    path = path or _notebook_of(unit_named(unit))
    if part is not None and part not in (wanted.parts if wanted else PARTS):
        raise ValueError(
            f"there is no part {part!r}: choose from {', '.join(wanted.parts if wanted else PARTS)}"
        )
    if not watch:
        raise typer.Exit(_check(path, wanted, part))
    try:
        _watch(path, wanted, part)
    except KeyboardInterrupt:
        print("\nended")


def _watch(path: Path, unit: Unit | None, part: str | None) -> None:
    """Check now and after every change of the file."""
    seen = None
    while True:
        if (state := _state(path)) != seen:
            time.sleep(PAUSE / 3)  # whoever writes the file may not be done
            state = seen = _state(path)
            if state is not None:
                print(f"── {path.name}, {time.strftime('%H:%M:%S')} ──", flush=True)
                _check(path, unit, part)
                print("\nwaiting for the next save; Ctrl-C ends", flush=True)
        time.sleep(PAUSE)  # looking is all that works on every system, and costs next to nothing


def _state(path: Path) -> tuple[int, int] | None:
    """What changes when a file is saved; None while it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def _check(path: Path, unit: Unit | None, part: str | None) -> int:
    """Print what came of each part, and what is odd about the notebook; the exit status."""
    import torch

    from autograder import progress
    from autograder.notebook import quiz
    from autograder.submission import Submission, report

    torch.set_num_threads(1)  # the tensors are tiny: a second thread costs more than it gives
    submission = Submission.load(path, unit)
    reports = report(submission, part) if submission.cells else []
    for number, each in enumerate(reports):
        print("\n" * (number > 0) + each.text(), flush=True)
        cell = submission.by_id.get(each.part)
        if each.state != "not started":
            progress.record(each.part, each.points, each.passed, cell.source if cell else "")
    if len(reports) > 1:
        points = sum(each.points for each in reports)
        print(f"\nAll parts: {points:g} of {sum(each.max_points for each in reports)} points")
    answers = submission.answers()
    if submission.unit and not part and any(answer is not None for answer in answers.values()):
        print()
        quiz(submission.unit.name, answers)
    for problem in submission.problems:
        print(f"note: {problem}" if reports else f"error: {problem}")
    states = {each.state for each in reports}
    if not reports or states & {"failed", "shortcut"}:
        return 1
    return 0 if states == {"passed"} else 3


@app.command()
def status() -> None:
    """What is reached so far, unit by unit."""
    from autograder.notebook import status as show

    show()


@app.command()
def hint(
    part: Annotated[str, typer.Argument(help="For example softmax.")],
    level: Annotated[
        int | None, typer.Option(min=1, max=LEVELS, help="1 nudge, 2 pseudo-code, 3 lesson.")
    ] = None,
) -> None:
    """The next hint for a part, each time a plainer one."""
    from autograder.notebook import hint as show

    show(part, level)


@app.command()
def build(
    units: Annotated[list[str] | None, typer.Argument(help="Units; none: all.")] = None,
    language: Annotated[str, typer.Option(help="Of the texts: en, or a folder in solutions/.")] = (
        "en"
    ),
    force: Annotated[
        bool, typer.Option("--force", help="Also over notebooks that hold somebody's work.")
    ] = False,
) -> None:
    """Build the notebooks in exercises/ from the lessons in solutions/."""
    wanted = [unit_named(name) for name in units or []] or list(UNITS)
    from autograder import release

    try:
        for line in release.build(wanted, language=language, force=force):
            print(line, flush=True)
    except release.Faults as faults:
        for fault in faults.faults:
            print(f"error: {fault}", file=sys.stderr)
        raise typer.Exit(1) from None


# In place of lab's own, which knows of no courses.
app.registered_commands = [each for each in app.registered_commands if each.name != "app"]


@app.command("app")
def page(
    host: str = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535)] = 7860,
    device: Device = "auto",
    checkpoint: CheckpointFolder = None,
    course: Annotated[
        bool, typer.Option("--course", help="With a login, handing in, and the teacher's tab.")
    ] = False,
    login: Annotated[
        Literal["accounts", "hub"],
        typer.Option(help="With --course: accounts of its own, or the JupyterHub that starts it."),
    ] = "accounts",
    require_sandbox: Annotated[
        bool, typer.Option(help="With --course: grade only in a full sandbox.")
    ] = False,
    work: Annotated[
        Path | None,
        typer.Option(
            "--work",
            metavar="FOLDER",
            help="Your notebooks, for example exercises: your parts run in the trained model (tab "
            "Your code) and are checked (tab Progress), in a sandbox. Without it both tabs say "
            "how to start.",
        ),
    ] = None,
    public: Annotated[
        bool,
        typer.Option(
            "--public",
            help="For a page that others can reach: refuses --work unless the sandbox is complete, "
            "and visitors' checks are no attempts of yours.",
        ),
    ] = False,
) -> None:
    """Open the page."""
    if course:
        if work or public:
            raise ValueError("--work and --public are for a page without --course: choose one")
        from autograder.classroom.page import serve

        serve(host, port, device, checkpoint, require_sandbox, by_hub=login == "hub")
    elif login == "hub":
        raise ValueError("--login hub is for a page with --course: add it, or leave both out")
    else:
        from autograder.page.live import serve as open_page

        open_page(host, port, device, checkpoint, work, public)


def _project() -> Path:
    """The project around the working directory; else the one this code belongs to."""
    from autograder.classroom.settings import project

    try:
        return project()
    except ValueError:
        return Path(__file__).parents[1]


def _notebook_of(unit: Unit) -> Path:
    path = _project() / "exercises" / unit.name / f"{unit.module}.ipynb"
    if not path.exists():
        raise ValueError(f"{os.path.relpath(path)} is not there: run `lab build {unit.name}`")
    return path


def _taken(port: int) -> bool:
    with socket.socket() as trial:
        return trial.connect_ex(("127.0.0.1", port)) == 0


# The course's commands bring their own module, which loads nothing until one of them runs.

from autograder.classroom import (  # noqa: E402
    bundle_command,
    course,
    export_command,
    report_command,
    submit_command,
)
from autograder.oracle.commands import grade_command  # noqa: E402

app.add_typer(course, name="course")
app.command("grade")(grade_command)
app.command("submit")(submit_command)
app.command("bundle")(bundle_command)
app.command("report")(report_command)
app.command("export")(export_command)
