"""Parts that share a process: it saves time, and changes nobody's points."""

import pytest
from test_attacks import notebook, points

from autograder.cells import Program
from autograder.oracle import remote
from autograder.oracle.grading import grade, secret
from autograder.submission import Submission
from lab.course import UNITS

pytestmark = pytest.mark.xdist_group("oracle")

UNIT = next(unit for unit in UNITS if unit.module == "multi_head")
FULL = {part: float(of.points) for part, of in UNIT.parts.items()}
SPLIT = """
def split_heads(x, n_heads):
    batch, length, d_model = x.shape
    return x.reshape(batch, length, n_heads, d_model // n_heads).transpose(1, 2)
"""
MERGE = """
def merge_heads(x):
    return x.transpose(1, 2).flatten(2)
"""


@pytest.fixture
def rooms(monkeypatch):
    """Every process that is started, as the list of parts that it is for."""
    started = []

    class Counted(remote.Room):
        def enter(self):
            if self.fresh:
                started.append(self.parts)
            return super().enter()

    monkeypatch.setattr(remote, "Room", Counted)
    return started


@pytest.fixture
def zygote(learners):
    return learners


def earned(zygote, folder, **cells):
    result = grade(Submission.load(notebook(UNIT, folder, **cells)), zygote, secret())
    assert result["status"] == "graded"
    return points(result)


def test_parts_that_do_not_speak_of_each_other_are_apart():
    """Names count wherever they stand: in a body, as an attribute, in the other part's cell."""
    program = Program(
        cells=(
            ("softmax", "def softmax(x): return x.exp()"),
            ("soft_lookup", "def soft_lookup(q): return softmax(q)"),
            ("LayerNorm", "class LayerNorm: pass"),
            ("AddNorm", "class AddNorm:\n    def forward(self): return lab.LayerNorm"),
            ("FeedForward", None),
        )
    )

    assert program.apart(name for name, _ in program.cells) == [
        ["softmax", "LayerNorm", "FeedForward"],
        ["soft_lookup", "AddNorm"],
    ]


def test_two_processes_do_for_three_parts(zygote, tmp_path, rooms):
    """split_heads and merge_heads share one; the module that is made of them has its own."""
    assert earned(zygote, tmp_path) == FULL
    assert rooms == [["split_heads", "merge_heads"], ["MultiHeadAttention"]]


HARM = {
    "a broken torch": "torch.Tensor.transpose = torch.Tensor.reshape = None\n",
    "another type of numbers": "torch.set_default_dtype(torch.float16)\n",
    "no gradients": "torch.set_grad_enabled(False)\n",
    "a worker that lies": (
        "import sys\nworker = sys.modules['autograder.oracle.worker']\n"
        "worker.define = lambda program: None\n"
    ),
    "an end at the next part": (
        "import os, sys\nworker = sys.modules['autograder.oracle.worker']\n"
        "worker.withhold = lambda part: os._exit(0)\n"
    ),
    "an end in a while": ("import threading, os\nthreading.Timer(0.02, os._exit, [0]).start()\n"),
    "a hang at the next part": (
        "import sys, time\nworker = sys.modules['autograder.oracle.worker']\n"
        "worker.define = lambda program: time.sleep(99)\n"
    ),
}


@pytest.mark.parametrize("harm", HARM)
def test_what_one_part_does_to_the_process_costs_the_next_nothing(
    zygote, tmp_path, monkeypatch, harm
):
    """A part that does not pass in a process that was used before is judged in a fresh one."""
    monkeypatch.setattr(remote, "SECONDS", 3)

    found = earned(zygote, tmp_path, split_heads=HARM[harm] + SPLIT)

    assert {**found, "split_heads": 0.0} == {**FULL, "split_heads": 0.0}


def test_a_wrong_part_is_told_as_if_it_had_been_alone(zygote, tmp_path, rooms):
    """Its words come from a process of its own."""
    wrong = MERGE.replace("x.transpose(1, 2)", "x")
    path = notebook(UNIT, tmp_path, merge_heads=wrong)
    together = grade(Submission.load(path), zygote, 5)
    rooms.clear()
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        patch.setattr(Program, "apart", lambda self, wanted: [[part] for part in wanted])
        apart = grade(Submission.load(path), zygote, 5)

    assert [len(parts) for parts in rooms] == [1, 1, 1]
    assert together["parts"] == apart["parts"]
    assert points(together)["merge_heads"] < FULL["merge_heads"]


@pytest.mark.parametrize(
    "theft",
    [
        "from lab import stock\ntheirs = stock.merge_heads\n",
        "import sys, types\nstock = sys.modules['lab.stock']\n"
        "code = stock.merge_heads.__code__\n"
        "theirs = types.FunctionType(code, vars(stock))\n",
        "from lab import parts\ntheirs = parts.implementation('merge_heads')\n",
    ],
    ids=["its name", "its code", "its role"],
)
def test_a_neighbour_s_answer_is_not_in_the_room(zygote, tmp_path, theft):
    """All parts of a room are taken out of it before anybody's code runs there."""
    keep = "import builtins\nbuiltins.theirs = theirs\n"

    found = earned(
        zygote, tmp_path,
        split_heads=f"try:\n    {theft.strip().replace(chr(10), chr(10) + '    ')}\n"
        f"    {keep.strip().replace(chr(10), chr(10) + '    ')}\nexcept Exception: pass\n{SPLIT}",
        merge_heads="def merge_heads(x):\n    import builtins\n    return builtins.theirs(x)",
    )  # fmt: skip

    assert found["merge_heads"] == 0
    assert found["MultiHeadAttention"] == FULL["MultiHeadAttention"]
