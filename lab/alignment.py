"""Does attention look at the right word? Asked of a dictionary that knows nothing of the model.

    attention_alignment(checkpoint, corpus[TRAIN], corpus[VALID])

The dictionary is IBM Model 1 (Brown et al. 1993), learned from the training pairs in both
directions; it vouches for two words that are each other's best translation in a sentence.
"""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from lab.data import Pair
from lab.model import Checkpoint
from lab.recording import record
from lab.tokens import BOS_ID, Tokenizer, pad
from lab.translation import forced

FUNCTION_WORDS = 60  # the most frequent words of a language are no content words
SURE = 0.2  # probability from which the dictionary vouches for a translation

Words = Sequence[str]


@dataclass(frozen=True)
class Alignment:
    """Share of content words whose cross-attention peaks on the source word that they translate."""

    layers: list[float]  # by layer, the mean of its heads
    words: int  # how many were asked about
    chance: float  # the same for a guess among the words of the source

    @property
    def best(self) -> int:
        """The layer that aligns best, from 0."""
        return max(range(len(self.layers)), key=self.layers.__getitem__)


def attention_alignment(
    checkpoint: Checkpoint, train: Sequence[Pair], held_out: Sequence[Pair], sentences: int = 100
) -> Alignment:
    """Ask about the content words of held-out targets, which the model reads as if it wrote them.

    Of the held-out pairs as many `sentences` as asked for, spread over all.
    """
    tokenizer = checkpoint.tokenizer
    known = Dictionary.learn(
        [_lowered(tokenizer, pair.source) for pair in train],
        [_lowered(tokenizer, pair.target) for pair in train],
    )
    hits, chances = [], []
    for pair in held_out[:: max(1, len(held_out) // sentences)][:sentences]:
        weights = _cross_attention(checkpoint, pair)  # [L, T, S], mean of the heads
        source, target = (words(tokenizer.pieces(_ids(tokenizer, text))) for text in pair[:2])
        by_word = torch.stack([weights[..., place].sum(-1) for place in source], dim=-1)
        asked = known.links(_lowered(tokenizer, pair.source), _lowered(tokenizer, pair.target))
        for s, t in asked:
            peaks = by_word[:, target[t]].sum(1).argmax(-1)  # [L]
            hits.append(peaks == s)
            chances.append(1 / len(source))
    if not hits:
        raise ValueError("the dictionary knows no content word of these sentences: give it more")
    return Alignment(
        layers=torch.stack(hits).double().mean(0).tolist(),
        words=len(hits),
        chance=sum(chances) / len(chances),
    )


def words(pieces: Sequence[str]) -> list[slice]:
    """Where each word stands in its pieces. A word ends before a space, at punctuation, and after
    each piece of a script without spaces."""
    starts = [
        i
        for i, piece in enumerate(pieces)
        if i == 0 or piece.startswith(" ") or not (_spelled(piece) and _spelled(pieces[i - 1]))
    ]
    return [slice(*ends) for ends in pairwise([*starts, len(pieces)])]


def _spelled(piece: str) -> bool:
    """Whether it is letters of a script that has spaces."""
    return all(c.isalpha() and unicodedata.east_asian_width(c) != "W" for c in piece.strip())


class Dictionary:
    """Translation probabilities between two languages, both ways, and each one's content words."""

    def __init__(self, sources: Sequence[Words], targets: Sequence[Words]):
        self.to_target = model_one(sources, targets)
        self.to_source = model_one(targets, sources)
        self.content = tuple(
            {word for word, _ in counts.most_common()[FUNCTION_WORDS:] if word.isalpha()}
            for counts in (Counter(w for ws in side for w in ws) for side in (sources, targets))
        )

    @classmethod
    def learn(cls, sources: Sequence[Words], targets: Sequence[Words]) -> "Dictionary":
        """From sentences in two languages: the n-th of one translates the n-th of the other."""
        return cls(sources, targets)

    def links(self, source: Words, target: Words) -> list[tuple[int, int]]:
        """(source, target) places of content words that are surely each other's translation."""
        found = []
        for t, word in enumerate(target):
            s = _best(source, word, self.to_target)
            if (
                t == _best(target, source[s], self.to_source)
                and self.to_target.get((source[s], word), 0) >= SURE
                and self.to_source.get((word, source[s]), 0) >= SURE
                and source.count(source[s]) == target.count(word) == 1
                and (source[s] in self.content[0] and word in self.content[1])
            ):
                found.append((s, t))
        return found


def _best(candidates: Words, word: str, table: dict[tuple[str, str], float]) -> int:
    return max(range(len(candidates)), key=lambda i: table.get((candidates[i], word), 0.0))


def model_one(
    sources: Sequence[Words], targets: Sequence[Words], rounds: int = 8
) -> dict[tuple[str, str], float]:
    """IBM Model 1: {(e, f): probability that e is translated by f}, by expectation-maximisation.

    Every word f of a target comes from one word of its source, all equally likely before the words
    are seen. Each round shares f out among them by today's probabilities, and counts.
    """
    numbers: dict[tuple[str, str], int] = {}
    firsts: dict[str, int] = {}
    pair_of, word_of, first_of = [], [], []
    n_words = 0
    for source, target in zip(sources, targets, strict=True):
        for f in target:
            for e in source:
                pair_of.append(numbers.setdefault((e, f), len(numbers)))
                word_of.append(n_words)
            n_words += 1
    for e, _ in numbers:
        first_of.append(firsts.setdefault(e, len(firsts)))
    pair, word, first = torch.tensor(pair_of), torch.tensor(word_of), torch.tensor(first_of)
    probability = torch.ones(len(numbers), dtype=torch.float64)
    for _ in range(rounds):
        likely = probability[pair]
        share = likely / torch.bincount(word, likely)[word]
        count = torch.bincount(pair, share)
        probability = count / torch.bincount(first, count)[first]
    return dict(zip(numbers, probability.tolist(), strict=True))


def _ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text)[:-1]


def _lowered(tokenizer: Tokenizer, text: str) -> list[str]:
    pieces = tokenizer.pieces(_ids(tokenizer, text))
    return ["".join(pieces[place]).strip().lower() for place in words(pieces)]


def _cross_attention(checkpoint: Checkpoint, pair: Pair) -> Tensor:
    """[L, T, S]: what each piece of the target looked at when it was to be written."""
    device = next(checkpoint.model.parameters()).device
    source, target = (checkpoint.tokenizer.encode(text) for text in pair[:2])
    with record(checkpoint.model) as recorded:
        forced(checkpoint.model, pad([source]).to(device), pad([[BOS_ID, *target]]).to(device))
    return recorded["cross"][:, 0].mean(1).float().cpu()
