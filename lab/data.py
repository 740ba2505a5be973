"""Sentence pairs from files, from a grammar, and in batches.

    load("toy")                        a corpus made by a grammar, no file needed
    load(folder, "en", "de")           Moses: train.en(.gz) beside train.de(.gz), val, test
    load("cmn-eng.tsv", "en", "zh")    Tatoeba: source, target and attribution in columns

No source sentence of a held-out split stands in the training split.
"""

import gzip
import hashlib
import random
import re
import unicodedata
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

MAX_LINE = 10_000  # bytes; a sentence is far shorter, a longer line is another kind of file
MOST = 1_000  # sentences held out in a split that we make: enough for a score
TRAIN, VALID = "train", "val"


class Pair(NamedTuple):
    source: str
    target: str
    attribution: str = ""


class DataError(ValueError):
    """A file that does not hold sentence pairs; the message names file and line."""


@dataclass(frozen=True)
class Corpus:
    """Sentence pairs by split. No source sentence of a held-out split stands in train."""

    splits: dict[str, list[Pair]]
    dropped: int = 0  # training pairs left out because their source is held out

    def __getitem__(self, split: str) -> list[Pair]:
        if split not in self.splits:
            raise DataError(f"there is no split {split!r}: choose from {', '.join(self.splits)}")
        if not self.splits[split]:
            raise DataError(f"the split {split!r} is empty: it takes more sentence pairs")
        return self.splits[split]


def load(data: str | Path, source: str = "en", target: str = "de", seed: int = 0) -> Corpus:
    """The corpus behind a name or a path; DataError says what is wrong with it."""
    if str(data) == "toy":
        if (source, target) != ("en", "de"):
            raise DataError(f"toy is English to German, en-de, not {source}-{target}")
        return toy_corpus(seed=seed)
    path = Path(data)
    if path.is_dir():
        return read_folder(path, source, target)
    if path.is_file():
        return split(read_tsv(path), {VALID: 0.03, "test": 0.04})
    raise DataError(f"{path} is neither a folder, nor a file, nor 'toy'")


# Moses: one sentence a line, the same line in two files


def read_folder(folder: Path, source: str, target: str) -> Corpus:
    """Every split of a folder: the names before .{source} and .{target}, plain or .gz."""
    sides = {
        language: {
            name.removesuffix(".gz").removesuffix(f".{language}"): folder / name
            for name in sorted(path.name for path in folder.iterdir())
            if name.removesuffix(".gz").endswith(f".{language}")
        }
        for language in (source, target)
    }
    names = list(sides[source])
    for side, other in ((source, target), (target, source)):
        for name in sides[side]:
            if name not in sides[other]:
                raise DataError(f"{sides[side][name]} has no other side: {name}.{other} is missing")
    if TRAIN not in names:
        raise DataError(f"{folder} has no {TRAIN}.{source} and {TRAIN}.{target} (plain or .gz)")
    splits = {name: read_moses(sides[source][name], sides[target][name]) for name in names}
    dropped = 0
    if VALID not in splits:
        parted = split(splits[TRAIN], shares={VALID: 0.03})
        splits, dropped = splits | parted.splits, parted.dropped
    return without_leaks(splits, dropped)


def read_moses(source: Path, target: Path) -> list[Pair]:
    """Pairs from two files with the same number of lines."""
    sources, targets = ([line.strip() for line in _lines(side)] for side in (source, target))
    if len(sources) != len(targets):
        raise DataError(
            f"{source} has {len(sources)} lines and {target} has {len(targets)}: "
            "line n of one must be the translation of line n of the other"
        )
    for number, (one, other) in enumerate(zip(sources, targets, strict=True), 1):
        if not one or not other:
            raise DataError(f"{source if not one else target}, line {number}: the line is empty")
    return [Pair(*pair) for pair in zip(sources, targets, strict=True)]


