"""What the autograder says, in Chinese: all of it with its values, and nothing nobody says."""

import ast
import functools
import importlib
import re
from pathlib import Path

import pytest
import torch

from autograder import chinese, explain, judge
from autograder.checks import Broken, same, suite
from autograder.mistakes import mistakes_of
from autograder.quizzes import questions
from lab import stock
from lab.course import PARTS, UNITS

AUTOGRADER = Path(chinese.__file__).parents[1]
KEYS = {key: text for name in chinese.CATALOGUES for key, text in chinese.catalogue(name).items()}
HAN = re.compile("[\u4e00-\u9fff]")
NAME = re.compile(r"\{\w+\}")
# Where sentences are put together, and the functions that only a terminal or a programmer hears.
SPEAKING = {
    "checks.py": (), "explain.py": (), "judge.py": (), "cells.py": (), "policy.py": (),
    "diagnosis.py": (), "submission.py": (), "quizzes/__init__.py": (), "oracle/grading.py": (),
    "oracle/grader.py": ("main", "start"), "classroom/inbox.py": (), "classroom/similar.py": (),
    "classroom/teaching.py": (), "classroom/handing_in.py": (), "classroom/page.py": (),
    "classroom/report.py": (), "classroom/results.py": (), "classroom/queue.py": (),
    "oracle/job.py": (), "oracle/remote.py": (), "oracle/peer.py": (), "page/comparing.py": (),
}  # fmt: skip
# Sentences that more than one place has a hand in, as they come out.
PUT_TOGETHER = [
    "First: no softmax",
    "First: One of these: no softmax or mask upside down",
    "Several things at once",
    "No softmax: a mask is boolean. (line 3: x = y)",
    "line 12",
    "a mask is boolean. Seen: the result is None (is a `return` missing?), not a tensor.",
    "a mask is boolean; the gradients that flow back are the same too. Seen: an input has changed.",
    "the sizes are those asked for. Seen: wrong: q.weight [4, 12], not [12, 12] and 2 more.",
    "the layer leaves its inputs as they were. Seen: q_proj.weight has changed.",
    "the ids stay as they were. Seen: it is None (is a `return` missing?), not True.",
    "`max` over an axis gives two tensors, values and indices: take `.values` (or amax).",
    "`sort` over an axis gives two tensors, values and indices: take `.values`.",
    "2 names on the left take more values. A shape has as many sizes as axes (count from the end: "
    "x.size(-1)); attention gives two things, (output, weights).",
    "What the part takes, gives or holds is not what the stub says: compare names and shapes. "
    "x is not defined: run the cells above, or look for a slip in its name.",
    "line 2 uses softmax; softmax is to be written without it.",
    "It does not come to an end: it ran for 20 s without an end. Does every loop have a way out?",
    "Handed in: 01-attention, by ada (2nd time; the earlier ones are kept)",
    "Handed in: 01-attention, by ada (11th time; the earlier ones are kept)",
    "  notebook  attention.ipynb, as saved 2 d 3 h ago",
    "  notebook  attention.ipynb, as saved just now",
    "  LATE      by 2 h 5 min: it was due 2026-12-01 17:00 UTC",
    "  LATE      by 14 min: it was due 2026-12-01 17:00 UTC",
    "it has more than 100 MB: clear its outputs (Edit, Clear Outputs of All Cells), save, hand in "
    "again",
    "a.ipynb is empty; the cell check-softmax is missing: grading puts it back",
    "fault of the machine: it was not graded within 60 s",
    "Handed in: 01-attention, by ada (21st time; the earlier ones are kept)",
    "Handed in: 01-attention, by ada (3rd time; the earlier ones are kept)",
    "with it you would have handed in more than 1 GB altogether, and nothing is thrown away: clear "
    "its outputs (Edit, Clear Outputs of All Cells), save, hand in again",
    "nobody has handed in anything yet",
    "the grader itself gave up: KeyError: 7",
    "partial, 3 of 9", "failed, 0 of 9", "crashed, 0 of 9", "timeout, 1.5 of 9",
    "forbidden, 0 of 9", "not started, 0 of 9", "0 to 3", "12 graded", "3 not graded",
    "91% of what is uncommon in the shorter one is in both: 40 patterns that nobody else has, in "
    "softmax, soft_lookup",
    "91% of what is uncommon in the shorter one is in both: 40 patterns that at most 3 of 20 have, "
    "in softmax",
    "MultiHeadAttention gives two tensors, (output, weights). Seen: a list came back.",
    "attributes have the names that the lesson lists; no others have weights. Seen: extra: bias.",
    "the two add-and-norms are two: each learns its own γ and β. Seen: another name for the same "
    "weights: add_norm2.norm.weight.",
    "Several things at once: No softmax: a mask is boolean.",
    "The process it ran in has ended: too much memory, perhaps, or os._exit.",
    "The process it ran in answers with what is no answer (KeyError).",
    "line 2 uses softmax; softmax is to be written without it. Write it without torch's softmax, "
    "Softmax or logsumexp.",
    "A shortcut: line 2 uses softmax; softmax is to be written without it.",
    "AttributeError: PlainList has no attribute `q_proj`",
]  # fmt: skip


