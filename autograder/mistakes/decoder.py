"""08: what goes wrong in the decoder's layer and in the stack."""

import torch
import torch.nn.functional as F
from torch import nn

from autograder.mistakes import mistake
from lab.parts import AddNorm, DecoderLayer, FeedForward, MultiHeadAttention, causal_mask

# DecoderLayer


class _Layer(nn.Module):
    """Right as it stands; the mistakes below change one method."""

    def __init__(self, d_model, n_heads, d_ff, dropout=0.1):
        super().__init__()
        self.self_attention = MultiHeadAttention(d_model, n_heads)
        self.add_norm1 = AddNorm(d_model, dropout)
        self.cross_attention = MultiHeadAttention(d_model, n_heads)
        self.add_norm2 = AddNorm(d_model, dropout)
        self.feed_forward = FeedForward(d_model, d_ff)
        self.add_norm3 = AddNorm(d_model, dropout)

    def forward(self, x, memory, self_mask=None, cross_mask=None):
        x = self.add_norm1(x, self.look_back(x, self_mask))
        x = self.add_norm2(x, self.look_across(x, memory, cross_mask))
        return self.add_norm3(x, self.feed_forward(x))

    def look_back(self, x, mask):
        return self.self_attention(x, x, x, mask)[0]

    def look_across(self, x, memory, mask):
        return self.cross_attention(x, memory, memory, mask)[0]


def layer_mistake(id, name, sentence, hint):
    return mistake("DecoderLayer", id, name, sentence, hint)


@layer_mistake(
    "H11",
    "cross-attention attends to itself",
    "Keys and values of cross_attention come from x: the source has no effect on the translation.",
    "cross_attention(x, memory, memory, cross_mask): the target asks, the source answers.",
)
class CrossAttendsToItself(_Layer):
    def look_across(self, x, memory, mask):
        return self.cross_attention(x, x, x, mask)[0]


@layer_mistake(
    "L10a",
    "the memory asks",
    "The queries of cross_attention come from memory, keys and values from x: the result has a "
    "row per source token, and the target needs one per target token.",
    "cross_attention(x, memory, memory, cross_mask): one answer for each who asks.",
)
class MemoryAsks(_Layer):
    def look_across(self, x, memory, mask):
        return self.cross_attention(memory, x, x, mask)[0]


@layer_mistake(
    "L10b",
    "values from the target",
    "cross_attention compares x with memory and then takes its means of x: keys and values must "
    "come from the same tokens.",
    "Keys and values are two views of one thing, the memory.",
)
class ValuesFromTheTarget(_Layer):
    def look_across(self, x, memory, mask):
        return self.cross_attention(x, memory, x, mask)[0]


@layer_mistake(
    "L10c",
    "keys from the target",
    "cross_attention compares x with itself, but takes its means of memory: keys and values must "
    "come from the same tokens.",
    "Keys and values are two views of one thing, the memory.",
)
class KeysFromTheTarget(_Layer):
    def look_across(self, x, memory, mask):
        return self.cross_attention(x, x, memory, mask)[0]


@layer_mistake(
    "L10d",
    "cross-attention before self-attention",
    "The target looks at the source first, and at itself afterwards; Figure 1 has it the other "
    "way round.",
    "self_attention with add_norm1, then cross_attention with add_norm2.",
)
class CrossFirst(_Layer):
    def forward(self, x, memory, self_mask=None, cross_mask=None):
        x = self.add_norm1(x, self.look_across(x, memory, cross_mask))
        x = self.add_norm2(x, self.look_back(x, self_mask))
        return self.add_norm3(x, self.feed_forward(x))


@layer_mistake(
    "L10e",
    "feed-forward before cross-attention",
    "The tokens think before they have looked at the source; feed-forward comes last.",
    "Self-attention, cross-attention, feed-forward.",
)
class FeedForwardBeforeCross(_Layer):
    def forward(self, x, memory, self_mask=None, cross_mask=None):
        x = self.add_norm1(x, self.look_back(x, self_mask))
        x = self.add_norm2(x, self.feed_forward(x))
        return self.add_norm3(x, self.look_across(x, memory, cross_mask))


