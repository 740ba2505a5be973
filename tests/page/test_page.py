"""The page without a browser: what a request gets, through the same server a browser talks to."""

import base64
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
from gradio_client import Client

from lab.model import Checkpoint, shipped
from lab.page import server
from lab.page.translate import MAX_CHARACTERS, MAX_PIECES, SEARCHES, answer, script
from lab.page.view import as_json
from lab.translation import Translation, translate

pytestmark = pytest.mark.xdist_group("page")  # one server for all of them

ROOT = Path(__file__).parents[2]
SENTENCE = "Two dogs are playing in the snow."


@pytest.fixture(scope="module")
def checkpoints():
    return server.load(torch.device("cpu"))


def ask(checkpoints, text, pair="en-de", method="Greedy"):
    return answer(checkpoints, [text], [pair], [method])[0]


def test_both_shipped_models_are_on_the_page(checkpoints):
    """English to German and English to Chinese come with the lab."""
    assert set(checkpoints) == {"en-de", "en-zh"} == set(shipped())


def test_value_holds_the_weights_of_every_kind(checkpoints):
    """What the browser unpacks is the recorded attention, to a 65,535th."""
    value = ask(checkpoints, SENTENCE)

    expected = translate(checkpoints["en-de"], [SENTENCE], explain=True)[0]
    assert value["text"] == expected.text
    assert value["target"] == expected.target_pieces
    for kind, weights in expected.attention.items():
        packed = value["attention"][kind]
        numbers = np.frombuffer(base64.b64decode(packed["data"]), "<u2") / 65_535
        unpacked = torch.from_numpy(numbers).view(
            value["layers"], value["heads"], packed["rows"], packed["columns"]
        )
        torch.testing.assert_close(unpacked, weights.double(), atol=1 / 65_535, rtol=0)


@pytest.mark.parametrize("kind", ["encoder", "decoder", "cross"])
def test_rows_are_distributions_over_the_right_tokens(checkpoints, kind):
    """Each kind has a row per asking token, a column per token looked at, and sums to one."""
    found = translate(checkpoints["en-de"], [SENTENCE, "A dog."], explain=True)

    for translation in found:
        source, target = len(translation.source_pieces), len(translation.target_pieces)
        sizes = {
            "encoder": (source, source),
            "decoder": (target, target),
            "cross": (target, source),
        }
        weights = translation.attention[kind]
        assert weights.shape[2:] == sizes[kind]
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))


def test_mixed_requests_of_one_batch_get_their_own_answers(checkpoints):
    """Pairs, methods and a faulty request may share a batch; each gets what it gets alone."""
    texts = [SENTENCE, "", "Where is the station?", "A man is sleeping."]
    pairs = ["en-de", "en-de", "en-zh", "en-de"]
    methods = ["Greedy", "Greedy", "Beam search (4)", "Beam search (4)"]

    together = answer(checkpoints, texts, pairs, methods)

    assert "nothing to translate" in together[1]["message"]
    for i in (0, 2, 3):
        assert together[i]["text"] == ask(checkpoints, texts[i], pairs[i], methods[i])["text"]


def test_sampling_draws_anew(checkpoints):
    """Pressing the button again may give another sentence."""
    unusual = "A strange machine is doing something odd near the old pictures of a dancer."
    texts = {ask(checkpoints, unusual, method="Sampling (top-p 0.9)")["text"] for _ in range(12)}

    assert len(texts) > 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "nothing to translate"),
        (" \n\t ", "nothing to translate"),
        (None, "nothing to translate"),
        (7, "nothing to translate"),
        ("12 + 30 = ?! 🙂", "no words"),
        ("两个男人在街上走", "Chinese characters"),
        ("Привет, как дела?", "Cyrillic letters"),
        ("a" * (MAX_CHARACTERS + 1), "characters"),
        ("zq" * (MAX_CHARACTERS // 2), f"at most {MAX_PIECES}"),
    ],
)
def test_what_cannot_be_translated_is_told_what_to_do(checkpoints, text, said):
    """Empty, wordless, foreign and overlong input end in one sentence that helps."""
    value = ask(checkpoints, text)

    assert set(value) == {"message"}
    assert said in value["message"]


