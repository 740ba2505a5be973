"""04 Positions tell the order."""

import math

import torch
from torch import Tensor

from autograder.checks import (
    DV,
    B,
    D,
    K,
    S,
    T,
    check,
    holds,
    refuses,
    same,
    same_with_gradients,
)

MAX_LEN = 8  # more than T tokens, so that the table must be cut


def _waves(length, width):
    """The paper's table, worked out number by number."""
    angles = [[p / 10_000 ** (2 * i / width) for i in range(width // 2)] for p in range(length)]
    waves = [[wave(a) for a in row for wave in (math.sin, math.cos)] for row in angles]
    return torch.tensor(waves, dtype=torch.float32)


# sinusoidal_positions


@check("sinusoidal_positions", points=3)
def test_waves_are_the_papers(work, draw):
    """Each pair of columns is the sine and the cosine of the paper's angle."""
    for max_len, d_model in ((T, D), (S, DV), (MAX_LEN, 2)):
        law = "column 2i is sin(pos / 10000^(2i/D)), column 2i+1 the cosine of the same angle"
        law += f", here for D={d_model}"
        same(_table(work, max_len, d_model), _waves(max_len, d_model), law)


@check("sinusoidal_positions", points=1)
def test_first_position_is_zeros_and_ones(work, draw):
    """Position 0 is 0, 1, 0, 1, …"""
    found = _table(work, T, D)[0]

    same(found, torch.tensor([0.0, 1.0] * (D // 2)), "sin 0 = 0 and cos 0 = 1, by turns")


@check("sinusoidal_positions", points=1)
def test_a_pair_lies_on_the_unit_circle(work, draw):
    """Sine and cosine of a pair are of one angle: sin² + cos² = 1."""
    table = _table(work, MAX_LEN, D)

    lengths = (table[:, 0::2].square() + table[:, 1::2].square()).sqrt()
    law = "columns 2i and 2i+1 share an angle, so sin² + cos² = 1"
    same(lengths, torch.ones(MAX_LEN, D // 2), law)


@check("sinusoidal_positions", points=1)
def test_only_the_distance_counts(work, draw):
    """The dot product of two positions depends on how far apart they are, not on where."""
    table = _table(work, MAX_LEN, D)

    law = "positions p and p+3 have the dot product of positions 0 and 3"
    near = (table[3:] * table[:-3]).sum(-1)
    same(near, near[:1].expand(MAX_LEN - 3), law)


@check("sinusoidal_positions", points=1)
def test_a_table_of_any_length(work, draw):
    """A longer table begins with the shorter one; far rows are right; all of it is float32."""
    long = work.sinusoidal_positions(512, D)

    law = "a row depends on its position alone, not on max_len"
    same(work.sinusoidal_positions(1, D).double(), long[:1].double(), law)
    same(work.sinusoidal_positions(T, D).double(), long[:T].double(), law)
    same(long[-2:].float(), _waves(512, D)[-2:], "far positions follow the formula too", 2e-3)
    same(str(long.dtype), "torch.float32", "the table is float32")


@check("sinusoidal_positions", points=1)
def test_an_odd_width_is_refused(work, draw):
    """An odd d_model is a ValueError: each frequency takes a sine and a cosine."""
    refuses(lambda: work.sinusoidal_positions(T, S), "an odd d_model is refused by a ValueError")


def _table(work, max_len, d_model):
    """The part's table in float32, whatever it came in."""
    found = work.sinusoidal_positions(max_len, d_model)
    return found.float() if isinstance(found, Tensor) else found


# PositionalEncoding. Dropout is 0 where the question is another one, and inputs are no leaves, so
# that who adds in place loses the check about that alone.


@check("PositionalEncoding", points=2)
def test_sinusoids_are_added(work, draw):
    """Token t of every sentence gets row t of the table added."""
    module = work.PositionalEncoding(D, dropout=0.0, max_len=MAX_LEN).double().eval()

    for batch, length in ((B, T), (1, T), (1, 1), (T, B), (T, MAX_LEN)):
        x = draw(batch, length, D)
        law = f"forward(x) is x + table[:T], for {batch} sentences of {length} tokens"
        expected = x + _waves(length, D).double()
        same_with_gradients(module(1 * x), expected, [x], law, 1e-5)


@check("PositionalEncoding", points=1)
def test_table_is_a_buffer(work, draw):
    """The table is a buffer: it is not trained, not saved, and moves with the module."""
    x = draw(B, T, D).detach().half()
    expected = x + _waves(T, D).half()
    module = work.PositionalEncoding(D, dropout=0.0, max_len=MAX_LEN).half()

    law = "module.half() takes the table along, so float16 tokens stay float16"
    same(module(1 * x), expected, law)
    named = [name for name, _ in module.named_parameters()]
    same(named, [], "training leaves sinusoids alone: there are no parameters")
    law = "the table can always be worked out again: persistent=False keeps it out of state_dict()"
    same(sorted(module.state_dict()), [], law)
    law = "`table` is a buffer of shape [max_len, D]"
    buffer = dict(module.named_buffers()).get("table")
    same("no buffer" if buffer is None else list(buffer.shape), [MAX_LEN, D], law)
    device = module.to("meta")(x.to("meta")).device.type
    same(device, "meta", "module.to(device) takes the table along")


@check("PositionalEncoding", points=1)
def test_dropout_falls_on_the_sum(work, draw):
    """In training, dropout falls on tokens plus positions; in eval mode there is none."""
    _dropout_of_the_sum(
        lambda **settings: work.PositionalEncoding(D, **settings).double(),
        lambda module: _waves(100, D),
        draw,
    )


@check("PositionalEncoding", points=1)
def test_too_long_a_text_is_refused(work, draw):
    """max_len tokens fit; one more is a ValueError. max_len is 512 unless told otherwise."""
    _too_long(work.PositionalEncoding, draw)


@check("PositionalEncoding", points=1)
def test_tokens_are_left_as_they_were(work, draw):
    """The input is not changed in place: the residual and the caller still need it."""
    module = work.PositionalEncoding(D, dropout=0.0, max_len=MAX_LEN).double().eval()
    x = draw(B, T, D).detach()
    before = x.clone()

    module(x)
    same(x, before, "x is left as it was: x + … makes a new tensor, x += … does not")
    first, second = module(1 * before), module(1 * before)
    same(second, first, "a second call gives the same")


# LearnedPositions


@check("LearnedPositions", points=1)
def test_learned_rows_are_added(work, draw):
    """Token t of every sentence gets row t of the learned table, and only used rows learn."""
    module = draw.fill(work.LearnedPositions(D, dropout=0.0, max_len=MAX_LEN))
    rows = module.get_parameter("embedding.weight")

    for batch, length in ((B, T), (1, 1), (T, MAX_LEN)):
        x = draw(batch, length, D)
        law = f"forward(x) is x + embedding of 0 … T-1, for {batch} sentences of {length} tokens"
        same_with_gradients(module(1 * x), x + rows[:length], [x, rows], law)
    x = draw(B, T, D).detach()
    module(x)
    holds(draw.untouched(), "x is left as it was", "the caller's tensor has other numbers")


@check("LearnedPositions", points=1)
def test_the_table_is_an_embedding(work, draw):
    """An nn.Embedding `embedding` of max_len rows is all there is to train and to save."""
    module = work.LearnedPositions(d_model=D, max_len=MAX_LEN)

    law = "the one parameter is embedding.weight, [max_len, D]"
    shapes = [(name, list(x.shape)) for name, x in module.named_parameters() if x.requires_grad]
    same(shapes, [("embedding.weight", [MAX_LEN, D])], law)
    same(sorted(module.state_dict()), ["embedding.weight"], "nothing else is saved")


@check("LearnedPositions", points=1)
def test_learned_dropout_falls_on_the_sum(work, draw):
    """In training, dropout falls on tokens plus positions; in eval mode there is none."""
    _dropout_of_the_sum(
        lambda **settings: draw.fill(work.LearnedPositions(D, **settings)),
        lambda module: module.get_parameter("embedding.weight")[:100].detach(),
        draw,
    )


@check("LearnedPositions", points=1)
def test_learned_positions_have_an_end(work, draw):
    """max_len tokens fit; one more is a ValueError. max_len is 512 unless told otherwise."""
    _too_long(work.LearnedPositions, draw)


def _dropout_of_the_sum(make, rows, draw):
    """Dropout with p = 0.5: none in eval mode; in training on every number of the sum."""
    module, x = make(dropout=0.5), draw(K, 100, D).detach()
    whole = x + rows(module)

    found = module.eval()(1 * x)
    same(found, whole, "in eval mode there is no dropout", 1e-5)
    found = make(dropout=1.0).train()(1 * x)
    same(found, 0 * x, "dropout=1 in training drops the whole sum, tokens and positions")
    found = module.train()(1 * x)
    kept = found != 0
    law = "dropout=0.5 drops half of the numbers of the sum in training"
    share = 1 - kept.double().mean().item()
    holds(0.4 < share < 0.6, law, f"{share:.0%} of them are dropped")
    law = "dropout(x + table): a number of the sum is dropped whole, or kept and doubled (p = 0.5)"
    doubled = torch.isclose(found, 2 * whole * kept, 1e-4, 1e-4).all()
    holds(doubled, law, "what is left is not twice the sum")
    share = (make().train()(1 * x) == 0).double().mean().item()
    law = "dropout is 0.1 unless told otherwise"
    holds(0.06 < share < 0.14, law, f"{share:.0%} of the numbers are dropped")


def _too_long(part, draw):
    """What fits into max_len positions and what does not."""
    module = part(D, dropout=0.0, max_len=T).double().eval()

    full = list(module(1 * draw(B, T, D)).shape)
    same(full, [B, T, D], "a text of exactly max_len tokens fits")
    law = "a text of max_len + 1 tokens is refused by a ValueError"
    refuses(lambda: module(1 * draw(B, T + 1, D)), law)
    usual = part(D, dropout=0.0).double().eval()
    law = "without max_len there is room for 512 tokens and no more"
    same(list(usual(1 * draw(1, 512, D)).shape), [1, 512, D], law)
    refuses(lambda: usual(1 * draw(1, 513, D)), law)
