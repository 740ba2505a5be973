"""07 The encoder reads the source."""

from functools import cache

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
    check,
    holds,
    same,
    same_with_gradients,
)
from autograder.torchs import hidden, in_torchs_names


def linear(name, width, inputs):
    return {f"{name}.weight": [width, inputs], f"{name}.bias": [width]}


def attention(name):
    each = ("q_proj", "k_proj", "v_proj", "out_proj")
    return {k: v for proj in each for k, v in linear(f"{name}.{proj}", D, D).items()}


def norm(name):
    return {f"{name}.norm.weight": [D], f"{name}.norm.bias": [D]}


FEED_FORWARD = linear("feed_forward.linear1", D_FF, D) | linear("feed_forward.linear2", D, D_FF)
ENCODER_LAYER = attention("self_attention") | norm("add_norm1") | FEED_FORWARD | norm("add_norm2")
ENCODER = {
    f"layers.{n}.{name}": size for n in range(LAYERS) for name, size in ENCODER_LAYER.items()
}
SMALL = ((1, 1, D, H), (B, S, D, 1), (1, S, H, H))  # batch, length, d_model, n_heads


# EncoderLayer


@check("EncoderLayer", points=1)
def test_encoder_layer_has_the_contracts_names(work, draw):
    """self_attention, add_norm1, feed_forward and add_norm2, each with weights of its own."""
    module = work.EncoderLayer(D, H, D_FF)

    has_the_names(module, ENCODER_LAYER)
    shares_nothing(module, "the two add-and-norms are two: each learns its own γ and β")


@check("EncoderLayer", points=1)
def test_encoder_layer_lets_its_input_through(work, draw):
    """When both sublayers say nothing, x is left, normalised twice: that is the residual path."""
    module, x = draw.fill(work.EncoderLayer(D, H, D_FF, dropout=0.0)), draw(B, S, D)

    silence(module, "self_attention.out_proj", "feed_forward.linear2")
    law = "where attention and feed-forward give zeros, the layer gives norm2(norm1(x))"
    same(module(x), norms(module, x, 2), law)


@check("EncoderLayer", points=2)
def test_encoder_layer_is_torchs(work, draw):
    """x = add_norm1(x, attention of x), then add_norm2(x, feed_forward(x)), gradients and all."""
    module, x = draw.fill(work.EncoderLayer(D, H, D_FF, dropout=0.0)), draw(B, S, D)

    law = "first x = add_norm1(x, self_attention(x, x, x)), then add_norm2(x, feed_forward(x))"
    same_with_gradients(module(x), torchs_encoder_layer(module, x), draw.leaves, law)


@check("EncoderLayer", points=2)
def test_encoder_layer_passes_its_mask_on(work, draw):
    """A hidden token is not looked at, whatever form the mask has."""
    module, x = draw.fill(work.EncoderLayer(D, H, D_FF, dropout=0.0)), draw(B, S, D)

    for shape in ((B, 1, 1, S), (S, S), (B, 1, S, S), (B, H, S, S)):
        mask = draw.mask(*shape)
        law = "the mask goes to self_attention as it came, True where a token may look"
        same(module(x, mask), torchs_encoder_layer(module, x, mask), law)
    nobody = torch.tensor([False] + [True] * (B - 1)).view(B, 1, 1, 1)
    law = "a sentence of nothing but padding gives no NaN, and leaves the others alone"
    same(module(x, mask=nobody)[1:], torchs_encoder_layer(module, x)[1:], law)
    holds(module(x, nobody).isfinite().all(), law, "NaN or inf in the first sentence")


@check("EncoderLayer", points=1)
def test_encoder_layer_drops_from_each_sublayer(work, draw):
    """In training, dropout falls on the output of each sublayer, once, and never on x (§5.4)."""
    module, x = draw.fill(work.EncoderLayer(D, H, D_FF, dropout=1.0)).train(), draw(B, S, D)
    law = "with dropout=1 both sublayers vanish, and norm2(norm1(x)) is left"
    same(module(x), norms(module, x, 2), law)

    last = ("self_attention.out_proj", "feed_forward.linear2")
    for name in last:
        half = work.EncoderLayer(D, H, D_FF, dropout=0.5).train()
        drops_half(half, name, last, torch.zeros(20, S, D))


@check("EncoderLayer", points=1)
def test_encoder_layer_drops_nothing_at_rest(work, draw):
    """In eval mode dropout does nothing, however much of it there is."""
    module, x = draw.fill(work.EncoderLayer(D, H, D_FF, dropout=0.9)), draw(B, S, D)

    law = "in eval mode nothing is dropped: dropout=0.9 gives what dropout=0 gives"
    same(module(x), torchs_encoder_layer(module, x), law)


@check("EncoderLayer", points=1)
def test_encoder_layer_at_the_edges(work, draw):
    """One token, one sentence, one head and heads of width 1 are no special cases."""
    for batch, length, d_model, n_heads in SMALL:
        module = draw.fill(work.EncoderLayer(d_model, n_heads, 1, dropout=0.0))
        x = draw(batch, length, d_model)
        law = f"B={batch}, S={length}, d_model={d_model}, n_heads={n_heads} follow the same formula"
        same(module(x), torchs_encoder_layer(module, x, n_heads=n_heads), law)


@check("EncoderLayer", points=1)
def test_encoder_layer_follows_its_input(work, draw):
    """x stays as it was; dtype and device of the result are those of x."""
    module, x = draw.fill(work.EncoderLayer(D, H, D_FF, dropout=0.0)), draw(B, S, D)
    mask = draw.mask(B, 1, 1, S)
    expected = torchs_encoder_layer(module, x, mask)

    module(x, mask)
    holds(draw.untouched(), "the layer leaves its inputs as they were", "an input has changed")
    found = module.half()(x.detach().half(), mask)
    same(found, expected.half(), "float16 in, float16 out")
    found = module.to("meta")(x.detach().half().to("meta"), mask.to("meta"))
    law = "the result is on the device of x: no tensor is made on a device of its own"
    holds(found.device.type == "meta", law, f"it is on {found.device}")


