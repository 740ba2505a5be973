"""Canvas' gradebook: the sheet a teacher exported, filled in, or a new one.

Canvas wants `Student, ID, …, Section` first, and finds a learner by ID, then by SIS User ID, then
by SIS Login ID, then by name; an assignment by the number in its column's title, then by the title.
An empty cell clears the grade that Canvas has. So where there are no points, a sheet keeps what it
says, and a new one has no row for who has none at all.

Source: instructure/canvas-lms, lib/gradebook_importer.rb.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from autograder.classroom.formats import tables
from autograder.classroom.formats.tables import People, Sheet, number
from autograder.classroom.results import Entry, full_name
from lab.course import unit_named

FIRST = ("Student", "ID", "SIS User ID", "SIS Login ID", "Section")
POSSIBLE = "    Points Possible"


def write(
    entries: Sequence[Entry], to: Path, sheet: Path | None = None, column: str | None = None
) -> Iterator[str]:
    """Write the sheet; `column` is the title of the assignment where it is not the unit's."""
    if sheet is None:
        return _new(entries, to)
    return _filled(entries, to, Sheet.read(sheet), column)


def _new(entries: Sequence[Entry], to: Path) -> Iterator[str]:
    units = list(dict.fromkeys(each.unit for each in entries if each.unit))
    most = {each.unit: number(each.max_points) for each in entries}
    points = {(each.learner, each.unit): each.points for each in entries}
    learners = list(dict.fromkeys(each.learner for each in entries if each.points is not None))
    rows = [
        [full_name(each) or each.id, "", each.id, each.id, "",
         *(number(points.get((each, unit))) for unit in units)]
        for each in learners
    ]  # fmt: skip
    heads = [[*FIRST, *units], [POSSIBLE, "", "", "", "", *(most[unit] for unit in units)]]
    tables.write(to, heads + rows)
    yield f"wrote {to}: {len(rows)} learners, {', '.join(units)}"
    yield "  Canvas knows them by login; what it does not know, it asks you about"
    if any("" in row[len(FIRST) :] for row in rows):
        yield "  an empty cell clears what Canvas has: export its sheet and use --sheet instead"


def _filled(entries: Sequence[Entry], to: Path, sheet: Sheet, column: str | None) -> Iterator[str]:
    header = sheet.header
    if not _is_canvas(header):
        raise ValueError(
            f"{sheet.path} is no gradebook of Canvas: it has no Student, ID and Section"
        )
    name = 1 if header[0] == "LastName" else 0
    ids = [at for at, title in enumerate(header) if title in ("SIS User ID", "SIS Login ID")]
    rows = [row for row in sheet.rows if any(row[: name + 2]) and "Points Possible" not in row[0]]
    possible = next((row for row in sheet.rows if row and "Points Possible" in row[0]), None)
    for unit in dict.fromkeys(each.unit for each in entries if each.unit):
        at = _column(sheet, unit, column)
        ours = [each for each in entries if each.unit == unit]
        most = ours[0].max_points or 0
        theirs = _float(possible[at]) if possible and at < len(possible) else None
        factor = theirs / most if theirs and most else 1
        people, filled = People(ours), set()
        for row in rows:
            row += [""] * (len(header) - len(row))
            said = f"{row[1]} {row[0]}" if name else row[0]
            found = people.whose([row[name + 1]], [row[i] for i in ids], said)
            if len(found) > 1:
                yield f"  {said}: {len(found)} learners could be meant; left as it was"
            elif found and (points := found[0].points) is not None:
                row[at] = number(points * factor)
            filled |= {each.learner.id for each in found}
        done = sum(e.points is not None and e.learner.id in filled for e in ours)
        yield f"{header[at]}: {done} of {len(rows)} rows filled in"
        if factor != 1:
            yield f"  {number(most)} points here are {number(theirs)} there: scaled"
        if lost := [e.name for e in ours if e.points is not None and e.learner.id not in filled]:
            yield f"  not in the sheet: {'; '.join(lost)}"
    sheet.write(to)
    yield f"wrote {to}"


def _is_canvas(header: Sequence[str]) -> bool:
    two = len(header) > 3 and "Student" in header[0] and "ID" in header[1]
    three = len(header) > 4 and header[:2] == ["LastName", "FirstName"] and "ID" in header[2]
    return (two or three) and "Section" in header


def _column(sheet: Sheet, unit: str, wanted: str | None) -> int:
    """Where a unit's grades go: a column of that title, with or without Canvas' number, or a new
    one."""
    known = unit_named(unit)
    titles = {wanted} if wanted else {unit, known.module, known.title}
    found = [
        at
        for at, title in enumerate(sheet.header)
        if title in titles or title.rpartition(" (")[0] in titles
    ]
    if len(found) == 1:
        return found[0]
    if found or wanted:
        there = ", ".join(sheet.header[sheet.header.index("Section") + 1 :]) or "no assignment"
        raise ValueError(
            f"{sheet.path} has {len(found)} columns for {wanted or unit}: name one with --column; "
            f"there is {there}"
        )
    sheet.header.append(unit)
    for row in sheet.rows:
        row += [""] * (len(sheet.header) - len(row))
        if row[0].strip() == POSSIBLE.strip():
            row[-1] = number(float(known.points))
    return len(sheet.header) - 1


def _float(text: str) -> float | None:
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return None