@pytest.mark.parametrize(
    "text", ["A man 🙂 in Zürich", "<img src=x onerror=alert(1)> dog", "a\x00b dog"]
)
def test_odd_text_is_translated_like_any_other(checkpoints, text):
    """Emoji, markup and control characters are text; the value is valid JSON and holds no NaN."""
    value = ask(checkpoints, text)

    assert value["target"][-1] == "</s>" or len(value["target"]) > 10
    json.dumps(value, allow_nan=False)


@pytest.mark.parametrize("forged", ["xx-yy", None, 7, ["en-de"], {"a": 1}])
def test_unknown_choices_get_a_message(checkpoints, forged):
    """A forged request names no model or method: it is told the choices."""
    assert "Choose one of en-de" in ask(checkpoints, SENTENCE, pair=forged)["message"]
    assert "Choose one of en-de" in ask(checkpoints, SENTENCE, method=forged)["message"]


def test_a_short_model_says_what_it_takes(checkpoints):
    """A model with fewer positions than the page's limit tells its own."""
    short = checkpoints["en-de"]
    short = replace(short, config=replace(short.config, max_len=6))

    assert "at most 6" in ask({"en-de": short}, SENTENCE)["message"]


def test_full_width_letters_are_letters(checkpoints):
    """What looks like Latin counts as Latin."""
    assert "message" not in ask(checkpoints, "Ａ ｄｏｇ ｉｓ ｒｕｎｎｉｎｇ")


def test_a_forged_request_fails_alone(running_page):
    """Others in its batch get their translations."""
    client = Client(running_page, verbose=False)
    pairs = ["en-de", "en-de", "evil", "en-de"]

    jobs = [client.submit(SENTENCE, pair, "Greedy", api_name="/translate") for pair in pairs]
    values = [job.result(timeout=60) for job in jobs]

    assert ["message" in value for value in values] == [False, False, True, False]


def test_script_names_what_most_letters_are():
    """Digits and points do not count."""
    assert script("a man, 7 人") == "LATIN"
    assert script("人人 a") == "CJK"
    assert script("7 + 7") is None


def test_as_json_keeps_sizes_apart():
    """Rows and columns come from the tensor: T asks, S answers."""
    weights = {"cross": torch.rand(2, 3, 5, 7), "encoder": torch.rand(2, 3, 7, 7)}
    translation = Translation("a", "b", ["a"] * 7, ["b"] * 5, True, -1.0, weights)

    value = as_json(translation, "en", "zh", "about")

    assert (value["layers"], value["heads"]) == (2, 3)
    assert (value["attention"]["cross"]["rows"], value["attention"]["cross"]["columns"]) == (5, 7)
    assert value["languages"]["target"] == "zh-CN"


def test_a_port_that_is_taken_is_told(running_page):
    """A second page at the same address ends in one line that says what to do."""
    port = running_page.rsplit(":", 1)[1]

    done = subprocess.run(
        [sys.executable, "app.py", "--port", port], cwd=ROOT, capture_output=True, text=True
    )

    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(f":{port}: give another --port or --host")
    assert "Traceback" not in done.stderr


def test_served_page_answers_its_client_and_hides_its_files(running_page):
    """The public endpoint gives the value; files of the machine are not served."""
    client = Client(running_page, verbose=False)
    value = client.predict(SENTENCE, "en-de", "Greedy", api_name="/translate")

    assert value["text"] == translate(Checkpoint.load(shipped()["en-de"]), [SENTENCE])[0].text
    for path in ("/gradio_api/file=/etc/passwd", "/gradio_api/file=pyproject.toml"):
        assert httpx.get(running_page + path).status_code in (403, 404)
    assert len(SEARCHES) == 3
