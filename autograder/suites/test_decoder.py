"""08 The decoder writes the target."""

import torch
from torch import nn
from torch.func import functional_call

from autograder.checks import (
    D_FF,
    LAYERS,
    B,
    D,
    H,
    S,
    T,
    check,
    holds,
    same,
    same_with_gradients,
)
from autograder.suites.test_encoder import (
    FEED_FORWARD,
    attention,
    drops_half,
    has_the_names,
    norm,
    norms,
    shares_nothing,
    silence,
    torchs_layer,
)
from autograder.torchs import hidden, in_torchs_names

DECODER_LAYER = (
    attention("self_attention")
    | norm("add_norm1")
    | attention("cross_attention")
    | norm("add_norm2")
    | FEED_FORWARD
    | norm("add_norm3")
)
DECODER = {
    f"layers.{n}.{name}": size for n in range(LAYERS) for name, size in DECODER_LAYER.items()
}
LAST = ("self_attention.out_proj", "cross_attention.out_proj", "feed_forward.linear2")
SMALL = ((1, 1, 1, D, H), (B, 1, S, D, 1), (1, T, 1, H, H))  # batch, T, S, d_model, n_heads


# DecoderLayer


@check("DecoderLayer", points=1)
def test_decoder_layer_has_the_contracts_names(work, draw):
    """Two attentions, feed-forward and three add-and-norms, each with weights of its own."""
    module = work.DecoderLayer(D, H, D_FF)

    has_the_names(module, DECODER_LAYER)
    shares_nothing(module, "self- and cross-attention and the three add-and-norms are five modules")


@check("DecoderLayer", points=1)
def test_decoder_layer_lets_its_input_through(work, draw):
    """When all three sublayers say nothing, x is left, normalised three times."""
    module = draw.fill(work.DecoderLayer(D, H, D_FF, dropout=0.0))
    x, memory = draw(B, T, D), draw(B, S, D)

    silence(module, *LAST)
    law = "where the sublayers give zeros, the layer gives norm3(norm2(norm1(x)))"
    same(module(x, memory), norms(module, x, 3), law)


@check("DecoderLayer", points=3)
def test_decoder_layer_is_torchs(work, draw):
    """Self-attention, cross-attention, feed-forward, each with its add-and-norm."""
    module = draw.fill(work.DecoderLayer(D, H, D_FF, dropout=0.0))
    x, memory = draw(B, T, D), draw(B, S, D)

    law = "x asks x; then x asks memory, which gives keys and values; then feed_forward"
    expected = torchs_decoder_layer(module, x, memory)
    same_with_gradients(module(x, memory), expected, draw.leaves, law)


@check("DecoderLayer", points=2)
def test_self_mask_goes_to_self_attention(work, draw):
    """self_mask says which target tokens a target token may look at."""
    module = draw.fill(work.DecoderLayer(D, H, D_FF, dropout=0.0))
    x, memory = draw(B, T, D), draw(B, S, D)

    for shape in ((T, T), (B, 1, T, T), (B, H, T, T)):
        mask = draw.mask(*shape)
        law = "self_mask goes to self_attention, and there alone"
        found = module(x, memory, mask)
        same(found, torchs_decoder_layer(module, x, memory, mask), law)
    mask = draw.mask(T, T)
    found = module(x, memory[:, :T], self_mask=mask)
    law = "self_mask goes to self_attention alone, also where the source is as long as the target"
    same(found, torchs_decoder_layer(module, x, memory[:, :T], mask), law)


@check("DecoderLayer", points=2)
def test_cross_mask_goes_to_cross_attention(work, draw):
    """cross_mask says which source tokens a target token may look at."""
    module = draw.fill(work.DecoderLayer(D, H, D_FF, dropout=0.0))
    x, memory = draw(B, T, D), draw(B, S, D)

    for shape in ((B, 1, 1, S), (T, S), (B, 1, T, S), (B, H, T, S)):
        mask = draw.mask(*shape)
        law = "cross_mask goes to cross_attention, and there alone"
        found = module(x, memory, None, mask)
        same(found, torchs_decoder_layer(module, x, memory, None, mask), law)
    mask = draw.mask(T, T)
    found = module(x, memory[:, :T], cross_mask=mask)
    law = "cross_mask goes to cross_attention alone, also where the source is as long as the target"
    same(found, torchs_decoder_layer(module, x, memory[:, :T], None, mask), law)
    nobody = torch.tensor([False] + [True] * (B - 1)).view(B, 1, 1, 1)
    found = module(x, memory, cross_mask=nobody)
    law = "a source of nothing but padding gives no NaN, and leaves the others alone"
    same(found[1:], torchs_decoder_layer(module, x, memory)[1:], law)
    holds(found.isfinite().all(), law, "NaN or inf in the first sentence")


@check("DecoderLayer", points=1)
def test_decoder_layer_drops_from_each_sublayer(work, draw):
    """In training, dropout falls on the output of each sublayer, once, and never on x (§5.4)."""
    module = draw.fill(work.DecoderLayer(D, H, D_FF, dropout=1.0)).train()
    x, memory = draw(B, T, D), draw(B, S, D)
    law = "with dropout=1 all three sublayers vanish, and norm3(norm2(norm1(x))) is left"
    same(module(x, memory), norms(module, x, 3), law)

    for name in LAST:
        half = work.DecoderLayer(D, H, D_FF, dropout=0.5).train()
        drops_half(half, name, LAST, torch.zeros(20, S, D), torch.zeros(20, 1, D))


