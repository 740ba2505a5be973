"""06: what goes wrong in the feed-forward layer."""

import torch
import torch.nn.functional as F
from torch import nn

from autograder.mistakes import mistake


class _FeedForward(nn.Module):
    """Right as it stands; the mistakes below change one thing."""

    def __init__(self, d_model, d_ff):
        super().__init__()
        self.linear1 = nn.Linear(d_model, d_ff)
        self.linear2 = nn.Linear(d_ff, d_model)

    def forward(self, x):
        return self.linear2(torch.relu(self.linear1(x)))


def feed_forward_mistake(id, name, sentence, hint):
    return mistake("FeedForward", id, name, sentence, hint)


@feed_forward_mistake(
    "L6a",
    "a sentence becomes one long vector",
    "flatten(1) joins the tokens of a sentence, and the widths no longer fit.",
    "nn.Linear works on the last axis and leaves all others alone: pass x as it is.",
)
class Flattened(_FeedForward):
    def forward(self, x):
        return super().forward(x.flatten(1))


@feed_forward_mistake(
    "L6b",
    "the layer works along the tokens",
    "x is transposed, so linear1 meets T tokens where it expects D features.",
    "The features lie along the last axis already: no transpose.",
)
class Transposed(_FeedForward):
    def forward(self, x):
        return super().forward(x.transpose(-2, -1)).transpose(-2, -1)


@feed_forward_mistake(
    "L6c",
    "tokens are mixed",
    "The mean over the tokens is added: a token's result depends on its neighbours.",
    "Mixing is attention's work; here each token is alone.",
)
class MixesTokens(_FeedForward):
    def forward(self, x):
        hidden = torch.relu(self.linear1(x))
        if x.dim() > 1:
            hidden = hidden + hidden.mean(-2, keepdim=True)
        return self.linear2(hidden)


@feed_forward_mistake(
    "L7i",
    "the hidden units compete",
    "A softmax over the hidden units stands between the layers; the paper has a ReLU.",
    "max(0, …) treats each hidden unit by itself.",
)
class Softmaxed(_FeedForward):
    def forward(self, x):
        return self.linear2(torch.softmax(self.linear1(x), -1))


@feed_forward_mistake(
    "L7a",
    "no activation between the layers",
    "linear2(linear1(x)) is one linear layer, however wide the middle is.",
    "Bend in between: linear2(relu(linear1(x))).",
)
class NoActivation(_FeedForward):
    def forward(self, x):
        return self.linear2(self.linear1(x))


@feed_forward_mistake(
    "L7b",
    "ReLU after the second layer",
    "The result is cut, not the hidden layer: it is never negative, and the middle is linear.",
    "relu stands between linear1 and linear2.",
)
class ReluLast(_FeedForward):
    def forward(self, x):
        return torch.relu(self.linear2(self.linear1(x)))


@feed_forward_mistake(
    "L7c",
    "ReLU after both layers",
    "The result is cut as well, so this layer can only ever add, never take away.",
    "Nothing comes after linear2.",
)
class ReluTwice(_FeedForward):
    def forward(self, x):
        return torch.relu(self.linear2(torch.relu(self.linear1(x))))


@feed_forward_mistake(
    "L7d",
    "GELU in place of ReLU",
    "The activation is GELU, as in BERT and GPT; the paper's and this model's is ReLU.",
    "torch.relu: max(0, …).",
)
class Gelu(_FeedForward):
    def forward(self, x):
        return self.linear2(F.gelu(self.linear1(x)))


@feed_forward_mistake(
    "L7e",
    "ReLU before the first layer",
    "The input is cut: its negative features are lost before linear1 sees them.",
    "relu stands between linear1 and linear2.",
)
class ReluFirst(_FeedForward):
    def forward(self, x):
        return self.linear2(self.linear1(torch.relu(x)))


@feed_forward_mistake(
    "L7f",
    "sigmoid in place of ReLU",
    "The hidden units are squeezed between 0 and 1; ReLU leaves positive ones as they are.",
    "torch.relu: max(0, …).",
)
class Sigmoid(_FeedForward):
    def forward(self, x):
        return self.linear2(torch.sigmoid(self.linear1(x)))


