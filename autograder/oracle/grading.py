"""A hand-in as points and sentences: the JSON that everything else is made from.

    with Zygote() as zygote:
        result = grade(Submission.load(path), zygote, seed=secret())
        result["points"], result["parts"][0]["message"]

What cannot be graded has the status "rejected" (the notebook's fault) or "error" (the machine's),
a reason, and no points; nobody gets 0 for what is nobody's answer.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from autograder.cells import tree_of
from autograder.judge import TooLong, checks_of
from autograder.oracle.remote import Judged, judged
from autograder.oracle.result import Result, blank
from autograder.oracle.result import secret as secret
from autograder.oracle.sandbox import Report as Sandbox
from autograder.oracle.zygote import Unavailable, Zygote
from autograder.quizzes import questions
from autograder.report import Line, Report
from autograder.submission import Cell, Submission

WORDS = 2_000  # characters of a message


def grade(submission: Submission, zygote: Zygote, seed: int) -> Result:
    """Points and sentences for every part of a hand-in, its quiz among them."""
    begun = time.monotonic()
    result = blank(str(submission.path), submission.unit, "; ".join(submission.problems))
    if fault := ungradable(submission):
        return result | {"status": "rejected", "reason": fault}
    assert submission.unit is not None
    started = [part for part in submission.unit.parts if not is_stub(submission.by_id.get(part))]
    try:
        of = {each.report.part: each for each in judged(submission, zygote, seed, started)}
    except Unavailable as error:
        fault = f"the machine gave no process to run it in: {error}"
        return result | {"status": "error", "reason": fault}
    for part in submission.unit.parts:
        result["parts"].append(_part(of[part] if part in of else Judged(not_started(part), {}, 0)))
    result["parts"].append(_quiz(submission))
    result["points"] = sum(part["points"] for part in result["parts"])
    result["sandbox"] = weakest(each.sandbox for each in of.values())
    return result | {"seconds": round(time.monotonic() - begun, 3)}


def ungradable(submission: Submission) -> str:
    """Why there is no answer in a hand-in that could be judged; "" where there is one."""
    said = "; ".join(submission.problems)
    if submission.unit is None or not submission.cells:
        return said
    cells = [submission.by_id.get(part) for part in submission.unit.parts]
    code = [cell for cell in cells if cell is not None and cell.kind == "code"]
    if not code:
        return f"it has none of the cells of {submission.unit.name}; {said}"
    kernel = [each for each in submission.problems if " has the kernel " in each]
    if kernel and not any(tree_of(cell.source).body for cell in code):
        return f"it is not written in Python: {kernel[0]}"
    return ""


def is_stub(cell: Cell | None) -> bool:
    """Whether a cell is what was handed out, and needs no process to say so."""
    if cell is None or cell.kind != "code" or cell.mark.get("checksum") is None:
        return False
    return not cell.touched and "raise NotImplementedError" in cell.source


def not_started(part: str) -> Report:
    """What the stub of a part earns."""
    return Report(part, "not started", tuple(Line(each, False) for each in checks_of(part)))


def weakest(sandboxes: Iterable[Sandbox]) -> Sandbox:
    """Of several processes' sandboxes what each of them had, and what one of them lacked."""
    found: Sandbox = {}
    for sandbox in sandboxes:
        for layer, there in sandbox.items():
            if found.get(layer, True) is True:
                found[layer] = there
    return found


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
        "message": said(diagnosis.text) if diagnosis else "",
        "checks": [_check(line) for line in report.lines],
    }


def said(text: str) -> str:
    """Words that a learner may have had a hand in: not too many, and none that move a cursor."""
    return "".join(x if x.isprintable() or x == "\n" else "�" for x in text[:WORDS])


def _check(line: Line) -> Result:
    return {
        "name": line.check.name,
        "passed": line.passed,
        "points": line.points,
        "max_points": line.check.points,
        "message": "" if line.passed or line.check.hidden else said(line.seen),
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
