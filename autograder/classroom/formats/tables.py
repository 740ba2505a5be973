"""Tables as CSV: quoted, harmless to open, and sheets of others filled in without other changes.

A spreadsheet takes a cell that begins with = + - @ (also in full width), a tab or a line's end for
a formula and runs it. `harmless` puts a ' before such a text, and before no other; `as_was` takes
exactly that one away. A plain number such as -5 is no formula.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autograder.classroom.results import Entry, full_name
from lab.files import replacing

_FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?")


def harmless(value: Any) -> Any:
    """A text that no spreadsheet takes for a formula; everything else as it is."""
    if not isinstance(value, str) or not _FORMULA.match(value) or _NUMBER.fullmatch(value):
        return value
    return f"'{value}"


def as_was(text: str) -> str:
    """What `harmless` was given."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def number(points: float | None) -> str:
    """With two decimals at most, as Canvas and Moodle keep them: 6, 7.5; "" where there is none."""
    return "" if points is None else f"{points:.2f}".rstrip("0").rstrip(".")


def write(path: Path, rows: Iterable[Sequence[Any]]) -> None:
    """A table of our own: UTF-8, commas, every text harmless. Whole or not there."""
    with replacing(path) as new, new.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([harmless(cell) for cell in row] for row in rows)


@dataclass
class Sheet:
    """A CSV file somebody downloaded. Written back, only the cells that were set are changed."""

    path: Path
    header: list[str]
    rows: list[list[str]]
    delimiter: str = ","
    mark: str = ""  # the byte order mark, where there is one
    ending: str = "\r\n"

    @classmethod
    def read(cls, path: Path) -> Sheet:
        try:
            text = path.read_bytes().decode("utf-8")
        except FileNotFoundError:
            raise ValueError(f"{path} is missing: download it from the course first") from None
        except UnicodeDecodeError:
            raise ValueError(f"{path} is not UTF-8: take the file as it was downloaded") from None
        mark = "\ufeff" if text.startswith("\ufeff") else ""
        text = text.removeprefix(mark)
        first = next(iter(text.splitlines()), "")
        delimiter = max(",;\t", key=first.count)
        try:
            rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
        except csv.Error as error:
            raise ValueError(f"{path} is no CSV file: {error}") from None
        if not rows or len(rows[0]) < 2:
            raise ValueError(f"{path} is no table: its first line names no columns")
        ending = "\r\n" if "\r\n" in text else "\n"
        return cls(path, rows[0], rows[1:], delimiter, mark, ending)

    def write(self, path: Path) -> None:
        with replacing(path) as new, new.open("w", encoding="utf-8", newline="") as file:
            file.write(self.mark)
            table = csv.writer(file, delimiter=self.delimiter, lineterminator=self.ending)
            table.writerows([self.header, *self.rows])


class People:
    """Whose row is whose: by numbers, then by ids and addresses, then by a name that is unique."""

    def __init__(self, entries: Iterable[Entry]):
        self.by: list[dict[str, list[Entry]]] = [{}, {}, {}]
        for entry in entries:
            learner = entry.learner
            name = full_name(learner)
            first, last = learner.first_name, learner.last_name
            names = {name, f"{first} {last}", f"{last} {first}", f"{last}, {first}", learner.id}
            for keys, level in zip(
                (entry.numbers, {learner.id, learner.email}, names),
                self.by,
                strict=True,
            ):
                for key in {_key(each) for each in keys} - {"", ","}:
                    level.setdefault(key, []).append(entry)

    def whose(self, numbers: Iterable[str], ids: Iterable[str], name: str) -> list[Entry]:
        """The entries of one row: none, one, or several where it cannot be told."""
        for keys, level in zip((numbers, ids, [name]), self.by, strict=True):
            found = {id(each): each for key in keys for each in level.get(_key(key), [])}
            if found:
                return list(found.values())
        return []


def _key(text: str) -> str:
    return " ".join(as_was(text).casefold().split())
