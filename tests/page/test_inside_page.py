"""The Look inside tab without a browser: a journey's numbers as sent, and questions of any kind."""

import json
import re
from xml.etree.ElementTree import fromstring

import pytest
import torch
import torch.nn.functional as F

from lab import stock
from lab.inside import STEPS
from lab.lesson import rebuilt
from lab.model import shipped
from lab.page import inside
from lab.page.inside import answerer
from lab.page.mathml import mathml
from lab.page.questions import Refused
from lab.page.words import WORDS
from lab.parts import using
from lab.recording import KINDS
from lab.translation import translate

SENTENCE = "Two young girls are playing with a small dog in the snow."
QUESTION = {"pair": "en-de", "text": SENTENCE}


@pytest.fixture(scope="module")
def checkpoints():
    return {pair: rebuilt(pair) for pair in shipped()}


@pytest.fixture(scope="module")
def answer(checkpoints):
    return answerer(checkpoints)


def steps(value, block=None):
    """The numbers of a value by id, or those of one block by key."""
    by_id = {step["id"]: torch.tensor(numbers(step["value"])) for step in value["steps"]}
    if block is None:
        return by_id
    return {
        id.removeprefix(f"{block}."): found for id, found in by_id.items() if id.startswith(block)
    }


def numbers(value):
    """What JavaScript's Number() makes of it: "-Infinity" is one."""
    if isinstance(value, list):
        return [numbers(each) for each in value]
    return float(value) if isinstance(value, str) else value


