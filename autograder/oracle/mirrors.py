"""Modules that live in another process, as modules of this one.

A mirror has the structure, the names, the weights and the plain attributes of the module it stands
for; what it computes is computed over there. Weights, gradients and modes are kept the same on both
sides: each side notes what it last told or heard, and tells what has changed since.
"""

from __future__ import annotations

import functools
import inspect
import itertools
import keyword
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from autograder.oracle.wire import WireError
from lab import stock
from lab.course import PARTS

Ask = Callable[[int, str, tuple, dict], Any]  # number, method ("" to call it), args, kwargs
NAME = 100  # characters of a name
METHODS = 100  # of one object


def _is_module(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, nn.Module)


OF_ALL = frozenset(vars(nn.Module()))  # what every module has
OF_TORCH = {f"nn.{name}": each for name, each in vars(nn).items() if _is_module(each)}


@functools.cache
def kinds() -> dict[str, type]:
    """The classes that a mirror can be an instance of: torch's modules and the stock parts."""
    parts = {f"stock.{name}": getattr(stock, name) for name in PARTS if hasattr(stock, name)}
    return OF_TORCH | {name: each for name, each in parts.items() if _is_module(each)}


def base_of(kind: str) -> type:
    """What a mirror can do by itself. What stock's parts add is asked over there: no method of a
    reference runs in the place of a learner's."""
    return nn.Module if kind.startswith("stock.") else kinds()[kind]


@functools.cache
def kind_of(of: type) -> str:
    """The nearest class above it that both sides know; "" where there is none."""
    known = {each: name for name, each in kinds().items()}
    return next((known[each] for each in of.__mro__ if each in known), "")


# What there is to tell of an object


def description(value: Any) -> dict[str, Any]:
    """An object that is no module, as the other side gets it: methods and plain attributes."""
    told = {"name": type(value).__name__, "callable": callable(value), **_extras(value, object)}
    if isinstance(value, torch.optim.Optimizer):
        told["methods"] = ["step", "zero_grad"]
    return told


def layout(root: nn.Module, number: Callable[[nn.Module, list[str]], int]) -> dict[str, Any]:
    """The structure of a module: its submodules by path, and where its tensors stand.

    `units` are the different modules, `tensors` says [unit, name, tensor, kind] of each entry.
    """
    paths = list(root.named_modules(remove_duplicate=False))
    units = list(dict.fromkeys(unit for _, unit in paths))
    where = {unit: i for i, unit in enumerate(units)}
    seen: dict[int, int] = {}
    entries = [
        [i, name, -1 if each is None else seen.setdefault(id(each), len(seen)), kind]
        for i, unit in enumerate(units)
        for name, each, kind in _entries(unit)
    ]
    return {
        "paths": [[path, where[unit]] for path, unit in paths],
        "units": [_unit(unit, number) for unit in units],
        "entries": entries,
    }


def _unit(unit: nn.Module, number: Callable[[nn.Module, list[str]], int]) -> dict[str, Any]:
    kind = kind_of(type(unit))
    extras = _extras(unit, base_of(kind))
    told = {"name": type(unit).__name__, "kind": kind, "number": number(unit, extras["methods"])}
    return told | extras


def _entries(unit: nn.Module) -> Iterator[tuple[str, Tensor | None, str]]:
    for name, each in unit._parameters.items():
        yield name, each, "parameter"
    for name, each in unit._buffers.items():
        passing = name in unit._non_persistent_buffers_set
        yield name, each, "passing" if passing else "buffer"


def _extras(value: Any, base: type) -> dict[str, Any]:
    """Public methods and plain attributes that objects of the base have not."""
    methods = list(_methods(type(value), base))
    attributes, others = {}, []  # others are there, and stay there
    for name in (*_constants(type(value), base), *getattr(value, "__dict__", ())):
        if name in OF_ALL or name.startswith("_"):
            continue
        try:
            each = getattr(value, name)
        except Exception:  # a property of the learner's; whoever asks for it will see
            continue
        if _is_plain(each):
            attributes[name] = each
        elif callable(each) and not isinstance(each, nn.Module) and name not in methods:
            methods.append(name)
        elif name not in methods:
            others.append(name)
    return {"methods": methods, "attributes": attributes, "others": others}


@functools.cache
def _methods(of: type, base: type) -> tuple[str, ...]:
    return tuple(name for name in _own(of, base) if callable(inspect.getattr_static(of, name)))


@functools.cache
def _constants(of: type, base: type) -> tuple[str, ...]:
    return tuple(name for name in _own(of, base) if not callable(inspect.getattr_static(of, name)))


def _own(of: type, base: type) -> list[str]:
    inherited = {*dir(base), *(dir(nn.Module) if issubclass(of, nn.Module) else ())}
    return [name for name in dir(of) if not name.startswith("_") and name not in inherited]


def _is_plain(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return len(value) <= 16 and all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))


# Objects of the other side


class StandIn:
    """An object of the other side that is no module."""

    _number = 0
    _ask: Ask


