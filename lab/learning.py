"""What training asks of a model, and a small one that learns before your eyes.

taught(checkpoint, "A dog is running.", "Ein Hund rennt.")  # what is asked, place by place
learn(warmup=1).guided  # what becomes of a model that starts with large steps
"""

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from lab import parts
from lab.decoding import inference
from lab.model import Checkpoint, Config, build, initialise
from lab.steps import follow
from lab.tokens import BOS_ID, EOS_ID, MARKS, pad
from lab.translation import encode, forced

# What teacher forcing and label smoothing ask of a trained model


@dataclass(frozen=True)
class Place:
    """A piece of a reference, and what the model says of it. Surprises are -ln p, in nats."""

    piece: str
    guided: float  # its probability after the reference's pieces before it: teacher forcing
    favourite: str  # the most probable piece there
    surprise: float  # of the piece, guided: the loss without label smoothing
    of_all: float  # mean over the vocabulary, guided: the loss with a smoothing of 1
    own: str | None  # what the model writes there by itself; None after its </s>
    alone: float | None  # the piece's probability after the model's own pieces before it


def taught(checkpoint: Checkpoint, sentence: str, reference: str) -> list[Place]:
    """What the model says of each piece of a reference, guided by it and alone.

    ValueError for a reference that is longer than the model writes.
    """
    ids = checkpoint.tokenizer.encode(reference)
    if len(ids) > checkpoint.config.max_len:
        raise ValueError(
            f"a reference of {len(ids)} tokens is too long, the model writes at most "
            f"{checkpoint.config.max_len}: shorten it"
        )
    written = follow(checkpoint, [sentence])[0].ids[: len(ids)]
    read = partial(_surprises, checkpoint, sentence)
    guided, alone = read(ids), read(written)
    pieces = checkpoint.tokenizer.pieces
    favourites = pieces(guided.argmin(-1).tolist())
    own = [*pieces(written), *[None] * (len(ids) - len(written))]
    return [
        Place(
            piece=piece,
            guided=float((-guided[t, id]).exp()),
            favourite=favourites[t],
            surprise=float(guided[t, id]),
            of_all=float(guided[t].mean()),
            own=own[t],
            alone=float((-alone[t, id]).exp()) if t < len(written) else None,
        )
        for t, (id, piece) in enumerate(zip(ids, pieces(ids), strict=True))
    ]


def _surprises(checkpoint: Checkpoint, sentence: str, target: list[int]) -> Float[Tensor, "T V"]:
    """-ln p of every piece of the vocabulary at each place of a target that is read."""
    device = next(checkpoint.model.parameters()).device
    source, read = (
        pad([ids]).to(device) for ids in (*encode(checkpoint, [sentence]), [BOS_ID, *target])
    )
    return -forced(checkpoint.model, source, read)[0].log_softmax(-1).cpu()


# A small model that learns to say six digits backwards

DIGITS, LENGTH, BATCH = 8, 6, 32
STEPS = 120


@dataclass(frozen=True)
class Learned:
    """A run of a small model; shares are of the digits of sentences it has never seen."""

    losses: list[float]  # before each step
    floor: float  # the entropy of the smoothed target: no model's loss gets below
    guided: float  # share it says right after the right ones before (teacher forcing)
    alone: float  # share it says right after its own
    source: list[int]  # one of these sentences, as digits
    said: list[int]  # what it says of it, alone


def learn(
    *,
    d_model: int = 16,
    warmup: int = 100,
    smoothing: float = 0.1,
    shifted: bool = True,
    steps: int = STEPS,
    seed: int = 0,
) -> Learned:
    """Train one layer from the start, by the parts in force: the same seed, the same run.

    Not `shifted`, the decoder reads the very digit it is to say.
    """
    generator = torch.Generator().manual_seed(seed)
    config = Config(len(MARKS) + DIGITS, d_model, n_heads=2, n_layers=1, d_ff=64, dropout=0.0)
    with parts.using({} if shifted else {"shift_target": _not_shifted}):
        model = build(config)
        initialise(model, seed)
        optimizer = torch.optim.Adam(model.parameters(), betas=(0.9, 0.98), eps=1e-9)  # §5.3
        losses = []
        for step in range(1, steps + 1):
            optimizer.param_groups[0]["lr"] = parts.noam_learning_rate(step, d_model, warmup)
            batch = _sentences(generator)
            losses.append(parts.train_step(model, optimizer, *batch, smoothing=smoothing))
        source, target = _sentences(generator)
        read, expected = parts.shift_target(target)
    with inference(model):
        guided = model(source, read).argmax(-1) == expected
        written = parts.greedy_decode(model, source, BOS_ID, EOS_ID, LENGTH + 1)[:, 1:]
    alone = F.pad(written, (0, LENGTH - written.size(1))) == target[:, 1:]
    smooth = torch.full((config.vocab_size,), smoothing / config.vocab_size)
    smooth[0] += 1 - smoothing
    return Learned(
        losses,
        floor=torch.special.entr(smooth).sum().item(),
        guided=guided.double().mean().item(),
        alone=alone.double().mean().item(),
        source=_digits(source[0]),
        said=_digits(written[0]),
    )


def _sentences(
    generator: torch.Generator,
) -> tuple[Int[Tensor, "B S"], Int[Tensor, "B T"]]:
    """Digits, and <s> with the same backwards."""
    low = len(MARKS)
    source = torch.randint(low, low + DIGITS, (BATCH, LENGTH), generator=generator)
    return source, torch.cat([torch.full((BATCH, 1), BOS_ID), source.flip(1)], dim=1)


def _digits(ids: Int[Tensor, " T"]) -> list[int]:
    return [id - len(MARKS) for id in ids.tolist() if id >= len(MARKS)]


def _not_shifted(tgt: Int[Tensor, "B T"]) -> tuple[Int[Tensor, "B T-1"], Int[Tensor, "B T-1"]]:
    return tgt[:, 1:], tgt[:, 1:]
