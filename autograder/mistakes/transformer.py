"""09: what goes wrong in the embedding and in the whole model."""

import math

import torch
from torch import nn

from autograder.mistakes import mistake
from lab.parts import (
    Decoder,
    Encoder,
    PositionalEncoding,
    TokenEmbedding,
    causal_mask,
    decoder_mask,
    padding_mask,
)

# TokenEmbedding


class _Embedding(nn.Module):
    """Right as it stands; the mistakes below change one thing."""

    def __init__(self, vocab_size, d_model, pad_id=0):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, d_model, padding_idx=pad_id)

    def forward(self, ids):
        return self.embedding(ids) * self.scale()

    def scale(self):
        return math.sqrt(self.embedding.embedding_dim)


def embedding_mistake(id, name, sentence, hint):
    return mistake("TokenEmbedding", id, name, sentence, hint)


@embedding_mistake(
    "P9a",
    "not multiplied by √d_model",
    "The vectors are not scaled: beside sines and cosines of size 1 they drown.",
    "Multiply what the table gives by math.sqrt(d_model) (§3.4).",
)
class NotScaled(_Embedding):
    def scale(self):
        return 1


@embedding_mistake(
    "P9b",
    "multiplied by d_model",
    "The vectors are multiplied by d_model; the paper multiplies by its square root.",
    "math.sqrt(d_model)",
)
class ScaledWithoutRoot(_Embedding):
    def scale(self):
        return self.embedding.embedding_dim


@embedding_mistake(
    "P9c",
    "divided by √d_model",
    "The vectors are divided by √d_model, as scores are in attention; here they are multiplied.",
    "embedding(ids) * math.sqrt(d_model)",
)
class Divided(_Embedding):
    def scale(self):
        return 1 / super().scale()


@embedding_mistake(
    "P9d",
    "√ of the number of words",
    "The vectors are multiplied by √vocab_size; it is the width of a vector that counts.",
    "math.sqrt(d_model)",
)
class RootOfTheVocabulary(_Embedding):
    def scale(self):
        return math.sqrt(self.embedding.num_embeddings)


@embedding_mistake(
    "P9e",
    "a constant in place of √d_model",
    "The vectors are multiplied by 16, which is √256; here the width is another.",
    "Keep d_model, or read it from the table: self.embedding.embedding_dim.",
)
class ConstantScale(_Embedding):
    def scale(self):
        return 16


@embedding_mistake(
    "P9f",
    "the scale is saved with the weights",
    "√d_model is a buffer or parameter that checkpoints then hold; the state has one entry, the "
    "table.",
    "A plain number will do: self.scale = math.sqrt(d_model).",
)
class SavedScale(_Embedding):
    def __init__(self, vocab_size, d_model, pad_id=0):
        super().__init__(vocab_size, d_model, pad_id)
        self.register_buffer("root", torch.tensor(math.sqrt(d_model)))


@embedding_mistake(
    "P11a",
    "no padding_idx",
    "The table does not know pad_id: padding has a vector like any word, and it is trained.",
    "nn.Embedding(vocab_size, d_model, padding_idx=pad_id)",
)
class NoPadding(_Embedding):
    def __init__(self, vocab_size, d_model, pad_id=0):
        nn.Module.__init__(self)
        self.embedding = nn.Embedding(vocab_size, d_model)


@embedding_mistake(
    "P11b",
    "pad_id is not used",
    "The padding token is always number 0, whatever pad_id says.",
    "padding_idx=pad_id",
)
class PaddingIsZero(_Embedding):
    def __init__(self, vocab_size, d_model, pad_id=0):
        super().__init__(vocab_size, d_model, 0)


@embedding_mistake(
    "P11c",
    "rows and columns swapped",
    "nn.Embedding takes the number of words first and the width of a vector second; here it is "
    "the other way round.",
    "nn.Embedding(vocab_size, d_model, …)",
)
class SwappedSizes(_Embedding):
    def __init__(self, vocab_size, d_model, pad_id=0):
        nn.Module.__init__(self)
        self.embedding = nn.Embedding(d_model, vocab_size, padding_idx=min(pad_id, d_model - 1))


