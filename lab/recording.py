"""Every attention weight of a run, by kind, layer and head.

    with record(model) as attention:
        model(src, tgt)
    attention["cross"]  # [L, B, H, T, S]

L is the layers, the other letters as everywhere.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import get_ident

import torch
from jaxtyping import Float
from torch import Tensor, nn

# Where the contract puts each kind. "encoder" and "decoder" are self-attention.
KINDS = {
    "encoder": ("encoder", "self_attention"),
    "decoder": ("decoder", "self_attention"),
    "cross": ("decoder", "cross_attention"),
}


class Recording:
    """The weights of the calls so far: `recording[kind]` of the last one, `calls(kind)` of all."""

    def __init__(self, n_layers: dict[str, int]):
        self._layers = {kind: [[] for _ in range(count)] for kind, count in n_layers.items()}

    def __getitem__(self, kind: str) -> Float[Tensor, "L B H T S"]:
        calls = self.calls(kind)
        if not calls:
            raise LookupError(
                f"no {kind} attention was recorded: run the model inside `with record`"
            )
        return calls[-1]

    def calls(self, kind: str) -> list[Float[Tensor, "L B H T S"]]:
        if kind not in self._layers:
            raise KeyError(f"{kind!r}: choose from {', '.join(KINDS)}")
        return [torch.stack(of_layers) for of_layers in zip(*self._layers[kind], strict=False)]


@contextmanager
def record(model: nn.Module) -> Iterator[Recording]:
    """Record the attention weights of every call of `model` in the block; results do not change.

    Calls of other threads are theirs: sessions that share a model do not see each other's.
    Any implementation of the parts will do: the weights are the second result of the contract's
    attention modules.
    """
    here = get_ident()
    recording = Recording({kind: len(_layers(model, side)) for kind, (side, _) in KINDS.items()})
    with ExitStack() as hooks:
        for kind, (side, name) in KINDS.items():
            for layer, calls in zip(_layers(model, side), recording._layers[kind], strict=True):

                def keep(module: nn.Module, inputs: object, output: tuple, calls=calls) -> None:
                    if get_ident() == here:
                        calls.append(output[1].detach())

                hooks.enter_context(getattr(layer, name).register_forward_hook(keep))
        yield recording


def _layers(model: nn.Module, side: str) -> nn.ModuleList:
    return getattr(model, side).layers
