"""The Compare tab without a browser: moments of a run and whole models, looked at alike."""

import base64
import json

import numpy as np
import pytest
import torch

from lab import snapshots
from lab.model import Checkpoint, parameter_count, shipped
from lab.page import compare
from lab.page.questions import Refused
from lab.recording import KINDS, record
from lab.steps import follow
from lab.tokens import BOS_ID, pad
from lab.translation import translate

SENTENCE = "A man in a red shirt is playing with his dog."
SCORES = {"validation_loss": 3.0, "bleu": 1.0, "chrf": 2.0, "exact": 0.0}


@pytest.fixture(scope="module")
def checkpoints():
    return {pair: Checkpoint.load(folder) for pair, folder in shipped().items()}


@pytest.fixture(scope="module")
def answer(checkpoints):
    return an_answer(checkpoints, None)


def an_answer(checkpoints, folder):
    runs = compare.find_runs(checkpoints, folder)
    moments = [moment for run in runs for moment in run.moments]
    versions = compare.find_versions(checkpoints, folder) + moments
    return compare.comparing(list(checkpoints), runs, versions)


def of_run(answer, **changes):
    question = {"pair": "en-de", "text": SENTENCE, "kind": "cross", "run": "shipped"}
    return answer(question | changes)


def of_two(answer, *keys, **changes):
    return answer({"pair": "en-de", "text": SENTENCE, "kind": "cross", "two": list(keys)} | changes)


def unpacked(look):
    attention = look["attention"]
    numbers = np.frombuffer(base64.b64decode(attention["data"]), "<u2") / 65_535
    shape = look["layers"], look["heads"], attention["rows"], attention["columns"]
    return torch.from_numpy(numbers).view(shape).float()


def test_a_visitor_finds_moments_without_training(answer):
    """The page that nobody has trained for shows a run from its start to its end."""
    looks = of_run(answer)["looks"]

    assert [look["step"] for look in looks] == [0, 125, 250, 500, 1000, 2000, 4000, 8000]
    assert all(look["scores"].keys() == {"validation_loss", "bleu", "chrf"} for look in looks)
    assert looks[-1]["log_probability"] > looks[0]["log_probability"]


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_moment_reads_the_last_ones_translation(answer, kind):
    """Rows and columns stay; the weights are what each model's own attention says of them."""
    looks = of_run(answer, kind=kind)["looks"]
    kept = snapshots.snapshots(snapshots.SHIPPED)
    ids = follow(kept[-1].load(), [SENTENCE])[0].ids

    assert len({(tuple(look["source"]), tuple(look["target"])) for look in looks}) == 1
    for look, snapshot in list(zip(looks, kept, strict=True))[::3]:
        checkpoint = snapshot.load()
        source = pad([checkpoint.tokenizer.encode(SENTENCE)])
        with record(checkpoint.model) as recorded, torch.no_grad():
            checkpoint.model(source, torch.tensor([[BOS_ID, *ids[:-1]]]))
        expected = recorded[kind][:, 0]
        torch.testing.assert_close(unpacked(look), expected, atol=2e-4, rtol=0)


def test_each_moment_writes_its_own_translation(answer):
    """Beside the picture stands what this moment's model would write; early ones find no end."""
    value = of_run(answer)
    kept = snapshots.snapshots(snapshots.SHIPPED)

    for look, snapshot in zip(value["looks"][-2:], kept[-2:], strict=True):
        assert look["text"] == translate(snapshot.load(), [SENTENCE])[0].text
        assert look["ended"]
    assert not value["looks"][0]["ended"]
    json.dumps(value, allow_nan=False)


