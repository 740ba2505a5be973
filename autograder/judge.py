"""A part before its suite: every check, one after the other, and what came of each."""

from __future__ import annotations

import hashlib
import importlib
import io
import os
import signal
import threading
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import torch

from autograder.checks import Broken, Check, keeping_found, speaking_of, suite
from autograder.drawing import Draw
from autograder.source import namespace_of
from lab import parts
from lab.course import PARTS

SECONDS = 20  # for one check; the slowest takes a fraction of one


@dataclass(frozen=True)
class Outcome:
    """What came of one check."""

    check: Check
    error: BaseException | None = field(repr=False)
    found: list[Any] = field(repr=False)  # what the part gave, in the order of the statements
    printed: str = field(default="", repr=False)

    @property
    def passed(self) -> bool:
        return self.error is None


class TooLong(Exception):
    """A check did not come to an end."""


class Lost(RuntimeError):
    """The process that a part ran in is gone."""


class Elsewhere(ABC):
    """A part that runs in another process."""

    @abstractmethod
    def awake(self) -> AbstractContextManager[Any]:
        """Something that can be called in the place of the part, for the length of a check."""

    def outcomes(self, ask: Callable[[], list[Outcome]], seed: int) -> list[Outcome]:
        """What `ask` gives, which runs its checks; or that from memory."""
        return ask()

    @abstractmethod
    def shortcut(self, source: str) -> str | None:
        """The shortcut that was seen over there, in a sentence, or None."""


def checks_of(part: str, hidden: bool = True) -> list[Check]:
    """The checks of one part, in the order of its suite."""
    of_unit = suite(PARTS[part].module)
    return [each for each in of_unit if each.part == part and (hidden or not each.hidden)]


def judge(part: str, implementation: Any, seed: int = 0) -> list[Outcome]:
    """Run every check of `part` against an implementation of it, all other parts stock's."""

    def ask() -> list[Outcome]:
        return [judge_one(each, implementation, seed) for each in checks_of(part)]

    return implementation.outcomes(ask, seed) if isinstance(implementation, Elsewhere) else ask()


def judge_one(each: Check, implementation: Any, seed: int = 0) -> Outcome:
    """Run one check. Whatever happens in it stays in it."""
    error: BaseException | None = None
    with (
        speaking_of(each.part),
        alone(each.part, implementation) as work,
        keeping_found() as found,
        quiet() as printed,
        torch.enable_grad(),  # a part may have switched gradients off for good
    ):
        try:
            with torch.random.fork_rng(devices=[]), within(SECONDS):
                torch.default_generator.manual_seed(_other(seed))
                draw = Draw(torch.float64, seed=seed)
                each.function(work, draw)
                if not draw.untouched():  # whoever makes the inputs zero could make zeros right
                    raise Broken("Inputs stay as they were", "an input was changed in place")
        except (Exception, SystemExit) as raised:
            error = raised
    return Outcome(each, error, found, printed.getvalue())


def _other(seed: int) -> int:
    """A seed that does not give away the one it is made of: a part sees the state it draws from."""
    return int.from_bytes(hashlib.sha256(str(seed).encode()).digest()[:7])


@contextmanager
def alone(part: str, implementation: Any) -> Iterator[SimpleNamespace]:
    """All parts, this one the implementation's and every other one stock's, wherever it is used.

    A learner's notebook holds its other parts under their names; for the time being those names
    mean stock's, so that a mistake in one part costs one part.
    """
    stock = importlib.import_module("lab.stock")
    if isinstance(implementation, Elsewhere):
        with implementation.awake() as stand_in, alone(part, stand_in) as work:
            yield work
        return
    namespace = namespace_of(implementation)
    if namespace is vars(stock):  # among its own
        namespace = {}
    others = {name: namespace[name] for name in PARTS if name in namespace and name != part}
    with parts.using({part: implementation}, alone=True):
        namespace.update({name: getattr(parts, name) for name in others})
        try:
            yield SimpleNamespace(
                **{name: getattr(stock, name) for name in PARTS if name != part},
                **{part: implementation},
            )
        finally:
            namespace.update(others)


@contextmanager
def quiet() -> Iterator[io.StringIO]:
    """Nothing reaches the screen; what was printed is kept. nbgrader gives zero for any stderr."""
    printed = io.StringIO()
    with (
        redirect_stdout(printed),
        redirect_stderr(printed),
        warnings.catch_warnings(),
        _no_native_stderr(),
    ):
        warnings.simplefilter("ignore")
        yield printed


@contextmanager
def _no_native_stderr() -> Iterator[None]:
    """What libraries write past Python goes nowhere."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raise TooLong in the block after so many seconds, where the system can."""
    if (
        not hasattr(signal, "setitimer")
        or threading.current_thread() is not threading.main_thread()
    ):
        yield
        return

    def stop(*_: Any) -> None:
        raise TooLong(f"it ran for {seconds} s without an end")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def not_started(outcomes: list[Outcome]) -> bool:
    """Whether the stub still says what is to be written, wherever it is asked."""
    return all(isinstance(each.error, NotImplementedError) for each in outcomes)
