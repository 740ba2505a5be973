"""Which implementation serves a part: the one chosen, and stock where none is.

`from lab.parts import MultiHeadAttention` gives a stand-in that asks at every call, so a choice
made later reaches every place that uses the part:

    with using({"FeedForward": MyFeedForward}):
        model = Transformer(vocab_size=8000)  # MyFeedForward in every layer
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

from torch import nn

from lab.course import PARTS, UNITS

_chosen: ContextVar[Mapping[str, Callable[..., Any]]] = ContextVar(
    "chosen", default=MappingProxyType({})
)


def implementation(part: str) -> Callable[..., Any]:
    """The implementation in force: stock's, unless `using` says another."""
    if part not in PARTS:
        raise AttributeError(f"there is no part {part!r}: choose from {', '.join(PARTS)}")
    return _chosen.get().get(part) or getattr(importlib.import_module("lab.stock"), part)


@contextmanager
def using(implementations: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
    """Serve these parts in place of stock, in this thread, until the block ends."""
    if unknown := sorted(set(implementations) - set(PARTS)):
        raise ValueError(f"no such parts: {', '.join(unknown)}; choose from {', '.join(PARTS)}")
    token = _chosen.set({**_chosen.get(), **implementations})
    try:
        yield
    finally:
        _chosen.reset(token)


def chosen(part: str) -> bool:
    """Whether `using` has put another implementation in the place of stock's."""
    return part in _chosen.get()


def are_stock(model: Any) -> bool:
    """Whether nothing but PyTorch's and stock's own code runs when this model does."""
    if _chosen.get() or not isinstance(model, nn.Module):
        return False
    homes = {type(module).__module__ for module in model.modules()}
    return all(home == "lab.stock" or home.startswith("torch.") for home in homes)


def from_package(package: str) -> dict[str, Callable[..., Any]]:
    """All parts of a package with one module per unit: from_package("solutions")."""
    modules = {unit.module: importlib.import_module(f"{package}.{unit.module}") for unit in UNITS}
    return {part: getattr(modules[unit.module], part) for part, unit in PARTS.items()}


@functools.cache
def _stand_in(part: str) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        return implementation(part)(*args, **kwargs)

    call.__name__ = call.__qualname__ = part
    return call


def __getattr__(name: str) -> Callable[..., Any]:
    if name not in PARTS:
        raise AttributeError(f"module 'lab.parts' has no part {name!r}")
    return _stand_in(name)
