"""The syllabus as one table: the units in order, and the parts a learner writes in each."""

from typing import NamedTuple


class Unit(NamedTuple):
    name: str  # also the folder under exercises/
    module: str  # solutions/<module>.py
    title: str
    parts: tuple[str, ...]


UNITS = (
    Unit(
        "01-attention",
        "attention",
        "Attention is a soft look-up",
        ("softmax", "soft_lookup", "scaled_dot_product_attention", "SelfAttention"),
    ),
    Unit(
        "02-masks",
        "masks",
        "Masks say who may look at whom",
        ("padding_mask", "causal_mask", "decoder_mask"),
    ),
    Unit(
        "03-multi-head",
        "multi_head",
        "Several heads look for several things",
        ("split_heads", "merge_heads", "MultiHeadAttention"),
    ),
    Unit(
        "04-positions",
        "positions",
        "Positions tell the order",
        ("sinusoidal_positions", "PositionalEncoding", "LearnedPositions"),
    ),
    Unit("05-add-norm", "add_norm", "Add and norm keep depth trainable", ("LayerNorm", "AddNorm")),
    Unit("06-feed-forward", "feed_forward", "Feed-forward thinks per token", ("FeedForward",)),
    Unit("07-encoder", "encoder", "The encoder reads the source", ("EncoderLayer", "Encoder")),
    Unit("08-decoder", "decoder", "The decoder writes the target", ("DecoderLayer", "Decoder")),
    Unit("09-transformer", "transformer", "The whole model", ("TokenEmbedding", "Transformer")),
    Unit(
        "10-training",
        "training",
        "Training by teacher forcing",
        ("shift_target", "label_smoothing_loss", "noam_learning_rate", "train_step"),
    ),
    Unit(
        "11-decoding",
        "decoding",
        "Decoding turns probabilities into sentences",
        ("greedy_decode", "beam_search", "sample_decode"),
    ),
)

PARTS = {part: unit for unit in UNITS for part in unit.parts}
