"""The answers of the Your code tab: the learner's parts, in their sandbox, beside stock's."""

import base64
import builtins
import dataclasses
import json
import math
from contextlib import nullcontext
from types import SimpleNamespace

import a_folder_of_work as a
import numpy as np
import pytest
import torch

from autograder.oracle.zygote import Zygote
from autograder.page import comparing, live, writing, your_code
from autograder.page.apart import Apart, Ended
from autograder.page.checking import Checks
from autograder.page.comparing import FAR
from autograder.page.work import Work
from autograder.page.your_code import YourCode
from lab.course import PARTS, unit_named
from lab.model import Checkpoint, shipped
from lab.page.questions import Refused
from lab.translation import translate

EXAMPLE = {"pair": "en-de", "text": a.EXAMPLE}
USED = 20  # parts of a greedy translation


@pytest.fixture(scope="module")
def checkpoint():
    return Checkpoint.load(shipped()["en-de"])


@pytest.fixture(scope="module")
def zygote():
    with Zygote(live.WORKER) as zygote:
        yield zygote


@pytest.fixture(scope="module")
def stock():
    """What stock does with a sentence, once for all."""
    return {}


@pytest.fixture
def code(tmp_path, checkpoint, zygote, stock, monkeypatch):
    """The tab for a folder with these parts, and no checks."""
    monkeypatch.setenv("LAB_PROGRESS", str(tmp_path / "progress"))
    monkeypatch.setattr(Checks, "look_up", lambda *_: None)

    def of(**other):
        work = Work(a.a_folder(tmp_path / "exercises", **other))
        tab = YourCode(work, Checks(work), {"en-de": checkpoint}, zygote)
        tab._stock = stock
        return tab

    return of


def states(answer):
    return {part: verdict["state"] for part, verdict in answer["verdicts"].items()}


def matrix(difference, name):
    """The numbers that the page draws."""
    raw = np.frombuffer(base64.b64decode(difference[name]["data"]), "<u2")
    values = torch.tensor(raw.astype("float64") / 65_535).view(len(difference["rows"]), -1)
    return (2 * values - 1) * difference["limit"]


def test_right_parts_do_what_stock_does(code, checkpoint):
    """With every part the learner's, the translation and its attention are stock's own."""
    answer = code().answer(EXAMPLE)

    expected = translate(checkpoint, [a.EXAMPLE], explain=True)[0]
    assert len(answer["on"]) == USED == len(answer["used"])
    assert set(states(answer).values()) == {"same"}
    assert max(verdict["most"] for verdict in answer["verdicts"].values()) < 1e-9
    assert answer["first"] is None
    assert answer["yours"]["text"] == answer["stock"]["text"] == expected.text
    assert answer["yours"]["log_probability"] == pytest.approx(-expected.log_probability, abs=1e-3)
    for side in ("yours", "stock"):
        cross = answer[side]["attention"]["cross"]
        raw = np.frombuffer(base64.b64decode(cross["data"]), "<u2")
        shown = torch.tensor(raw.astype("float32") / 65_535).view_as(expected.attention["cross"])
        torch.testing.assert_close(shown, expected.attention["cross"], atol=2e-5, rtol=0)
    json.dumps(answer, allow_nan=False)


def test_the_first_wrong_part_is_named_and_no_later_one(code):
    """What is fed by a wrong part is judged by what stock's would feed it."""
    wrong = {part: a.wrong(part) for part in ("scaled_dot_product_attention", "causal_mask")}
    answer = code(**wrong).answer(EXAMPLE)

    differ = {part for part, state in states(answer).items() if state == "differs"}
    assert differ == set(wrong)
    first = answer["first"]
    assert first["part"] == "scaled_dot_product_attention"
    assert first["place"] == "encoder.layers.0.self_attention"
    assert first["unit"] == "01-attention"
    assert first["notebook"] == "exercises/01-attention/attention.ipynb"
    assert answer["yours"]["text"] != answer["stock"]["text"]


