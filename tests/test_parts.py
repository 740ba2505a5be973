"""Both implementations of every part against the contract, with torch's own layers as the judge."""

import copy
import inspect
import math
from dataclasses import asdict, replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call
from torch.testing import assert_close

from autograder.drawing import Draw
from autograder.torchs import ask, assert_same, hidden
from lab.course import PARTS
from lab.model import Config, build
from lab.parts import from_package, using

H, T, S, K, D_FF, V, LAYERS = 3, 4, 5, 6, 7, 11, 2
D = H * K
PAD = 2

in_both_precisions = pytest.mark.parametrize(
    "draw", [torch.float64, torch.float32], indirect=True, ids=["float64", "float32"]
)
for_a_batch_of = pytest.mark.parametrize("B", [1, 3])

# Every form of mask that MultiHeadAttention takes
MASKS = {
    "no mask": lambda draw, B, T, S: None,
    "per key": lambda draw, B, T, S: draw.mask(B, 1, 1, S),
    "per pair": lambda draw, B, T, S: draw.mask(T, S),
    "per sentence": lambda draw, B, T, S: draw.mask(B, 1, T, S),
    "per head": lambda draw, B, T, S: draw.mask(B, H, T, S),
}
with_each_mask = pytest.mark.parametrize("mask_of", MASKS.values(), ids=MASKS)


# The whole contract

SIGNATURES = {
    "softmax": "scores, dim=-1",
    "soft_lookup": "query, keys, values",
    "scaled_dot_product_attention": "query, key, value, mask=None",
    "SelfAttention": "d_model, d_k=None, d_v=None",
    "padding_mask": "ids, pad_id",
    "causal_mask": "length, device=None",
    "decoder_mask": "ids, pad_id",
    "split_heads": "x, n_heads",
    "merge_heads": "x",
    "MultiHeadAttention": "d_model, n_heads",
    "sinusoidal_positions": "max_len, d_model",
    "PositionalEncoding": "d_model, dropout=0.1, max_len=512",
    "LearnedPositions": "d_model, dropout=0.1, max_len=512",
    "LayerNorm": "d_model, eps=1e-05",
    "AddNorm": "d_model, dropout=0.1",
    "FeedForward": "d_model, d_ff",
    "EncoderLayer": "d_model, n_heads, d_ff, dropout=0.1",
    "Encoder": "n_layers, d_model, n_heads, d_ff, dropout=0.1",
    "DecoderLayer": "d_model, n_heads, d_ff, dropout=0.1",
    "Decoder": "n_layers, d_model, n_heads, d_ff, dropout=0.1",
    "TokenEmbedding": "vocab_size, d_model, pad_id=0",
    "Transformer": "vocab_size, d_model=256, n_heads=4, n_layers=3, d_ff=1024, dropout=0.1, "
    "max_len=512, pad_id=0",
    "shift_target": "tgt",
    "label_smoothing_loss": "logits, expected, smoothing=0.1, pad_id=0",
    "noam_learning_rate": "step, d_model, warmup=4000",
    "train_step": "model, optimizer, src, tgt, pad_id=0, max_norm=1.0, smoothing=0.1",
    "greedy_decode": "model, src, bos_id, eos_id, max_len=64",
    "beam_search": "model, src, bos_id, eos_id, beam_size=4, max_len=64, length_penalty=0.6",
    "sample_decode": "model, src, bos_id, eos_id, max_len=64, temperature=1.0, top_k=None, "
    "top_p=None, generator=None",
}


@pytest.mark.parametrize("part", PARTS)
def test_a_part_takes_the_contracts_arguments(work, part):
    """Names, order and defaults are the contract's; more can be had by keyword only."""
    parameters = inspect.signature(getattr(work, part)).parameters.values()

    positional = [each for each in parameters if each.kind is not each.KEYWORD_ONLY]
    taken = ", ".join(str(each.replace(annotation=each.empty)) for each in positional)
    assert taken == SIGNATURES[part]


def linear(*names):
    return [f"{name}.{kind}" for name in names for kind in ("weight", "bias")]


def inside(name, keys):
    return [f"{name}.{key}" for key in keys]


SELF_ATTENTION = linear("q_proj", "k_proj", "v_proj")
ATTENTION = linear("q_proj", "k_proj", "v_proj", "out_proj")
FEED_FORWARD = linear("linear1", "linear2")
ENCODER_LAYER = [
    *inside("self_attention", ATTENTION),
    *inside("feed_forward", FEED_FORWARD),
    *linear("add_norm1.norm", "add_norm2.norm"),
]
DECODER_LAYER = [
    *inside("self_attention", ATTENTION),
    *inside("cross_attention", ATTENTION),
    *inside("feed_forward", FEED_FORWARD),
    *linear("add_norm1.norm", "add_norm2.norm", "add_norm3.norm"),
]
ENCODER = [key for n in range(LAYERS) for key in inside(f"layers.{n}", ENCODER_LAYER)]
DECODER = [key for n in range(LAYERS) for key in inside(f"layers.{n}", DECODER_LAYER)]
STATES = {
    "SelfAttention": ((D,), SELF_ATTENTION),
    "MultiHeadAttention": ((D, H), ATTENTION),
    "PositionalEncoding": ((D,), []),
    "LearnedPositions": ((D,), ["embedding.weight"]),
    "LayerNorm": ((D,), ["weight", "bias"]),
    "AddNorm": ((D,), linear("norm")),
    "FeedForward": ((D, D_FF), FEED_FORWARD),
    "EncoderLayer": ((D, H, D_FF), ENCODER_LAYER),
    "Encoder": ((LAYERS, D, H, D_FF), ENCODER),
    "DecoderLayer": ((D, H, D_FF), DECODER_LAYER),
    "Decoder": ((LAYERS, D, H, D_FF), DECODER),
    "TokenEmbedding": ((V, D), ["embedding.weight"]),
    "Transformer": (
        (V, D, H, LAYERS, D_FF),
        ["embedding.embedding.weight", *inside("encoder", ENCODER), *inside("decoder", DECODER)],
    ),
}


