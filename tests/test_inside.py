"""A token's journey through a layer: every number is the one that the model computes."""

import json
import math
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from autograder.drawing import Draw
from autograder.torchs import ask
from lab import stock
from lab.course import PARTS
from lab.inside import STEPS, look_inside
from lab.lesson import rebuilt
from lab.model import Config, build
from lab.parts import from_package, using
from lab.recording import KINDS, record
from lab.tokens import BOS_ID, EOS_ID, pad

# All different, so that no axis can be taken for another
B, H, T, S, V, LAYERS, D, D_FF, PAD = 3, 4, 5, 7, 11, 2, 24, 13, 0
CONFIG = Config(V, d_model=D, n_heads=H, n_layers=LAYERS, d_ff=D_FF, dropout=0.1, pad_id=PAD)
NEAR = {torch.float64: 1e-10, torch.float32: 1e-5}
FULL, CUT = B - 1, 0  # a sentence without padding, and one with


def tiny():
    """Random weights in float64, sentences of different lengths, the full ones last."""
    draw = Draw(torch.float64)
    source, target = draw.ids(B, S), draw.ids(B, T)
    source[CUT, 4:], target[CUT, 3:] = PAD, PAD
    return SimpleNamespace(model=draw.fill(build(CONFIG), std=0.2), source=source, target=target)


def trained(pair):
    """A shipped model, three sentences of different lengths, and what it makes of them."""
    checkpoint = rebuilt(pair)
    sentences = checkpoint.tokenizer.encode_all(["A dog runs.", *checkpoint.examples[:2]])
    source = pad(sorted(sentences, key=len))
    target = stock.greedy_decode(checkpoint.model, source, BOS_ID, EOS_ID, max_len=20)[:, :-1]
    return SimpleNamespace(model=checkpoint.model, source=source, target=target)


@pytest.fixture(params=["tiny", "en-de", "en-zh"])
def run(request, work):
    return tiny() if request.param == "tiny" else trained(request.param)


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def look(run, kind, layer=1, head=2, query=2, key=1, row=CUT):
    return look_inside(
        run.model, run.source, run.target,
        kind=kind, layer=layer, head=head, query=query, key=key, row=row,
    )  # fmt: skip


def layer_of(run, kind, layer):
    side, attention = KINDS[kind]
    return getattr(run.model, side).layers[layer], attention


def watched(run, *modules):
    """(arguments, result) of modules, from hooks of this test."""
    calls = {}

    def keep(module, inputs, output):
        calls[module] = inputs, output

    with torch.no_grad():
        hooks = [module.register_forward_hook(keep) for module in modules]
        run.model(run.source, run.target)
        for hook in hooks:
            hook.remove()
    return [calls.get(module) for module in modules]


def near(ours, theirs):
    """To the rounding of the model's dtype."""
    assert_close(ours, theirs.double(), rtol=NEAR[theirs.dtype], atol=NEAR[theirs.dtype])


@pytest.mark.parametrize(
    ("layer", "head", "query", "key", "row"), [(0, 3, 0, 2, FULL), (1, 1, 2, 0, CUT)]
)
def test_the_whole_layer_is_torchs(run, kind, layer, head, query, key, row):
    """nn.TransformerEncoderLayer and nn.TransformerDecoderLayer end at the same number."""
    journey = look(run, kind, layer, head, query, key, row)

    module, _ = layer_of(run, kind, layer)
    ((inputs, _),) = watched(run, module)
    d_ff, d_model = module.feed_forward.linear1.weight.shape
    settings = {"dropout": 0.0, "batch_first": True, "dtype": inputs[0].dtype}
    no_source, no_target = run.source == PAD, run.target == PAD
    if kind == "encoder":
        torchs = nn.TransformerEncoderLayer(d_model, n_heads(run), d_ff, **settings)
        expected = ask(torchs, module, inputs[0], src_key_padding_mask=no_source)
    else:
        torchs = nn.TransformerDecoderLayer(d_model, n_heads(run), d_ff, **settings)
        masks = {
            "tgt_mask": torch.ones(2 * [run.target.size(1)], dtype=torch.bool).triu(1),
            "tgt_key_padding_mask": no_target,
            "memory_key_padding_mask": no_source,
        }
        expected = ask(torchs, module, *inputs[:2], **masks)
    near(journey.steps[-1].value, expected[row, query].detach())
    assert not journey.differing


def n_heads(run):
    with torch.no_grad(), record(run.model) as attention:
        run.model(run.source, run.target)
    return attention["cross"].size(2)


