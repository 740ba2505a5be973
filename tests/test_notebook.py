"""What a learner calls: check, quiz, hint, status, reset; and what a report says."""

import inspect
import json
import math
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from autograder import check, hint, progress, quiz, reset, status
from autograder.quizzes import questions
from autograder.report import report_on
from lab import stock
from lab.course import PARTS, UNITS
from solutions import attention as reference
from solutions.decoding import greedy_decode


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A learner with no progress yet, outside any grader."""
    monkeypatch.setenv("LAB_PROGRESS", str(tmp_path / "progress"))
    monkeypatch.delenv("NBGRADER_EXECUTION", raising=False)
    return tmp_path / "progress"


def written(text: str, name: str = "softmax"):
    """A part as a notebook's cell defines it: the namespace it lives in, and its text."""
    namespace = {"__name__": "__main__", "math": math, "torch": torch, "nn": nn}
    exec(compile(text, "<cell>", "exec"), namespace)
    return namespace[name]


def report(text: str, part: str = "softmax"):
    return report_on(part, written(text, part), source=text)


# check


def test_check_returns_the_points_as_a_float(capsys):
    """nbgrader reads them from the cell; nothing is written to stderr."""
    points = check("softmax", reference.softmax)

    assert isinstance(points, float) and points == 6
    assert (repr(points), points._repr_html_()) == ("6.0", "")  # nbgrader's eyes, and a learner's
    said = capsys.readouterr()
    assert said.err == ""
    assert "softmax: 6 of 6 points" in said.out
    assert said.out.count("✓") == 5


def test_check_finds_the_part_in_the_notebook(monkeypatch):
    """By its name, in the notebook's namespace."""
    monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace(softmax=reference.softmax))

    assert check("softmax") == 6


def test_a_part_that_is_not_there_is_no_error(monkeypatch, capsys):
    """The cell above has not been run."""
    monkeypatch.setitem(sys.modules, "__main__", SimpleNamespace())

    assert check("softmax") == 0
    assert "run the cell above" in capsys.readouterr().out


def test_a_slip_in_the_name_of_a_part_is_met_with_the_right_one():
    """check("SoftMax") asks whether softmax is meant."""
    with pytest.raises(ValueError, match="do you mean 'softmax'"):
        check("Softmax")
    with pytest.raises(ValueError, match="do you mean 'MultiHeadAttention'"):
        hint("MultiheadAttention")


def test_a_noisy_part_stays_quiet(capfd):
    """What it prints comes back in the report, on no stream; warnings and stderr go nowhere."""
    noisy = """
import os, sys, warnings
def softmax(scores, dim=-1):
    print("my shape is", tuple(scores.shape))
    print("to stderr", file=sys.stderr)
    os.write(2, b"past Python")
    warnings.warn("a warning")
    return scores
"""
    found = report(noisy)

    assert "my shape is (5, 7, 4)" in found.text()
    said = capfd.readouterr()
    assert said.out == said.err == ""


def test_judging_changes_nothing_for_the_learner():
    """Random numbers go on as if nothing had happened, and no part stays replaced."""
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)

    check("SelfAttention", reference.SelfAttention)

    assert torch.equal(torch.rand(3), expected)
    assert reference.scaled_dot_product_attention.__module__ == "solutions.attention"


def test_one_mistake_costs_one_part():
    """SelfAttention is judged on a right attention, although the notebook's own is wrong."""
    text = """
def softmax(scores, dim=-1):
    return scores
def scaled_dot_product_attention(query, key, value, mask=None):
    return softmax(query @ key.transpose(-2, -1)) @ value, None
class SelfAttention(nn.Module):
    def __init__(self, d_model, d_k=None, d_v=None):
        super().__init__()
        self.q_proj = nn.Linear(d_model, d_k or d_model)
        self.k_proj = nn.Linear(d_model, d_k or d_model)
        self.v_proj = nn.Linear(d_model, d_v or d_model)
    def forward(self, x, mask=None):
        return scaled_dot_product_attention(self.q_proj(x), self.k_proj(x), self.v_proj(x), mask)
"""
    module = written(text, "SelfAttention")
    mine = module.forward.__globals__["scaled_dot_product_attention"]

    assert report_on("SelfAttention", module, source=text).points == 6
    assert report_on("scaled_dot_product_attention", mine, source=text).points < 5
    assert module.forward.__globals__["scaled_dot_product_attention"] is mine


