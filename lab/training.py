"""From sentence pairs to a trained checkpoint.

Every random choice follows from (seed, step), so a run that was stopped and resumed ends with the
same weights as one that never stopped. Everything on disk is replaced whole: a kill at any moment
loses at most the steps since the last save.
"""

import copy
import json
import math
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Float, Int
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lab import parts, snapshots
from lab.data import TRAIN, VALID, Batch, Corpus, Pair, batches
from lab.decoding import inference
from lab.files import replacing
from lab.fused import FusedLoss, Loss
from lab.model import WEIGHTS, Checkpoint, Config, build, initialise
from lab.scores import Scores, score
from lab.tokens import BOS_ID, PAD_ID, PieceDropout, Tokenizer, pad
from lab.translation import MAX_LEN, Search, translate

RESUME = "resume.safetensors"  # in a run's folder: all that it takes to go on


Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Recipe:
    """How to train: everything that, with the data and the Config, decides the weights."""

    steps: int = 12_000
    batch_tokens: int = 1_024  # padded tokens of the longer side in a batch
    learning_rate: float = 1.5e-3  # at the peak; post-norm does not bear much more
    warmup: int = 1_200  # steps up to the peak; from there in a straight line to zero
    smoothing: float = 0.1
    consistency: float = 0.0  # R-Drop's α: two dropouts of a sentence shall say the same
    piece_dropout: float = 0.0  # share of BPE merges left out, other ones in every epoch
    precision: Precision = "float32"  # of matrix products on the CPU; a GPU takes bfloat16
    max_norm: float = 1.0
    averaging: float = 0.998  # share of the old mean that each step keeps in the averaged weights
    validate_every: int = 500  # steps
    validate_on: int = 500  # sentences translated at each validation
    begin_with: str = ""  # the folder of a trained model; without one, chance gives the weights
    seed: int = 0


class TrainingError(RuntimeError):
    """Training cannot go on; the message says why and what to change."""


@dataclass(frozen=True)
class Progress:
    """What a run tells while it goes on."""

    step: int
    loss: float
    tokens_per_second: float
    validation: dict[str, int | float] | None = None


@dataclass(frozen=True)
class World:
    """The processes that train together (torchrun's variables); one alone by default."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0  # on this machine: which of its GPUs

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def sum(self, value: Tensor) -> Tensor:
        if self.size > 1:
            dist.all_reduce(value)
        return value


@contextmanager
def world(device: torch.device) -> Iterator[World]:
    """Join the processes that torchrun started, if it did."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World()
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield World(dist.get_rank(), size, int(os.environ.get("LOCAL_RANK", "0")))
    finally:
        dist.destroy_process_group()


def learning_rate(step: int, recipe: Recipe) -> float:
    """Up in a straight line to the peak at `warmup`, then down to zero after the last step."""
    up = step / recipe.warmup if recipe.warmup else 1.0
    down = (recipe.steps + 1 - step) / max(recipe.steps + 1 - recipe.warmup, 1)
    return recipe.learning_rate * min(up, down)


def prepare(
    corpus: Corpus, source: str, target: str, vocab_size: int, folder: Path, **sizes: Any
) -> Checkpoint:
    """A model not yet trained, and a tokenizer learned from the training split and saved."""
    if (folder / WEIGHTS).exists() and not (folder / RESUME).exists():
        raise TrainingError(
            f"{folder} holds a trained model and no run to go on with: choose another --out"
        )
    texts = [text for pair in corpus[TRAIN] for text in (pair.source, pair.target)]
    tokenizer = Tokenizer.train(texts, vocab_size)
    config = Config(vocab_size=len(tokenizer), pad_id=PAD_ID, **sizes)
    examples = list(dict.fromkeys(pair.source for pair in corpus[VALID]))[:3]
    checkpoint = Checkpoint(build(config), tokenizer, config, source, target, tuple(examples))
    saved = folder / "tokenizer.json"
    if not saved.exists():
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer.save(saved)
    elif saved.read_text(encoding="utf-8") != tokenizer.to_json():
        raise TrainingError(
            f"{folder} holds a run on other sentences or with another vocab_size: "
            "give the same to go on with it, or another --out"
        )
    return checkpoint


