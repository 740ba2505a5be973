"""Two processes that use each other's objects as if they were their own.

    peer = Peer(connection)
    softmax = peer.ask("begin", ...)            # a stand-in
    softmax(scores, dim=0).sum().backward()     # runs over there, forwards and backwards

Each side has a Peer at its end of the connection. A call goes over as a message, and while its
answer is awaited, calls that come back are served: a learner's `greedy_decode(model, …)` calls the
judge's model in the middle of the judge's call. With every message go the weights that have changed
and the state of the random numbers, so that both sides see one world.
"""

from __future__ import annotations

import builtins
import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from autograder.checks import Broken
from autograder.judge import Lost, TooLong
from autograder.oracle import mirrors, wire
from autograder.oracle.mirrors import Mirror, Shared, StandIn, index
from autograder.oracle.wire import WireError

RNG = torch.get_rng_state().numel()
MESSAGE = 10_000  # characters of an error's message
LARGEST = 1 << 20  # bytes of tensors in one message of a learner's; those of 4,000 draws have half
WORK = 1 << 22  # what a learner may have computed here until `reset`: the sum of rows · width²
NESTED = 40  # calls within calls; a model with a gradient of a gradient has four
GAP = 16  # a view may spread over this many times its numbers


class Gone(Lost):
    """The other process has ended, or answers with what is no answer."""


@dataclass
class Passed:
    """The tensors that a call passes on, in the order of its arguments."""

    given: list[Tensor] = field(default_factory=list)
    leaves: list[Tensor] = field(default_factory=list)
    before: list[Tensor] = field(default_factory=list)