# What a report says


def test_a_stub_is_not_started():
    """Zero points, and no row of errors."""
    found = report("def softmax(scores, dim=-1):\n    raise NotImplementedError")

    assert (found.state, found.points) == ("not started", 0)
    assert "Not started" in found.text() and "✗" not in found.text()


def test_a_class_half_written_says_what_is_missing():
    """__init__ is there, forward is not: the points for the names are earned."""
    text = """
class SelfAttention(nn.Module):
    def __init__(self, d_model, d_k=None, d_v=None):
        super().__init__()
        self.q_proj = nn.Linear(d_model, d_k or d_model)
        self.k_proj = nn.Linear(d_model, d_k or d_model)
        self.v_proj = nn.Linear(d_model, d_v or d_model)
    def forward(self, x, mask=None):
        raise NotImplementedError
"""
    found = report(text, "SelfAttention")

    assert (found.state, found.points) == ("failed", 1)
    assert "Not all of it is written yet" in found.text()


def test_a_known_mistake_is_named_with_its_line_of_help():
    """Name, one sentence, where to read on."""
    found = report(
        "def softmax(scores, dim=-1):\n"
        "    e = torch.exp(scores - scores.amax(dim, keepdim=True))\n"
        "    return e / e.sum(dim, keepdim=True)\n"
    )

    assert found.diagnosis.named.id == "M14"
    assert "0/0 in a slice of -inf" in found.text()
    assert "01-attention" in found.text()


def test_an_unknown_mistake_is_told_by_its_law_and_first_difference():
    """No array dump: one place, the number there and the number that should be there."""
    found = report(
        "def softmax(scores, dim=-1):\n"
        "    e = torch.exp(scores * 1.5 - (1.5 * scores).amax(dim, keepdim=True))\n"
        "    return e / e.sum(dim, keepdim=True)\n"
    )

    assert found.diagnosis.named is None
    assert "at [0, 0, 0] is" in found.text()
    assert "tensor(" not in found.text()


def test_nan_is_called_nan():
    """Before any other difference."""
    found = report("def softmax(scores, dim=-1):\n    return scores * float('nan')")

    assert "NaN at [0, 0, 0]" in found.text()


@pytest.mark.parametrize(
    "body, words",
    [
        (
            "return scores @ scores",
            "A batched matrix product does not fit: the left side ends in 4",
        ),
        ("return scores.view(3, 4)", "does not hold 140 numbers"),
        ("return scors", "scors is not defined"),
        ("return scores.sum(9)", "Axis 9 is asked for"),
        ("return 1 / 0", "ZeroDivisionError"),
        ("return None", "is a `return` missing?"),
        ("return softmax(scores, dim)", "calls itself without an end"),
        ("return [scores]", "not a tensor"),
        ("return scores.sum(dim)", "the result has shape [5, 7], not [5, 7, 4]"),
        ("return (scores / scores).double().float()", "is float32, not float64"),
        ("raise SystemExit", "SystemExit"),
    ],
)
def test_an_error_is_put_into_words_with_the_learner_s_line(body, words):
    """Shapes with the contract's letters; the learner's line and no frame of the grader."""
    text = f"def softmax(scores, dim=-1):\n    {body}\n"

    said = report(text).text()

    assert words in said
    assert "autograder" not in said and "Traceback" not in said
    assert "line 2" in said or "return" in words or "not" in words or "[" in words


def test_sizes_get_the_letters_of_the_signature():
    """4 is d_k where the part has a d_k, and a number where it has none."""
    product = "def soft_lookup(query, keys, values):\n    return keys @ values"
    assert "2 columns on the left meet 3 rows" in report(product, "soft_lookup").text()
    name = "scaled_dot_product_attention"
    product = f"def {name}(query, key, value, mask=None):\n    return query @ value"
    assert "d_k=4 columns on the left meet S=7 rows" in report(product, name).text()