def test_the_first_tensor_is_where_the_mistake_is(code):
    """Scores that were not divided by √d_k are √d_k times stock's, and the map shows both."""
    part = "scaled_dot_product_attention"
    answer = code(**{part: a.wrong(part)}).answer(EXAMPLE)

    found = answer["first"]["difference"]
    tokens = len(answer["source"])
    assert (found["place"], found["name"]) == ("softmax", "scores")
    assert found["shape"] == [1, 4, tokens, tokens]
    assert found["rows"] == found["columns"] == answer["source"]
    yours, stock = matrix(found, "yours"), matrix(found, "stock")
    d_k = 128 // 4
    torch.testing.assert_close(yours, math.sqrt(d_k) * stock, atol=0.01, rtol=0)
    assert found["most"] == pytest.approx((yours - stock).abs().max().item(), abs=0.01)
    row, column = found["at"][-2:]
    assert (yours - stock)[row, column].abs() == (yours - stock).abs().max()


def test_another_shape_is_said_as_one(code):
    """Keys from the wrong side have another length; then the first difference in numbers."""
    answer = code(DecoderLayer=a.wrong("DecoderLayer")).answer(EXAMPLE)

    found = answer["first"]["difference"]
    assert answer["first"]["part"] == "DecoderLayer"
    assert (found["place"], found["name"]) == ("cross_attention", "key")
    assert found["shape"][1] == len(answer["source"]) != found["other_shape"][1]
    assert found["then"]["other_shape"] is None and found["then"]["most"] > 0.1


def test_what_never_ends_or_crashes_costs_its_own_part(code, monkeypatch):
    """An endless loop, a crash, an error: each is said of its part, the others translate."""
    monkeypatch.setattr(comparing, "SECONDS", 2)
    tab = code(softmax=a.ENDLESS, merge_heads=a.CRASH, split_heads=a.RAISING, padding_mask=a.HUNGRY)

    answer = tab.answer(EXAMPLE)

    found = states(answer)
    assert (found["softmax"], found["merge_heads"]) == ("timeout", "crashed")
    assert (found["split_heads"], found["padding_mask"]) == ("raises", "raises")
    assert "view" in answer["verdicts"]["split_heads"]["where"]
    assert "alloc" in answer["verdicts"]["padding_mask"]["words"]
    assert list(found.values()).count("same") == USED - 4
    assert answer["yours"]["text"] == answer["stock"]["text"]
    asked = []
    monkeypatch.setattr(Apart, "ask", _noting(asked, Apart.ask))
    tab.answer({**EXAMPLE, "text": "A dog is running."})
    assert "softmax" not in asked  # it is known not to end


def _noting(asked, ask):
    def noted(self, do, *args, **content):
        asked.append(content.get("part"))
        return ask(self, do, *args, **content)

    return noted


@pytest.mark.parametrize(("cell", "state"), [
    ("import os\nos._exit(1)\n", "crashed"), ("def softmax(:\n", "raises"), ("x = 1\n", "raises"),
])  # fmt: skip
def test_a_cell_that_does_not_run_costs_its_own_part(code, cell, state):
    """The other parts of its notebook are there."""
    answer = code(softmax=cell).answer(EXAMPLE)

    found = states(answer)
    assert found.pop("softmax") == state
    assert set(found.values()) == {"same"}


def test_each_part_has_a_switch(code):
    """What is off is stock's; with everything off there is no second translation."""
    tab = code(LayerNorm=a.right("LayerNorm") + "\nimport torch.nn.functional as F\nF.layer_norm\n")

    some = tab.answer({**EXAMPLE, "off": ["softmax", "Encoder"]})
    none = tab.answer({**EXAMPLE, "off": list(PARTS)})
    shortcut = tab.answer({**EXAMPLE, "on": ["LayerNorm"]})

    assert set(some["used"]) - set(some["on"]) == {"softmax", "Encoder", "LayerNorm"}
    assert none["on"] == [] and none["yours"] is None and none["first"] is None
    assert "LayerNorm" in shortcut["on"]  # a shortcut runs for whoever wants to see it


@pytest.mark.parametrize("search", ["beam", "sample"])
def test_every_search_is_the_learner_s(code, search):
    """The decoding part of the search that is chosen takes part."""
    answer = code().answer({**EXAMPLE, "search": search})

    assert writing.SEARCHES[search] in answer["on"]
    assert states(answer)[writing.SEARCHES[search]] == "same"
    assert answer["yours"]["text"] == answer["stock"]["text"]