@pytest.mark.parametrize("pair", ["en-de", "en-fr", "en-zh"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_weights_are_those_of_the_translation(checkpoints, answer, pair, kind):
    """What softmax shows is what the recorder sees when the model translates."""
    text = checkpoints[pair].examples[0]
    expected = translate(checkpoints[pair], [text], explain=True)[0]

    value = answer({"pair": pair, "text": text, "kind": kind, "layer": 1, "head": 2, "query": 3})

    assert value["source"] == expected.source_pieces
    assert value["written"] == expected.target_pieces
    assert value["translation"] == expected.text
    row = expected.attention[kind][1, 2, 3]
    shown = steps(value, KINDS[kind][1])["weights"]
    torch.testing.assert_close(shown, row, atol=1e-6, rtol=1e-3)  # four digits are sent
    assert value["key"] == row.argmax()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_sent_adds_up(answer, kind):
    """With pencil and paper: each number follows from the ones sent before it."""
    value = answer(QUESTION | {"kind": kind, "layer": 0, "head": 3, "query": 5, "key": 2})

    of = steps(value, KINDS[kind][1])
    near = {"atol": 0.02, "rtol": 2e-3}  # sums of numbers of four digits
    close = torch.testing.assert_close
    close(of["products"], of["query"] * of["keys"][2], **near)
    close(of["score"], of["products"].sum(), **near)
    close(of["scores"], of["keys"] @ of["query"], **near)
    close(of["scaled"], of["scores"] / 32**0.5, **near)
    close(of["weights"], of["masked"].softmax(-1), **near)
    close(of["head"], of["weights"] @ of["values"], **near)
    close(of["heads"][96:], of["head"], **near)
    last = value["steps"][-5]["block"]
    norm = steps(value, last)
    before = [steps(value)[id] for id in value["steps"][-5]["made_from"]]
    close(norm["residual"], before[0] + before[1], **near)
    gamma, beta = (
        torch.tensor(value["steps"][-1]["parameters"][name]) for name in ("gamma", "beta")
    )
    close(norm["norm"], F.layer_norm(norm["residual"], (128,), gamma, beta), **near)
    hidden = steps(value, "feed_forward")
    close(hidden["relu"], hidden["hidden"].relu())


def test_cross_attention_reads_the_encoder(answer):
    """Its keys and values come from as many tokens as the source has, its query from the target;
    self-attention of the decoder has the target on both sides."""
    cross, decoder = (answer(QUESTION | {"kind": kind}) for kind in ("cross", "decoder"))

    source, target = len(cross["source"]), len(cross["written"])
    assert source != target
    sizes = {step["key"]: step["size"] for step in cross["steps"] if "cross" in step["block"]}
    assert sizes["memory"] == [source, 128]
    assert sizes["keys"] == sizes["values"] == [source, 32]
    sizes = {step["key"]: step["size"] for step in decoder["steps"] if "self" in step["block"]}
    assert sizes["tokens"] == [target, 128] and sizes["keys"] == [target, 32]


def test_without_places_there_is_a_journey(answer):
    """A sentence alone gets cross-attention, the last layer, and the key that counts most."""
    value = answer(QUESTION)

    assert (value["kind"], value["layer"], value["head"]) == ("cross", 2, 0)
    assert value["key"] == steps(value, "cross_attention")["weights"].argmax()
    read = ["<s>", *value["written"][:-1]]
    assert len(read[value["query"]]) == max(map(len, read))  # a content word, no mark


def test_a_place_beyond_the_end_is_the_last(answer):
    """Another sentence is shorter than the one a place was chosen in."""
    far = answer(QUESTION | {"layer": 99, "head": 99, "query": 99, "key": 99})

    assert (far["layer"], far["head"]) == (2, 3)
    assert far["query"] == len(far["written"]) - 1
    assert far["key"] == len(far["source"]) - 1


@pytest.mark.parametrize("text", ["A", "dog " * 59, "¿ A 犬 <b>&amp;</b> \\ {n} \u202e\x00"])
@pytest.mark.parametrize("kind", KINDS)
def test_any_sentence_makes_strict_json(answer, kind, text):
    """The shortest, the longest and the strangest, hidden keys with their −∞ included."""
    value = answer({"pair": "en-de", "text": text, "kind": kind, "query": 0})

    json.loads(json.dumps(value, allow_nan=False))
    assert value["differing"] == []
    assert len(json.dumps(value)) < 300_000


@pytest.mark.parametrize("place", ["layer", "head", "query", "key"])
@pytest.mark.parametrize("wrong", ["1", "mean", 1.0, True, -1, 10**9, [1], {"a": 1}, float("nan")])
def test_a_place_is_a_whole_number(answer, place, wrong):
    """Whatever a browser sends: one sentence that names the field."""
    with pytest.raises(Refused, match=f"{place} must be a whole number"):
        answer(QUESTION | {place: wrong})


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"kind": "self"}, "kind must be one of: encoder, decoder, cross"),
        ({"kind": ["cross"]}, "kind must be one of"),
        ({"kind": None}, "kind must be one of"),
        ({"pair": "../en-de"}, "pair must be one of"),
        ({"text": "  "}, "nothing to translate"),
        ({"text": 3}, "nothing to translate"),
        ({"text": "xq " * 130}, "at most 60"),
        ({"text": "两个男人"}, "Chinese characters"),
    ],
)
def test_what_cannot_be_shown_is_refused_in_words(answer, asked, said):
    """One sentence says what is wrong."""
    with pytest.raises(Refused, match=re.escape(said)):
        answer(QUESTION | asked)


def test_a_sentence_is_translated_once(checkpoints, monkeypatch):
    """Other places of it need no search; and no more sentences are kept than TRANSLATIONS."""
    searched = []

    def counted(model, source, *options):
        searched.append(source.size(1))
        return stock.greedy_decode(model, source, *options)

    monkeypatch.setattr(inside, "TRANSLATIONS", 2)
    answer = answerer(checkpoints)
    with using({"greedy_decode": counted}):
        for kind in KINDS:
            answer(QUESTION | {"kind": kind})
        assert len(searched) == 1
        for text in ("A dog.", "A cat runs.", SENTENCE):
            answer(QUESTION | {"text": text})

    assert len(searched) == 4  # the first had to make room


