"""04 written otherwise."""

import math

import numpy as np
import torch
from torch import nn

from lab.parts import sinusoidal_positions

# sinusoidal_positions


def waves_by_exp_and_log(max_len, d_model):
    """The Annotated Transformer's way, in float32 from end to end."""
    if d_model % 2 == 1:
        raise ValueError("d_model must be even")
    table = torch.zeros(max_len, d_model)
    position = torch.arange(0, max_len).unsqueeze(1)
    div_term = torch.exp(torch.arange(0, d_model, 2) * -(math.log(10000.0) / d_model))
    table[:, 0::2] = torch.sin(position * div_term)
    table[:, 1::2] = torch.cos(position * div_term)
    return table


def waves_by_loops(max_len, d_model):
    if d_model % 2:
        raise ValueError(f"{d_model} features do not pair up")
    table = [[0.0] * d_model for _ in range(max_len)]
    for pos in range(max_len):
        for i in range(d_model // 2):
            angle = pos / 10000 ** (2 * i / d_model)
            table[pos][2 * i] = math.sin(angle)
            table[pos][2 * i + 1] = math.cos(angle)
    return torch.tensor(table)


def waves_by_numpy(max_len, d_model, *, base=10_000):
    """One more argument by keyword, and a cosine that is a shifted sine."""
    if d_model % 2 != 0:
        raise ValueError("odd")
    column = np.arange(d_model)
    rate = base ** (-(column - column % 2) / d_model)
    return torch.from_numpy(
        np.sin(np.outer(np.arange(max_len), rate) + column % 2 * np.pi / 2)
    ).float()


def waves_by_turning(max_len, d_model):
    """Each row is the one before, every pair turned a step further."""
    if d_model & 1:
        raise ValueError("each frequency takes two columns")
    step = torch.tensor([10_000 ** (-i / d_model) for i in range(0, d_model, 2)]).double()
    turn = torch.polar(torch.ones_like(step), step)
    rows = [torch.ones_like(turn)]
    while len(rows) < max_len:
        rows.append(rows[-1] * turn)
    circle = torch.stack(rows)
    return torch.stack([circle.imag, circle.real], dim=2).reshape(max_len, d_model).float()


# PositionalEncoding


class EncodingWithAddedAxis(nn.Module):
    """The batch axis written out, the length kept, dropout as a function."""

    def __init__(self, d_model, dropout=0.1, max_len=512):
        super().__init__()
        self.p, self.max_len = dropout, max_len
        self.register_buffer("table", sinusoidal_positions(max_len, d_model), persistent=False)

    def forward(self, x):
        if x.shape[1] > self.max_len:
            raise ValueError("too long")
        rows = self.table[None, : x.shape[1], :].expand_as(x)
        return nn.functional.dropout(x + rows, p=self.p, training=self.training)


class EncodingByIndex(nn.Module):
    """Rows by index; the table worked out here, without the function; a buffer of positions."""

    def __init__(self, d_model, dropout=0.1, max_len=512):
        super().__init__()
        positions = torch.arange(max_len)
        rate = 10_000 ** (-torch.arange(0, d_model, 2) / d_model)
        angle = positions.unsqueeze(1) * rate.unsqueeze(0)
        table = torch.empty(max_len, d_model)
        table[:, ::2], table[:, 1::2] = angle.sin(), angle.cos()
        self.register_buffer("positions", positions, persistent=False)
        self.register_buffer("table", table, persistent=False)
        self.drop = nn.Dropout(dropout)

    def forward(self, tokens):
        batch, length, width = tokens.shape
        if not length <= len(self.table):
            raise ValueError(f"T = {length} > max_len = {len(self.table)}")
        return self.drop(torch.add(tokens, self.table.index_select(0, self.positions[:length])))


class EncodingTokenByToken(nn.Module):
    def __init__(self, d_model, dropout=0.1, max_len=512, *, generous=False):
        super().__init__()
        self.dropout = nn.Dropout(p=dropout)
        self.register_buffer("table", None, persistent=False)
        self.table = sinusoidal_positions(max_len, d_model)

    def forward(self, x):
        if x.size(1) > self.table.shape[0]:
            raise ValueError(f"a text of {x.size(1)} tokens is too long")
        shifted = [token + self.table[t].to(x) for t, token in enumerate(x.unbind(1))]
        return self.dropout(torch.stack(shifted, dim=1))


# LearnedPositions


class LearnedBySlice(nn.Module):
    """The rows straight from the weight."""

    def __init__(self, d_model, dropout=0.1, max_len=512):
        super().__init__()
        self.embedding = nn.Embedding(max_len, d_model)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        if x.size(1) > self.embedding.num_embeddings:
            raise ValueError("the text is too long")
        return self.dropout(x + self.embedding.weight[: x.size(1)])


class LearnedByBatchOfIds(nn.Module):
    """Ids for every sentence, kept in a buffer that is not saved."""

    def __init__(self, d_model, dropout=0.1, max_len=512):
        super().__init__()
        self.max_len, self.p = max_len, dropout
        self.embedding = nn.Embedding(num_embeddings=max_len, embedding_dim=d_model)
        self.register_buffer("ids", torch.arange(max_len).unsqueeze(0), persistent=False)

    def forward(self, x):
        batch, length = x.shape[:2]
        if length > self.max_len:
            raise ValueError(f"{length} > {self.max_len}")
        places = self.ids[:, :length].expand(batch, -1)
        return nn.functional.dropout(self.embedding(places) + x, self.p, self.training)


class LearnedByOneHot(nn.Module):
    def __init__(self, d_model, dropout=0.1, max_len=512):
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.embedding = nn.Embedding(max_len, d_model)

    def forward(self, x):
        rows = self.embedding.weight
        if x.shape[-2] > len(rows):
            raise ValueError("no position is left for the last tokens")
        chosen = torch.eye(x.shape[-2], len(rows), dtype=rows.dtype, device=rows.device)
        return self.drop(x + chosen @ rows)


ALTERNATIVES = {
    "sinusoidal_positions": [
        waves_by_exp_and_log,
        waves_by_loops,
        waves_by_numpy,
        waves_by_turning,
    ],
    "PositionalEncoding": [EncodingWithAddedAxis, EncodingByIndex, EncodingTokenByToken],
    "LearnedPositions": [LearnedBySlice, LearnedByBatchOfIds, LearnedByOneHot],
}
