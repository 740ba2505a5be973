"""08 written otherwise."""

import copy
import functools

import torch.nn.functional as F
from torch import nn

from lab.parts import AddNorm, DecoderLayer, FeedForward, MultiHeadAttention


class LayerInOneLine(nn.Module):
    """Other order of attributes, keywords throughout."""

    def __init__(self, d_model, n_heads, d_ff, dropout=0.1):
        super().__init__()
        self.feed_forward = FeedForward(d_ff=d_ff, d_model=d_model)
        self.cross_attention = MultiHeadAttention(d_model, n_heads=n_heads)
        self.self_attention = MultiHeadAttention(d_model, n_heads=n_heads)
        for i in (1, 2, 3):
            setattr(self, f"add_norm{i}", AddNorm(d_model, dropout=dropout))

    def forward(self, x, memory, self_mask=None, cross_mask=None):
        a = self.add_norm1(x, self.self_attention(x, x, x, mask=self_mask)[0])
        b = self.add_norm2(a, self.cross_attention(a, memory, memory, mask=cross_mask)[0])
        return self.add_norm3(b, self.feed_forward(b))


class LayerByHand(nn.Module):
    """The norms are borrowed, dropout and sums written out; the last weights are kept."""

    def __init__(self, d_model, n_heads, d_ff, dropout=0.1):
        super().__init__()
        self.self_attention = MultiHeadAttention(d_model, n_heads)
        self.add_norm1 = AddNorm(d_model)
        self.cross_attention = MultiHeadAttention(d_model, n_heads)
        self.add_norm2 = AddNorm(d_model)
        self.feed_forward = FeedForward(d_model, d_ff)
        self.add_norm3 = AddNorm(d_model)
        self.dropout = dropout
        self.last_weights = None

    def drop(self, x):
        return F.dropout(x, p=self.dropout, training=self.training)

    def forward(self, x, memory, self_mask=None, cross_mask=None, *, keep=False):
        x = self.add_norm1.norm(x + self.drop(self.self_attention(x, x, x, self_mask)[0]))
        out, weights = self.cross_attention(x, memory, memory, cross_mask)
        x = self.add_norm2.norm(x + self.drop(out))
        self.last_weights = weights if keep else None
        return self.add_norm3.norm(x + self.drop(self.feed_forward(x)))


class LayerOfSteps(nn.Module):
    """Three steps in a loop."""

    def __init__(self, d_model, n_heads, d_ff, dropout=0.1):
        super().__init__()
        self.self_attention = MultiHeadAttention(d_model, n_heads)
        self.cross_attention = MultiHeadAttention(d_model, n_heads)
        self.feed_forward = FeedForward(d_model, d_ff)
        self.add_norm1 = AddNorm(d_model, dropout)
        self.add_norm2 = AddNorm(d_model, dropout)
        self.add_norm3 = AddNorm(d_model, dropout)

    def forward(self, x, memory, self_mask=None, cross_mask=None):
        steps = (
            (self.add_norm1, lambda x: self.self_attention(x, x, x, self_mask)[0]),
            (self.add_norm2, lambda x: self.cross_attention(x, memory, memory, cross_mask)[0]),
            (self.add_norm3, self.feed_forward),
        )
        for add_norm, sublayer in steps:
            x = add_norm(x, sublayer(x))
        return x


class StackByIndex(nn.Module):
    def __init__(self, n_layers, d_model, n_heads, d_ff, dropout=0.1):
        super().__init__()
        self.layers = nn.ModuleList()
        while len(self.layers) < n_layers:
            self.layers.append(DecoderLayer(d_model, n_heads, d_ff, dropout))

    def forward(self, x, memory, self_mask=None, cross_mask=None):
        out = x
        for i, _ in enumerate(self.layers):
            out = self.layers[i](out, memory, self_mask=self_mask, cross_mask=cross_mask)
        return out


class StackByReduce(nn.Module):
    """A fold over deep copies."""

    def __init__(self, n_layers, d_model, n_heads, d_ff, dropout=0.1):
        super().__init__()
        first = DecoderLayer(d_model, n_heads, d_ff, dropout)
        others = [copy.deepcopy(first) for _ in range(n_layers - 1)]
        self.layers = nn.ModuleList([first, *others])

    def forward(self, x, memory, self_mask=None, cross_mask=None):
        return functools.reduce(
            lambda x, layer: layer(x, memory, self_mask, cross_mask), self.layers, x
        )


ALTERNATIVES = {
    "DecoderLayer": [LayerInOneLine, LayerByHand, LayerOfSteps],
    "Decoder": [StackByIndex, StackByReduce],
}
