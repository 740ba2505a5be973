"""Decoding by a model's weights alone, as fast as plain torch goes.

`FastSteps` does the arithmetic of the contract's modules on weights laid out for it, once per
model (`prepared`). What it saves, and how:

- queries, keys and values come from one product, those of the source for all layers from another;
- keys and values of what is written go into memory that is there already, and stay there: a new
  word is a row more, and a mask is made only where something is padded;
- the hypotheses of a beam share the keys and values of their source;
- the keys of a single sentence swallow the query projection, its values the output projection:
  attention over S words then reads 2·H·S rows of weights instead of 2·D;
- a product of one row reads its matrix in the order of memory; one of more rows has it packed by
  oneDNN, where torch comes with it.

`benchmarks/decoding.py` measures it.
"""

import math
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lab.recording import Step, run_to_keep

ROOM = 16  # words for which there is memory at first; it doubles when they are written


class FastSteps:
    """Every step decodes the newest word of each row; see lab.decoding.Steps."""

    @torch.inference_mode()
    def __init__(self, model: Any, src: Int[Tensor, "B S"]):
        self.model = prepared(model)
        self.run = run_to_keep(model, src)
        self.length = 0  # words of each row so far
        self.room: Tensor | None = None  # (room, L, 3, rows, D): each word's query, key and value
        self.spare: Tensor | None = None  # the same once more, to sort rows into
        self.per_source = 1  # rows of a sentence: the hypotheses of its beam
        self.wrote_padding = False
        memory, mask = self._encode(src)
        self.sources = self._attend_later(memory, mask)

    def _encode(
        self, src: Int[Tensor, "B S"]
    ) -> tuple[Float[Tensor, "B S D"], Float[Tensor, "heads 1 S"] | None]:
        model, (batch, length) = self.model, src.shape
        mask = _hiding(src == model.pad_id, model.n_heads, model.positions.dtype)
        x = model.embed(src, model.positions[:length]).flatten(0, 1)
        for layer in model.encoder:
            heads = layer.project(x).view(batch, length, 3, model.n_heads, -1)
            query, key, value = heads.permute(2, 0, 3, 1, 4).flatten(1, 2).unbind()
            found, weights = _attend(query, key.transpose(1, 2), value, mask)
            if self.run is not None:
                self.run.encoder.append(weights)
            found = found.view(batch, model.n_heads, length, -1).transpose(1, 2).reshape(x.shape)
            x = layer.norm1(layer.output(found).add_(x))
            x = layer.norm2(layer.feed_forward(x).add_(x))
        return x.view(batch, length, -1), mask

    def _attend_later(
        self, memory: Float[Tensor, "B S D"], mask: Float[Tensor, "heads 1 S"] | None
    ) -> list["OneSource | ManySources"]:
        """The source's keys and values of all layers, from one product."""
        model, (batch, length, _) = self.model, memory.shape
        heads = model.memory(memory.flatten(0, 1)).view(batch, length, -1, model.n_heads, model.d_k)
        heads = heads.permute(2, 0, 3, 1, 4).flatten(1, 2)  # (2L, B·H, S, K)
        kind = OneSource if batch == 1 else ManySources
        return [
            kind(layer, key, value, mask)
            for layer, key, value in zip(model.decoder, heads[0::2], heads[1::2], strict=True)
        ]

    @torch.inference_mode()
    def logits(self, ids: Int[Tensor, "rows T"]) -> Float[Tensor, "rows V"]:
        model, (rows, length) = self.model, ids.shape
        if length > len(model.positions):
            raise ValueError(
                f"{length} tokens do not fit into max_len={len(model.positions)} positions: "
                "decode with a smaller max_len"
            )
        x = model.embed(ids[:, -1], model.positions[length - 1])
        room = self._room(rows, length)
        heads = room[:length].view(length, len(model.decoder), 3, rows * model.n_heads, -1)
        query, key, value = heads.permute(2, 1, 3, 0, 4).unbind()  # (L, rows·H, T, K) each
        layers = zip(
            model.decoder,
            self.sources,
            room[length - 1].unbind(),
            query.narrow(2, length - 1, 1).unbind(),
            key.transpose(2, 3).unbind(),
            value.unbind(),
            strict=True,
        )
        self.wrote_padding |= model.pad_id in ids[:, -1].tolist()
        hidden = ids == model.pad_id if self.wrote_padding else None
        mask = None if hidden is None else _hiding(hidden, model.n_heads, x.dtype)
        looked = []
        for layer, source, newest, query, key, value in layers:
            if rows == 1:
                layer.project.into(newest.view(1, -1), x)
            else:
                newest.copy_(layer.project(x).view(rows, 3, -1).transpose(0, 1))
            found, over_target = _attend(query, key, value, mask)
            x = layer.norm1(layer.output(found.view(rows, -1)).add_(x))
            x, over_source = source(x)
            x = layer.norm2(x)
            x = layer.norm3(layer.feed_forward(x).add_(x))
            looked.append((over_target, over_source))
        logits = model.vocabulary(x)
        if self.run is not None:
            self.run.steps.append(Step(ids, logits, looked))
        return logits

    def _room(self, rows: int, length: int) -> Float[Tensor, "room L 3 rows D"]:
        """Memory for the newest word too."""
        if self.room is None or length > len(self.room):
            model = self.model
            shape = (len(model.decoder), 3, rows, model.n_heads * model.d_k)
            room = model.positions.new_empty(max(ROOM, 2 * length), *shape)
            if self.room is not None:
                room[: length - 1] = self.room[: length - 1]
            self.room, self.spare = room, None
        self.length = length
        return self.room

    @torch.inference_mode()
    def select(self, rows: Int[Tensor, " rows"]) -> None:
        """Go on with these rows. Those of one sentence share its keys and values, as long as all
        sentences have equally many rows and each has them together."""
        owners = [row // self.per_source for row in rows.tolist()]
        sources = list(dict.fromkeys(owners))
        per_source = len(owners) // len(sources)
        if owners != [source for source in sources for _ in range(per_source)]:
            sources, per_source = owners, 1
        if sources != list(range(self.sources[0].count)):
            for each in self.sources:
                each.select(torch.tensor(sources, device=rows.device))
        self.per_source = per_source
        if self.room is not None:
            room, spare = self.room, self.spare
            if spare is None or spare.size(3) != len(rows):
                spare = room.new_empty(*room.shape[:3], len(rows), room.size(4))
            torch.index_select(room[: self.length], 3, rows, out=spare[: self.length])
            self.room, self.spare = spare, room


class OneSource:
    """What a decoder layer finds in the source that all rows share, added to them.

    A score is (W x + b)·k = (k W) x + b·k, and what is found U (Σ wₛ vₛ) + c = Σ wₛ (U vₛ + c),
    for the weights sum to one: so k W, b·k and U vₛ + c are computed once.
    """

    count = 1  # sentences

    def __init__(
        self,
        layer: "DecoderLayer",
        key: Float[Tensor, "H S K"],
        value: Float[Tensor, "H S K"],
        mask: Float[Tensor, "H 1 S"] | None,
    ):
        self.n_heads = layer.n_heads
        self.keys = torch.bmm(key, layer.query_of_heads).flatten(0, 1)  # (H·S, D)
        bias = torch.bmm(key, layer.query_bias_of_heads)  # (H, S, 1)
        self.bias = (bias if mask is None else bias + mask.transpose(1, 2)).flatten()
        values = torch.bmm(value, layer.output_of_heads).add_(layer.output_bias_of_a_head)
        self.values = values.flatten(0, 1)  # (H·S, D)

    def __call__(
        self, x: Float[Tensor, "rows D"]
    ) -> tuple[Float[Tensor, "rows D"], Float[Tensor, "rows H S"]]:
        scores = F.linear(x, self.keys, self.bias).view(len(x), self.n_heads, -1)
        weights = scores.softmax(-1)
        return torch.addmm(x, weights.view(len(x), -1), self.values), weights

    def select(self, sources: Int[Tensor, " sources"]) -> None:
        """No other sentence is there. (All rows of one sentence are always its own.)"""


class ManySources:
    """What a decoder layer finds in the sources of a batch, added to its rows."""

    def __init__(
        self,
        layer: "DecoderLayer",
        key: Float[Tensor, "heads S K"],
        value: Float[Tensor, "heads S K"],
        mask: Float[Tensor, "heads 1 S"] | None,
    ):
        self.layer, self.key, self.value, self.mask = layer, key, value, mask
        self.count = len(key) // layer.n_heads  # sentences

    def __call__(
        self, x: Float[Tensor, "rows D"]
    ) -> tuple[Float[Tensor, "rows D"], Float[Tensor, "heads T S"]]:
        split = (self.count, -1, self.layer.n_heads, self.key.size(-1))
        query = self.layer.query(x).view(split).transpose(1, 2).flatten(0, 1)
        found, weights = _attend(query, self.key.transpose(1, 2), self.value, self.mask)
        found = found.unflatten(0, (self.count, -1)).transpose(1, 2).reshape(x.shape)
        return self.layer.cross_output(found).add_(x), weights

    def select(self, sources: Int[Tensor, " sources"]) -> None:
        def of_these(x: Float[Tensor, "heads ..."]) -> Float[Tensor, "chosen ..."]:
            return x.unflatten(0, (self.count, -1)).index_select(0, sources).flatten(0, 1)

        self.key, self.value = of_these(self.key), of_these(self.value)
        self.mask = None if self.mask is None else of_these(self.mask)
        self.count = len(sources)


def _attend(
    query: Float[Tensor, "heads T K"],
    key: Float[Tensor, "heads K S"],
    value: Float[Tensor, "heads S K"],
    mask: Float[Tensor, "heads 1 S"] | None,
) -> tuple[Float[Tensor, "heads T K"], Float[Tensor, "heads T S"]]:
    scores = torch.bmm(query, key) if mask is None else torch.baddbmm(mask, query, key)
    weights = scores.softmax(-1)
    return torch.bmm(weights, value), weights


def _hiding(
    hidden: Bool[Tensor, "B S"], n_heads: int, dtype: torch.dtype
) -> Float[Tensor, "heads 1 S"] | None:
    """What is added to scores; None where nothing is hidden."""
    if not hidden.any():
        return None
    mask = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device)
    return mask.masked_fill_(hidden, -math.inf).repeat_interleave(n_heads, 0).unsqueeze(1)