class WithGelu(stock.FeedForward):
    """A mistake: another activation."""

    def forward(self, x):
        return self.linear2(F.gelu(self.linear1(x)))


def test_a_part_that_differs_is_not_hidden():
    """The step that the model takes otherwise says so, and by how much; no other does."""
    with using({"FeedForward": WithGelu}):
        answer = answerer({"en-de": rebuilt()})

    value = answer(QUESTION)

    assert value["differing"] == ["feed_forward.relu"]
    (odd,) = [step for step in value["steps"] if not step["agrees"]]
    assert odd["own"] and odd["difference"] == pytest.approx(0.17, abs=0.01)  # −min of gelu


# Formulas


def test_formulas_by_hand():
    """Below, above, both, around a sum; fractions, roots, accents, names and signs."""

    def inner(latex):
        return mathml(latex).partition("<mrow>")[2].removesuffix("</mrow></math>")

    assert inner("x_t") == "<msub><mi>x</mi><mi>t</mi></msub>"
    assert inner(r"K^\top") == "<msup><mi>K</mi><mi>⊤</mi></msup>"
    assert inner(r"W_Q^2") == inner("W^2_Q") == "<msubsup><mi>W</mi><mi>Q</mi><mn>2</mn></msubsup>"
    assert inner(r"\sum_r r") == "<munder><mo>∑</mo><mi>r</mi></munder><mi>r</mi>"
    assert inner(r"\frac{1}{\sqrt{d}}") == (
        "<mfrac><mrow><mn>1</mn></mrow><mrow><msqrt><mrow><mi>d</mi></mrow></msqrt></mrow></mfrac>"
    )
    assert inner(r"\hat r - 1") == (
        '<mover accent="true"><mi>r</mi><mo>^</mo></mover><mo>−</mo><mn>1</mn>'
    )
    assert inner(r"\mathrm{pad}") == '<mi mathvariant="normal">pad</mi>'
    assert inner(r"\begin{cases} a & b \\ c & d \end{cases}") == (
        "<mrow><mo>{</mo><mtable>"
        "<mtr><mtd><mi>a</mi></mtd><mtd><mi>b</mi></mtd></mtr>"
        "<mtr><mtd><mi>c</mi></mtd><mtd><mi>d</mi></mtd></mtr></mtable></mrow>"
    )


CHILDREN = {
    "msub": 2,
    "msup": 2,
    "msubsup": 3,
    "munder": 2,
    "munderover": 3,
    "mover": 2,
    "mfrac": 2,
}


@pytest.mark.parametrize("key", STEPS)
def test_every_formula_is_mathml(key):
    """As many children as each element takes, and every letter and number of the LaTeX."""
    latex = STEPS[key][0]
    math = fromstring(mathml(latex))

    for element in math.iter():
        assert len(element) == CHILDREN.get(element.tag, len(element)), element.tag
    assert math.get("alttext") == latex
    plain = re.sub(r"\\(begin|end)\{cases\}|\\mathrm|\\max|\\[a-z]+", "", latex)
    shown = "".join(math.itertext()).replace("max", "")
    ascii_only = re.findall(r"[A-Za-z0-9]", plain)
    assert sorted(re.findall(r"[A-Za-z0-9]", shown)) == sorted(ascii_only)


@pytest.mark.parametrize("latex", [r"\int x", "{x", "x_", r"\begin{cases} a & b", "x}", "a & b"])
def test_a_formula_that_cannot_be_drawn_is_refused(latex):
    """Nothing is left out in silence."""
    with pytest.raises(ValueError, match="cannot be drawn"):
        mathml(latex)


def test_every_step_has_its_words():
    """A name, and a sentence or several, in both languages."""
    for words in WORDS.values():
        for key in STEPS:
            assert f"inside.step.{key}" in words
            said = [word for word in words if re.fullmatch(rf"inside\.said\.{key}(_\w+)?", word)]
            assert said, key
