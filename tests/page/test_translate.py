"""The answers of the Translate tab: each request gets its own, whatever it holds."""

import base64
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from lab import steps
from lab.model import shipped
from lab.page import server
from lab.page import translate as tab
from lab.page.cache import Cache
from lab.page.questions import MAX_CHARACTERS, Refused
from lab.tokens import EOS_ID, PAD_ID
from lab.translation import Search, translate

SENTENCE = "Two dogs are playing in the snow."


@pytest.fixture(scope="module")
def checkpoints():
    assert shipped()
    return server.load(torch.device("cpu"))


@pytest.fixture
def ask(checkpoints):
    """Answers one request; nothing is kept from test to test."""

    def asked(text=SENTENCE, pair="en-de", method="greedy", options=None, on=checkpoints):
        return tab.answer(on, [text], [pair], [method], [options or {}], Cache(10**7))[0]

    return asked


# What is in a value


def test_the_weights_of_every_kind_are_there(checkpoints, ask):
    """What the browser unpacks is the recorded attention, to a 65,535th."""
    value = ask()

    expected = translate(checkpoints["en-de"], [SENTENCE], explain=True)[0]
    assert value["text"] == expected.text
    assert value["target"] == expected.target_pieces
    for kind, weights in expected.attention.items():
        found = value["attention"][kind]
        numbers = np.frombuffer(base64.b64decode(found["data"]), "<u2") / 65_535
        unpacked = torch.from_numpy(numbers).view(
            value["layers"], value["heads"], found["rows"], found["columns"]
        )
        torch.testing.assert_close(unpacked, weights.double(), atol=1 / 65_535, rtol=0)


@pytest.mark.parametrize("kind", ["encoder", "decoder", "cross"])
def test_rows_are_distributions_over_the_right_tokens(checkpoints, kind):
    """Each kind has a row per asking token, a column per token looked at, and sums to one."""
    for translation in translate(checkpoints["en-de"], [SENTENCE, "A dog."], explain=True):
        source, target = len(translation.source_pieces), len(translation.target_pieces)
        sizes = {
            "encoder": (source, source),
            "decoder": (target, target),
            "cross": (target, source),
        }
        weights = translation.attention[kind]
        assert weights.shape[2:] == sizes[kind]
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))


def test_every_step_shows_what_it_was_chosen_from(ask):
    """Greedy takes the first of five candidates, most probable first; the log-probability of the
    whole is the sum of theirs."""
    value = ask()

    for step, id in zip(value["steps"], value["ids"], strict=True):
        probabilities = [probability for _, _, probability in step["candidates"]]
        assert len(probabilities) == 5 and probabilities == sorted(probabilities, reverse=True)
        assert step["chosen"] == step["candidates"][0] and step["chosen"][0] == id
    total = sum(np.log(step["chosen"][2]) for step in value["steps"])
    assert value["about"]["log_probability"] == pytest.approx(total, abs=0.01)


def test_the_run_tells_what_it_took(ask):
    """Time, time per token, device and size of the model stand beside the translation."""
    about = ask()["about"]

    assert about["device"] == "CPU" and about["together"] == 1 and about["parameters"] > 1
    assert about["each"] == pytest.approx(about["ms"] / len(ask()["ids"]), rel=0.6, abs=1)


@pytest.mark.parametrize("method", ["greedy", "beam", "sample"])
def test_another_candidate_is_gone_on_from(ask, method):
    """The translation begins with the forced ids, says so, and differs after them at most."""
    value = ask(method=method)
    at = 2
    other = value["steps"][at]["candidates"][1][0]

    forced = ask(method=method, options=value["asked"]["options"] | {
        "prefix": [*value["ids"][:at], other],
    })  # fmt: skip

    assert forced["ids"][: at + 1] == [*value["ids"][:at], other]
    assert [step["forced"] for step in forced["steps"][: at + 2]] == [True] * (at + 1) + [False]
    assert forced["target"][:at] == value["target"][:at]
    assert not any(step["forced"] for step in value["steps"])


def test_the_tree_of_a_beam_holds_its_sentences(ask):
    """The best way from the root spells the translation; every parent stands before its child;
    of each step at most beam_size are kept."""
    value = ask(method="beam", options={"beam_size": 3})

    nodes = value["tree"]["nodes"]
    ends = {rank: place for place, (*_, rank) in enumerate(nodes) if rank is not None}
    way, place = [], ends[0]
    while place >= 0:
        parent, _, id, *_ = nodes[place]
        way, place = [id, *way], parent
    assert way == value["ids"] and sorted(ends) == [0, 1, 2]
    assert all(node[0] < place for place, node in enumerate(nodes))
    steps_kept = [node[1] for node in nodes if node[7]]
    assert max(map(steps_kept.count, steps_kept)) <= 3
    scores = [nodes[ends[rank]][6] for rank in sorted(ends)]
    assert scores == sorted(scores, reverse=True)


def test_other_methods_have_no_tree(ask):
    """A tree stands beside a beam search only."""
    assert ask()["tree"] is None and ask(method="sample")["tree"] is None