@pytest.mark.parametrize("part", STATES)
def test_a_state_has_the_contracts_keys(work, part):
    """What a module saves is what its named attributes give, each once, and nothing more."""
    arguments, keys = STATES[part]

    module = getattr(work, part)(*arguments)

    assert sorted(module.state_dict()) == sorted(keys)
    assert sorted(name for name, _ in module.named_parameters()) == sorted(keys)


B = 2
CALLS = {
    "softmax": lambda work, draw: work.softmax(draw(B, S)),
    "soft_lookup": lambda work, draw: work.soft_lookup(draw(K), draw(S, K), draw(S, D_FF)),
    "scaled_dot_product_attention": lambda work, draw: work.scaled_dot_product_attention(
        draw(B, H, T, K), draw(B, H, S, K), draw(B, H, S, D_FF), draw.mask(B, 1, T, S)
    ),
    "SelfAttention": lambda work, draw: draw.fill(work.SelfAttention(D, K, D_FF))(
        draw(B, T, D), draw.mask(B, T, T)
    ),
    "split_heads": lambda work, draw: work.split_heads(draw(B, T, D), H),
    "merge_heads": lambda work, draw: work.merge_heads(draw(B, H, T, K)),
    "MultiHeadAttention": lambda work, draw: draw.fill(work.MultiHeadAttention(D, H))(
        draw(B, T, D), draw(B, S, D), draw(B, S, D), draw.mask(B, H, T, S)
    ),
    "PositionalEncoding": lambda work, draw: draw.fill(work.PositionalEncoding(D))(draw(B, T, D)),
    "LearnedPositions": lambda work, draw: draw.fill(work.LearnedPositions(D))(draw(B, T, D)),
    "LayerNorm": lambda work, draw: draw.fill(work.LayerNorm(D))(draw(B, T, D)),
    "AddNorm": lambda work, draw: draw.fill(work.AddNorm(D))(draw(B, T, D), draw(B, T, D)),
    "FeedForward": lambda work, draw: draw.fill(work.FeedForward(D, D_FF))(draw(B, T, D)),
    "EncoderLayer": lambda work, draw: draw.fill(work.EncoderLayer(D, H, D_FF))(
        draw(B, S, D), draw.mask(B, 1, 1, S)
    ),
    "Encoder": lambda work, draw: draw.fill(work.Encoder(LAYERS, D, H, D_FF))(
        draw(B, S, D), draw.mask(B, 1, 1, S)
    ),
    "DecoderLayer": lambda work, draw: draw.fill(work.DecoderLayer(D, H, D_FF))(
        draw(B, T, D), draw(B, S, D), draw.mask(T, T), draw.mask(B, 1, 1, S)
    ),
    "Decoder": lambda work, draw: draw.fill(work.Decoder(LAYERS, D, H, D_FF))(
        draw(B, T, D), draw(B, S, D), draw.mask(T, T), draw.mask(B, 1, 1, S)
    ),
    "TokenEmbedding": lambda work, draw: draw.fill(work.TokenEmbedding(V, D))(draw.ids(B, T)),
    "Transformer": lambda work, draw: draw.fill(work.Transformer(V, D, H, LAYERS, D_FF))(
        draw.sentences(B, S), draw.sentences(B, T)
    ),
    "label_smoothing_loss": lambda work, draw: work.label_smoothing_loss(
        draw(B, T, V), draw.sentences(B, T)
    ),
}


def results(part, work, draw):
    answer = CALLS[part](work, draw)
    return answer if isinstance(answer, tuple) else (answer,)


@pytest.mark.parametrize("part", CALLS)
def test_inputs_stay_and_gradients_reach_them(work, draw, part):
    """A part changes no input in place, and a finite gradient arrives in every one."""
    answers = results(part, work, draw)
    arrived = torch.autograd.grad(sum(x.sum() for x in answers), draw.leaves)

    assert all(gradient.isfinite().all() for gradient in arrived)
    assert draw.untouched()


@pytest.mark.parametrize("part", CALLS)
@pytest.mark.parametrize(
    "draw", [torch.float32, torch.float16, torch.bfloat16], indirect=True, ids=str
)
def test_a_part_follows_the_dtype_of_its_inputs(work, draw, part):
    """Inputs of a dtype give results of that dtype, as near to float64 as the dtype allows."""
    answers = results(part, work, draw)
    exact = results(part, work, Draw(torch.float64))

    assert all(answer.dtype == draw.dtype for answer in answers)
    few_roundings = 40 * torch.finfo(draw.dtype).eps
    for answer, expected in zip(answers, exact, strict=True):
        assert_close(answer.double(), expected, rtol=few_roundings, atol=few_roundings)


