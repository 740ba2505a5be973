"""07: what goes wrong in the encoder's layer and in the stack."""

import torch
import torch.nn.functional as F
from torch import nn

from autograder.mistakes import mistake
from lab.parts import AddNorm, EncoderLayer, FeedForward, MultiHeadAttention, causal_mask

# EncoderLayer


class _Layer(nn.Module):
    """Right as it stands; the mistakes below change one method."""

    def __init__(self, d_model, n_heads, d_ff, dropout=0.1):
        super().__init__()
        self.self_attention = MultiHeadAttention(d_model, n_heads)
        self.add_norm1 = AddNorm(d_model, dropout)
        self.feed_forward = FeedForward(d_model, d_ff)
        self.add_norm2 = AddNorm(d_model, dropout)

    def forward(self, x, mask=None):
        x = self.add_norm1(x, self.attend(x, mask))
        return self.add_norm2(x, self.feed_forward(x))

    def attend(self, x, mask=None):
        return self.self_attention(x, x, x, mask)[0]


def layer_mistake(id, name, sentence, hint):
    return mistake("EncoderLayer", id, name, sentence, hint)


@layer_mistake(
    "L1a",
    "no residual around attention",
    "The first add-and-norm does not add x: what attention did not copy of a token is lost.",
    "add_norm1 takes two things: x, and what attention made of it.",
)
class NoFirstResidual(_Layer):
    def forward(self, x, mask=None):
        x = self.add_norm1.norm(self.attend(x, mask))
        return self.add_norm2(x, self.feed_forward(x))


@layer_mistake(
    "L1b",
    "no residual around feed-forward",
    "The second add-and-norm does not add x: only what feed-forward says of a token is left.",
    "add_norm2 takes two things: x, and what feed-forward made of it.",
)
class NoSecondResidual(_Layer):
    def forward(self, x, mask=None):
        x = self.add_norm1(x, self.attend(x, mask))
        return self.add_norm2.norm(self.feed_forward(x))


@layer_mistake(
    "L1c",
    "the sublayer's output is added to itself",
    "add_norm1 gets the attended tokens twice and x not at all: there is no residual path.",
    "The first argument is what went into the sublayer, the second what came out.",
)
class AddedToItself(_Layer):
    def forward(self, x, mask=None):
        attended = self.attend(x, mask)
        x = self.add_norm1(attended, attended)
        return self.add_norm2(x, self.feed_forward(x))


@layer_mistake(
    "L1d",
    "the residual is added twice",
    "x is added to each sublayer's output, and then AddNorm adds it again: norm(2x + sublayer).",
    "AddNorm adds; hand it the sublayer's output alone.",
)
class AddedTwice(_Layer):
    def forward(self, x, mask=None):
        x = self.add_norm1(x, x + self.attend(x, mask))
        return self.add_norm2(x, x + self.feed_forward(x))


@layer_mistake(
    "L2",
    "the second residual starts from the layer's input",
    "add_norm2 adds the x that came into the layer, so what attention gathered is lost again "
    "except where feed-forward repeats it.",
    "After add_norm1, go on with its result: x = add_norm1(x, …).",
)
class SecondResidualFromTheInput(_Layer):
    def forward(self, x, mask=None):
        attended = self.add_norm1(x, self.attend(x, mask))
        return self.add_norm2(x, self.feed_forward(attended))


@layer_mistake(
    "L2b",
    "the residual is taken from the normalised x",
    "x is normalised first, and the normalised x is added to the sublayer's output.",
    "AddNorm does it all: x as it came plus the sublayer's output, and the norm of that sum.",
)
class ResidualOfTheNormalised(_Layer):
    def forward(self, x, mask=None):
        x = self.add_norm1.norm(x)
        x = self.add_norm2.norm(x + self.attend(x, mask))
        return x + self.feed_forward(x)


@layer_mistake(
    "L3",
    "pre-norm",
    "The norm stands before each sublayer, x + sublayer(norm(x)); the paper's is norm(x + "
    "sublayer(x)).",
    "Call the sublayer on x, then add_norm on x and the result (post-norm, §3.1).",
)
class PreNorm(_Layer):
    def forward(self, x, mask=None):
        x = x + self.attend(self.add_norm1.norm(x), mask)
        return x + self.feed_forward(self.add_norm2.norm(x))


