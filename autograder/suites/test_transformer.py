"""09 The whole model."""

import torch
import torch.nn.functional as F

from autograder.checks import (
    D_FF,
    LAYERS,
    PAD,
    B,
    D,
    H,
    S,
    T,
    V,
    check,
    gradients_of,
    holds,
    refuses,
    same,
    same_with_gradients,
)
from autograder.suites.test_decoder import DECODER, torchs_decoder
from autograder.suites.test_encoder import ENCODER, has_the_names, norms, torchs_encoder

TABLE = "embedding.embedding.weight"
MAX_LEN = 10  # not the default, which is 512
ROOT = 1e-6  # a root kept in float32 is as good as one in float64
TRANSFORMER = {
    TABLE: [V, D],
    **{f"encoder.{name}": size for name, size in ENCODER.items()},
    **{f"decoder.{name}": size for name, size in DECODER.items()},
}


# TokenEmbedding


@check("TokenEmbedding", points=2)
def test_token_embedding_scales_with_the_width(work, draw):
    """A token's row of the table, times √d_model, gradients and all."""
    module, ids = draw.fill(work.TokenEmbedding(V, D)), draw.ids(B, T)

    law = "embedding(ids) · √d_model"
    expected = F.embedding(ids, module.get_parameter("embedding.weight")) * D**0.5
    same_with_gradients(module(ids), expected, draw.leaves, law, ROOT)


@check("TokenEmbedding", points=1)
def test_token_embedding_has_one_table(work, draw):
    """`embedding` is an nn.Embedding of vocab_size rows, and all there is to train."""
    has_the_names(work.TokenEmbedding(V, D), {"embedding.weight": [V, D]})


@check("TokenEmbedding", points=1)
def test_padding_is_the_zero_vector_and_stays_it(work, draw):
    """The row of pad_id begins as zeros and never gets a gradient; every other row learns."""
    for pad_id, module in ((0, work.TokenEmbedding(V, D)), (PAD, work.TokenEmbedding(V, D, PAD))):
        law = f"with pad_id={pad_id} the vector of token {pad_id} is zero"
        same(module(torch.tensor([[pad_id]])), torch.zeros(1, 1, D), law)
        others = torch.tensor([[each for each in range(V) if each != pad_id]])
        law = "every other token begins with a random vector"
        holds(module(others).any(-1).all(), law, "another row is zero")
        everyone = torch.arange(V).unsqueeze(0)
        (gradient,) = gradients_of(module(everyone), [module.get_parameter("embedding.weight")])
        learns = gradient.any(-1).tolist()
        law = f"with pad_id={pad_id} every row but row {pad_id} learns"
        same(learns, [each != pad_id for each in range(V)], law)


@check("TokenEmbedding", points=1)
def test_token_embedding_takes_any_width_and_type(work, draw):
    """The scale is that of the width asked for, and the dtype that of the table."""
    for d_model in (1, 7):
        module, ids = draw.fill(work.TokenEmbedding(V, d_model)), draw.ids(1, 1)
        law = f"with d_model={d_model} the scale is √{d_model}"
        table = module.get_parameter("embedding.weight")
        same(module(ids), F.embedding(ids, table) * d_model**0.5, law, ROOT)
    law = "a table in float16 gives vectors in float16"
    expected = F.embedding(ids, table.half()) * d_model**0.5
    same(module.half()(ids), expected, law)


@check("TokenEmbedding", points=1)
def test_token_embedding_is_the_same_every_time(work, draw):
    """Training changes nothing, the ids stay, and a second call gives the same."""
    module, ids = draw.fill(work.TokenEmbedding(V, D)), draw.ids(B, T)

    at_rest = module(ids)
    law = "there is no dropout here: it falls on the sum with the positions"
    same(module.train()(ids), at_rest, law)
    holds(draw.untouched(), "the ids stay as they were", "the ids have changed")


# Transformer