@embedding_mistake(
    "P8",
    "positions are added",
    "The sinusoids are added here already; that is the work of PositionalEncoding.",
    "Return the scaled vectors alone.",
)
class WithPositions(_Embedding):
    def forward(self, ids):
        x = super().forward(ids)
        return PositionalEncoding(x.size(-1), 0.0).to(x.dtype)(x) if x.size(-1) % 2 == 0 else x


@embedding_mistake(
    "L5",
    "dropout on the embedding",
    "In training the vectors are dropped from, and after the sum with the positions again.",
    "PositionalEncoding drops; this part does not.",
)
class WithDropout(_Embedding):
    def __init__(self, vocab_size, d_model, pad_id=0):
        super().__init__(vocab_size, d_model, pad_id)
        self.dropout = nn.Dropout(0.1)

    def forward(self, ids):
        return self.dropout(super().forward(ids))


# Transformer


class _Model(nn.Module):
    """Right as it stands; the mistakes below change one thing."""

    def __init__(
        self,
        vocab_size,
        d_model=256,
        n_heads=4,
        n_layers=3,
        d_ff=1024,
        dropout=0.1,
        max_len=512,
        pad_id=0,
    ):
        super().__init__()
        self.pad_id = pad_id
        self.embedding = TokenEmbedding(vocab_size, d_model, pad_id)
        self.positions = PositionalEncoding(d_model, dropout, max_len)
        self.encoder = Encoder(n_layers, d_model, n_heads, d_ff, dropout)
        self.decoder = Decoder(n_layers, d_model, n_heads, d_ff, dropout)

    def encode(self, src):
        return self.encoder(self.embed_source(src), self.encoder_mask(src))

    def decode(self, tgt, memory, src):
        x = self.embed_target(tgt)
        x = self.decoder(x, memory, self.self_mask(tgt), self.cross_mask(tgt, src))
        return self.logits(x)

    def forward(self, src, tgt):
        return self.decode(tgt, self.encode(src), src)

    def embed_source(self, src):
        return self.positions(self.embedding(src))

    def embed_target(self, tgt):
        return self.positions(self.embedding(tgt))

    def encoder_mask(self, src):
        return padding_mask(src, self.pad_id)

    def self_mask(self, tgt):
        return decoder_mask(tgt, self.pad_id)

    def cross_mask(self, tgt, src):
        return padding_mask(src, self.pad_id)

    def logits(self, x):
        return x @ self.embedding.embedding.weight.T


def model_mistake(id, name, sentence, hint):
    return mistake("Transformer", id, name, sentence, hint)


@model_mistake(
    "M7",
    "the target sees its future",
    "decode hides only padding: each position can read the very word that it should predict.",
    "decoder_mask(tgt, pad_id) hides the future and padding.",
)
class NoCausalMask(_Model):
    def self_mask(self, tgt):
        return padding_mask(tgt, self.pad_id)


@model_mistake(
    "M7b",
    "no mask for the target",
    "decode hides nothing of the target, neither its future nor its padding.",
    "decoder_mask(tgt, pad_id) is the decoder's self_mask.",
)
class NoTargetMask(_Model):
    def self_mask(self, tgt):
        return None


@model_mistake(
    "M9",
    "padding of the target is read",
    "decode hides the future, but not the padding of the target.",
    "decoder_mask(tgt, pad_id) hides both.",
)
class OnlyCausal(_Model):
    def self_mask(self, tgt):
        return causal_mask(tgt.size(1), tgt.device)


@model_mistake(
    "M13a",
    "padding of the source is encoded",
    "encode passes no mask: what a sentence means depends on how much padding stands behind it.",
    "The encoder gets padding_mask(src, pad_id).",
)
class NoEncoderMask(_Model):
    def encoder_mask(self, src):
        return None


@model_mistake(
    "M13b",
    "padding of the source is translated",
    "decode passes no cross_mask: the target looks at the padding of the source.",
    "The decoder's cross_mask is padding_mask(src, pad_id); that is what decode needs src for.",
)
class NoCrossMask(_Model):
    def cross_mask(self, tgt, src):
        return None