@feed_forward_mistake(
    "L7g",
    "leaky ReLU",
    "Negative hidden units keep a hundredth of their value; max(0, …) leaves nothing of them.",
    "torch.relu: max(0, …).",
)
class Leaky(_FeedForward):
    def forward(self, x):
        return self.linear2(F.leaky_relu(self.linear1(x)))


@feed_forward_mistake(
    "L7h",
    "tanh in place of ReLU",
    "The hidden units are squeezed between -1 and 1; ReLU leaves positive ones as they are.",
    "torch.relu: max(0, …).",
)
class Tanh(_FeedForward):
    def forward(self, x):
        return self.linear2(torch.tanh(self.linear1(x)))


@feed_forward_mistake(
    "L1",
    "the input is added",
    "x is added to the result; the residual is AddNorm's work and would be added twice.",
    "Return what linear2 gives.",
)
class WithResidual(_FeedForward):
    def forward(self, x):
        return x + super().forward(x)


@feed_forward_mistake(
    "L5",
    "dropout between the layers",
    "Hidden units are dropped in training; this model drops only what leaves a sublayer (§5.4).",
    "No dropout here: AddNorm has it.",
)
class InnerDropout(_FeedForward):
    def forward(self, x):
        return self.linear2(F.dropout(torch.relu(self.linear1(x)), 0.5, self.training))


@feed_forward_mistake(
    "F1",
    "layers without bias",
    "The Linears have no bias; the paper's b₁ and b₂ are missing.",
    "nn.Linear has a bias unless it is told otherwise.",
)
class NoBias(_FeedForward):
    def __init__(self, d_model, d_ff):
        nn.Module.__init__(self)
        self.linear1 = nn.Linear(d_model, d_ff, bias=False)
        self.linear2 = nn.Linear(d_ff, d_model, bias=False)


@feed_forward_mistake(
    "F2",
    "the argument d_ff is not used",
    "The hidden width is 4 · d_model whatever was asked for.",
    "nn.Linear(d_model, d_ff), nn.Linear(d_ff, d_model)",
)
class FixedWidth(_FeedForward):
    def __init__(self, d_model, d_ff):
        super().__init__(d_model, 4 * d_model)


@feed_forward_mistake(
    "F3",
    "the two sizes are swapped",
    "linear1 goes from d_ff to D and linear2 from D to d_ff: nn.Linear takes the input's width "
    "first.",
    "nn.Linear(in_features, out_features): linear1 is nn.Linear(d_model, d_ff).",
)
class SwappedSizes(_FeedForward):
    def __init__(self, d_model, d_ff):
        super().__init__(d_ff, d_model)


@feed_forward_mistake(
    "F4",
    "layers in an nn.Sequential",
    "The parameters are called net.0.weight and so on; the contract's are linear1 and linear2.",
    "self.linear1 = …, self.linear2 = …: trained weights are found by their names.",
)
class Sequential(nn.Module):
    def __init__(self, d_model, d_ff):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(d_model, d_ff), nn.ReLU(), nn.Linear(d_ff, d_model))

    def forward(self, x):
        return self.net(x)


@feed_forward_mistake(
    "A11",
    "the input is changed in place",
    "relu_ with its underscore overwrites the caller's tensor.",
    "torch.relu(self.linear1(x)) touches no input.",
)
class InPlace(_FeedForward):
    def forward(self, x):
        return super().forward(x.relu_())


@feed_forward_mistake(
    "F5",
    "linear2 has its widths the wrong way round",
    "linear2 takes D numbers and gives d_ff; what it is given is d_ff wide, and should become D.",
    "nn.Linear(d_ff, d_model): what comes in first, what goes out second.",
)
class SecondTheWrongWay(_FeedForward):
    def __init__(self, d_model, d_ff):
        super().__init__(d_model, d_ff)
        self.linear2 = nn.Linear(d_model, d_ff)
