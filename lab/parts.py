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

Implementations = Mapping[str, Callable[..., Any]]

_adopted: Implementations = MappingProxyType({})  # for the whole process, where nothing is chosen
_chosen: ContextVar[Implementations | None] = ContextVar("chosen", default=None)


def implementation(part: str) -> Callable[..., Any]:
    """The implementation in force: stock's, unless `using` says another."""
    if part not in PARTS:
        raise AttributeError(f"there is no part {part!r}: choose from {', '.join(PARTS)}")
    return _in_force().get(part) or getattr(importlib.import_module("lab.stock"), part)


@contextmanager
def using(implementations: Implementations, *, alone: bool = False) -> Iterator[None]:
    """Serve these parts in place of stock, in this thread, until the block ends.

    What an outer block chose stays chosen, unless they are to be `alone` among stock parts.
    """
    _check_names(implementations)
    token = _chosen.set({**({} if alone else _in_force()), **implementations})
    try:
        yield
    finally:
        _chosen.reset(token)


def adopt(implementations: Implementations) -> None:
    """Serve these parts in place of stock from now on, wherever no `using` says another."""
    global _adopted
    _check_names(implementations)
    _adopted = MappingProxyType(dict(implementations))


def chosen(part: str) -> bool:
    """Whether `using` has put another implementation in the place of stock's."""
    return part in _in_force()


def _in_force() -> Implementations:
    chosen = _chosen.get()
    return _adopted if chosen is None else chosen


def _check_names(implementations: Implementations) -> None:
    if unknown := sorted(set(implementations) - set(PARTS)):
        raise ValueError(f"no such parts: {', '.join(unknown)}; choose from {', '.join(PARTS)}")


def are_stock(model: Any) -> bool:
    """Whether nothing but PyTorch's and stock's own code runs when this model does."""
    if _in_force() or not isinstance(model, nn.Module):
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