@layer_mistake(
    "L4",
    "both attentions side by side",
    "The queries of cross_attention are the layer's input: what self-attention gathered plays no "
    "part in what is asked of the source.",
    "After add_norm1, x is its result; cross_attention asks with that.",
)
class AttentionsInParallel(_Layer):
    def forward(self, x, memory, self_mask=None, cross_mask=None):
        asked = self.add_norm1(x, self.look_back(x, self_mask))
        x = self.add_norm2(asked, self.look_across(x, memory, cross_mask))
        return self.add_norm3(x, self.feed_forward(x))


@layer_mistake(
    "L1a",
    "no residual around self-attention",
    "add_norm1 does not add x: a token forgets which word it is.",
    "add_norm1(x, attended)",
)
class NoFirstResidual(_Layer):
    def forward(self, x, memory, self_mask=None, cross_mask=None):
        x = self.add_norm1.norm(self.look_back(x, self_mask))
        x = self.add_norm2(x, self.look_across(x, memory, cross_mask))
        return self.add_norm3(x, self.feed_forward(x))


@layer_mistake(
    "L1b",
    "no residual around cross-attention",
    "add_norm2 does not add x: what was written so far is lost, only the source is left.",
    "add_norm2(x, attended)",
)
class NoSecondResidual(_Layer):
    def forward(self, x, memory, self_mask=None, cross_mask=None):
        x = self.add_norm1(x, self.look_back(x, self_mask))
        x = self.add_norm2.norm(self.look_across(x, memory, cross_mask))
        return self.add_norm3(x, self.feed_forward(x))


@layer_mistake(
    "L1c",
    "no residual around feed-forward",
    "add_norm3 does not add x: only what feed-forward says of a token is left.",
    "add_norm3(x, self.feed_forward(x))",
)
class NoThirdResidual(_Layer):
    def forward(self, x, memory, self_mask=None, cross_mask=None):
        x = self.add_norm1(x, self.look_back(x, self_mask))
        x = self.add_norm2(x, self.look_across(x, memory, cross_mask))
        return self.add_norm3.norm(self.feed_forward(x))


@layer_mistake(
    "L1d",
    "x is added twice",
    "x is added to each sublayer's output, and then AddNorm adds it again: norm(2x + sublayer).",
    "AddNorm adds; hand it the sublayer's output alone.",
)
class AddedTwice(_Layer):
    def forward(self, x, memory, self_mask=None, cross_mask=None):
        x = self.add_norm1(x, x + self.look_back(x, self_mask))
        x = self.add_norm2(x, x + self.look_across(x, memory, cross_mask))
        return self.add_norm3(x, x + self.feed_forward(x))


@layer_mistake(
    "L2",
    "the residuals start from the layer's input",
    "Each add-and-norm adds the x that came into the layer, so what earlier sublayers gathered is "
    "lost from the residual path.",
    "Go on with each result: x = add_norm1(x, …), x = add_norm2(x, …).",
)
class ResidualsFromTheInput(_Layer):
    def forward(self, x, memory, self_mask=None, cross_mask=None):
        own = self.add_norm1(x, self.look_back(x, self_mask))
        both = self.add_norm2(x, self.look_across(own, memory, cross_mask))
        return self.add_norm3(x, self.feed_forward(both))


@layer_mistake(
    "L3",
    "pre-norm",
    "The norm stands before each sublayer, x + sublayer(norm(x)); the paper's is norm(x + "
    "sublayer(x)).",
    "Call the sublayer on x, then add_norm on x and the result (post-norm, §3.1).",
)
class PreNorm(_Layer):
    def forward(self, x, memory, self_mask=None, cross_mask=None):
        x = x + self.look_back(self.add_norm1.norm(x), self_mask)
        x = x + self.look_across(self.add_norm2.norm(x), memory, cross_mask)
        return x + self.feed_forward(self.add_norm3.norm(x))


