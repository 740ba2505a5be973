"""Torch's own layers as an independent opinion on the parts."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

TORCHS_NAME = {
    "self_attention": "self_attn",
    "cross_attention": "multihead_attn",
    "add_norm1.norm": "norm1",
    "add_norm2.norm": "norm2",
    "add_norm3.norm": "norm3",
    "feed_forward.": "",
}

TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}  # a few thousand roundings of each dtype


def ask(layer: nn.Module, part: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """What a layer of torch's answers with the parameters of a part, gradients included."""
    parameters = in_torchs_names(dict(part.named_parameters()))
    return functional_call(layer, parameters, args, kwargs, strict=True)


def in_torchs_names(parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    """The contract's parameters as torch's layers name them: q, k and v in one matrix."""
    named = {}
    for name, parameter in parameters.items():
        for ours, theirs in TORCHS_NAME.items():
            name = name.replace(ours, theirs)
        named[name] = parameter
    for name in [name for name in named if "q_proj" in name]:
        stacked = [
            named.pop(name.replace("q_proj", each)) for each in ("q_proj", "k_proj", "v_proj")
        ]
        named[name.replace("q_proj.", "in_proj_")] = torch.cat(stacked)
    return named


def hidden(mask: Tensor | None, *sizes: int) -> Tensor | None:
    """Torch's form of a mask, for sizes B, H, T, S: [B*H, T, S], True means "may not look"."""
    return None if mask is None else ~mask.expand(sizes).flatten(0, 1)


def assert_same(
    ours: Tensor | Sequence[Tensor], theirs: Tensor | Sequence[Tensor], leaves: Iterable[Tensor]
) -> None:
    """Equal results, and for the same random push on them equal gradients in every leaf."""
    ours, theirs = ([x] if isinstance(x, Tensor) else list(x) for x in (ours, theirs))
    leaves = list(leaves)
    generator = torch.Generator().manual_seed(1)
    push = [torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x) for x in theirs]

    near: dict[str, Any] = {"rtol": TOLERANCE[theirs[0].dtype], "atol": TOLERANCE[theirs[0].dtype]}
    torch.testing.assert_close(ours, theirs, **near)
    torch.testing.assert_close(
        torch.autograd.grad(ours, leaves, push), torch.autograd.grad(theirs, leaves, push), **near
    )