@layer_mistake(
    "L4",
    "sublayers side by side",
    "Feed-forward reads the layer's input, not what attention made of it: nobody thinks about "
    "what was gathered.",
    "One after the other: feed_forward gets the result of add_norm1.",
)
class Parallel(_Layer):
    def forward(self, x, mask=None):
        attended = self.add_norm1(x, self.attend(x, mask))
        return self.add_norm2(attended, self.feed_forward(x))


@layer_mistake(
    "L4b",
    "feed-forward before attention",
    "The tokens think first and look at each other afterwards; it should be the other way round.",
    "Self-attention with add_norm1 comes first, feed_forward with add_norm2 second.",
)
class FeedForwardFirst(_Layer):
    def forward(self, x, mask=None):
        x = self.add_norm1(x, self.feed_forward(x))
        return self.add_norm2(x, self.attend(x, mask))


@layer_mistake(
    "L7",
    "feed-forward is left out",
    "After attention the layer ends: feed_forward and add_norm2 are made, but never called.",
    "Return add_norm2(x, feed_forward(x)).",
)
class NoFeedForward(_Layer):
    def forward(self, x, mask=None):
        return self.add_norm1(x, self.attend(x, mask))


@layer_mistake(
    "L8a",
    "the first add-and-norm used twice",
    "Both sublayers end in add_norm1; add_norm2 never learns.",
    "The second sublayer has an add-and-norm of its own: self.add_norm2.",
)
class FirstNormTwice(_Layer):
    def forward(self, x, mask=None):
        x = self.add_norm1(x, self.attend(x, mask))
        return self.add_norm1(x, self.feed_forward(x))


@layer_mistake(
    "L8b",
    "one add-and-norm under two names",
    "add_norm1 and add_norm2 are one module: its γ and β must do for both sublayers.",
    "Make two: AddNorm(…) is called once for each.",
)
class SharedNorm(_Layer):
    def __init__(self, d_model, n_heads, d_ff, dropout=0.1):
        super().__init__(d_model, n_heads, d_ff, dropout)
        self.add_norm2 = self.add_norm1


@layer_mistake(
    "L11",
    "one norm too many",
    "The layer's result is normalised once more on its way out.",
    "add_norm2 is the last thing a layer does.",
)
class ExtraNorm(_Layer):
    def forward(self, x, mask=None):
        x = super().forward(x, mask)
        return F.layer_norm(x, x.shape[-1:])


@layer_mistake(
    "L5a",
    "dropout is not passed on",
    "AddNorm is made without the dropout that was asked for, and takes its own 0.1.",
    "AddNorm(d_model, dropout), both times.",
)
class DropoutNotPassed(_Layer):
    def __init__(self, d_model, n_heads, d_ff, dropout=0.1):
        super().__init__(d_model, n_heads, d_ff)


@layer_mistake(
    "L5b",
    "dropout on the residual",
    "The arguments of add_norm are swapped: dropout falls on x, and the sublayer's output passes "
    "whole.",
    "add_norm(x, sublayer_output): x first.",
)
class DroppedResidual(_Layer):
    def forward(self, x, mask=None):
        x = self.add_norm1(self.attend(x, mask), x)
        return self.add_norm2(self.feed_forward(x), x)


@layer_mistake(
    "L5c",
    "dropout twice",
    "The layer drops from each sublayer's output, and AddNorm drops from it again.",
    "Leave dropout to AddNorm; the layer needs none of its own.",
)
class DroppedTwice(_Layer):
    def __init__(self, d_model, n_heads, d_ff, dropout=0.1):
        super().__init__(d_model, n_heads, d_ff, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, mask=None):
        x = self.add_norm1(x, self.dropout(self.attend(x, mask)))
        return self.add_norm2(x, self.dropout(self.feed_forward(x)))


@layer_mistake(
    "L5d",
    "dropout in eval mode",
    "F.dropout drops in eval mode too, unless it is told: the model answers at random.",
    "Leave dropout to AddNorm, whose nn.Dropout knows the mode.",
)
class DropoutAlways(_Layer):
    def __init__(self, d_model, n_heads, d_ff, dropout=0.1):
        super().__init__(d_model, n_heads, d_ff, 0.0)
        self.dropout = dropout

    def forward(self, x, mask=None):
        x = self.add_norm1(x, F.dropout(self.attend(x, mask), self.dropout))
        return self.add_norm2(x, F.dropout(self.feed_forward(x), self.dropout))


@layer_mistake(
    "M0",
    "the mask is not passed on",
    "A mask changes nothing: it never reaches self_attention, and padding is read like words.",
    "self_attention(x, x, x, mask)",
)
class NoMask(_Layer):
    def attend(self, x, mask=None):
        return self.self_attention(x, x, x)[0]


