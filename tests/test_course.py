"""The course proves itself: references pass, mistakes are caught and named, honest ways count."""

import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from autograder.checks import suite
from autograder.diagnosis import candidates
from autograder.hints import hints_of
from autograder.judge import checks_of, judge
from autograder.mistakes import mistakes_of
from autograder.quizzes import questions
from autograder.report import report_on
from autograder.submission import Submission, report
from lab import parts, stock
from lab.course import PARTS, UNITS
from lab.parts import from_package

ROOT = Path(__file__).parents[1]
EXERCISES = ROOT / "exercises"
SEEDS = range(5)
MISTAKES = [mistake for part in PARTS for mistake in mistakes_of(part)]
ALTERNATIVES = [
    (part, way)
    for unit in UNITS
    for part, ways in importlib.import_module(f"alternatives.{unit.module}").ALTERNATIVES.items()
    for way in ways
]


@pytest.mark.parametrize("part", PARTS)
def test_the_reference_earns_all_points(part):
    """Whatever the seed of the inputs."""
    reference = from_package("solutions")[part]
    for seed in SEEDS:
        report = report_on(part, reference, seed)
        assert report.points == report.max_points, f"seed {seed}\n{report.text()}"
        assert report.state == "passed", report.text()


@pytest.mark.parametrize("part", PARTS)
def test_stock_earns_all_points(part):
    """PyTorch's own layers pass the suites, too: no suite asks for the reference's ways."""
    for outcome in judge(part, getattr(stock, part)):
        assert outcome.passed, f"{outcome.check.name}: {outcome.error!r}"


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda m: f"{m.part}-{m.id}")
def test_a_mistake_is_caught_and_named(mistake):
    """It loses points, and among all known mistakes of its part it alone fits."""
    outcomes = judge(mistake.part, mistake.implementation, seed=1)

    assert not all(outcome.passed for outcome in outcomes), "no check fails"
    assert [found.id for found in candidates(mistake.part, outcomes, seed=1)] == [mistake.id]


@pytest.mark.parametrize("part, way", ALTERNATIVES, ids=lambda x: getattr(x, "__name__", x))
def test_an_honest_alternative_earns_all_points(part, way):
    """In whatever style it is written."""
    for seed in range(2):
        report = report_on(part, way, seed)
        assert report.points == report.max_points, f"seed {seed}\n{report.text()}"
        assert report.state == "passed", report.text()


def test_the_catalogues_are_as_large_as_promised():
    """At least 100 mistakes and 60 alternatives, and some for every part."""
    assert len(MISTAKES) >= 100
    assert len(ALTERNATIVES) >= 60
    assert {mistake.part for mistake in MISTAKES} == set(PARTS)
    assert {part for part, _ in ALTERNATIVES} == set(PARTS)