@pytest.mark.parametrize("part", [part for part in CALLS if part != "label_smoothing_loss"])
def test_a_part_follows_the_device_of_its_inputs(work, part):
    """Inputs on another device give results there: here a device that has shapes and no numbers."""
    answers = results(part, work, Draw(torch.float32, "meta"))

    assert all(answer.device.type == "meta" for answer in answers)


# 01-attention


@in_both_precisions
@pytest.mark.parametrize("dim", [-1, 0, 1])
@pytest.mark.parametrize("scale", [1, 1e4])
def test_softmax_is_torchs(work, draw, dim, scale):
    """Over any dimension, for small scores and for huge ones."""
    scores = draw(T, S, K)

    assert_same(work.softmax(scores * scale, dim), F.softmax(scores * scale, dim), [scores])


@pytest.mark.parametrize("dim", [-1, 0])
def test_softmax_of_a_lost_slice_is_zero(work, draw, dim):
    """A slice that is all -inf gives zeros and no gradient; its neighbours do not notice."""
    scores = draw(T, S)
    lost = torch.zeros(T, S, dtype=torch.bool)
    lost.select(1 + dim, 1).fill_(True)

    weights = work.softmax(scores.masked_fill(lost, -math.inf), dim)
    (gradient,) = torch.autograd.grad(weights.square().sum(), [scores])

    assert_close(weights, F.softmax(scores, dim).masked_fill(lost, 0))
    assert gradient.isfinite().all()
    assert not gradient[lost].any()


def test_softmax_of_some_lost_scores_ignores_them(work, draw):
    """A score of -inf has weight zero, and the others share all of it."""
    scores = draw(T, S)
    scores_and_lost = torch.cat([scores, torch.full((T, 1), -math.inf)], dim=1)

    weights = work.softmax(scores_and_lost)

    assert_close(weights[:, :S], F.softmax(scores, -1))
    assert not weights[:, S].any()


def test_soft_lookup_by_hand(work):
    """Scores of ln 1, ln 2 and ln 5 give weights of 1/8, 2/8 and 5/8."""
    query = torch.tensor([1.0, 0.0])
    keys = torch.tensor([[math.log(1), 9.0], [math.log(2), -9.0], [math.log(5), 0.0]])
    values = torch.tensor([[8.0], [0.0], [16.0]])

    result, weights = work.soft_lookup(query, keys, values)

    assert_close(weights, torch.tensor([1.0, 2.0, 5.0]) / 8)
    assert_close(result, torch.tensor([11.0]))


@in_both_precisions
def test_soft_lookup_is_unscaled_attention_of_one_query(work, draw):
    """As torch's attention with scale 1."""
    query, keys, values = draw(K), draw(S, K), draw(S, D_FF)

    result, weights = work.soft_lookup(query, keys, values)

    expected = F.scaled_dot_product_attention(query[None], keys, values, scale=1.0)[0]
    assert_same([result, weights], [expected, F.softmax(keys @ query, -1)], draw.leaves)


@in_both_precisions
@pytest.mark.parametrize("axes", [(), (3,), (1, 3), (2, 3)], ids=str)
@pytest.mark.parametrize("masked", [False, True])
def test_attention_is_torchs(work, draw, axes, masked):
    """Under any leading dimensions, with and without a mask that they share."""
    query, key, value = draw(*axes, T, K), draw(*axes, S, K), draw(*axes, S, D_FF)
    mask = draw.mask(T, S) if masked else None

    output, weights = work.scaled_dot_product_attention(query, key, value, mask)

    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    scores = torch.einsum("...tk,...sk->...ts", query, key) / K**0.5
    if masked:
        scores = scores.where(mask, -math.inf)
    assert_same([output, weights], [expected, F.softmax(scores, -1)], draw.leaves)


@pytest.mark.parametrize("shape", [(T, S), (1, S), (T, 1), (H, 1, S), (3, 1, T, S), (3, H, T, S)])
def test_attention_masks_broadcast(work, draw, shape):
    """A mask smaller than the scores counts for all that it spreads over."""
    query, key, value = draw(3, H, T, K), draw(3, H, S, K), draw(3, H, S, D_FF)
    mask = draw.mask(*shape)

    output, _ = work.scaled_dot_product_attention(query, key, value, mask)

    spread = mask.expand(3, H, T, S)
    assert_close(output, F.scaled_dot_product_attention(query, key, value, attn_mask=spread))


def test_a_masked_value_never_reaches_the_output(work, draw):
    """What a query may not look at can change at will."""
    query, key, value = draw(3, T, K), draw(3, S, K), draw(3, S, D_FF)
    mask = draw.mask(T, S)
    mask[:, 1] = False
    changed_key, changed_value = key.detach().clone(), value.detach().clone()
    changed_key[:, 1], changed_value[:, 1] = 50, -1000

    before = work.scaled_dot_product_attention(query, key, value, mask)
    after = work.scaled_dot_product_attention(query, changed_key, changed_value, mask)

    assert_close(after, before)


@in_both_precisions
@pytest.mark.parametrize("widths", [(), (K,), (None, D_FF), (K, D_FF)], ids=str)
@pytest.mark.parametrize("mask_shape", [None, (T, T), (3, T, T), (3, 1, T)], ids=str)
def test_self_attention_projects_then_attends(work, draw, widths, mask_shape):
    """Three linear layers before torch's attention; d_k and d_v are d_model unless given."""
    module, x = draw.fill(work.SelfAttention(D, *widths)), draw(3, T, D)
    mask = None if mask_shape is None else draw.mask(*mask_shape)

    output, weights = module(x, mask)

    query, key, value = (
        F.linear(x, module.get_parameter(f"{name}.weight"), module.get_parameter(f"{name}.bias"))
        for name in ("q_proj", "k_proj", "v_proj")
    )
    expected = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    assert weights.shape == (3, T, T)
    assert_same(output, expected, draw.leaves)