def test_nothing_of_the_learner_s_runs_here(code):
    """A cell leaves no trace in the page's process, and reads no file of the machine's."""
    cell = (
        "import builtins\nbuiltins.WAS_HERE = True\n"
        f"try:\n    open({__file__!r}).read()\n    seen = 'a file'\n"
        "except OSError:\n    seen = 'nothing'\n" + a.right("softmax")
    )
    read = cell.replace("exponentials =", "assert seen == 'nothing'; exponentials =")

    answer = code(softmax=read).answer(EXAMPLE)

    assert states(answer)["softmax"] == "same"
    assert not hasattr(builtins, "WAS_HERE")


def test_words_of_the_learner_s_are_bounded(code):
    """An error may say anything: it comes as plain text that moves no cursor."""
    cell = "def softmax(scores, dim=-1):\n    raise ValueError('<b>\\x1b[2J' + 'x' * 100_000)\n"

    words = code(softmax=cell).answer(EXAMPLE)["verdicts"]["softmax"]["words"]

    assert "<b>" in words and "\x1b" not in words and len(words) <= 1_000


@pytest.mark.parametrize("question", [
    {}, {"text": 7}, {"pair": "../.."}, {"search": "all"}, {"search": ["greedy"]}, {"off": [None]},
    {"off": ["Softmax"]}, {"on": [["softmax"]]}, {"on": {"softmax": 1}}, {"off": "softmax"},
    {"off": ["softmax"] * 1_000}, {"text": "x" * 401}, {"text": "两个男人"},
])  # fmt: skip
def test_a_question_may_hold_anything(tmp_path, checkpoint, question):
    """Refused with a sentence, before any process is asked for."""
    work = Work(a.a_folder(tmp_path, solved=False))
    tab = YourCode(work, Checks(work), {"en-de": checkpoint}, zygote=None)

    with pytest.raises(Refused):
        tab.answer(question and EXAMPLE | question)


class Forger:
    """In the place of a learner's process: gives whatever it likes."""

    def __init__(self, answer):
        self.answer = answer

    def ask(self, do, *_, **__):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


NAN = torch.full((4, 4), torch.nan)


@pytest.mark.parametrize("answer", [
    None, [], {}, "same", [None], [{"gave": None}], [{"gave": [NAN]}], [{"gave": [NAN, NAN]}],
    [{"gave": [torch.zeros(3, 3, device="meta")]}], [{"gave": [torch.zeros(2, 2).bool()]}],
    [{"raised": None}], [{"raised": {"words": 7}}], Ended("crashed"),
    [{"gave": [torch.full((3, 3), torch.inf)], "changed": "yes"}],
])  # fmt: skip
def test_forged_answers_are_no_agreement(answer):
    """No answer but stock's own numbers counts as the same, and each becomes plain JSON."""
    call = comparing.Call("softmax", "", [torch.zeros(3, 3)], {}, None, gave=(torch.ones(3, 3),))
    stock = SimpleNamespace(calls={"softmax": [call]}, trace=SimpleNamespace(calls=[call]))

    verdict = comparing.compare(Forger(answer), stock, "softmax")

    assert verdict.state != "same"
    assert comparing.first(stock, {"softmax": verdict}) == ("softmax", call)


IDS = torch.tensor([[1, 5, 2]])


@pytest.mark.parametrize("answer", [
    None, [IDS], [IDS, 0.5, {}], [IDS.float(), 0.5, {}], [IDS + 10**9, 0.5, {}], [IDS[0], 0.5, {}],
    [torch.ones(1, 10_000, dtype=torch.int64), 0.5, {}], [IDS, "much", {"cross": NAN}],
])  # fmt: skip
def test_a_forged_translation_is_refused(answer, checkpoint):
    """Ids that are none, attention of another shape: the learner is told, nothing is drawn."""
    stock = SimpleNamespace(source=IDS, max_len=60)

    with pytest.raises(comparing.Failed):
        comparing.write(Forger(answer), checkpoint, stock, ["softmax"], "greedy")


def test_minus_a_billion_hides_as_well_as_minus_infinity():
    """Hidden scores count as the same; an infinite one where stock has a number is far away."""
    hidden = torch.tensor([0.5, -math.inf])

    assert comparing.distance(hidden, torch.tensor([0.5, -1e9])) == 0
    assert comparing.distance(hidden, torch.tensor([-math.inf, 0.5])) >= FAR / 10


