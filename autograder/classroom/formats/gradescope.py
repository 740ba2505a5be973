"""Gradescope: results.json for one hand-in, and the zip that makes it there.

A test is a part, and its output is what the learner sees: the sentences of the checks, ✓ or ✗, and
what is wrong. Hidden checks are counted in one line, not shown: tests that are hidden would hide
the total too. Without a grade there is no file: Gradescope then says that the autograder failed,
and nobody has 0 points for it.

Source: gradescope/autograder_samples, docs/specs.md.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from autograder.classroom.formats.tables import number
from autograder.classroom.results import Entry, Result
from lab.files import replacing

LONGEST = 20_000  # characters of a test's output


class NoGrade(ValueError):
    """There is nothing that a file of this format could honestly say."""


def the_one(entries: Sequence[Entry], what: str) -> Entry:
    """The only hand-in there is, graded; else NoGrade says why."""
    found = [each for each in entries if each.result is not None]
    if len(found) != 1:
        raise NoGrade(f"{what} is of one notebook, and here are {len(found)}: choose with --unit")
    if not found[0].graded:
        raise NoGrade(f"no {what} is written, as there is no grade: {found[0].why_not}")
    return found[0]


def write(entries: Sequence[Entry], to: Path) -> Iterator[str]:
    """Write results.json for the one hand-in."""
    entry = the_one(entries, "results.json")
    with replacing(to) as new:
        new.write_text(json.dumps(results(entry), ensure_ascii=False, indent=1), encoding="utf-8")
    yield f"wrote {to}: {number(entry.points)} of {number(entry.max_points)} points"


def results(entry: Entry) -> dict[str, Any]:
    """What Gradescope reads."""
    assert entry.result is not None
    said = [f"{entry.unit}: {number(entry.points)} of {number(entry.max_points)} points"]
    said += [entry.result["reason"]] if entry.result.get("reason") else []
    return {
        "score": entry.points,
        "execution_time": round(entry.result.get("seconds") or 0),
        "output": "\n".join(said),
        "visibility": "visible",
        "extra_data": {"unit": entry.unit, "sandbox": entry.result.get("sandbox", {})},
        "tests": [_test(place, part) for place, part in enumerate(entry.parts, 1)],
    }


def _test(place: int, part: Result) -> dict[str, Any]:
    return {
        "score": part["points"],
        "max_score": part["max_points"],
        "status": "passed" if part["state"] == "passed" else "failed",
        "name": part["part"],
        "number": str(place),
        "output": as_text(part)[:LONGEST],
        "tags": [part["state"]],
        "visibility": "visible",
        "extra_data": {"mistake": part["mistake"]},
    }


def as_text(part: Result) -> str:
    """What a learner may read about a part."""
    if part["state"] == "not started":
        return "Not started."
    known = _sentences(part["part"])
    lines, hidden = [], []
    for check in part.get("checks", []):
        sentence, is_hidden = known.get(check["name"], (check["name"].replace("_", " "), False))
        if is_hidden:
            hidden.append(check)
            continue
        lines.append(f"{'✓' if check['passed'] else '✗'} {sentence}")
        if check["message"] and part["part"] == "quiz":
            lines.append(f"  {check['message']}")
    if hidden:
        met = sum(check["passed"] for check in hidden)
        lines.append(f"{met} of {len(hidden)} hidden checks are met.")
    if part["message"]:
        lines += ["", part["message"]]
    return "\n".join(lines)


def _sentences(part: str) -> dict[str, tuple[str, bool]]:
    """What each check asks, and whether it is hidden."""
    from autograder.judge import checks_of
    from lab.course import PARTS

    if part not in PARTS:
        return {}
    return {each.name: (each.sentence, each.hidden) for each in checks_of(part)}


# The zip

FOLDERS = ("autograder", "lab")
FILES = ("LICENSE", "README.md", "constraints.txt", "nbgrader_config.py")
SKIPPED = {"__pycache__", ".ipynb_checkpoints", ".pytest_cache", "checkpoints"}

SETUP = """\
#!/usr/bin/env bash
# Runs once, while the image is built: a Python that is new enough, and the project in it.
set -euo pipefail
root=${AUTOGRADER:-/autograder}

newest() {
    for each in python3.13 python3.12 python3.11; do
        if "$each" -c 'import ensurepip' 2> /dev/null; then echo "$each" && return; fi
    done
    return 1
}

if ! python=$(newest); then
    apt-get update
    apt-get install -y python3.12 python3.12-venv || apt-get install -y python3.11 python3.11-venv
    python=$(newest)
fi
cd "$root/source/attention-lab"
"$python" -m venv "$root/venv"
"$root/venv/bin/python" -m pip install --quiet --no-cache-dir -c constraints.txt -e .
"""

RUN = """\
#!/usr/bin/env bash
# Runs for every submission. Without a grade there is no results.json: a fault is nobody's 0 points.
set -uo pipefail
root=${{AUTOGRADER:-/autograder}}
lab=$root/venv/bin/lab
graded=$(mktemp -d)/graded.json

cd "$root/source/attention-lab"
"$lab" grade "$root/submission" --json "$graded" --jobs 1
"$lab" export "$graded" --format gradescope{unit} --to "$root/results/results.json"
"""


def write_zip(root: Path, to: Path, unit: str | None = None) -> Iterator[str]:
    """The zip to upload: setup.sh, run_autograder and the project without its answers."""
    chosen = f" --unit {unit}" if unit else ""
    files = {"setup.sh": SETUP.encode(), "run_autograder": RUN.format(unit=chosen).encode()}
    project = {name: root / name for name in FILES if (root / name).exists()}
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*")):
            if path.is_file() and not SKIPPED & set(path.relative_to(root).parts):
                project[path.relative_to(root).as_posix()] = path
    files |= {f"attention-lab/{name}": path.read_bytes() for name, path in project.items()}
    text = (root / "pyproject.toml").read_text("utf-8").replace('    "solutions",\n', "")
    files["attention-lab/pyproject.toml"] = text.encode()
    with replacing(to) as new, zipfile.ZipFile(new, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name)  # dated 1980, whenever it is made
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o755 if name in ("setup.sh", "run_autograder") else 0o644) << 16
            archive.writestr(entry, content)
    yield f"wrote {to}: {len(files)} files, {to.stat().st_size / 1e6:.1f} MB"
    yield "  upload it under Configure Autograder; it holds the mistakes and the hidden checks"