LOST = torch.tensor([False, True, False, False])  # the second query may look at nothing


def sees_nothing(draw, T, S):
    return draw.mask(T, S).masked_fill(LOST[:, None], False)


def attention_of_the_lost(work, draw):
    mask = sees_nothing(draw, T, S)
    return work.scaled_dot_product_attention(draw(3, T, K), draw(3, S, K), draw(3, S, D_FF), mask)


def self_attention_of_the_lost(work, draw):
    return draw.fill(work.SelfAttention(D))(draw(3, T, D), sees_nothing(draw, T, T))


def heads_of_the_lost(work, draw):
    module = draw.fill(work.MultiHeadAttention(D, H))
    output, weights = module(draw(3, T, D), draw(3, S, D), draw(3, S, D), sees_nothing(draw, T, S))
    return output - module.out_proj.bias, weights


@pytest.mark.parametrize(
    "call", [attention_of_the_lost, self_attention_of_the_lost, heads_of_the_lost]
)
@pytest.mark.parametrize(
    "draw", [torch.float64, torch.float32, torch.float16], indirect=True, ids=str
)
def test_who_may_look_at_nothing_gets_zeros(work, draw, call):
    """Output and weights of zeros, finite gradients, and nobody else is the poorer."""
    output, weights = call(work, draw)
    gradients = torch.autograd.grad(output.sum() + weights.square().sum(), draw.leaves)

    assert not output[:, LOST].any()
    assert not weights[..., LOST, :].any()
    assert output[:, ~LOST].all()
    assert_close(weights[..., ~LOST, :].sum(-1), torch.ones_like(weights[..., ~LOST, 0]))
    assert all(gradient.isfinite().all() for gradient in gradients)


# 02-masks


def test_padding_mask_by_hand(work):
    """True where a token is no padding, wherever the padding stands."""
    ids = torch.tensor([[5, 3, 9], [2, 4, 2]])

    mask = work.padding_mask(ids, pad_id=2)

    assert_close(mask, torch.tensor([[[[True, True, True]]], [[[False, True, False]]]]))


def test_causal_mask_by_hand(work):
    """A token sees itself and what came before."""
    assert work.causal_mask(3).tolist() == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]
    assert work.causal_mask(1).tolist() == [[True]]


def test_decoder_mask_hides_the_future_and_padding(work, draw):
    """Position t sees s when s is not after t and no padding; padding queries keep their row."""
    ids = draw.sentences(3, T, PAD)

    mask = work.decoder_mask(ids, PAD)

    assert mask.dtype == torch.bool
    assert mask.tolist() == [
        [[[s <= t and row[s] != PAD for s in range(T)] for t in range(T)]] for row in ids.tolist()
    ]


def test_masks_are_on_the_device_of_the_ids(work):
    """The device follows the ids; causal_mask is told."""
    ids = torch.ones(3, T, dtype=torch.long, device="meta")

    assert work.padding_mask(ids, PAD).device == ids.device
    assert work.decoder_mask(ids, PAD).device == ids.device
    assert work.causal_mask(T, device="meta").device == ids.device
    assert work.causal_mask(T, torch.device("meta")).device == ids.device


# 03-multi-head


def test_a_head_holds_neighbouring_features(work, draw):
    """Head h holds the features h*K to (h+1)*K - 1 of each token."""
    x = draw(3, T, D)

    heads = work.split_heads(x, H)

    assert heads.shape == (3, H, T, K)
    for h in range(H):
        assert_close(heads[:, h], x[:, :, h * K : (h + 1) * K])


@pytest.mark.parametrize("n_heads", [1, H, D])
def test_merging_undoes_splitting(work, draw, n_heads):
    """Also for one head and for heads of width one."""
    x = draw(3, T, D)

    assert_close(work.merge_heads(work.split_heads(x, n_heads)), x)


@in_both_precisions
@for_a_batch_of
@with_each_mask
def test_multi_head_attention_is_torchs(work, draw, B, mask_of):
    """Output, weights and gradients of nn.MultiheadAttention."""
    module = draw.fill(work.MultiHeadAttention(D, H))
    query, key, value = draw(B, T, D), draw(B, S, D), draw(B, S, D)
    mask = mask_of(draw, B, T, S)

    output, weights = module(query, key, value, mask)

    torchs = nn.MultiheadAttention(D, H, batch_first=True, dtype=draw.dtype)
    hide = hidden(mask, B, H, T, S)
    expected = ask(torchs, module, query, key, value, attn_mask=hide, average_attn_weights=False)
    assert weights.shape == (B, H, T, S)
    assert_same([output, weights], expected, draw.leaves)


@pytest.mark.parametrize("n_heads", [1, D])
def test_one_head_and_heads_of_width_one(work, draw, n_heads):
    """The extremes are no special cases."""
    module, x, memory = draw.fill(work.MultiHeadAttention(D, n_heads)), draw(1, 1, D), draw(1, S, D)

    output, weights = module(x, memory, memory)

    torchs = nn.MultiheadAttention(D, n_heads, batch_first=True, dtype=draw.dtype)
    expected = ask(torchs, module, x, memory, memory, average_attn_weights=False)
    assert_same([output, weights], expected, draw.leaves)


