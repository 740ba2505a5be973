"""The shipped models on real sentences: fast and plain search, and both kinds of parts, agree."""

from itertools import islice

import pytest
import torch

from lab import data, stock
from lab.decoding import beam_decode, greedy_decode
from lab.model import Checkpoint, shipped
from lab.parts import from_package, using
from lab.tokens import BOS_ID, EOS_ID, pad
from lab.translation import Search, entropy, translate
from solutions import decoding as plain

SENTENCES = [pair.source for pair in islice(data.toy(seed=1), 200)]


@pytest.fixture(scope="module", params=["en-de", "en-zh"])
def checkpoint(request):
    return Checkpoint.load(shipped()[request.param])


@pytest.fixture(scope="module")
def sources(checkpoint):
    return pad(checkpoint.tokenizer.encode_all(SENTENCES))


@pytest.mark.parametrize("cache", [True, None])  # the readable cache, and lab.fast
def test_cached_greedy_writes_what_the_lesson_s_function_writes(checkpoint, sources, cache):
    """200 sentences, token for token."""
    fast = greedy_decode(checkpoint.model, sources, BOS_ID, EOS_ID, max_len=40, cache=cache)
    slow = plain.greedy_decode(checkpoint.model, sources, BOS_ID, EOS_ID, max_len=40)

    assert torch.equal(fast, slow)


@pytest.mark.parametrize("cache", [True, None])
def test_batched_beam_finds_what_the_lesson_s_function_finds(checkpoint, sources, cache):
    """The same hypotheses in the same order, with the same scores."""
    some = sources[:12]
    fast = beam_decode(checkpoint.model, some, BOS_ID, EOS_ID, beam_size=3, max_len=30, cache=cache)

    for source, found in zip(some, fast, strict=True):
        slow = plain.beam_search(
            checkpoint.model, source[None], BOS_ID, EOS_ID, beam_size=3, max_len=30
        )
        assert [ids for ids, _ in found] == [ids for ids, _ in slow]
        assert [s for _, s in found] == pytest.approx([s for _, s in slow], abs=1e-4)


def test_the_reference_runs_the_trained_weights(checkpoint):
    """A model built from solutions/ loads the shipped weights and translates alike."""
    stock = translate(checkpoint, SENTENCES[:40])

    with using(from_package("solutions")):
        explicit = Checkpoint.load(shipped()[checkpoint.pair])
        found = translate(explicit, SENTENCES[:40])
    assert [one.text for one in found] == [one.text for one in stock]


def test_a_sentence_is_translated_alike_alone_and_in_company(checkpoint):
    """Padding and batch mates change nothing."""
    together = translate(checkpoint, SENTENCES[:20], explain=True)

    for sentence, expected in zip(SENTENCES[:20], together, strict=True):
        alone = translate(checkpoint, [sentence], explain=True)[0]
        assert alone.text == expected.text
        assert alone.log_probability == pytest.approx(expected.log_probability, abs=1e-3)
        for kind, weights in alone.attention.items():
            torch.testing.assert_close(weights, expected.attention[kind], atol=1e-4, rtol=0)


def test_beam_search_finds_more_probable_sentences_than_greedy(checkpoint):
    """Over 40 sentences, with no length penalty, the mean log-probability does not fall."""
    greedy = translate(checkpoint, SENTENCES[:40], explain=True)
    search = Search("beam", beam_size=5, length_penalty=0.0)
    beam = translate(checkpoint, SENTENCES[:40], search, explain=True)

    gain = [b.log_probability - g.log_probability for b, g in zip(beam, greedy, strict=True)]
    assert sum(gain) > 0


def test_the_log_probability_is_that_of_the_pieces_shown():
    """Multiplied out by hand from the model's own next-token probabilities."""
    checkpoint = Checkpoint.load(shipped()["en-de"])
    found = translate(checkpoint, ["A dog is running."], explain=True)[0]
    source = pad([checkpoint.tokenizer.encode("A dog is running.")])
    ids = [BOS_ID, *checkpoint.tokenizer.encode(found.text)]

    total = 0.0
    with torch.no_grad():
        for t in range(1, len(ids)):
            logits = checkpoint.model(source, torch.tensor([ids[:t]]))[0, -1]
            total += logits.log_softmax(-1)[ids[t]].item()

    assert found.log_probability == pytest.approx(total, abs=1e-3)


class Blank(stock.DecoderLayer):
    """A decoder layer with the right names that forgets everything."""

    def forward(self, x, memory, self_mask=None, cross_mask=None):
        return torch.zeros_like(x)


def test_somebody_s_part_shows_what_it_does():
    """A wrong decoder layer translates wrongly: no cache computes around it."""
    right = translate(Checkpoint.load(shipped()["en-de"]), ["A dog is running."])[0]

    with using({"DecoderLayer": Blank}):
        wrong = translate(Checkpoint.load(shipped()["en-de"]), ["A dog is running."])[0]
    assert wrong.text != right.text


@pytest.mark.parametrize("method", ["greedy", "beam", "sample"])
def test_somebody_s_search_is_the_one_that_searches(method):
    """A chosen decoding part writes the translation."""
    checkpoint = Checkpoint.load(shipped()["en-de"])
    said = checkpoint.tokenizer.encode("Hallo.")
    part = {"greedy": "greedy_decode", "beam": "beam_search", "sample": "sample_decode"}[method]

    def mine(model, src, bos_id, eos_id, *settings):
        ids = [bos_id, *said]
        return [(ids, 0.0)] if method == "beam" else torch.tensor([ids] * len(src))

    with using({part: mine}):
        found = translate(checkpoint, ["A dog.", "Two cats."], Search(method))
    assert [one.text for one in found] == ["Hallo.", "Hallo."]


def test_a_translation_that_was_cut_says_so():
    """max_len counts <s>; what reached </s> has ended."""
    checkpoint = Checkpoint.load(shipped()["en-de"])

    cut = translate(checkpoint, ["A man is sleeping on a bench."], max_len=4)[0]
    whole = translate(checkpoint, ["A man is sleeping on a bench."])[0]

    assert (cut.ended, len(cut.target_pieces)) == (False, 3)
    assert whole.ended and whole.target_pieces[:3] == cut.target_pieces


def test_entropy_is_counted_in_bits():
    """One key alone is 0 bits, four alike are 2 bits."""
    weights = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.25, 0.25, 0.25, 0.25]])

    torch.testing.assert_close(entropy(weights), torch.tensor([0.0, 2.0]))
