"""lab grade: points and sentences for notebooks, folders and zips."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from autograder.oracle.batch import Graders
    from autograder.oracle.finding import HandIn
    from autograder.oracle.result import Result

LINES = 20  # up to so many hand-ins each one has a line; beyond, those that were not graded

aside = Console(stderr=True)


def grade_command(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH…", help="Notebooks, folders, zips, nbgrader's submitted/."),
    ],
    to: Annotated[
        Path | None,
        typer.Option("--json", help="Write the results here; a run that was ended goes on."),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Processes side by side; else one a core.")
    ] = None,
    require_sandbox: Annotated[
        bool,
        typer.Option("--require-sandbox", help="Run nothing where the sandbox is not complete."),
    ] = False,
    scheduler: Annotated[
        str | None, typer.Option(help="tcp://host:8786, of a Dask cluster that grades instead.")
    ] = None,
) -> None:
    """Grade notebooks, each part in a sandboxed process of its own.

    Exit status: 0 everything was graded, whatever the points; 1 something could not be.
    """
    from autograder.oracle import batch
    from autograder.oracle.finding import find
    from autograder.oracle.sandbox import caution

    if to is not None and to.is_dir():
        raise ValueError(f"--json {to} is a folder: give the file to write")
    if to is not None and not to.absolute().parent.is_dir():
        raise ValueError(f"--json {to}: there is no folder {to.parent}")
    found = find(paths)
    kept = batch.Kept(to.with_name(f"{to.name}.results") if to else None)
    jobs = min(jobs or _cores(), len(found))
    results: dict[int, Result] = {}
    words = None
    try:
        with _graders(scheduler, jobs, kept.seed, require_sandbox) as graders, _bar(found) as bar:
            for number, result in batch.grade_all(found, graders, kept, require_sandbox):
                results[number] = result
                bar.advance(bar.task_ids[0])
                if words is None and graders.sandbox is not None:
                    words = caution(graders.sandbox) or ""
                    _say(words)
    except KeyboardInterrupt:
        again = f"the same command goes on from there ({to}.results)" if to else (
            "with --json FILE the next run would go on from there"
        )  # fmt: skip
        _say(f"stopped with {len(results):,} of {len(found):,} graded; {again}")
        raise typer.Exit(130) from None
    inorder = [results[number] for number in range(len(found))]
    if to is not None:
        batch.write(to, inorder, indent=1)
    kept.done()
    _show(inorder)
    if any(each["status"] != "graded" for each in inorder):
        raise typer.Exit(1)


def _graders(scheduler: str | None, jobs: int, seed: int, require: bool) -> Graders:
    if scheduler is None:
        from autograder.oracle.batch import Processes

        return Processes(jobs, seed, require)
    try:
        from autograder.oracle.cluster import Cluster
    except ModuleNotFoundError as missing:
        raise ValueError(
            f"--scheduler takes {missing.name}: pip install 'attention-lab[cluster]'"
        ) from None
    return Cluster(scheduler, seed, require)


def _cores() -> int:
    """Those that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _bar(found: list[HandIn]) -> Progress:
    """How many are done and how long the others take; on a terminal only."""
    bar = Progress(
        MofNCompleteColumn(),
        BarColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=aside,
        disable=not aside.is_terminal,
    )
    bar.add_task("", total=len(found))
    return bar


def _show(results: list[Result]) -> None:
    """A row a unit; a line for each hand-in, or, of many, for each that was not graded."""
    from autograder.oracle.batch import summary

    for each in results:
        graded = each["status"] == "graded"
        if graded and len(results) <= LINES:
            note = f"  ({each['reason']})" if each["reason"] else ""
            print(f"{each['notebook']}  {each['points']:g} of {each['max_points']}{note}")
        elif not graded:
            print(f"{each['notebook']}  {each['status'].upper()}: {each['reason']}")
    table = Table("unit", box=None, pad_edge=False)
    for name in ("hand-ins", "graded", "all points", "median", "of"):
        table.add_column(name, justify="right")
    for row in summary(results):
        median = "" if row.median is None else f"{row.median:g}"
        counts = [f"{each:,}" for each in (row.count, row.graded, row.whole)]
        table.add_row(row.unit or "unknown", *counts, median, str(row.max_points or ""))
    print()
    Console().print(table)


def _say(text: str) -> None:
    if text:
        aside.print(Text(text), soft_wrap=True)
