"""Three hints a part: a nudge, pseudo-code, and where the lesson says it. One file a unit."""

import functools
import re
from pathlib import Path

from lab.course import PARTS

LEVELS = ("nudge", "pseudo-code", "lesson")


@functools.cache
def hints_of(part: str) -> tuple[str, ...]:
    """The hints of a part, from the gentlest on."""
    path = Path(__file__).parent / f"{PARTS[part].module}.md"
    for section in re.split(r"^# ", path.read_text(encoding="utf-8"), flags=re.M)[1:]:
        name, _, text = section.partition("\n")
        if name.strip() == part:
            levels = re.split(r"^## (.+)$", text, flags=re.M)[1:]
            found = dict(
                zip(map(str.strip, levels[::2]), map(str.strip, levels[1::2]), strict=True)
            )
            return tuple(found[level] for level in LEVELS)
    raise LookupError(f"{path.name} has no hints for {part}")
