"""A class of learners with names that break things, and results as `lab grade` gives them."""

import json

from autograder.classroom.results import entries
from autograder.classroom.teaching import Learner
from lab.course import unit_named

UNIT = unit_named("01-attention")

LEARNERS = [
    Learner("007", 'James "J."', "Bond, Jr.", "james@example.org"),
    Learner("zhang", "伟", "张", "zhang@example.cn"),
    Learner("eva", '=HYPERLINK("http://x.example","y")', "+1+2", "eva@example.org"),
    Learner("tab", "\tTab", "two\nlines", "tab@example.org"),
    Learner("at", "@SUM(A1)", "-2+3", "at@example.org"),
    Learner("quote", "'=kept", "＝全角", "quote@example.org"),
    Learner("neg", "-5", "O'Neil; \\", "neg@example.org"),
    Learner("img", "<img src=x onerror=alert(1)>", "]]>&amp;\x1b[31m\x00", "img@example.org"),
    Learner("half", "Half", "Written", "half@example.org"),
    Learner("bad", "Bad", "File", "bad@example.org"),
    Learner("down", "Machine", "Down", "down@example.org"),
    Learner("gone", "Never", "Came", "gone@example.org"),
]


def check(name, passed, points=1, message=""):
    found = {"name": name, "passed": passed, "points": points * passed, "max_points": points}
    return found | {"message": message}


def part(name, points, most, state, mistake=None, message="", checks=()):
    return {"part": name, "points": float(points), "max_points": most, "state": state,
            "mistake": mistake, "message": message, "checks": list(checks)}  # fmt: skip


def result(student, *parts, status="graded", reason="", unit=UNIT):
    graded = status == "graded"
    return {
        "notebook": f"submitted/{student}/{unit.name}/{unit.module}.ipynb",
        "unit": unit.name,
        "points": sum(each["points"] for each in parts) if graded else None,
        "max_points": unit.points,
        "status": status,
        "reason": reason,
        "sandbox": {"seccomp": True},
        "seconds": 1.25,
        "parts": list(parts),
    }


def everything(student):
    """All points."""
    parts = [part(name, each.points, each.points, "passed", checks=[check(f"{name}_works", True)])
             for name, each in UNIT.parts.items()]  # fmt: skip
    return result(student, *parts, part("quiz", UNIT.quiz, UNIT.quiz, "passed"))


def half(student):
    """A part that passes, one with a known mistake, and the others untouched."""
    seen = "inf / inf\x00 is <b>NaN</b>"
    one = [check("softmax_over_the_axis_asked_for", True, 4)]
    one += [check("softmax_of_huge_scores", False, 2, seen)]
    parts = [
        part("softmax", 4, 6, "partial", "no maximum taken off", "exp overflows: é 中文", one),
        part("soft_lookup", 4, 4, "passed", checks=[check("lookup_by_hand", True, 4)]),
        part("scaled_dot_product_attention", 0, 10, "crashed", checks=[check("x", False, 10)]),
        part("SelfAttention", 0, 6, "not started", checks=[check("y", False, 6)]),
        part("quiz", 0, 6, "not started", checks=[check("why-root", False, 1, "not answered")]),
    ]
    return result(student, *parts)


def results():
    """Of everybody but the last, who handed in nothing."""
    whole = [everything(each.id) for each in LEARNERS[:8]]
    bad = result("bad", status="rejected", reason="bad.ipynb is cut off")
    down = result("down", status="error", reason="no process")
    return [*whole, half("half"), bad, down]


def everybody():
    return entries(results(), LEARNERS)


def write(path, found):
    path.write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")
    return path
