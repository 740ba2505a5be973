"""The `lab` command: train, translate, evaluate, app."""

import json
import os
import sys
from dataclasses import asdict
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

app = typer.Typer(
    help="Attention Lab: train, translate, evaluate, and open the page.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
console = Console(stderr=True)

# What `lab train` uses where an option is not given: sizes and recipe that were measured to work.
PRESETS: dict[str, dict[str, Any]] = {
    "toy": dict(
        vocab_size=500, d_model=64, n_layers=2, d_ff=128, steps=750, warmup=200,
        batch_tokens=1_024, learning_rate=4e-3, validate_every=125, averaging=0.98, max_len=64,
    ),
    "files": dict(
        vocab_size=6_000, d_model=128, n_layers=3, d_ff=512, steps=12_000, warmup=1_200,
        batch_tokens=1_024, learning_rate=1.5e-3, validate_every=500, averaging=0.998, max_len=256,
    ),
}  # fmt: skip

OF_PRESET = " Default: see --data."

Pair = Annotated[str, typer.Option(help="A shipped model: en-de, en-fr, en-zh.")]
CheckpointFolder = Annotated[
    Path | None, typer.Option("--checkpoint", help="A folder written by `lab train`.")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
MAX_LEN = 80  # as in lab.translation, whose import would bring torch into every `lab --help`
MaxLen = Annotated[int, typer.Option(min=2, help="Tokens after which a translation is cut off.")]
Beam = Annotated[int, typer.Option(min=1, max=64, help="Hypotheses kept; 1 is greedy.")]


@app.command()
def train(
    data: Annotated[
        str,
        typer.Option(
            help="toy (small and quick), a folder (train.en, train.de …) or a .tsv file; "
            "the sizes and the recipe follow from it where they are not given."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the checkpoint; a run found there goes on.")],
    source: Annotated[str, typer.Option(help="Language code of the source.")] = "en",
    target: Annotated[str, typer.Option(help="Language code of the target.")] = "de",
    device: Device = "auto",
    steps: Annotated[int | None, typer.Option(min=1, help="Updates." + OF_PRESET)] = None,
    batch_tokens: Annotated[
        int | None, typer.Option(min=1, help="Padded tokens of a batch's longer side." + OF_PRESET)
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(min=0, help="At its peak; then linear to 0." + OF_PRESET)
    ] = None,
    warmup: Annotated[
        int | None, typer.Option(min=0, help="Updates up to the peak." + OF_PRESET)
    ] = None,
    dropout: Annotated[float, typer.Option(min=0, max=0.9, help="After each sublayer.")] = 0.1,
    smoothing: Annotated[float, typer.Option(min=0, max=0.9, help="Of the labels.")] = 0.1,
    consistency: Annotated[
        float,
        typer.Option(min=0, help="R-Drop: how much two dropouts of a sentence shall agree."),
    ] = 0.0,
    piece_dropout: Annotated[
        float,
        typer.Option(min=0, max=0.9, help="BPE-dropout: merges left out, others each epoch."),
    ] = 0.0,
    precision: Annotated[
        Literal["float32", "bfloat16"],
        typer.Option(help="Of matrix products on the CPU; a GPU takes bfloat16."),
    ] = "float32",
    averaging: Annotated[
        float | None, typer.Option(min=0, max=1, help="Decay of the mean weights." + OF_PRESET)
    ] = None,
    vocab_size: Annotated[
        int | None, typer.Option(min=300, help="Pieces of both languages." + OF_PRESET)
    ] = None,
    d_model: Annotated[
        int | None, typer.Option(min=2, help="Width of a token." + OF_PRESET)
    ] = None,
    n_heads: Annotated[int, typer.Option(min=1, help="Attention heads.")] = 4,
    n_layers: Annotated[
        int | None, typer.Option(min=1, help="Of the encoder, and of the decoder." + OF_PRESET)
    ] = None,
    d_ff: Annotated[
        int | None, typer.Option(min=1, help="Width of the feed-forward layer." + OF_PRESET)
    ] = None,
    max_len: Annotated[
        int | None, typer.Option(min=2, help="Tokens of the longest sentence." + OF_PRESET)
    ] = None,
    validate_every: Annotated[
        int | None, typer.Option(min=1, help="Updates between saves." + OF_PRESET)
    ] = None,
    snapshots: Annotated[
        int,
        typer.Option(
            min=0,
            help="Moments of the run to keep, in half precision: before the first update, then "
            "each at twice the updates of the one before. `lab app --checkpoint` shows them.",
        ),
    ] = 0,
    begin_with: Annotated[
        Path | None,
        typer.Option(help="Folder of a trained model of these sizes, whose weights to start from."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides every random choice.")] = 0,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads; all if unset.")] = None,
) -> None:
    """Train a Transformer. Stop with Ctrl-C; the same command goes on from the last save.

    Several processes: torchrun --nproc-per-node 2 -m lab train …
    """
    import torch

    from lab import data as corpora
    from lab import training
    from lab.model import describe, pick_device
    from lab.plotting import learning_curve

    if threads:
        torch.set_num_threads(threads)
    given: dict[str, Any] = dict(
        steps=steps, batch_tokens=batch_tokens, learning_rate=learning_rate, warmup=warmup,
        averaging=averaging, vocab_size=vocab_size, d_model=d_model, n_layers=n_layers, d_ff=d_ff,
        max_len=max_len, validate_every=validate_every,
    )  # fmt: skip
    preset = PRESETS["toy" if data == "toy" else "files"]
    chosen = preset | {name: value for name, value in given.items() if value is not None}
    sizes = {name: chosen.pop(name) for name in ("d_model", "n_layers", "d_ff", "max_len")}
    sizes |= dict(n_heads=n_heads, dropout=dropout)
    pieces = chosen.pop("vocab_size")
    recipe = training.Recipe(
        **chosen,
        smoothing=smoothing,
        consistency=consistency,
        piece_dropout=piece_dropout,
        precision=precision,
        begin_with=str(begin_with or ""),
        seed=seed,
    )
    on = pick_device(device)
    with training.world(on) as world:
        if on.type == "cuda" and world.size > 1:
            on = torch.device("cuda", world.local_rank)
        corpus = corpora.load(data, source, target)
        checkpoint = training.prepare(corpus, source, target, pieces, out, **sizes)
        checkpoint.model.to(on)
        if world.is_first:
            counts = ", ".join(f"{len(pairs):,} {name}" for name, pairs in corpus.splits.items())
            _say(f"{counts} pairs; {describe(checkpoint.model)}")
            if corpus.dropped:
                _say(f"left out of training, being held out: {corpus.dropped} pairs")
        with _Bar(recipe.steps, quiet=not world.is_first) as bar:

            def report(progress: training.Progress) -> None:
                bar(progress)
                if progress.validation:
                    learning_curve(out / "history.json", out / "curve.png")

            training.train(checkpoint, corpus, recipe, out, on, report, world, snapshots)
        if world.is_first:
            _say(f"kept in {out}: the weights with the best validation chrF; curve.png")


class _Bar:
    """A progress bar with loss, tokens per second and time left; one line a validation."""

    def __init__(self, steps: int, quiet: bool):
        self.bar = Progress(
            TextColumn("step {task.completed:,}/{task.total:,}"),
            BarColumn(),
            TextColumn("{task.description}"),
            TimeRemainingColumn(),
            console=console,
            disable=quiet or not console.is_terminal,
        )
        self.task = self.bar.add_task("", total=steps)
        self.quiet = quiet

    def __enter__(self):
        self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.bar.stop()
        if kind is KeyboardInterrupt and not self.quiet:
            _say("stopped; the same command goes on from the last save")

    def __call__(self, progress: Any) -> None:
        said = f"loss {progress.loss:.3f}  {progress.tokens_per_second:,.0f} tokens/s"
        self.bar.update(self.task, completed=progress.step, description=said)
        if (validation := progress.validation) and not self.quiet:
            _say(
                f"step {progress.step:>6,}  training loss {validation['training_loss']:.3f}  "
                f"validation loss {validation['validation_loss']:.3f}  "
                f"BLEU {validation['bleu']:.1f}  chrF {validation['chrf']:.1f}  "
                f"exact {validation['exact']:.1%}  {progress.tokens_per_second:,.0f} tokens/s"
            )


def _say(text: str, style: str = "") -> None:
    """One line on stderr, as it is: never wrapped, and brackets in a path are no markup."""
    console.print(Text(text, style), soft_wrap=True)


@app.command()
def translate(
    sentences: Annotated[
        list[str] | None, typer.Argument(help="Sentences; none: one a line from standard input.")
    ] = None,
    pair: Pair = "en-de",
    checkpoint: CheckpointFolder = None,
    beam: Beam = 1,
    max_len: MaxLen = MAX_LEN,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    device: Device = "cpu",
) -> None:
    """Translate sentences with a shipped model or your own."""
    from lab.translation import Search, Translation
    from lab.translation import translate as run

    loaded = _load(pair, checkpoint, device)
    lines = sentences or [line.rstrip("\r\n") for line in sys.stdin]
    wanted = [line for line in lines if line.strip()]  # an empty line stays empty
    search = Search.with_beam(beam)
    found = iter(run(loaded, wanted, search, explain=as_json, max_len=max_len))
    for line in lines:
        translation = next(found) if line.strip() else Translation(line, "", [], [], ended=True)
        if as_json:
            said = {k: v for k, v in vars(translation).items() if k != "attention"}
            print(json.dumps(said, ensure_ascii=False))
        else:
            print(translation.text)


@app.command()
def evaluate(
    data: Annotated[str, typer.Option(help="toy, a folder or a .tsv file.")],
    split: Annotated[str, typer.Option(help="For example test_2016_flickr.")] = "test",
    pair: Pair = "en-de",
    checkpoint: CheckpointFolder = None,
    beam: Beam = 1,
    max_len: MaxLen = MAX_LEN,
    device: Device = "cpu",
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """BLEU and chrF on a split, with their signatures."""
    from lab import data as corpora
    from lab.training import evaluate as run

    loaded = _load(pair, checkpoint, device)
    pairs = corpora.load(data, loaded.source, loaded.target)[split]
    scores = run(loaded, pairs, beam_size=beam, max_len=max_len)
    if as_json:
        print(json.dumps(asdict(scores)))
        return
    sentences = len({pair.source for pair in pairs})
    print(
        f"{loaded.pair} on {split}, beam {beam}: {sentences:,} sentences, "
        f"{len(pairs):,} accepted translations"
    )
    print(f"BLEU  {scores.bleu:.1f}  {scores.bleu_signature}")
    print(f"chrF  {scores.chrf:.1f}  {scores.chrf_signature}")
    print(f"exact {scores.exact:.1%}")


@app.command("app")
def page(
    host: str = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65_535)] = 7860,
    device: Device = "auto",
    checkpoint: CheckpointFolder = None,
) -> None:
    """Open the page."""
    _say("Attention Lab is starting …")
    from lab.page import launch

    launch(host=host, port=port, device=device, checkpoint=checkpoint)


def _load(pair: str, folder: Path | None, device: str):
    from lab.model import Checkpoint, pick_device, shipped

    if folder is None:
        if pair not in (known := shipped()):
            raise ValueError(f"no model for {pair!r} is shipped: choose from {', '.join(known)}")
        folder = known[pair]
    return Checkpoint.load(folder, pick_device(device))


def main(arguments: list[str] | None = None) -> None:
    """Run; what the caller can mend ends in one line on stderr and exit status 1."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # Windows would take another encoding
            stream.reconfigure(encoding="utf-8", errors="replace")
    try:
        app(arguments)
    except (ValueError, RuntimeError, OSError) as error:
        if type(error) is RuntimeError:  # torch's own: we do not know it, so show it all
            raise
        _say(f"error: {' '.join(str(error).split())}", style="red")
        sys.exit(1)
    finally:
        try:
            sys.stdout.flush()
        except BrokenPipeError:  # `lab translate … | head`; the rest goes nowhere, quietly
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
