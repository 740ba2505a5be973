"""The classroom: a course for a teacher, handing in for a learner, both through nbgrader.

settings.py    nbgrader made ready, and its settings
teaching.py    a course on disk: made, released, collected, given feedback
grading.py     every submission looked at, and graded by nbgrader and the oracle
executor.py    in place of the kernel: the oracle's points as outputs
mending.py     a hand-in made whole: every cell that was handed out, once
results.py     what became of everybody's work, from the gradebook or from `lab grade`
report.py      what a class did
similar.py     hand-ins that resemble each other
formats/       grades for Canvas, Moodle, Gradescope and others
export.py      the table of grades for nbgrader's own command
handing_in.py  submit("03-multi-head") and its receipt
bundle.py      the project without its answers, as a zip
accounts.py    who may come in to the course's page; door.py: the login before it
inbox.py       what is handed in on the page; queue.py: graded one after the other
views.py       what the course's tabs show; page.py: lab app --course
commands.py    lab course …, lab submit, lab bundle
reporting.py   lab report, lab export
"""

import importlib
from typing import Any

_HOMES = {
    "submit": "autograder.classroom.handing_in",
    "bundle_command": "autograder.classroom.commands",
    "course": "autograder.classroom.commands",
    "submit_command": "autograder.classroom.commands",
    "report_command": "autograder.classroom.reporting",
    "export_command": "autograder.classroom.reporting",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'autograder.classroom' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