class Mirror(nn.Module):
    """A module of the other side. Its structure is here; calling it asks over there."""

    _number: int
    _ask: Ask

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._ask(self._number, "", args, kwargs)


def stand_in(number: int, told: dict[str, Any], ask: Ask) -> StandIn:
    """What the other side described, with its methods and attributes."""
    made = _class(name_of(told["name"]), StandIn, None, _names(told["methods"]), told["callable"])()
    return _dressed(made, number, told, ask)


def unit(number: int, told: dict[str, Any], ask: Ask) -> Mirror:
    """A mirror without its submodules and tensors."""
    kind = kinds().get(told["kind"])
    if kind is None:
        raise WireError("a module of no kind")
    reserved = base_of(told["kind"])
    of = _class(name_of(told["name"]), Mirror, kind, _names(told["methods"]), False, reserved)
    made: Mirror = object.__new__(of)
    nn.Module.__init__(made)
    return _dressed(made, number, told, ask)


def _dressed(made: Any, number: int, told: dict[str, Any], ask: Ask) -> Any:
    vars(made).update(_number=number, _ask=ask)
    dress(made, told)
    return made


def dress(made: Any, told: dict[str, Any]) -> None:
    """Give a mirror the attributes that were told. None of them may hide what a module can do."""
    for name, value in told["attributes"].items():
        if _is_plain(value) and not hasattr(nn.Module, name_of(name)):
            vars(made)[name] = tuple(value) if isinstance(value, list) else value
    for name in told["others"]:
        if not hasattr(nn.Module, name_of(name)):
            vars(made)[name] = StandIn()


@functools.lru_cache(maxsize=1_000)
def _class(
    name: str,
    of: type,
    kind: type | None,
    methods: tuple[str, ...],
    called: bool,
    reserved: type = object,
) -> type[Any]:
    """A class for mirrors of one kind. Nothing that torch's modules have is overridden."""
    own = {} if kind is None else {each: _method(each) for each in _methods(kind, reserved)}
    own |= {each: _method(each) for each in methods if each not in dir(reserved)}
    body: dict[str, Any] = own
    if called:
        body["__call__"] = _method("")
    return type(name, (of, kind) if kind else (of,), body)


def _method(name: str) -> Callable[..., Any]:
    def ask(self: Any, *args: Any, **kwargs: Any) -> Any:
        return self._ask(self._number, name, args, kwargs)

    ask.__name__ = name or "__call__"
    return ask


def _names(names: Any) -> tuple[str, ...]:
    if not isinstance(names, list) or len(names) > METHODS:
        raise WireError("methods that are no list")
    return tuple(name_of(each) for each in names)


def name_of(name: Any) -> str:
    """An identifier that hides nothing of Python's."""
    named = isinstance(name, str) and name.isidentifier() and len(name) <= NAME
    if not named or keyword.iskeyword(name) or name.startswith("__"):
        raise WireError("a name that is none")
    return name


# Weights, gradients and modes, the same on both sides