@model_mistake(
    "M13c",
    "no mask for the source, nowhere",
    "Neither the encoder nor cross-attention gets a mask: padding is read like words.",
    "padding_mask(src, pad_id) goes to both.",
)
class NoSourceMask(_Model):
    def encoder_mask(self, src):
        return None

    def cross_mask(self, tgt, src):
        return None


@model_mistake(
    "M12a",
    "a causal mask in the encoder",
    "encode hides the future of the source. The source is there as a whole: every token may look "
    "at all of it.",
    "The encoder gets padding_mask(src, pad_id), not decoder_mask.",
)
class CausalEncoder(_Model):
    def encoder_mask(self, src):
        return decoder_mask(src, self.pad_id)


@model_mistake(
    "M12b",
    "the target's mask in cross-attention",
    "cross_mask is made of tgt; it says which source tokens may be looked at, so it is made of "
    "src.",
    "padding_mask(src, pad_id)",
)
class TargetMaskAcross(_Model):
    def cross_mask(self, tgt, src):
        return padding_mask(tgt, self.pad_id)


@model_mistake(
    "M12c",
    "a causal mask in cross-attention",
    "cross_mask is decoder_mask(tgt): the first target word is blind to all but the first word "
    "of the source.",
    "The source has no future; its padding alone is hidden: padding_mask(src, pad_id).",
)
class CausalAcross(_Model):
    def cross_mask(self, tgt, src):
        return decoder_mask(tgt, self.pad_id)


@model_mistake(
    "P6a",
    "no positions in the source",
    "encode adds no positions: the source is a bag of words.",
    "x = positions(embedding(src)), as in decode.",
)
class NoSourcePositions(_Model):
    def embed_source(self, src):
        return self.embedding(src)


@model_mistake(
    "P6b",
    "no positions in the target",
    "decode adds no positions: the decoder does not know how far it has come.",
    "x = positions(embedding(tgt)), as in encode.",
)
class NoTargetPositions(_Model):
    def embed_target(self, tgt):
        return self.embedding(tgt)


@model_mistake(
    "P6c",
    "no positions at all",
    "Neither encode nor decode adds positions: the model cannot tell one order from another.",
    "x = positions(embedding(ids)), on both sides.",
)
class NoPositions(_Model):
    def embed_source(self, src):
        return self.embedding(src)

    def embed_target(self, tgt):
        return self.embedding(tgt)


@model_mistake(
    "P9a",
    "embeddings are not scaled",
    "The rows of the table are used as they are; TokenEmbedding multiplies them by √d_model.",
    "Call self.embedding(ids), not self.embedding.embedding(ids).",
)
class NotScaledInTheModel(_Model):
    def embed_source(self, src):
        return self.positions(self.embedding.embedding(src))

    def embed_target(self, tgt):
        return self.embed_source(tgt)


@model_mistake(
    "P9b",
    "embeddings are scaled twice",
    "The model multiplies by √d_model, and TokenEmbedding has done so already.",
    "self.positions(self.embedding(ids))",
)
class ScaledTwice(_Model):
    def embed_source(self, src):
        x = self.embedding(src)
        return self.positions(x * math.sqrt(x.size(-1)))

    def embed_target(self, tgt):
        return self.embed_source(tgt)


@model_mistake(
    "P9c",
    "logits are scaled",
    "The logits are multiplied by √d_model; the output uses the table as it is.",
    "x @ self.embedding.embedding.weight.T",
)
class ScaledLogits(_Model):
    def logits(self, x):
        return super().logits(x) * math.sqrt(x.size(-1))


@model_mistake(
    "E1",
    "an embedding for each side",
    "Source and target have a table each; there is one for both (§3.4).",
    "self.embedding embeds src and tgt.",
)
class TwoEmbeddings(_Model):
    def __init__(self, vocab_size, d_model=256, n_heads=4, n_layers=3, d_ff=1024, dropout=0.1,
                 max_len=512, pad_id=0):  # fmt: skip
        super().__init__(vocab_size, d_model, n_heads, n_layers, d_ff, dropout, max_len, pad_id)
        self.target_embedding = TokenEmbedding(vocab_size, d_model, pad_id)

    def embed_target(self, tgt):
        return self.positions(self.target_embedding(tgt))


