"""Moodle's grading worksheet of an assignment, filled in: only grades and comments change.

Moodle wants the columns Identifier, Grade and Last modified (grade), in the language of whoever
downloads them; everything else in the sheet is kept. The last of the three tells Moodle whether a
grade has changed there since, so it stays as it was. No other sheet will do: the numbers of the
participants stand nowhere else.

Source: moodle/moodle, mod/assign/feedback/offline/importgradeslib.php.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from autograder.classroom.formats.tables import People, Sheet, number
from autograder.classroom.results import Entry

# Moodle's own words for its columns, by language: en, de, fr, es, it, pt, nl, ca, ru, tr, zh, ja.
GRADE = {
    "Grade", "Bewertung", "Note", "Calificación", "Valutazione", "Voto", "Nota", "Avaliação",
    "Cijfer", "Beoordeling", "Qualificació", "Оценка", "Not", "成绩", "成績", "分数", "评分",
    "評点",
}  # fmt: skip
COMMENTS = {
    "Feedback comments", "Feedback als Kommentar", "Feedback par commentaires",
    "Comentarios de retroalimentación", "Commenti di feedback", "Comentários de feedback",
    "Feedbackcommentaren", "反馈评论", "意見回饋評論", "フィードバックコメント",
}  # fmt: skip
_PARTICIPANT = re.compile(r"\D+(\d+)")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)?")


def write(
    entries: Sequence[Entry], to: Path, sheet: Path | None = None, column: str | None = None
) -> Iterator[str]:
    """Fill the worksheet in; `column` is the title of the grades where it is not found."""
    if sheet is None:
        raise ValueError("Moodle takes back only its own worksheet: download it, then --sheet FILE")
    ours = [each for each in entries if each.unit]
    if len(units := {each.unit for each in ours}) != 1:
        raise ValueError(
            f"a worksheet is of one assignment, and here is {', '.join(sorted(units)) or 'none'}: "
            "choose with --unit"
        )
    return _filled(ours, to, Sheet.read(sheet), column)


def _filled(entries: list[Entry], to: Path, sheet: Sheet, column: str | None) -> Iterator[str]:
    rows = [row for row in sheet.rows if len(row) == len(sheet.header)]
    who = _identifier(sheet, rows)
    grade = _grade(sheet, rows, who, column)
    telling = [at for at in range(who + 2, grade) if _tells(row[at] for row in rows)]
    comments = next((at for at, title in enumerate(sheet.header) if title in COMMENTS), None)
    most = entries[0].max_points or 0
    people, filled = People(entries), set()
    for row in rows:
        theirs = _maximum(row, grade)
        factor = theirs / most if theirs and most else 1
        match = _PARTICIPANT.fullmatch(row[who])
        ids = [row[at] for at in telling]
        found = people.whose([match[1]] if match else [], ids, row[who + 1])
        if len(found) > 1:
            yield f"  {row[who + 1]}: {len(found)} learners could be meant; left as it was"
        elif found and (points := found[0].points) is not None:
            row[grade] = number(points * factor)
            if comments is not None:
                row[comments] = comment(found[0])
        filled |= {each.learner.id for each in found}
    sheet.write(to)
    done = sum(each.points is not None and each.learner.id in filled for each in entries)
    yield f"wrote {to}: {done} of {len(rows)} rows filled in"
    scales = {theirs for row in rows if (theirs := _maximum(row, grade)) and theirs != most}
    if scales:
        yield f"  {number(most)} points here are {number(max(scales))} there: scaled"
    lost = [e.name for e in entries if e.points is not None and e.learner.id not in filled]
    if lost:
        yield f"  not in the sheet: {'; '.join(lost)}"
    if comments is None:
        yield "  no column for comments: only grades are filled in"


def _identifier(sheet: Sheet, rows: list[list[str]]) -> int:
    """The column of "Participant 123456", in whatever language."""
    for at in range(len(sheet.header)):
        if rows and all(_PARTICIPANT.fullmatch(row[at]) for row in rows):
            return at
    raise ValueError(f"{sheet.path} is no grading worksheet of Moodle: nobody is a “Participant …”")


def _grade(sheet: Sheet, rows: list[list[str]], who: int, wanted: str | None) -> int:
    """The column of the grades: as it is called, else the one before the maximum, which is the
    same number in every row."""
    names = {wanted} if wanted else GRADE
    found = [at for at, title in enumerate(sheet.header) if at > who and title in names]
    if not found and not wanted:
        same = (
            at for at in range(who + 3, len(sheet.header)) if len({row[at] for row in rows}) == 1
        )
        found = [at - 1 for at in same if _NUMBER.fullmatch(rows[0][at])][:1]
    if len(found) != 1:
        raise ValueError(
            f"{sheet.path}: which column holds the grades? Name it with --column; "
            f"there is {', '.join(sheet.header)}"
        )
    return found[0]


def _tells(cells: Iterable[str]) -> bool:
    """Whether a column says who somebody is: no two have the same there, as in a group."""
    said = [cell for cell in cells if cell]
    return len(said) == len(set(said))


def _maximum(row: list[str], grade: int) -> float | None:
    cell = row[grade + 1] if grade + 1 < len(row) else ""
    return float(cell.replace(",", ".")) if _NUMBER.fullmatch(cell) else None


def comment(entry: Entry) -> str:
    """A line for each part; a text that no spreadsheet runs, as it begins with the part's name."""
    return "\n".join(
        f"{part['part']}: {number(part['points'])} of {number(part['max_points'])}"
        + (f". {part['message']}" if part["message"] else "")
        for part in entry.parts
    )