@layer_mistake(
    "L7",
    "feed-forward is left out",
    "The layer ends after cross-attention: feed_forward and add_norm3 are made, but never called.",
    "Return add_norm3(x, feed_forward(x)).",
)
class NoFeedForward(_Layer):
    def forward(self, x, memory, self_mask=None, cross_mask=None):
        x = self.add_norm1(x, self.look_back(x, self_mask))
        return self.add_norm2(x, self.look_across(x, memory, cross_mask))


@layer_mistake(
    "L8a",
    "add_norm1 used three times",
    "All three sublayers end in add_norm1; the other two never learn.",
    "Each sublayer has an add-and-norm of its own.",
)
class FirstNormAlways(_Layer):
    def forward(self, x, memory, self_mask=None, cross_mask=None):
        x = self.add_norm1(x, self.look_back(x, self_mask))
        x = self.add_norm1(x, self.look_across(x, memory, cross_mask))
        return self.add_norm1(x, self.feed_forward(x))


@layer_mistake(
    "L8b",
    "one attention for both tasks",
    "cross_attention is the same module as self_attention: one set of weights must look back and "
    "across.",
    "MultiHeadAttention(…) is called twice in __init__.",
)
class SharedAttention(_Layer):
    def __init__(self, d_model, n_heads, d_ff, dropout=0.1):
        super().__init__(d_model, n_heads, d_ff, dropout)
        self.cross_attention = self.self_attention


@layer_mistake(
    "L8c",
    "self_attention used for both",
    "self_attention looks across as well; cross_attention is never called and never learns.",
    "The second attention is self.cross_attention(x, memory, memory, cross_mask).",
)
class SelfAttentionTwice(_Layer):
    def look_across(self, x, memory, mask):
        return self.self_attention(x, memory, memory, mask)[0]


@layer_mistake(
    "L11",
    "the memory is normalised",
    "memory goes through a norm before it is looked at; it comes from the encoder normalised.",
    "Keys and values are memory as it came.",
)
class NormalisedMemory(_Layer):
    def look_across(self, x, memory, mask):
        return super().look_across(x, F.layer_norm(memory, memory.shape[-1:]), mask)