class Peer:
    """One end. `strict`: what comes is trusted with nothing, and the other side's weights stay."""

    def __init__(
        self,
        connection: wire.Connection,
        *,
        strict: bool = False,
        place: Callable[[BaseException], str] = lambda error: "",
        around: Callable[[], AbstractContextManager[Any]] = nullcontext,
        printed: Callable[[], str] = lambda: "",
        heard: Callable[[str], Any] = lambda text: None,
    ):
        self.connection = connection
        self.strict = strict
        self.deadline: float | None = None
        self.verbs: dict[str, Callable[..., Any]] = {
            "call": self._call, "backward": self._backward,
        }  # fmt: skip
        self._place, self._around, self._printed, self._heard = place, around, printed, heard
        self._depth = 0
        self.gone: Exception | None = None
        self.start_over()

    def start_over(self) -> None:
        """Forget everything, as the other side does."""
        self._lent: dict[int, Any] = {}
        self._numbers: dict[int, int] = {}  # of what is lent, by id
        self._next = 1
        self._methods: dict[int, set[str]] = {}
        self._borrowed: dict[int, Any] = {}
        self._mine: dict[int, Shared] = {}
        self._theirs: dict[int, Shared] = {}
        self._graphs: dict[int, tuple[list[Tensor], list[Tensor]]] = {}
        self._states: dict[int, Tensor] = {}  # of generators of the other side
        self._rng = torch.empty(0, dtype=torch.uint8)
        self._spent = 0
        self._fresh = False

    # Asking

    def ask(self, verb: str, **content: Any) -> Any:
        """Have something done over there, and serve what is asked in the meantime."""
        if self.gone:
            raise self.gone
        self._depth += 1
        try:
            if self._depth > NESTED:
                raise WireError("calls within calls without an end")
            self._send({"do": verb, **content})
            while True:
                message = self._recv()
                if "do" not in message:
                    break
                self._answer(message)
        except Broken:
            raise
        except (WireError, EOFError, TimeoutError) as error:
            self.gone = _what_happened(error)
            raise self.gone from None
        except BaseException as error:  # in the middle of a message, perhaps
            self.gone = error if isinstance(error, Exception) else Gone("it was left alone")
            raise
        finally:
            self._depth -= 1
        self._heard(str(message.get("printed", "")))
        if "raised" in message:
            self._raise(message["raised"])
        return message.get("gave")

    def call(self, number: int, method: str, args: tuple, kwargs: dict) -> Any:
        """Call an object of the other side. Gradients flow through, changes in place come back."""
        passed = Passed()
        enabled = torch.is_grad_enabled()
        answer = self.ask(
            "call", number=number, method=method, grad=enabled,
            args=self._lend(list(args), passed), kwargs=self._lend(kwargs, passed),
        )  # fmt: skip
        try:
            outputs = self._connected(answer, passed)
            for k, values in answer["changed"]:
                self._change(passed.given[index(k, passed.given)], values)
            if answer["grad"] is not enabled:
                torch.set_grad_enabled(answer["grad"] is True)
            return self._borrow(answer["result"], Passed(), outputs)
        except (WireError, LookupError, TypeError, ValueError) as error:
            self.gone = _what_happened(error)
            raise self.gone from None

    def begin(self, part: str, program: list[Any], withheld: Sequence[str] = ()) -> Any:
        """Have a learner's cells run; a stand-in for what they define as the part."""
        told = self.ask("begin", part=part, program=program, withheld=[*withheld])
        return self._borrow(told, Passed())

    def lend(self, value: Any) -> Any:
        """A value for the other side to borrow."""
        return self._lend(value, Passed())

    def reset(self) -> None:
        """Forget on both sides what was lent, except what `ask` gave."""
        self._forget()
        self._fresh = True  # the other side hears of it with the next message

    def _connected(self, answer: dict[str, Any], passed: Passed) -> list[Tensor]:
        """The results that have gradients, tied to what they came from."""
        if not answer["outputs"]:
            return []
        if not all(isinstance(each, Tensor) for each in answer["outputs"]):
            raise WireError("results that are no tensors")
        anchor = torch.zeros((), requires_grad=True)  # so that they have gradients in any case
        came_from = [*passed.leaves, *self._parameters(answer["of"])]
        outputs = _Through.apply(self, answer["graph"], answer["outputs"], anchor, *came_from)
        return list(outputs)  # type: ignore[arg-type]

    def _change(self, tensor: Tensor, values: Any) -> None:
        if not isinstance(values, Tensor) or values.shape != tensor.shape:
            raise WireError("a change of another shape")
        tensor.data.copy_(values)

    # Serving

    def serve(self) -> None:
        """Answer until the other side hangs up."""
        while True:
            try:
                self._answer(self._recv())
            except EOFError:
                return

    def _answer(self, message: dict[str, Any]) -> None:
        try:
            verb = self.verbs.get(message.pop("do"))
            if verb is None:
                raise WireError("nobody knows how to do this")
            answer = {"gave": verb(**message)}
        except (EOFError, TimeoutError):
            raise
        except (WireError, TooLong, KeyboardInterrupt) as error:
            if self.strict:
                raise
            answer = self._told(error)
        except BaseException as error:
            answer = self._told(error)
        answer["printed"] = self._printed()
        try:
            self._send(answer)
        except WireError as error:  # what was asked for cannot be sent
            self._send({**self._told(error), "printed": ""})

    def _call(self, number: int, method: str, grad: bool, args: Any, kwargs: Any) -> dict[str, Any]:
        if number not in self._lent or method not in self._methods[number]:
            raise WireError("a call of what was never lent")
        passed = Passed()
        before = torch.is_grad_enabled()
        positional, named = self._borrow(args, passed), self._borrow(kwargs, passed)
        if self.strict:
            self._spend(passed.given)
        torch.set_grad_enabled(grad is True)
        try:
            with self._around():
                target = self._lent[number]
                result = (getattr(target, method) if method else target)(*positional, **named)
        finally:
            after = torch.is_grad_enabled()
            torch.set_grad_enabled(before)
        outputs: list[Tensor] = []
        node = self._lend(result, Passed(), outputs)
        changed = [
            [k, each.detach()]
            for k, (each, old) in enumerate(zip(passed.given, passed.before, strict=True))
            if each.shape == old.shape and not mirrors.equal(each.detach(), old)
        ]
        keys, found = self._shared_parameters() if outputs else ([], [])
        graph = self._number()
        self._graphs[graph] = outputs, [*passed.leaves, *found]
        return {
            "result": node, "outputs": [each.detach() for each in outputs], "graph": graph,
            "of": keys, "changed": changed, "grad": after,
        }  # fmt: skip

    def _backward(self, graph: int, gradients: list[Tensor | None]) -> list[Tensor | None]:
        outputs, came_from = self._graphs[graph]
        pairs = [
            (each, push) for each, push in zip(outputs, gradients, strict=True) if push is not None
        ]
        if not pairs or not came_from:
            return [None] * len(came_from)
        ends, pushes = zip(*pairs, strict=True)
        found = torch.autograd.grad(ends, came_from, pushes, allow_unused=True, retain_graph=True)
        return list(found)

    def _spend(self, given: list[Tensor]) -> None:
        """What is computed here stays in bounds: attention takes rows · width² numbers."""
        rows = max((each.size(0) for each in given if each.dim()), default=1)
        width = max(
            (each.numel() // max(1, each.size(0)) for each in given if each.dim()), default=1
        )
        self._spent += 1 + rows * width**2
        if self._spent > WORK:
            raise WireError("more to compute than there is in any sentence")

    def _forget(self) -> None:
        self._spent = 0
        kept = self._lent.keys() & {1}
        self._lent = {number: self._lent[number] for number in kept}
        self._numbers = {id(each): number for number, each in self._lent.items()}
        self._borrowed = {number: each for number, each in self._borrowed.items() if number == 1}
        self._mine, self._theirs, self._graphs = {}, {}, {}

    def _shared_parameters(self) -> tuple[list[list[Any]], list[Tensor]]:
        """The parameters that both sides have: the keys by which the other finds them, and they."""
        keys, found = [], []
        for belongs, table in ((True, self._theirs), (False, self._mine)):  # to who is told, or not
            for number, shared in table.items():
                if places := shared.parameters():
                    keys.append([belongs, number, [i for i, _ in places]])
                    found += [each for _, each in places]
        return keys, found

    def _parameters(self, keys: Any) -> list[Tensor]:
        """Those that the other side has told the keys of."""
        found = []
        for belongs, number, places in keys:
            tensors = (self._mine if belongs else self._theirs)[number].tensors()
            found += [tensors[index(i, tensors)] for i in places]
        return found

    # Messages

    def _send(self, message: dict[str, Any]) -> None:
        random = torch.get_rng_state()
        news = {
            "structures": [
                [n, *new] for n, each in self._mine.items() if (new := self._new(n, each))
            ],
            "mine": [[n, new] for n, each in self._mine.items() if (new := each.news())],
            "yours": [[n, new] for n, each in self._theirs.items() if (new := each.news())],
            "generators": self._turned(),
            "random": None if torch.equal(random, self._rng) else random,
            "fresh": self._fresh,
        }
        told = {key: each for key, each in news.items() if isinstance(each, Tensor) or each}
        wire.send(self.connection, {**message, "news": told}, self.deadline)
        self._rng, self._fresh = random, False

    def _recv(self) -> dict[str, Any]:
        most = LARGEST if self.strict else wire.BLOB_BYTES
        message = wire.recv(self.connection, self.deadline, most)
        try:
            news = message.pop("news")
            if news.get("fresh") and not self.strict:
                self._forget()
            for number, structure, values in news.get("structures", ()):
                self._theirs[number]  # it is known
                self._mirrored(number, structure, values)
            for number, changed in news.get("mine", ()):
                self._keep(self._theirs[number].hear(changed))
            for number, changed in news.get("yours", ()):
                self._mine[number].hear(changed)
            for number, state in news.get("generators", ()):
                self._lent[number].set_state(_state(state))
            if "random" in news:
                self._rng = _state(news["random"])
                torch.set_rng_state(self._rng)
        except (LookupError, AttributeError, TypeError, ValueError, RuntimeError) as error:
            if isinstance(error, Broken):
                raise
            raise WireError(f"a message that means nothing: {error}") from error
        return message

    def _new(self, number: int, shared: Shared) -> list[Any] | None:
        """The structure of a module of ours and its weights, if another one was told."""
        root = self._lent[number]
        now = mirrors.layout(root, self._lend_unit)
        if now == shared.layout:
            return None
        self._mine[number] = shared = Shared.owned(root, now)
        return [json.dumps(now), shared.news()]

    def _turned(self) -> list[list[Any]]:
        """The generators of the other side that have been drawn from here."""
        turned = []
        for number, each in self._borrowed.items():
            if isinstance(each, torch.Generator):
                state = each.get_state()
                if not torch.equal(state, self._states[number]):
                    turned.append([number, state])
                    self._states[number] = state
        return turned

    def _keep(self, changed: Iterable[str]) -> None:
        """Whoever changes a part's weights behind the judge's back could make anything right."""
        for name in changed if self.strict else ():
            law = "A part leaves its weights as they are while it computes"
            raise Broken(law, f"{name} has changed")

    # Values

    def _lend(self, value: Any, passed: Passed, outputs: list[Tensor] | None = None) -> Any:
        """A value as it can be sent. Tuples are what means something else than itself."""
        match value:
            case Tensor():
                return self._lend_tensor(value, passed, outputs)
            case torch.Size():
                return value
            case list():
                return [self._lend(each, passed, outputs) for each in value]
            case tuple():
                return ("tuple", [self._lend(each, passed, outputs) for each in value])
            case dict() if all(isinstance(key, str) for key in value):
                return {key: self._lend(each, passed, outputs) for key, each in value.items()}
            case Mirror() | StandIn():
                return ("yours", value._number)
            case torch.Generator():
                return ("generator", self._lend_object(value), value.get_state())
            case None | bool() | int() | float() | str() | bytes():
                return value
            case torch.dtype() | torch.device():
                return value
        known = id(value) in self._numbers
        number = self._lend_object(value)
        if known:
            return ("mine", number)
        if isinstance(value, nn.Module):
            structure = mirrors.layout(value, self._lend_unit)
            self._mine[number] = shared = Shared.owned(value, structure)
            return ("module", number, json.dumps(structure), shared.news())
        told = mirrors.description(value)
        self._methods[number] = {*told["methods"], *([""] if told["callable"] else [])}
        return ("object", number, told)

    def _lend_tensor(self, value: Tensor, passed: Passed, outputs: list[Tensor] | None) -> Any:
        if outputs is not None and value.requires_grad:
            outputs.append(value)
            return ("output", len(outputs) - 1)
        passed.given.append(value)
        if value.requires_grad:
            passed.leaves.append(value)
        if not value.requires_grad and value.is_contiguous():
            return value
        strides = None if value.is_contiguous() else list(value.stride())
        return ("tensor", value.detach(), value.requires_grad, value.is_leaf, strides)

    def _lend_object(self, value: Any) -> int:
        number = self._numbers.get(id(value))
        if number is None:
            number = self._number()
            self._lent[number], self._numbers[id(value)] = value, number
            self._methods[number] = set()
        return number

    def _lend_unit(self, unit: nn.Module, methods: list[str]) -> int:
        """A submodule can be called as well."""
        number = self._lend_object(unit)
        self._methods[number] = {"", *methods}
        return number

    def _number(self) -> int:
        self._next += 1
        return self._next - 1

    def _borrow(self, node: Any, passed: Passed, outputs: list[Tensor] | None = None) -> Any:
        """What was lent, as it is used here."""
        match node:
            case Tensor():
                return self._given(node, passed)
            case list():
                return [self._borrow(each, passed, outputs) for each in node]
            case dict():
                return {key: self._borrow(each, passed, outputs) for key, each in node.items()}
            case ("tuple", [*items]):
                return tuple(self._borrow(each, passed, outputs) for each in items)
            case ("output", int(k)) if outputs is not None:
                return outputs[index(k, outputs)]
            case ("tensor", Tensor() as values, bool(learns), bool(leaf), strides):
                return self._given(_spread(values, strides), passed, learns, leaf)
            case ("yours", int(number)):
                return self._lent[number]
            case ("generator", int(number), Tensor() as state):
                return self._generator(number, state)
            case ("mine", int(number)):
                return self._borrowed[number]
            case ("object", int(number), dict(told)):
                self._borrowed[number] = mirrors.stand_in(number, told, self.call)
                return self._borrowed[number]
            case ("module", int(number), str(structure), values):
                self._mirrored(number, structure, values)
                return self._borrowed[number]
            case torch.Size() | None | bool() | int() | float() | str() | bytes():
                return node
            case torch.dtype() | torch.device():
                return node
        raise WireError("a value that means nothing")

    def _given(
        self, values: Tensor, passed: Passed, learns: bool = False, leaf: bool = True
    ) -> Tensor:
        """A tensor like the one that was passed: with gradients, and a leaf where that was one."""
        if learns:
            values.requires_grad_()
            passed.leaves.append(values)
            values = values if leaf else values.clone(memory_format=torch.preserve_format)
        passed.given.append(values)
        passed.before.append(values.detach().clone())
        return values

    def _generator(self, number: int, state: Tensor) -> torch.Generator:
        generator = self._borrowed.setdefault(number, torch.Generator())
        generator.set_state(_state(state))
        self._states[number] = state
        return generator

    def _mirrored(self, number: int, told: str, values: Any) -> None:
        """A module of the other side; its structure comes as text, which is read in one go."""
        structure = json.loads(told)
        before = self._weights(structure) if self.strict else []
        shared = Shared.mirrored(structure, values, self.call, self._borrowed.get)
        self._theirs[number] = shared
        for unit, each in zip(structure["units"], shared.units, strict=True):
            self._borrowed[unit["number"]] = each
        self._keep(name for name, unit, value in before
                   if not mirrors.equal(value, unit._parameters.get(name)))  # fmt: skip

    def _weights(self, structure: Any) -> list[tuple[str, nn.Module, Tensor]]:
        """Copies of the weights that those units have which are here already."""
        here = (self._borrowed.get(told["number"]) for told in structure["units"])
        return [
            (name, unit, each.detach().clone())
            for unit in here
            if isinstance(unit, Mirror)
            for name, each in unit._parameters.items()
            if each is not None
        ]

    # Errors

    def _told(self, error: BaseException) -> dict[str, Any]:
        """An error for the other side: its kind, its words, the line it comes from."""
        kind = next((each.__name__ for each in type(error).__mro__ if _is_known(each)), "")
        said = [error.msg] if isinstance(error, SyntaxError) else list(error.args[:4])
        args = [x if isinstance(x, (bool, int, float)) else str(x)[:MESSAGE] for x in said]
        if not kind:
            kind, args = "RuntimeError", [f"{type(error).__name__}: {error}"[:MESSAGE]]
        if self.strict:  # it is kept, what it came through is not
            error.__traceback__ = error.__context__ = None
        number = self._lend_object(error) if self.strict else getattr(error, "_number", 0)
        told = {"kind": kind, "name": type(error).__name__[:100], "args": args, "number": number}
        return {"raised": {**told, "place": self._place(error)[:MESSAGE]}}

    def _raise(self, told: Any) -> NoReturn:
        """The other side's error, as if it had happened here."""
        try:
            original = self._lent.get(told["number"]) if self.strict else None
            kind = getattr(builtins, told["kind"])
            if not _is_known(kind):
                raise WireError("an error of no kind")
            name = told["name"]
            of = kind if name == kind.__name__ else type(mirrors.name_of(name), (kind,), {})
            args = [each if isinstance(each, (bool, int, float)) else str(each)[:MESSAGE]
                    for each in told["args"][:4]]  # fmt: skip
            error = original if isinstance(original, BaseException) else _made(of, args)
            error.place = str(told["place"])[:MESSAGE]  # type: ignore[attr-defined]
            error._number = told["number"]  # type: ignore[attr-defined]
        except (WireError, LookupError, TypeError, AttributeError, ValueError) as fault:
            self.gone = _what_happened(fault)
            raise self.gone from None
        raise error


class _Through(torch.autograd.Function):
    """Results of the other side: backwards, they ask over there."""

    @staticmethod
    def forward(
        ctx: Any, peer: Peer, graph: int, outputs: list[Tensor], *came_from: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.peer, ctx.graph = peer, graph
        ctx.set_materialize_grads(False)
        return tuple(outputs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        pushes = [None if each is None else each.detach() for each in gradients]
        found = ctx.peer.ask("backward", graph=ctx.graph, gradients=pushes)
        return (None, None, None, None, *found)


def _spread(values: Tensor, strides: Any) -> Tensor:
    """The values in memory as the sender had them: a transpose is one, an `expand` too."""
    if strides is None:
        return values
    if len(strides) != values.dim() or not all(type(each) is int and each >= 0 for each in strides):
        raise WireError("strides that fit nothing")
    narrow = values
    for axis, stride in enumerate(strides):
        if stride == 0 and values.size(axis) > 1:
            narrow = narrow.narrow(axis, 0, 1)
    reach = 1 + sum((size - 1) * stride for size, stride in zip(narrow.shape, strides, strict=True))
    if reach > GAP * max(1, narrow.numel()):
        raise WireError("strides that reach too far")
    spread = torch.empty(reach, dtype=values.dtype, device=values.device)
    spread = spread.as_strided(narrow.shape, strides)
    return spread.copy_(narrow).expand(values.shape)


def _is_known(of: Any) -> bool:
    """Errors that may be raised on the other side: Python's own, none that stops a process."""
    if not isinstance(of, type) or getattr(builtins, of.__name__, None) is not of:
        return False
    return issubclass(of, Exception) or of is SystemExit


def _made(of: type[BaseException], args: list[Any]) -> BaseException:
    try:
        return of(*args)
    except TypeError:  # it wants other arguments than an error usually has
        return RuntimeError(f"{of.__name__}: {', '.join(map(str, args))}")


def _state(state: Any) -> Tensor:
    """The state of a generator, or of none."""
    if not isinstance(state, Tensor) or state.dtype != torch.uint8 or state.numel() != RNG:
        raise WireError("random numbers of no generator")
    return state


def _what_happened(error: Exception) -> Exception:
    if isinstance(error, TimeoutError):
        return TooLong("it ran out of time")
    if isinstance(error, EOFError):
        return Gone("The process it ran in has ended: too much memory, perhaps, or os._exit")
    return Gone(f"The process it ran in answers with what is no answer ({error})")