def filled(template, value):
    return NAME.sub(lambda _: value, template)


def told(text):
    """In Chinese: no English sentence is left in it."""
    found = chinese.translated(text)
    words = re.sub(r"`[^`]*`|\([^)]*\)|\"[^\"]*\"|'[^']*'", "", found)
    return bool(HAN.search(found)) and not re.search(r"\b[a-z]+ [a-z]+ [a-z]+\b", words)


# What is said


@functools.cache
def laws():
    """The laws of every suite with their values, as stock's parts are asked for them."""
    heard = []

    def hearing(statement, place):
        def stated(*given, **named):
            heard.extend(x for x in given[place:] if isinstance(x, str))
            return statement(*given, **named)

        return stated

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judge, "SECONDS", 600)  # this is not about how busy the machine is
        for unit in UNITS:
            module = importlib.import_module(f"autograder.suites.test_{unit.module}")
            for name, place in {
                "same": 2, "same_with_gradients": 3, "holds": 1, "refuses": 1,
            }.items():  # fmt: skip
                if hasattr(module, name):
                    patch.setattr(module, name, hearing(getattr(module, name), place))
            for part in unit.parts:
                assert all(each.passed for each in judge.judge(part, getattr(stock, part)))
    return {text for text in heard if text and text[-2:] != ": "}


def of_suites():
    return {each.sentence for unit in UNITS for each in suite(unit.module)} | laws()


def of_mistakes():
    every = [each for part in PARTS for each in mistakes_of(part)]
    return {text for each in every for text in (each.name, each.sentence, each.hint)}


def of_quizzes():
    return {why for unit in UNITS for each in questions(unit.name) for why in each.why.values()}


def templates():
    """The texts of the modules that put sentences together, `{}` where a value stands."""
    found = set()
    for name in SPEAKING:
        tree = ast.parse((AUTOGRADER / name).read_text("utf-8"))
        inner = {id(v) for n in ast.walk(tree) if isinstance(n, ast.JoinedStr) for v in n.values}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                found.add("".join(
                    each.value if isinstance(each, ast.Constant) else "{}" for each in node.values
                ))  # fmt: skip
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                if id(node) not in inner:
                    found |= set(re.split("<[^<>]+>", node.value))
    return found


@functools.cache
def everything():
    found = of_suites() | of_mistakes() | of_quizzes() | set(PUT_TOGETHER) | of_statements()
    return frozenset(found | {unit.title for unit in UNITS})


# The promises


@pytest.mark.parametrize("source", [of_suites, of_mistakes, of_quizzes], ids=lambda s: s.__name__)
def test_every_sentence_has_its_translation(source):
    """What a suite asks, the law behind it, a mistake's name, what it does, what to do; also where
    a name begins a line."""
    said = source()

    assert len(said) > 200
    assert [each for each in said if not HAN.search(chinese.translated(each))] == []
    names = {each.name for part in PARTS for each in mistakes_of(part)} & said
    begun = {each[0].upper() + each[1:] for each in names}
    assert [each for each in begun if not HAN.search(chinese.translated(each))] == []


@pytest.mark.parametrize("text", PUT_TOGETHER)
def test_what_is_put_together_is_translated_whole(text):
    """A sentence with a place, a reason or another sentence in it leaves no English behind."""
    assert told(text), chinese.translated(text)


WRONG = [
    (torch.ones(2, 5), torch.zeros(2, 5)),
    (torch.ones(1), torch.zeros(1)),
    (torch.full((2, 5), torch.nan), torch.zeros(2, 5)),
    (torch.tensor([torch.nan]), torch.zeros(1)),
    (torch.ones(2, 5), torch.ones(5, 2)),
    (torch.ones(2), torch.ones(2).half()),
    (torch.ones(2, device="meta"), torch.ones(2)),
    (None, torch.ones(2)),
    ([torch.ones(2)], torch.ones(2)),
    (torch.ones(2), (torch.ones(2), torch.ones(2))),
    ((torch.ones(2),), (torch.ones(2), torch.ones(2))),
    ((torch.ones(2), torch.ones(3)), (torch.ones(2), torch.zeros(3))),
    (0.25, 0.5), (True, False), (torch.ones(2), True), (7, ()), (list("abcdefghij"), ("a",)),
    ([1, 2], [1, 3]), (None, 0.5), (list(range(12)), [1.0]),
]  # fmt: skip


