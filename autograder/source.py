"""The source of a part and the names it sees, wherever it was written: a module, a notebook."""

from __future__ import annotations

import ast
import inspect
import linecache
from types import FunctionType
from typing import Any


def functions_of(implementation: Any) -> list[FunctionType]:
    """A function itself, or the functions of a class, without what decorators put around them."""
    own = vars(implementation).values() if isinstance(implementation, type) else [implementation]
    unwrapped = [inspect.unwrap(each) for each in own if callable(each)]
    return [each for each in unwrapped if isinstance(each, FunctionType)]


def namespace_of(implementation: Any) -> dict[str, Any]:
    """The global names its code sees."""
    functions = functions_of(implementation)
    return functions[0].__globals__ if functions else {}


def source_of(implementation: Any, part: str) -> str:
    """The cell a part was written in; in a module, the part alone. "" where it is lost."""
    functions = functions_of(implementation)
    if not functions:
        return ""
    file = functions[0].__code__.co_filename
    text = "".join(linecache.getlines(file))
    if not file.endswith(".py") or "ipykernel" in file:
        return text
    for node in ast.parse(text).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name in (
            part,
            getattr(implementation, "__name__", part),
        ):
            return ast.get_source_segment(text, node) or ""
    return ""
