"""What is wrong, in one sentence.

The learner's part and each known mistake go through the same checks with the same inputs. A mistake
that fails the same checks, and in each gave what the learner's part gave, is the learner's.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

from autograder import explain
from autograder.checks import Broken, Check, alike
from autograder.judge import Outcome, judge_one
from autograder.mistakes import Mistake, mistakes_of


@dataclass(frozen=True)
class Diagnosis:
    """Why a part loses points: `named` when it is exactly one known mistake."""

    headline: str
    sentence: str
    where: str = ""  # the learner's line, or the first number that differs
    mistakes: tuple[Mistake, ...] = ()

    @property
    def text(self) -> str:
        """All of it in a line or two."""
        head = f"{self.headline}: " if self.headline else ""
        return f"{head}{self.sentence}" + (f" ({self.where})" if self.where else "")

    @property
    def named(self) -> Mistake | None:
        return self.mistakes[0] if len(self.mistakes) == 1 else None


def diagnose(
    part: str, outcomes: list[Outcome], namespace: dict[str, Any], seed: int = 0
) -> Diagnosis | None:
    """The one thing to say about a part that failed; None where nothing failed."""
    failed = [each for each in outcomes if not each.passed]
    if not failed:
        return None
    where = explain.place(failed[0].error, namespace)
    law = explain.in_words(failed[0].error, namespace)
    found = candidates(part, outcomes, seed)
    if not found:
        return Diagnosis("", law, where)
    explained = [_explained(each, failed, seed) for each in found]
    first = "" if len(set().union(*explained)) == len(failed) else "First: "
    if len(found) == 1:
        name = f"{first}{found[0].name}"
        return Diagnosis(_headline(name), found[0].sentence, where, (found[0],))
    if not first and min(map(len, explained)) < len(failed):
        sentences = "\n".join(f"{_headline(each.name)}: {each.sentence}" for each in found)
        return Diagnosis("Several things at once", sentences, where, tuple(found))
    either = " or ".join(each.name for each in found)
    return Diagnosis(f"{first}One of these: {either}", law, where, tuple(found))


def _headline(name: str) -> str:
    """A name at the start of a line: words get a capital letter, identifiers and signs do not."""
    word = name.split()[0]
    return name[0].upper() + name[1:] if word.isascii() and word.isalpha() else name


def candidates(part: str, outcomes: list[Outcome], seed: int = 0) -> list[Mistake]:
    """The known mistakes that could be the learner's; none of them fails a check that passed.

    Those that explain every failure, each by itself; else those that do so together; else those
    that explain the first.
    """
    failed = [each for each in outcomes if not each.passed]
    passed = [each for each in outcomes if each.passed]
    explained = {
        mistake: some
        for mistake in mistakes_of(part)
        if (some := _explained(mistake, failed, seed))
        and all(_outcome(mistake, each.check, seed).passed for each in passed)
    }
    whole = [mistake for mistake, some in explained.items() if len(some) == len(failed)]
    if whole:
        return whole
    if len(set().union(*explained.values())) == len(failed):
        several = list(explained.values())
        return [
            each for each, some in explained.items() if not any(some < more for more in several)
        ]
    return [mistake for mistake, some in explained.items() if 0 in some]


def _explained(mistake: Mistake, failed: list[Outcome], seed: int) -> set[int]:
    """Which failures the mistake shares; none where it fails one of them in another way."""
    shared = set()
    for number, ours in enumerate(failed):
        theirs = _outcome(mistake, ours.check, seed)
        if not theirs.passed:
            if not _agree(ours, theirs):
                return set()
            shared.add(number)
    return shared


def _agree(one: Outcome, other: Outcome) -> bool:
    """Whether two failures are one: what was found is, and where that says little, the words."""
    if one.passed or other.passed or not alike(one.found, other.found):
        return False
    if isinstance(one.error, Broken) and isinstance(other.error, Broken):
        measured = any(not isinstance(each, bool) for each in one.found)
        return measured or str(one.error) == str(other.error)
    return type(one.error) is type(other.error) and str(one.error) == str(other.error)


@functools.lru_cache(maxsize=2_000)
def _outcome(mistake: Mistake, check: Check, seed: int) -> Outcome:
    return judge_one(check, mistake.implementation, seed)