def test_heads_that_do_not_fit_are_refused_with_a_remedy(work):
    """The message names both numbers and the numbers of heads that would do."""
    with pytest.raises(ValueError, match=r"d_model=10 .* n_heads=3 .* \[1, 2, 5, 10\]"):
        work.MultiHeadAttention(10, 3)


# 04-positions


def test_sinusoids_are_the_papers(work):
    """Column 2i is sin(pos / 10000^(2i/D)), column 2i+1 the cosine of the same angle (§3.5)."""
    table = work.sinusoidal_positions(300, 6)

    angles = [[pos / 10_000 ** (2 * i / 6) for i in range(3)] for pos in range(300)]
    expected = [[wave(a) for a in row for wave in (math.sin, math.cos)] for row in angles]
    assert table.dtype == torch.float32
    assert_close(table, torch.tensor(expected), rtol=0, atol=2e-7)  # a rounding of values up to 1


def test_an_odd_width_is_refused(work):
    """Sine and cosine come in pairs."""
    with pytest.raises(ValueError, match="d_model=7 is odd"):
        work.sinusoidal_positions(T, 7)


def test_positions_are_added_and_no_parameter(work, draw):
    """Each token gets the sinusoid of its place, which training leaves alone."""
    module, x = work.PositionalEncoding(D, max_len=9).eval(), draw(3, T, D)

    assert module.table.shape == (9, D)
    assert_close(module(x), x + work.sinusoidal_positions(T, D))
    assert not list(module.parameters())


def test_learned_positions_are_added(work, draw):
    """Each token gets the learned vector of its place, and only used places learn."""
    module, x = draw.fill(work.LearnedPositions(D, max_len=9)), draw(3, T, D)
    table = module.embedding.weight

    assert table.shape == (9, D)
    assert_same(module(x), x + table[:T], draw.leaves)


@pytest.mark.parametrize("part", ["PositionalEncoding", "LearnedPositions"])
def test_a_text_beyond_the_last_position_is_refused_with_a_remedy(work, draw, part):
    """max_len tokens fit, one more does not, and the message says what to do."""
    module = getattr(work, part)(D, max_len=T).double()

    assert module(draw(1, T, D)).shape == (1, T, D)
    with pytest.raises(ValueError, match=f"{T + 1} tokens .* max_len={T} .*: shorten .* larger"):
        module(draw(1, T + 1, D))


@pytest.mark.parametrize("part", ["PositionalEncoding", "LearnedPositions"])
def test_dropout_falls_on_the_sum_of_tokens_and_positions(work, draw, part):
    """In training each number of the sum is dropped or scaled up (§5.4)."""
    module, x = getattr(work, part)(D, dropout=0.5).double(), draw(3, T, D)

    whole, dropped = module.eval()(x), module.train()(x)

    kept = dropped != 0
    assert 0 < kept.sum() < kept.numel()
    assert_close(dropped, whole * 2 * kept)


# 05-add-norm


@in_both_precisions
@pytest.mark.parametrize("shape", [(D,), (T, D), (3, T, D)], ids=str)
@pytest.mark.parametrize("eps", [1e-5, 0.1])
def test_layer_norm_is_torchs(work, draw, shape, eps):
    """With any γ, β and eps, over the last dimension of any tensor."""
    module, x = draw.fill(work.LayerNorm(D, eps)), draw(*shape)

    assert_same(module(x), F.layer_norm(x, (D,), module.weight, module.bias, eps), draw.leaves)


def test_layer_norm_begins_neutral(work):
    """γ is one and β zero, so an untrained norm only normalises."""
    module = work.LayerNorm(D)

    assert_close(module.weight, torch.ones(D))
    assert_close(module.bias, torch.zeros(D))


def test_layer_norm_is_exact_far_from_zero(work, draw):
    """A common offset of 10,000 does not matter, in float32 either."""
    x = draw(3, T, D).float() + 10_000

    normalised = work.LayerNorm(D)(x)

    expected = F.layer_norm(x.double(), (D,))
    a_few_steps = 5e-3  # neighbours in float32 lie 1e-3 apart there, and so does the mean
    assert_close(normalised.double(), expected, rtol=0, atol=a_few_steps)


def test_layer_norm_of_a_constant_is_its_bias(work, draw):
    """No variance is no division by zero."""
    module = draw.fill(work.LayerNorm(D))

    assert_close(module(torch.full((T, D), 3.0, dtype=draw.dtype)), module.bias.expand(T, D))


@in_both_precisions
def test_add_norm_is_the_norm_of_the_sum(work, draw):
    """Post-norm: first add, then normalise."""
    module, x, y = draw.fill(work.AddNorm(D)), draw(3, T, D), draw(3, T, D)

    expected = F.layer_norm(x + y, (D,), module.norm.weight, module.norm.bias)
    assert_same(module(x, y), expected, draw.leaves)


def test_add_norm_drops_from_the_sublayer_only(work, draw):
    """With all of its output dropped, the residual is what remains."""
    module, x, y = draw.fill(work.AddNorm(D, dropout=1.0)).train(), draw(3, T, D), draw(3, T, D)

    assert_close(module(x, y), module.norm(x))


# 06-feed-forward