@pytest.mark.parametrize("row", [FULL, CUT])
def test_one_head_by_other_parts(run, kind, row):
    """Projections, scores, mask, weights and head, from the layer's input by torch's functions."""
    head, t, s = 3, 2, 1
    journey = look(run, kind, head=head, query=t, key=s, row=row)

    module, name = layer_of(run, kind, 1)
    attention = getattr(module, name)
    (((query, key, value, mask), (output, weights)),) = watched(run, attention)
    split = [
        F.linear(x, p.weight, p.bias).unflatten(-1, (n_heads(run), -1))[row, :, head].detach()
        for x, p in (
            (query, attention.q_proj), (key, attention.k_proj), (value, attention.v_proj),
        )
    ]  # fmt: skip
    q, k, v = split[0][t], split[1], split[2]
    d_k = len(q)
    may_look = mask.expand(weights.shape)[row, head, t]
    expected = {
        "x": query[row, t],
        "memory" if kind == "cross" else "tokens": key[row],
        "query": q,
        "keys": k,
        "values": v,
        "products": q * k[s],
        "score": torch.dot(q, k[s]),
        "scores": torch.mv(k, q),
        "scaled": torch.mv(k, q) / d_k**0.5,
        "masked": (torch.mv(k, q) / d_k**0.5).masked_fill(~may_look, -math.inf),
        "weights": weights[row, head, t],
        "weighted": torch.einsum("s,sk->sk", weights[row, head, t], v),
        "head": F.scaled_dot_product_attention(q[None], k, v, attn_mask=may_look[None])[0],
        "projected": output[row, t],
    }
    for step, number in expected.items():
        near(journey[f"{name}.{step}"].value, number)
    mask_name = "decoder_mask" if kind == "decoder" else "padding_mask"
    assert torch.equal(journey[f"{name}.{mask_name}"].value, may_look)
    ((joined, _),) = watched(run, attention.out_proj)
    near(journey[f"{name}.heads"].value, joined[0][row, t])


def test_norm_and_feed_forward_are_what_the_modules_hand_on(run, kind):
    """Against hooks on each module; mean and variance against torch's."""
    t, row = 1, FULL
    journey = look(run, kind, query=t, row=row)

    module, _ = layer_of(run, kind, 1)
    blocks = [name for name, _ in module.named_children() if name.startswith("add_norm")]
    for block in blocks:
        add_norm = getattr(module, block)
        ((inputs, output), (total, _)) = watched(run, add_norm, add_norm.norm)
        r = total[0][row, t]
        variance, mean = torch.var_mean(r, correction=0)
        near(journey[f"{block}.residual"].value, r)
        near(journey[f"{block}.residual"].value, inputs[0][row, t] + inputs[1][row, t])
        near(journey[f"{block}.mean"].value, mean)
        near(journey[f"{block}.variance"].value, variance)
        near(journey[f"{block}.normalised"].value, F.layer_norm(r, r.shape))
        near(journey[f"{block}.norm"].value, output[row, t])
        parameters = journey[f"{block}.norm"].parameters
        near(parameters["gamma"], add_norm.norm.weight.detach())
        near(parameters["beta"], add_norm.norm.bias.detach())
    forward = module.feed_forward
    (_, before_relu), (after_relu, _), (_, fed) = watched(
        run, forward.linear1, forward.linear2, forward
    )
    near(journey["feed_forward.hidden"].value, before_relu[row, t])
    near(journey["feed_forward.relu"].value, after_relu[0][row, t])
    near(journey["feed_forward.fed"].value, fed[row, t])
    assert (journey["feed_forward.hidden"].value < 0).any()  # so that there is something to cut


# The plain data that a page steps through


