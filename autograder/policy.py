"""What a part must be written without: told in its stub, seen in its source and while it runs."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType, FunctionType, ModuleType
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from autograder.cells import nodes_of
from lab.course import PARTS

_ATTENTION = (
    "scaled_dot_product_attention",
    "multi_head_attention_forward",
    "MultiheadAttention",
)
_STACKS = (
    "Transformer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
    "TransformerDecoder",
    "TransformerDecoderLayer",
)

# By part, the names of torch that would do the exercise instead of the learner.
SHORTCUTS: dict[str, tuple[str, ...]] = {
    "softmax": ("softmax", "Softmax", "softmin", "log_softmax", "LogSoftmax", "logsumexp"),
    "soft_lookup": _ATTENTION,
    "scaled_dot_product_attention": _ATTENTION,
    "SelfAttention": _ATTENTION,
    "MultiHeadAttention": _ATTENTION,
    "LayerNorm": ("layer_norm", "native_layer_norm", "LayerNorm", "group_norm", "GroupNorm",
                  "batch_norm", "instance_norm", "rms_norm", "RMSNorm"),
    "EncoderLayer": (*_STACKS, *_ATTENTION),
    "Encoder": (*_STACKS, *_ATTENTION),
    "DecoderLayer": (*_STACKS, *_ATTENTION),
    "Decoder": (*_STACKS, *_ATTENTION),
    "Transformer": (*_STACKS, *_ATTENTION),
    "label_smoothing_loss": ("cross_entropy", "CrossEntropyLoss", "nll_loss", "NLLLoss",
                             "kl_div", "KLDivLoss"),
}  # fmt: skip

# Where finished parts stand. `lab.parts` is open, except for the part itself.
_FINISHED = ("lab.stock", "solutions", "autograder.mistakes")
_TORCH = str(Path(torch.__file__).parent)


def rule(part: str) -> str:
    """The policy in a sentence, for the stub; "" where everything may be used."""
    names = SHORTCUTS.get(part)
    if not names:
        return ""
    if set(_STACKS) <= set(names):
        return "Write it without torch's own Transformer and attention classes."
    return "Write it without torch's " + ", ".join(names[:-1]) + f" or {names[-1]}."


def in_source(part: str, source: str) -> str | None:
    """The shortcut that a part's source takes, in a sentence, or None."""
    banned = SHORTCUTS.get(part, ())
    nodes = nodes_of(source)
    own = {node.name for node in nodes if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    torchs = {"torch", "F", "nn", "functional"}  # names under which torch is known
    for node in nodes:
        match node:
            case ast.Import(names=names):
                for each in names:
                    torchs |= {each.asname} if each.asname and each.name[:5] == "torch" else set()
                    if _is_finished(each.name):
                        return _said(part, each.name, node.lineno)
            case ast.ImportFrom(module=module, names=names):
                for each in names:
                    of_torch = (module or "").startswith("torch")
                    if of_torch and each.name in banned:
                        return _said(part, each.name, node.lineno)
                    itself = module in ("lab.parts", "lab.decoding") and each.name == part
                    if itself or _is_finished(f"{module}.{each.name}"):
                        return _said(part, f"{module}.{each.name}", node.lineno)
            case ast.Attribute(value=value, attr=attr) if attr in banned:
                method = attr.islower() and attr not in own and not _of_self(value)
                if _root(value) in torchs or method:  # F.softmax, scores.softmax
                    return _said(part, attr, node.lineno)
            case ast.Constant(value=str(text)) if _is_finished(text):
                return _said(part, text, node.lineno)
            case ast.Attribute(value=ast.Name(id="torch"), attr="ops" | "_C"):
                return _said(part, f"torch.{node.attr}", node.lineno)
    return None


def in_names(part: str, source: str, namespace: dict[str, Any]) -> str | None:
    """The finished part that a source reaches by a name from another cell, or None."""
    finished = {name: home for name, each in namespace.items() if (home := _home(part, each))}
    finished = {name: home for name, home in finished.items() if home != namespace.get("__name__")}
    if not finished:
        return None
    names = [node for node in nodes_of(source) if isinstance(node, ast.Name)]
    own = {node.id for node in names if not isinstance(node.ctx, ast.Load)}
    own |= {node.arg for node in nodes_of(source) if isinstance(node, ast.arg)}
    for node in names:
        if node.id in finished and node.id not in own:
            return _said(part, f"{node.id} of {finished[node.id]}", node.lineno)
    return None


def _home(part: str, value: Any) -> str:
    """The module of something finished; "" where it is nothing of the kind."""
    if not isinstance(value, (ModuleType, FunctionType, type)):
        return ""
    home = str(value.__name__ if isinstance(value, ModuleType) else value.__module__)
    itself = home == "lab.decoding" and value.__name__ == part
    return home if itself or _is_finished(home) else ""


@contextmanager
def watching(
    part: str, namespace: dict[str, Any], seen: list[str] | None = None
) -> Iterator[list[str]]:
    """The shortcuts that code with this namespace takes while the block runs, in sentences."""
    seen = [] if seen is None else seen
    with _Watch(part, namespace, seen) if part in SHORTCUTS else nullcontext():
        yield seen


class _Watch(TorchFunctionMode):
    """Sees every call into torch, and who made it."""

    def __init__(self, part: str, namespace: dict[str, Any], seen: list[str]):
        super().__init__()
        self.part, self.namespace = part, namespace
        self.banned = SHORTCUTS.get(part, ())
        self.seen = seen

    def __torch_function__(
        self, function: Callable, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = getattr(function, "__name__", "")
        if name in self.banned and not self.seen:
            frame = _caller(sys._getframe(1))
            if frame is not None and frame.f_globals is self.namespace:
                self.seen.append(_said(self.part, name, frame.f_lineno))
        return function(*args, **(kwargs or {}))


def _caller(frame: FrameType | None) -> FrameType | None:
    """The nearest frame that is not torch's own."""
    while frame is not None and frame.f_code.co_filename.startswith(_TORCH):
        frame = frame.f_back
    return frame


def _said(part: str, name: str, line: int) -> str:
    return f"line {line} uses {name}; {part} is to be written without it. {rule(part)}".strip()


def _is_finished(module: str) -> bool:
    return any(module == each or module.startswith(each + ".") for each in _FINISHED)


def _root(node: ast.expr) -> str | None:
    while isinstance(node, ast.Attribute):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def _of_self(node: ast.expr) -> bool:
    """self.softmax is the learner's own attribute."""
    return isinstance(node, ast.Name) and node.id == "self"


assert set(SHORTCUTS) <= set(PARTS)