def test_a_name_of_another_cell_is_no_shortcut():
    """An argument `model` is not the trained model that stands under this name in the notebook."""
    namespace = {**greedy_decode.__globals__, "__name__": "__main__"}
    namespace["model"] = stock.Encoder(1, 4, 2, 4)
    exec(inspect.getsource(greedy_decode), namespace)

    assert report_on("greedy_decode", namespace["greedy_decode"]).passed


def test_a_loop_without_an_end_is_stopped(monkeypatch):
    """After some seconds, with a sentence."""
    monkeypatch.setattr("autograder.judge.SECONDS", 0.2)

    found = report("def softmax(scores, dim=-1):\n    while True: pass")

    assert "does not come to an end" in found.text()
    assert found.points == 0


@pytest.mark.parametrize(
    "body",
    [
        "return torch.softmax(scores, dim)",
        "return scores.softmax(dim)",
        "return nn.Softmax(dim)(scores)",
        "return nn.functional.softmax(scores, dim)",
        "return getattr(torch, 'soft' + 'max')(scores, dim)",
        "return (scores - scores.logsumexp(dim, keepdim=True)).exp()",
        "from lab import stock; return stock.softmax(scores, dim)",
        "from lab.stock import softmax as s; return s(scores, dim)",
        "from lab.parts import softmax as s; return s(scores, dim)",
        "from solutions.attention import softmax as s; return s(scores, dim)",
        "return __import__('lab.stock').stock.softmax(scores, dim)",
    ],
)
def test_a_shortcut_is_named_and_earns_nothing(body):
    """Seen in the source or while it runs."""
    found = report(f"def softmax(scores, dim=-1):\n    {body}\n")

    assert (found.state, found.points) == ("shortcut", 0)
    assert "to be written without it" in found.text()


def test_a_shortcut_may_stand_in_another_cell():
    """A finished part under whatever name it was imported."""
    text = "def softmax(scores, dim=-1):\n    return done(scores, dim)\n"
    part = written(text)
    from lab import stock

    part.__globals__["done"] = stock.softmax
    assert "line 2 uses done" in report_on("softmax", part, source=text).text()
    part.__globals__["done"] = stock
    assert report_on("softmax", part, source=text.replace("done", "done.softmax")).points == 0


def test_a_layer_of_the_same_name_is_a_shortcut():
    """torch's LayerNorm inside one's own LayerNorm."""
    text = """
class LayerNorm(nn.Module):
    def __init__(self, d_model, eps=1e-5):
        super().__init__()
        self.inner = nn.LayerNorm(d_model, eps)
    def forward(self, x):
        return self.inner(x)
"""
    assert "line 5 uses LayerNorm" in report(text, "LayerNorm").text()


def test_words_that_look_like_a_shortcut_are_none():
    """A method, an attribute or a variable of that name of the learner's own."""
    text = """
class Kit:
    def softmax(self, e, total):
        return e / total
kit = Kit()
def softmax(scores, dim=-1):
    peak = scores.detach().amax(dim, keepdim=True)
    e = torch.exp(scores - peak.masked_fill(peak == -math.inf, 0))
    total = e.sum(dim, keepdim=True)
    return kit.softmax(e, total.masked_fill(total == 0, 1))
"""
    assert report(text).points == 6


def test_html_escapes_what_the_learner_printed():
    """A report is shown in a page: nothing of the learner's becomes markup."""
    found = report("def softmax(scores, dim=-1):\n    print('<script>x</script>')\n")

    assert "<script>" not in found.html()
    assert "&lt;script&gt;" in found.html()


@pytest.mark.parametrize("part", PARTS)
def test_a_check_takes_less_than_a_second(part):
    """Of CPU time, for a part that is wrong and is compared with every known mistake."""
    import time

    from autograder.mistakes import mistakes_of

    wrong = mistakes_of(part)[0].implementation
    report_on(part, wrong, seed=0)  # what is loaded once is loaded
    begun = time.process_time()
    report_on(part, wrong, seed=0)
    assert time.process_time() - begun < 1


# Progress


