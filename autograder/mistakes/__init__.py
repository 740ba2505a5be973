"""Wrong answers that run, by name: they prove the suites and drive the diagnosis.

One module per unit. A mistake is a whole part with one thing wrong:

    @mistake("softmax", "S1", "no max subtraction", "exp overflows …", "Take … off first.")
    def no_max_subtraction(scores, dim=-1):
        ...
"""

import functools
import importlib
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from autograder.sealed import unsealed
from lab.course import PARTS


@dataclass(frozen=True)
class Mistake:
    part: str
    id: str  # as in the catalogue of mistakes; variants of one are S1a, S1b
    name: str  # a few words: "no max subtraction"
    sentence: str  # what the learner's part does, and what it should do
    hint: str  # what to do about it
    implementation: Any = field(compare=False, repr=False)

    @property
    def lesson(self) -> str:
        """Where it is explained: the section of the part in its unit's notebook."""
        return f"{PARTS[self.part].name}, section {self.part}"


def mistake(part: str, id: str, name: str, sentence: str, hint: str) -> Callable[[Any], Any]:
    """Enter a wrong part in the catalogue."""

    def enter(implementation: Any) -> Any:
        implementation.mistake = Mistake(part, id, name, sentence, hint, implementation)
        return implementation

    return enter


@functools.cache
def mistakes_of(part: str) -> tuple[Mistake, ...]:
    """The known mistakes of a part, in the order of their module."""
    module = _module(PARTS[part].module)
    entered = [
        vars(each).get("mistake") for each in vars(module).values() if hasattr(each, "__dict__")
    ]
    return tuple(each for each in entered if isinstance(each, Mistake) and each.part == part)


def _module(unit: str) -> ModuleType:
    """The mistakes of a unit; in a bundle for learners they are sealed."""
    name, file = f"autograder.mistakes.{unit}", f"mistakes/{unit}.py"
    if name not in sys.modules and file in unsealed():
        sys.modules[name] = ModuleType(name)
        exec(compile(unsealed()[file], f"<{name}>", "exec"), vars(sys.modules[name]))
    return importlib.import_module(name)