@in_both_precisions
@pytest.mark.parametrize("shape", [(D,), (T, D), (3, T, D)], ids=str)
def test_feed_forward_is_the_papers(work, draw, shape):
    """max(0, xW₁ + b₁)W₂ + b₂ for each token alone (§3.3)."""
    module, x = draw.fill(work.FeedForward(D, D_FF)), draw(*shape)
    first, second = module.linear1, module.linear2

    expected = (x @ first.weight.T + first.bias).clamp(min=0) @ second.weight.T + second.bias
    assert first.weight.shape == (D_FF, D)
    assert_same(module(x), expected, draw.leaves)


# 07-encoder and 08-decoder


def torchs(layer, draw):
    """One of torch's layers: post-norm, ReLU, no dropout."""
    return layer(D, H, D_FF, dropout=0.0, batch_first=True, dtype=draw.dtype)


@in_both_precisions
@for_a_batch_of
@with_each_mask
def test_encoder_layer_is_torchs(work, draw, B, mask_of):
    """nn.TransformerEncoderLayer with the same weights."""
    module, x, mask = (
        draw.fill(work.EncoderLayer(D, H, D_FF)),
        draw(B, S, D),
        mask_of(draw, B, S, S),
    )

    expected = ask(torchs(nn.TransformerEncoderLayer, draw), module, x, hidden(mask, B, H, S, S))
    assert_same(module(x, mask), expected, draw.leaves)


@in_both_precisions
@for_a_batch_of
@with_each_mask
def test_decoder_layer_is_torchs(work, draw, B, mask_of):
    """nn.TransformerDecoderLayer with the same weights; each attention has its own mask."""
    module, x, memory = draw.fill(work.DecoderLayer(D, H, D_FF)), draw(B, T, D), draw(B, S, D)
    self_mask, cross_mask = mask_of(draw, B, T, T), mask_of(draw, B, T, S)

    expected = ask(
        torchs(nn.TransformerDecoderLayer, draw),
        module,
        x,
        memory,
        hidden(self_mask, B, H, T, T),
        hidden(cross_mask, B, H, T, S),
    )
    assert_same(module(x, memory, self_mask, cross_mask), expected, draw.leaves)


@in_both_precisions
@for_a_batch_of
def test_encoder_is_torchs_stack(work, draw, B):
    """nn.TransformerEncoder: each layer has weights of its own and the same mask."""
    module, x, mask = (
        draw.fill(work.Encoder(LAYERS, D, H, D_FF)),
        draw(B, S, D),
        draw.mask(B, 1, 1, S),
    )

    stack = nn.TransformerEncoder(
        torchs(nn.TransformerEncoderLayer, draw), LAYERS, enable_nested_tensor=False
    )
    assert_same(module(x, mask), ask(stack, module, x, hidden(mask, B, H, S, S)), draw.leaves)


@in_both_precisions
@for_a_batch_of
def test_decoder_is_torchs_stack(work, draw, B):
    """nn.TransformerDecoder: every layer looks at the same memory."""
    module, x, memory = draw.fill(work.Decoder(LAYERS, D, H, D_FF)), draw(B, T, D), draw(B, S, D)
    self_mask, cross_mask = draw.mask(T, T), draw.mask(B, 1, 1, S)

    expected = ask(
        nn.TransformerDecoder(torchs(nn.TransformerDecoderLayer, draw), LAYERS),
        module,
        x,
        memory,
        hidden(self_mask, B, H, T, T),
        hidden(cross_mask, B, H, T, S),
    )
    assert_same(module(x, memory, self_mask, cross_mask), expected, draw.leaves)


def test_dropout_falls_on_the_output_of_each_sublayer(work, draw):
    """With all of it dropped, a layer is its norms, one after the other (§5.4)."""
    encoder = draw.fill(work.EncoderLayer(D, H, D_FF, dropout=1.0)).train()
    decoder = draw.fill(work.DecoderLayer(D, H, D_FF, dropout=1.0)).train()
    x, memory = draw(3, T, D), draw(3, S, D)

    normalised = encoder.add_norm2.norm(encoder.add_norm1.norm(x))
    assert_close(encoder(x), normalised)
    normalised = decoder.add_norm2.norm(decoder.add_norm1.norm(x))
    assert_close(decoder(x, memory), decoder.add_norm3.norm(normalised))


def test_dropout_spares_attention_and_feed_forward(work, draw):
    """Inside them training changes nothing: the paper drops only what they put out."""
    layer, x = draw.fill(work.EncoderLayer(D, H, D_FF, dropout=0.9)), draw(3, T, D)

    def inner():
        return *layer.self_attention(x, x, x), layer.feed_forward(x)

    at_rest = inner()
    layer.train()
    assert_close(inner(), at_rest)


# 09-transformer


@in_both_precisions
def test_token_embedding_scales_with_the_width(work, draw):
    """embedding(ids) · √D (§3.4); the row of the padding token is never trained."""
    module, ids = draw.fill(work.TokenEmbedding(V, D, PAD)), draw.sentences(3, T, PAD)

    expected = F.embedding(ids, module.embedding.weight, padding_idx=PAD) * D**0.5
    assert_same(module(ids), expected, draw.leaves)


def test_padding_begins_as_the_zero_vector(work):
    """nn.Embedding's padding_idx is the pad_id."""
    module = work.TokenEmbedding(V, D, PAD)

    assert module.embedding.padding_idx == PAD
    assert not module(torch.tensor([[PAD]])).any()


