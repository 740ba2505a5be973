"""07 written otherwise."""

import copy

import torch
import torch.nn.functional as F
from torch import nn

from lab.parts import AddNorm, EncoderLayer, FeedForward, MultiHeadAttention


class LayerInOneLine(nn.Module):
    """Other order of attributes, everything in one expression."""

    def __init__(self, d_model, n_heads, d_ff, dropout=0.1):
        super().__init__()
        self.add_norm2, self.add_norm1 = (AddNorm(d_model, dropout) for _ in range(2))
        self.feed_forward = FeedForward(d_model, d_ff)
        self.self_attention = MultiHeadAttention(d_model, n_heads)

    def forward(self, x, mask=None):
        h = self.add_norm1(x, self.self_attention(query=x, key=x, value=x, mask=mask)[0])
        return self.add_norm2(h, self.feed_forward(h))


class LayerByHand(nn.Module):
    """AddNorm only lends its norm; dropout and sum are written out."""

    def __init__(self, d_model, n_heads, d_ff, dropout=0.1, *, verbose=False):
        super().__init__()
        self.self_attention = MultiHeadAttention(d_model, n_heads)
        self.feed_forward = FeedForward(d_model, d_ff)
        self.add_norm1 = AddNorm(d_model, 0.0)
        self.add_norm2 = AddNorm(d_model, 0.0)
        self.p = dropout

    def forward(self, x, mask=None, **_):
        out, weights = self.self_attention(x, x, x, mask)
        x = self.add_norm1.norm(x + F.dropout(out, self.p, self.training))
        out = self.feed_forward(x)
        return self.add_norm2.norm(x + F.dropout(out, self.p, self.training))


class _NormOfTheSum(nn.Module):
    """An AddNorm of one's own, around torch's LayerNorm."""

    def __init__(self, d_model, dropout):
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self.drop = nn.Dropout(dropout)

    def forward(self, x, sublayer):
        return self.norm(x + self.drop(sublayer(x)))


class LayerOfSublayers(nn.Module):
    """Add-and-norm takes the sublayer itself; a buffer and modules without weights beside."""

    def __init__(self, d_model, n_heads, d_ff, dropout=0.1):
        super().__init__()
        self.self_attention = MultiHeadAttention(d_model, n_heads)
        self.feed_forward = FeedForward(d_model, d_ff)
        self.add_norm1 = _NormOfTheSum(d_model, dropout)
        self.add_norm2 = _NormOfTheSum(d_model, dropout)
        self.identity = nn.Identity()
        self.register_buffer("calls", torch.zeros(1), persistent=False)

    def forward(self, x, mask=None):
        x = self.add_norm1(x, lambda x: self.self_attention(x, x, x, mask)[0])
        return self.identity(self.add_norm2(x, self.feed_forward))


class StackByIndex(nn.Module):
    def __init__(self, n_layers, d_model, n_heads, d_ff, dropout=0.1):
        super().__init__()
        self.n_layers = n_layers
        self.layers = nn.ModuleList()
        for _ in range(n_layers):
            self.layers.append(EncoderLayer(d_model, n_heads, d_ff, dropout))

    def forward(self, x, mask=None):
        for i in range(self.n_layers):
            x = self.layers[i](x, mask=mask)
        return x


class StackOfCopies(nn.Module):
    """Copies of one layer, each with weights of its own, in a Sequential."""

    def __init__(self, n_layers, d_model, n_heads, d_ff, dropout=0.1):
        super().__init__()
        layer = EncoderLayer(d_model, n_heads, d_ff, dropout)
        self.layers = nn.Sequential(*(copy.deepcopy(layer) for _ in range(n_layers)))

    def forward(self, x, mask=None):
        if mask is None:
            return self.layers(x)
        for layer in self.layers.children():
            x = layer(x, mask)
        return x


class StackThatRecurs(nn.Module):
    """From the first layer to the last by recursion."""

    def __init__(self, n_layers, d_model, n_heads, d_ff, dropout=0.1):
        super().__init__()
        sizes = dict(d_model=d_model, n_heads=n_heads, d_ff=d_ff, dropout=dropout)
        self.layers = nn.ModuleList([EncoderLayer(**sizes) for _ in range(n_layers)])

    def forward(self, x, mask=None, layer=0):
        if layer == len(self.layers):
            return x
        return self.forward(self.layers[layer](x, mask), mask, layer + 1)


ALTERNATIVES = {
    "EncoderLayer": [LayerInOneLine, LayerByHand, LayerOfSublayers],
    "Encoder": [StackByIndex, StackOfCopies, StackThatRecurs],
}
