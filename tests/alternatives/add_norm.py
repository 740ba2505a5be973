"""05 written otherwise."""

import torch
import torch.nn.functional as F
from torch import nn

from lab.parts import LayerNorm

# LayerNorm


class NormByVar(nn.Module):
    """torch's own mean and variance, and a reciprocal root."""

    def __init__(self, d_model, eps=1e-5):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(d_model))
        self.weight = nn.Parameter(torch.ones(d_model))
        self.eps = eps

    def forward(self, x):
        mean = x.mean(-1, keepdim=True)
        variance = x.var(-1, unbiased=False, keepdim=True)
        return (x - mean) * torch.rsqrt(variance + self.eps) * self.weight + self.bias


class NormByVarMean(nn.Module):
    """Powers in place of roots, addcmul in place of a product and a sum."""

    def __init__(self, d_model, eps=1e-5, *, device=None):
        super().__init__()
        self.epsilon = eps
        self.weight = nn.Parameter(torch.empty(d_model, device=device))
        self.bias = nn.Parameter(torch.empty(d_model, device=device))
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, tokens):
        variance, mean = torch.var_mean(tokens, dim=-1, correction=0, keepdim=True)
        normed = (tokens - mean) / (variance + self.epsilon) ** 0.5
        return torch.addcmul(self.bias, self.weight, normed)


class NormByEinsum(nn.Module):
    """Sums written out; the feature axis moved to the front and back."""

    def __init__(self, d_model, eps=1e-5):
        super().__init__()
        self.d_model, self.eps = d_model, eps
        self.register_parameter("weight", nn.Parameter(torch.full((d_model,), 1.0)))
        self.register_parameter("bias", nn.Parameter(torch.full((d_model,), 0.0)))

    def forward(self, x):
        features = x.movedim(-1, 0)
        centred = features - features.sum(0) / self.d_model
        variance = torch.einsum("d...,d...->...", centred, centred) / self.d_model
        normed = (centred / (variance + self.eps).sqrt()).movedim(0, -1)
        return normed * self.weight + self.bias


class NormTokenByToken(nn.Module):
    """One token after the other."""

    def __init__(self, d_model, eps=1e-5):
        super().__init__()
        self.weight, self.bias = nn.ParameterList([torch.ones(d_model), torch.zeros(d_model)])
        self.eps = eps

    def forward(self, x):
        tokens = [self.one(token) for token in x.reshape(-1, x.size(-1))]
        return torch.stack(tokens).reshape(x.shape)

    def one(self, token):
        deviations = token - token.mean()
        return self.weight * deviations / (deviations.pow(2).mean() + self.eps).sqrt() + self.bias


# AddNorm


class WithTorchsNorm(nn.Module):
    """nn.LayerNorm inside."""

    def __init__(self, d_model, dropout=0.1):
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, sublayer_output):
        return self.norm(self.dropout(sublayer_output) + x)


class WithFunctions(nn.Module):
    """Functions in place of modules; the norm gives its parameters only."""

    def __init__(self, d_model, dropout=0.1):
        super().__init__()
        self.p = dropout
        self.norm = nn.LayerNorm(d_model)

    def forward(self, residual, update):
        total = torch.add(residual, F.dropout(update, self.p, self.training))
        return F.layer_norm(total, total.shape[-1:], self.norm.weight, self.norm.bias, 1e-5)


class WithBranches(nn.Module):
    """Dropout by hand, and only where it does something."""

    def __init__(self, d_model, dropout=0.1, *, eps=1e-5):
        super().__init__()
        self.norm, self.keep = LayerNorm(d_model, eps), 1 - dropout

    def forward(self, x, sublayer_output):
        if self.training and self.keep < 1:
            kept = torch.rand_like(sublayer_output) < self.keep
            scaled = sublayer_output / max(self.keep, 1e-9)
            sublayer_output = torch.where(kept, scaled, torch.zeros_like(scaled))
        return self.norm(x + sublayer_output)


ALTERNATIVES = {
    "LayerNorm": [NormByVar, NormByVarMean, NormByEinsum, NormTokenByToken],
    "AddNorm": [WithTorchsNorm, WithFunctions, WithBranches],
}
