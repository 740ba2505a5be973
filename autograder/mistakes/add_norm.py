"""05: what goes wrong in add and norm."""

import torch
import torch.nn.functional as F
from torch import nn

from autograder.mistakes import mistake
from lab.parts import LayerNorm

# LayerNorm. Right as it stands; the mistakes below change one step.


class _Norm(nn.Module):
    def __init__(self, d_model, eps=1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model))

    def mean(self, x):
        return x.mean(-1, keepdim=True)

    def variance(self, x):
        return x.var(-1, correction=0, keepdim=True)

    def denominator(self, variance):
        return torch.sqrt(variance + self.eps)

    def normalised(self, x):
        return (x - self.mean(x)) / self.denominator(self.variance(x))

    def forward(self, x):
        return self.weight * self.normalised(x) + self.bias


def norm_mistake(id, name, sentence, hint):
    return mistake("LayerNorm", id, name, sentence, hint)


@norm_mistake(
    "N1a",
    "variance divided by D - 1",
    "The variance is torch's default, divided by D - 1; a layer norm divides by D.",
    "x.var(-1, correction=0, keepdim=True), or the mean of the squared deviations.",
)
class Unbiased(_Norm):
    def variance(self, x):
        return x.var(-1, keepdim=True)


@norm_mistake(
    "N1b",
    "the Annotated Transformer's formula",
    "The deviation is x.std(-1), divided by D - 1, with eps added after the root; torch's norm "
    "divides by D and puts eps under the root.",
    "√(variance + eps), with the variance divided by D.",
)
class Annotated(_Norm):
    def normalised(self, x):
        return (x - self.mean(x)) / (x.std(-1, keepdim=True) + self.eps)


@norm_mistake(
    "N2",
    "epsilon outside the root",
    "eps is added to the standard deviation; it belongs to the variance, under the root.",
    "torch.sqrt(variance + eps)",
)
class EpsOutside(_Norm):
    def normalised(self, x):
        return (x - self.mean(x)) / (x.std(-1, correction=0, keepdim=True) + self.eps)


@norm_mistake(
    "N3a",
    "no eps",
    "There is no eps: a token whose features are all alike becomes 0 / 0 = NaN.",
    "torch.sqrt(variance + eps)",
)
class NoEps(_Norm):
    def denominator(self, variance):
        return torch.sqrt(variance)


@norm_mistake(
    "N3b",
    "the argument eps is not used",
    "eps is 1e-5 whatever was asked for.",
    "Keep it: self.eps = eps.",
)
class FixedEps(_Norm):
    def denominator(self, variance):
        return torch.sqrt(variance + 1e-5)


@norm_mistake(
    "N3c",
    "the square of eps under the root",
    "eps is squared before it is added; it is added as it is.",
    "torch.sqrt(variance + eps)",
)
class SquaredEps(_Norm):
    def denominator(self, variance):
        return torch.sqrt(variance + self.eps**2)


@norm_mistake(
    "N4a",
    "normed over the first axis",
    "Mean and variance are taken over axis 0: sentences of a batch mix.",
    "The features of one token lie along the last axis: dim=-1.",
)
class OverBatch(_Norm):
    def mean(self, x):
        return x.mean(0, keepdim=True)

    def variance(self, x):
        return x.var(0, correction=0, keepdim=True)


@norm_mistake(
    "N4b",
    "normed over the tokens",
    "Mean and variance are taken over the tokens of a sentence, feature by feature.",
    "The features of one token lie along the last axis: dim=-1.",
)
class OverTokens(_Norm):
    axis = -2

    def mean(self, x):
        return x.mean(self.axis, keepdim=True)

    def variance(self, x):
        return x.var(self.axis, correction=0, keepdim=True)


@norm_mistake(
    "N4c",
    "normed over a whole sentence",
    "All tokens of a sentence share one mean and one variance; each token has its own.",
    "dim=-1, not dim=(-2, -1).",
)
class OverSentence(OverTokens):
    axis = (-2, -1)


@norm_mistake(
    "N4d",
    "normed over everything",
    "x.mean() without an axis is one number for the whole batch; each token has its own.",
    "x.mean(dim=-1, keepdim=True)",
)
class OverAll(_Norm):
    def mean(self, x):
        return x.mean()

    def variance(self, x):
        return x.var(correction=0)


