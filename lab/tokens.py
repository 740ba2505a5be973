"""Text to ids and back: one byte pair encoding shared by both languages (Sennrich et al. 2016).

A character the training text never showed is written as its bytes, so nothing is unknown.
"""

import json
import random
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain, pairwise
from pathlib import Path

import torch
from jaxtyping import Int
from tokenizers import Tokenizer as Engine
from tokenizers import decoders, models, pre_tokenizers, trainers
from torch import Tensor

from lab.files import replacing

PAD, BOS, EOS = "<pad>", "<s>", "</s>"
MARKS = [PAD, BOS, EOS]
PAD_ID, BOS_ID, EOS_ID = 0, 1, 2
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
SPACE = "▁"


class Tokenizer:
    """encode("A dog.") -> [57, 312, 260, 2]: pieces, then </s>; decode is the way back."""

    def __init__(self, engine: Engine):
        self._engine = engine

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> "Tokenizer":
        """Merge the most frequent neighbours until there are vocab_size pieces or no more pairs."""
        room = vocab_size - len(BYTES) - len(MARKS)
        if room < 1:
            raise ValueError(
                f"vocab_size={vocab_size}: marks and bytes alone are {vocab_size - room}, "
                "choose more"
            )
        normal = [_normalise(text) for text in texts]
        alphabet = _alphabet(normal, min(vocab_size // 2, room))  # others are written as bytes
        learner = Engine(models.BPE())
        learner.pre_tokenizer = _words()
        trainer = trainers.BpeTrainer(
            vocab_size=len(MARKS) + room,
            special_tokens=MARKS,
            initial_alphabet=alphabet,
            limit_alphabet=len(alphabet),
            show_progress=False,
        )
        learner.train_from_iterator(normal, trainer)
        learned = json.loads(learner.to_str())["model"]
        pieces = sorted(learned["vocab"], key=learned["vocab"].__getitem__)
        pieces[len(MARKS) : len(MARKS)] = BYTES
        vocab = {piece: number for number, piece in enumerate(pieces)}
        # Marks and bytes are plain entries, not added tokens: a text that spells them stays text.
        merges = [tuple(pair) for pair in learned["merges"]]
        return cls(_engine(vocab, merges))

    def __len__(self) -> int:
        return self._engine.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        return self.encode_all([text])[0]

    def encode_all(self, texts: Sequence[str]) -> list[list[int]]:
        normal = [_normalise(text) for text in texts]
        return [[*found.ids, EOS_ID] for found in self._engine.encode_batch(normal)]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the ids on one line, without marks; bytes that form no character are �."""
        text = self._engine.decode(_without_marks(ids), skip_special_tokens=False)
        return " ".join(text.split())

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """The pieces as people read them: a piece that begins a word begins with a space."""
        return [(self._engine.id_to_token(i) or "").replace(SPACE, " ") for i in ids]

    def to_json(self) -> str:
        return self._engine.to_str(pretty=False)

    def save(self, path: Path) -> None:
        with replacing(path) as temporary:
            temporary.write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Tokenizer":
        try:
            return cls(Engine.from_file(str(path)))
        except Exception as error:  # tokenizers raises bare Exception
            raise ValueError(f"{path} is no tokenizer: {error}") from error


class PieceDropout:
    """Text to ids with some merges left out: BPE-dropout (Provilkov et al. 2020), which shows a
    model the same words in other pieces.

    Each word is cut in a few ways once; each place where it stands draws one of them.
    """

    def __init__(self, tokenizer: Tokenizer, rate: float, seed: int = 0, ways: int = 16):
        model = json.loads(tokenizer.to_json())["model"]
        self._id: dict[str, int] = model["vocab"]
        self._rank = {tuple(pair): rank for rank, pair in enumerate(model["merges"])}
        self._split = _words()
        self._rate, self._seed, self._ways = rate, seed, ways
        self._cuts: dict[str, list[list[int]]] = {}

    def encode_all(self, texts: Sequence[str], draw: str = "") -> list[list[int]]:
        """Like Tokenizer.encode_all; the same `draw` gives the same pieces."""
        rng = random.Random(f"{self._seed} {draw}")
        return [
            [*chain(*(rng.choice(self._ways_of(word)) for word in self._words_of(text))), EOS_ID]
            for text in texts
        ]

    def _words_of(self, text: str) -> list[str]:
        return [word for word, _ in self._split.pre_tokenize_str(_normalise(text))]

    def _ways_of(self, word: str) -> list[list[int]]:
        if word not in self._cuts:
            rng = random.Random(f"{self._seed} {word}")
            self._cuts[word] = [self._cut(word, rng) for _ in range(self._ways)]
        return self._cuts[word]

    def _cut(self, word: str, rng: random.Random) -> list[int]:
        """Merge by rank, as byte pair encoding does; at each step some merges are not to be had."""
        pieces = list(word)
        while ranks := {
            i: self._rank[pair]
            for i, pair in enumerate(pairwise(pieces))
            if pair in self._rank and rng.random() >= self._rate
        }:
            i = min(ranks, key=ranks.__getitem__)
            pieces[i : i + 2] = ["".join(pieces[i : i + 2])]
        return [i for piece in pieces for i in self._ids_of(piece)]

    def _ids_of(self, piece: str) -> list[int]:
        if piece in self._id:
            return [self._id[piece]]
        return [self._id[BYTES[byte]] for byte in piece.encode()]


def pad(rows: Sequence[Sequence[int]]) -> Int[Tensor, "B S"]:
    """Rows of ids as one tensor, filled up with PAD_ID: pad([[5], [7, 8]])[0] is [5, 0]."""
    longest = max(len(row) for row in rows)
    return torch.tensor([[*row, *[PAD_ID] * (longest - len(row))] for row in rows])


def _normalise(text: str) -> str:
    """Composed characters (é is one, not two), single spaces, and ? for half a surrogate pair."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    return " ".join(unicodedata.normalize("NFC", text).split()).replace(SPACE, "_")


def _alphabet(texts: Iterable[str], size: int) -> list[str]:
    """The most frequent characters; of equally frequent ones the first by code point."""
    counts = Counter(SPACE)
    for text in texts:
        counts.update(text.replace(" ", SPACE))
    return sorted(counts, key=lambda character: (-counts[character], character))[:size]


def _words() -> pre_tokenizers.PreTokenizer:
    """No piece crosses a space, a punctuation mark or a digit."""
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always"),
            pre_tokenizers.Punctuation(behavior="isolated"),
            pre_tokenizers.Digits(individual_digits=True),
        ]
    )


def _engine(vocab: dict[str, int], merges: list[tuple[str, str]]) -> Engine:
    engine = Engine(models.BPE(vocab=vocab, merges=merges, byte_fallback=True))
    engine.pre_tokenizer = _words()
    engine.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return engine


def _without_marks(ids: Iterable[int]) -> list[int]:
    return [i for i in ids if i not in (PAD_ID, BOS_ID, EOS_ID)]
