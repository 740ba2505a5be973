"""The classroom: a course for a teacher, handing in for a learner, both through nbgrader.

settings.py    nbgrader made ready, and its settings
teaching.py    a course on disk: made, released, collected, given feedback
grading.py     every submission looked at, mended where it can be, and graded by nbgrader
export.py      the table of grades
handing_in.py  submit("03-multi-head") and its receipt
bundle.py      the project without its answers, as a zip
commands.py    lab course …, lab submit, lab bundle
"""

import importlib
from typing import Any

_HOMES = {
    "submit": "autograder.classroom.handing_in",
    "bundle_command": "autograder.classroom.commands",
    "course": "autograder.classroom.commands",
    "submit_command": "autograder.classroom.commands",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'autograder.classroom' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
