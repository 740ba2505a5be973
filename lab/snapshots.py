"""Moments of a training run, kept to look back at what the model had learned by then.

    for snapshot in snapshots("runs/toy"):
        snapshot.step, snapshot.scores["bleu"], snapshot.load()

A snapshot is one file in the run's folder, step-000375.safetensors: the averaged weights in half
precision, and in its header all that a Checkpoint knows but the tokenizer, which lies beside it.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from lab.files import replacing
from lab.model import Checkpoint, CheckpointError, Config, build
from lab.tokens import Tokenizer

SHIPPED = Path(__file__).parent / "checkpoints" / "moments"


def moments(steps: int, n: int) -> list[int]:
    """The steps of n snapshots: moments(8000, 5) == [0, 1000, 2000, 4000, 8000].

    Most is learned early, so each has twice the steps of the one before. A run that asks for more
    of them keeps those it has: its folder never holds more than its steps can be halved.
    """
    return sorted({0, *(steps >> halvings for halvings in range(n - 1))}) if n else []


@dataclass(frozen=True)
class Snapshot:
    """A moment of a run; its weights are read when they are asked for."""

    path: Path
    step: int
    scores: dict[str, float]  # on the validation split: validation_loss, bleu, chrf, exact
    about: dict[str, Any]  # source, target, examples, and the model's sizes

    @property
    def pair(self) -> str:
        return f"{self.about['source']}-{self.about['target']}"

    def load(self, device: torch.device | str = "cpu") -> Checkpoint:
        """The checkpoint of this moment, in single precision."""
        try:
            config = Config(**self.about["model"])
            model = build(config)
            model.load_state_dict(load_file(self.path))  # copied into float32
            tokenizer = Tokenizer.load(self.path.parent / "tokenizer.json")
        except (OSError, ValueError, TypeError, RuntimeError, SafetensorError) as error:
            raise CheckpointError(f"{self.path} does not load: {error}") from error
        source, target = self.about["source"], self.about["target"]
        examples = tuple(self.about["examples"])
        return Checkpoint(model.to(device).eval(), tokenizer, config, source, target, examples)


def save(checkpoint: Checkpoint, folder: Path, step: int, scores: dict[str, float]) -> None:
    """Keep this moment of the run in `folder`, whole or not at all."""
    about = {
        "source": checkpoint.source,
        "target": checkpoint.target,
        "examples": checkpoint.examples,
        "model": asdict(checkpoint.config),
        "step": step,
        "scores": scores,
    }
    weights = {
        name: tensor.half().contiguous() for name, tensor in checkpoint.model.state_dict().items()
    }
    with replacing(folder / f"step-{step:06}.safetensors") as path:
        save_file(weights, path, metadata={"snapshot": json.dumps(about, ensure_ascii=False)})


def snapshots(folder: Path | str) -> list[Snapshot]:
    """What a run has kept, the earliest first; only the headers are read."""
    found = []
    for path in Path(folder).glob("step-*.safetensors"):
        try:
            with safe_open(path, framework="pt") as file:
                about = json.loads(file.metadata()["snapshot"])
            found.append(Snapshot(path, about.pop("step"), about.pop("scores"), about))
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path} is no snapshot of a run: {error}") from error
    return sorted(found, key=lambda snapshot: snapshot.step)