@dataclass
class Shared:
    """A module that both sides have: its structure, and what was last told of it."""

    layout: dict[str, Any]
    units: list[nn.Module]
    told: dict[int, tuple[Tensor, Tensor | None, bool]] = field(default_factory=dict)
    modes: list[bool] = field(default_factory=list)

    @classmethod
    def owned(cls, root: nn.Module, structure: dict[str, Any]) -> Shared:
        """One of this side's own."""
        return cls(structure, list(dict.fromkeys(root.modules())))

    @classmethod
    def mirrored(
        cls, structure: dict[str, Any], values: Any, ask: Ask, known: Callable[[int], Any]
    ) -> Shared:
        """One of the other side's. Mirrors and weights that are there already are used again."""
        units = []
        for told in structure["units"]:
            old = known(told["number"])
            if old is None:
                old = unit(told["number"], told, ask)
            else:
                dress(old, told)
            units.append(old)
        shared = cls(structure, units)
        shared._hang(structure["paths"])
        shared._check_paths(structure["paths"])
        shared._fill(values)
        return shared

    def _hang(self, paths: Any) -> None:
        """Each unit under its name in the unit above it."""
        for each in self.units:
            each._modules.clear()
        by_path: dict[str, nn.Module] = {}
        for path, at in paths:
            by_path[path] = self.units[index(at, self.units)]
            above, _, name = path.rpartition(".")
            if path:
                by_path[above]._modules[_key(name)] = by_path[path]

    def _check_paths(self, paths: Any) -> None:
        """No way through the modules but those that were told: few can make billions of them."""
        found = self.units[0].named_modules(remove_duplicate=False)
        if sum(1 for _ in itertools.islice(found, len(paths) + 1)) != len(paths):
            raise WireError("modules without an end")

    def _fill(self, values: Any) -> None:
        """All tensors, in the places of the structure."""
        sent = {i: each for i, each, _, _ in values if i >= 0}
        filled: dict[int, Tensor] = {}
        for each in self.units:
            kept = {**each._parameters, **each._buffers}
            each._parameters.clear()
            each._buffers.clear()
            vars(each)["_kept"] = kept
        for at, name, which, kind in self.layout["entries"]:
            each = self.units[index(at, self.units)]
            if which >= 0 and which not in filled:
                filled[which] = _placed(sent[which], vars(each)["_kept"].get(name), kind)
            if kind == "parameter":
                each._parameters[_key(name)] = filled.get(which)  # type: ignore[assignment]
            else:
                each.register_buffer(_key(name), filled.get(which), kind == "buffer")
        for each in self.units:
            del vars(each)["_kept"]
        self.hear(values)

    def tensors(self) -> list[Tensor]:
        """The different tensors, in the order of the structure."""
        found: dict[int, Tensor] = {}
        for at, name, which, kind in self.layout["entries"]:
            if which >= 0:
                found[which] = self._table(at, kind)[name]
        return [found[which] for which in range(len(found))]

    def _table(self, at: int, kind: str) -> dict[str, Any]:
        return self.units[at]._parameters if kind == "parameter" else self.units[at]._buffers

    def parameters(self) -> list[tuple[int, Tensor]]:
        """Those that learn, each with its place among the tensors."""
        return [(i, each) for i, each in enumerate(self.tensors()) if each.requires_grad]

    def news(self) -> list[list[Any]]:
        """What has changed on this side since it was last told: [place, values, gradient, learns].

        Place -1 stands for the modes of all units.
        """
        changed: list[list[Any]] = []
        for i, each in enumerate(self.tensors()):
            if i not in self.told or not _is_same(each, self.told[i]):
                changed.append([i, each.detach(), each.grad, each.requires_grad])
                self._note(i, each)
        modes = [each.training for each in self.units]
        if modes != self.modes:
            changed.append([-1, modes, None, False])
            self.modes = modes
        return changed

    def hear(self, changed: Any) -> list[str]:
        """Take over what the other side tells; the names of parameters with other values."""
        names = []
        for i, values, gradient, learns in changed:
            if i == -1:
                self._hear_modes(values)
                continue
            tensors = self.tensors()
            current = tensors[index(i, tensors)]
            if not equal(current.detach(), values):
                names += [n for _, n, which, kind in self.layout["entries"]
                          if which == i and kind == "parameter"]  # fmt: skip
                current = self._replace(i, current, values)
            if current.is_leaf and current.is_floating_point():
                current.requires_grad_(learns)
            if gradient is None or _fits(current, gradient):
                current.grad = gradient
            self._note(i, current)
        return names

    def _replace(self, i: int, current: Tensor, values: Tensor) -> Tensor:
        """Other values in the same tensor where that can be: somebody may hold it."""
        current.grad = None
        if _fits(current, values):
            current.data.copy_(values)
        elif current.device == values.device:
            current.data = values
        else:  # a tensor cannot move to another device
            current = nn.Parameter(values) if isinstance(current, nn.Parameter) else values
            for at, name, which, kind in self.layout["entries"]:
                if which == i:
                    self._table(at, kind)[name] = current
        return current

    def _hear_modes(self, modes: Any) -> None:
        if len(modes) != len(self.units) or not all(isinstance(mode, bool) for mode in modes):
            raise WireError("modes of other modules")
        self.modes = modes
        for each, mode in zip(self.units, modes, strict=True):
            each.training = mode

    def _note(self, i: int, each: Tensor) -> None:
        gradient = None if each.grad is None else each.grad.clone()
        self.told[i] = each.detach().clone(), gradient, each.requires_grad


def _placed(values: Any, kept: Any, kind: str) -> Tensor:
    """A tensor for values; the one that was there before, if they fit."""
    if not isinstance(values, Tensor):
        raise WireError("weights that are none")
    if isinstance(kept, Tensor) and _fits(kept, values):
        return kept
    return nn.Parameter(values, requires_grad=False) if kind == "parameter" else values


def _is_same(each: Tensor, told: tuple[Tensor, Tensor | None, bool]) -> bool:
    values, gradient, learns = told
    if each.requires_grad != learns or (each.grad is None) != (gradient is None):
        return False
    if gradient is not None and each.grad is not None and not equal(each.grad, gradient):
        return False
    return equal(each.detach(), values)


def equal(one: Tensor, other: Any) -> bool:
    """Bit for bit, NaN included."""
    if not isinstance(other, Tensor) or not _fits(one, other):
        return False
    if one.device.type == "meta" or torch.equal(one, other):
        return True
    return (
        one.is_floating_point()
        and torch.equal(one.isnan(), other.isnan())
        and torch.equal(one.nan_to_num(), other.nan_to_num())
    )


def _fits(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and one.device == other.device


def index(at: Any, of: list[Any]) -> int:
    if type(at) is not int or not 0 <= at < len(of):
        raise WireError("a place that is not there")
    return at


def _key(name: Any) -> str:
    if not isinstance(name, str) or "." in name or not 0 < len(name) <= NAME:
        raise WireError("a name that is none")
    return name
