"""A sentence flows: text, ids, memory, ids, text, and the attention behind it when asked."""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lab import decoding, parts
from lab.model import Checkpoint
from lab.recording import KINDS, Kept, keep, record
from lab.tokens import BOS_ID, EOS_ID, PAD_ID, pad

MAX_LEN = 80  # ids of a translation, unless asked otherwise


@dataclass(frozen=True)
class Search:
    """How the next word is chosen: greedy, beam or sampling."""

    method: str = "greedy"
    beam_size: int = 4
    length_penalty: float = 0.6
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0

    @classmethod
    def with_beam(cls, size: int) -> "Search":
        """Beam search with this many hypotheses; one is greedy."""
        return cls("beam", beam_size=size) if size > 1 else cls("greedy")


@dataclass(frozen=True)
class Translation:
    """A translated sentence. S source pieces and T target pieces, </s> counted in both."""

    source: str
    text: str
    source_pieces: list[str]
    target_pieces: list[str]
    ended: bool  # False when it was cut off at the greatest length
    # Only where they were asked for:
    log_probability: float | None = None  # of the whole target, natural logarithm
    attention: dict[str, Float[Tensor, "L H T S"]] | None = None  # by kind, see lab.recording


def translate(
    checkpoint: Checkpoint,
    sentences: Sequence[str],
    search: Search = Search(),  # noqa: B008 (frozen)
    *,
    explain: bool = False,
    max_len: int = MAX_LEN,
    batch_size: int = 64,
) -> list[Translation]:
    """Translate sentences, those of like length together.

    `explain` adds log-probability and attention. Row t of the decoder's kinds is what target piece
    t looked at when it was chosen: for "decoder" the columns are <s> and the pieces before it.
    """
    encoded = encode(checkpoint, sentences)
    max_len = min(max_len, checkpoint.config.max_len)
    by_length = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
    found: dict[int, Translation] = {}
    for start in range(0, len(by_length), batch_size):
        rows = by_length[start : start + batch_size]
        source = pad([encoded[i] for i in rows]).to(next(checkpoint.model.parameters()).device)
        with keep(checkpoint.model) if explain else nullcontext() as kept:
            target = _search(checkpoint.model, source, search, max_len)
        texts = [sentences[i] for i in rows]
        told = finished(checkpoint, texts, source, target, explain=explain, kept=kept)
        found.update(zip(rows, told, strict=True))
    return [found[i] for i in range(len(sentences))]


def encode(checkpoint: Checkpoint, sentences: Sequence[str]) -> list[list[int]]:
    """The ids of sentences; ValueError for one that is longer than the model reads."""
    encoded = checkpoint.tokenizer.encode_all(sentences)
    for sentence, ids in zip(sentences, encoded, strict=True):
        if len(ids) > checkpoint.config.max_len:
            raise ValueError(
                f"a sentence of {len(ids):,} tokens is too long, the model reads at most "
                f"{checkpoint.config.max_len:,}: split it (it begins with {sentence[:40]!r})"
            )
    return encoded


def finished(
    checkpoint: Checkpoint,
    sentences: Sequence[str],
    source: Int[Tensor, "B S"],
    target: Int[Tensor, "B T"],
    *,
    explain: bool = False,
    kept: Kept | None = None,
) -> list[Translation]:
    """The translations whose ids, <s> to </s>, a search has found; `kept`: while it ran."""
    why = _explain(checkpoint.model, source, target, kept) if explain else [{}] * len(sentences)
    found = []
    rows = zip(sentences, source.tolist(), target.tolist(), why, strict=True)
    for sentence, read, ids, reasons in rows:
        written = ids[1 : ids.index(EOS_ID) + 1] if EOS_ID in ids else ids[1:]
        found.append(
            Translation(
                source=sentence,
                text=checkpoint.tokenizer.decode(written),
                source_pieces=checkpoint.tokenizer.pieces(i for i in read if i != PAD_ID),
                target_pieces=checkpoint.tokenizer.pieces(written),
                ended=EOS_ID in ids,
                **reasons,
            )
        )
    return found


