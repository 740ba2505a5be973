"""What each part of a model is given and gives, in the order of the forward pass.

    trace = Trace()
    with parts.using(trace.watched(stock)):
        model = build(config)
        trace.hook(model)
        model(src, tgt)
    trace.calls[0]  # Call("sinusoidal_positions", …)

The same code watches stock's model on the page and a learner's part in its own process.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

GIVES = {  # what a part with two results calls them
    "soft_lookup": ("output", "weights"),
    "scaled_dot_product_attention": ("output", "weights"),
    "SelfAttention": ("output", "weights"),
    "MultiHeadAttention": ("output", "weights"),
}


@dataclass
class Call:
    """One call of a part. `place` is the path of the module it is, or stands in."""

    part: str
    place: str
    args: list[Any]
    kwargs: dict[str, Any]
    made: tuple[list[Any], dict[str, Any]] | None  # what a module was made with
    begun: int = 0  # its first and last place among the trace's tensors
    ended: int = 0
    gave: tuple[Any, ...] = ()


@dataclass
class Seen:
    """A tensor on its way: `name` is the argument it is given as, or the result it is."""

    place: str  # of a layer, or a function's name
    name: str
    value: Tensor


@dataclass
class Trace:
    """The calls of parts, in the order in which they end, and every tensor between them."""

    calls: list[Call] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    _made: dict[nn.Module, tuple[str, list[Any], dict[str, Any]]] = field(default_factory=dict)
    _within: list[str] = field(default_factory=lambda: [""])
    _open: list[Call] = field(default_factory=list)

    def watched(self, parts: Mapping[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
        """These parts, each telling the trace of its calls."""
        return {part: self._watched(part, each) for part, each in parts.items()}

    def _watched(self, part: str, implementation: Callable[..., Any]) -> Callable[..., Any]:
        def make(*args: Any, **kwargs: Any) -> nn.Module:
            module = implementation(*args, **kwargs)
            self._made[module] = part, list(args), kwargs
            return module

        def call(*args: Any, **kwargs: Any) -> Any:
            begun = Call(part, self._within[-1], list(args), kwargs, None, len(self.seen))
            self._see(part, given(implementation, args, kwargs))
            result = implementation(*args, **kwargs)
            self._end(begun, part, result)
            return result

        return make if isinstance(implementation, type) else call

    def hook(self, model: nn.Module) -> None:
        """Watch the model's modules; those that are parts are calls as well."""
        for path, module in model.named_modules():
            module.register_forward_pre_hook(self._enter(path), with_kwargs=True)
            module.register_forward_hook(self._leave(path), with_kwargs=True)

    def _enter(self, path: str) -> Callable[..., None]:
        def enter(module: nn.Module, args: tuple, kwargs: dict) -> None:
            part, made_args, made_kwargs = self._made.get(module, ("", [], {}))
            made = made_args, made_kwargs
            call = Call(part, path, list(args), kwargs, made, len(self.seen))
            self._open.append(call)
            self._within.append(path)
            self._see(path, given(module.forward, args, kwargs))

        return enter

    def _leave(self, path: str) -> Callable[..., None]:
        def leave(module: nn.Module, args: tuple, kwargs: dict, result: Any) -> None:
            self._within.pop()
            self._end(self._open.pop(), path, result)

        return leave

    def _end(self, call: Call, place: str, result: Any) -> None:
        call.gave = result if isinstance(result, tuple) else (result,)
        self._see(place, zip(names(call.part, len(call.gave)), call.gave, strict=True))
        call.ended = len(self.seen)
        if call.part:
            self.calls.append(call)

    def _see(self, place: str, values: Any) -> None:
        for name, value in values:
            if isinstance(value, Tensor):  # a copy: somebody may change it in place
                self.seen.append(Seen(place, name, value.detach().clone()))

    def inside(self, call: Call) -> Iterator[Seen]:
        """What was seen within a call of a part, places as seen from there."""
        root = f"{call.place}." if call.made and call.place else ""
        for each in self.seen[call.begun : call.ended]:
            if call.made and each.place == call.place:
                yield Seen("", each.name, each.value)
            elif not call.made and each.place == call.part:
                yield Seen("", each.name, each.value)
            else:
                yield Seen(each.place.removeprefix(root), each.name, each.value)


def given(function: Callable[..., Any], args: tuple, kwargs: dict) -> list[tuple[str, Any]]:
    """Arguments with their names: [("query", …), ("mask", …)]."""
    try:
        bound = inspect.signature(function).bind(*args, **kwargs).arguments
    except (TypeError, ValueError):
        return [*((str(i), each) for i, each in enumerate(args)), *kwargs.items()]
    return list(bound.items())


def names(part: str, count: int) -> tuple[str, ...]:
    """What the results of a part are called."""
    usual = GIVES.get(part, ("output",))
    return usual if count == len(usual) else tuple(f"output {i + 1}" for i in range(count))
