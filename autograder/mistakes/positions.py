"""04: what goes wrong with positions."""

import math

import torch
import torch.nn.functional as F
from torch import nn

from autograder.mistakes import mistake
from lab.parts import sinusoidal_positions

# sinusoidal_positions: each step can go wrong by itself


def waves(
    max_len,
    d_model,
    first=0,
    exponent=lambda i, d: 2 * i / d,
    frequency=lambda exponent: 10_000.0**-exponent,
    weave=lambda sine, cosine: torch.stack([sine, cosine], -1).flatten(1),
):
    """The table, a step at a time."""
    if d_model % 2:
        raise ValueError(f"d_model={d_model} is odd")
    position = torch.arange(first, first + max_len, dtype=torch.float64)
    i = torch.arange(d_model // 2, dtype=torch.float64)
    angle = position[:, None] * frequency(exponent(i, d_model))
    return weave(angle.sin(), angle.cos()).float()


def waves_mistake(id, name, sentence, hint):
    return mistake("sinusoidal_positions", id, name, sentence, hint)


@waves_mistake(
    "P1",
    "all sines, then all cosines",
    "The left half of the table is sines, the right half cosines; the paper's columns take turns.",
    "Column 2i is a sine, column 2i+1 its cosine: table[:, 0::2] and table[:, 1::2].",
)
def halves(max_len, d_model):
    return waves(max_len, d_model, weave=lambda sine, cosine: torch.cat([sine, cosine], -1))


@waves_mistake(
    "P2",
    "sine and cosine swapped",
    "Even columns hold cosines and odd ones sines, so position 0 reads 1, 0, 1, 0, …",
    "The sine goes first: column 0 of position 0 is sin 0 = 0.",
)
def swapped(max_len, d_model):
    weave = lambda sine, cosine: torch.stack([cosine, sine], -1).flatten(1)  # noqa: E731
    return waves(max_len, d_model, weave=weave)


@waves_mistake(
    "P3",
    "the exponent is doubled",
    "The exponent is 2 · 2i/D: the column number 0, 2, 4, … has the 2 in it already.",
    "With columns from arange(0, D, 2) the exponent is column / D; with pairs 0, 1, 2, … it is "
    "2 · pair / D.",
)
def doubled_exponent(max_len, d_model):
    return waves(max_len, d_model, exponent=lambda i, d: 4 * i / d)


@waves_mistake(
    "P3b",
    "the exponent is halved",
    "The exponent is i/D where 2i/D is asked for: the slowest wave is a hundred times too fast.",
    "Pair i stands in columns 2i and 2i+1, and both have the exponent 2i/D.",
)
def halved_exponent(max_len, d_model):
    return waves(max_len, d_model, exponent=lambda i, d: i / d)


@waves_mistake(
    "P4a",
    "the cosine has an angle of its own",
    "Column 2i+1 uses the exponent (2i+1)/D: each column has its own frequency, and no pair "
    "lies on a circle.",
    "Sine and cosine of a pair share the exponent 2i/D.",
)
def frequency_by_column(max_len, d_model):
    table = waves(max_len, d_model)
    next_angle = waves(max_len, d_model, exponent=lambda i, d: (2 * i + 1) / d)
    table[:, 1::2] = next_angle[:, 1::2]
    return table


@waves_mistake(
    "P4b",
    "the cosine uses the next pair's frequency",
    "The cosine's exponent is 2(i+1)/D: it belongs to the pair that follows.",
    "Work the angle out once and take its sine and its cosine.",
)
def next_frequency(max_len, d_model):
    table = waves(max_len, d_model)
    next_angle = waves(max_len, d_model, exponent=lambda i, d: 2 * (i + 1) / d)
    table[:, 1::2] = next_angle[:, 1::2]
    return table


@waves_mistake(
    "P5a",
    "multiplied by 10000^(2i/D)",
    "The position is multiplied by 10000^(2i/D): the waves get ever faster and look like noise.",
    "Divide; or, with exp and log, mind the minus in the exponent.",
)
def multiplied(max_len, d_model):
    return waves(max_len, d_model, frequency=lambda exponent: 10_000.0**exponent)


@waves_mistake(
    "P5b",
    "another base than 10000",
    "The base is 1000; the paper's is 10000.",
    "10_000 has four zeros.",
)
def wrong_base(max_len, d_model):
    return waves(max_len, d_model, frequency=lambda exponent: 1_000.0**-exponent)


@waves_mistake(
    "P5c",
    "the last frequency is exactly 1/10000",
    "The exponents run from 0 to 1 in D/2 steps with both ends; in the paper they stop one step "
    "before 1.",
    "Divide 2i by D, not by D - 2: that is what tensor2tensor did, not what §3.5 says.",
)
def both_ends(max_len, d_model):
    return waves(max_len, d_model, exponent=lambda i, d: 2 * i / max(d - 2, 1))


@waves_mistake(
    "P5d",
    "angles in turns",
    "The angle is multiplied by 2π, so at whole positions the first wave is always at its start.",
    "The angle pos / 10000^(2i/D) is in radians already.",
)
def in_turns(max_len, d_model):
    return waves(max_len, d_model, frequency=lambda e: 2 * math.pi * 10_000.0**-e)


@waves_mistake(
    "P5e",
    "whole-number division in the exponent",
    "The exponent is 2i // D, which is 0: every pair has the same frequency.",
    "/ keeps the fraction, // drops it.",
)
def whole_exponent(max_len, d_model):
    return waves(max_len, d_model, exponent=lambda i, d: torch.div(2 * i, d, rounding_mode="floor"))


@waves_mistake(
    "P6a",
    "positions start at 1",
    "The first row is that of position 1; positions are counted from 0.",
    "torch.arange(max_len) starts at 0.",
)
def from_one(max_len, d_model):
    return waves(max_len, d_model, first=1)


@waves_mistake(
    "P6b",
    "rows and columns swapped",
    "The table is [D, max_len]; a row is to be a position, a column a feature.",
    "position[:, None] * frequency gives [max_len, D/2].",
)
def transposed(max_len, d_model):
    return waves(max_len, d_model).T


@waves_mistake(
    "P6c",
    "position as a share of max_len",
    "The position is divided by max_len, so the same place has another pattern in a longer table.",
    "The position itself, 0, 1, 2, …, goes into the angle.",
)
def share_of_length(max_len, d_model):
    return waves(max_len, d_model, frequency=lambda e: 10_000.0**-e / max_len)


@waves_mistake(
    "P6d",
    "only the sines are filled in",
    "The odd columns are zero: the cosines are missing.",
    "table[:, 1::2] = angle.cos()",
)
def no_cosines(max_len, d_model):
    table = waves(max_len, d_model)
    table[:, 1::2] = 0
    return table


@waves_mistake(
    "P6e",
    "sines everywhere",
    "Both columns of a pair hold the sine, so two positions can look alike.",
    "The second column of a pair is angle.cos().",
)
def sines_twice(max_len, d_model):
    weave = lambda sine, cosine: torch.stack([sine, sine], -1).flatten(1)  # noqa: E731
    return waves(max_len, d_model, weave=weave)


@waves_mistake(
    "P10a",
    "an odd width fails on the way",
    "An odd d_model ends in an error about shapes; it should be a ValueError that says why.",
    "Ask first: if d_model is odd, raise ValueError(...).",
)
def odd_width_crashes(max_len, d_model):
    table = torch.zeros(max_len, d_model)
    angle = torch.arange(max_len)[:, None] * 10_000.0 ** (-torch.arange(0, d_model, 2) / d_model)
    table[:, 0::2] = torch.sin(angle)
    table[:, 1::2] = torch.cos(angle)
    return table


@waves_mistake(
    "P10b",
    "an odd width is let through",
    "An odd d_model gives a table with a pair cut in two; it should be a ValueError.",
    "Ask first: if d_model is odd, raise ValueError(...).",
)
def odd_width_accepted(max_len, d_model):
    return waves(max_len, d_model + d_model % 2, exponent=lambda i, _: 2 * i / d_model)[:, :d_model]


@waves_mistake(
    "P11",
    "the table is float64",
    "The table comes in float64 (numpy's habit); added to float32 tokens it makes them float64.",
    "Work in float64 if you like, and end with .float().",
)
def double_table(max_len, d_model):
    return waves(max_len, d_model).double()


# PositionalEncoding. Right as it stands; the mistakes below change one thing.


class _Encoding(nn.Module):
    table: torch.Tensor

    def __init__(self, d_model, dropout=0.1, max_len=512):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.max_len = max_len
        self.register_buffer("table", sinusoidal_positions(max_len, d_model), persistent=False)

    def check(self, x):
        if x.size(1) > self.max_len:
            raise ValueError(f"{x.size(1)} tokens do not fit into max_len={self.max_len}")

    def rows(self, x):
        self.check(x)
        return self.table[: x.size(1)].to(x.dtype)

    def forward(self, x):
        return self.dropout(x + self.rows(x))


def encoding_mistake(id, name, sentence, hint):
    return mistake("PositionalEncoding", id, name, sentence, hint)


@encoding_mistake(
    "P6a",
    "rows chosen by the batch",
    "The table is cut with x.size(0), the number of sentences: every token of sentence b gets "
    "row b.",
    "The tokens lie along axis 1: x.size(1) rows, the same for all sentences.",
)
class RowsOfTheBatch(_Encoding):
    def forward(self, x):
        self.check(x)
        return self.dropout(x + self.table[: x.size(0), None].to(x.dtype))


@encoding_mistake(
    "P6b",
    "every token gets one row",
    "All tokens get the same row, that of the length: order stays invisible.",
    "table[:T] is T rows, table[T] is one.",
)
class OneRow(_Encoding):
    def rows(self, x):
        self.check(x)
        return self.table[x.size(1) - 1].to(x.dtype)


@encoding_mistake(
    "P6c",
    "the table is not cut to the text",
    "All max_len rows meet T tokens, and the shapes do not fit unless the text is full.",
    "Take the first T rows: self.table[: x.size(1)].",
)
class WholeTable(_Encoding):
    def rows(self, x):
        self.check(x)
        return self.table.to(x.dtype)


@encoding_mistake(
    "P6d",
    "the last rows instead of the first",
    "The table is cut from its end, so the first token's row depends on the length.",
    "The first token is at position 0: table[:T].",
)
class LastRows(_Encoding):
    def rows(self, x):
        self.check(x)
        return self.table[-x.size(1) :].to(x.dtype)


@encoding_mistake(
    "P7a",
    "the table is a Parameter",
    "The table is among the parameters: training would change the sinusoids.",
    'self.register_buffer("table", table, persistent=False) keeps it out of training.',
)
class TrainedTable(_Encoding):
    def __init__(self, d_model, dropout=0.1, max_len=512):
        super().__init__(d_model, dropout, max_len)
        del self.table
        self.table = nn.Parameter(sinusoidal_positions(max_len, d_model))


@encoding_mistake(
    "P7b",
    "the table is a plain attribute",
    "The table stays behind when the module moves to another dtype or device.",
    'self.register_buffer("table", table, persistent=False) makes it move along.',
)
class PlainTable(_Encoding):
    def __init__(self, d_model, dropout=0.1, max_len=512):
        super().__init__(d_model, dropout, max_len)
        del self.table
        self.table = sinusoidal_positions(max_len, d_model)

    def rows(self, x):
        self.check(x)
        return self.table[: x.size(1)]


@encoding_mistake(
    "P7c",
    "the table is saved with the weights",
    "The table stands in state_dict(): checkpoints grow, and one with another max_len won't load.",
    "register_buffer(…, persistent=False).",
)
class SavedTable(_Encoding):
    def __init__(self, d_model, dropout=0.1, max_len=512):
        super().__init__(d_model, dropout, max_len)
        self.register_buffer("table", sinusoidal_positions(max_len, d_model))


@encoding_mistake(
    "P7d",
    "the buffer has another name",
    "There is a buffer, but it is not called `table`.",
    'register_buffer("table", …): the name is fixed.',
)
class OtherName(_Encoding):
    pe: torch.Tensor

    def __init__(self, d_model, dropout=0.1, max_len=512):
        super().__init__(d_model, dropout, max_len)
        del self.table
        self.register_buffer("pe", sinusoidal_positions(max_len, d_model), persistent=False)

    def rows(self, x):
        self.check(x)
        return self.pe[: x.size(1)].to(x.dtype)


@encoding_mistake(
    "P7e",
    "the buffer has an axis too many",
    "The table is [1, max_len, D]; adding broadcasts anyway, so two axes are enough.",
    "Register the table as sinusoidal_positions gives it: [max_len, D].",
)
class ExtraAxis(_Encoding):
    def __init__(self, d_model, dropout=0.1, max_len=512):
        super().__init__(d_model, dropout, max_len)
        table = sinusoidal_positions(max_len, d_model)[None]
        self.register_buffer("table", table, persistent=False)

    def rows(self, x):
        self.check(x)
        return self.table[:, : x.size(1)].to(x.dtype)


@encoding_mistake(
    "P8a",
    "multiplied instead of added",
    "Tokens are multiplied by the table: a row with zeros wipes features out.",
    "x + table: the position is a shift that does not depend on the token.",
)
class Multiplied(_Encoding):
    def forward(self, x):
        return self.dropout(x * self.rows(x))


@encoding_mistake(
    "P8b",
    "concatenated instead of added",
    "The rows are put beside the tokens, so the result is 2D wide; the paper adds them.",
    "x + table keeps the width D.",
)
class Concatenated(_Encoding):
    def forward(self, x):
        return self.dropout(torch.cat([x, self.rows(x).expand_as(x)], -1))


@encoding_mistake(
    "P8c",
    "added twice",
    "The table is added two times.",
    "One sum: x + table[:T].",
)
class AddedTwice(_Encoding):
    def forward(self, x):
        return self.dropout(x + 2 * self.rows(x))


@encoding_mistake(
    "P8d",
    "the tokens are lost",
    "Only the rows come back; the tokens they should be added to are gone.",
    "Return dropout(x + rows).",
)
class RowsAlone(_Encoding):
    def forward(self, x):
        return self.dropout(0 * x + self.rows(x))


@encoding_mistake(
    "P9",
    "the tokens are scaled by √D here",
    "x is multiplied by √D before the sum; that is TokenEmbedding's work, and it would be done "
    "twice.",
    "Add the rows to x as it comes.",
)
class ScaledTokens(_Encoding):
    def forward(self, x):
        return self.dropout(math.sqrt(x.size(-1)) * x + self.rows(x))


@encoding_mistake(
    "P12",
    "the tokens are changed in place",
    "x += … overwrites the caller's tensor.",
    "x + … makes a new one.",
)
class InPlace(_Encoding):
    def forward(self, x):
        x += self.rows(x)
        return self.dropout(x)


@encoding_mistake(
    "P13",
    "the graph is cut",
    "No gradient flows back to the tokens: .detach(), .data or no_grad stands on the way.",
    "The table is a buffer and wants no gradient; x does.",
)
class CutGraph(_Encoding):
    def forward(self, x):
        return self.dropout(x.detach() + self.rows(x))


@encoding_mistake(
    "P14a",
    "too long a text fails on the way",
    "A text beyond max_len ends in an error about shapes; it should be a ValueError.",
    "Compare x.size(1) with max_len first, and raise ValueError(…).",
)
class NoLimit(_Encoding):
    def check(self, x):
        pass


@encoding_mistake(
    "P14b",
    "too long a text is cut",
    "What lies beyond max_len is dropped without a word; it should be a ValueError.",
    "Losing words silently is worse than an error: raise ValueError(…).",
)
class CutText(_Encoding):
    def forward(self, x):
        return super().forward(x[:, : self.max_len])


@encoding_mistake(
    "P14c",
    "the last position is not used",
    "A text of exactly max_len tokens is refused; it fits.",
    "Refuse when T > max_len, not when T >= max_len.",
)
class OneTooFew(_Encoding):
    def check(self, x):
        if x.size(1) >= self.max_len:
            raise ValueError(f"{x.size(1)} tokens do not fit into max_len={self.max_len}")


@encoding_mistake(
    "L5a",
    "no dropout",
    "Nothing is dropped in training.",
    "Return self.dropout(x + rows).",
)
class NoDropout(_Encoding):
    def forward(self, x):
        return x + self.rows(x)


@encoding_mistake(
    "L5b",
    "dropout in eval mode too",
    "Numbers are dropped in eval mode as well: F.dropout is on unless it is told otherwise.",
    "Use an nn.Dropout, or F.dropout(…, training=self.training).",
)
class AlwaysDropout(_Encoding):
    def forward(self, x):
        return F.dropout(x + self.rows(x), self.dropout.p)


@encoding_mistake(
    "L5c",
    "dropout on the rows alone",
    "Only the positions are dropped out; §5.4 drops from the sum of tokens and positions.",
    "dropout(x + rows), not x + dropout(rows).",
)
class DropsRows(_Encoding):
    def forward(self, x):
        return x + self.dropout(self.rows(x).expand_as(x))


@encoding_mistake(
    "L5d",
    "dropout on the tokens alone",
    "Only the tokens are dropped out; §5.4 drops from the sum of tokens and positions.",
    "dropout(x + rows), not dropout(x) + rows.",
)
class DropsTokens(_Encoding):
    def forward(self, x):
        return self.dropout(x) + self.rows(x)


@encoding_mistake(
    "L5e",
    "the argument dropout is not used",
    "Dropout is 0.1 whatever was asked for.",
    "nn.Dropout(dropout)",
)
class FixedDropout(_Encoding):
    def __init__(self, d_model, dropout=0.1, max_len=512):
        super().__init__(d_model, 0.1, max_len)


# LearnedPositions


class _Learned(nn.Module):
    """Right as it stands; the mistakes below change one thing."""

    def __init__(self, d_model, dropout=0.1, max_len=512):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.max_len = max_len
        self.embedding = nn.Embedding(max_len, d_model)

    def check(self, x):
        if x.size(1) > self.max_len:
            raise ValueError(f"{x.size(1)} tokens do not fit into max_len={self.max_len}")

    def places(self, x):
        return torch.arange(x.size(1), device=x.device)

    def forward(self, x):
        self.check(x)
        return self.dropout(x + self.embedding(self.places(x)))


def learned_mistake(id, name, sentence, hint):
    return mistake("LearnedPositions", id, name, sentence, hint)


@learned_mistake(
    "P6a",
    "positions counted along the batch",
    "arange(x.size(0)) counts sentences; positions are counted along axis 1, the tokens.",
    "torch.arange(x.size(1), device=x.device)",
)
class CountsSentences(_Learned):
    def forward(self, x):
        self.check(x)
        places = torch.arange(x.size(0), device=x.device)
        return self.dropout(x + self.embedding(places)[:, None])


@learned_mistake(
    "P6b",
    "positions start at 1",
    "The first token gets row 1: row 0 never learns, and a full text has one position too few.",
    "torch.arange(T) starts at 0.",
)
class CountsFromOne(_Learned):
    def places(self, x):
        return torch.arange(1, x.size(1) + 1, device=x.device)


@learned_mistake(
    "P7a",
    "the table does not learn",
    "The rows are cut off from the graph, so the table stays as it began.",
    "self.embedding(positions) is all it takes: no .detach(), no .data, no no_grad.",
)
class Frozen(_Learned):
    def forward(self, x):
        self.check(x)
        return self.dropout(x + self.embedding(self.places(x)).detach())


@learned_mistake(
    "P7b",
    "a bare Parameter",
    "The table is an nn.Parameter called `embedding`; the contract's is an nn.Embedding, "
    "so that its weights are `embedding.weight`.",
    "self.embedding = nn.Embedding(max_len, d_model)",
)
class BareParameter(_Learned):
    def __init__(self, d_model, dropout=0.1, max_len=512):
        super().__init__(d_model, dropout, max_len)
        del self.embedding
        self.embedding = nn.Parameter(torch.randn(max_len, d_model))

    def forward(self, x):
        self.check(x)
        return self.dropout(x + self.embedding[: x.size(1)])


@learned_mistake(
    "P7c",
    "position 0 is treated as padding",
    "padding_idx=0 keeps the row of position 0 from learning; position 0 is the first word.",
    "Positions have no padding: nn.Embedding(max_len, d_model).",
)
class PaddedPosition(_Learned):
    def __init__(self, d_model, dropout=0.1, max_len=512):
        super().__init__(d_model, dropout, max_len)
        self.embedding = nn.Embedding(max_len, d_model, padding_idx=0)


@learned_mistake(
    "P7d",
    "the embedding has another name",
    "The table is learned, but it is not called `embedding`.",
    "self.embedding = nn.Embedding(max_len, d_model): trained weights are found by their names.",
)
class OtherEmbedding(_Learned):
    def __init__(self, d_model, dropout=0.1, max_len=512):
        super().__init__(d_model, dropout, max_len)
        del self.embedding
        self.position_embedding = nn.Embedding(max_len, d_model)

    def forward(self, x):
        self.check(x)
        return self.dropout(x + self.position_embedding(self.places(x)))


@learned_mistake(
    "P8a",
    "multiplied instead of added",
    "Tokens are multiplied by their position's vector.",
    "x + self.embedding(positions)",
)
class LearnedProduct(_Learned):
    def forward(self, x):
        self.check(x)
        return self.dropout(x * self.embedding(self.places(x)))


@learned_mistake(
    "P8b",
    "the sinusoids are added as well",
    "Sinusoids and the learned table are added; this part takes the place of the sinusoids.",
    "x + self.embedding(positions), nothing more.",
)
class BothTables(_Learned):
    def forward(self, x):
        self.check(x)
        waves = sinusoidal_positions(x.size(1), x.size(2)).to(x)
        return self.dropout(x + waves + self.embedding(self.places(x)))


@learned_mistake(
    "P12",
    "the tokens are changed in place",
    "x += … overwrites the caller's tensor.",
    "x + … makes a new one.",
)
class LearnedInPlace(_Learned):
    def forward(self, x):
        self.check(x)
        x += self.embedding(self.places(x))
        return self.dropout(x)


@learned_mistake(
    "P14a",
    "too long a text fails on the way",
    "A text beyond max_len ends in an IndexError inside torch; it should be a ValueError.",
    "Compare x.size(1) with max_len first, and raise ValueError(…).",
)
class LearnedWithoutLimit(_Learned):
    def check(self, x):
        pass


@learned_mistake(
    "P14b",
    "the last row serves for all that is beyond",
    "Positions beyond max_len share its last row without a word; it should be a ValueError.",
    "Raise ValueError(…) when T > max_len.",
)
class Clamped(_Learned):
    def forward(self, x):
        return self.dropout(x + self.embedding(self.places(x).clamp(max=self.max_len - 1)))


@learned_mistake(
    "L5a",
    "no dropout",
    "Nothing is dropped in training.",
    "Return self.dropout(x + rows).",
)
class LearnedWithoutDropout(_Learned):
    def forward(self, x):
        self.check(x)
        return x + self.embedding(self.places(x))


@learned_mistake(
    "L5b",
    "dropout in eval mode too",
    "Numbers are dropped in eval mode as well: F.dropout is on unless it is told otherwise.",
    "Use an nn.Dropout, or F.dropout(…, training=self.training).",
)
class LearnedAlwaysDropout(_Learned):
    def forward(self, x):
        self.check(x)
        return F.dropout(x + self.embedding(self.places(x)), self.dropout.p)


@learned_mistake(
    "L5c",
    "dropout on the rows alone",
    "Only the positions are dropped out; §5.4 drops from the sum of tokens and positions.",
    "dropout(x + rows), not x + dropout(rows).",
)
class DropsLearnedRows(_Learned):
    def forward(self, x):
        self.check(x)
        return x + self.dropout(self.embedding(self.places(x)).expand_as(x))


@learned_mistake(
    "P9",
    "a table turned on its side",
    "nn.Embedding(d_model, max_len) has a row for each feature; it should have one a position.",
    "How many rows come first, how wide they are second: nn.Embedding(max_len, d_model).",
)
class TurnedTable(_Learned):
    def __init__(self, d_model, dropout=0.1, max_len=512):
        super().__init__(d_model, dropout, max_len)
        self.embedding = nn.Embedding(d_model, max_len)