@layer_mistake(
    "M1",
    "mask upside down",
    "The mask is turned over on its way: True means a token MAY look, here and in self_attention.",
    "Pass the mask on as it came.",
)
class InvertedMask(_Layer):
    def attend(self, x, mask=None):
        return self.self_attention(x, x, x, None if mask is None else ~mask)[0]


@layer_mistake(
    "M12",
    "a causal mask in the encoder",
    "No token sees what stands after it. The source is there as a whole: every token may look at "
    "all of it.",
    "Pass on the mask that was given, and add none; only the decoder hides the future.",
)
class Causal(_Layer):
    def attend(self, x, mask=None):
        causal = causal_mask(x.size(1), x.device)
        return self.self_attention(x, x, x, causal if mask is None else mask & causal)[0]


@layer_mistake(
    "H13",
    "attention's two results are not taken apart",
    "self_attention gives (output, weights), and the pair goes into add_norm1.",
    "attended, _ = self.self_attention(x, x, x, mask)",
)
class PairNotTakenApart(_Layer):
    def attend(self, x, mask=None):
        return self.self_attention(x, x, x, mask)


@layer_mistake(
    "H13b",
    "the weights are returned too",
    "The layer gives (x, weights); it should give x alone, for the next layer to read.",
    "return x",
)
class ReturnsWeights(_Layer):
    def forward(self, x, mask=None):
        attended, weights = self.self_attention(x, x, x, mask)
        x = self.add_norm1(x, attended)
        return self.add_norm2(x, self.feed_forward(x)), weights


@layer_mistake(
    "H12",
    "the argument d_ff is not used",
    "Feed-forward is always four times as wide as the tokens, whatever d_ff says.",
    "FeedForward(d_model, d_ff)",
)
class IgnoresWidth(_Layer):
    def __init__(self, d_model, n_heads, d_ff, dropout=0.1):
        super().__init__(d_model, n_heads, 4 * d_model, dropout)


@layer_mistake(
    "H12b",
    "the argument n_heads is not used",
    "Attention has one head, whatever n_heads says.",
    "MultiHeadAttention(d_model, n_heads)",
)
class OneHead(_Layer):
    def __init__(self, d_model, n_heads, d_ff, dropout=0.1):
        super().__init__(d_model, 1, d_ff, dropout)


@layer_mistake(
    "L11c",
    "one add-and-norm does the work of two",
    "The layer has a single add_norm; each sublayer is followed by one of its own.",
    "self.add_norm1 = …, self.add_norm2 = …: two AddNorms, each with its own γ and β.",
)
class OneAddNorm(_Layer):
    def __init__(self, d_model, n_heads, d_ff, dropout=0.1):
        super().__init__(d_model, n_heads, d_ff, dropout)
        del self.add_norm1, self.add_norm2
        self.add_norm = AddNorm(d_model, dropout)

    def forward(self, x, mask=None):
        x = self.add_norm(x, self.attend(x, mask))
        return self.add_norm(x, self.feed_forward(x))


# Encoder


class _Stack(nn.Module):
    """Right as it stands; the mistakes below change one method."""

    def __init__(self, n_layers, d_model, n_heads, d_ff, dropout=0.1):
        super().__init__()
        self.layers = nn.ModuleList(
            EncoderLayer(d_model, n_heads, d_ff, dropout) for _ in range(n_layers)
        )

    def forward(self, x, mask=None):
        for layer in self.layers:
            x = layer(x, mask)
        return x


def stack_mistake(id, name, sentence, hint):
    return mistake("Encoder", id, name, sentence, hint)


@stack_mistake(
    "L9a",
    "one layer, many times",
    "[layer] * n is one layer n times over: all share one set of weights.",
    "Make each layer anew: EncoderLayer(…) for _ in range(n_layers).",
)
class SharedLayer(_Stack):
    def __init__(self, n_layers, d_model, n_heads, d_ff, dropout=0.1):
        nn.Module.__init__(self)
        layer = EncoderLayer(d_model, n_heads, d_ff, dropout)
        self.layers = nn.ModuleList([layer] * n_layers)


@stack_mistake(
    "L9b",
    "only the first layer runs",
    "layers[0] is called again and again; the other layers never learn.",
    "Call each layer once: for layer in self.layers.",
)
class FirstLayerAgain(_Stack):
    def forward(self, x, mask=None):
        for _ in self.layers:
            x = self.layers[0](x, mask)
        return x