def test_two_models_each_read_their_own(checkpoints, answer):
    """Two checkpoints of a pair, each with its own pieces, sizes, time and device."""
    value = of_two(answer, "shipped:en-de@cpu", "shipped:8000")
    large, small = value["looks"]

    assert large["text"] == translate(checkpoints["en-de"], [SENTENCE])[0].text
    assert large["parameters"] == parameter_count(checkpoints["en-de"].model) > small["parameters"]
    assert large["scores"]["bleu"] > small["scores"]["bleu"]
    assert (large["layers"], small["layers"]) == (3, 2)
    for look in (large, small):
        assert look["device"] == "CPU" and look["ms"] > 0
        rows = unpacked(look).sum(-1)
        torch.testing.assert_close(rows, torch.ones_like(rows), atol=1e-3, rtol=0)
        assert look["attention"]["rows"] == len(look["target"])


@pytest.fixture
def own(checkpoints, tmp_path):
    """The folder of a run of one's own: a model and two moments."""
    trained = snapshots.snapshots(snapshots.SHIPPED)[-1].load()
    trained.save(tmp_path)
    for step in (0, 5):
        snapshots.save(trained, tmp_path, step, SCORES)
    return {"en-de": trained, **{k: v for k, v in checkpoints.items() if k != "en-de"}}, tmp_path


def test_ones_own_run_comes_first_and_the_shipped_model_stays(own):
    """`lab app --checkpoint FOLDER` shows its moments, and compares it with the shipped model."""
    checkpoints, folder = own
    answer = an_answer(checkpoints, folder)

    assert [run.key for run in compare.find_runs(checkpoints, folder)] == ["own", "shipped"]
    assert [look["step"] for look in of_run(answer, run="own")["looks"]] == [0, 5]
    mine, theirs = of_two(answer, "own:en-de@cpu", "shipped:en-de@cpu")["looks"]
    assert mine["text"] == translate(checkpoints["en-de"], [SENTENCE])[0].text
    assert theirs["text"] == translate(Checkpoint.load(shipped()["en-de"]), [SENTENCE])[0].text
    assert mine["scores"] == {}  # it has no history


def test_a_model_alone_is_nothing_to_compare(checkpoints):
    """No second one of its pair and no run: the versions are one, and the page says what to do."""
    alone = {"en-zh": checkpoints["en-zh"]}

    assert compare.find_runs(alone, None) == []
    assert [each.pair for each in compare.find_versions(alone, None)] == ["en-zh"]


@pytest.mark.parametrize("question", [
    {"run": "../../etc"}, {"run": None}, {"run": ["shipped"]}, {"run": "own"},
    {"pair": "en-zh"}, {"pair": 1}, {"kind": "sideways"}, {"kind": None},
    {"text": ""}, {"text": None}, {"text": "两个男人"}, {"text": "a " * 300}, {"text": "zq " * 90},
])  # fmt: skip
def test_a_run_that_is_none_is_refused(answer, question):
    """Whatever a browser sends, the answer is a sentence that helps."""
    with pytest.raises(Refused):
        of_run(answer, **question)


@pytest.mark.parametrize("two", [
    None, [], ["shipped:en-de@cpu"], "AB", [1, 2], [None, "shipped:500"],
    ["shipped:en-zh@cpu", "shipped:500"], ["shipped:../en-de@cpu", "shipped:500"], {"A": "x"},
])  # fmt: skip
def test_models_that_are_none_are_refused(answer, two):
    """Two known models of this pair, or a sentence that names the choices."""
    question = {"pair": "en-de", "text": SENTENCE, "kind": "cross", "two": two}

    with pytest.raises(Refused, match="must be one of"):
        answer(question)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_is_named_beside_the_cpu(answer):
    """The same model on both: the same translation, each with its own time."""
    on_gpu = {pair: Checkpoint.load(folder, "cuda") for pair, folder in shipped().items()}
    both = an_answer(on_gpu, None)

    gpu, cpu = of_two(both, "shipped:en-de@cuda", "shipped:en-de@cpu")["looks"]

    assert gpu["device"] == torch.cuda.get_device_name() and cpu["device"] == "CPU"
    assert gpu["text"] == cpu["text"]
    assert gpu["ms"] > 0 and cpu["ms"] > 0
    assert [look["device"] for look in of_run(both)["looks"]] == [gpu["device"]] * 8