# The weights


class Product:
    """x @ weight.T + bias."""

    def __init__(self, weight: Float[Tensor, "N M"], bias: Float[Tensor, " N"] | None = None):
        # A vector times a matrix is as fast as memory, and memory likes long rows.
        tall = weight.size(0) >= weight.size(1)
        self.weight = weight.t().contiguous().t() if tall else weight.contiguous()
        self.bias = bias
        self.worth = 2 if weight.numel() > 100_000 else 16  # rows from which on packing helps

    @cached_property
    def packed(self) -> Tensor | None:
        """Once there are rows enough: a page that decodes one sentence at a time needs no copy."""
        return _packed(self.weight)

    def __call__(self, x: Float[Tensor, "rows M"]) -> Float[Tensor, "rows N"]:
        if x.size(0) < self.worth or self.packed is None:
            return F.linear(x, self.weight, self.bias)
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")

    def into(self, place: Float[Tensor, "1 N"], x: Float[Tensor, "1 M"]) -> None:
        torch.addmm(self.bias, x, self.weight.t(), out=place)  # type: ignore[arg-type]


def _packed(weight: Float[Tensor, "N M"]) -> Tensor | None:
    """oneDNN's own order, for which torch.compile uses the same two functions."""
    usable = weight.device.type == "cpu" and weight.dtype == torch.float32
    if not (usable and torch.backends.mkldnn.is_available()):
        return None
    return torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), 64)


