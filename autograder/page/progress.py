"""The Progress tab: units and parts, what is reached, what comes next; checks at a click."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from lab.page.view import Value, answers, drawing, message  # isort: skip
import gradio as gr  # isort: skip

from autograder import progress
from autograder.chinese import spoken
from autograder.page.checking import QUIZZES, quiz
from autograder.page.live import Live
from lab.course import PARTS, UNITS, Unit
from lab.model import Checkpoint
from lab.page.questions import Refused
from lab.page.words import label

HERE = Path(__file__).parent


def table(live: Live) -> Value:
    """Units with their rows, all points, and the next step."""
    live.work.look()
    reached, passed = progress.load(), live.work.passed()
    units = [_unit(live, unit, reached, passed) for unit in UNITS]
    rows = [row for unit in units for row in unit["rows"]]
    return {
        "units": units,
        "points": sum(row["points"] for row in rows),
        "of": sum(unit.points for unit in UNITS),
        "passed": sum(row["state"] == "passed" for row in rows),
        "rows": len(rows),
        "begun": any(row["state"] not in ("stub", "missing", "open") or row["attempts"]
                     for row in rows),
        "next": next((row["name"] for row in rows if row["state"] != "passed"), None),
        "version": live.work.version,
        "status": live.checks.status(),
        "counts": live.checks.records,
    }  # fmt: skip


def _unit(live: Live, unit: Unit, reached: Value, passed: set[str]) -> Value:
    rows = [_part(live, part, reached, part in passed) for part in unit.parts]
    rows.append(_quiz(live, unit, reached))
    return {
        "name": unit.name,
        "notebook": live.work.name(unit),
        "problems": list(getattr(live.work.notebooks[unit.name].submission, "problems", ())),
        "points": sum(row["points"] for row in rows),
        "of": unit.points,
        "rows": rows,
    }


def _part(live: Live, part: str, reached: Value, passed: bool) -> Value:
    """A part: "changed" is one that passed as it was written before."""
    cell, unit = live.work.cells[part], PARTS[part]
    kept, result = _entry(reached, part), live.checks.result(part)
    state = cell.state
    if state == "written":
        state = "passed" if passed else "changed" if "passed" in kept else "written"
    if result and result["state"] not in ("error", "not started") and not passed:
        state = result["state"]
    shown = result or {}
    return {
        "name": part,
        "quiz": False,
        "state": state,
        "points": max(float(kept.get("points", 0)), float(shown.get("points", 0))),
        "of": unit.parts[part].points,
        "attempts": int(kept.get("attempts", 0)),
        "minutes": unit.parts[part].minutes,
        "headline": shown.get("headline", ""),
        "message": cell.words or shown.get("message", ""),
        "where": shown.get("where", ""),
        "hint": shown.get("hint", ""),
        "checks": shown.get("checks", []),
    }


def _quiz(live: Live, unit: Unit, reached: Value) -> Value:
    name = progress.quiz_of(unit.name)
    kept = _entry(reached, name)
    points, answered, of = quiz(live.work, name)
    best = max(float(kept.get("points", 0)), 0.0)
    state = "passed" if best == of else "written" if answered else "open"
    if state == "written" and kept.get("attempts"):
        state = "partial"
    return {"name": name, "quiz": True, "state": state, "points": best, "of": of,
            "attempts": int(kept.get("attempts", 0)), "answered": answered}  # fmt: skip


def _entry(reached: Value, name: str) -> Value:
    """What is kept of a part; a file that somebody has edited may hold anything."""
    entry = dict(reached.get(name, {}))
    for key in ("points", "attempts"):
        number = entry.get(key, 0)
        entry[key] = number if isinstance(number, (int, float)) and 0 <= number < 1e6 else 0
    return entry


def wanted(live: Live, question: Value) -> list[str]:
    """The parts and quizzes to check: a unit's, one, or all that are written and not passed."""
    name = question.get("check")
    every = [n for unit in UNITS for n in (*unit.parts, progress.quiz_of(unit.name))]
    begun = [each for each in every if _begun(live, each)]
    if name == "all":
        return begun
    if name == "open":
        passed = live.work.passed()
        return [each for each in begun if each not in passed and each not in QUIZZES]
    for unit in UNITS:
        if name == unit.name:
            return [n for n in (*unit.parts, progress.quiz_of(unit.name)) if n in begun]
    if isinstance(name, str) and name in every:
        return [name]
    raise Refused("refused.choice", field="check", choices=", ".join(["all", "open", *every]))


def _begun(live: Live, name: str) -> bool:
    """Whether there is anything to check."""
    if name in QUIZZES:
        return quiz(live.work, name)[1] > 0
    return live.work.cells[name].state in ("written", "forbidden")


def answer(live: Live, question: Value) -> Value:
    """The table; before it is made, checks are begun or cancelled."""
    if question.get("cancel") is True:
        live.checks.cancel()
    elif "check" in question:
        live.checks.want(wanted(live, question))
    return table(live)


def tab(live: Live | None) -> Callable[[gr.Blocks, Mapping[str, Checkpoint]], None]:
    """Puts the tab into the page; without a folder of work it says how to give one."""

    def answered(question: Value) -> Value:
        assert live is not None
        return spoken(answer(live, question), question.get("language"))

    def build(_: gr.Blocks, __: Mapping[str, Checkpoint]) -> None:
        with gr.Tab(label("progress.tab"), id="progress"):
            if live is None:
                drawing("progress", message("progress.start"), HERE, ("news",), live=False)
                return
            view = drawing(
                "progress", {}, HERE, ("news",), live=True,
                pause=live.pause,
            )  # fmt: skip
            # no model runs here, and nobody's question waits for another's
            answers(view, answered, concurrency_id="progress",
                    concurrency_limit=8)  # fmt: skip

    return build