def test_every_step_is_complete(run, kind):
    """It has the shape its letters say, comes after what it is made from, and leads to the end."""
    query = 2
    journey = look(run, kind, query=query)

    sizes = {"B": len(run.source), "H": n_heads(run), "T": run.target.size(1), "1": 1}
    module, name = layer_of(run, kind, 1)
    sizes |= {"S": run.source.size(1), "D": module.feed_forward.linear1.in_features}
    sizes |= {"F": module.feed_forward.linear1.out_features, "d_k": sizes["D"] // sizes["H"]}
    before = []
    for step in journey.steps:
        assert step.value.shape == tuple(sizes[letter] for letter in step.shape), step.id
        assert set(step.shape) <= set(step.whole) <= set(sizes)
        assert set(step.made_from) <= set(before)
        assert step.part in PARTS and step.formula == STEPS[step.key][0]
        assert step.own == (step.difference is not None)
        before.append(step.id)
    assert len(set(before)) == len(before)
    leads_on = {id for step in journey.steps for id in step.made_from}
    # the score in detail is one of the scores again
    assert set(before) - leads_on == {f"{name}.score", journey.steps[-1].id}
    lengths = {"encoder": ("S", "S"), "decoder": ("T", "T"), "cross": ("T", "S")}[kind]
    assert journey[f"{name}.weights"].whole == ("B", "H", *lengths)


def test_it_is_json(run, kind):
    """Strict JSON, and Number() reads what is not finite: here a key that is padding."""
    journey = look(run, kind, row=CUT)

    data = json.loads(json.dumps(journey.data(), allow_nan=False))
    assert [data[name] for name in ("kind", "layer", "head", "query", "key")] == [kind, 1, 2, 2, 1]
    assert data["differing"] == []
    for step, plain in zip(journey.steps, data["steps"], strict=True):
        value = torch.tensor(plain["value"]) if step.key != "masked" else None
        assert plain["id"] == step.id and plain["size"] == list(step.value.shape)
        assert value is None or value.shape == step.value.shape
    masked = next(plain for plain in data["steps"] if plain["key"] == "masked")["value"]
    assert masked[-1] == "-Infinity" and isinstance(masked[0], float)


def test_keys_and_values_come_from_where_they_come_from(run):
    """Self-attention reads its own layer's tokens, cross-attention what the encoder gave."""
    with torch.no_grad():
        memory = run.model.encode(run.source)[FULL]

    across = look(run, "cross", row=FULL)
    within = look(run, "decoder", row=FULL)

    near(across["cross_attention.memory"].value, memory)
    assert across["cross_attention.keys"].made_from == ("cross_attention.memory",)
    assert across["cross_attention.values"].made_from == ("cross_attention.memory",)
    assert across["cross_attention.query"].made_from == ("cross_attention.x",)
    assert torch.equal(within["self_attention.tokens"].value[2], within["self_attention.x"].value)
    # the other attention is one step in each
    assert across["self_attention.attended"].made_from == (
        "self_attention.x", "self_attention.tokens",
    )  # fmt: skip
    assert torch.equal(across.steps[-1].value, within.steps[-1].value)


def test_nothing_is_left_behind(work):
    """No hooks, the mode as it was, the same answer as before."""
    run = tiny()
    run.model.train()
    before = [p.clone() for p in run.model.parameters()]

    look(run, "cross")

    assert run.model.training and run.model.encoder.layers[0].add_norm1.training
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in run.model.modules())
    assert all(map(torch.equal, before, run.model.parameters()))
    assert not any(step.value.requires_grad for step in look(run, "cross").steps)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rounding_is_no_difference(kind, work, dtype):
    """Also in half precision, which rounds much more than the formulas in double."""
    run = tiny()
    run.model.to(dtype)

    journey = look(run, kind)

    assert not journey.differing
    assert any(step.difference for step in journey.steps)


def test_a_sentence_that_is_all_padding(work, kind):
    """A query that may look at nothing: no weights, a head of zeros, and numbers to the end."""
    run = tiny()
    run.source[CUT], run.target[CUT] = PAD, PAD

    journey = look(run, kind)

    name = KINDS[kind][1]
    assert not journey[f"{name}.weights"].value.any()
    assert not journey[f"{name}.head"].value.any()
    assert journey[f"{name}.masked"].value.isneginf().all()
    assert journey.steps[-1].value.isfinite().all()
    assert not journey.differing


# Parts of somebody's own


def test_what_is_the_models_own_is_said(kind):
    """Torch's fused attention keeps q, k and v to itself; the lesson's hands them on."""
    own = {}
    for implementation in ("stock", "solutions"):
        with using(from_package("solutions") if implementation == "solutions" else {}):
            own[implementation] = {step.key for step in look(tiny(), kind).steps if step.own}

    assert own["solutions"] - own["stock"] == {"query", "keys", "values"}
    assert {"x", "weights", "head", "heads", "projected", "hidden", "relu", "norm"} <= own["stock"]
    assert not own["solutions"] & {"products", "scores", "scaled", "masked", "mean", "variance"}


