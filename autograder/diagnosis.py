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
    found = candidates(part, outcomes, seed)
    if len(found) == 1:
        name = found[0].name
        return Diagnosis(name[0].upper() + name[1:], found[0].sentence, where, (found[0],))
    law = Diagnosis("", explain.in_words(failed[0].error, namespace), where, tuple(found))
    if found:
        either = " or ".join(each.name for each in found)
        return Diagnosis(f"One of these: {either}", law.sentence, where, law.mistakes)
    return law


def candidates(part: str, outcomes: list[Outcome], seed: int = 0) -> list[Mistake]:
    """The known mistakes that explain everything that was seen; else those that explain a share."""
    failed = [each for each in outcomes if not each.passed]
    passed = [each for each in outcomes if each.passed]
    whole, share = [], []
    for mistake in mistakes_of(part):
        explained = _explained(mistake, failed, seed)
        if explained and all(_outcome(mistake, each.check, seed).passed for each in passed):
            (whole if explained == len(failed) else share).append(mistake)
    return whole or share


def _explained(mistake: Mistake, failed: list[Outcome], seed: int) -> int:
    """How many failures the mistake shares; none where it fails one of them in another way."""
    count = 0
    for ours in failed:
        theirs = _outcome(mistake, ours.check, seed)
        if not theirs.passed:
            if not _agree(ours, theirs):
                return 0
            count += 1
    return count


def _agree(one: Outcome, other: Outcome) -> bool:
    if one.passed or other.passed or not alike(one.found, other.found):
        return False
    if isinstance(one.error, Broken) or isinstance(other.error, Broken):
        return isinstance(one.error, Broken) and isinstance(other.error, Broken)
    return type(one.error) is type(other.error) and str(one.error) == str(other.error)


@functools.lru_cache(maxsize=2_000)
def _outcome(mistake: Mistake, check: Check, seed: int) -> Outcome:
    return judge_one(check, mistake.implementation, seed)
