"""What a learner calls in a notebook: check, quiz, hint, status, reset.

check("MultiHeadAttention")  # judges the one in this notebook, returns its points
"""

from __future__ import annotations

import difflib
import sys
from html import escape
from pathlib import Path
from typing import Any

import torch

from autograder import progress
from autograder.hints import LEVELS, hints_of
from autograder.quizzes import questions
from autograder.report import report_on
from autograder.source import source_of
from lab.course import PARTS, unit_named


class Points(float):
    """What a cell gives to nbgrader. A notebook has said it already, and shows no bare number."""

    def _repr_html_(self) -> str:
        return ""


_last: dict[str, Any] = {}  # the last report of each part, for the hint that fits it


def check(part: str, implementation: Any = None, *, seed: int = 0) -> float:
    """Judge a part: the one of that name in the notebook, or the one given. Returns its points."""
    _known(part)
    if implementation is None:
        implementation = vars(sys.modules["__main__"]).get(part)
    if implementation is None:
        _tell(f"{part} is not defined yet: run the cell above that defines it.")
        return Points(0)
    source = source_of(implementation, part)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the tensors are tiny: a second thread costs more than it gives
    try:
        report = report_on(part, implementation, seed, source=source)
    finally:
        torch.set_num_threads(threads)
    _last[part] = report
    progress.record(part, report.points, report.passed, source)
    _show(report.text(), report.html())
    return Points(report.points)


def quiz(unit: str, answers: dict[str, Any]) -> float:
    """Judge the answers to a unit's quiz: a point each. Says of every answer why, or why not."""
    asked = questions(unit_named(unit).name)
    points, said, rows = 0, [], []
    for number, question in enumerate(asked, 1):
        answer = answers.get(question.id)
        if answer is None:
            mark, why = "·", f"not answered yet: {question.form()}."
        else:
            right, why = question.judge(answer)
            mark, points = ("✓" if right else "✗"), points + right
        said.append(f"{mark} {number}. {why}")
        rows.append(f"<p style='margin:.3em 0'>{mark} <b>{number}.</b> {escape(why)}</p>")
    head = f"Quiz: {points} of {len(asked)} points"
    if strangers := sorted(set(answers) - {question.id for question in asked}):
        said.append(f"No such questions: {', '.join(strangers)}.")
        rows.append(f"<p>{escape(said[-1])}</p>")
    name = progress.quiz_of(unit_named(unit).name)
    progress.record(name, float(points), points == len(asked))
    _show("\n".join([head, *said]), f"<b>{head}</b>{''.join(rows)}")
    return Points(points)


def hint(part: str, level: int | None = None) -> None:
    """The next hint for a part: a nudge, then pseudo-code, then where the lesson says it."""
    _known(part)
    if level is not None and level not in range(1, len(LEVELS) + 1):
        raise ValueError(f"level={level}: choose 1 to {len(LEVELS)}")
    diagnosis = getattr(_last.get(part), "diagnosis", None)
    if diagnosis and diagnosis.named and level is None:
        _tell(f"{diagnosis.headline}\n{diagnosis.named.hint}")
    level = progress.count_hint(part, level, len(LEVELS))
    text = f"Hint {level} of {len(LEVELS)} ({LEVELS[level - 1]})\n\n{hints_of(part)[level - 1]}"
    _show(text.replace("```text\n", "").replace("```", "").strip(), markdown=text)
    reference = f"solutions/{PARTS[part].module}.py"
    if progress.passed(part) and (Path(__file__).parents[1] / reference).exists():
        _tell(f"You have passed it: the reference is {part} in {reference}.")


def status() -> None:
    """Bars of what is reached, unit by unit."""
    rows = progress.by_unit()
    width = max(len(name) for name, _, _ in rows)
    said, html = [], []
    for name, points, of in rows:
        full = round(20 * points / of)
        said.append(f"{name:<{width}}  {'█' * full}{'░' * (20 - full)}  {points:g} of {of}")
        html.append(
            f"<tr><td style='text-align:left'>{name}</td><td><progress max='{of}' value='{points}'"
            f" aria-label='{name}'></progress></td><td>{points:g} of {of}</td></tr>"
        )
    total, of_all = sum(row[1] for row in rows), sum(row[2] for row in rows)
    said.append(f"{'all':<{width}}  {total:g} of {of_all} points")
    html.append(f"<tr><td></td><td></td><td><b>{total:g} of {of_all}</b></td></tr>")
    _show("\n".join(said), f"<table>{''.join(html)}</table>")


def reset(name: str) -> None:
    """Forget points, attempts and hints of a part or a whole unit. Your code stays as it is."""
    if name in PARTS:
        names = [name]
    else:
        unit = unit_named(name)
        names = [*unit.parts, progress.quiz_of(unit.name)]
    progress.forget(names)
    for each in names:
        _last.pop(each, None)
    _tell(f"Forgotten: {', '.join(names)}. Your code stays as it is.")


def _known(part: str) -> None:
    if part not in PARTS:
        near = difflib.get_close_matches(str(part), PARTS, n=1, cutoff=0.4)
        names = f"do you mean {near[0]!r}?" if near else f"choose from {', '.join(PARTS)}"
        raise ValueError(f"there is no part {part!r}: {names}")


def _tell(text: str) -> None:
    _show(text, f"<p style='white-space:pre-wrap;margin:.3em 0'>{escape(text)}</p>")


def _show(text: str, html: str = "", markdown: str = "") -> None:
    """HTML or Markdown in a notebook, text elsewhere."""
    try:
        from IPython.core.getipython import get_ipython
        from IPython.display import display
    except ImportError:
        print(text)
        return
    shell = get_ipython()
    if shell is not None and hasattr(shell, "kernel"):
        rich = {"text/html": html} if html else {"text/markdown": markdown}
        display({**rich, "text/plain": text}, raw=True)
    else:
        print(text)