@model_mistake(
    "E2",
    "an output projection with weights of its own",
    "A Linear makes the logits; they should be products with the embedding's rows (§3.4).",
    "The table, transposed, is the projection: x @ self.embedding.embedding.weight.T.",
)
class OwnProjection(_Model):
    def __init__(self, vocab_size, d_model=256, n_heads=4, n_layers=3, d_ff=1024, dropout=0.1,
                 max_len=512, pad_id=0):  # fmt: skip
        super().__init__(vocab_size, d_model, n_heads, n_layers, d_ff, dropout, max_len, pad_id)
        self.project = nn.Linear(d_model, vocab_size)

    def logits(self, x):
        return self.project(x)


@model_mistake(
    "E3",
    "the table is saved twice",
    "A Linear shares its weight with the embedding: right numbers, but its name stands in every "
    "checkpoint beside the embedding's.",
    "No layer is needed: multiply by the table, transposed.",
)
class SavedTwice(_Model):
    def __init__(self, vocab_size, d_model=256, n_heads=4, n_layers=3, d_ff=1024, dropout=0.1,
                 max_len=512, pad_id=0):  # fmt: skip
        super().__init__(vocab_size, d_model, n_heads, n_layers, d_ff, dropout, max_len, pad_id)
        self.project = nn.Linear(d_model, vocab_size, bias=False)
        self.project.weight = self.embedding.embedding.weight

    def logits(self, x):
        return self.project(x)


@model_mistake(
    "E4",
    "no output projection",
    "decode gives what the decoder gives, d_model numbers; it should give a score for each word.",
    "Compare with every word: multiply by the embedding table, transposed.",
)
class NoProjection(_Model):
    def logits(self, x):
        return x


@model_mistake(
    "S7",
    "softmax on the logits",
    "decode gives probabilities; the loss and the decoding of the lessons to come want logits.",
    "Leave the scores as they are.",
)
class Probabilities(_Model):
    def logits(self, x):
        return super().logits(x).softmax(-1)


@model_mistake(
    "S7b",
    "log-softmax on the logits",
    "decode gives log-probabilities; the loss and the decoding of the lessons to come want logits.",
    "Leave the scores as they are.",
)
class LogProbabilities(_Model):
    def logits(self, x):
        return super().logits(x).log_softmax(-1)


@model_mistake(
    "T5",
    "logits of the last position only",
    "decode gives one row of logits; training needs one for every target position.",
    "Project all of x, not x[:, -1:].",
)
class LastPosition(_Model):
    def logits(self, x):
        return super().logits(x[:, -1:])


@model_mistake(
    "T4",
    "decode encodes again",
    "decode does not use the memory it is given: it runs the encoder anew, at every word.",
    "memory is an argument; look at it as it is.",
)
class EncodesAgain(_Model):
    def decode(self, tgt, memory, src):
        return super().decode(tgt, self.encode(src), src)


@model_mistake(
    "H11",
    "the decoder looks at itself",
    "The decoder is given its own input as memory: the translation does not depend on the source.",
    "decoder(x, memory, …)",
)
class LooksAtItself(_Model):
    def decode(self, tgt, memory, src):
        x = self.embed_target(tgt)
        return self.logits(self.decoder(x, x, self.self_mask(tgt), padding_mask(tgt, self.pad_id)))


@model_mistake(
    "H11b",
    "the memory is the embedded source",
    "forward and encode skip the encoder: the decoder looks at embeddings, not at what was read.",
    "memory = encoder(positions(embedding(src)), mask)",
)
class NoEncoder(_Model):
    def encode(self, src):
        return self.embed_source(src)


@model_mistake(
    "T1",
    "forward shifts the target",
    "forward cuts the last token off; the caller has done that (shift_target, lesson 10).",
    "Logits for every token of tgt: decode(tgt, …).",
)
class ShiftsTarget(_Model):
    def forward(self, src, tgt):
        return self.decode(tgt[:, :-1], self.encode(src), src)