@stack_mistake(
    "H10",
    "layers in a plain list",
    "Layers in a Python list are invisible to PyTorch: no optimizer and no checkpoint finds them.",
    "nn.ModuleList holds layers, and registers them.",
)
class PlainList(_Stack):
    def __init__(self, n_layers, d_model, n_heads, d_ff, dropout=0.1):
        nn.Module.__init__(self)
        self.layers = [EncoderLayer(d_model, n_heads, d_ff, dropout) for _ in range(n_layers)]


@stack_mistake(
    "L11a",
    "a norm after the last layer",
    "The result is normalised once more. Each layer ends in a norm already (post-norm); a final "
    "one belongs to pre-norm models.",
    "Return what the last layer gives.",
)
class FinalNorm(_Stack):
    def __init__(self, n_layers, d_model, n_heads, d_ff, dropout=0.1):
        super().__init__(n_layers, d_model, n_heads, d_ff, dropout)
        self.norm = nn.LayerNorm(d_model)

    def forward(self, x, mask=None):
        return self.norm(super().forward(x, mask))


@stack_mistake(
    "L11b",
    "a residual around the stack",
    "The input is added to the result. Residuals run around each sublayer, not around the stack.",
    "Return what the last layer gives.",
)
class ResidualAroundAll(_Stack):
    def forward(self, x, mask=None):
        return x + super().forward(x, mask)


@stack_mistake(
    "L4c",
    "every layer reads the input",
    "Each layer gets the tokens as they came in; only the last one's result counts.",
    "Write x = layer(x, mask), so that the next layer reads what this one gave.",
)
class AllFromTheInput(_Stack):
    def forward(self, x, mask=None):
        result = x
        for layer in self.layers:
            result = layer(x, mask)
        return result


@stack_mistake(
    "L4d",
    "what the layers give is thrown away",
    "layer(x, mask) is called, but its result is not kept: x comes out as it went in.",
    "x = layer(x, mask)",
)
class ResultNotKept(_Stack):
    def forward(self, x, mask=None):
        for layer in self.layers:
            layer(x, mask)
        return x


@stack_mistake(
    "L4e",
    "return inside the loop",
    "The stack returns after its first layer: the others never run.",
    "Let `return x` stand after the loop, not in it.",
)
class ReturnsEarly(_Stack):
    def forward(self, x, mask=None):
        for layer in self.layers:
            return layer(x, mask)


@stack_mistake(
    "L4f",
    "the layers run from last to first",
    "The last layer reads the tokens first. Trained weights stand in the order of the list.",
    "for layer in self.layers",
)
class Reversed(_Stack):
    def forward(self, x, mask=None):
        for layer in reversed(self.layers):
            x = layer(x, mask)
        return x


@stack_mistake(
    "M0a",
    "the mask is not passed on",
    "A mask changes nothing: it never reaches the layers.",
    "layer(x, mask)",
)
class NoMaskInTheStack(_Stack):
    def forward(self, x, mask=None):
        return super().forward(x)


@stack_mistake(
    "M0b",
    "only the first layer gets the mask",
    "From the second layer on, hidden tokens are looked at.",
    "Every layer attends, so every layer needs the mask: layer(x, mask).",
)
class MaskForTheFirst(_Stack):
    def forward(self, x, mask=None):
        for layer in self.layers:
            x, mask = layer(x, mask), None
        return x


@stack_mistake(
    "L5a",
    "dropout is not passed on",
    "The layers are made without the dropout that was asked for, and take their own 0.1.",
    "EncoderLayer(d_model, n_heads, d_ff, dropout)",
)
class StackWithoutDropout(_Stack):
    def __init__(self, n_layers, d_model, n_heads, d_ff, dropout=0.1):
        super().__init__(n_layers, d_model, n_heads, d_ff)


@stack_mistake(
    "L9c",
    "the argument n_layers is not used",
    "There are always six layers, the paper's number, whatever n_layers says.",
    "for _ in range(n_layers)",
)
class AlwaysSix(_Stack):
    def __init__(self, n_layers, d_model, n_heads, d_ff, dropout=0.1):
        super().__init__(6, d_model, n_heads, d_ff, dropout)


@stack_mistake(
    "H13",
    "all layers' results are returned",
    "The stack gives one result per layer; the decoder needs the last one alone.",
    "Return x after the loop.",
)
class ReturnsAll(_Stack):
    def forward(self, x, mask=None):
        results = []
        for layer in self.layers:
            x = layer(x, mask)
            results.append(x)
        return torch.stack(results)
