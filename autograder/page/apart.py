"""The page's side of a learner's process (see `worker`): asked with a deadline, replaced when lost.

    with Apart(zygote) as apart:
        apart.keep("define", program=…)       # asked again of the process that takes its place
        apart.ask("compare", part="softmax", calls=[…])

What comes back is plain values and tensors that were built here; whoever asks looks at each of
them. An error of the learner's is Failed; an endless loop, a crash or no sense is Ended.
"""

from __future__ import annotations

import time
from typing import Any

from autograder.oracle import wire
from autograder.oracle.sandbox import Limits
from autograder.oracle.zygote import Child, Zygote

LIMITS = Limits(memory=1 << 30, seconds=60)
MOST = 64 << 20  # bytes of an answer's tensors
IN_ALL = 60  # seconds for a question of the page's, whatever happens


class Failed(Exception):
    """The learner's code gave an error: its words, and the line."""

    def __init__(self, told: Any):
        told = told if isinstance(told, dict) else {}
        self.words, self.where = (plain(told.get(key, "")) for key in ("words", "where"))
        super().__init__(self.words)


class Ended(Exception):
    """The process is gone; `state` is "timeout" or "crashed"."""

    def __init__(self, state: str):
        self.state = state
        super().__init__(state)


class Apart:
    """A learner's process, started when it is first asked."""

    def __init__(self, zygote: Zygote, limits: Limits = LIMITS):
        self.zygote, self.limits = zygote, limits
        self.until = time.monotonic() + IN_ALL
        self._kept: list[dict[str, Any]] = []
        self._child: Child | None = None

    def keep(self, do: str, seconds: float = 10, **content: Any) -> Any:
        """Ask, and have it asked first of every process that takes this one's place."""
        gave = self.ask(do, seconds, **content)
        self._kept.append({"do": do, **content})
        return gave

    def ask(self, do: str, seconds: float = 10, **content: Any) -> Any:
        if time.monotonic() > self.until:
            raise Ended("timeout")
        if self._child is None:
            self._child = self.zygote.spawn(self.limits)
            for question in self._kept:
                self._answer(question, seconds)
        return self._answer({"do": do, **content}, seconds)

    def _answer(self, question: dict[str, Any], seconds: float) -> Any:
        assert self._child is not None
        deadline = min(self.until, time.monotonic() + seconds)
        try:
            wire.send(self._child.socket, question, deadline)
            answer = wire.recv(self._child.socket, deadline, MOST)
            if not isinstance(answer, dict):
                raise wire.WireError("an answer that is none")
        except TimeoutError:
            self.close()
            raise Ended("timeout") from None
        except (EOFError, wire.WireError):
            self.close()
            raise Ended("crashed") from None
        if "raised" in answer:
            raise Failed(answer["raised"])
        return answer.get("gave")

    def close(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.close()

    def __enter__(self) -> Apart:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def plain(text: Any, most: int = 1_000) -> str:
    """Words that a learner may have had a hand in: bounded, and none that move a cursor."""
    text = text if isinstance(text, str) else ""
    return "".join(x if x.isprintable() or x == "\n" else "�" for x in text[:most])