@layer_mistake(
    "L5a",
    "dropout is not passed on",
    "AddNorm is made without the dropout that was asked for, and takes its own 0.1.",
    "AddNorm(d_model, dropout), all three times.",
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
    def forward(self, x, memory, self_mask=None, cross_mask=None):
        x = self.add_norm1(self.look_back(x, self_mask), x)
        x = self.add_norm2(self.look_across(x, memory, cross_mask), x)
        return self.add_norm3(self.feed_forward(x), x)


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

    def forward(self, x, memory, self_mask=None, cross_mask=None):
        x = self.add_norm1(x, self.dropout(self.look_back(x, self_mask)))
        x = self.add_norm2(x, self.dropout(self.look_across(x, memory, cross_mask)))
        return self.add_norm3(x, self.dropout(self.feed_forward(x)))


@layer_mistake(
    "M0a",
    "self_mask is not passed on",
    "self_mask changes nothing: the target sees its own future, which is what it should predict.",
    "self_attention(x, x, x, self_mask)",
)
class NoSelfMask(_Layer):
    def look_back(self, x, mask):
        return super().look_back(x, None)


@layer_mistake(
    "M13",
    "cross_mask is not passed on",
    "cross_mask changes nothing: the target looks at the padding of the source.",
    "cross_attention(x, memory, memory, cross_mask)",
)
class NoCrossMask(_Layer):
    def look_across(self, x, memory, mask):
        return super().look_across(x, memory, None)


@layer_mistake(
    "M12a",
    "the masks are swapped",
    "self_mask goes to cross_attention and cross_mask to self_attention.",
    "self_mask belongs to self_attention, cross_mask to cross_attention.",
)
class SwappedMasks(_Layer):
    def forward(self, x, memory, self_mask=None, cross_mask=None):
        return super().forward(x, memory, cross_mask, self_mask)


@layer_mistake(
    "M12b",
    "one mask for both attentions",
    "cross_attention gets self_mask as well: the second target word is blind to all but two "
    "words of the source. The source has no future; only its padding is hidden.",
    "cross_attention gets cross_mask.",
)
class SelfMaskForBoth(_Layer):
    def forward(self, x, memory, self_mask=None, cross_mask=None):
        return super().forward(x, memory, self_mask, self_mask)


@layer_mistake(
    "M12c",
    "a causal mask of its own",
    "The layer hides the future whether self_mask says so or not; which target tokens may look "
    "where is for the caller to say.",
    "Pass self_mask on as it came.",
)
class AlwaysCausal(_Layer):
    def look_back(self, x, mask):
        causal = causal_mask(x.size(1), x.device)
        return super().look_back(x, causal if mask is None else mask & causal)


@layer_mistake(
    "H13",
    "attention's two results are not taken apart",
    "Attention gives (output, weights), and the pair goes into add_norm1.",
    "attended, _ = self.self_attention(x, x, x, self_mask)",
)
class PairNotTakenApart(_Layer):
    def look_back(self, x, mask):
        return self.self_attention(x, x, x, mask)


@layer_mistake(
    "H13b",
    "the weights are returned too",
    "The layer gives (x, weights); it should give x alone, for the next layer to read.",
    "return x",
)
class ReturnsWeights(_Layer):
    def forward(self, x, memory, self_mask=None, cross_mask=None):
        x = self.add_norm1(x, self.look_back(x, self_mask))
        attended, weights = self.cross_attention(x, memory, memory, cross_mask)
        x = self.add_norm2(x, attended)
        return self.add_norm3(x, self.feed_forward(x)), weights


# Decoder


class _Stack(nn.Module):
    """Right as it stands; the mistakes below change one method."""

    def __init__(self, n_layers, d_model, n_heads, d_ff, dropout=0.1):
        super().__init__()
        self.layers = nn.ModuleList(
            DecoderLayer(d_model, n_heads, d_ff, dropout) for _ in range(n_layers)
        )

    def forward(self, x, memory, self_mask=None, cross_mask=None):
        for layer in self.layers:
            x = layer(x, memory, self_mask, cross_mask)
        return x


def stack_mistake(id, name, sentence, hint):
    return mistake("Decoder", id, name, sentence, hint)


@stack_mistake(
    "L9",
    "one layer, many times",
    "[layer] * n is one layer n times over: all share one set of weights.",
    "Make each layer anew: DecoderLayer(…) for _ in range(n_layers).",
)
class SharedLayer(_Stack):
    def __init__(self, n_layers, d_model, n_heads, d_ff, dropout=0.1):
        nn.Module.__init__(self)
        self.layers = nn.ModuleList([DecoderLayer(d_model, n_heads, d_ff, dropout)] * n_layers)


@stack_mistake(
    "H10",
    "layers in a plain list",
    "Layers in a Python list are invisible to PyTorch: no optimizer and no checkpoint finds them.",
    "nn.ModuleList holds layers, and registers them.",
)
class PlainList(_Stack):
    def __init__(self, n_layers, d_model, n_heads, d_ff, dropout=0.1):
        nn.Module.__init__(self)
        self.layers = [DecoderLayer(d_model, n_heads, d_ff, dropout) for _ in range(n_layers)]


@stack_mistake(
    "L10",
    "memory replaced by the layers' results",
    "From the second layer on the decoder looks at its own result: the source is read only once.",
    "Every layer gets the same memory: x = layer(x, memory, …).",
)
class MemoryReplaced(_Stack):
    def forward(self, x, memory, self_mask=None, cross_mask=None):
        for layer in self.layers:
            x = memory = layer(x, memory, self_mask, cross_mask)
        return x


@stack_mistake(
    "L4a",
    "every layer reads the input",
    "Each layer gets the tokens as they came in; only the last one's result counts.",
    "x = layer(x, memory, …): the next layer reads what this one gave.",
)
class AllFromTheInput(_Stack):
    def forward(self, x, memory, self_mask=None, cross_mask=None):
        result = x
        for layer in self.layers:
            result = layer(x, memory, self_mask, cross_mask)
        return result


@stack_mistake(
    "L4b",
    "return inside the loop",
    "The stack returns after its first layer: the others never run.",
    "Let `return x` stand after the loop, not in it.",
)
class ReturnsEarly(_Stack):
    def forward(self, x, memory, self_mask=None, cross_mask=None):
        for layer in self.layers:
            return layer(x, memory, self_mask, cross_mask)


@stack_mistake(
    "L4c",
    "memory and target swapped",
    "The layers are called with memory first: the source is rewritten while the target is looked "
    "at.",
    "layer(x, memory, self_mask, cross_mask)",
)
class SwappedInputs(_Stack):
    def forward(self, x, memory, self_mask=None, cross_mask=None):
        for layer in self.layers:
            memory = layer(memory, x, self_mask, cross_mask)
        return memory


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

    def forward(self, x, memory, self_mask=None, cross_mask=None):
        return self.norm(super().forward(x, memory, self_mask, cross_mask))


@stack_mistake(
    "M0",
    "self_mask is not passed on",
    "self_mask never reaches the layers: the target sees its own future.",
    "layer(x, memory, self_mask, cross_mask)",
)
class NoSelfMaskInTheStack(_Stack):
    def forward(self, x, memory, self_mask=None, cross_mask=None):
        return super().forward(x, memory, None, cross_mask)


@stack_mistake(
    "M13",
    "cross_mask is not passed on",
    "cross_mask never reaches the layers: the target looks at the padding of the source.",
    "layer(x, memory, self_mask, cross_mask)",
)
class NoCrossMaskInTheStack(_Stack):
    def forward(self, x, memory, self_mask=None, cross_mask=None):
        return super().forward(x, memory, self_mask, None)


@stack_mistake(
    "M13b",
    "no mask is passed on",
    "Neither mask reaches the layers: the target sees its own future and the source's padding.",
    "layer(x, memory, self_mask, cross_mask)",
)
class NoMaskInTheStack(_Stack):
    def forward(self, x, memory, self_mask=None, cross_mask=None):
        return super().forward(x, memory)


@stack_mistake(
    "M12",
    "the masks are swapped",
    "The layers get cross_mask where self_mask belongs, and the other way round.",
    "layer(x, memory, self_mask, cross_mask)",
)
class SwappedMasksInTheStack(_Stack):
    def forward(self, x, memory, self_mask=None, cross_mask=None):
        return super().forward(x, memory, cross_mask, self_mask)


@stack_mistake(
    "L5a",
    "dropout is not passed on",
    "The layers are made without the dropout that was asked for, and take their own 0.1.",
    "DecoderLayer(d_model, n_heads, d_ff, dropout)",
)
class StackWithoutDropout(_Stack):
    def __init__(self, n_layers, d_model, n_heads, d_ff, dropout=0.1):
        super().__init__(n_layers, d_model, n_heads, d_ff)


@stack_mistake(
    "H13",
    "all layers' results are returned",
    "The stack gives one result per layer; the logits need the last one alone.",
    "Return x after the loop.",
)
class ReturnsAll(_Stack):
    def forward(self, x, memory, self_mask=None, cross_mask=None):
        results = []
        for layer in self.layers:
            x = layer(x, memory, self_mask, cross_mask)
            results.append(x)
        return torch.stack(results)