def whole_model_by_torch(model, config, src, tgt):
    """Torch's stacks between one embedding and itself transposed, with torch's padding masks."""
    embedding, table = model.embedding.embedding.weight, model.positions.table
    sizes = config.d_model, config.n_heads, config.d_ff, 0.0
    settings = {"batch_first": True, "dtype": embedding.dtype}
    layer = nn.TransformerEncoderLayer(*sizes, **settings)
    encoder = nn.TransformerEncoder(layer, config.n_layers, enable_nested_tensor=False)
    layer = nn.TransformerDecoderLayer(*sizes, **settings)
    decoder = nn.TransformerDecoder(layer, config.n_layers)

    def embed(ids):
        rows = F.embedding(ids, embedding, padding_idx=PAD)
        return rows * config.d_model**0.5 + table[: ids.size(1)]

    memory = ask(encoder, model.encoder, embed(src), src_key_padding_mask=src == PAD)
    x = ask(
        decoder,
        model.decoder,
        embed(tgt),
        memory,
        tgt_mask=torch.ones(tgt.size(1), tgt.size(1), dtype=torch.bool).triu(1),
        tgt_key_padding_mask=tgt == PAD,
        memory_key_padding_mask=src == PAD,
    )
    return memory, x @ embedding.T


CONFIG = Config(V, D, H, LAYERS, D_FF, dropout=0.0, max_len=9, pad_id=PAD)
SHAPES = {  # B, S, T and the model
    "a batch": (3, S, T, CONFIG),
    "one sentence": (1, T, S, CONFIG),
    "one of everything": (1, 1, 1, replace(CONFIG, d_model=6, n_heads=1, n_layers=1, d_ff=1)),
    "heads of width one": (3, 1, T, replace(CONFIG, d_model=4, n_heads=4)),
}


@in_both_precisions
@pytest.mark.parametrize("B, S, T, config", SHAPES.values(), ids=SHAPES)
def test_the_whole_model_is_composed_of_torchs_layers(work, draw, B, S, T, config):
    """Memory, logits and every gradient, with padding on both sides."""
    model = draw.fill(work.Transformer(**asdict(config)))
    src, tgt = draw.sentences(B, S, PAD), draw.sentences(B, T, PAD)

    memory = model.encode(src)
    logits = model.decode(tgt, memory, src)

    assert_same([memory, logits], whole_model_by_torch(model, config, src, tgt), draw.leaves)
    assert_close(model(src, tgt), logits)


def test_a_model_is_made_of_the_contracts_parts(work):
    """One embedding for both sides, positions, an encoder and a decoder, of this implementation."""
    model = work.Transformer(V, D, H, LAYERS, D_FF, max_len=9, pad_id=PAD)

    assert isinstance(model.embedding, work.TokenEmbedding)
    assert isinstance(model.positions, work.PositionalEncoding)
    assert isinstance(model.encoder, work.Encoder)
    assert isinstance(model.decoder, work.Decoder)
    assert model.positions.table.shape == (9, D)
    assert model.pad_id == PAD


def test_a_later_token_changes_nothing_earlier(work, draw):
    """The logits at t depend on the target up to t, and really on t."""
    model = draw.fill(work.Transformer(V, D, H, LAYERS, D_FF))
    src, tgt = draw.ids(3, S), draw.ids(3, T)
    changed = tgt.clone()
    changed[:, 2] = (tgt[:, 2] - 3 + 1) % (V - 3) + 3

    before, after = model(src, tgt), model(src, changed)

    assert_close(after[:, :2], before[:, :2])
    assert (after[:, 2:] != before[:, 2:]).all()


def test_padding_and_neighbours_change_nothing(work, draw):
    """A sentence gives the same alone as padded in a batch."""
    model = draw.fill(work.Transformer(V, D, H, LAYERS, D_FF, pad_id=PAD))
    src, tgt = draw.ids(1, S), draw.ids(1, T)
    batch_src = torch.cat([F.pad(src, (0, 2), value=PAD), draw.ids(1, S + 2)])
    batch_tgt = torch.cat([F.pad(tgt, (0, 3), value=PAD), draw.ids(1, T + 3)])

    assert_close(model(batch_src, batch_tgt)[:1, :T], model(src, tgt))


def test_a_source_of_nothing_but_padding_is_survived(work, draw):
    """Logits and gradients stay finite."""
    model = draw.fill(work.Transformer(V, D, H, LAYERS, D_FF, pad_id=PAD))
    src, tgt = draw.sentences(3, S, PAD), draw.sentences(3, T, PAD)
    src[0], tgt[1] = PAD, PAD

    logits = model(src, tgt)

    assert logits.isfinite().all()
    gradients = torch.autograd.grad(logits.square().sum(), draw.leaves)
    assert all(gradient.isfinite().all() for gradient in gradients)


# 10-training


def test_shift_target_by_hand(work):
    """What is read, and what should be said next."""
    decoder_input, expected = work.shift_target(torch.tensor([[1, 5, 7, 2], [1, 6, 2, 0]]))

    assert decoder_input.tolist() == [[1, 5, 7], [1, 6, 2]]
    assert expected.tolist() == [[5, 7, 2], [6, 2, 0]]


def test_a_target_of_one_token_leaves_nothing_to_say(work):
    """Both halves are empty."""
    decoder_input, expected = work.shift_target(torch.tensor([[1], [1]]))

    assert decoder_input.shape == expected.shape == (2, 0)


