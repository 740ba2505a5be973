"""One token's journey through one layer, with every number on the way.

    journey = look_inside(model, source, target, kind="cross", layer=2, head=0, query=3, key=4)
    for step in journey.steps:
        print(step.id, step.formula, step.shape, step.value)

A number that the model hands from module to module is shown as it is (`own`). In between, inside a
fused layer for one, it is computed again from the model's weights, in double precision. Every step
also follows by its formula from the steps it is made from: `difference` says how far the model's
own number is from that. So any parts will do that keep the contract, PyTorch's or a learner's: the
first step that does not agree is where a model leaves the formulas, there or in one of the steps
just before it that are not its own.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lab.decoding import inference
from lab.recording import KINDS

EPS = 1e-5  # LayerNorm's, by the contract
ROUNDING = 100  # machine epsilons of the largest number in a step that pass for rounding

# Figure 1: each sub-layer, and the sum and norm after it.
BLOCKS = {
    "encoder": (("self_attention", "add_norm1"), ("feed_forward", "add_norm2")),
    "decoder": (
        ("self_attention", "add_norm1"),
        ("cross_attention", "add_norm2"),
        ("feed_forward", "add_norm3"),
    ),
}

# By key: the formula, the axes shown, the axes of the whole tensor, and the part that makes it (""
# is the layer). Token t looks at tokens s, i counts features, h is the head; T asks and S answers.
_ATTENTION = "scaled_dot_product_attention"
STEPS = {
    "x": (r"x_t", "D", "B T D", ""),
    "tokens": (r"Y = X", "S D", "B S D", ""),
    "memory": (r"Y = M", "S D", "B S D", ""),
    "query": (r"q = x_t W_Q^{(h)} + b_Q^{(h)}", "d_k", "B H T d_k", "MultiHeadAttention"),
    "keys": (r"K = Y W_K^{(h)} + b_K^{(h)}", "S d_k", "B H S d_k", "MultiHeadAttention"),
    "values": (r"V = Y W_V^{(h)} + b_V^{(h)}", "S d_k", "B H S d_k", "MultiHeadAttention"),
    "products": (r"q_i \, k_{s,i}", "d_k", "B H T S d_k", _ATTENTION),
    "score": (r"q \cdot k_s = \sum_{i=1}^{d_k} q_i \, k_{s,i}", "", "B H T S", _ATTENTION),
    "scores": (r"q K^\top", "S", "B H T S", _ATTENTION),
    "scaled": (r"z = \frac{q K^\top}{\sqrt{d_k}}", "S", "B H T S", _ATTENTION),
    "padding_mask": (r"m_s = [\mathrm{id}_s \neq \mathrm{pad}]", "S", "B 1 1 S", "padding_mask"),
    "decoder_mask": (
        r"m_s = [s \leq t] \wedge [\mathrm{id}_s \neq \mathrm{pad}]",
        "S", "B 1 T S", "decoder_mask",
    ),
    "masked": (
        r"\tilde z_s = \begin{cases} z_s & m_s \\ -\infty & \neg m_s \end{cases}",
        "S", "B H T S", _ATTENTION,
    ),
    "weights": (
        r"w_s = \frac{e^{\tilde z_s}}{\sum_r e^{\tilde z_r}}", "S", "B H T S", "softmax",
    ),
    "weighted": (r"w_s \, v_s", "S d_k", "B H T S d_k", _ATTENTION),
    "head": (r"o^{(h)} = \sum_s w_s \, v_s", "d_k", "B H T d_k", _ATTENTION),
    "heads": (r"o = [o^{(1)}, \dots, o^{(H)}]", "D", "B T D", "merge_heads"),
    "projected": (r"o W_O + b_O", "D", "B T D", "MultiHeadAttention"),
    "attended": (r"\mathrm{MultiHead}(x_t, Y, Y)", "D", "B T D", "MultiHeadAttention"),
    "residual": (r"r = x_t + \mathrm{sublayer}(x_t)", "D", "B T D", "AddNorm"),
    "mean": (r"\mu = \frac{1}{D} \sum_{i=1}^{D} r_i", "", "B T 1", "LayerNorm"),
    "variance": (
        r"\sigma^2 = \frac{1}{D} \sum_{i=1}^{D} (r_i - \mu)^2", "", "B T 1", "LayerNorm",
    ),
    "normalised": (
        r"\hat r = \frac{r - \mu}{\sqrt{\sigma^2 + \epsilon}}", "D", "B T D", "LayerNorm",
    ),
    "norm": (r"\gamma \odot \hat r + \beta", "D", "B T D", "LayerNorm"),
    "hidden": (r"u = x_t W_1 + b_1", "F", "B T F", "FeedForward"),
    "relu": (r"\max(0, u)", "F", "B T F", "FeedForward"),
    "fed": (r"\max(0, u) \, W_2 + b_2", "D", "B T D", "FeedForward"),
}  # fmt: skip


@dataclass(frozen=True)
class Step:
    """One formula of a layer, at one token.

    `shape` names the axes of `value`, `whole` those of the tensor it is cut from, both in the
    contract's letters. A score that may not be looked at is -inf; a mask is boolean.
    """

    block: str  # the module of the layer: "cross_attention", "add_norm2", "feed_forward", ...
    key: str  # what is done there, the same word in every block: "query", "residual", ...
    part: str  # the contract's part that does it
    formula: str  # LaTeX
    shape: tuple[str, ...]
    whole: tuple[str, ...]
    value: Tensor
    made_from: tuple[str, ...]  # ids of earlier steps
    own: bool  # the model's own number, otherwise computed again from its weights
    difference: float | None  # the largest, of own number and formula; None where not own
    agrees: bool  # False where the difference is more than rounding
    parameters: dict[str, Tensor] = field(default_factory=dict)  # LayerNorm's gamma, beta, epsilon

    @property
    def id(self) -> str:
        return f"{self.block}.{self.key}"

    def data(self) -> dict[str, Any]:
        """Ready for JSON. What is not finite becomes a string that JavaScript's Number() reads."""
        return {
            "id": self.id,
            "block": self.block,
            "key": self.key,
            "part": self.part,
            "formula": self.formula,
            "shape": list(self.shape),
            "size": list(self.value.shape),
            "whole": list(self.whole),
            "value": _plain(self.value.tolist()),
            "made_from": list(self.made_from),
            "own": self.own,
            "difference": _plain(self.difference),
            "agrees": self.agrees,
            "parameters": {name: _plain(value.tolist()) for name, value in self.parameters.items()},
        }


