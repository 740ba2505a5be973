"""Training and decoding speed as ratios, measured side by side in one process on one core.

    taskset -c 0 python benchmarks/speed.py

Rivals take turns, round after round, so that a busy machine slows all alike; times are CPU time.
Each figure is the best of all rounds, the median beside it.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import copy
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lab import decoding, parts
from lab.fused import FusedLoss
from lab.model import Checkpoint, Config, build, initialise, shipped
from lab.steps import follow
from lab.translation import Search, finished, translate

torch.set_num_threads(1)
CONFIG = Config(vocab_size=8000, d_model=256, n_heads=4, n_layers=3, d_ff=1024)
BATCH, SOURCE, TARGET = 64, 16, 15  # sentences, tokens of the source, tokens of the target
NEW_TOKENS = 14
PAD, BOS, EOS = 0, 1, 2


class TorchTransformer(nn.Module):
    """torch.nn.Transformer with our weights, and dropout only where the paper has it."""

    def __init__(self, ours: nn.Module):
        super().__init__()
        self.embedding, self.positions = (
            copy.deepcopy(ours.embedding),
            copy.deepcopy(ours.positions),
        )
        self.body = nn.Transformer(
            CONFIG.d_model, CONFIG.n_heads, CONFIG.n_layers, CONFIG.n_layers, CONFIG.d_ff,
            CONFIG.dropout, batch_first=True,
        )  # fmt: skip
        self.body.encoder.norm = self.body.decoder.norm = None  # post-norm layers end in a norm
        for theirs, mine in zip(self.body.encoder.layers, ours.encoder.layers, strict=True):
            self.copy(theirs, mine, self_attn=mine.self_attention)
        for theirs, mine in zip(self.body.decoder.layers, ours.decoder.layers, strict=True):
            attentions = dict(self_attn=mine.self_attention, multihead_attn=mine.cross_attention)
            self.copy(theirs, mine, **attentions)

    @staticmethod
    @torch.no_grad()
    def copy(theirs: nn.Module, mine: nn.Module, **attentions: nn.Module) -> None:
        theirs.dropout.p = 0.0  # inside the feed-forward layer
        for number in range(1, 2 + len(attentions)):
            norm = getattr(mine, f"add_norm{number}").norm
            getattr(theirs, f"norm{number}").load_state_dict(norm.state_dict())
        theirs.linear1.load_state_dict(mine.feed_forward.linear1.state_dict())
        theirs.linear2.load_state_dict(mine.feed_forward.linear2.state_dict())
        for name, attention in attentions.items():
            projections = (attention.q_proj, attention.k_proj, attention.v_proj)
            copy = getattr(theirs, name)
            copy.dropout = 0.0  # on the attention weights
            copy.in_proj_weight.copy_(torch.cat([p.weight for p in projections]))
            copy.in_proj_bias.copy_(torch.cat([p.bias for p in projections]))
            copy.out_proj.load_state_dict(attention.out_proj.state_dict())

    def forward(self, src: torch.Tensor, tgt: torch.Tensor) -> torch.Tensor:
        x = self.body(
            self.positions(self.embedding(src)),
            self.positions(self.embedding(tgt)),
            tgt_mask=nn.Transformer.generate_square_subsequent_mask(tgt.size(1)) < 0,
            src_key_padding_mask=src == PAD,
            tgt_key_padding_mask=tgt == PAD,
            memory_key_padding_mask=src == PAD,
        )
        return x @ self.embedding.embedding.weight.T


def measure(rivals: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """CPU seconds of each rival in each round, the rivals taking turns."""
    seconds: dict[str, list[float]] = {name: [] for name in rivals}
    for _ in range(rounds + 1):
        for name, run in rivals.items():
            start = time.process_time()
            run()
            seconds[name].append(time.process_time() - start)
    return {name: found[1:] for name, found in seconds.items()}  # the first round warms up


def report(title: str, seconds: dict[str, list[float]], baseline: str, units: float, unit: str):
    print(f"\n| {title} | best | median | {unit} | speed against {baseline} |")
    print("|---|---|---|---|---|")
    base = min(seconds[baseline])
    for name, found in seconds.items():
        best, median = min(found), statistics.median(found)
        print(
            f"| {name} | {best * 1e3:.0f} ms | {median * 1e3:.0f} ms | {units / best:,.0f} "
            f"| {base / best:.2f}× |"
        )


def training(rounds: int = 7) -> None:
    generator = torch.Generator().manual_seed(0)
    src = torch.randint(3, CONFIG.vocab_size, (BATCH, SOURCE), generator=generator)
    tgt = torch.randint(3, CONFIG.vocab_size, (BATCH, TARGET + 1), generator=generator)
    stock = build(CONFIG)
    initialise(stock, seed=0)
    explicit_parts = parts.from_package("solutions")
    with parts.using(explicit_parts):
        explicit = build(CONFIG)
    explicit.load_state_dict(stock.state_dict())
    theirs = TorchTransformer(stock).eval()
    torch.testing.assert_close(theirs(src, tgt), stock.eval()(src, tgt), atol=1e-3, rtol=0)

    def usual(model: nn.Module, half: bool = False) -> Callable[[], torch.Tensor]:
        """The model's own forward, then the loss."""

        def loss() -> torch.Tensor:
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                logits = model(src, tgt[:, :-1])
            return parts.label_smoothing_loss(logits.float(), tgt[:, 1:])

        return loss

    def fused(model: nn.Module, precision: torch.dtype) -> Callable[[], torch.Tensor]:
        """What `lab train` does with the weights of any parts."""
        loss = FusedLoss(model, CONFIG, 0.1, precision=precision).train()
        return lambda: loss(src, tgt[:, :-1], tgt[:, 1:]) / (BATCH * TARGET)

    losses = {
        "torch.nn.Transformer": (theirs, usual(theirs)),
        "the same, autocast to bfloat16": (theirs, usual(theirs, half=True)),
        "stock parts": (stock, usual(stock)),
        "explicit parts (solutions/)": (explicit, usual(explicit)),
        "fused loss, float32": (explicit, fused(explicit, torch.float32)),
        "fused loss, bfloat16": (explicit, fused(explicit, torch.bfloat16)),
    }
    if (marian := _marian(stock)) is not None:
        losses["Marian of transformers"] = (marian, usual(_logits_of(marian)))

    def step(name: str) -> Callable[[], object]:
        model, loss = losses[name]
        chosen = explicit_parts if model is explicit else {}
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)

        def run() -> None:
            optimizer.zero_grad()
            with parts.using(chosen):
                model.train()
                loss().backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()

        return run

    seconds = measure({name: step(name) for name in losses}, rounds)
    title = f"training step, {BATCH} × {SOURCE} → {TARGET} tokens"
    report(title, seconds, "torch.nn.Transformer", BATCH * TARGET, "target tokens/s")
    products(seconds["fused loss, float32"])


