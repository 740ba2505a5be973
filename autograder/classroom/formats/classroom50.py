"""Classroom 50's result.json, for an `autograder.py` that calls `lab export`.

Its runner says in the environment whose work it is: CLASSROOM, ASSIGNMENT, SUBMISSION_TAG,
COMMIT_URL, RELEASE_URL, REVIEW_URL, USERNAME. Points there are whole numbers. The schema is closed:
no other name may stand at the top. Without a grade there is no file; the runner then reports an
error by itself.

Source: foundation50/classroom50, cli/gh-teacher/skeleton/dotgithub/scripts/runner.py.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from autograder.classroom.formats.gradescope import as_text, the_one
from autograder.classroom.formats.tables import number
from autograder.classroom.results import Entry
from lab.files import replacing

SCHEMA = "classroom50/result/v1"
NEEDED = ("CLASSROOM", "ASSIGNMENT", "SUBMISSION_TAG", "COMMIT_URL", "RELEASE_URL")


def write(
    entries: Sequence[Entry], to: Path, environment: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Write result.json for the one hand-in."""
    entry = the_one(entries, "result.json")
    found = result(entry, os.environ if environment is None else environment)
    with replacing(to) as new:
        new.write_text(json.dumps(found, ensure_ascii=False, indent=2), encoding="utf-8")
    yield f"wrote {to}: {found['score']} of {found['max-score']} points"
    if found["score"] != entry.points:
        yield f"  Classroom 50 takes whole points: {number(entry.points)} became {found['score']}"


def result(entry: Entry, environment: Mapping[str, str]) -> dict[str, Any]:
    """What the runner takes."""
    if missing := [name for name in NEEDED if not environment.get(name)]:
        raise ValueError(
            f"Classroom 50's runner sets {', '.join(missing)}, which are missing here: "
            "call this in its autograder.py"
        )
    tests = [
        {
            "test-name": part["part"],
            "passed": part["state"] == "passed",
            "score": math.floor(part["points"]),
            "max-score": math.ceil(part["max_points"]),
            "output": as_text(part),
        }
        for part in entry.parts
    ]
    return {
        "schema": SCHEMA,
        "classroom": environment["CLASSROOM"],
        "assignment": environment["ASSIGNMENT"],
        "assignment_type": environment.get("ASSIGNMENT_TYPE") or "individual",
        "owner": environment.get("USERNAME") or entry.learner.id,
        "submission": environment["SUBMISSION_TAG"],
        "commit": environment["COMMIT_URL"],
        "release": environment["RELEASE_URL"],
        "review": environment.get("REVIEW_URL") or environment["COMMIT_URL"],
        "datetime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "score": math.floor(entry.points or 0),
        "max-score": math.ceil(entry.max_points or 0),
        "tests": tests,
    }