@model_mistake(
    "T1b",
    "forward swaps source and target",
    "forward encodes tgt and decodes src.",
    "forward(src, tgt): encode(src), then decode(tgt, memory, src).",
)
class SwappedSides(_Model):
    def forward(self, src, tgt):
        return self.decode(src, self.encode(tgt), tgt)


@model_mistake(
    "P12a",
    "pad_id is not used",
    "The padding token is always number 0, whatever pad_id says: another one is read like a word.",
    "Keep pad_id, and give it to the embedding and to the masks.",
)
class PaddingIsAlwaysZero(_Model):
    def __init__(self, vocab_size, d_model=256, n_heads=4, n_layers=3, d_ff=1024, dropout=0.1,
                 max_len=512, pad_id=0):  # fmt: skip
        super().__init__(vocab_size, d_model, n_heads, n_layers, d_ff, dropout, max_len)


@model_mistake(
    "P12b",
    "pad_id does not reach the embedding",
    "The masks know pad_id, the embedding does not: its vector is trained like a word's.",
    "TokenEmbedding(vocab_size, d_model, pad_id)",
)
class EmbeddingWithoutPadding(_Model):
    def __init__(self, vocab_size, d_model=256, n_heads=4, n_layers=3, d_ff=1024, dropout=0.1,
                 max_len=512, pad_id=0):  # fmt: skip
        super().__init__(vocab_size, d_model, n_heads, n_layers, d_ff, dropout, max_len, pad_id)
        self.embedding = TokenEmbedding(vocab_size, d_model)


@model_mistake(
    "P12c",
    "max_len is not passed on",
    "The table of positions has its own 512 rows, whatever max_len says.",
    "PositionalEncoding(d_model, dropout, max_len)",
)
class IgnoresMaxLen(_Model):
    def __init__(self, vocab_size, d_model=256, n_heads=4, n_layers=3, d_ff=1024, dropout=0.1,
                 max_len=512, pad_id=0):  # fmt: skip
        super().__init__(vocab_size, d_model, n_heads, n_layers, d_ff, dropout, pad_id=pad_id)


@model_mistake(
    "L5a",
    "dropout does not reach the positions",
    "PositionalEncoding is made without the dropout that was asked for, and takes its own 0.1.",
    "PositionalEncoding(d_model, dropout, max_len)",
)
class PositionsWithoutDropout(_Model):
    def __init__(self, vocab_size, d_model=256, n_heads=4, n_layers=3, d_ff=1024, dropout=0.1,
                 max_len=512, pad_id=0):  # fmt: skip
        super().__init__(vocab_size, d_model, n_heads, n_layers, d_ff, dropout, max_len, pad_id)
        self.positions = PositionalEncoding(d_model, max_len=max_len)


@model_mistake(
    "L5b",
    "dropout does not reach the stacks",
    "Encoder and Decoder are made without the dropout that was asked for, and take their own 0.1.",
    "Encoder(n_layers, d_model, n_heads, d_ff, dropout), and so the Decoder.",
)
class StacksWithoutDropout(_Model):
    def __init__(self, vocab_size, d_model=256, n_heads=4, n_layers=3, d_ff=1024, dropout=0.1,
                 max_len=512, pad_id=0):  # fmt: skip
        super().__init__(vocab_size, d_model, n_heads, n_layers, d_ff, 0.1, max_len, pad_id)
        self.positions = PositionalEncoding(d_model, dropout, max_len)


@model_mistake(
    "L9",
    "two positional encodings",
    "Source and target have a PositionalEncoding each, and `positions` is missing.",
    "One table serves both: self.positions.",
)
class TwoPositions(_Model):
    def __init__(self, vocab_size, d_model=256, n_heads=4, n_layers=3, d_ff=1024, dropout=0.1,
                 max_len=512, pad_id=0):  # fmt: skip
        super().__init__(vocab_size, d_model, n_heads, n_layers, d_ff, dropout, max_len, pad_id)
        self.source_positions = self.positions
        self.target_positions = PositionalEncoding(d_model, dropout, max_len)
        del self.positions

    def embed_source(self, src):
        return self.source_positions(self.embedding(src))

    def embed_target(self, tgt):
        return self.target_positions(self.embedding(tgt))
