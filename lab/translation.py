"""A sentence flows: text, ids, memory, ids, text, and the attention behind it when asked."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from lab import decoding
from lab.model import Checkpoint
from lab.recording import record
from lab.tokens import BOS_ID, EOS_ID, PAD_ID, pad

MAX_LEN = 80  # ids of a translation


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


@dataclass(frozen=True)
class Translation:
    """A translated sentence. S source pieces and T target pieces, </s> counted in both."""

    source: str
    text: str
    source_pieces: list[str]
    target_pieces: list[str]
    log_probability: float  # of the whole target, natural logarithm
    attention: dict[str, Float[Tensor, "L H T S"]] | None = None  # by kind, see lab.recording


def translate(
    checkpoint: Checkpoint,
    sentences: Sequence[str],
    search: Search = Search(),  # noqa: B008 (frozen)
    *,
    beam_size: int | None = None,
    batch_size: int = 64,
    attention: bool = False,
    cache: bool = True,
) -> list[Translation]:
    """Translate sentences, those of like length together.

    With `attention`, row t of the decoder's kinds is what target piece t looked at when it was
    chosen: for "decoder" the columns are <s> and the pieces before it.
    """
    if beam_size is not None:
        search = Search("beam" if beam_size > 1 else "greedy", beam_size=beam_size)
    encoded = checkpoint.tokenizer.encode_all(sentences)
    for sentence, ids in zip(sentences, encoded, strict=True):
        if len(ids) > checkpoint.config.max_len:
            raise ValueError(
                f"a sentence of {len(ids):,} tokens is too long, the model reads at most "
                f"{checkpoint.config.max_len:,}: split it (it begins with {sentence[:40]!r})"
            )
    by_length = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
    found: dict[int, Translation] = {}
    for start in range(0, len(by_length), batch_size):
        rows = by_length[start : start + batch_size]
        batch = _translate_batch(
            checkpoint, [sentences[i] for i in rows], [encoded[i] for i in rows], search,
            attention, cache,
        )  # fmt: skip
        found |= zip(rows, batch, strict=True)
    return [found[i] for i in range(len(sentences))]


def _translate_batch(
    checkpoint: Checkpoint,
    sentences: list[str],
    encoded: list[list[int]],
    search: Search,
    attention: bool,
    cache: bool,
) -> list[Translation]:
    model, tokenizer = checkpoint.model, checkpoint.tokenizer
    source = pad(encoded).to(next(model.parameters()).device)
    target = _search(checkpoint, source, search, cache)
    # One pass over the finished sentences gives every step's weights and probabilities at once.
    with decoding.inference(model), record(model) as recorded:
        logits = model(source, target[:, :-1])
    expected = target[:, 1:]
    log_probabilities = logits.float().log_softmax(-1).gather(-1, expected.unsqueeze(-1))
    found = []
    for row, sentence in enumerate(sentences):
        written = [i for i in expected[row].tolist() if i != PAD_ID]
        read, length = len(encoded[row]), len(written)
        sizes = {"encoder": (read, read), "decoder": (length, length), "cross": (length, read)}
        found.append(
            Translation(
                source=sentence,
                text=tokenizer.decode(written),
                source_pieces=tokenizer.pieces(encoded[row]),
                target_pieces=tokenizer.pieces(written),
                log_probability=log_probabilities[row, :length].sum().item(),
                attention={
                    kind: recorded[kind][:, row, :, :t, :s].float().cpu()
                    for kind, (t, s) in sizes.items()
                }
                if attention
                else None,
            )
        )
    return found


def _search(checkpoint: Checkpoint, source: Tensor, search: Search, cache: bool) -> Tensor:
    model = checkpoint.model
    max_len = min(MAX_LEN, checkpoint.config.max_len)
    if search.method == "greedy":
        return decoding.greedy_decode(model, source, BOS_ID, EOS_ID, max_len, cache=cache)
    if search.method == "beam":
        hypotheses = decoding.beam_decode(
            model, source, BOS_ID, EOS_ID, search.beam_size, max_len, search.length_penalty,
            cache=cache,
        )  # fmt: skip
        return pad([best[0][0] for best in hypotheses]).to(source.device)
    if search.method == "sample":
        generator = torch.Generator(device=source.device).manual_seed(search.seed)
        return decoding.sample_decode(
            model, source, BOS_ID, EOS_ID, max_len, search.temperature, search.top_k,
            search.top_p, generator, cache=cache,
        )  # fmt: skip
    raise ValueError(f"method {search.method!r}: choose greedy, beam or sample")


def entropy(weights: Float[Tensor, "*axes S"]) -> Float[Tensor, "*axes"]:
    """How broadly a query looks, in bits: 0 at one key alone, log2(S) at all alike."""
    return torch.special.entr(weights).sum(-1) / math.log(2)