@norm_mistake(
    "N4e",
    "keepdim is missing",
    "Without keepdim=True the means are [B, T] and meet [B, T, D]: the axes do not line up.",
    "x.mean(dim=-1, keepdim=True) is [B, T, 1], and that broadcasts.",
)
class NoKeepdim(_Norm):
    def mean(self, x):
        return x.mean(-1)

    def variance(self, x):
        return x.var(-1, correction=0)


@norm_mistake(
    "N5a",
    "scale and shift are not used",
    "The parameters are there, but the result is the same whatever they are.",
    "Return weight * normalised + bias.",
)
class Unused(_Norm):
    def forward(self, x):
        return self.normalised(x)


@norm_mistake(
    "N5b",
    "one γ and one β for all features",
    "weight and bias are single numbers; each feature has its own.",
    "nn.Parameter(torch.ones(d_model)) and nn.Parameter(torch.zeros(d_model))",
)
class Scalars(_Norm):
    def __init__(self, d_model, eps=1e-5):
        super().__init__(1, eps)


@norm_mistake(
    "N5c",
    "the shift β is not added",
    "The bias is a parameter that nothing reads.",
    "Return weight * normalised + bias.",
)
class NoBeta(_Norm):
    def forward(self, x):
        return self.weight * self.normalised(x)


@norm_mistake(
    "N5d",
    "scale and shift swapped",
    "bias scales and weight shifts; weight is γ, the scale.",
    "weight * normalised + bias",
)
class SwappedRoles(_Norm):
    def __init__(self, d_model, eps=1e-5):
        super().__init__(d_model, eps)
        self.weight = nn.Parameter(torch.zeros(d_model))
        self.bias = nn.Parameter(torch.ones(d_model))

    def forward(self, x):
        return self.bias * self.normalised(x) + self.weight


@norm_mistake(
    "N5e",
    "the shift β is scaled too",
    "The shift is added before the scale: γ · (normalised + β).",
    "First the scale, then the shift: weight * normalised + bias.",
)
class ShiftFirst(_Norm):
    def forward(self, x):
        return self.weight * (self.normalised(x) + self.bias)


@norm_mistake(
    "N5f",
    "the scale γ starts at zero",
    "weight begins as zeros, so an untrained norm gives zeros for everything.",
    "γ starts at ones, β at zeros.",
)
class ZeroGamma(_Norm):
    def __init__(self, d_model, eps=1e-5):
        super().__init__(d_model, eps)
        self.weight = nn.Parameter(torch.zeros(d_model))


@norm_mistake(
    "N5g",
    "weight and bias are no parameters",
    "weight and bias are plain tensors: no optimizer trains and no checkpoint keeps them.",
    "Wrap each: self.weight = nn.Parameter(torch.ones(d_model)).",
)
class PlainTensors(_Norm):
    def __init__(self, d_model, eps=1e-5):
        super().__init__(d_model, eps)
        del self.weight, self.bias
        self.weight, self.bias = torch.ones(d_model), torch.zeros(d_model)

    def forward(self, x):
        return self.weight.to(x) * self.normalised(x) + self.bias.to(x)


@norm_mistake(
    "N5h",
    "other names than weight and bias",
    "The parameters are called gamma and beta; the contract's are weight and bias, as in torch.",
    "self.weight = nn.Parameter(…), self.bias = nn.Parameter(…)",
)
class GreekNames(_Norm):
    def __init__(self, d_model, eps=1e-5):
        super().__init__(d_model, eps)
        del self.weight, self.bias
        self.gamma = nn.Parameter(torch.ones(d_model))
        self.beta = nn.Parameter(torch.zeros(d_model))

    def forward(self, x):
        return self.gamma * self.normalised(x) + self.beta


@norm_mistake(
    "N6",
    "mean and variance are cut from the graph",
    "The values are right, the gradients are not: mean and variance are treated as constants.",
    "Both are made of x, and the gradient has to know: no .detach(), .data or .item() on them.",
)
class Detached(_Norm):
    def mean(self, x):
        return super().mean(x).detach()

    def variance(self, x):
        return super().variance(x).detach()