def train(
    checkpoint: Checkpoint,
    corpus: Corpus,
    recipe: Recipe,
    folder: Path,
    device: torch.device,
    report: Callable[[Progress], None] = lambda progress: None,
    world: World = World(),  # noqa: B008 (frozen)
    n_snapshots: int = 0,
) -> Checkpoint:
    """Train, and leave in `folder` the averaged weights that did best on validation.

    Continues where an earlier call with the same arguments stopped. Beside the weights stay
    `n_snapshots` moments of the run, see lab.snapshots.
    """
    torch.manual_seed(recipe.seed)
    initialise(checkpoint.model, recipe.seed)
    if recipe.begin_with:
        take_over(checkpoint, Checkpoint.load(recipe.begin_with))
    model = checkpoint.model.to(device)
    averaged = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=0.0, betas=(0.9, 0.98), eps=1e-9, weight_decay=0.0, fused=True
    )
    run = Run(recipe, checkpoint, model, averaged, optimizer, folder)
    run.resume()
    kept = snapshots.moments(recipe.steps, n_snapshots) if world.is_first else []
    if run.step == 0 and kept:
        run.keep(corpus[VALID])
    encoded = _epochs(checkpoint, corpus[TRAIN], recipe)
    loss = _loss(checkpoint, recipe, device)
    shared: nn.Module = DistributedDataParallel(loss) if world.size > 1 else loss

    seen, since = 0, time.monotonic()
    for batch in _endless(encoded, recipe, run, world):
        seen += int((batch.target != PAD_ID).sum()) * world.size
        found = _update(shared, batch, run, device, world)
        if not math.isfinite(found):
            raise run.diverged("the loss or its gradient")
        run.losses.append(found)
        validation = None
        due = run.step % recipe.validate_every == 0 or run.step == recipe.steps
        if due and world.is_first:
            validation = run.validate(corpus[VALID])
        if run.step in kept:  # before the run is saved: one that goes on from there has it
            run.keep(corpus[VALID])
        if due:
            if world.is_first:
                run.save()
            speed = seen / (time.monotonic() - since)
            seen, since = 0, time.monotonic()
            report(Progress(run.step, found, speed, validation))
        elif run.step % 10 == 0:
            report(Progress(run.step, found, seen / (time.monotonic() - since)))
    return Checkpoint.load(folder, device) if world.is_first else checkpoint


def take_over(checkpoint: Checkpoint, trained: Checkpoint) -> None:
    """The weights of a trained model that has the same pieces and sizes."""
    if trained.tokenizer.to_json() != checkpoint.tokenizer.to_json():
        raise TrainingError(
            f"the {trained.pair} model to begin with has other pieces than this training split "
            "gives: train it on the same --data, --source and --target, with its --vocab-size"
        )
    sizes, wanted = asdict(trained.config), asdict(checkpoint.config)
    differing = [
        f"{name} {sizes[name]}, not {wanted[name]}"
        for name in sizes
        if name != "dropout" and sizes[name] != wanted[name]
    ]
    if differing:
        raise TrainingError(f"the model to begin with has {', '.join(differing)}: give its sizes")
    checkpoint.model.load_state_dict(trained.model.state_dict())


