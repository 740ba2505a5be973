"""What a learner has reached, in a small local file: points, attempts, and the text of what passed.

The file is `progress.json` in the folder that LAB_PROGRESS names, else in `.attention-lab` of the
home folder. While nbgrader grades, nothing is read or written.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lab.course import PARTS, UNITS
from lab.files import replacing


def folder() -> Path:
    """Where the progress of this learner is kept."""
    return Path(os.environ.get("LAB_PROGRESS") or Path.home() / ".attention-lab")


def kept() -> bool:
    """Whether there is a learner at all: a grader leaves no traces."""
    return not os.environ.get("NBGRADER_EXECUTION")


def load() -> dict[str, Any]:
    """Everything so far. A file that cannot be read is put aside, not overwritten."""
    path = folder() / "progress.json"
    if not kept() or not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict) and all(isinstance(each, dict) for each in found.values()):
            return found
    except (OSError, ValueError):
        pass
    aside = path.with_name(f"progress.unreadable-{datetime.now(UTC):%Y%m%d-%H%M%S-%f}.json")
    path.replace(aside)
    print(f"{path} could not be read; it is kept as {aside.name}, and progress starts anew.")
    return {}


def record(name: str, points: float, passed: bool, source: str = "") -> None:
    """Count an attempt at a part or a quiz; the best points stay."""
    if not kept():
        return
    everything = load()
    entry = everything.setdefault(name, {"points": 0.0, "attempts": 0})
    entry["attempts"] += 1
    entry["points"] = max(points, entry["points"])
    entry["last"] = points
    if passed:
        entry.setdefault("passed", datetime.now(UTC).isoformat(timespec="seconds"))
        if source:
            entry["source"] = source
    _save(everything)


def count_hint(part: str, wanted: int | None, last: int) -> int:
    """The level of hint to give now: the one wanted, else one more than the last one given."""
    everything = load()
    entry = everything.setdefault(part, {"points": 0.0, "attempts": 0})
    level = wanted or min(entry.get("hints", 0) + 1, last)
    entry["hints"] = max(level, entry.get("hints", 0))
    if kept():
        _save(everything)
    return level


def forget(names: list[str]) -> None:
    """Start these parts anew."""
    _save({name: entry for name, entry in load().items() if name not in names})


def passed(part: str) -> bool:
    return "passed" in load().get(part, {})


def by_unit() -> list[tuple[str, float, int]]:
    """Each unit's name, the points reached and the points there are."""
    everything = load()
    return [
        (
            unit.name,
            sum(
                everything.get(name, {}).get("points", 0.0)
                for name in (*unit.parts, quiz_of(unit.name))
            ),
            unit.points,
        )
        for unit in UNITS
    ]


def quiz_of(unit: str) -> str:
    """The name under which a unit's quiz is kept."""
    return f"{unit} quiz"


def sources() -> dict[str, str]:
    """The text of every part that passed, by name."""
    return {
        name: entry["source"]
        for name, entry in load().items()
        if name in PARTS and "passed" in entry and entry.get("source")
    }


def _save(everything: dict[str, Any]) -> None:
    if not kept():
        return
    folder().mkdir(parents=True, exist_ok=True)
    with replacing(folder() / "progress.json") as path:
        path.write_text(json.dumps(everything, ensure_ascii=False, indent=1), encoding="utf-8")