class OtherLayout(stock.MultiHeadAttention):
    """Right, with time before batch inside, and no call of its projections' modules."""

    def forward(self, query, key, value, mask=None):
        q, k, v = (
            F.linear(x.transpose(0, 1), p.weight, p.bias)
            for x, p in ((query, self.q_proj), (key, self.k_proj), (value, self.v_proj))
        )
        q, k, v = (x.unflatten(-1, (self.n_heads, -1)).permute(1, 2, 0, 3) for x in (q, k, v))
        output, weights = stock.scaled_dot_product_attention(q, k, v, mask)
        joined = self.out_proj(output.permute(2, 0, 1, 3).flatten(2))
        return joined.transpose(0, 1), weights


class ByKeyword(stock.DecoderLayer):
    """Right, and every argument of the attentions by its name, in another order."""

    def forward(self, x, memory, self_mask=None, cross_mask=None):
        x = self.add_norm1(x, self.self_attention(mask=self_mask, value=x, key=x, query=x)[0])
        across = self.cross_attention(mask=cross_mask, key=memory, value=memory, query=x)[0]
        x = self.add_norm2(x, across)
        return self.add_norm3(x, self.feed_forward(x))


def counted_mask(ids, pad_id):
    return (ids != pad_id).long()[:, None, None, :]


class CountedMask(stock.MultiHeadAttention):
    """Its mask is of numbers, which counted_mask gives."""

    def forward(self, query, key, value, mask=None):
        return super().forward(query, key, value, mask > 0)


@pytest.mark.parametrize(
    "parts",
    [
        {"MultiHeadAttention": OtherLayout},
        {"DecoderLayer": ByKeyword},
        {"padding_mask": counted_mask, "MultiHeadAttention": CountedMask},
    ],
    ids=["layout", "keywords", "mask"],
)
def test_the_inside_of_a_part_is_free(kind, parts):
    """Other layouts and keywords: the same numbers, and nothing differs."""
    usual = look(tiny(), kind)
    with using(parts):
        journey = look(tiny(), kind)

    assert not journey.differing
    for step in usual.steps:
        near(journey[step.id].value.double(), step.value.double())


class Unbiased(stock.LayerNorm):
    def forward(self, x):
        variance, mean = torch.var_mean(x, -1, keepdim=True)
        return self.weight * (x - mean) / (variance + 1e-5).sqrt() + self.bias


class WithGelu(stock.FeedForward):
    def forward(self, x):
        return self.linear2(F.gelu(self.linear1(x)))


class WithoutResidual(stock.AddNorm):
    def forward(self, x, sublayer_output):
        return self.norm(sublayer_output)


class WithoutOutput(stock.MultiHeadAttention):
    def forward(self, query, key, value, mask=None):
        joined = []
        hook = self.out_proj.register_forward_pre_hook(lambda _, x: joined.append(x[0]))
        _, weights = super().forward(query, key, value, mask)
        hook.remove()
        return joined[0], weights


class PreNorm(stock.EncoderLayer):
    def forward(self, x, mask=None):
        normed = self.add_norm1.norm(x)
        x = self.add_norm1(x, self.self_attention(normed, normed, normed, mask)[0])
        return self.add_norm2(x, self.feed_forward(x))


class ValuesFromElsewhere(stock.EncoderLayer):
    def forward(self, x, mask=None):
        x = self.add_norm1(x, self.self_attention(x, x, x.flip(1), mask)[0])
        return self.add_norm2(x, self.feed_forward(x))


class Overwriting(stock.FeedForward):
    def forward(self, x):
        output = super().forward(x)
        x.zero_()
        return output


def unscaled(query, key, value, mask=None):
    return stock.scaled_dot_product_attention(query * query.size(-1) ** 0.5, key, value, mask)


def features_reversed(query, key, value, mask=None):
    output, weights = stock.scaled_dot_product_attention(query, key, value, mask)
    return output.flip(-1), weights


def upside_down(ids, pad_id):
    return (ids == pad_id)[:, None, None, :]


def only_causal(ids, pad_id):
    return stock.causal_mask(ids.size(1)).expand(len(ids), 1, -1, -1)