@dataclass(frozen=True)
class Journey:
    """The steps of one token through one layer, each after those it is made from."""

    kind: str  # the attention that is taken apart: "encoder", "decoder" or "cross"
    layer: int
    head: int
    query: int  # the token's position
    key: int  # the position whose score is shown product by product
    steps: tuple[Step, ...]

    def __getitem__(self, id: str) -> Step:
        for step in self.steps:
            if step.id == id:
                return step
        raise KeyError(f"{id!r}: choose from {', '.join(step.id for step in self.steps)}")

    @property
    def differing(self) -> tuple[Step, ...]:
        """Where the model does something else than the formula, beyond rounding."""
        return tuple(step for step in self.steps if not step.agrees)

    def data(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "kind": self.kind,
            "layer": self.layer,
            "head": self.head,
            "query": self.query,
            "key": self.key,
            "steps": [step.data() for step in self.steps],
            "differing": [step.id for step in self.differing],
        }


def look_inside(
    model: Any,
    source: Int[Tensor, "B S"],
    target: Int[Tensor, "B T"] | None = None,
    *,
    kind: str,
    layer: int,
    head: int,
    query: int,
    key: int,
    row: int = 0,
) -> Journey:
    """The journey of the token at `query` through a layer, in sentence `row` of the batch.

    `target` is what the decoder reads, <s> first; "encoder" needs none. In a decoder layer the
    attention that is not asked for is one step. ValueError for a place that is not there and for
    parts that do not keep the contract; LookupError for a layer that leaves out an attention.
    """
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r}: choose from {', '.join(KINDS)}")
    side, in_detail = KINDS[kind]
    if side == "decoder" and target is None:
        raise ValueError(f"kind={kind!r} happens in the decoder: it needs a target")
    reads = {"self_attention": source if target is None or side == "encoder" else target}
    reads["cross_attention"] = source
    layers = getattr(model, side).layers
    _check("layer", layer, len(layers))
    _check("row", row, len(source))
    _check("query", query, reads["self_attention"].size(1))
    _check("key", key, reads[in_detail].size(1))
    seen = _Seen(f"{side} layer {layer}", len(source), row)
    with inference(model), _watch(layers[layer], seen):
        memory = model.encode(source)
        if side == "decoder":
            model.decode(target, memory, source)

    path = _Path(side, layers[layer], seen, query)
    at = ""
    for sublayer, add_norm in BLOCKS[side]:
        if sublayer == "feed_forward":
            out = path.feed_forward(at)
        else:
            not_padding = (reads[sublayer][row] != model.pad_id).cpu()
            if sublayer == in_detail:
                at, out = path.attention(sublayer, at, not_padding, head, key)
            else:
                at, out = path.attention_in_short(sublayer, at, not_padding)
        at = path.add_norm(add_norm, at, out)
    return Journey(kind, layer, head, query, key, tuple(path.steps.values()))


