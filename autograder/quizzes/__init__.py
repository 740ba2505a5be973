"""The quizzes: one TOML file a unit, with the answers and what each wrong one overlooks."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autograder.sealed import unsealed
from lab.course import unit_named

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class Question:
    """One question: `right` is a letter (choice), a list of sizes (shape) or a number."""

    id: str
    kind: str
    text: str
    right: Any
    why: Mapping[str, str]
    options: Mapping[str, str]

    def judge(self, answer: Any) -> tuple[bool, str]:
        """Whether an answer is right, and why, or why not."""
        key = self._key(answer)
        right = key == self._key(self.right)
        if key is None:
            return False, f"{self.id} wants {self.form()}; this is {_shown(answer)}."
        if self.kind == "choice":
            return right, self.why[key]
        return right, self.why["right"] if right else self.why.get(key, self.why["default"])

    def form(self) -> str:
        """What an answer looks like."""
        if self.kind == "choice":
            letters = list(self.options)
            return f"one letter, {', '.join(map(repr, letters[:-1]))} or {letters[-1]!r}"
        return "the sizes of a shape, such as (2, 3)" if self.kind == "shape" else "a number"

    def _key(self, answer: Any) -> str | None:
        """The answer as it is written in the file; None if it is no answer of this kind."""
        try:
            if self.kind == "choice":
                letter = str(answer).strip().lower()
                return letter if letter in self.options else None
            if self.kind == "shape":
                return ", ".join(str(int(size)) for size in answer)
            return f"{float(answer):g}"
        except (TypeError, ValueError, OverflowError):
            return None


def _shown(answer: Any) -> str:
    try:
        return repr(answer)[:100]
    except ValueError:  # Python writes no number of thousands of digits
        return "a very large number"


@functools.cache
def questions(unit: str) -> tuple[Question, ...]:
    """The questions of a unit, in order."""
    path = FOLDER / f"{unit_named(unit).module}.toml"
    sealed = unsealed().get(f"quizzes/{path.name}")  # in a bundle for learners
    text = path.read_text(encoding="utf-8") if sealed is None else sealed
    entries = tomllib.loads(text)["question"]
    return tuple(
        Question(
            id=each["id"],
            kind=each["kind"],
            text=each["text"].strip(),
            right=each["right"],
            why=each["why"],
            options=each.get("options", {}),
        )
        for each in entries
    )