def _search(
    model: nn.Module, source: Int[Tensor, "B S"], search: Search, max_len: int
) -> Int[Tensor, "B T"]:
    """Ids from <s> to </s>, by the decoding parts in force."""
    if search.method == "greedy":
        return parts.greedy_decode(model, source, BOS_ID, EOS_ID, max_len)
    if search.method == "sample":
        generator = torch.Generator(device=source.device).manual_seed(search.seed)
        cuts = (search.temperature, search.top_k, search.top_p)
        return parts.sample_decode(model, source, BOS_ID, EOS_ID, max_len, *cuts, generator)
    if search.method == "beam":
        settings = (BOS_ID, EOS_ID, search.beam_size, max_len, search.length_penalty)
        if parts.chosen("beam_search"):  # the part takes one sentence, stock's a batch of them
            hypotheses = [parts.beam_search(model, row[None], *settings) for row in source]
        else:
            hypotheses = decoding.beam_decode(model, source, *settings)
        return pad([best[0][0] for best in hypotheses]).to(source.device)
    raise ValueError(f"method {search.method!r}: choose greedy, beam or sample")


def _explain(
    model: nn.Module, source: Int[Tensor, "B S"], target: Int[Tensor, "B T"], kept: Kept | None
) -> list[dict[str, Any]]:
    """Log-probability and attention of each row, padding cut off: as they were kept, or else from
    one more pass."""
    rows = [
        (read[: len(read) - read.count(PAD_ID)], ids[: (ids + [EOS_ID]).index(EOS_ID) + 1])
        for read, ids in zip(source.tolist(), target.tolist(), strict=True)
    ]
    found = [each for row in rows if kept and (each := kept.find(*row))]
    if len(found) < len(rows):
        found = _read_again(model, source, target, rows)
    return [
        {
            "log_probability": log_probabilities(logits, target.new_tensor(ids)).sum().item(),
            "attention": {kind: weights.float().cpu() for kind, weights in attention.items()},
        }
        for (logits, attention), (_, ids) in zip(found, rows, strict=True)
    ]


def _read_again(
    model: nn.Module,
    source: Int[Tensor, "B S"],
    target: Int[Tensor, "B T"],
    rows: Sequence[tuple[list[int], list[int]]],
) -> list[tuple[Float[Tensor, "_ V"], dict[str, Float[Tensor, "L H _ _"]]]]:
    """One pass over finished sentences gives the weights and logits of every step at once."""
    with record(model) as recorded:
        logits = forced(model, source, target)
    weights = {kind: recorded[kind].float().cpu() for kind in KINDS}
    sizes = [(len(read), len(ids) - 1) for read, ids in rows]
    return [
        (
            logits[row, :written],
            {
                "encoder": weights["encoder"][:, row, :, :read, :read],
                "decoder": weights["decoder"][:, row, :, :written, :written],
                "cross": weights["cross"][:, row, :, :written, :read],
            },
        )
        for row, (read, written) in enumerate(sizes)
    ]


def forced(
    model: nn.Module, source: Int[Tensor, "B S"], target: Int[Tensor, "B T"]
) -> Float[Tensor, "B T-1 V"]:
    """Logits of every step by teacher forcing: the model reads what was written, in one pass."""
    with decoding.inference(model):
        return model(source, target[:, :-1]).float()


def log_probabilities(
    logits: Float[Tensor, "*B steps V"], target: Int[Tensor, "*B T"]
) -> Float[Tensor, "*B steps"]:
    """Of each token of the target after <s>, given those before it; padding has them too."""
    return logits.float().log_softmax(-1).gather(-1, target[..., 1:, None]).squeeze(-1)


def entropy(weights: Float[Tensor, "*axes S"]) -> Float[Tensor, "*axes"]:
    """How broadly a query looks, in bits: 0 at one key alone, log2(S) at all alike."""
    return torch.special.entr(weights).sum(-1) / math.log(2)
