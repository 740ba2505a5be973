"""The training loss of a model, faster: the same arithmetic, on the weights of its modules.

What it saves, and how:

- dropout: one random byte decides on a feature, where `nn.Dropout` draws a number for each;
- attention: one product for queries, keys and values, and torch's fused attention;
- the output layer: logits of a few rows at a time, which become their gradient where they stand,
  and none at all for padding;
- with `precision` bfloat16: matrix products of half the width, where the processor has them in
  hardware. Sums over tokens, softmax, norms, attention and the weights stay in float32.

It serves models of the contract's modules. `benchmarks/speed.py` measures it.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lab.model import Config

ROWS = 256  # tokens whose logits are in memory at a time


class Loss(nn.Module):
    """forward(src, decoder_input, expected) gives the loss summed over the expected tokens.

    Label smoothing as in the contract's `label_smoothing_loss`. With a `consistency` α every
    sentence is read twice, each time with other features dropped, and α/2 (KL(p₁‖p₂) + KL(p₂‖p₁))
    is added for what the two readings say (R-Drop, Wu et al. 2021).
    """

    def __init__(
        self,
        model: nn.Module,
        config: Config,
        smoothing: float = 0.0,
        consistency: float = 0.0,
        precision: torch.dtype = torch.float32,
    ):
        super().__init__()
        self.model: Any = model
        self.config, self.precision = config, precision
        self.smoothing, self.consistency = smoothing, consistency

    def forward(self, *ids: Int[Tensor, "B _"]) -> Float[Tensor, ""]:
        return self.of(*(torch.cat([each, each]) for each in ids) if self.consistency else ids)

    def of(
        self,
        src: Int[Tensor, "B S"],
        decoder_input: Int[Tensor, "B T"],
        expected: Int[Tensor, "B T"],
    ) -> Float[Tensor, ""]:
        """The loss of these sentences; with a consistency the second half are the first again."""
        raise NotImplementedError


class FusedLoss(Loss):
    """By the weights of the model's modules, as fast as plain torch goes."""

    def of(
        self,
        src: Int[Tensor, "B S"],
        decoder_input: Int[Tensor, "B T"],
        expected: Int[Tensor, "B T"],
    ) -> Float[Tensor, ""]:
        hidden = self.decode(decoder_input, self.encode(src), src)
        real = expected.flatten().ne(self.config.pad_id).nonzero().squeeze(1)
        return OutputLoss.apply(
            hidden.flatten(0, 1)[real],
            self.model.embedding.embedding.weight,
            expected.flatten()[real],
            self.smoothing,
            self.consistency,
            self.precision,
        )

    def encode(self, src: Int[Tensor, "B S"]) -> Float[Tensor, "B S D"]:
        x, mask = self.embed(src), self.source_mask(src)
        for layer in self.model.encoder.layers:
            x = self.add_norm(layer.add_norm1, x, self.attend(layer.self_attention, x, x, mask))
            x = self.add_norm(layer.add_norm2, x, self.feed_forward(layer.feed_forward, x))
        return x

    def decode(
        self, ids: Int[Tensor, "B T"], memory: Float[Tensor, "B S D"], src: Int[Tensor, "B S"]
    ) -> Float[Tensor, "B T D"]:
        x, mask = self.embed(ids), self.source_mask(src)
        length = ids.size(1)  # padding comes last, so the causal mask hides it from what is real
        past = _added(torch.ones(length, length, dtype=torch.bool, device=ids.device).tril())
        for layer in self.model.decoder.layers:
            x = self.add_norm(layer.add_norm1, x, self.attend(layer.self_attention, x, x, past))
            seen = self.attend(layer.cross_attention, x, memory, mask)
            x = self.add_norm(layer.add_norm2, x, seen)
            x = self.add_norm(layer.add_norm3, x, self.feed_forward(layer.feed_forward, x))
        return x

    def source_mask(self, src: Int[Tensor, "B S"]) -> Float[Tensor, "B 1 1 S"]:
        return _added(src.ne(self.config.pad_id)[:, None, None, :])

    def embed(self, ids: Int[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        weight, table = self.model.embedding.embedding.weight, self.model.positions.table
        tokens = F.embedding(ids, weight, padding_idx=self.config.pad_id)
        x = torch.add(table[: ids.size(1)], tokens, alpha=math.sqrt(weight.size(1)))
        return x * self.kept(x) if self.drops else x

    def attend(
        self,
        attention: Any,
        x: Float[Tensor, "B T D"],
        memory: Float[Tensor, "B S D"],
        mask: Float[Tensor, "... #T S"],
    ) -> Float[Tensor, "B T D"]:
        query, key, value = attention.q_proj, attention.k_proj, attention.v_proj
        if x is memory:
            q, k, v = self.heads(x, query, key, value)
        else:
            (q,), (k, v) = self.heads(x, query), self.heads(memory, key, value)
        if x.is_cuda:  # on the CPU torch's attention is slow in bfloat16
            q, k, v, mask = (tensor.to(self.precision) for tensor in (q, k, v, mask))
        found = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.linear(found.transpose(1, 2).flatten(2), attention.out_proj)

    def heads(
        self, x: Float[Tensor, "B T D"], *projections: nn.Linear
    ) -> tuple[Float[Tensor, "B H T K"], ...]:
        """Several projections in one product, each split into heads."""
        found = self.linear(x, *projections)
        heads = found.unflatten(-1, (len(projections), self.config.n_heads, -1))
        return heads.permute(2, 0, 3, 1, 4).unbind()

    def feed_forward(self, layers: Any, x: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        return self.linear(F.relu(self.linear(x, layers.linear1), inplace=True), layers.linear2)

    def linear(self, x: Tensor, *layers: nn.Linear) -> Tensor:
        weight, bias = layers[0].weight, layers[0].bias
        if len(layers) > 1:
            weight = torch.cat([layer.weight for layer in layers])
            bias = torch.cat([layer.bias for layer in layers])
        x, weight, bias = (tensor.to(self.precision) for tensor in (x, weight, bias))
        return F.linear(x, weight, bias).float()

    def add_norm(
        self, part: Any, x: Float[Tensor, "B T D"], found: Float[Tensor, "B T D"]
    ) -> Float[Tensor, "B T D"]:
        x = torch.addcmul(x, found, self.kept(found)) if self.drops else x + found
        return F.layer_norm(x, x.shape[-1:], part.norm.weight, part.norm.bias)

    @property
    def drops(self) -> bool:
        return self.training and self.config.dropout > 0

    def kept(self, x: Tensor) -> Tensor:
        """0 for features to drop, else what keeps their mean: the rate in steps of 1/256."""
        dropped = round(256 * self.config.dropout)
        eights = torch.empty(x.numel() // 8 + 1, dtype=torch.int64, device=x.device)
        random = eights.random_(-(2**63), None).view(torch.uint8)[: x.numel()]
        return (random >= dropped).view(x.shape).float().mul_(256 / (256 - dropped))


def _added(allowed: Bool[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """A mask to be added to scores."""
    return torch.where(allowed, 0.0, -math.inf)


class OutputLoss(torch.autograd.Function):
    """Output projection and loss in one, a few rows at a time.

    Cross-entropy's gradient by the logits is what the model says less what it should say: so it is
    made in the logits' place, and the logits of all tokens never stand in memory together.

    With a consistency the second half of the rows are the first half's tokens once more, see Loss.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Float[Tensor, "N D"],
        weight: Float[Tensor, "V D"],
        expected: Int[Tensor, " N"],
        smoothing: float,
        consistency: float,
        precision: torch.dtype,
    ) -> Float[Tensor, ""]:
        loss, by_x, by_weight = x.new_zeros(()), torch.empty_like(x), torch.zeros_like(weight)
        narrow, narrow_weight = x.to(precision), weight.to(precision)
        for rows in _slices(len(x), paired=consistency > 0):
            gains = F.log_softmax((narrow[rows] @ narrow_weight.T).to(x.dtype), dim=-1)
            loss -= (1 - smoothing) * gains.gather(1, expected[rows, None]).sum()
            loss -= smoothing * gains.mean(-1).sum()
            by_logits = gains.exp()
            if consistency:
                divergence, gradient = _divergence(*gains.chunk(2), *by_logits.chunk(2))
                loss += consistency * divergence
                by_logits += consistency * gradient
            by_logits -= smoothing / len(weight)
            by_logits[range(len(rows)), expected[rows]] -= 1 - smoothing
            by_logits = by_logits.to(precision)
            by_x[rows] = (by_logits @ narrow_weight).to(x.dtype)
            by_weight += by_logits.T @ narrow[rows]
        ctx.save_for_backward(by_x, by_weight)
        return loss

    @staticmethod
    def backward(ctx: Any, grad: Float[Tensor, ""]) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        by_x, by_weight = ctx.saved_tensors
        return by_x * grad, by_weight * grad, None, None, None, None


def _slices(n_rows: int, paired: bool) -> list[Tensor]:
    """Which rows to treat together; a pair's two rows come in the same slice."""
    if not paired:
        return list(torch.arange(n_rows).split(ROWS))
    half = n_rows // 2
    return [torch.cat([rows, rows + half]) for rows in torch.arange(half).split(ROWS // 2)]


def _divergence(
    gains1: Tensor, gains2: Tensor, p1: Tensor, p2: Tensor
) -> tuple[Float[Tensor, ""], Float[Tensor, "N V"]]:
    """½ (KL(p₁‖p₂) + KL(p₂‖p₁)) summed over rows, and its gradient by the logits of both."""
    apart = gains1 - gains2
    kl12 = (p1 * apart).sum(-1, keepdim=True)
    kl21 = -(p2 * apart).sum(-1, keepdim=True)
    by_logits1 = p1 * (apart - kl12) + p1 - p2
    by_logits2 = p2 * (-apart - kl21) + p2 - p1
    return (kl12 + kl21).sum() / 2, torch.cat([by_logits1, by_logits2]) / 2