def _check(name: str, value: int, count: int) -> None:
    if not 0 <= value < count:
        raise ValueError(f"{name}={value} is not there: choose from 0 to {count - 1}")


class _Path:
    """The steps so far. Each kind of block adds its own and answers with the ids that lead on."""

    def __init__(self, side: str, layer: Any, seen: "_Seen", query: int):
        self.side, self.layer, self.seen, self.query = side, layer, seen, query
        self.rounding = ROUNDING * torch.finfo(next(layer.parameters()).dtype).eps
        self.block = ""  # the one that is being added
        self.steps: dict[str, Step] = {}

    def attention(
        self, block: str, at: str, not_padding: Bool[Tensor, " S"], head: int, key: int
    ) -> tuple[str, str]:
        """One head of it, then all heads joined: what went in, what came out."""
        self.block, add, seen, t = block, self._add, self.seen, self.query
        module = getattr(self.layer, block)
        cross = block == "cross_attention"
        causal = self.side == "decoder" and not cross
        all_weights = seen.weights(block, len(not_padding))[:, t]
        n_heads = len(all_weights)
        _check("head", head, n_heads)

        def of_head(features: Float[Tensor, "*axes D"]) -> Float[Tensor, "*axes K"]:
            return features.chunk(n_heads, dim=-1)[head]

        def own(projection: str) -> Tensor | None:
            features = seen.gave(f"{block}.{projection}")
            return None if features is None else of_head(features)

        arrived = self.steps[at].value if at else seen.argument("", "x")[t]
        x = add("x", arrived, *([at] if at else []), own=seen.argument(block, "query")[t])
        tokens = "memory" if cross else "tokens"
        usual = seen.argument("", "memory" if cross else "x")
        # Keys and values come from the same tokens; of a layer that thinks otherwise, the odd ones.
        of_keys, of_values = seen.argument(block, "key"), seen.argument(block, "value")
        add(tokens, usual, own=of_values if torch.equal(of_keys, usual) else of_keys)

        q = add("query", of_head(_linear(module.q_proj, x)), "x", own=_at(own("q_proj"), t))
        k = add("keys", of_head(_linear(module.k_proj, of_keys)), tokens, own=own("k_proj"))
        all_values = _linear(module.v_proj, of_values)
        v = add("values", of_head(all_values), tokens, own=own("v_proj"))
        add("products", q * k[key], "query", "keys")
        add("score", q @ k[key], "products")
        scores = add("scores", k @ q, "query", "keys")
        scaled = add("scaled", scores / math.sqrt(len(q)), "scores")
        past = torch.arange(len(not_padding)) <= t
        mask = "decoder_mask" if causal else "padding_mask"
        allowed = not_padding & past if causal else not_padding
        allowed = add(mask, allowed, own=seen.mask(block, n_heads, head, t))
        masked = add("masked", scaled.masked_fill(~allowed, -math.inf), "scaled", mask)
        weights = add("weights", _softmax(masked), "masked", own=all_weights[head])
        weighted = add("weighted", weights.unsqueeze(1) * v, "weights", "values")

        joined = _at(seen.took(f"{block}.out_proj"), t)
        add("head", weighted.sum(0), "weighted", own=None if joined is None else of_head(joined))
        by_head = all_values.unflatten(-1, (n_heads, -1))  # (S, H, K)
        heads = torch.einsum("hs,shk->hk", all_weights, by_head).flatten()
        heads = add("heads", heads, "head", own=joined)
        add("projected", _linear(module.out_proj, heads), "heads", own=_at(seen.gave(block), t))
        return f"{block}.x", f"{block}.projected"

    def attention_in_short(
        self, block: str, at: str, not_padding: Bool[Tensor, " S"]
    ) -> tuple[str, str]:
        """What went in and what came out; it agrees where every step between does, for head 0."""
        before = dict(self.steps)
        self.attention(block, at, not_padding, head=0, key=0)
        x, tokens, *between = [step for id, step in self.steps.items() if id not in before]
        first = next((step for step in between if not step.agrees), between[-1])
        attended = replace(
            between[-1],
            key="attended",
            formula=STEPS["attended"][0],
            made_from=(x.id, tokens.id),
            difference=first.difference,
            agrees=first.agrees,
        )
        self.steps = before | {step.id: step for step in (x, tokens, attended)}
        return x.id, attended.id

    def feed_forward(self, at: str) -> str:
        """What came out."""
        self.block, add, seen, t = "feed_forward", self._add, self.seen, self.query
        module = self.layer.feed_forward
        hidden = _linear(module.linear1, self.steps[at].value)
        hidden = add("hidden", hidden, at, own=_at(seen.gave("feed_forward.linear1"), t))
        relu = hidden.clamp(min=0)
        relu = add("relu", relu, "hidden", own=_at(seen.took("feed_forward.linear2"), t))
        add("fed", _linear(module.linear2, relu), "relu", own=_at(seen.gave("feed_forward"), t))
        return "feed_forward.fed"

    def add_norm(self, block: str, at: str, out: str) -> str:
        """What came out; of the last one, what the layer gave."""
        self.block, add, seen, t = block, self._add, self.seen, self.query
        norm = getattr(self.layer, block).norm
        total = self.steps[at].value + self.steps[out].value
        r = add("residual", total, at, out, own=_at(seen.took(f"{block}.norm"), t))
        mean = add("mean", r.mean(), "residual")
        variance = add("variance", (r - mean).square().mean(), "residual", "mean")
        epsilon = torch.tensor(EPS, dtype=torch.float64)
        normalised = (r - mean) / (variance + epsilon).sqrt()
        add("normalised", normalised, "residual", "mean", "variance", epsilon=epsilon)
        gamma, beta = _exact(norm.weight), _exact(norm.bias)
        gave = seen.gave("" if block == BLOCKS[self.side][-1][1] else block)
        y = gamma * normalised + beta
        add("norm", y, "normalised", own=_at(gave, t), gamma=gamma, beta=beta)
        return f"{block}.norm"

    def _add(
        self,
        key: str,
        value: Tensor,
        *made_from: str,
        own: Tensor | None = None,
        **parameters: Tensor,
    ) -> Tensor:
        """Add a step of this block. Its value is `own`, where seen, or else the formula's."""
        formula, shape, whole, part = STEPS[key]
        ids = tuple(name if "." in name else f"{self.block}.{name}" for name in made_from)
        difference, agrees = None, True
        if own is not None and own.shape == value.shape:
            difference = (own.double() - value.double()).abs().max().item()
            largest = max(_largest(tensor) for tensor in (own, *(self.steps[i].value for i in ids)))
            agrees = difference <= self.rounding * max(1, largest)  # False for NaN
            value = own
        self.steps[f"{self.block}.{key}"] = Step(
            block=self.block,
            key=key,
            part=part or f"{self.side.capitalize()}Layer",
            formula=formula,
            shape=self._axes(shape),
            whole=self._axes(whole),
            value=value,
            made_from=ids,
            own=difference is not None,
            difference=difference,
            agrees=agrees,
            parameters=parameters,
        )
        return value

    def _axes(self, letters: str) -> tuple[str, ...]:
        """With the letter of the sentence, where one sentence looks at itself."""
        if self.side == "encoder":
            letters = letters.replace("T", "S")
        elif self.block == "self_attention":
            letters = letters.replace("S", "T")
        return tuple(letters.split())


