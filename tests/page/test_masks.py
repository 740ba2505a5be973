"""The answers of the Masks and positions tab: laws that hold whatever was painted or broken."""

import base64
import json
import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from lab.course import PARTS
from lab.faults import FAULTS
from lab.page import server
from lab.page.masks import FAULT_GROUPS, FAULT_NAMES, LENGTH, broken, painted, shuffled, waves
from lab.page.questions import Refused
from lab.recording import KINDS
from lab.translation import translate

SENTENCE = "Two dogs are playing in the snow."
STEP = 2 / 65_535  # two packed numbers may be rounded apart
ASK = {"pair": "en-de", "text": SENTENCE}


@pytest.fixture(scope="module")
def checkpoints():
    return server.load(torch.device("cpu"))


def numbers(packed):
    """What the browser unpacks, [first axis, rows, columns]."""
    found = np.frombuffer(base64.b64decode(packed["data"]), "<u2") / 65_535
    return torch.from_numpy(found).view(-1, packed["rows"], packed["columns"])


def paint(checkpoints, kind, change=None, **others):
    """The answer for a mask that `change` has made of the model's own, a [T, S] of booleans."""
    ask = ASK | {"kind": kind, "layer": 1} | others
    own = painted(checkpoints, ask)
    if change is None:
        return own
    mask = torch.tensor([[cell == "1" for cell in row] for row in own["own"]])
    change(mask)
    return painted(checkpoints, ask | {"mask": ["".join("01"[c] for c in row) for row in mask]})


# Paint a mask


@pytest.mark.parametrize("pair", ["en-de", "en-fr", "en-zh"])
@pytest.mark.parametrize("kind", KINDS)
def test_before_painting_all_is_the_model_s_own(checkpoints, pair, kind):
    """Mask, tokens, weights and probabilities are those of the translation."""
    found = paint(checkpoints, kind, pair=pair)

    expected = translate(checkpoints[pair], [SENTENCE], explain=True)[0]
    source, target = expected.source_pieces, expected.target_pieces
    axes = {
        "encoder": (source, source),
        "decoder": (target, ["<s>", *target[:-1]]),
        "cross": (target, source),
    }
    assert (found["queries"], found["keys"]) == axes[kind]
    assert found["mask"] == found["own"]
    assert_close(
        numbers(found["weights"]["before"]), expected.attention[kind][1].double(), atol=STEP, rtol=0
    )
    assert [step["piece"] for step in found["steps"]] == target
    assert found["sum"]["before"] == pytest.approx(expected.log_probability, abs=2e-3)
    assert found["sum"]["before"] == found["sum"]["after"]
    assert not any(step["differs"] for step in found["steps"])
    assert max(found["output"]) < 1e-5


@pytest.mark.parametrize("kind", KINDS)
def test_a_closed_column_gets_no_weight_and_the_others_share_it(checkpoints, kind):
    """Masking one key is attention to the rest: what they had, divided by its sum."""
    column = 2

    def close(mask):
        mask[:, column] = False

    found = paint(checkpoints, kind, close)

    before, after = numbers(found["weights"]["before"]), numbers(found["weights"]["after"])
    assert not after[..., column].any()
    assert all(row[column] == "0" for row in found["mask"])
    left = before.clone()
    left[..., column] = 0
    sums = left.sum(-1, keepdim=True)
    assert_close(after, left / sums, atol=5e-3, rtol=0)  # rounding grows as the sum shrinks
    assert max(found["output"]) > 0.01
    assert found["sum"]["after"] != found["sum"]["before"]


def test_who_may_look_at_nothing_gets_zeros(checkpoints):
    """A softmax over nothing is nothing, by contract: no NaN, in this row or elsewhere."""

    def close(mask):
        mask[3] = False

    found = paint(checkpoints, "decoder", close)

    after = numbers(found["weights"]["after"])
    assert not after[:, 3].any()
    assert_close(after[:, 4].sum(-1), torch.ones(4).double(), atol=1e-3, rtol=0)
    json.dumps(found, allow_nan=False)


def test_the_past_does_not_hang_on_a_later_row(checkpoints):
    """What the decoder's fifth row may see changes its own prediction, and none before it."""

    def close(mask):
        mask[4, :4] = False

    found = paint(checkpoints, "decoder", close)

    assert [share < 1e-4 for share in found["output"]][:6] == [True] * 4 + [False, True]
    changes = [step["after"] - step["before"] for step in found["steps"]]
    assert changes[:4] == pytest.approx([0] * 4, abs=1e-4)
    assert abs(changes[4]) > 1e-3


def test_steps_name_what_is_now_most_probable(checkpoints):
    """Without the source the model goes on otherwise, and says with what."""

    def close(mask):
        mask[:] = False

    found = paint(checkpoints, "cross", close, layer=2)

    others = [step for step in found["steps"] if step["differs"]]
    assert others
    assert all(step["now"] != step["piece"] and step["after"] <= 0.5 for step in others)


BAD_MASKS = ["1" * 81, 7, {}, [], [["1"] * 9] * 9, ["1" * 9] * 8, ["1" * 8] * 9, ["2" * 9] * 9]


