"""Checkpoints to experiment with: those that ship, and a tiny one that has learned nothing."""

from functools import cache
from itertools import islice

import pytest
import torch

from autograder.drawing import Draw
from lab import data
from lab.model import Checkpoint, Config, build, shipped
from lab.tokens import Tokenizer

LAYERS, H, D, MAX_LEN = 2, 3, 18, 37  # all different, and different from the shipped ones'
SENTENCES = ["An old green dog can see the small bird.", "The young tree paints."]


@cache
def a_tokenizer() -> Tokenizer:
    pairs = islice(data.toy(seed=2), 50)
    return Tokenizer.train([f"{pair.source} {pair.target}" for pair in pairs], vocab_size=400)


def tiny(std: float = 0.4) -> Checkpoint:
    """Random weights, in float64, of the parts in force."""
    tokenizer = a_tokenizer()
    config = Config(len(tokenizer), d_model=D, n_heads=H, n_layers=LAYERS, d_ff=10, max_len=MAX_LEN)
    model = Draw(torch.float64).fill(build(config), std)
    return Checkpoint(model, tokenizer, config, "en", "de")


@cache
def a_checkpoint(name: str) -> Checkpoint:
    return tiny() if name == "tiny" else Checkpoint.load(shipped()[name])


for_each_checkpoint = pytest.mark.parametrize("name", ["tiny", "en-de", "en-zh"])