def test_every_mistake_has_an_id_of_its_own_and_says_what_to_do():
    """Name, sentence and hint; ids are unique within a part."""
    assert len({(mistake.part, mistake.id) for mistake in MISTAKES}) == len(MISTAKES)
    for mistake in MISTAKES:
        assert mistake.name and mistake.sentence.endswith((".", "?", "…")), mistake
        assert mistake.hint and mistake.hint != mistake.sentence, mistake


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_the_points_of_a_unit_add_up(unit):
    """What its checks give is what the syllabus says; there are as many questions as points."""
    for part, (points, minutes) in unit.parts.items():
        assert sum(check.points for check in checks_of(part)) == points, part
        assert minutes > 0
    assert len(questions(unit.name)) == unit.quiz


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_every_check_belongs_to_its_unit_and_has_a_sentence(unit):
    """One sentence in the docstring, two arguments, no name twice."""
    checks = suite(unit.module)

    assert [part for part in unit.parts] == list(dict.fromkeys(check.part for check in checks))
    assert len({check.name for check in checks}) == len(checks)
    for check in checks:
        assert check.sentence.endswith((".", "…")), check
        assert check.points > 0
        assert list(inspect.signature(check.function).parameters) == ["work", "draw"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_every_quiz_explains_every_wrong_answer(unit):
    """A right answer among the options, a reason for each, and different ones."""
    asked = questions(unit.name)

    assert len({question.id for question in asked}) == len(asked)
    for question in asked:
        right, why = question.judge(question.right)
        assert right and why, question.id
        if question.kind == "choice":
            assert set(question.why) == set(question.options), question.id
            assert len(set(question.why.values())) == len(question.options) >= 3
            wrong = [letter for letter in question.options if letter != question.right]
            assert not any(question.judge(letter)[0] for letter in wrong)
        else:
            assert {"right", "default"} <= set(question.why), question.id
        assert not question.judge("nonsense")[0]
    rights = {question.right for question in asked if question.kind == "choice"}
    assert len(rights) > 1, "the right answer is always the same letter"


@pytest.mark.parametrize("part", PARTS)
def test_every_part_has_three_hints(part):
    """A nudge, pseudo-code, a pointer into the lesson."""
    assert len(hints_of(part)) == 3
    assert all(hints_of(part))


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_untouched_stubs_earn_nothing(unit):
    """The notebook as it is handed out: every part is not started, at 0 points."""
    submission = Submission.load(EXERCISES / unit.name / f"{unit.module}.ipynb")

    assert submission.problems == ()
    found = {each.part: (each.state, each.points) for each in report(submission)}
    assert found == dict.fromkeys(unit.parts, ("not started", 0.0))


@pytest.mark.slow
def test_the_suites_are_pytest_suites(tmp_path):
    """pytest alone gives the verdicts that check() gives: here softmax is wrong, all else right."""
    package = tmp_path / "somebodys"
    package.mkdir()
    (package / "__init__.py").touch()
    for unit in UNITS:
        names = ", ".join(unit.parts)
        (package / f"{unit.module}.py").write_text(
            f"from solutions.{unit.module} import {names}\n", encoding="utf-8"
        )
    wrong = mistakes_of("softmax")[0]
    with (package / "attention.py").open("a", encoding="utf-8") as module:
        module.write(
            "from autograder.mistakes.attention import "
            f"{wrong.implementation.__name__} as softmax\n"
        )

    command = [sys.executable, "-m", "pytest", "autograder/suites", "-q", "-rfE", "-n0"]
    command += ["-p", "no:cacheprovider", "--work", "somebodys", "--seed", "2"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)

    lost = {each.check.name for each in judge("softmax", wrong.implementation, 2) if each.error}
    assert set(re.findall(r"^FAILED .*::test_(\w+)", run.stdout, re.M)) == lost, run.stdout
    passed = sum(len(suite(unit.module)) for unit in UNITS) - len(lost)
    assert f"{passed} passed" in run.stdout


TWO_THINGS = """
def softmax(scores, dim=-1):
    e = torch.exp(scores)
    return e / e.sum(-1, keepdim=True)
"""
UNKNOWN = """
class Decoder(nn.Module):
    def __init__(self, n_layers, d_model, n_heads, d_ff, dropout=0.1):
        super().__init__()
        layers = [DecoderLayer(d_model, n_heads, d_ff, dropout) for _ in range(n_layers)]
        self.layers = nn.ModuleList(layers)

    def forward(self, x, memory, self_mask=None, cross_mask=None):
        for layer in self.layers:
            memory = layer(x, memory, self_mask, cross_mask)
        return memory
"""


def test_two_mistakes_at_once_are_both_named():
    """The wrong axis, and no maximum taken off."""
    found = report_of(TWO_THINGS, "softmax").diagnosis

    assert found.headline == "Several things at once" and len(found.mistakes) > 1


def test_a_mistake_that_explains_little_is_not_blamed():
    """Another mistake that shares the last failure says nothing about the first."""
    found = report_of(UNKNOWN, "Decoder").diagnosis

    assert found.mistakes == ()
    assert found.sentence.startswith("x goes from layer to layer")


def report_of(text, part):
    namespace = {
        "__name__": "__main__",
        "torch": torch,
        "nn": torch.nn,
        "DecoderLayer": parts.DecoderLayer,
    }
    exec(text, namespace)
    return report_on(part, namespace[part], source=text)


FUNCTIONS = [part for part in PARTS if not isinstance(getattr(stock, part), type)]


@pytest.mark.parametrize("part", FUNCTIONS)
def test_a_part_that_does_nothing_earns_nothing(part):
    """No law is so weak that None obeys it."""
    assert report_of(f"def {part}(*args, **kwargs):\n    return None", part).points == 0
