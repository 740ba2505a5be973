"""What runs in a learner's process: the notebook's cells, and the part that the judge asks.

The judge says which part and sends the cells as text. Stock's own version of the part is taken out
of this process before a line of the learner's runs; the others are stock's, as in a notebook, until
the cells have run. Then the later parts go as well, for they are made of what is asked for. Where
the judge asks for several parts, one after the other, all of them are taken out at the start.
"""

from __future__ import annotations

import io
import random
import socket
import sys
from contextlib import AbstractContextManager, ExitStack, redirect_stderr, redirect_stdout
from types import FunctionType
from typing import Any

import torch

from autograder import explain, policy
from autograder.cells import Program, Withheld, define
from autograder.judge import alone
from autograder.oracle import mirrors
from autograder.oracle.peer import Peer
from lab import decoding, stock
from lab.course import PARTS

LAB = [module for name, module in sys.modules.items() if name.startswith("lab.")]
INSIDE = {  # what the lab's own search is made of
    "greedy_decode": ("write", "chooser"),
    "beam_search": ("beam_decode",),
    "sample_decode": ("next_token_probabilities",),
}
PRINTED = 2_000  # characters that are sent on


def serve(connection: socket.socket) -> None:
    """Answer the judge until it hangs up."""
    learner = Learner(connection)
    with redirect_stdout(learner.said), redirect_stderr(learner.said):
        learner.peer.serve()


class Learner:
    """A learner's namespace, and the part of it that is judged."""

    def __init__(self, connection: socket.socket):
        self.said = io.StringIO()
        self.asked = ExitStack()  # the part takes stock's place for the length of its checks
        self.namespace: dict[str, Any] = {}
        self.part = ""
        self.taken: list[str] = []
        self.peer = Peer(
            connection,
            place=lambda error: explain.place(error, self.namespace),
            around=self.watching,
            printed=self.printed,
        )
        self.peer.verbs |= {"begin": self.begin, "shortcut": self.shortcut}

    def begin(self, part: str, program: list[Any], withheld: list[str]) -> Any:
        """Run the cells; what they define as the part, or the error of its cell."""
        self.asked.close()
        self.peer.start_over()
        self.taken.clear()
        torch.default_generator.manual_seed(0)
        random.seed(0)
        for each in withheld:
            withhold(each)
        imports, given, cells = (tuple((name, text) for name, text in each) for each in program)
        work = define(Program(imports, given, cells))
        self.part, self.namespace = part, work.namespace
        if part in work.failed:
            raise work.failed[part]
        implementation = work.found[part]
        for later in list(PARTS)[list(PARTS).index(part) + 1 :]:
            withhold(later)
        self.asked.enter_context(alone(part, implementation))
        return self.peer.lend(implementation)

    def shortcut(self, source: str) -> str:
        """The shortcut that was seen, from here; the judge looks for itself as well."""
        named = policy.in_names(self.part, source, self.namespace)
        return named or next(iter(self.taken), "")

    def watching(self) -> AbstractContextManager[Any]:
        return policy.watching(self.part, self.namespace, self.taken)

    def printed(self) -> str:
        """What was printed since this was last asked."""
        said = self.said.getvalue()[:PRINTED]
        self.said.seek(0)
        self.said.truncate()
        return said.encode(errors="replace").decode()


def withhold(part: str) -> None:
    """Stock's version of a part is no longer in this process; nor is the code it was made of."""
    if getattr(stock, part) is _withheld:
        return
    remove(part, getattr(stock, part))
    for name in INSIDE.get(part, ()):
        remove(name, getattr(decoding, name))


def remove(name: str, own: Any) -> None:
    """No module of the lab has it any more, and who holds it holds a shell."""
    for module in LAB:
        if vars(module).get(name) is own:
            setattr(module, name, _withheld)
    if isinstance(own, type):
        for name, each in list(vars(own).items()):
            if isinstance(each, FunctionType):
                delattr(own, name)
        mirrors.kinds.cache_clear()
    elif isinstance(own, FunctionType):
        own.__code__ = _withheld.__code__
        own.__defaults__, own.__kwdefaults__ = None, None


def _withheld(*_: Any, **__: Any) -> Any:
    raise Withheld("the lab's own version of the part that is asked for is not here")
