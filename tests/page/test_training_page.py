"""The answers of the Training tab."""

import json

import pytest
import torch

from lab.learning import STEPS
from lab.page import server
from lab.page.questions import Refused
from lab.page.training import REFERENCES, SMOOTHINGS, WARM_UPS, WIDTHS, learned, taught
from lab.translation import translate

SENTENCE = "Two dogs are playing in the snow."
ASK = {"pair": "en-de", "text": SENTENCE}
RUN = {"width": 0, "warmup": 4, "smoothing": 1}


@pytest.fixture(scope="module")
def checkpoints():
    return server.load(torch.device("cpu"))


@pytest.mark.parametrize("reference", [None, "", " ", 7, ["Hund"]])
def test_without_a_reference_it_is_the_translation(checkpoints, reference):
    """Guided and alone the same; the field is told what is in it."""
    found = taught(checkpoints, ASK | {"reference": reference})

    assert found["reference"] == translate(checkpoints["en-de"], [SENTENCE])[0].text
    assert [each["own"] for each in found["places"]] == [each["piece"] for each in found["places"]]


@pytest.mark.parametrize(
    "pair, text, reference",
    [(pair, *each) for pair, known in REFERENCES.items() for each in known.items()],
)
def test_the_first_reference_is_another_translation(checkpoints, pair, text, reference):
    """Of the sentence that is on show first; guided the model finds it likelier than alone."""
    assert text == checkpoints[pair].examples[0]

    found = taught(checkpoints, {"pair": pair, "text": text, "reference": reference})

    places = found["places"]
    assert found["reference"] == reference != translate(checkpoints[pair], [text])[0].text
    guided, alone = (
        [each[how] or 0 for each in places if each["own"]] for how in ("guided", "alone")
    )
    assert sum(guided) > sum(alone)


@pytest.mark.parametrize("text", ["<img src=x onerror=alert(1)> 🙂", "dog " * 55, "a"])
def test_odd_references_are_read_like_any_other(checkpoints, text):
    """Whatever is typed there, the answer is JSON without NaN."""
    found = taught(checkpoints, ASK | {"reference": text})

    json.dumps(found, allow_nan=False)
    assert found["reference"] == text


@pytest.mark.parametrize("reference", ["x" * 401, "xq " * 130, "两" * 300])
def test_a_reference_too_long_is_refused(checkpoints, reference):
    """As a sentence is."""
    with pytest.raises(Refused):
        taught(checkpoints, ASK | {"reference": reference})


def test_a_run_is_the_small_model_s(checkpoints):
    """With the settings at these places of the lists; learned once, then known."""
    found = learned(RUN | {"shifted": True})

    assert len(found["losses"]) == STEPS
    assert found["guided"] > 0.9
    assert {name: found[name] for name in RUN} == RUN and found["shifted"] is True
    assert learned(RUN)["losses"] is found["losses"]
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    "wrong",
    [
        {"width": len(WIDTHS)},
        {"warmup": len(WARM_UPS)},
        {"smoothing": len(SMOOTHINGS)},
        {"warmup": -1},
        {"smoothing": 0.1},
        {"width": None},
    ],
)
def test_settings_that_are_none(wrong):
    """Nobody has the page train a model of their own size."""
    with pytest.raises(Refused, match="must be a whole number"):
        learned(RUN | wrong)
