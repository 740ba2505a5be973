"""The syllabus as one table: the units in order, and the parts a learner writes in each."""

from collections.abc import Mapping
from typing import NamedTuple


class Part(NamedTuple):
    points: int  # of all its checks together
    minutes: int  # for somebody who knows Python and a little PyTorch


class Unit(NamedTuple):
    name: str  # also the folder under exercises/
    module: str  # solutions/<module>.py
    title: str
    parts: Mapping[str, Part]
    quiz: int  # questions, a point each

    @property
    def points(self) -> int:
        return sum(part.points for part in self.parts.values()) + self.quiz

    @property
    def minutes(self) -> int:
        return sum(part.minutes for part in self.parts.values())


UNITS = (
    Unit(
        "01-attention",
        "attention",
        "Attention is a soft look-up",
        {
            "softmax": Part(6, 20),
            "soft_lookup": Part(4, 15),
            "scaled_dot_product_attention": Part(10, 30),
            "SelfAttention": Part(6, 20),
        },
        quiz=6,
    ),
    Unit(
        "02-masks",
        "masks",
        "Masks say who may look at whom",
        {"padding_mask": Part(4, 10), "causal_mask": Part(4, 10), "decoder_mask": Part(6, 15)},
        quiz=6,
    ),
    Unit(
        "03-multi-head",
        "multi_head",
        "Several heads look for several things",
        {
            "split_heads": Part(4, 15),
            "merge_heads": Part(4, 10),
            "MultiHeadAttention": Part(12, 35),
        },
        quiz=5,
    ),
    Unit(
        "04-positions",
        "positions",
        "Positions tell the order",
        {
            "sinusoidal_positions": Part(8, 25),
            "PositionalEncoding": Part(6, 15),
            "LearnedPositions": Part(4, 10),
        },
        quiz=5,
    ),
    Unit(
        "05-add-norm",
        "add_norm",
        "Add and norm keep depth trainable",
        {"LayerNorm": Part(10, 25), "AddNorm": Part(6, 15)},
        quiz=5,
    ),
    Unit(
        "06-feed-forward",
        "feed_forward",
        "Feed-forward thinks per token",
        {"FeedForward": Part(6, 15)},
        quiz=5,
    ),
    Unit(
        "07-encoder",
        "encoder",
        "The encoder reads the source",
        {"EncoderLayer": Part(10, 25), "Encoder": Part(6, 15)},
        quiz=5,
    ),
    Unit(
        "08-decoder",
        "decoder",
        "The decoder writes the target",
        {"DecoderLayer": Part(12, 30), "Decoder": Part(6, 10)},
        quiz=5,
    ),
    Unit(
        "09-transformer",
        "transformer",
        "The whole model",
        {"TokenEmbedding": Part(6, 15), "Transformer": Part(14, 40)},
        quiz=6,
    ),
    Unit(
        "10-training",
        "training",
        "Training by teacher forcing",
        {
            "shift_target": Part(4, 10),
            "label_smoothing_loss": Part(8, 30),
            "noam_learning_rate": Part(4, 15),
            "train_step": Part(8, 25),
        },
        quiz=6,
    ),
    Unit(
        "11-decoding",
        "decoding",
        "Decoding turns probabilities into sentences",
        {
            "greedy_decode": Part(8, 25),
            "beam_search": Part(10, 45),
            "sample_decode": Part(8, 30),
        },
        quiz=6,
    ),
)

PARTS = {part: unit for unit in UNITS for part in unit.parts}


def unit_named(name: str) -> Unit:
    """A unit by its name, its number or its module: "03-multi-head", "03", "multi_head"."""
    for unit in UNITS:
        if name in (unit.name, unit.name[:2], unit.name[:2].lstrip("0"), unit.module):
            return unit
    names = ", ".join(unit.name for unit in UNITS)
    raise ValueError(f"there is no unit {name!r}: choose from {names}")