def test_a_seed_draws_the_same_again_and_no_seed_another(ask):
    """Pressing the button again may give another sentence; a value tells its own seed."""
    unusual = "A strange machine is doing something odd near the old pictures of a dancer."
    values = [ask(unusual, method="sample", options={"temperature": 1.5}) for _ in range(6)]

    assert len({value["text"] for value in values}) > 1
    again = ask(unusual, method="sample", options=values[0]["asked"]["options"])
    assert again["text"] == values[0]["text"]


def test_chinese_is_marked_as_simplified(ask):
    """Fonts and screen readers are told which Chinese it is."""
    assert ask(pair="en-zh")["languages"] == {"source": "en", "target": "zh-CN"}


# Many at once


def test_mixed_requests_of_one_batch_get_their_own_answers(checkpoints, ask):
    """Models, methods, options and faults may share a batch; each gets what it gets alone."""
    greedy = ask()
    requests = [
        (SENTENCE, "en-de", "greedy", {}),
        ("", "en-de", "greedy", {}),
        ("Where is the station?", "en-zh", "greedy", {}),
        ("A man is sleeping.", "en-de", "beam", {}),
        (SENTENCE, "en-de", "greedy", {"prefix": [greedy["steps"][0]["candidates"][1][0]]}),
        (SENTENCE, "en-de", "sample", {"seed": 3}),
    ]

    together = tab.answer(checkpoints, *zip(*requests, strict=True), Cache(10**7))

    assert together[1]["message"]["word"] == "refused.empty"
    for request, value in zip(requests, together, strict=True):
        alone = ask(*request)
        for field in ("text", "ids", "asked", "message"):
            assert value.get(field) == alone.get(field)


def test_what_is_asked_again_is_not_computed_again(checkpoints, monkeypatch):
    """The model runs once for a sentence, at once or later; lots are drawn anew each time."""
    runs = []

    def counted(checkpoint, sentences, search, *args, **kwargs):
        runs.append((search.method, len(sentences)))
        return steps.follow(checkpoint, sentences, search, *args, **kwargs)

    monkeypatch.setattr(tab, "follow", counted)
    kept = Cache(10**7)

    def ask(count, method, options=None):
        columns = ([SENTENCE], ["en-de"], [method], [options or {}])
        return tab.answer(checkpoints, *(column * count for column in columns), kept)

    first = ask(3, "greedy")
    assert ask(2, "greedy") == first[:2] and runs == [("greedy", 1)]
    ask(1, "greedy", {"prefix": [first[0]["ids"][0]]})
    assert runs == [("greedy", 1)] * 2
    ask(2, "sample", {"seed": 1})
    ask(1, "sample", {"seed": 1})
    assert runs[2:] == [("sample", 1)] * 2


def test_the_cache_is_bounded_and_drops_the_longest_unused():
    """It never holds more than its limit; what was read last stays."""
    cache = Cache(60)
    for key in "abc":
        cache.put(key, key * 18)  # 20 characters of JSON

    assert cache.get("a") == "a" * 18
    cache.put("d", "d" * 18)
    assert cache.get("b") is None and len(cache) == 3 and cache.held == 60
    cache.put("a", "short")
    cache.put("whale", "w" * 61)
    assert cache.get("a") == "short" and cache.get("whale") is None and cache.held == 47


# What cannot be answered


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "refused.empty"),
        (" \n\t ", "refused.empty"),
        (None, "refused.empty"),
        (7, "refused.empty"),
        ("12 + 30 = ?! 🙂", "refused.no_words"),
        ("两个男人在街上走", "refused.script_unread"),
        ("Привет, как дела?", "refused.script_unread"),
        ("a" * (MAX_CHARACTERS + 1), "refused.long_text"),
        ("zq" * (MAX_CHARACTERS // 2), "refused.many_tokens"),
    ],
)
def test_what_cannot_be_translated_is_told_what_to_do(ask, text, word):
    """Empty, wordless, foreign and overlong input end in one sentence that helps."""
    value = ask(text)

    assert set(value) == {"message"} and value["message"]["word"] == word
    assert (
        "type a sentence" in value["message"]["text"] or "translate it" in value["message"]["text"]
    )


@pytest.mark.parametrize(
    "text", ["A man 🙂 in Zürich", "<img src=x onerror=alert(1)> dog", "a\x00b dog", "a \ud800 dog"]
)
def test_odd_text_is_translated_like_any_other(ask, text):
    """Emoji, markup and control characters are text; the value is valid JSON and holds no NaN."""
    value = ask(text)

    assert value["target"][-1] == "</s>" or len(value["target"]) > 10
    json.dumps(value, allow_nan=False)


@pytest.mark.parametrize("forged", ["xx-yy", None, 7, ["en-de"], {"a": 1}])
def test_unknown_choices_get_a_message(ask, forged):
    """A forged request names no model or method: it is told so, or the choices."""
    assert "no model for these languages" in ask(pair=forged)["message"]["text"]
    assert "greedy, beam, sample" in ask(method=forged)["message"]["text"]


