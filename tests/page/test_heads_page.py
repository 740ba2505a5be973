"""The Heads tab without a browser: two translations, a table in slices, and what is refused."""

import base64
import json
import math

import numpy as np
import pytest
import torch

from lab.heads import Head, heads_of, importance, switch_off
from lab.model import Checkpoint, shipped
from lab.page import heads as tab
from lab.page.questions import Refused, sentence
from lab.steps import follow

SENTENCE = "A brown dog is running in the snow."
LINES = ["A man is sleeping.", "Two dogs are playing."]
SOME = [["cross", 2, 1], ["decoder", 0, 0]]


@pytest.fixture(scope="module")
def checkpoints():
    return {pair: Checkpoint.load(folder) for pair, folder in shipped().items()}


@pytest.fixture
def switching(checkpoints):
    return tab.switching(checkpoints)


@pytest.fixture
def measuring(checkpoints):
    return tab.measuring(checkpoints)


def ask(switching, off, text=SENTENCE, pair="en-de"):
    return switching({"pair": pair, "text": text, "off": off})


def test_both_translations_are_the_models(checkpoints, switching):
    """Before and after are what the models with and without these heads write."""
    value = ask(switching, SOME)

    expected = switch_off(checkpoints["en-de"], SENTENCE, SOME)
    assert value["before"]["text"] == expected.before.translation.text
    assert value["after"]["text"] == expected.after.translation.text
    assert value["change"] == pytest.approx(expected.change, rel=1e-3)
    json.dumps(value, allow_nan=False)


def test_pieces_add_up_to_the_log_probability(switching):
    """The probabilities of the pieces multiply to that of the sentence, before and after."""
    value = ask(switching, SOME)

    before, after = (sum(map(math.log, side)) for side in zip(*value["chances"], strict=True))
    assert before == pytest.approx(value["before"]["log_probability"], abs=0.01)
    assert after - before == pytest.approx(value["change"], abs=0.01)


def test_nothing_off_changes_nothing(switching):
    """All heads on: twice the same."""
    value = ask(switching, [])

    assert value["before"] == value["after"]
    assert value["change"] == 0
    assert all(before == now for before, now in value["chances"])


def test_a_model_without_cross_attention_reads_nothing(checkpoints, switching):
    """All its heads off: any source gives the same translation."""
    off = [list(head) for head in heads_of(checkpoints["en-de"], "cross")]

    one, other = ask(switching, off), ask(switching, off, text="Three women cook.")

    assert one["after"]["text"] == other["after"]["text"]
    assert one["before"]["text"] != other["before"]["text"]