# Encoder


@check("Encoder", points=1)
def test_encoder_has_the_contracts_names(work, draw):
    """The layers are registered: layers.0, layers.1, …, and nothing beside them."""
    has_the_names(work.Encoder(LAYERS, D, H, D_FF), ENCODER)


@check("Encoder", points=1)
def test_layers_have_weights_of_their_own(work, draw):
    """Layers are of one kind, but each learns for itself."""
    module = work.Encoder(LAYERS, D, H, D_FF)
    shares_nothing(module, f"{LAYERS} layers are {LAYERS} sets of weights, made one by one")


@check("Encoder", points=2)
def test_encoder_is_torchs_stack(work, draw):
    """Each layer reads what the layer before it gave."""
    module, x = draw.fill(work.Encoder(LAYERS, D, H, D_FF, dropout=0.0)), draw(B, S, D)

    law = "x goes through layer 0, then 1, then 2, and comes out of the last as it is"
    same_with_gradients(module(x), torchs_encoder(module, x), draw.leaves, law)


@check("Encoder", points=1)
def test_every_layer_gets_the_mask(work, draw):
    """What is hidden stays hidden in every layer."""
    module, x = draw.fill(work.Encoder(LAYERS, D, H, D_FF, dropout=0.0)), draw(B, S, D)

    for shape in ((B, 1, 1, S), (S, S)):
        mask = draw.mask(*shape)
        law = "every layer gets the mask"
        same(module(x, mask=mask), torchs_encoder(module, x, mask), law)


@check("Encoder", points=1)
def test_encoder_passes_its_dropout_on(work, draw):
    """dropout reaches every layer, one layer is enough, and at rest nothing is dropped."""
    module, x = draw.fill(work.Encoder(LAYERS, D, H, D_FF, dropout=1.0)), draw(B, S, D)
    law = "in eval mode nothing is dropped"
    same(module(x), torchs_encoder(module, x), law)
    expected = x
    for n in range(LAYERS):
        expected = norms(module, expected, 2, f"layers.{n}.")
    law = "in training with dropout=1 all sublayers vanish, and the norms of x are left"
    same(module.train()(x), expected, law)

    one, x = draw.fill(work.Encoder(1, H, H, 1)), draw(1, 1, H)
    law = "one layer, one token and heads of width 1 are no special cases"
    same(one(x), torchs_encoder_layer(one, x, at="layers.0."), law)


# What torch says, and what a layer must have


def torchs_encoder_layer(module, x, mask=None, n_heads=H, at=""):
    """nn.TransformerEncoderLayer with the parameters of a module, or of one layer `at` a name."""
    layer = torchs_layer(nn.TransformerEncoderLayer, x.size(-1), n_heads)
    parameters = {name: module.get_parameter(at + name) for name in ENCODER_LAYER}
    away = hidden(mask, x.size(0), n_heads, x.size(1), x.size(1))
    return functional_call(layer, in_torchs_names(parameters), (x, away), strict=True)


def torchs_encoder(module, x, mask=None, at="", layers=LAYERS):
    """The stack, a layer at a time."""
    for n in range(layers):
        x = torchs_encoder_layer(module, x, mask, at=f"{at}layers.{n}.")
    return x


@cache
def torchs_layer(kind, d_model, n_heads):
    """Post-norm, ReLU, no dropout. Its own weights are never used: it has none."""
    return kind(d_model, n_heads, 1, dropout=0.0, batch_first=True, device="meta")


def norms(module, x, count, at=""):
    """The norms of a layer, one after the other."""
    for n in range(1, count + 1):
        weight, bias = (
            module.get_parameter(f"{at}add_norm{n}.norm.{x}") for x in ("weight", "bias")
        )
        x = nn.functional.layer_norm(x, x.shape[-1:], weight, bias)
    return x


def has_the_names(module, sizes):
    """The state holds these names with these shapes, and no others."""
    found = {name: list(x.shape) for name, x in module.state_dict().items()}
    law = "attributes have the names that the lesson lists"
    _none([name for name in sizes if name not in found], law, "missing")
    _none([name for name in found if name not in sizes], f"{law}; no others have weights", "extra")
    wrong = [
        f"{name} {found[name]}, not {sizes[name]}" for name in sizes if found[name] != sizes[name]
    ]
    _none(wrong, "the sizes are those asked for", "wrong")


def _none(names, law, kind):
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    holds(not names, law, f"{kind}: {', '.join(names[:2])}{more}")


def shares_nothing(module, law):
    """Every name of the state stands for a parameter of its own."""
    names = [name for name, _ in module.named_parameters(remove_duplicate=False)]
    own = [name for name, _ in module.named_parameters()]
    twice = [name for name in names if name not in own]
    _none(twice, law, "another name for the same weights")


def silence(module, *names):
    """These Linears give zeros."""
    for name in names:
        for parameter in module.get_submodule(name).parameters():
            parameter.data.zero_()


def drops_half(module, name, last, *inputs):
    """With ones from one sublayer and zeros from the others, half of the ones come through."""
    silence(module, *last)
    module.get_parameter(f"{name}.bias").data.fill_(1)
    share = (module(*inputs) > 0).float().mean().item()
    law = f"with dropout=0.5 half of what {name.split('.')[0]} puts out comes through"
    holds(0.4 < share < 0.6, law, f"{share:.0%} came through")