class Norm:
    """Layer norm of an AddNorm."""

    def __init__(self, part: Any):
        self.weight, self.bias, self.eps = part.norm.weight, part.norm.bias, part.norm.eps
        self.shape = self.weight.shape

    def __call__(self, x: Float[Tensor, "rows D"]) -> Float[Tensor, "rows D"]:
        return torch.layer_norm(x, self.shape, self.weight, self.bias, self.eps, False)


class EncoderLayer:
    """Its products and norms; 1/√K is in the queries' weights."""

    def __init__(self, layer: Any, n_heads: int):
        attention, forward = layer.self_attention, layer.feed_forward
        self.n_heads = n_heads
        self.scale = (attention.q_proj.weight.size(0) // n_heads) ** -0.5
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        self.project = _together(*projections, scale=self.scale)
        self.output = _together(attention.out_proj)
        self.widen, self.narrow = _together(forward.linear1), _together(forward.linear2)
        self.norm1, self.norm2 = Norm(layer.add_norm1), Norm(layer.add_norm2)

    def feed_forward(self, x: Float[Tensor, "rows D"]) -> Float[Tensor, "rows D"]:
        return self.narrow(self.widen(x).relu_())


class DecoderLayer(EncoderLayer):
    """The same, and its attention over the source: whole, and by head for OneSource."""

    def __init__(self, layer: Any, n_heads: int):
        super().__init__(layer, n_heads)
        self.norm3 = Norm(layer.add_norm3)
        query, output = layer.cross_attention.q_proj, layer.cross_attention.out_proj
        self.query = _together(query, scale=self.scale)
        self.cross_output = _together(output)
        heads = (n_heads, -1)
        self.query_of_heads = (query.weight * self.scale).unflatten(0, heads)  # (H, K, D)
        self.query_bias_of_heads = (query.bias * self.scale).unflatten(0, heads).unsqueeze(-1)
        self.output_of_heads = output.weight.t().unflatten(0, heads).contiguous()  # (H, K, D)
        self.output_bias_of_a_head = output.bias / n_heads


class Prepared:
    """The weights of a model's modules, laid out for decoding.

    AttributeError where a module of the contract, or a weight in it, is not there.
    """

    def __init__(self, model: Any):
        self.found_in = Weights(model)
        self.pad_id: int = model.pad_id
        self.embedding: Float[Tensor, "V D"] = model.embedding.embedding.weight
        self.scale = math.sqrt(self.embedding.size(1))
        self.positions: Float[Tensor, "max_len D"] = model.positions.table.to(self.embedding.dtype)
        self.vocabulary = Product(self.embedding)
        self.n_heads = _n_heads(model.decoder.layers[0].self_attention)
        self.d_k = self.embedding.size(1) // self.n_heads
        self.encoder = [EncoderLayer(layer, self.n_heads) for layer in model.encoder.layers]
        self.decoder = [DecoderLayer(layer, self.n_heads) for layer in model.decoder.layers]
        crosses = [layer.cross_attention for layer in model.decoder.layers]
        self.memory = _together(*(p for each in crosses for p in (each.k_proj, each.v_proj)))

    def embed(
        self, ids: Int[Tensor, "*axes"], positions: Float[Tensor, "*#axes D"]
    ) -> Float[Tensor, "*axes D"]:
        return torch.add(positions, torch.embedding(self.embedding, ids), alpha=self.scale)


def _together(*linears: nn.Linear, scale: float = 1.0) -> Product:
    """Several layers as one product; the first may be scaled."""
    first, *others = linears
    weights = [first.weight * scale, *(each.weight for each in others)]
    biases = [first.bias * scale, *(each.bias for each in others)]
    return Product(torch.cat(weights), torch.cat(biases))


def _n_heads(attention: Any) -> int:
    # How many heads there are is no attribute of the contract: the weights [1, H, 1, 1] tell.
    # (`forward` itself, so that nothing is recorded.)
    weight = attention.q_proj.weight
    token = weight.new_zeros(1, 1, weight.size(1))
    return attention.forward(token, token, token)[1].size(1)


class Weights:
    """What a model's weights were, to tell whether they still are: torch counts the changes of a
    tensor. (Not those through `.data`, which hides them.)"""

    def __init__(self, model: nn.Module):
        self.places = [
            (module._parameters, name) for module in model.modules() for name in module._parameters
        ]
        self.found = self._look()

    def unchanged(self) -> bool:
        return self._look() == self.found

    def _look(self) -> list[tuple[int, int]]:
        found = [place[name] for place, name in self.places]
        return [
            (each.data_ptr(), 0 if each.is_inference() else each._version)
            for each in found
            if each is not None
        ]


_prepared: WeakKeyDictionary[nn.Module, Prepared] = WeakKeyDictionary()


def prepared(model: nn.Module) -> Prepared:
    """Laid out anew when a weight has changed."""
    found = _prepared.get(model)
    if found is None or not found.found_in.unchanged():
        found = _prepared[model] = Prepared(model)
    return found
