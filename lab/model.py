"""The whole model from its sizes, and checkpoints on disk."""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from lab import parts
from lab.files import replacing
from lab.tokens import Tokenizer

CHECKPOINTS = Path(__file__).parent / "checkpoints"
WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Config:
    """The sizes of a model: the arguments of the contract's Transformer."""

    vocab_size: int
    d_model: int = 256
    n_heads: int = 4
    n_layers: int = 3
    d_ff: int = 1024
    dropout: float = 0.1
    max_len: int = 512
    pad_id: int = 0


def build(config: Config) -> nn.Module:
    """A Transformer of the parts in force (see lab.parts), its weights not yet trained."""
    return parts.Transformer(**asdict(config))


def initialise(model: nn.Module, seed: int) -> None:
    """The same starting weights for any parts: Xavier for matrices, 1/√D for the embedding."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in sorted(model.named_parameters()):
        if name == "embedding.embedding.weight":
            nn.init.normal_(parameter, std=parameter.size(1) ** -0.5, generator=generator)
            with torch.no_grad():
                parameter[int(model.pad_id)] = 0  # type: ignore[arg-type]
        elif parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter, generator=generator)
        elif name.endswith(".bias"):
            nn.init.zeros_(parameter)


@dataclass(frozen=True)
class Checkpoint:
    """A trained model, the tokenizer it was trained with, and where it comes from."""

    model: nn.Module
    tokenizer: Tokenizer
    config: Config
    source: str  # language codes: "en"
    target: str
    examples: tuple[str, ...] = ()  # source sentences of its kind, to try it on

    @property
    def pair(self) -> str:
        return f"{self.source}-{self.target}"

    def save(self, folder: Path) -> None:
        """Write model.safetensors, tokenizer.json and config.json, each whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        self.tokenizer.save(folder / "tokenizer.json")
        about = {
            "source": self.source,
            "target": self.target,
            "examples": self.examples,
            "model": asdict(self.config),
        }
        with replacing(folder / "config.json") as path:
            path.write_text(
                json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
            )
        weights = {name: tensor.contiguous() for name, tensor in self.model.state_dict().items()}
        with replacing(folder / WEIGHTS) as path:
            save_file(weights, path)

    @classmethod
    def load(cls, folder: Path | str, device: torch.device | str = "cpu") -> "Checkpoint":
        """Read a folder written by `save`; CheckpointError says what is wrong with another."""
        folder = Path(folder)
        missing = [
            name
            for name in ("config.json", "tokenizer.json", WEIGHTS)
            if not (folder / name).is_file()
        ]
        if missing:
            raise CheckpointError(f"{folder} is no checkpoint: it has no {', '.join(missing)}")
        try:
            about = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            known = {field.name for field in fields(Config)}
            config = Config(**{k: v for k, v in about["model"].items() if k in known})
            model = build(config)
            model.load_state_dict(load_file(folder / WEIGHTS))
            tokenizer = Tokenizer.load(folder / "tokenizer.json")
            source, target = str(about["source"]), str(about["target"])
            examples = tuple(map(str, about.get("examples", ())))
        except KeyError as error:
            raise CheckpointError(f"{folder / 'config.json'} has no {error}") from error
        except (
            ValueError, TypeError, AttributeError, ArithmeticError, RuntimeError, SafetensorError
        ) as error:  # fmt: skip
            raise CheckpointError(f"{folder} does not load: {error}") from error
        return cls(model.to(device).eval(), tokenizer, config, source, target, examples)


class CheckpointError(ValueError):
    """A folder that should hold a checkpoint and does not."""


def shipped() -> dict[str, Path]:
    """The checkpoints that come with the lab: {"en-de": .../checkpoints/en-de, ...}."""
    folders = sorted(path.parent for path in CHECKPOINTS.glob("*/config.json"))
    return {folder.name: folder for folder in folders}


def pick_device(name: str = "auto") -> torch.device:
    """auto takes CUDA, then Apple's MPS, then the CPU."""
    if name != "auto":
        try:
            device = torch.device(name)
            torch.empty(0, device=device)
        except (RuntimeError, AssertionError) as error:
            raise ValueError(f"device {name!r} is not to be had here: {error}") from error
        return device
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def parameter_count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def describe(model: Any) -> str:
    """One line for people: "2.15 M parameters on cpu"."""
    return f"{parameter_count(model) / 1e6:.2f} M parameters on {next(model.parameters()).device}"
