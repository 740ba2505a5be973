"""What training asks of a model, and the small model that learns: worked out another way."""

import math

import pytest
import torch
import torch.nn.functional as F
from a_checkpoint import SENTENCES, a_checkpoint, for_each_checkpoint

from lab.learning import LENGTH, STEPS, learn, taught
from lab.steps import follow, read_back
from lab.tokens import BOS_ID
from lab.translation import encode

SENTENCE = SENTENCES[0]
REFERENCE = SENTENCES[1]  # as good as any: a toy checkpoint knows no German


@for_each_checkpoint
def test_places_are_what_the_loss_is_made_of(name):
    """Of any smoothing: torch's cross-entropy, of the model's own logits."""
    checkpoint = a_checkpoint(name)
    ids = checkpoint.tokenizer.encode(REFERENCE)
    source = encode(checkpoint, [SENTENCE])[0]
    with torch.no_grad():
        logits = checkpoint.model(torch.tensor([source]), torch.tensor([[BOS_ID, *ids[:-1]]]))[0]

    places = taught(checkpoint, SENTENCE, REFERENCE)

    assert [place.piece for place in places] == checkpoint.tokenizer.pieces(ids)
    for smoothing in (0, 0.1, 1):
        expected = F.cross_entropy(logits, torch.tensor(ids), label_smoothing=smoothing)
        losses = [(1 - smoothing) * each.surprise + smoothing * each.of_all for each in places]
        assert sum(losses) / len(losses) == pytest.approx(expected.item(), rel=1e-4)
    for place in places:
        assert place.guided == pytest.approx(math.exp(-place.surprise))


@for_each_checkpoint
def test_alone_the_model_reads_its_own_words(name):
    """Its own translation as the reference: guided and alone agree, as the steps have them. Another
    one: the steps' pieces, and of the reference's what they say after these."""
    checkpoint = a_checkpoint(name)
    path = follow(checkpoint, [SENTENCE])[0]

    other = taught(checkpoint, SENTENCE, REFERENCE)

    if name != "tiny":  # whose translation is bytes that are no text
        chances = [step.chosen.probability for step in path.steps]
        same = taught(checkpoint, SENTENCE, path.translation.text)
        assert [each.guided for each in same] == pytest.approx(chances, rel=1e-3)
        assert [each.alone for each in same] == pytest.approx(chances, rel=1e-3)
        assert all(each.favourite == each.own == each.piece for each in same)
    written = path.translation.target_pieces[: len(other)]
    assert [each.own for each in other] == written + [None] * (len(other) - len(written))
    first = other[0]
    assert first.alone == pytest.approx(first.guided, rel=1e-4)  # both have read <s>
    guided = read_back(
        checkpoint, encode(checkpoint, [SENTENCE])[0], checkpoint.tokenizer.encode(REFERENCE)
    )
    assert [each.favourite for each in other] == [step.candidates[0].piece for step in guided]
    assert all((each.alone is None) == (each.own is None) for each in other)


def test_a_reference_has_room():
    """As long as the model writes, not longer."""
    with pytest.raises(ValueError, match="a reference of .* tokens is too long"):
        taught(a_checkpoint("tiny"), SENTENCE, "dog " * 40)


def test_the_small_model_learns():
    """Most digits right, guided and alone, near the floor; the same run again is the same."""
    found = learn()

    assert len(found.losses) == STEPS and len(found.source) == len(found.said) == LENGTH
    assert found.guided > 0.9 and found.alone > 0.8
    target = [0.9 + 0.1 / 11] + [0.1 / 11] * 10
    assert found.floor == pytest.approx(-sum(p * math.log(p) for p in target))
    assert found.floor < found.losses[-1] < found.floor + 0.4 < 2 < found.losses[0]
    assert learn(steps=3).losses == learn(steps=3).losses == found.losses[:3]


def test_the_small_model_breaks():
    """Steps too large at the start, a target of nothing, an answer in plain sight."""
    large, nothing, seen = learn(warmup=1), learn(smoothing=1.0), learn(shifted=False)

    assert large.guided < 0.3 and large.losses[-1] > 2
    assert nothing.guided < 0.3 and nothing.floor == pytest.approx(math.log(11))
    assert nothing.losses[-1] == pytest.approx(nothing.floor, abs=0.05)
    assert seen.guided > 0.95 and seen.alone < 0.3