class Run:
    """The state of a training run: all that must be saved so that it can go on."""

    def __init__(
        self,
        recipe: Recipe,
        checkpoint: Checkpoint,
        model: nn.Module,
        averaged: nn.Module,
        optimizer: torch.optim.Optimizer,
        folder: Path,
    ):
        self.recipe, self.checkpoint, self.folder = recipe, checkpoint, folder
        self.model, self.averaged, self.optimizer = model, averaged, optimizer
        self.step = 0
        self.epoch, self.in_epoch = 0, 0  # where in the data: epoch, batches of it already used
        self.losses: list[float] = []  # since the last validation
        self.history: list[dict[str, int | float]] = []  # one entry a validation
        self.path = folder / RESUME

    @property
    def settings(self) -> dict[str, Any]:
        pair = f"{self.checkpoint.source}-{self.checkpoint.target}"
        return {"pair": pair, **asdict(self.recipe), **asdict(self.checkpoint.config)}

    @property
    def candidate(self) -> Checkpoint:
        """The averaged weights."""
        return replace(self.checkpoint, model=self.averaged)

    def scores(self, pairs: Sequence[Pair]) -> dict[str, float]:
        """Loss and scores of the averaged weights."""
        candidate = self.candidate
        loss = validation_loss(candidate, pairs, self.recipe.batch_tokens)
        if not math.isfinite(loss):
            raise self.diverged("the validation loss")
        sources = candidate.tokenizer.encode_all([pair.source for pair in pairs])
        fitting = [
            pair
            for pair, ids in zip(pairs, sources, strict=True)
            if len(ids) <= candidate.config.max_len
        ]
        found = evaluate(candidate, fitting[: self.recipe.validate_on])
        return {
            "validation_loss": loss,
            "bleu": found.bleu,
            "chrf": found.chrf,
            "exact": found.exact,
        }

    def validate(self, pairs: Sequence[Pair]) -> dict[str, int | float]:
        """Note loss and scores in the history; the best weights so far by chrF are kept."""
        entry = {
            "step": self.step,
            "learning_rate": learning_rate(self.step, self.recipe),
            "training_loss": sum(self.losses) / len(self.losses),
            **self.scores(pairs),
        }
        self.losses.clear()
        self.history.append(entry)
        if entry["chrf"] >= max(past["chrf"] for past in self.history):
            self.candidate.save(self.folder)
        with replacing(self.folder / "history.json") as path:
            path.write_text(json.dumps(self.history, indent=1) + "\n", encoding="utf-8")
        return entry

    def keep(self, pairs: Sequence[Pair]) -> None:
        """A snapshot of this moment."""
        snapshots.save(self.candidate, self.folder, self.step, self.scores(pairs))

    def diverged(self, what: str) -> TrainingError:
        kept = f"; the best weights before are in {self.folder}" if self.history else ""
        return TrainingError(
            f"{what} is not a finite number at step {self.step}, learning rate "
            f"{learning_rate(self.step, self.recipe):.2g}: train with a smaller --learning-rate or "
            f"a longer --warmup into another --out{kept}"
        )

    def save(self) -> None:
        """Everything in one file: tensors, and the rest as JSON in its header."""
        about = {
            "settings": self.settings,
            "step": self.step,
            "epoch": self.epoch,
            "in_epoch": self.in_epoch,
            "losses": self.losses,
            "history": self.history,
        }
        with replacing(self.path) as path:
            save_file(self._tensors(), path, metadata={"run": json.dumps(about)})

    def resume(self) -> None:
        """Take up the run that `folder` holds, or leave there that one has begun."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.path.exists():
            self.save()
            return
        try:
            with safe_open(self.path, framework="pt") as file:
                about = json.loads(file.metadata()["run"])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise TrainingError(f"{self.path} does not load: {error}") from error
        if about["settings"] != self.settings:
            differing = [
                f"{key} was {about['settings'].get(key)}, now {value}"
                for key, value in self.settings.items()
                if about["settings"].get(key) != value
            ]
            raise TrainingError(
                f"{self.folder} holds a run with other settings ({'; '.join(differing)}): "
                "give the same settings to go on with it, or another --out"
            )
        if about["step"] == 0:  # nothing learned yet; the starting weights follow from the seed
            return
        self.step, self.epoch, self.in_epoch = about["step"], about["epoch"], about["in_epoch"]
        self.losses, self.history = about["losses"], about["history"]
        for parameter in self.model.parameters():  # so that the optimizer has its moments
            parameter.grad = torch.zeros_like(parameter)
        self.optimizer.step()
        for name, tensor in self._tensors().items():
            with torch.no_grad():
                tensor.copy_(tensors[name])

    def _tensors(self) -> dict[str, Tensor]:
        named = dict(self.model.named_parameters())
        tensors = {f"model.{name}": tensor.data for name, tensor in named.items()}
        for name, tensor in self.averaged.named_parameters():
            tensors[f"averaged.{name}"] = tensor.data
        for name, parameter in named.items():
            for key, value in self.optimizer.state[parameter].items():
                tensors[f"optimizer.{name}.{key}"] = value
        return tensors


def _update(loss: nn.Module, batch: Batch, run: Run, device: torch.device, world: World) -> float:
    """One step, unless loss or gradient is not finite; the loss per token over all processes."""
    run.step += 1
    recipe = run.recipe
    # Dropout follows from the step, not from what was drawn before it.
    torch.manual_seed((recipe.seed * recipe.steps + run.step) * world.size + world.rank)
    for group in run.optimizer.param_groups:
        group["lr"] = learning_rate(run.step, recipe)

    loss.train()
    source, target = batch.source.to(device), batch.target.to(device)
    decoder_input, expected = parts.shift_target(target)
    tokens = world.sum((expected != PAD_ID).sum()) * (2 if recipe.consistency else 1)
    # A process's sum by the tokens of all: all processes together give the batch's mean.
    mine = loss(source, decoder_input, expected) / tokens

    run.optimizer.zero_grad()
    (mine * world.size).backward()  # the processes' gradients are averaged, and we want their sum
    total = world.sum(mine.detach()).item()
    norm = nn.utils.clip_grad_norm_(run.model.parameters(), recipe.max_norm)
    if not (math.isfinite(total) and norm.isfinite()):
        return math.nan
    run.optimizer.step()
    decay = min(recipe.averaging, run.step / (10 + run.step))  # early weights are soon forgotten
    with torch.no_grad():
        for mean, now in zip(run.averaged.parameters(), run.model.parameters(), strict=True):
            mean.lerp_(now, 1 - decay)
    return total


def _loss(checkpoint: Checkpoint, recipe: Recipe, device: torch.device) -> Loss:
    """The fused one, unless somebody's own part is to be trained."""
    kind = FusedLoss if parts.are_stock(checkpoint.model) else PartsLoss
    half = device.type == "cuda" or recipe.precision == "bfloat16"
    return kind(
        checkpoint.model,
        checkpoint.config,
        recipe.smoothing,
        recipe.consistency,
        torch.bfloat16 if half else torch.float32,
    )


