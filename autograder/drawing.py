"""Seeded random inputs for suites and tests."""

import torch
from torch import Tensor, nn


class Draw:
    """Seeded random inputs of one dtype. All that a gradient should reach is kept in `leaves`."""

    def __init__(self, dtype: torch.dtype, device: str = "cpu", seed: int = 0):
        self.dtype, self.device = dtype, device
        self.generator = torch.Generator().manual_seed(seed)
        self.leaves: list[Tensor] = []
        self.drawn: list[tuple[Tensor, Tensor]] = []  # each tensor and a copy of it

    def __call__(self, *shape: int) -> Tensor:
        """A leaf of normal numbers."""
        x = self.keep(self._normal(shape).to(self.dtype)).requires_grad_()
        self.leaves.append(x)
        return x

    def fill(self, module: nn.Module, std: float = 0.4) -> nn.Module:
        """The module in eval mode, no parameter left at its starting value.

        By name: the order in which a module was given its attributes changes no number.
        """
        module = module.to(self.device, self.dtype).eval()
        for _, parameter in sorted(module.named_parameters()):
            parameter.data.copy_(self._normal(parameter.shape) * std)
            self.leaves.append(parameter)
        return module

    def ids(self, *shape: int, low: int = 3, high: int = 11) -> Tensor:
        """Ids from low to high - 1."""
        return self.keep(torch.randint(low, high, shape, generator=self.generator))

    def sentences(self, batch: int, length: int, pad_id: int = 0, high: int = 11) -> Tensor:
        """Sentences of 1 to `length` ids, one of them full, padded at the end."""
        lengths = torch.randint(1, length + 1, (batch, 1), generator=self.generator)
        lengths[-1] = length
        ids = torch.randint(3, high, (batch, length), generator=self.generator)
        return self.keep(ids.masked_fill(torch.arange(length) >= lengths, pad_id))

    def mask(self, *shape: int) -> Tensor:
        """Half the pairs may look, and every query at the first key."""
        mask = torch.rand(shape, generator=self.generator) < 0.5
        mask[..., 0] = True
        return self.keep(mask)

    def untouched(self) -> bool:
        """Whether every tensor is as it was drawn."""
        return all(torch.equal(tensor, copy) for tensor, copy in self.drawn)

    def _normal(self, shape: tuple[int, ...]) -> Tensor:
        """The same numbers for every dtype."""
        return torch.randn(shape, generator=self.generator, dtype=torch.float64)

    def keep(self, tensor: Tensor) -> Tensor:
        """A tensor that is to stay as it is from here on."""
        tensor = tensor.to(self.device)
        self.drawn.append((tensor, tensor.detach().clone()))
        return tensor