def test_a_saved_notebook_is_seen(tmp_path):
    """A new number for what was saved; half a file costs its parts until it is whole again."""
    work = Work(a.a_folder(tmp_path, solved=False))
    before = work.look(at_once=True)
    unit = unit_named("01")

    path = a.write(tmp_path, unit)
    assert work.look(at_once=True) == before + 1
    assert work.cells["softmax"].state == "written"
    assert work.saved == ["attention.ipynb"]
    whole = path.read_text("utf-8")
    path.write_text(whole[: len(whole) // 2])
    assert work.look(at_once=True) == before + 2
    assert work.cells["softmax"].state == "missing"
    path.write_text(whole)
    assert work.look(at_once=True) == before + 3
    assert work.look(at_once=True) == before + 3
    assert work.cells["softmax"].source == a.right("softmax")


def test_a_folder_without_notebooks_is_said(tmp_path):
    """Which folder was meant, and what makes one."""
    with pytest.raises(ValueError, match="lab build"):
        Work(tmp_path)
    with pytest.raises(ValueError, match="no folder"):
        Work(tmp_path / "nowhere")


@pytest.fixture
def a_live(tmp_path, monkeypatch):
    """What is shared by the tabs, on a machine with this sandbox."""

    def of(public, layers):
        work = Work(a.a_folder(tmp_path, solved=False))
        found = live.Live(work, Checks(work), zygote=None, public=public)
        report = dict.fromkeys(("limits", "landlock", "seccomp"), "not here") | layers
        monkeypatch.setattr(live.Live, "sandbox", lambda self: report)
        return found

    return of


FULL = {"limits": True, "landlock": True, "seccomp": True}


def test_public_takes_a_full_sandbox(a_live):
    """Less than that, and the page does not start; in full, it says what visitors get."""
    weak = FULL | {"landlock": "Function not implemented"}
    with pytest.raises(ValueError, match="full sandbox.*Function not implemented"):
        live._refused_or_said(a_live(True, weak), "127.0.0.1", 7860, public=True)

    said = " ".join(live._refused_or_said(a_live(True, FULL), "0.0.0.0", 7860, public=True))
    assert "everybody who can reach this machine on port 7860" in said
    assert "your progress" in said


@pytest.mark.parametrize(("host", "refused"), [
    ("127.0.0.1", False), ("localhost", False), ("::1", False),
    ("0.0.0.0", True), ("192.168.1.7", True), ("lab.example.edu", True),
])  # fmt: skip
def test_code_is_not_shown_to_others_by_accident(a_live, host, refused):
    """A page that others can reach runs no code unless --public says so."""
    if refused:
        with pytest.raises(ValueError, match="add --public"):
            live._refused_or_said(a_live(False, FULL), host, 7860, public=False)
    else:
        live._refused_or_said(a_live(False, FULL), host, 7860, public=False)


def test_a_public_page_gives_code_strict_processes(tmp_path):
    """Each process of a public page is refused where its sandbox is less than full."""
    folder = a.a_folder(tmp_path, solved=False)

    public, own = live.Live.of(folder, public=True), live.Live.of(folder)

    assert isinstance(public.zygote, live.Strict) and public.checks.strict
    assert not isinstance(own.zygote, live.Strict)
    assert own.checks.records and not public.checks.records


def test_a_learner_s_loop_keeps_nobody_waiting(a_live, monkeypatch):
    """What the tab asks waits in a queue of its own, not in the translations'."""
    there = dataclasses.replace(a_live(False, FULL), zygote=SimpleNamespace(start=lambda: None))
    queues = []
    monkeypatch.setattr(your_code, "gr", SimpleNamespace(Tab=lambda *_, **__: nullcontext()))
    monkeypatch.setattr(your_code, "drawing", lambda *_, **__: None)
    monkeypatch.setattr(
        your_code, "answers", lambda *_, concurrency_id="model": queues.append(concurrency_id)
    )

    your_code.tab(there)(None, {"en-de": SimpleNamespace(examples=[a.EXAMPLE])})

    assert queues == ["your-code"]
