"""A hand-in made whole: every cell that was handed out is there once, locked ones unchanged.

Learners hand in files that no longer are what was handed out: cells deleted, copied or moved,
checks edited, marks lost. nbgrader repairs some of it and gives up on the whole notebook for the
rest. What was handed out stands in the gradebook.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from autograder.submission import Submission

Cell = dict[str, Any]


def handed_out(book: Any, unit: str, notebook: str, order: Sequence[str] = ()) -> Cell:
    """The marked cells of a notebook as learners got them, from nbgrader's gradebook.

    A database says nothing of their order: `order` names them one after the other.
    """
    found = book.find_notebook(notebook, unit)
    points = {cell.name: cell.max_score for cell in (*found.grade_cells, *found.task_cells)}
    graded = {cell.name for cell in found.grade_cells}
    solutions = {cell.name for cell in found.solution_cells}
    tasks = {cell.name for cell in found.task_cells}
    places = {name: place for place, name in enumerate(order)}
    cells = []
    for each in sorted(found.source_cells, key=lambda cell: places.get(cell.name, len(places))):
        mark = {
            "schema_version": 3,
            "grade_id": each.name,
            "cell_type": each.cell_type,
            "checksum": each.checksum,
            "locked": each.locked,
            "grade": each.name in graded,
            "solution": each.name in solutions,
            "task": each.name in tasks,
        }
        if each.name in points:
            mark["points"] = points[each.name]
        metadata = {"deletable": False, "nbgrader": mark}
        if each.locked:
            metadata["editable"] = False
        cells.append(cell_like(each.cell_type, each.source or "", metadata))
    kernel = json.loads(found.kernelspec) if found.kernelspec else {}
    return {"metadata": {"kernelspec": kernel} if kernel else {}, "cells": cells}


def names_in(path: Path) -> list[str]:
    """The names of a notebook's marked cells, in their order; [] where it cannot be read."""
    return [cell.grade_id for cell in Submission.load(path).cells if cell.grade_id]


def cell_like(kind: str, source: str, metadata: Cell) -> Cell:
    """A cell of the notebook format, without outputs."""
    kind = kind if kind in ("code", "markdown") else "raw"
    cell = {"cell_type": kind, "metadata": metadata, "source": source}
    return cell | ({"execution_count": None, "outputs": []} if kind == "code" else {})


def mend(cells: list[Cell], released: Cell) -> tuple[Cell, list[tuple[str, str]]]:
    """A notebook with every cell that was handed out, once, locked ones as they were handed out.

    The learner's own cells stay where they are. Gives what was done, each with the cell's name.
    """
    notes: list[tuple[str, str]] = []
    originals = {_id(cell): cell for cell in released["cells"] if _id(cell)}
    cells = _once(deepcopy(cells), originals, notes)
    place = -1  # of the last cell that was handed out, so far
    for name, original in originals.items():
        at = next((i for i, cell in enumerate(cells) if _id(cell) == name), None)
        locked = not _is_solution(original)
        if at is None and not locked and (at := _defining(cells, name)) is not None:
            notes.append((name, f"the cell of {name} had lost its mark: known by what it defines"))
        if at is None:
            place += 1
            cells.insert(place, deepcopy(original))
            notes.append((name, f"the cell {name} was missing: put back as it was handed out"))
            continue
        if locked and cells[at]["source"] != original["source"]:
            notes.append((name, f"the cell {name} was changed: put back as it was handed out"))
        if locked and at < place:  # a check above what it checks
            notes.append((name, f"the cell {name} was moved up: put back behind its part"))
            cells.insert(place, cells.pop(at))
            at = place
        kept = original if locked else original | {"source": cells[at]["source"]}
        cells[at] = deepcopy(kept)
        place = max(place, at)
    for number, cell in enumerate(cells):
        cell["id"] = f"cell-{number}"
    head = {"nbformat": 4, "nbformat_minor": 5, "metadata": released["metadata"]}
    return head | {"cells": cells}, notes


def _defining(cells: list[Cell], part: str) -> int | None:
    """The last unmarked code cell that defines a part."""
    definition = re.compile(rf"^(def|class) {re.escape(part)}\b", re.M)
    for at, cell in reversed(list(enumerate(cells))):
        if cell["cell_type"] == "code" and not _id(cell) and definition.search(cell["source"]):
            return at
    return None


def _once(
    cells: list[Cell], originals: dict[str, Cell], notes: list[tuple[str, str]]
) -> list[Cell]:
    """Each mark once, and none that was not handed out: nbgrader gives up over either.

    Of copied solutions the last one keeps the mark; of copied checks the first one stays.
    """
    names = [_id(cell) for cell in cells]
    kept = []
    for at, (cell, name) in enumerate(zip(cells, names, strict=True)):
        again = name in names[at + 1 :]
        if name in originals and again:
            notes.append((name, f"the cell {name} is there more than once"))
        locked = name in originals and not _is_solution(originals[name])
        if locked and name in names[:at]:
            continue
        if name not in originals or (again and not locked):
            cell["metadata"].pop("nbgrader", None)
        kept.append(cell)
    return kept


def _is_solution(cell: Cell) -> bool:
    return cell["metadata"]["nbgrader"]["solution"]


def _id(cell: Cell) -> str:
    mark = cell["metadata"].get("nbgrader")
    name = mark.get("grade_id") if isinstance(mark, dict) else None
    return name if isinstance(name, str) else ""