def read_tsv(path: Path) -> list[Pair]:
    """Source, target and, if there is one, attribution: columns with a tab between."""
    pairs = []
    for number, line in enumerate(_lines(path), 1):
        source, *rest = (column.strip() for column in line.split("\t"))
        if not source or not rest or not rest[0]:
            raise DataError(f"{path}, line {number}: expected source, a tab and target")
        pairs.append(Pair(source, *rest[:2]))
    return pairs


def _lines(path: Path) -> Iterator[str]:
    number = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            while line := file.readline(MAX_LINE + 3):  # the limit, a line end, and one too many
                number += 1
                if len(line.rstrip(b"\r\n")) > MAX_LINE:
                    raise DataError(f"{path}, line {number}: longer than {MAX_LINE:,} bytes")
                yield line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}, line {number}: not UTF-8 ({error.reason})") from error
    except (OSError, EOFError, zlib.error) as error:  # the last two from a broken .gz
        raise DataError(f"{path}, after line {number}: {error}") from error
    if number == 0:
        raise DataError(f"{path} is empty")


# Splits: decided by the source sentence alone, so that its other translations go with it


def split(pairs: Sequence[Pair], shares: dict[str, float] | None = None) -> Corpus:
    """Train, val and test by a hash of the source sentence: the same on every machine.

    A held-out split is at most MOST sentences. Training pairs whose target is held out as well, as
    the translation of another sentence, are dropped: the answer would be known.
    """
    places = sorted({_place(pair.source) for pair in pairs})
    ends, start = {}, 0.0
    for name, share in (shares or {VALID: 0.03, "test": 0.035}).items():
        inside = [place for place in places if start <= place < start + share]
        start = ends[name] = inside[MOST] if len(inside) > MOST else start + share
    splits: dict[str, list[Pair]] = {TRAIN: [], **{name: [] for name in ends}}
    for pair in pairs:
        place = _place(pair.source)
        splits[next((name for name, end in ends.items() if place < end), TRAIN)].append(pair)
    answers = {_key(pair.target) for name in ends for pair in splits[name]}
    kept = [pair for pair in splits[TRAIN] if _key(pair.target) not in answers]
    return Corpus({**splits, TRAIN: kept}, dropped=len(splits[TRAIN]) - len(kept))


def without_leaks(splits: dict[str, list[Pair]], dropped: int = 0) -> Corpus:
    """Drop training pairs whose source sentence also stands in another split."""
    held_out = {
        _key(pair.source) for name, pairs in splits.items() if name != TRAIN for pair in pairs
    }
    kept = [pair for pair in splits[TRAIN] if _key(pair.source) not in held_out]
    return Corpus({**splits, TRAIN: kept}, dropped=dropped + len(splits[TRAIN]) - len(kept))


def _key(sentence: str) -> str:
    """What makes two sentences the same: their letters and digits, whatever case and points."""
    return re.sub(r"[\W_]+", " ", unicodedata.normalize("NFKC", sentence).casefold()).strip()