@pytest.mark.parametrize("mask", BAD_MASKS)
def test_masks_that_do_not_fit_are_told_the_size(checkpoints, mask):
    """Whatever a browser sends in its place, the answer says what a mask is."""
    size = len(paint(checkpoints, "encoder")["own"])
    assert size == 9  # so that each is wrong in one way

    with pytest.raises(Refused, match="has 9 rows of 9 cells"):
        painted(checkpoints, ASK | {"kind": "encoder", "layer": 0, "mask": mask})


@pytest.mark.parametrize("wrong", [{"kind": "self"}, {"kind": None}, {"layer": 3}, {"layer": True}])
def test_an_attention_that_is_not_there_is_refused(checkpoints, wrong):
    """Kinds and layers are the model's."""
    with pytest.raises(Refused, match="must be"):
        painted(checkpoints, ASK | {"kind": "cross", "layer": 0} | wrong)


# Break a part


def break_with(checkpoints, *faults, **others):
    return broken(checkpoints, ASK | {"faults": [*faults]} | others)


def test_each_fault_is_known_and_names_its_lesson():
    """All there are, each once; the lesson is that of the first part it replaces."""
    assert sorted(FAULT_NAMES.values()) == sorted(FAULTS)
    assert PARTS["causal_mask"].name == "02-masks"
    assert next(iter(FAULTS[FAULT_NAMES["forgot"]])) == "causal_mask"
    assert lessons_of("add_norm") == {"05-add-norm"}
    assert lessons_of("feed_forward") == {"06-feed-forward"}


def lessons_of(group):
    faults = FAULT_GROUPS[group].values()
    return {PARTS[part].name for fault in faults for part in FAULTS[fault]}


@pytest.mark.parametrize("pair", ["en-de", "en-fr", "en-zh"])
def test_without_a_fault_both_sides_are_the_translation(checkpoints, pair):
    """The left side never changes; the right one is the same until something is switched on."""
    found = break_with(checkpoints, pair=pair)

    expected = translate(checkpoints[pair], [SENTENCE])[0]
    assert found["right"] == found["wrong"]
    assert found["right"]["text"] == expected.text
    assert found["change"] == pytest.approx(0, abs=1e-4)
    assert found["layers"][0] == found["layers"][1]


def test_the_weights_show_the_fault(checkpoints):
    """Forgotten: weight above the diagonal. Upside down: none on the source, none on the past.
    Late: rows that sum to less than one. Over the queries: columns that sum to one."""
    names = ("forgot", "upside_down", "late", "over_queries")
    found = {name: break_with(checkpoints, name) for name in names}
    decoder = {name: numbers(each["wrong"]["weights"]["decoder"]) for name, each in found.items()}
    right = numbers(found["late"]["right"]["weights"]["decoder"])

    assert not right.triu(1).any()
    assert_close(right.sum(-1), torch.ones(right.shape[:-1]).double(), atol=1e-3, rtol=0)
    assert (decoder["forgot"].triu(1).sum((-1, -2)) > 0.1).all()
    assert not decoder["upside_down"].tril().any()
    assert not numbers(found["upside_down"]["wrong"]["weights"]["cross"]).any()
    assert not decoder["late"].triu(1).any() and (decoder["late"].sum(-1) < 0.9).any()
    reading = numbers(found["over_queries"]["wrong"]["weights"]["encoder"])
    assert_close(reading.sum(-2), torch.ones(reading.shape[:-1]).double(), atol=1e-3, rtol=0)
    assert found["upside_down"]["change"] < -10
    assert found["upside_down"]["right"]["text"] != found["upside_down"]["wrong"]["text"]


def test_the_layers_show_the_fault(checkpoints):
    """Without the norm the numbers grow a hundredfold, without the residual tokens become one."""
    no_norm, no_residual = (break_with(checkpoints, name) for name in ("no_norm", "no_residual"))

    (right, grown), (_, same) = no_norm["layers"], no_residual["layers"]
    assert len(right) == len(grown) == 2 * checkpoints["en-de"].config.n_layers
    assert right[-1]["size"] < 2 < 200 < grown[-1]["size"]
    assert right[-1]["alike"] < 0.5 < 0.95 < same[-1]["alike"]


def test_upside_down_all_sentences_are_one(checkpoints):
    """Nothing of the source is seen."""
    one, other = (
        break_with(checkpoints, "upside_down", text=text) for text in (SENTENCE, "A man sleeps.")
    )

    assert one["wrong"]["text"] == other["wrong"]["text"]
    assert one["right"]["text"] != other["right"]["text"]


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        (None, "faults must be one of: forgot"),
        ("late", "faults must be one of: forgot"),
        (["forgot"] * 13, "faults must be one of: forgot"),
        (["mask upside down"], "faults must be one of: forgot"),
        ([["late"]], "faults must be one of: forgot"),
        (["late", "upside_down"], "choose one"),
        (["gelu", "mixed"], "choose one"),
    ],
)
def test_faults_that_are_none(checkpoints, faults, said):
    """Names are checked, and two attentions cannot be one."""
    with pytest.raises(ValueError, match=said):
        broken(checkpoints, ASK | {"faults": faults})