@check("Transformer", points=2)
def test_transformer_is_made_of_the_parts(work, draw):
    """embedding, positions, encoder and decoder, and no other weights: one table serves three."""
    model = work.Transformer(V, D, H, LAYERS, D_FF)

    has_the_names(model, TRANSFORMER)
    kinds = {
        "embedding": work.TokenEmbedding,
        "positions": work.PositionalEncoding,
        "encoder": work.Encoder,
        "decoder": work.Decoder,
    }
    for name, kind in kinds.items():
        part = getattr(model, name, None)
        seen = f"it is a {type(part).__name__}"
        holds(isinstance(part, kind), f"model.{name} is a {kind.__name__}", seen)


@check("Transformer", points=2)
def test_encode_is_torchs_stack(work, draw):
    """encode: embed, add positions, run the encoder."""
    model, src = draw.fill(_model(work)), draw.ids(B, S)

    law = "memory = encoder(positions(embedding(src)))"
    expected = torchs_encoder(model, _embedded(work, model, src), at="encoder.", layers=1)
    same_with_gradients(model.encode(src), expected, draw.leaves, law)


@check("Transformer", points=2)
def test_decode_is_torchs_stack(work, draw):
    """decode: embed, add positions, run the decoder on memory, compare with every word."""
    model, src, tgt = draw.fill(_model(work)), draw.ids(B, S), draw.ids(B, 1)
    memory = draw(B, S, D)

    law = "logits = decoder(positions(embedding(tgt)), memory) · embeddingᵀ"
    expected = _decoded(work, model, src, tgt, memory)
    same_with_gradients(model.decode(tgt, memory, src), expected, draw.leaves, law)


@check("Transformer", points=2)
def test_no_target_token_sees_its_future(work, draw):
    """The logits at t come from the target up to t, and from nothing after it."""
    model, src, tgt = draw.fill(_model(work)), draw.ids(B, S), draw.ids(B, T)
    memory = draw(B, S, D)

    law = "a target token looks at itself and at those before it"
    found = model.decode(tgt, memory, src)
    same(found, _decoded(work, model, src, tgt, memory), law)
    changed = tgt.clone()
    changed[:, 2:] = 3 + (tgt[:, 2:] - 2) % (V - 3)
    law = "another token at position 2 changes nothing at positions 0 and 1"
    same(model.decode(changed, memory, src)[:, :2], found[:, :2], law)


@check("Transformer", points=1)
def test_padding_of_the_source_is_not_encoded(work, draw):
    """In the encoder no token looks at padding."""
    model = draw.fill(_model(work))
    src = draw.keep(_ending(draw.sentences(B, S, PAD), 2))

    law = "encode hides the padding of src, which is where src equals pad_id"
    x = _embedded(work, model, src)
    expected = torchs_encoder(model, x, _words(src), at="encoder.", layers=1)
    same(model.encode(src), expected, law)


@check("Transformer", points=1)
def test_padding_of_the_source_is_not_translated(work, draw):
    """In cross-attention no token looks at padding."""
    model, tgt = draw.fill(_model(work)), draw.ids(B, 1)
    src = draw.keep(_ending(draw.ids(B, S), 2))
    memory = draw(B, S, D)

    law = "decode hides memory where src is padding"
    expected = _decoded(work, model, src, tgt, memory)
    same(model.decode(tgt, memory, src), expected, law)
    src = torch.full_like(src, PAD)
    logits = model.decode(tgt, model.encode(src), src)
    law = "a source of nothing but padding gives no NaN"
    holds(logits.isfinite().all(), law, "NaN or inf among the logits")


@check("Transformer", points=1)
def test_padding_of_the_target_is_not_read(work, draw):
    """In the decoder's self-attention no token looks at padding."""
    model, src, tgt = draw.fill(_model(work)), draw.ids(B, S), _ending(draw.ids(B, T), T - 2)
    tgt[1, 1] = PAD
    draw.keep(tgt)
    memory = draw(B, S, D)

    law = "decode hides the padding of tgt as well as the future"
    expected = _decoded(work, model, src, tgt, memory)
    same(model.decode(tgt, memory, src), expected, law)