def _place(sentence: str) -> float:
    digest = hashlib.sha256(_key(sentence).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


# toy: a grammar of English and German, with agreement and reordering


class Noun(NamedTuple):
    english: str
    german: str
    gender: str  # m, f, n


def _dictionary(entries: str) -> dict[str, str]:
    return {english: german for english, german in (e.split("/") for e in entries.split())}


NOUNS = [
    Noun(*entry.split("/"))
    for entry in (
        "dog/Hund/m cat/Katze/f horse/Pferd/n bird/Vogel/m cow/Kuh/f pig/Schwein/n "
        "man/Mann/m woman/Frau/f child/Kind/n king/König/m queen/Königin/f girl/Mädchen/n "
        "tree/Baum/m flower/Blume/f house/Haus/n apple/Apfel/m bottle/Flasche/f book/Buch/n"
    ).split()
]
ADJECTIVES = _dictionary("small/klein big/groß old/alt young/jung red/rot green/grün white/weiß")
VERBS = _dictionary(  # infinitives
    "see/sehen find/finden hear/hören paint/malen seek/suchen carry/tragen"
)
ADVERBS = {"today": "heute", "tomorrow": "morgen", "now": "jetzt", "often": "oft"}
MODALS = {"can": "kann", "must": "muss", "will": "wird", "wants to": "will"}
# der and ein, by case and gender; the ending an adjective takes after each
ARTICLES = {
    "the": {"subject": dict(m="der", f="die", n="das"), "object": dict(m="den", f="die", n="das")},
    "a": {
        "subject": dict(m="ein", f="eine", n="ein"),
        "object": dict(m="einen", f="eine", n="ein"),
    },
}
ENDINGS = {
    "the": {"subject": dict(m="e", f="e", n="e"), "object": dict(m="en", f="e", n="e")},
    "a": {"subject": dict(m="er", f="e", n="es"), "object": dict(m="en", f="e", n="es")},
}


def toy_pair(rng: random.Random) -> Pair:
    """One sentence: "Today the old man must see a red bird." and its German, the verb at its end:
    "Heute muss der alte Mann einen roten Vogel sehen."
    """
    subject, object_ = _noun_phrase(rng, "subject"), _noun_phrase(rng, "object")
    modal, verb = rng.choice(list(MODALS)), rng.choice(list(VERBS))
    english = f"{subject.source} {modal} {verb} {object_.source}."
    if rng.random() < 0.5:
        adverb = rng.choice(list(ADVERBS))
        german = f"{ADVERBS[adverb]} {MODALS[modal]} {subject.target}"
        english = f"{adverb} {english}"
    else:
        german = f"{subject.target} {MODALS[modal]}"
    german = f"{german} {object_.target} {VERBS[verb]}."
    return Pair(*(sentence[0].upper() + sentence[1:] for sentence in (english, german)))


def _noun_phrase(rng: random.Random, case: str) -> Pair:
    article, noun = rng.choice(list(ARTICLES)), rng.choice(NOUNS)
    chosen = rng.sample(list(ADJECTIVES), rng.choice([0, 1, 1, 2]))
    ending = ENDINGS[article][case][noun.gender]
    first = chosen[0] if chosen else noun.english
    english_article = "an" if article == "a" and first[0] in "aeiou" else article
    german = [ARTICLES[article][case][noun.gender], *(ADJECTIVES[a] + ending for a in chosen)]
    english = [english_article, *chosen, noun.english]
    return Pair(" ".join(english), " ".join([*german, noun.german]))


def toy(seed: int = 0) -> Iterator[Pair]:
    """Sentence pairs without end."""
    rng = random.Random(seed)
    while True:
        yield toy_pair(rng)


def toy_corpus(size: int = 12_000, seed: int = 0) -> Corpus:
    """The first `size` pairs of the grammar, split like any other file."""
    pairs = toy(seed)
    return split([next(pairs) for _ in range(size)])


# Batches


class Batch(NamedTuple):
    source: torch.Tensor  # ids [B, S]
    target: torch.Tensor  # ids [B, T], from <s> to </s>


def batches(
    lengths: Sequence[tuple[int, int]], batch_tokens: int, rng: random.Random
) -> list[list[int]]:
    """Pairs of like length together, each batch at most batch_tokens of padded source or target.

    `lengths` are (source, target) token counts; the answer is lists of indices, in random order.
    """
    order = sorted(range(len(lengths)), key=lambda i: (*lengths[i][::-1], rng.random()))
    found: list[list[int]] = [[]]
    widest = 0
    for i in order:
        widest = max(widest, *lengths[i])
        if found[-1] and widest * (len(found[-1]) + 1) > batch_tokens:
            found.append([])
            widest = max(lengths[i])
        found[-1].append(i)
    rng.shuffle(found)
    return found
