"""A hand-in as points and sentences: the JSON that everything else is made from.

    with Zygote() as zygote:
        result = grade(Submission.load(path), zygote, seed=secret())
        result["points"], result["parts"][0]["message"]

What cannot be graded has the status "rejected" (the notebook's fault) or "error" (the machine's),
a reason, and no points; nobody gets 0 for what is nobody's answer.
"""

from __future__ import annotations

import secrets
import time
from typing import Any

from autograder.judge import TooLong
from autograder.oracle.remote import Judged, judged
from autograder.oracle.zygote import Zygote
from autograder.quizzes import questions
from autograder.report import Line
from autograder.submission import Submission

Result = dict[str, Any]


def secret() -> int:
    """A seed that nobody can know beforehand; the same for all that is compared."""
    return secrets.randbits(62)


def grade(submission: Submission, zygote: Zygote, seed: int) -> Result:
    """Points and sentences for every part of a hand-in, its quiz among them."""
    begun = time.monotonic()
    unit = submission.unit
    result: Result = {
        "notebook": str(submission.path),
        "unit": unit.name if unit else None,
        "points": None,
        "max_points": unit.points if unit else None,
        "status": "graded",
        "reason": "; ".join(submission.problems),
        "sandbox": {},
        "seconds": 0.0,
        "parts": [],
    }
    if unit is None or not submission.cells:
        return result | {"status": "rejected"}
    try:
        for each in judged(submission, zygote, seed):
            result["parts"].append(_part(each))
            result["sandbox"] = each.sandbox or result["sandbox"]
        result["parts"].append(_quiz(submission))
        result["points"] = sum(part["points"] for part in result["parts"])
    except OSError as error:
        fault = f"the machine gave no process to run it in: {error}"
        result |= {"status": "error", "reason": fault, "parts": []}
    return result | {"seconds": round(time.monotonic() - begun, 3)}


def _part(judged: Judged) -> Result:
    report = judged.report
    diagnosis = report.diagnosis
    state = {"shortcut": "forbidden"}.get(report.state, report.state)
    if state == "failed":
        lost = "timeout" if isinstance(judged.lost, TooLong) else "crashed"
        state = "partial" if report.points else lost if judged.lost else "failed"
    return {
        "part": report.part,
        "points": report.points,
        "max_points": report.max_points,
        "state": state,
        "mistake": diagnosis.named.name if diagnosis and diagnosis.named else None,
        "message": diagnosis.text if diagnosis else "",
        "checks": [_check(line) for line in report.lines],
    }


def _check(line: Line) -> Result:
    return {
        "name": line.check.name,
        "passed": line.passed,
        "points": line.points,
        "max_points": line.check.points,
        "message": "" if line.passed else line.seen if not line.check.hidden else "",
    }


def _quiz(submission: Submission) -> Result:
    assert submission.unit is not None
    answers = submission.answers()
    checks = []
    for question in questions(submission.unit.name):
        answer = answers.get(question.id)
        right, why = (False, "not answered") if answer is None else question.judge(answer)
        checks.append({"name": question.id, "passed": right, "points": int(right),
                       "max_points": 1, "message": why})  # fmt: skip
    points = sum(each["points"] for each in checks)
    answered = [each for each in checks if each["message"] != "not answered"]
    state = "passed" if points == len(checks) else "partial" if points else "failed"
    return {
        "part": "quiz",
        "points": float(points),
        "max_points": len(checks),
        "state": state if answered else "not started",
        "mistake": None,
        "message": "",
        "checks": checks,
    }