BAD = [
    ("greedy", {"prefix": "1,2"}),
    ("greedy", {"prefix": [1.5]}),
    ("greedy", {"prefix": [True]}),
    ("greedy", {"prefix": [-1]}),
    ("greedy", {"prefix": [PAD_ID]}),
    ("greedy", {"prefix": [10**9]}),
    ("greedy", {"prefix": [EOS_ID, 300]}),
    ("greedy", {"prefix": [300] * 1000}),
    ("greedy", {"prefix": {"a": 1}}),
    ("greedy", [1]),
    ("greedy", "options"),
    ("beam", {"beam_size": 0}),
    ("beam", {"beam_size": 10**6}),
    ("beam", {"beam_size": 2.5}),
    ("beam", {"beam_size": None}),
    ("sample", {"temperature": -1}),
    ("sample", {"temperature": float("nan")}),
    ("sample", {"temperature": float("inf")}),
    ("sample", {"temperature": 1e9}),
    ("sample", {"top_k": 0}),
    ("sample", {"top_k": "5"}),
    ("sample", {"top_p": 0}),
    ("sample", {"top_p": 1.1}),
    ("sample", {"top_p": True}),
    ("sample", {"seed": -1}),
    ("sample", {"seed": 2**32}),
]


@pytest.mark.parametrize(("method", "options"), BAD, ids=repr)
def test_options_that_are_none_are_refused(ask, method, options):
    """Whatever a program puts into the options, it gets one sentence, and no run."""
    value = ask(method=method, options=options)

    assert set(value) == {"message"} and value["message"]["text"]


def test_options_of_another_method_are_no_matter(ask):
    """Who changes the method need not clear the fields of the last one."""
    assert ask(options={"beam_size": -3, "top_p": 9})["text"] == ask()["text"]
    assert ask(options=None)["asked"]["options"] == {"prefix": []}


def test_a_short_model_says_what_it_takes(checkpoints, ask):
    """A model with fewer positions than the page's limit tells its own."""
    short = checkpoints["en-de"]
    short = replace(short, config=replace(short.config, max_len=6))

    assert "at most 6" in ask(on={"en-de": short})["message"]["text"]


def test_full_width_letters_are_letters(ask):
    """What looks like Latin counts as Latin."""
    assert "message" not in ask("Ａ ｄｏｇ ｉｓ ｒｕｎｎｉｎｇ")


# Temperature, top-k, top-p


def chances(checkpoints, **question):
    return tab.chances(checkpoints, {"text": SENTENCE, "pair": "en-de", **question})


def test_chances_are_those_of_the_step(checkpoints, ask):
    """Before the cuts they are the step's candidates; without cuts nothing changes."""
    value = ask()

    found = chances(checkpoints, prefix=value["ids"][:3])

    assert [[id, piece, before] for id, piece, before, _ in found["chances"][:5]] == value["steps"][
        3
    ]["candidates"]
    assert all(before == after for *_, before, after in found["chances"])
    assert found["left"] == checkpoints["en-de"].config.vocab_size
    assert found["text"] and chances(checkpoints)["text"] == ""


@pytest.mark.parametrize(
    ("cuts", "left"),
    [({"top_k": 3}, 3), ({"temperature": 0}, 1), ({"top_k": 7, "top_p": 1.0}, 7)],
)
def test_cuts_leave_what_they_say_and_a_whole(checkpoints, cuts, left):
    """What is left sums to one, and the others are at nothing."""
    found = chances(checkpoints, **cuts)

    after = [after for *_, after in found["chances"]]
    assert found["left"] == left == sum(share > 0 for share in after)
    assert sum(after) + found["others"][1] == pytest.approx(1, abs=0.002)


def test_a_high_temperature_flattens(checkpoints):
    """The most probable loses, the others gain."""
    found = chances(checkpoints, temperature=3.0)

    assert (
        found["chances"][0][3] < found["chances"][0][2] and found["others"][1] > found["others"][0]
    )


@pytest.mark.parametrize(
    "question",
    [{"prefix": [EOS_ID]}, {"prefix": [0]}, {"temperature": "hot"}, {"top_p": -1}, {"text": None}],
    ids=repr,
)
def test_chances_refuse_what_has_none(checkpoints, question):
    """After the end nothing is drawn, and no field is trusted."""
    with pytest.raises((Refused, ValueError)):
        chances(checkpoints, **question)


# The page that works alone


def test_the_page_for_offline_asks_nobody():
    """It allows no request, names no address, and has one place for data and one for its script."""
    page = tab.standalone()

    assert "default-src 'none'" in page and "://" not in page
    assert re.findall(r"@[A-Z]+@", page) == ["@DATA@", "@PROGRAM@"]
    assert page.count("<script>") == page.count("</script>") == 1


def test_search_is_what_is_asked(checkpoints):
    """Options reach the search as they are; what is left out is as it always was."""
    question = {"text": SENTENCE, "pair": "en-de", "method": "sample"}

    read = tab.read(checkpoints, question | {"options": {"seed": 5, "top_k": 9, "top_p": None}})

    assert read.search == Search("sample", temperature=1.0, top_k=9, top_p=None, seed=5)
