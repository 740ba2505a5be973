"""06 written otherwise."""

import torch
import torch.nn.functional as F
from torch import nn


class WithModules(nn.Module):
    """An nn.ReLU, a step a line."""

    def __init__(self, d_model, d_ff):
        super().__init__()
        self.linear2 = nn.Linear(d_ff, d_model)
        self.activation = nn.ReLU()
        self.linear1 = nn.Linear(d_model, d_ff)

    def forward(self, x):
        hidden = self.linear1(x)
        hidden = self.activation(hidden)
        return self.linear2(hidden)


class WithClamp(nn.Module):
    """max(0, …) as §3.3 writes it, a step in place on the hidden layer, an argument more."""

    def __init__(self, d_model, d_ff, *, bias=True):
        super().__init__()
        self.linear1 = nn.Linear(d_model, d_ff, bias=bias)
        self.linear2 = nn.Linear(d_ff, d_model, bias=bias)

    def forward(self, x):
        return self.linear2(self.linear1(x).clamp_(min=0))


class WithEinsum(nn.Module):
    """The products written out."""

    def __init__(self, d_model, d_ff):
        super().__init__()
        self.linear1, self.linear2 = nn.Linear(d_model, d_ff), nn.Linear(d_ff, d_model)

    def forward(self, x):
        hidden = torch.einsum("fd,...d->...f", self.linear1.weight, x) + self.linear1.bias
        hidden = torch.maximum(hidden, torch.zeros_like(hidden))
        return torch.einsum("df,...f->...d", self.linear2.weight, hidden) + self.linear2.bias


class WithFlatTokens(nn.Module):
    """All tokens in one long list, and back."""

    def __init__(self, d_model, d_ff):
        super().__init__()
        self.linear1 = nn.Linear(d_model, d_ff)
        self.linear2 = nn.Linear(d_ff, d_model)

    def forward(self, x):
        tokens = x.reshape(-1, x.shape[-1])
        return self.linear2(F.relu(self.linear1(tokens))).view_as(x)


class WithSharedModules(nn.Module):
    """A pipeline that is no submodule, so that each layer keeps one name."""

    def __init__(self, d_model, d_ff):
        super().__init__()
        self.linear1 = nn.Linear(d_model, d_ff)
        self.linear2 = nn.Linear(d_ff, d_model)
        self.dropout = nn.Dropout(0.0)

    def forward(self, x):
        for step in (self.linear1, F.relu, self.dropout, self.linear2):
            x = step(x)
        return x


ALTERNATIVES = {
    "FeedForward": [WithModules, WithClamp, WithEinsum, WithFlatTokens, WithSharedModules]
}
