"""What came of a hand-in: the JSON that feedback, reports and grades are made from.

"graded" has points; "rejected" (the notebook's fault) and "error" (the machine's) have a reason.
"""

from __future__ import annotations

import secrets
from typing import Any

from lab.course import Unit

Result = dict[str, Any]


def blank(notebook: str, unit: Unit | None, reason: str = "", status: str = "graded") -> Result:
    """A result without points, to be filled in."""
    return {
        "notebook": notebook,
        "unit": unit.name if unit else None,
        "points": None,
        "max_points": unit.points if unit else None,
        "status": status,
        "reason": reason,
        "sandbox": {},
        "seconds": 0.0,
        "parts": [],
    }


def secret() -> int:
    """A seed that nobody can know beforehand; the same for all that is compared."""
    return secrets.randbits(62)