class PartsLoss(Loss):
    """By the parts in force, each with its own forward."""

    def of(
        self,
        src: Int[Tensor, "B S"],
        decoder_input: Int[Tensor, "B T"],
        expected: Int[Tensor, "B T"],
    ) -> Float[Tensor, ""]:
        half = self.precision != torch.float32
        with torch.autocast(src.device.type, self.precision) if half else nullcontext():
            logits = self.model(src, decoder_input).float()
        real = expected != self.config.pad_id
        loss = parts.label_smoothing_loss(logits, expected, self.smoothing, self.config.pad_id)
        loss = loss * real.sum()
        if self.consistency:
            one, other = logits[real].log_softmax(-1).chunk(2)
            for p, q in ((one, other), (other, one)):
                divergence = F.kl_div(q, p, reduction="sum", log_target=True)
                loss = loss + self.consistency / 2 * divergence
        return loss


Encoded = list[tuple[list[int], list[int]]]  # source and target, the target with <s> before it


def _epochs(
    checkpoint: Checkpoint, pairs: Sequence[Pair], recipe: Recipe
) -> Callable[[int], Encoded]:
    """The training pairs of an epoch as ids."""
    if not recipe.piece_dropout:
        always = _encode(checkpoint, pairs)
        return lambda epoch: always
    pieces = PieceDropout(checkpoint.tokenizer, recipe.piece_dropout, recipe.seed)

    def drawn(epoch: int) -> Encoded:
        return _fitting(
            checkpoint,
            pieces.encode_all([pair.source for pair in pairs], f"source {epoch}"),
            pieces.encode_all([pair.target for pair in pairs], f"target {epoch}"),
        )

    return drawn