def of_statements():
    return {seen(*each) for each in WRONG}


def seen(found, wanted):
    """What a learner hears of a part that gives this."""
    with pytest.raises(Broken) as broken:
        same(found, wanted, "a mask is boolean")
    return explain.in_words(broken.value, {})


@pytest.mark.parametrize(("found", "wanted"), WRONG)
def test_what_was_seen_is_translated_with_its_values(found, wanted):
    """The law, what was seen, and every number of it."""
    text = seen(found, wanted)

    said = chinese.translated(text)

    assert said.startswith("掩码是布尔型。实际看到：") and told(text), said
    numbers = re.findall(r"\d[\d.]*\d|\d", text)
    assert sorted(numbers) == sorted(re.findall(r"\d[\d.]*\d|\d", said)), said


@pytest.mark.parametrize("name", [*chinese.CATALOGUES, "report"])
def test_translations_are_chinese(name):
    """In simplified characters (all are in GB 2312), with the values of the English, and no
    half-width point after any of them."""
    for key, text in chinese.catalogue(name).items():
        assert set(NAME.findall(text)) == set(NAME.findall(key)), key
        said = NAME.sub("", text)
        assert HAN.search(said) or not re.search("[a-z]{3} ", NAME.sub("", key)), text
        "".join(HAN.findall(said)).encode("gb2312")
        assert not re.search("[\u4e00-\u9fff][,.!?;:](?![\\w.])", said), text


def test_no_translation_is_unused():
    """Each key is what somebody says."""
    bare = {re.sub(r"\{\w*\}", "{}", each).strip() for each in templates()}
    said = everything()
    unused = [
        key
        for key in KEYS
        if key not in said
        and NAME.sub("{}", key).strip() not in bare
        and not any(matches(key, each) for each in said)
    ]

    assert unused == []


def matches(key, text):
    if not NAME.search(key):
        return key in text
    pattern = "(.+)".join(map(re.escape, NAME.split(key)))
    return re.search(pattern, text)


def test_one_sentence_has_one_translation():
    """No catalogue says otherwise than another."""
    found = [item for name in chinese.CATALOGUES for item in chinese.catalogue(name).items()]

    assert sorted(found) == sorted(KEYS.items())


def test_english_stays_where_no_language_was_chosen():
    """Notebooks, JSON and nbgrader's feedback say what they said."""
    value = {"headline": "No softmax", "checks": [["a mask is boolean", True]], "name": "softmax"}

    assert chinese.spoken(value, None) is value and chinese.spoken(value, "en") is value
    for nonsense in (7, [], {"a": 1}, "zh-CN; DROP"):
        assert chinese.spoken(value, nonsense) is value


def test_only_sentences_are_translated():
    """A state, a name or a token that happens to be a word of the catalogue stays data."""
    value = {"state": "the result", "text": "a tensor", "message": "the result",
             "checks": [{"said": "a mask is boolean", "name": "a mask is boolean"}]}  # fmt: skip

    found = chinese.spoken(value, "zh-CN")

    assert found == {"state": "the result", "text": "a tensor", "message": "结果",
                     "checks": [{"said": "掩码是布尔型", "name": "a mask is boolean"}]}  # fmt: skip


def test_what_nobody_translated_stays_english():
    """An error of the learner's own, line by line, however it is made."""
    for text in (
        "",
        "ValueError: my own words",
        "{name}",
        "\n",
        "a or " * 400,
        "((((;;;;::::" * 60,
    ):
        assert chinese.translated(text) == text
    both = chinese.translated("a mask is boolean.\nKeyError: 'x'")
    assert both == "掩码是布尔型。\nKeyError: 'x'"


def test_a_report_is_translated_but_for_its_code():
    """Text nodes, escaped as they were; a learner's code and name stay."""
    page = (
        '<html lang="en"><head><title>c: what was handed in on the page</title></head><body>'
        "<h3>Mistakes by name</h3><td>no softmax</td><td>Ada &lt;b&gt;</td><p>3 graded; 1 not "
        "graded</p><pre>Mistakes by name\n<mark>no softmax\n</mark></pre></body></html>"
    )

    found = chinese.page(page)

    assert found.startswith('<html lang="zh-CN">')
    assert "<h3>已知错误</h3><td>没有 softmax</td><td>Ada &lt;b&gt;</td>" in found
    assert "<p>已批改 3 份；1 份没有批改</p>" in found
    assert found.endswith("<pre>Mistakes by name\n<mark>no softmax\n</mark></pre></body></html>")