@norm_mistake(
    "N7a",
    "the mean is not taken off (RMS norm)",
    "x is divided by the root of its mean square, without taking the mean off: that is RMS norm.",
    "Centre first: x - mean, then divide.",
)
class RootMeanSquare(_Norm):
    def normalised(self, x):
        return x / self.denominator(x.square().mean(-1, keepdim=True))


@norm_mistake(
    "N7b",
    "divided, not centred",
    "The standard deviation is right, but x is divided by it without taking the mean off.",
    "(x - mean) / √(variance + eps)",
)
class NotCentred(_Norm):
    def normalised(self, x):
        return x / self.denominator(self.variance(x))


@norm_mistake(
    "N8",
    "variance as E[x²] - E[x]²",
    "Two large, nearly equal numbers are subtracted: far from zero float32 loses the variance.",
    "Take the mean off first, then square: (x - mean)².",
)
class DifferenceOfSquares(_Norm):
    def variance(self, x):
        return x.square().mean(-1, keepdim=True) - x.mean(-1, keepdim=True).square()


@norm_mistake(
    "N9",
    "divided by the variance",
    "The root is missing: the deviations are divided by the variance.",
    "Divide by torch.sqrt(variance + eps).",
)
class NoRoot(_Norm):
    def denominator(self, variance):
        return variance + self.eps


@norm_mistake(
    "N10",
    "only centred",
    "The mean is taken off, but nothing is divided: the scale stays as it was.",
    "Divide by torch.sqrt(variance + eps).",
)
class OnlyCentred(_Norm):
    def normalised(self, x):
        return x - self.mean(x)


@norm_mistake(
    "N11",
    "the input is changed in place",
    "x -= mean overwrites the caller's tensor.",
    "x - mean makes a new one.",
)
class InPlace(_Norm):
    def normalised(self, x):
        variance = self.variance(x)
        x -= self.mean(x)
        return x / self.denominator(variance)


# AddNorm


class _AddNorm(nn.Module):
    """Right as it stands; the mistakes below change one thing."""

    def __init__(self, d_model, dropout=0.1):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.norm = LayerNorm(d_model)

    def forward(self, x, sublayer_output):
        return self.norm(x + self.dropout(sublayer_output))


def add_mistake(id, name, sentence, hint):
    return mistake("AddNorm", id, name, sentence, hint)


@add_mistake(
    "L1a",
    "the residual is missing",
    "Only the sublayer's output is normed; x, which should be added to it, is lost.",
    "norm(x + dropout(sublayer_output))",
)
class NoResidual(_AddNorm):
    def forward(self, x, sublayer_output):
        return self.norm(self.dropout(sublayer_output))


@add_mistake(
    "L1b",
    "the sublayer's output is lost",
    "Only x is normed; what the sublayer found never arrives.",
    "norm(x + dropout(sublayer_output))",
)
class NoSublayer(_AddNorm):
    def forward(self, x, sublayer_output):
        return self.norm(x) + 0 * sublayer_output


@add_mistake(
    "L2a",
    "the residual is added after the norm",
    "x + norm(sublayer_output): the sum itself is not normed.",
    "First add, then norm: norm(x + dropout(sublayer_output)).",
)
class ResidualAfterNorm(_AddNorm):
    def forward(self, x, sublayer_output):
        return x + self.norm(self.dropout(sublayer_output))


@add_mistake(
    "L2b",
    "the normed input is the residual",
    "norm(x) + sublayer_output: only the input is normed, and the sum is not.",
    "First add, then norm: norm(x + dropout(sublayer_output)).",
)
class NormedResidual(_AddNorm):
    def forward(self, x, sublayer_output):
        return self.norm(x) + self.dropout(sublayer_output)


@add_mistake(
    "L2c",
    "both are normed, then added",
    "norm(x) + norm(sublayer_output): two norms before the sum, none after it.",
    "First add, then norm: norm(x + dropout(sublayer_output)).",
)
class BothNormed(_AddNorm):
    def forward(self, x, sublayer_output):
        return self.norm(x) + self.norm(self.dropout(sublayer_output))


