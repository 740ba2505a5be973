"""What runs in the sandbox for Your code: a learner's cells, and the trained model made of them.

The page asks and this process answers, plain values and tensors only (see `oracle.wire`):

    define    the cells of a notebook: which parts they give, and why the others do not
    weights   the trained model's
    compare   a part, given what stock's was given; the other parts are stock's
    inside    every tensor within one such call
    write     a sentence by the model of the parts that are switched on, with its attention
"""

import io
import socket
from collections.abc import Callable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from typing import Any

import torch
from torch import Tensor, nn

from autograder import checks, explain
from autograder.cells import Missing, Program, define
from autograder.judge import alone
from autograder.oracle import wire
from autograder.page.tracing import Trace
from autograder.page.writing import SEARCHES, explained, most_likely, seeded, written
from lab import model, parts, stock
from lab.course import PARTS

WORDS = 1_000  # characters of an error
STOCK = {part: getattr(stock, part) for part in PARTS}


def serve(connection: socket.socket) -> None:
    """Answer until the page hangs up."""
    checks.LETTERS.clear()  # sizes here are the trained model's, not those of the suites
    learner = Learner()
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        while True:
            question = wire.recv(connection)
            try:
                answer = {"gave": learner.verbs[question.pop("do")](**question)}
            except (EOFError, TimeoutError):
                raise
            except BaseException as error:
                answer = {"raised": learner.told(error)}
            try:
                wire.send(connection, answer)
            except wire.WireError as error:  # what a part gave is nothing that can be sent
                wire.send(connection, {"raised": {"words": str(error)[:WORDS], "where": ""}})


class Learner:
    """The namespaces of a learner's notebooks, and the parts that were found in them."""

    def __init__(self) -> None:
        self.found: dict[str, Any] = {}
        self.namespaces: list[dict[str, Any]] = []
        self.state: dict[str, Tensor] = {}
        self.config = model.Config(1)
        self.verbs: dict[str, Callable[..., Any]] = {
            "define": self.define, "weights": self.weights, "compare": self.compare,
            "inside": self.inside, "write": self.write,
        }  # fmt: skip

    def define(self, program: list[Any]) -> Any:
        imports, given, cells = (tuple((name, text) for name, text in each) for each in program)
        work = define(Program(imports, given, cells))
        self.namespaces.append(work.namespace)
        self.found |= work.found
        return {part: self.told(error) for part, error in work.failed.items()}

    def weights(self, state: dict[str, Tensor], config: dict[str, Any]) -> None:
        self.state, self.config = state, model.Config(**config)

    def compare(self, part: str, calls: list[dict[str, Any]]) -> list[Any]:
        """What each call gives: tensors, or the error that ends the comparison."""
        gave: list[Any] = []
        with alone(part, self.found[part]):
            make = self._maker(part)
            for call in calls:
                before = [each.clone() for each in _tensors(call)]
                try:
                    result = make(call)(*call["args"], **call["kwargs"])
                except BaseException as error:
                    return [*gave, {"raised": self.told(error)}]
                same = all(map(_is_same, before, _tensors(call)))
                result = list(result) if isinstance(result, (tuple, list)) else [result]
                gave.append({"gave": result, "changed": not same})
        return gave

    def inside(self, part: str, call: dict[str, Any]) -> list[Any]:
        """[place, name, tensor] of all that was seen, as `Trace.inside` has it."""
        trace = Trace()
        others = {name: each for name, each in STOCK.items() if name != part}
        with alone(part, self.found[part]) as work:
            watched = trace.watched({**others, part: getattr(work, part)})
            with parts.using(watched):
                run = self._maker(part, watched[part], trace)(call)
                run(*call["args"], **call["kwargs"])
        last = trace.calls[-1]
        return [[each.place, each.name, each.value] for each in trace.inside(last)]

    def _maker(
        self, part: str, implementation: Any = None, trace: Trace | None = None
    ) -> Callable[[Mapping[str, Any]], Callable[..., Any]]:
        """What to call: the function, or the module made with stock's weights; a decoder has the
        whole model before its arguments."""
        implementation = implementation or self.found[part]
        kept: dict[str, nn.Module] = {}

        def make(call: Mapping[str, Any]) -> Callable[..., Any]:
            if part in SEARCHES.values():
                if not kept:
                    kept[""] = _loaded(model.build(self.config), self.state)
                return lambda *args: most_likely(implementation(kept[""], *args, *seeded(part)))
            if call["made"] is None:
                return implementation
            place = call["place"]
            if place not in kept:
                args, kwargs = call["made"]
                kept[place] = _loaded(implementation(*args, **kwargs), self._below(place)).double()
                if trace is not None:
                    trace.hook(kept[place])
            return kept[place]

        return make

    def _below(self, place: str) -> dict[str, Tensor]:
        """The weights of the module at a path."""
        start = f"{place}." if place else ""
        return {n.removeprefix(start): w for n, w in self.state.items() if n.startswith(start)}

    def write(self, on: list[str], source: Tensor, search: str, max_len: int) -> Any:
        """The ids and the attention of the model with these parts."""
        chosen = {part: self.found[part] for part in on}
        for namespace in self.namespaces:
            for name in PARTS:
                if name in namespace:
                    namespace[name] = chosen.get(name, getattr(parts, name))
        with parts.using(chosen, alone=True), torch.random.fork_rng(devices=[]):
            translator = _loaded(model.build(self.config), self.state)
            ids = written(translator, source, search, max_len)
            return [ids, *explained(translator, source, ids)]

    def told(self, error: BaseException) -> dict[str, str]:
        """An error in words, and the learner's line."""
        spaces = [*self.namespaces, {}]
        space = next((each for each in spaces if explain.place(error, each)), spaces[-1])
        words = str(error) if isinstance(error, Missing) else explain.in_words(error, space)
        return {"words": words[:WORDS], "where": explain.place(error, space)[:WORDS]}


def _loaded(module: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    module.load_state_dict(state)
    return module.eval()


def _tensors(call: Mapping[str, Any]) -> list[Tensor]:
    return [each for each in [*call["args"], *call["kwargs"].values()] if isinstance(each, Tensor)]


def _is_same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other)