def test_switches_show_what_each_head_looks_at(checkpoints, switching):
    """The pictures on the switches are the weights of the translation with all heads."""
    value = ask(switching, SOME)

    attention = follow(checkpoints["en-de"], [SENTENCE], explain=True)[0].translation.attention
    for kind, weights in attention.items():
        numbers = np.frombuffer(base64.b64decode(value["attention"][kind]["data"]), "<u2") / 65_535
        expected = weights.double().flatten()
        torch.testing.assert_close(torch.from_numpy(numbers), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("off", [
    None, 7, "cross", {"cross": 1}, [["cross", 9, 0]], [["cross", -1, 0]], [["sideways", 0, 0]],
    [["cross", 0]], ["cross"], [None], [[["cross"], 0, 0]], [["cross", 0, 0], ["cross", 0, 0]],
    [["cross", 0.5, 0]], [["cross", 0, 0, 0]], [["cross", 0, 0]] * 10_000,
])  # fmt: skip
def test_heads_that_are_none_are_refused(switching, off):
    """Whatever a browser sends as heads, the answer is one sentence."""
    with pytest.raises(Refused, match="cannot be switched off"):
        ask(switching, off)


# The table


def table(measuring, lines=LINES, pair="en-de"):
    """Asks until all rows are there, as the browser does."""
    rows, total, questions = [], 1, 0
    while len(rows) < total:
        value = measuring({"pair": pair, "sentences": lines, "done": len(rows)})
        assert value["rows"] and value["done"] == len(rows)
        total, questions = value["total"], questions + 1
        rows += value["rows"]
    return rows, questions


def test_slices_make_the_whole_table(checkpoints, measuring, monkeypatch):
    """However short a slice, the rows are those of lab.heads, each head once."""
    monkeypatch.setattr(tab, "SLICE", 0)
    rows, questions = table(measuring, LINES[:1])

    expected = importance(checkpoints["en-de"], LINES[:1])
    assert questions == len(expected) == len(heads_of(checkpoints["en-de"]))
    for row, one in zip(rows, expected, strict=True):
        assert Head(row["kind"], row["layer"], row["head"]) == one.head
        assert row["loss"] == pytest.approx(one.loss, abs=1e-3)
        assert row["label"] == one.label
    json.dumps(rows, allow_nan=False)


def test_a_table_that_is_known_comes_at_once(measuring, monkeypatch):
    """The second visitor with the same sentences waits for nothing; other sentences are measured
    for themselves."""
    first, _ = table(measuring)
    monkeypatch.setattr(tab, "importance", None)  # no model call from here on

    assert table(measuring) == (first, 1)
    with pytest.raises(TypeError):
        table(measuring, LINES[:1])


def test_a_label_stands_beside_the_rule_that_gave_it(checkpoints, measuring):
    """Where a label is given its rule holds, and those before it do not; "none" where none does."""
    order = list(tab.RULES)
    seen = set()
    for row in table(measuring, tab.SENTENCES["en-de"][:4])[0]:
        holds = [
            name
            for name, (reads, least) in tab.RULES.items()
            if row["habits"][reads] is not None and row["habits"][reads] >= least
        ]
        assert row["label"] == (holds or ["none"])[0]
        seen.add(row["label"])

    assert order[0] == "sink" and {"alignment", "none"} <= seen


@pytest.mark.parametrize("pair", ["en-de", "en-fr", "en-zh"])
def test_default_sentences_can_be_measured(checkpoints, pair):
    """The shipped list fits its model and the page's limit, each sentence once."""
    lines = tab.SENTENCES[pair]

    assert 10 <= len(lines) == len(set(lines)) <= tab.MAX_SENTENCES
    for line in lines:
        sentence(checkpoints, {"pair": pair, "text": line})


def test_ones_own_model_is_measured_on_its_own_kind_of_sentences(checkpoints):
    """The shipped list was made for the shipped model; another one brings its examples."""
    found = tab.defaults(checkpoints, own="en-de")

    assert found == {
        "en-de": list(checkpoints["en-de"].examples),
        "en-fr": tab.SENTENCES["en-fr"],
        "en-zh": tab.SENTENCES["en-zh"],
    }


@pytest.mark.parametrize(("question", "said"), [
    ({"sentences": []}, "no sentences"),
    ({"sentences": None}, "no sentences"),
    ({"sentences": "A dog."}, "no sentences"),
    ({"sentences": ["A dog."] * 21}, "21 sentences, the table takes 20"),
    ({"sentences": ["A dog.", "两个男人"]}, "Sentence 2: .*Chinese characters"),
    ({"sentences": ["A dog.", 7]}, "Sentence 2: .*nothing to translate"),
    ({"sentences": ["A dog.", "a" * 401]}, "Sentence 2: .*401 characters"),
    ({"done": -1}, "done must be a whole number from 0 to 35"),
    ({"done": 36}, "done must be a whole number from 0 to 35"),
    ({"done": True}, "done must be"),
    ({"pair": "xx-yy"}, "pair must be one of"),
    ({"pair": ["en-de"]}, "pair must be one of"),
])  # fmt: skip
def test_what_cannot_be_measured_is_told_what_to_do(measuring, question, said):
    """Each refusal is one sentence that names the line or the field."""
    with pytest.raises(Refused, match=said):
        measuring({"pair": "en-de", "sentences": LINES, "done": 0} | question)