@add_mistake(
    "L2d",
    "the residual is added twice",
    "x + norm(x + sublayer_output): x is added once more after the norm.",
    "One residual, before the norm.",
)
class TwoResiduals(_AddNorm):
    def forward(self, x, sublayer_output):
        return x + self.norm(x + self.dropout(sublayer_output))


@add_mistake(
    "L3",
    "pre-norm: the second argument is called",
    "sublayer_output is called as a function, as the Annotated Transformer's pre-norm "
    "SublayerConnection does; here it is a tensor, what the sublayer has given.",
    "Nothing is called but norm and dropout; sublayer_output is there already.",
)
class PreNorm(_AddNorm):
    def forward(self, x, sublayer_output):
        return x + self.dropout(sublayer_output(self.norm(x)))


@add_mistake(
    "N12a",
    "the norm is missing",
    "The sum comes back as it is: it grows with every layer.",
    "Return self.norm(x + …).",
)
class NoNorm(_AddNorm):
    def forward(self, x, sublayer_output):
        return x + self.dropout(sublayer_output)


@add_mistake(
    "N12b",
    "a new norm in every call",
    "The norm is made in forward, so its γ and β are never trained or saved.",
    "Make it once, in __init__: self.norm = LayerNorm(d_model).",
)
class FreshNorm(nn.Module):
    def __init__(self, d_model, dropout=0.1):
        super().__init__()
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, sublayer_output):
        return F.layer_norm(x + self.dropout(sublayer_output), x.shape[-1:])


@add_mistake(
    "N12c",
    "the norm has another name",
    "The norm is a submodule, but it is not called `norm`.",
    "self.norm = LayerNorm(d_model): trained weights are found by their names.",
)
class OtherName(_AddNorm):
    def __init__(self, d_model, dropout=0.1):
        super().__init__(d_model, dropout)
        self.layer_norm = self.norm
        del self.norm

    def forward(self, x, sublayer_output):
        return self.layer_norm(x + self.dropout(sublayer_output))


@add_mistake(
    "L5a",
    "no dropout",
    "Nothing is dropped in training.",
    "norm(x + dropout(sublayer_output))",
)
class NoDropout(_AddNorm):
    def forward(self, x, sublayer_output):
        return self.norm(x + sublayer_output)


@add_mistake(
    "L5b",
    "dropout in eval mode too",
    "Numbers are dropped in eval mode as well: F.dropout is on unless it is told otherwise.",
    "Use an nn.Dropout, or F.dropout(…, training=self.training).",
)
class AlwaysDropout(_AddNorm):
    def forward(self, x, sublayer_output):
        return self.norm(x + F.dropout(sublayer_output, self.dropout.p))


@add_mistake(
    "L5c",
    "dropout on the sum",
    "The residual is dropped out together with the sublayer's output; x should get through whole.",
    "Dropout takes sublayer_output alone; the sum comes after it.",
)
class DropsSum(_AddNorm):
    def forward(self, x, sublayer_output):
        return self.norm(self.dropout(x + sublayer_output))


@add_mistake(
    "L5d",
    "dropout on the residual",
    "x is dropped out instead of the sublayer's output.",
    "norm(x + dropout(sublayer_output))",
)
class DropsResidual(_AddNorm):
    def forward(self, x, sublayer_output):
        return self.norm(self.dropout(x) + sublayer_output)


@add_mistake(
    "L5e",
    "dropout after the norm",
    "What the norm gives is dropped out; dropout comes before the sum.",
    "norm(x + dropout(sublayer_output))",
)
class DropsNormed(_AddNorm):
    def forward(self, x, sublayer_output):
        return self.dropout(self.norm(x + sublayer_output))


@add_mistake(
    "L5f",
    "the argument dropout is not used",
    "Dropout is 0.1 whatever was asked for.",
    "nn.Dropout(dropout)",
)
class FixedDropout(_AddNorm):
    def __init__(self, d_model, dropout=0.1):
        super().__init__(d_model, 0.1)


@add_mistake(
    "A11",
    "the input is changed in place",
    "x += … overwrites the caller's tensor.",
    "x + … makes a new one.",
)
class AddsInPlace(_AddNorm):
    def forward(self, x, sublayer_output):
        x += self.dropout(sublayer_output)
        return self.norm(x)