def _marian(model: nn.Module) -> nn.Module | None:
    try:
        from rivals import marian
    except ImportError:
        print("transformers is not installed (see rivals.py): its Marian is not measured")
        return None
    return marian(model, CONFIG)


def _logits_of(marian: nn.Module) -> Any:
    def forward(src: torch.Tensor, tgt: torch.Tensor) -> torch.Tensor:
        return marian(input_ids=src, attention_mask=src != PAD, decoder_input_ids=tgt).logits

    return forward


def products(step: list[float]) -> None:
    """What share of the core's matrix throughput a training step reaches."""
    d, ff, layers = CONFIG.d_model, CONFIG.d_ff, CONFIG.n_layers
    of_source = layers * (4 * d * d + 2 * d * ff) + layers * 2 * d * d  # and cross-attention's k, v
    of_target = layers * (6 * d * d + 2 * d * ff) + CONFIG.vocab_size * d
    work = 6 * BATCH * (SOURCE * of_source + TARGET * of_target)  # forward, and twice backward
    square = torch.randn(1024, 1024)
    best = min(measure({"product": lambda: square @ square}, 9)["product"])
    peak = 2 * 1024**3 / best
    reached = work / min(step)
    print(
        f"\nA step is {work / 1e9:.0f} GFLOP of matrix products: {reached / 1e9:.0f} GFLOP/s, "
        f"{reached / peak:.0%} of the {peak / 1e9:.0f} that 1024 × 1024 × 1024 reaches."
    )


def translating(batch: int, rounds: int) -> None:
    model = build(CONFIG)
    initialise(model, seed=0)
    generator = torch.Generator().manual_seed(0)
    src = torch.randint(3, CONFIG.vocab_size, (batch, NEW_TOKENS), generator=generator)
    never = -1  # no token ends a sentence, so that all rivals write equally many

    def greedy(cache: bool | None) -> Callable[[], object]:
        return lambda: decoding.greedy_decode(
            model, src, BOS, never, max_len=NEW_TOKENS + 1, cache=cache
        )

    assert torch.equal(greedy(True)(), greedy(False)())
    assert torch.equal(greedy(None)(), greedy(False)())
    rivals = {"no cache": greedy(False), "KV cache": greedy(True), "fast road": greedy(None)}
    seconds = measure(rivals, rounds)
    title = f"greedy decoding, {batch} × {NEW_TOKENS} → {NEW_TOKENS} tokens"
    report(title, seconds, "no cache", batch * NEW_TOKENS, "tokens/s")


SENTENCES = {  # 12 to 14 tokens read and written
    "en-de": "Two young girls are playing with a small dog in the snow.",
    "en-zh": "He asked me where I had been and what I had bought.",
}


def recording(rounds: int = 60) -> None:
    """What log-probability and attention cost beyond a translation: kept while it is written, or
    by one more pass over it."""
    print("\n| one translation | alone: best, median | and its attention, kept | and read again |")
    print("|---|---|---|---|")
    for pair, folder in shipped().items():
        for search in (Search(), Search("beam")):
            _recording(Checkpoint.load(folder), [SENTENCES[pair]], search, rounds)


def _recording(checkpoint: Checkpoint, text: list[str], search: Search, rounds: int) -> None:
    source = torch.tensor([checkpoint.tokenizer.encode(text[0])])
    [path] = follow(checkpoint, text, search)
    target = torch.tensor([[BOS, *path.ids]])
    rivals: dict[str, Callable[[], object]] = {
        "alone": lambda: translate(checkpoint, text, search),
        "kept": lambda: translate(checkpoint, text, search, explain=True),
        "again": lambda: finished(checkpoint, text, source, target, explain=True),
    }
    alone, kept, again = (
        (min(seconds), statistics.median(seconds)) for seconds in measure(rivals, rounds).values()
    )
    print(
        f"| {checkpoint.pair}, {search.method}, {source.size(1)} → {len(path.ids)} tokens "
        f"| {alone[0] * 1e3:.1f} ms, {alone[1] * 1e3:.1f} "
        f"| {kept[0] / alone[0] - 1:+.0%}, {kept[1] / alone[1] - 1:+.0%} "
        f"| {again[0] / alone[0]:+.0%}, {again[1] / alone[1]:+.0%} |"
    )


def processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(": ")[1] for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


if __name__ == "__main__":
    print(f"{processor()}, one core, torch {torch.__version__}")
    recording()
    print(f"\n{CONFIG}")
    training()
    translating(batch=1, rounds=15)
    translating(batch=64, rounds=7)