@in_both_precisions
@pytest.mark.parametrize("axes", [(), (T,), (3, T)], ids=str)
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.7])
@pytest.mark.parametrize("scale", [1, 1e4])
def test_loss_is_torchs_cross_entropy(work, draw, axes, smoothing, scale):
    """With padding left out, for any leading dimensions, and finite for huge logits."""
    logits, expected = draw(*axes, V), draw.ids(*axes)
    if axes:
        expected[..., -1] = PAD

    loss = work.label_smoothing_loss(logits * scale, expected, smoothing, PAD)

    rows = (logits * scale).reshape(-1, V)
    oracle = F.cross_entropy(
        rows, expected.reshape(-1), ignore_index=PAD, label_smoothing=smoothing
    )
    assert loss.shape == ()
    assert_same(loss, oracle, [logits])


@pytest.mark.parametrize("d_model, warmup", [(512, 4000), (7, 10)])
def test_noam_is_the_papers_formula(work, d_model, warmup):
    """Up in a straight line, at its peak after the warm-up, then down with the root of the step."""
    rates = [work.noam_learning_rate(step, d_model, warmup) for step in range(1, 5 * warmup)]

    paper = [d_model**-0.5 * min(n**-0.5, n * warmup**-1.5) for n in range(1, 5 * warmup)]
    assert rates == pytest.approx(paper, rel=1e-12)
    assert max(rates) == rates[warmup - 1] == pytest.approx((d_model * warmup) ** -0.5)
    assert work.noam_learning_rate(0, d_model, warmup) == rates[0]
    assert isinstance(rates[0], float)


def train_by_hand(model, rate, src, tgt, max_norm, smoothing):
    """One step of plain gradient descent, in torch's words."""
    logits = model(src, tgt[:, :-1]).transpose(1, 2)
    loss = F.cross_entropy(logits, tgt[:, 1:], ignore_index=PAD, label_smoothing=smoothing)
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    norm = sum(gradient.square().sum() for gradient in gradients).sqrt()
    share = (max_norm / (norm + 1e-6)).clamp(max=1)  # torch, too, keeps clear of a norm of zero
    with torch.no_grad():
        for parameter, gradient in zip(model.parameters(), gradients, strict=True):
            parameter -= rate * share * gradient
    return loss.item()


@pytest.mark.parametrize("max_norm, smoothing", [(1.0, 0.1), (0.01, 0.0), (1e6, 0.3)])
def test_train_step_is_a_step_of_gradient_descent(work, draw, max_norm, smoothing):
    """Three steps give the losses and the weights of the same steps written out."""
    model = draw.fill(work.Transformer(V, D, H, LAYERS, D_FF, dropout=0.0, pad_id=PAD))
    src, tgt = draw.sentences(3, S, PAD), draw.sentences(3, T, PAD)
    by_hand = copy.deepcopy(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)  # left over from somebody's earlier step

    for _ in range(3):
        loss = work.train_step(model, optimizer, src, tgt, PAD, max_norm, smoothing)
        expected = train_by_hand(by_hand, 0.1, src, tgt, max_norm, smoothing)

        assert isinstance(loss, float)
        assert loss == pytest.approx(expected, rel=1e-9)
    assert_close(model.state_dict(), by_hand.state_dict(), rtol=1e-9, atol=1e-9)
    assert model.training


def test_train_step_trains_with_dropout(work, draw):
    """A model left in eval mode is put in train mode: all dropped, the source does not matter."""
    model = draw.fill(work.Transformer(V, D, H, LAYERS, D_FF, dropout=1.0))
    tgt = draw.ids(3, T)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)

    losses = {work.train_step(model, optimizer, draw.ids(3, S), tgt) for _ in range(3)}

    assert len(losses) == 1


# Interchange


@in_both_precisions
def test_one_state_serves_both_implementations(draw):
    """What one saves the other loads, strictly, and makes the same of it."""
    stock = draw.fill(build(CONFIG))
    with using(from_package("solutions")):
        solutions = build(CONFIG).to(draw.dtype)
    src, tgt = draw.sentences(3, S, PAD), draw.sentences(3, T, PAD)

    solutions.load_state_dict(stock.state_dict(), strict=True)
    stock.load_state_dict(solutions.state_dict(), strict=True)
    with_stocks_weights = functional_call(solutions, dict(stock.named_parameters()), (src, tgt))
    assert_same(with_stocks_weights, stock(src, tgt), draw.leaves)


@pytest.mark.parametrize("n_heads", [0, -2])
def test_no_heads_are_refused(work, n_heads):
    """There is at least one head."""
    with pytest.raises(ValueError, match="choose n_heads from"):
        work.MultiHeadAttention(6, n_heads)


@pytest.mark.parametrize("shape", [(), (5,), (1, 5), (4, 1), (3, 1, 5)])
def test_attention_broadcasts_masks_as_torch_does(work, draw, shape):
    """Missing axes stand for all; so do axes of one."""
    query, key, value = draw(2, 3, 4, 6), draw(2, 3, 5, 6), draw(2, 3, 5, 7)
    mask = torch.rand(shape, generator=draw.generator) < 0.7

    found = work.scaled_dot_product_attention(query, key, value, mask)
    full = work.scaled_dot_product_attention(query, key, value, mask.expand(2, 3, 4, 5))

    torch.testing.assert_close(found, full)


def test_attention_scales_before_half_precision_overflows(work):
    """Products beyond 65,504 whose scaled sum is within."""
    x = torch.full((1, 1, 512), 12.0, dtype=torch.float16)

    output, weights = work.scaled_dot_product_attention(x, x, x)

    torch.testing.assert_close(weights, torch.ones(1, 1, 1, dtype=torch.float16))
    torch.testing.assert_close(output, x)