def test_progress_keeps_the_best_and_counts_attempts(home):
    """A worse attempt takes nothing away."""
    check("softmax", reference.softmax)
    check("softmax", lambda scores, dim=-1: scores)

    kept = json.loads((home / "progress.json").read_text("utf-8"))["softmax"]
    assert (kept["points"], kept["attempts"], kept["last"]) == (6, 2, 0)
    assert "def softmax" in kept["source"]


def test_a_grader_leaves_no_traces(home, monkeypatch):
    """While nbgrader runs, nobody's progress is touched."""
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")

    check("softmax", reference.softmax)
    hint("softmax")

    assert not home.exists()


@pytest.mark.parametrize("broken", ["", "{", "[1]", '{"softmax": 3}', "\x00\xff"])
def test_a_broken_file_of_progress_is_put_aside(home, broken, capsys):
    """Nothing is overwritten; the learner is told."""
    home.mkdir()
    (home / "progress.json").write_text(broken, "latin-1")

    check("softmax", reference.softmax)

    assert progress.passed("softmax")
    assert "it is kept as" in capsys.readouterr().out
    (aside,) = home.glob("progress.unreadable-*.json")
    assert aside.read_text("latin-1") == broken


def test_status_shows_a_bar_for_every_unit(capsys):
    """With the points reached and the points there are."""
    check("softmax", reference.softmax)
    capsys.readouterr()

    status()

    said = capsys.readouterr().out.splitlines()
    assert len(said) == len(UNITS) + 1
    assert said[0].startswith("01-attention") and said[0].endswith(f"6 of {UNITS[0].points}")
    assert "█" in said[0] and "█" not in said[1]


def test_reset_forgets_a_part_or_a_unit(capsys):
    """And says that code stays."""
    check("softmax", reference.softmax)
    check("soft_lookup", reference.soft_lookup)

    reset("softmax")
    assert not progress.passed("softmax") and progress.passed("soft_lookup")
    reset("01-attention")
    assert not progress.passed("soft_lookup")
    assert "Your code stays" in capsys.readouterr().out


def test_reset_of_nothing_known_is_refused():
    """With the names there are."""
    with pytest.raises(ValueError, match="01-attention"):
        reset("12-rest")


def test_hints_come_one_after_the_other(capsys):
    """Nudge, pseudo-code, lesson; the solution only after passing."""
    for level in (1, 2, 3, 3):
        hint("softmax")
        said = capsys.readouterr().out
        assert f"Hint {level} of 3" in said
    assert "solutions/" not in said

    check("softmax", reference.softmax)
    hint("softmax", 3)
    assert "solutions/attention.py" in capsys.readouterr().out
    with pytest.raises(ValueError, match="1 to 3"):
        hint("softmax", 4)


def test_a_hint_after_a_named_mistake_fits_it(capsys):
    """What to do about this mistake comes first."""
    from autograder.mistakes.attention import global_maximum

    check("softmax", global_maximum)
    capsys.readouterr()
    hint("softmax")

    assert "each slice has a peak of its own" in capsys.readouterr().out


# Quiz


def test_quiz_gives_a_point_for_each_right_answer(capsys):
    """And says of each chosen answer why, or why not."""
    asked = questions("01-attention")
    answers = {question.id: question.right for question in asked}
    assert quiz("01-attention", answers) == len(asked)

    first = asked[0]
    wrong = next(letter for letter in first.options if letter != first.right)
    capsys.readouterr()
    assert quiz("01-attention", answers | {first.id: wrong}) == len(asked) - 1
    said = capsys.readouterr().out
    assert first.why[wrong] in said and "wrong" not in said.split("\n")[1].lower()[:8]


@pytest.mark.parametrize("answer", [None, "", "z", 7, object(), [], "(2, 3)", float("nan"), {}])
def test_no_answer_of_a_strange_kind_breaks_the_quiz(answer, capsys):
    """It is told what an answer looks like."""
    ids = [question.id for question in questions("01-attention")]

    assert quiz("01-attention", dict.fromkeys(ids, answer)) in (0.0, 1.0)
    assert "letter" in capsys.readouterr().out


def test_a_misspelt_question_is_told(capsys):
    """Its answer would be lost otherwise."""
    quiz("01-attention", {"path-lenght": "a"})

    assert "No such questions: path-lenght" in capsys.readouterr().out
