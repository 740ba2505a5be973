"""Attention is held against a dictionary that is learned from the pairs alone."""

import random
from collections import defaultdict
from itertools import islice

import pytest
import torch

from lab import alignment, data
from lab.alignment import Dictionary, attention_alignment, model_one, words
from lab.data import Pair
from lab.model import Checkpoint, Config, build, initialise
from lab.tokens import Tokenizer

RENAMED = {word: word.upper() for word in "ant bee cat dog elk fox gnu hen ibex jay".split()}


def sentences(count: int, seed: int = 0) -> tuple[list[list[str]], list[list[str]]]:
    """Words in any order, and each one's translation in another order."""
    rng = random.Random(seed)
    sources = [rng.sample(list(RENAMED), rng.randint(2, 5)) for _ in range(count)]
    targets = [[RENAMED[word] for word in rng.sample(source, len(source))] for source in sources]
    return sources, targets


def test_model_one_finds_a_dictionary_without_seeing_it():
    """From which words stand in both sentences of a pair follows which translates which."""
    table = model_one(*sentences(200))

    assert all(table[word, translation] > 0.9 for word, translation in RENAMED.items())


def test_model_one_gives_probabilities():
    """What a word becomes sums to one."""
    totals: defaultdict[str, float] = defaultdict(float)
    for (word, _), probability in model_one(*sentences(40), rounds=3).items():
        totals[word] += probability

    assert set(totals) == set(RENAMED)
    assert all(total == pytest.approx(1) for total in totals.values())


def test_the_dictionary_links_only_what_is_sure(monkeypatch):
    """No link for a function word, for a word that stands twice, for a word never seen."""
    monkeypatch.setattr(alignment, "FUNCTION_WORDS", 0)
    known = Dictionary.learn(*sentences(200))

    assert known.links(["cat", "elk"], ["ELK", "CAT"]) == [(1, 0), (0, 1)]
    assert known.links(["cat", "cat", "elk"], ["ELK", "CAT"]) == [(2, 0)]
    assert known.links(["cat", "yak"], ["YAK", "CAT"]) == [(0, 1)]
    known.content[1].discard("CAT")
    assert known.links(["cat", "elk"], ["ELK", "CAT"]) == [(1, 0)]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([" A", " bas", "ket", "ball", "."], ["A", "basketball", "."]),
        ([" it", "'", "s"], ["it", "'", "s"]),
        ([" 我", "们", "喝", "茶", "。"], ["我", "们", "喝", "茶", "。"]),
        ([" Gar", "ten", "zaun"], ["Gartenzaun"]),
        ([], []),
    ],
)
def test_pieces_are_put_together_to_words(pieces, expected):
    assert ["".join(pieces[place]).strip() for place in words(pieces)] == expected


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    pairs = list(islice(data.toy(), 300))
    tokenizer = Tokenizer.train([text for pair in pairs for text in pair[:2]], 500)
    config = Config(vocab_size=len(tokenizer), d_model=16, n_heads=2, n_layers=3, d_ff=24)
    model = build(config)
    initialise(model, seed=0)
    return Checkpoint(model, tokenizer, config, "en", "de")


def test_attention_that_looks_where_the_dictionary_says_is_all_right(checkpoint, monkeypatch):
    """Weights on the first piece of the right word give 100 %, beside it 0 %, evenly the first."""
    train, held_out = list(islice(data.toy(), 300)), list(islice(data.toy(9), 20))
    monkeypatch.setattr(alignment, "FUNCTION_WORDS", 10)
    tokenizer = checkpoint.tokenizer
    known = Dictionary.learn(
        *([alignment._lowered(tokenizer, pair[side]) for pair in train] for side in (0, 1))
    )

    def looking(checkpoint: Checkpoint, pair: Pair) -> torch.Tensor:
        source, target = (tokenizer.pieces(tokenizer.encode(text)[:-1]) for text in pair[:2])
        weights = torch.zeros(3, len(target) + 1, len(source) + 1)
        links = known.links(*(alignment._lowered(tokenizer, text) for text in pair[:2]))
        places = words(source), words(target)
        for s, t in links:
            beside = (s + 1) % len(places[0])
            weights[0, places[1][t], places[0][s].start] = 1
            weights[1, places[1][t], places[0][beside].start] = 1
        return weights

    monkeypatch.setattr(alignment, "_cross_attention", looking)
    found = attention_alignment(checkpoint, train, held_out)

    assert found.layers[:2] == [1.0, 0.0] and found.best == 0
    assert found.words > 20
    assert 0 < found.layers[2] < 0.5, "weights that are all alike peak at the first word"


def test_a_model_that_has_learned_nothing_guesses(checkpoint, monkeypatch):
    """Asked of random weights, the share is about that of a guess."""
    monkeypatch.setattr(alignment, "FUNCTION_WORDS", 10)
    found = attention_alignment(
        checkpoint, list(islice(data.toy(), 300)), list(islice(data.toy(9), 60))
    )

    assert len(found.layers) == 3
    assert all(share < 3 * found.chance for share in found.layers)


def test_without_a_known_word_there_is_no_answer(checkpoint):
    with pytest.raises(ValueError, match="knows no content word"):
        attention_alignment(checkpoint, [Pair("a", "b")], [Pair("c", "d")])