MISTAKES = [
    ("LayerNorm", Unbiased, "encoder", ["add_norm1.norm", "add_norm2.norm"]),
    ("FeedForward", WithGelu, "encoder", ["feed_forward.relu"]),
    ("AddNorm", WithoutResidual, "encoder", ["add_norm1.residual", "add_norm2.residual"]),
    ("MultiHeadAttention", WithoutOutput, "encoder", ["self_attention.projected"]),
    (
        "EncoderLayer",
        PreNorm,
        "encoder",
        ["self_attention.x", "self_attention.tokens", "add_norm1.residual"],
    ),
    ("EncoderLayer", ValuesFromElsewhere, "encoder", ["self_attention.tokens"]),
    ("scaled_dot_product_attention", unscaled, "encoder", ["self_attention.weights"]),
    (
        "scaled_dot_product_attention",
        features_reversed,
        "encoder",
        ["self_attention.head", "self_attention.heads"],
    ),
    ("padding_mask", upside_down, "encoder", ["self_attention.padding_mask"]),
    (
        "padding_mask",
        upside_down,
        "cross",
        ["self_attention.attended", "cross_attention.padding_mask"],
    ),
    (
        "padding_mask",
        upside_down,
        "decoder",
        ["self_attention.decoder_mask", "cross_attention.attended"],
    ),
    ("decoder_mask", only_causal, "decoder", ["self_attention.decoder_mask"]),
    ("FeedForward", Overwriting, "encoder", ["add_norm2.residual"]),
]


@pytest.mark.parametrize(
    ("part", "wrong", "kind", "expected"), MISTAKES, ids=lambda x: getattr(x, "__name__", None)
)
def test_what_a_part_does_otherwise_shows_where_it_does_it(part, wrong, kind, expected):
    """The first steps that differ are those of the mistake; what follows from them agrees."""
    with using({part: wrong}):
        run = tiny()
        run.target[CUT, 1] = PAD  # before the query, so that not only the future hides it
        journey = look(run, kind, layer=0)

    differing = [step.id for step in journey.differing]
    assert differing == expected
    for step in journey.differing:
        assert step.own and step.difference > 1e-4


# Questions without an answer


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"kind": "self"}, "kind='self': choose from encoder, decoder, cross"),
        ({"layer": 2}, "layer=2 is not there: choose from 0 to 1"),
        ({"layer": -1}, "layer=-1 is not there"),
        ({"head": 4}, "head=4 is not there: choose from 0 to 3"),
        ({"query": T}, f"query={T} is not there: choose from 0 to {T - 1}"),
        ({"key": S}, f"key={S} is not there: choose from 0 to {S - 1}"),
        ({"row": B}, f"row={B} is not there: choose from 0 to {B - 1}"),
    ],
)
def test_a_place_that_is_not_there(asked, message):
    """One sentence with what there is."""
    with pytest.raises(ValueError, match=message):
        look(tiny(), **{"kind": "cross"} | asked)


def test_the_decoder_needs_a_target():
    """The encoder does not."""
    run = tiny()
    where = {"layer": 0, "head": 0, "query": 0, "key": 0}

    assert look_inside(run.model, run.source, kind="encoder", **where).steps
    with pytest.raises(ValueError, match="kind='cross' happens in the decoder: it needs a target"):
        look_inside(run.model, run.source, kind="cross", **where)


class Blind(stock.DecoderLayer):
    def forward(self, x, memory, self_mask=None, cross_mask=None):
        x = self.add_norm1(x, self.self_attention(x, x, x, self_mask)[0])
        return self.add_norm3(x, self.feed_forward(x))


class FiveHeads(stock.MultiHeadAttention):
    def forward(self, *args):
        output, weights = super().forward(*args)
        return output, weights[:, [0, 1, 2, 3, 3]]


class MeanWeights(stock.MultiHeadAttention):
    def forward(self, *args):
        output, weights = super().forward(*args)
        return output, weights.mean(1)


@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        (
            {"MultiHeadAttention": FiveHeads},
            ValueError,
            "self_attention gave the weights of 5 heads, into which d_model=24 does not split",
        ),
        ({"DecoderLayer": Blind}, LookupError, "decoder layer 1 never called its cross_attention"),
        (
            {"MultiHeadAttention": MeanWeights},
            ValueError,
            r"decoder layer 1: the weights of self_attention are \['B', 5, 5\], "
            r"the contract's \[B, H, 5, 5\]",
        ),
    ],
    ids=["five", "blind", "mean"],
)
def test_a_part_that_does_not_keep_the_contract(parts, error, message):
    """One sentence says which."""
    with using(parts):
        run = tiny()
        with pytest.raises(error, match=message):
            look(run, "cross")
        assert not any(m._forward_hooks for m in run.model.modules())


def test_a_step_that_is_not_there():
    """The ids that are there are named."""
    with pytest.raises(KeyError, match="'weights': choose from self_attention.x, "):
        look(tiny(), "encoder")["weights"]