# Positions


def test_the_table_is_the_paper_s(checkpoints):
    """Sine and cosine of position / 10000^(2i/d), as the paper's §3.5 has them."""
    found = waves(checkpoints, ASK)

    table = 2 * numbers(found["table"])[0] - 1
    d_model = checkpoints["en-de"].config.d_model
    assert table.shape == (LENGTH, d_model)
    for feature in (0, 1, 6, 7, d_model - 1):
        wave = (math.sin, math.cos)[feature % 2]
        speed = 10_000 ** (-(feature // 2 * 2) / d_model)
        expected = torch.tensor([wave(place * speed) for place in range(LENGTH)]).double()
        assert_close(table[:, feature], expected, atol=1e-4, rtol=0)
        length = found["wavelengths"][feature // 2]
        assert length == pytest.approx(2 * math.pi / speed, rel=1e-3)


def test_products_hang_on_the_distance_alone(checkpoints):
    """Along a diagonal they differ by rounding; their size is the sum of the cosines."""
    found = waves(checkpoints, ASK)

    products = found["most"] * (2 * numbers(found["products"])[0] - 1)
    d_model = checkpoints["en-de"].config.d_model
    assert found["spread"] < 1e-3
    for distance in (0, 1, 30, LENGTH - 1):
        expected = sum(
            math.cos(distance * 10_000 ** (-2 * i / d_model)) for i in range(d_model // 2)
        )
        assert found["by_distance"][distance] == pytest.approx(expected, abs=0.01)
        assert products.diagonal(distance) == pytest.approx(
            np.full(LENGTH - distance, expected), abs=0.01
        )


def test_positions_of_no_model_are_refused(checkpoints):
    """There are as many features as the chosen model has."""
    with pytest.raises(Refused, match="pair must be one of: en-de, en-fr, en-zh"):
        waves(checkpoints, {"pair": "xx"})


# Shuffle


@pytest.mark.parametrize("pair", ["en-de", "en-fr", "en-zh"])
@pytest.mark.parametrize("order", ["random", "reversed"])
def test_the_same_attention_shuffled(checkpoints, pair, order):
    """Without positions the weights come back to their places and the translation stays; with them
    they do not, and the unshuffled one is the model's own."""
    found = shuffled(checkpoints, ASK | {"pair": pair, "order": order, "seed": 1})

    places = found["order"]
    expected = translate(checkpoints[pair], [SENTENCE])[0]
    assert found["pieces"] == expected.source_pieces
    assert sorted(places) == [*range(len(places))] != places and places[-1] == len(places) - 1
    if order == "reversed":
        assert places[:-1] == [*range(len(places) - 1)][::-1]
    apart = {}
    for which in ("on", "off"):
        before, after = (numbers(found[which]["weights"][when]) for when in ("before", "after"))
        back = torch.empty_like(after)
        for row, place in enumerate(places):
            for column, other in enumerate(places):
                back[:, place, other] = after[:, row, column]
        apart[which] = (back - before).abs().max().item()
    assert apart["off"] < STEP and found["off"]["difference"] < 1e-5
    assert apart["on"] > 0.01 and found["on"]["difference"] >= apart["on"] - STEP
    assert found["off"]["before"] == found["off"]["after"]
    assert found["on"]["before"] == expected.text


def test_a_seed_is_an_order(checkpoints):
    """The same one again for the same seed; another for another."""
    orders = [
        shuffled(checkpoints, ASK | {"order": "random", "seed": seed})["order"]
        for seed in (3, 3, 4)
    ]

    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize("wrong", [{"order": [1, 0]}, {"seed": -1}, {"seed": 1e3}, {"seed": None}])
def test_orders_and_seeds_are_checked(checkpoints, wrong):
    """Anything else is refused with what is asked for."""
    with pytest.raises(Refused, match="must be"):
        shuffled(checkpoints, ASK | {"order": "random", "seed": 0} | wrong)


# All of them

QUESTIONS = {
    painted: {"kind": "decoder", "layer": 0},
    broken: {"faults": ["late"]},
    shuffled: {"order": "random", "seed": 0},
}


@pytest.mark.parametrize("answer", QUESTIONS)
@pytest.mark.parametrize(
    "text", ["a", "<img src=x onerror=alert(1)> 🙂", "dog " * 55], ids=["short", "odd", "long"]
)
def test_odd_sentences_are_read_like_any_other(checkpoints, answer, text):
    """One letter, markup and emoji, the longest: the answer is JSON without NaN."""
    found = answer(checkpoints, ASK | QUESTIONS[answer] | {"text": text})

    assert found["text"] == text
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize("answer", QUESTIONS)
@pytest.mark.parametrize("text", [None, " ", "两个男人", "xq " * 130])
def test_what_cannot_be_read_is_refused(checkpoints, answer, text):
    """As in every tab: empty, foreign and overlong."""
    with pytest.raises(Refused):
        answer(checkpoints, ASK | QUESTIONS[answer] | {"text": text})
