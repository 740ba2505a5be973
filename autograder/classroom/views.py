"""What the course's page shows, as JSON for its drawings: plain values, drawn as text.

of_learner(inbox, queue, account)   # a learner's own hand-ins, and what came of them
of_class(inbox, queue)              # the teacher's tab: the queue, and what can be downloaded
entries(inbox)                      # everybody's results, for reports and exports
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from autograder.classroom import teaching
from autograder.classroom.accounts import Account
from autograder.classroom.formats import FORMATS
from autograder.classroom.inbox import HandIn, Inbox, late
from autograder.classroom.queue import Queue
from autograder.classroom.results import Entry, full_name
from autograder.classroom.settings import listening
from autograder.classroom.teaching import Learner
from autograder.judge import checks_of
from autograder.oracle.result import blank
from lab.course import PARTS, UNITS, Unit
from lab.page.words import say

Value = dict[str, Any]
RESULTS = "results"  # as `lab grade --json` writes them, for `lab report` and every `lab export`
DOWNLOADS = {name: FORMATS[name] for name in ("nbgrader", "canvas", "junit")}
DOWNLOADS[RESULTS] = "results.json"


def of_learner(inbox: Inbox, queue: Queue, account: Account) -> Value:
    """What a learner has handed in, and nobody else's."""
    learner = people(inbox).get(account.id, Learner(account.id))
    units = []
    for unit in UNITS:
        found = [each for each in inbox.of(account.id) if each.receipt.unit == unit.name]
        if found:
            newest, *earlier = found
            said = {"name": unit.name, "title": unit.title, "earlier": []}
            said |= handed_in(newest, queue) | feedback(newest.result)
            said["earlier"] = [handed_in(each, queue) for each in earlier]
            units.append(said)
    return {
        "id": account.id,
        "name": full_name(learner) or account.id,
        "teacher": account.teacher,
        "open": [_open(inbox, name) for name in inbox.released()],
        "limit": inbox.limits.file,
        "units": units,
    }


def _open(inbox: Inbox, name: str) -> Value:
    due = teaching.due(inbox.settings, name)
    return {"name": name, "due": due.isoformat() if due else None}


def handed_in(each: HandIn, queue: Queue) -> Value:
    """One hand-in: its receipt, where it is in the queue, and its points."""
    receipt, result = each.receipt, each.result
    before = queue.before(each)
    state = result["status"] if result else "replaced"
    return {
        "number": receipt.number,
        "notebook": receipt.notebook,
        "time": receipt.time,
        "late": late(receipt),
        "receipt": receipt.text(),
        "state": state if before is None else "waiting",
        "before": before,
        "points": result["points"] if result else None,
        "max_points": receipt.max_points,
    }


def places(inbox: Inbox, queue: Queue, account: Account) -> Value:
    """How many are before each waiting hand-in of a learner."""
    waiting = {each.id: at for at, each in enumerate(queue.all()) if each.owner[0] == account.id}
    return {"places": waiting}


# What came of a hand-in


def feedback(result: Mapping[str, Any] | None) -> Value:
    """The sentences of a result; of hidden checks only that there are any, as nbgrader's feedback
    has it."""
    if result is None:
        return {"reason": "", "parts": []}
    return {"reason": result["reason"], "parts": [_part(part) for part in result["parts"]]}


def _part(part: Mapping[str, Any]) -> Value:
    known = {each.name: each for each in checks_of(part["part"])} if part["part"] in PARTS else {}
    hidden = {name for name, check in known.items() if check.hidden}
    checks = [
        {
            "said": say("hand_in.hidden_check") if each["name"] in hidden
            else known[each["name"]].sentence if each["name"] in known else each["message"],
            "passed": each["passed"],
            "points": each["points"],
            "max_points": each["max_points"],
        }
        for each in part["checks"]
    ]  # fmt: skip
    failed = next((each["name"] for each in part["checks"] if not each["passed"]), None)
    masked = failed in hidden and part["state"] in ("failed", "partial")
    return {
        "name": part["part"],
        "points": part["points"],
        "max_points": part["max_points"],
        "state": part["state"],
        "message": say("hand_in.hidden") if masked else part["message"],
        "checks": checks if part["state"] != "not started" else [],
    }


# The class


def results(entries: Iterable[Entry]) -> list[Value]:
    """What there is, each under its learner's name."""
    found = ((f"{each.learner.id}/{each.unit}", each.result) for each in entries if each.result)
    return [
        result | {"notebook": f"{place}/{Path(result['notebook']).name}"} for place, result in found
    ]


def of_class(inbox: Inbox, queue: Queue) -> Value:
    """The queue, and what is there to be downloaded."""
    learners = people(inbox)
    names = {id: full_name(learner) or id for id, learner in learners.items()}
    last = inbox.last()
    return {
        "queue": [
            {
                "name": names.get(each.owner[0], each.owner[0]),
                "id": each.owner[0],
                "unit": each.owner[1],
                "time": each.receipt.time,
                "late": late(each.receipt),
            }
            for each in queue.all()
        ],
        "units": sorted({each.receipt.unit for each in last}),
        "handed_in": len(last),
        "learners": len(learners),
        "formats": list(DOWNLOADS),
    }


def entries(inbox: Inbox) -> list[Entry]:
    """Everybody's entry in every unit of which there is a hand-in: names, dates and results."""
    last = {each.owner: each for each in inbox.last()}
    learners = {name: Learner(name) for name, _ in sorted(last)}  # teachers who try it, too
    learners = people(inbox) | {n: each for n, each in learners.items() if n not in people(inbox)}
    return [
        _entry(learner, unit, last.get((name, unit.name)))
        for unit in UNITS
        if any(each == unit.name for _, each in last)
        for name, learner in learners.items()
    ]


def _entry(learner: Learner, unit: Unit, found: HandIn | None) -> Entry:
    if found is None:
        return Entry(learner, unit.name, unit.points)
    receipt = found.receipt
    result = found.result or blank("", unit, "not graded yet", "rejected")
    return Entry(
        learner,
        unit.name,
        receipt.max_points,
        result | {"notebook": str(found.notebook), "unit": unit.name},
        datetime.fromisoformat(receipt.due) if receipt.due else None,
        datetime.fromisoformat(receipt.time),
        notes=("late",) if receipt.late_seconds else (),
    )


def people(inbox: Inbox) -> dict[str, Learner]:
    """The learners of the gradebook."""
    with listening(), teaching.gradebook(inbox.settings) as book:
        found = [
            Learner(each.id, each.first_name or "", each.last_name or "", each.email or "")
            for each in book.students
        ]
    return {each.id: each for each in found}
