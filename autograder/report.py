"""What came of a part, for its three readers: the learner, nbgrader, the page."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import Any

from autograder import explain, policy
from autograder.checks import Check, speaking_of
from autograder.diagnosis import Diagnosis, diagnose
from autograder.judge import Elsewhere, Outcome, judge, not_started
from autograder.source import namespace_of, source_of
from lab.course import PARTS


@dataclass(frozen=True)
class Line:
    """One check: its sentence, whether it is met, and if not, what was seen."""

    check: Check
    passed: bool
    seen: str = ""
    where: str = ""

    @property
    def points(self) -> int:
        return self.check.points if self.passed else 0


@dataclass(frozen=True)
class Report:
    """A part, judged. `state` is one of "passed", "failed", "not started", "shortcut"."""

    part: str
    state: str
    lines: tuple[Line, ...]
    diagnosis: Diagnosis | None = None
    printed: str = ""

    @property
    def points(self) -> float:
        return float(sum(line.points for line in self.lines))

    @property
    def max_points(self) -> int:
        return PARTS[self.part].parts[self.part].points

    @property
    def passed(self) -> bool:
        return self.state == "passed"

    def text(self) -> str:
        """For a terminal."""
        said = [f"{self.part}: {self.points:g} of {self.max_points} points"]
        for line in self.lines if self.state != "not started" else ():
            said.append(f"  {'✓' if line.passed else '✗'} {line.check.sentence}")
        said += [f"\n{heading}\n{words}".rstrip() for heading, words in self._words()]
        return "\n".join(said)

    def html(self) -> str:
        """For a notebook. Every word is escaped; colours follow light and dark."""
        rows = "".join(
            f"<li style='list-style:none'><span style='color:{_GREEN if line.passed else _RED}'>"
            f"{'✓' if line.passed else '✗'}</span> {escape(line.check.sentence)}"
            f" <span style='opacity:.6'>{line.points} of {line.check.points}</span></li>"
            for line in self.lines
            if self.state != "not started"
        )
        words = "".join(
            f"<p style='margin:.6em 0 0'><b>{escape(heading)}</b></p>"
            f"<p style='margin:.2em 0;white-space:pre-wrap'>{escape(text)}</p>"
            for heading, text in self._words()
        )
        colour = _GREEN if self.passed else _RED if self.state != "not started" else "#888"
        return (
            f"<div style='border-left:4px solid {colour};padding:.2em 1em;margin:.3em 0'>"
            f"<b>{escape(self.part)}</b>: {self.points:g} of {self.max_points} points"
            f"<ul style='margin:.4em 0;padding:0'>{rows}</ul>{words}</div>"
        )

    def _words(self) -> list[tuple[str, str]]:
        """Headings and the words under them."""
        if self.state == "not started":
            return [("Not started", f'Write it in the cell above; hint("{self.part}") helps.')]
        if self.state == "passed":
            return [("All checks passed.", "")]
        said = []
        if diagnosis := self.diagnosis:
            text = [diagnosis.sentence, f"→ {diagnosis.where}" if diagnosis.where else ""]
            if self.state != "shortcut":
                text.append(f'hint("{self.part}") helps; see {PARTS[self.part].name}, {self.part}.')
            said.append((diagnosis.headline or "What is wrong", "\n".join(filter(None, text))))
        if self.printed:
            said.append(("It printed", self.printed))
        return said


_GREEN, _RED = "#2e9d5b", "#d64545"


def report_on(
    part: str, implementation: Any, seed: int = 0, *, source: str | None = None
) -> Report:
    """Judge a part and say what came of it."""
    namespace = namespace_of(implementation)
    source = source_of(implementation, part) if source is None else source
    if isinstance(implementation, Elsewhere):
        outcomes = judge(part, implementation, seed)
        seen = implementation.shortcut(source)
    else:
        with policy.watching(part, namespace) as taken:
            outcomes = judge(part, implementation, seed)
        seen = policy.in_names(part, source, namespace) or next(iter(taken), None)
    shortcut = policy.in_source(part, source) or seen
    if not_started(outcomes):
        return Report(part, "not started", tuple(Line(each.check, False) for each in outcomes))
    if shortcut:
        lines = tuple(Line(each.check, False) for each in outcomes)
        return Report(part, "shortcut", lines, Diagnosis("A shortcut", shortcut))
    with speaking_of(part):
        lines = tuple(_line(each, namespace) for each in outcomes)
        diagnosis = diagnose(part, outcomes, namespace, seed)
    state = "failed" if diagnosis else "passed"
    return Report(part, state, lines, diagnosis, _printed(outcomes))


def _line(outcome: Outcome, namespace: dict[str, Any]) -> Line:
    if outcome.passed:
        return Line(outcome.check, True)
    words = explain.in_words(outcome.error, namespace)
    return Line(outcome.check, False, words, explain.place(outcome.error, namespace))


def _printed(outcomes: list[Outcome], lines: int = 10) -> str:
    """The first lines that the part printed in the first check in which it printed."""
    printed = next((each.printed for each in outcomes if each.printed.strip()), "").splitlines()
    more = [f"… and {len(printed) - lines} more lines"] if len(printed) > lines else []
    return "\n".join([line[:120] for line in printed[:lines]] + more)