@check("Transformer", points=1)
def test_forward_is_encode_and_decode(work, draw):
    """model(src, tgt) are the logits of decode with the memory of encode."""
    model = draw.fill(_model(work))
    src, tgt = draw.keep(_ending(draw.ids(B, S), 2)), draw.keep(_ending(draw.ids(B, T), 1))

    law = "forward(src, tgt) = decode(tgt, encode(src), src)"
    same(model(src, tgt), model.decode(tgt, model.encode(src), src), law)
    holds(model(src, tgt).shape == (B, T, V), "logits are [B, T, V]: a score for each word")
    law = "one sentence of one token is no special case"
    one = model(src[1:, :1], tgt[1:, :1])
    same(one, model(src[:, :1], tgt[:, :1])[1:], law)


@check("Transformer", points=1)
def test_settings_reach_the_parts(work, draw):
    """pad_id, max_len and dropout are passed on."""
    model = draw.fill(work.Transformer(V, D, H, LAYERS, D_FF, 1.0, MAX_LEN, PAD))

    same(getattr(model, "pad_id", None), PAD, "model.pad_id is the pad_id asked for")
    embedding = model.get_submodule("embedding.embedding")
    same(embedding.padding_idx, PAD, "the embedding knows pad_id")
    too_long = draw.ids(1, MAX_LEN + 1)
    refuses(lambda: model.encode(too_long), "max_len is passed on to positions", MAX_LEN)
    model.encode(too_long[:, :-1])

    model.train()
    src, tgt = draw.ids(B, S), draw.ids(B, T)
    x = torch.zeros(B, S, D, dtype=torch.float64)
    for n in range(LAYERS):
        x = norms(model, x, 2, f"encoder.layers.{n}.")
    law = "with dropout=1 in training nothing is left of the tokens but the norms' biases: "
    same(model.encode(src), x, law + "dropout reaches positions and encoder")
    x = torch.zeros(B, T, D, dtype=torch.float64)
    for n in range(LAYERS):
        x = norms(model, x, 3, f"decoder.layers.{n}.")
    logits = x @ model.get_parameter(TABLE).T
    same(model(src, tgt), logits, law + "dropout reaches positions and decoder")


@check("Transformer", points=1)
def test_model_follows_its_weights(work, draw):
    """ids stay as they were; dtype and device are those of the weights."""
    model = draw.fill(_model(work))
    src, tgt = draw.sentences(B, S, PAD), draw.sentences(B, T, PAD)
    expected = model(src, tgt)

    holds(draw.untouched(), "the model leaves src and tgt as they were", "ids have changed")
    same(model.float()(src, tgt), expected.float(), "float32 weights give float32 logits")
    found = model.to("meta")(src.to("meta"), tgt.to("meta"))
    law = "the logits are where the ids are: no tensor is made on a device of its own"
    holds(found.device.type == "meta", law, f"they are on {found.device}")


# What torch says


def _model(work):
    """One layer on each side, for speed; the stacks have checks of their own."""
    return work.Transformer(V, D, H, 1, d_ff=D_FF, dropout=0.0, max_len=MAX_LEN, pad_id=PAD)


def _ending(ids, count):
    """The first sentence ends in so many tokens of padding."""
    ids = ids.clone()
    ids[0, -count:] = PAD
    return ids


def _words(ids):
    """Where ids are not padding: [B, 1, 1, S]."""
    return (ids != PAD)[:, None, None, :]


def _embedded(work, model, ids):
    """Rows of the table times √D, and the sinusoids added."""
    x = F.embedding(ids, model.get_parameter(TABLE), padding_idx=PAD) * D**0.5
    return x + work.sinusoidal_positions(ids.size(1), D).double()


def _decoded(work, model, src, tgt, memory):
    past = torch.ones(tgt.size(1), tgt.size(1), dtype=torch.bool).tril()
    x = _embedded(work, model, tgt)
    x = torchs_decoder(model, x, memory, past & _words(tgt), _words(src), at="decoder.", layers=1)
    return F.linear(x, model.get_parameter(TABLE))