def _encode(checkpoint: Checkpoint, pairs: Sequence[Pair]) -> Encoded:
    encode_all = checkpoint.tokenizer.encode_all
    return _fitting(
        checkpoint,
        encode_all([pair.source for pair in pairs]),
        encode_all([pair.target for pair in pairs]),
    )


def _fitting(checkpoint: Checkpoint, sources: list[list[int]], targets: list[list[int]]) -> Encoded:
    """Sentences beyond max_len are left out."""
    encoded = [(s, [BOS_ID, *t]) for s, t in zip(sources, targets, strict=True)]
    kept = [pair for pair in encoded if max(map(len, pair)) <= checkpoint.config.max_len]
    if not kept:
        raise TrainingError(f"no sentence is shorter than max_len={checkpoint.config.max_len}")
    return kept


def _endless(
    epochs: Callable[[int], Encoded], recipe: Recipe, run: Run, world: World
) -> Iterator[Batch]:
    """Batches from where the run stands up to its last step; each process takes its rows."""
    while run.step < recipe.steps:
        encoded = epochs(run.epoch)
        lengths = [(len(source), len(target)) for source, target in encoded]
        order = batches(lengths, recipe.batch_tokens, random.Random(f"{recipe.seed} {run.epoch}"))
        for rows in order[run.in_epoch :]:
            if run.step == recipe.steps:
                return
            run.in_epoch += 1
            # Too few rows to share: all take all, and the mean over processes stays right.
            mine = rows[world.rank :: world.size] if len(rows) >= world.size else rows
            yield Batch(pad([encoded[i][0] for i in mine]), pad([encoded[i][1] for i in mine]))
        run.epoch, run.in_epoch = run.epoch + 1, 0


def validation_loss(
    checkpoint: Checkpoint, pairs: Sequence[Pair], batch_tokens: int = 4096
) -> float:
    """Mean negative log-probability of a target token, in nats, without smoothing."""
    encoded = _encode(checkpoint, pairs)
    lengths = [(len(source), len(target)) for source, target in encoded]
    device = next(checkpoint.model.parameters()).device
    total, count = 0.0, 0
    with inference(checkpoint.model):
        for rows in batches(lengths, batch_tokens, random.Random(0)):
            source = pad([encoded[i][0] for i in rows]).to(device)
            target = pad([encoded[i][1] for i in rows]).to(device)
            decoder_input, expected = parts.shift_target(target)
            tokens = int((expected != PAD_ID).sum())
            logits = checkpoint.model(source, decoder_input)
            loss = parts.label_smoothing_loss(logits, expected, 0.0, PAD_ID)
            total, count = total + loss.item() * tokens, count + tokens
    return total / count


def evaluate(
    checkpoint: Checkpoint, pairs: Sequence[Pair], beam_size: int = 1, max_len: int = MAX_LEN
) -> Scores:
    """Translate the sources and compare with the targets; a source that stands several times is
    translated once and may agree with any of its targets."""
    references: dict[str, list[str]] = {}
    for pair in pairs:
        references.setdefault(pair.source, []).append(pair.target)
    search = Search.with_beam(beam_size)
    translations = translate(checkpoint, list(references), search, max_len=max_len)
    return score(
        [translation.text for translation in translations],
        list(references.values()),
        language=checkpoint.target,
    )