class _Seen:
    """What a layer's modules were given and gave in their last call, by name; "" is the layer.

    Of one sentence of the batch, on the CPU, in double precision, kept before anything changes it.
    A module's layout inside a part is free: what does not begin with the batch is not kept.
    """

    def __init__(self, where: str, batch: int, row: int):
        self.where, self.batch, self.row = where, batch, row
        self.given: dict[str, dict[str, Any]] = {}  # by name of the argument
        self.results: dict[str, tuple[Any, ...]] = {}

    def keep_given(self, name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
        last = name.rpartition(".")[-1]
        arguments = dict(zip(ARGUMENTS.get(last, ("x",)), args, strict=False)) | kwargs
        self.given[name] = {argument: self._kept(value) for argument, value in arguments.items()}
        if isinstance(mask := arguments.get("mask"), Tensor):  # of any shape that broadcasts
            self.given[name]["mask"] = mask.detach().to("cpu", copy=True)

    def keep_results(self, name: str, output: Any) -> None:
        results = output if isinstance(output, tuple) else (output,)
        self.results[name] = tuple(map(self._kept, results))

    def _kept(self, value: Any) -> Tensor | None:
        if not isinstance(value, Tensor) or value.dim() < 3 or len(value) != self.batch:
            return None
        return _exact(value[self.row])

    def took(self, name: str) -> Tensor | None:
        """The first argument."""
        return next(iter(self.given.get(name, {}).values()), None)

    def gave(self, name: str) -> Tensor | None:
        """The first result."""
        return next(iter(self.results.get(name, ())), None)

    def argument(self, name: str, argument: str) -> Float[Tensor, "T D"]:
        """One that the contract asks for."""
        if name not in self.given:
            raise LookupError(f"{self.where} never called its {name or 'forward'}")
        found = self.given[name].get(argument)
        if found is None:
            raise ValueError(f"{self.where}: {name} was not given {argument} as [B, length, D]")
        return found

    def weights(self, block: str, length: int) -> Float[Tensor, "H T S"]:
        """Of all heads."""
        queries, d_model = self.argument(block, "query").shape
        weights = next(iter(self.results[block][1:]), None)
        if weights is None or weights.dim() != 3 or weights.shape[1:] != (queries, length):
            shape = "no tensor of a batch" if weights is None else ["B", *weights.shape]
            raise ValueError(
                f"{self.where}: the weights of {block} are {shape}, "
                f"the contract's [B, H, {queries}, {length}]"
            )
        if d_model % len(weights):
            raise ValueError(
                f"{self.where}: {block} gave the weights of {len(weights)} heads, "
                f"into which d_model={d_model} does not split"
            )
        return weights

    def mask(self, block: str, n_heads: int, head: int, query: int) -> Bool[Tensor, " S"] | None:
        """Where a query may look; None where the mask says it in a way of its own."""
        mask = self.given[block].get("mask")
        queries, keys = (len(self.argument(block, name)) for name in ("query", "key"))
        if mask is None:
            return torch.ones(keys, dtype=torch.bool)
        if mask.dtype != torch.bool:
            return None
        try:
            return mask.expand(self.batch, n_heads, queries, keys)[self.row, head, query]
        except RuntimeError:  # another shape
            return None


# The contract's names of arguments, which a caller may use; elsewhere the first one counts.
ARGUMENTS = {
    "": ("x", "memory", "self_mask", "cross_mask"),
    "self_attention": ("query", "key", "value", "mask"),
    "cross_attention": ("query", "key", "value", "mask"),
}


@contextmanager
def _watch(layer: nn.Module, seen: _Seen) -> Iterator[None]:
    with ExitStack() as hooks:
        for name, module in layer.named_modules():

            def before(module: nn.Module, args: Any, kwargs: Any, name: str = name) -> None:
                seen.keep_given(name, args, kwargs)

            def after(module: nn.Module, args: Any, output: Any, name: str = name) -> None:
                seen.keep_results(name, output)

            hooks.enter_context(module.register_forward_pre_hook(before, with_kwargs=True))
            hooks.enter_context(module.register_forward_hook(after))
        yield


def _exact(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float64, copy=True)


def _linear(module: nn.Linear, x: Float[Tensor, "*axes A"]) -> Float[Tensor, "*axes Z"]:
    return F.linear(x, _exact(module.weight), _exact(module.bias))


def _softmax(scores: Float[Tensor, " S"]) -> Float[Tensor, " S"]:
    """Zeros for a query that may look at nothing."""
    return torch.zeros_like(scores) if scores.isneginf().all() else scores.softmax(-1)


def _at(features: Tensor | None, position: int) -> Tensor | None:
    return None if features is None or len(features) <= position else features[position]


def _largest(tensor: Tensor) -> float:
    return tensor.double().nan_to_num(0, 0, 0).abs().max().item()


def _plain(value: Any) -> Any:
    """Lists and numbers for JSON, which has no infinities."""
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