@check("DecoderLayer", points=1)
def test_decoder_layer_drops_nothing_at_rest(work, draw):
    """In eval mode dropout does nothing, however much of it there is."""
    module = draw.fill(work.DecoderLayer(D, H, D_FF, dropout=0.9))
    x, memory = draw(B, T, D), draw(B, S, D)

    law = "in eval mode nothing is dropped: dropout=0.9 gives what dropout=0 gives"
    same(module(x, memory), torchs_decoder_layer(module, x, memory), law)


@check("DecoderLayer", points=1)
def test_decoder_layer_at_the_edges(work, draw):
    """One token, one head and heads of width 1; inputs stay, dtype and device are followed."""
    for batch, t, s, d_model, n_heads in SMALL:
        module = draw.fill(work.DecoderLayer(d_model, n_heads, 1, dropout=0.0))
        x, memory = draw(batch, t, d_model), draw(batch, s, d_model)
        law = f"T={t}, S={s}, d_model={d_model}, n_heads={n_heads} follow the same formula"
        expected = torchs_decoder_layer(module, x, memory, n_heads=n_heads)
        same(module(x, memory), expected, law)

    module = draw.fill(work.DecoderLayer(D, H, D_FF, dropout=0.0))
    x, memory = draw(B, T, D), draw(B, S, D)
    expected = torchs_decoder_layer(module, x, memory)
    module(x, memory)
    holds(draw.untouched(), "the layer leaves its inputs as they were", "an input has changed")
    half = [each.detach().half() for each in (x, memory)]
    found = module.half()(*half)
    same(found, expected.half(), "float16 in, float16 out")
    found = module.to("meta")(*[each.to("meta") for each in half])
    law = "the result is on the device of x: no tensor is made on a device of its own"
    holds(found.device.type == "meta", law, f"it is on {found.device}")


# Decoder


@check("Decoder", points=1)
def test_decoder_has_the_contracts_names(work, draw):
    """The layers are registered: layers.0, layers.1, …, and nothing beside them."""
    has_the_names(work.Decoder(LAYERS, D, H, D_FF), DECODER)


@check("Decoder", points=1)
def test_layers_have_weights_of_their_own(work, draw):
    """Layers are of one kind, but each learns for itself."""
    module = work.Decoder(LAYERS, D, H, D_FF)
    shares_nothing(module, f"{LAYERS} layers are {LAYERS} sets of weights, made one by one")


@check("Decoder", points=2)
def test_decoder_is_torchs_stack(work, draw):
    """Each layer reads what the layer before it gave; all look at the same memory."""
    module = draw.fill(work.Decoder(LAYERS, D, H, D_FF, dropout=0.0))
    x, memory = draw(B, T, D), draw(B, S, D)

    law = "x goes from layer to layer, memory goes to each of them as it came"
    expected = torchs_decoder(module, x, memory)
    same_with_gradients(module(x, memory), expected, draw.leaves, law)


@check("Decoder", points=1)
def test_every_layer_gets_both_masks(work, draw):
    """self_mask and cross_mask reach every layer, each in its place."""
    module = draw.fill(work.Decoder(LAYERS, D, H, D_FF, dropout=0.0))
    x, memory = draw(B, T, D), draw(B, S, D)

    for length, cross in ((S, draw.mask(B, 1, 1, S)), (T, draw.mask(T, T))):
        own, read = draw.mask(T, T), memory[:, :length]
        law = f"every layer gets both masks, self_mask first (T={T}, S={length})"
        found = module(x, read, self_mask=own, cross_mask=cross)
        same(found, torchs_decoder(module, x, read, own, cross), law)


@check("Decoder", points=1)
def test_decoder_passes_its_dropout_on(work, draw):
    """dropout reaches every layer, one layer is enough, and at rest nothing is dropped."""
    module = draw.fill(work.Decoder(LAYERS, D, H, D_FF, dropout=1.0))
    x, memory = draw(B, T, D), draw(B, S, D)
    law = "in eval mode nothing is dropped"
    same(module(x, memory), torchs_decoder(module, x, memory), law)
    expected = x
    for n in range(LAYERS):
        expected = norms(module, expected, 3, f"layers.{n}.")
    law = "in training with dropout=1 all sublayers vanish, and the norms of x are left"
    same(module.train()(x, memory), expected, law)

    one, x, memory = draw.fill(work.Decoder(1, H, H, 1)), draw(1, 1, H), draw(1, 1, H)
    law = "one layer, one token and heads of width 1 are no special cases"
    same(one(x, memory), torchs_decoder_layer(one, x, memory, at="layers.0."), law)


# What torch says


def torchs_decoder_layer(module, x, memory, self_mask=None, cross_mask=None, n_heads=H, at=""):
    """nn.TransformerDecoderLayer with the parameters of a module, or of one layer `at` a name."""
    layer = torchs_layer(nn.TransformerDecoderLayer, x.size(-1), n_heads)
    parameters = {name: module.get_parameter(at + name) for name in DECODER_LAYER}
    batch, t, s = x.size(0), x.size(1), memory.size(1)
    away = hidden(self_mask, batch, n_heads, t, t), hidden(cross_mask, batch, n_heads, t, s)
    inputs = (x, memory, *away)
    return functional_call(layer, in_torchs_names(parameters), inputs, strict=True)


def torchs_decoder(module, x, memory, self_mask=None, cross_mask=None, at="", layers=LAYERS):
    """The stack, a layer at a time."""
    for n in range(layers):
        place = f"{at}layers.{n}."
        x = torchs_decoder_layer(module, x, memory, self_mask, cross_mask, at=place)
    return x
