"""Notebooks that are after points, other people's points, or the grader itself; as root and not.

Each attack stands in the cell of one part, in a notebook whose other parts are right. It gains
nothing, its neighbours lose nothing, and the next notebook is graded as ever.
"""

import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch
from attacks.known import ENDLESS, NBGRADER, OTTER
from attacks.own import OWN
from test_sandbox import ORDINARY, VISIBLE, closed

from autograder.oracle import remote
from autograder.oracle.grading import WORDS, grade, secret
from autograder.quizzes import questions
from autograder.submission import Submission
from lab import decoding
from lab.course import PARTS, UNITS

pytestmark = [
    pytest.mark.xdist_group("oracle"),
    pytest.mark.skipif(sys.platform != "linux", reason="elsewhere files and processes are open"),
]

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]
MEMORY = 400  # MiB by which the judge may grow in the worst case, for a moment
SMALL = next(unit for unit in UNITS if unit.module == "feed_forward")


@pytest.fixture
def zygote(learners):
    return learners


def notebook(unit, folder, **cells):
    """The unit's notebook, solved, with other texts in the cells of some parts."""
    lesson = (PROJECT / f"solutions/{unit.module}.py").read_text("utf-8")
    right = dict(re.findall(r'^# %% solution="(\w+)"\n(.*?)(?=^# %%)', lesson, re.M | re.S))
    file = PROJECT / f"exercises/{unit.name}/{unit.module}.ipynb"
    content = json.loads(file.read_text("utf-8"))
    for cell in content["cells"]:
        name = cell["metadata"].get("nbgrader", {}).get("grade_id")
        if name in right:
            cell["source"] = (right | cells)[name]
    path = folder / f"{unit.module}.ipynb"
    path.write_text(json.dumps(content), "utf-8")
    return path


def points(result):
    return {part["part"]: part["points"] for part in result["parts"] if part["part"] != "quiz"}


@pytest.fixture
def place(tmp_path):
    """A teacher's folder: a gradebook, an answer, settings, a neighbour's work."""
    folder = tmp_path / "course"
    folder.mkdir()
    with sqlite3.connect(folder / "gradebook.db") as marks:
        marks.execute("create table mark (name text, points real)")
        marks.execute("insert into mark values ('alice', 26), ('mallory', 0)")
    marks.close()
    (folder / "nbgrader_config.py").write_text("c = get_config()\n")
    for name in ("solutions", "submitted/alice"):
        (folder / name).mkdir(parents=True)
        notebook(UNITS[0], folder / name)
    return folder


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def strike(zygote, folder, place, part, source):
    """The result of the notebook with this cell, after a look at everything it might have hit."""
    before = contents(place), torch.get_rng_state(), children(zygote)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        source = source.replace("PLACE", str(place)).replace("PROJECT", str(PROJECT))
        source = source.replace("PORT", str(listening.getsockname()[1]))
        path = notebook(PARTS[part], folder, **{part: source})
        Path("/proc/self/clear_refs").write_text("5")
        used = peak()

        result = grade(Submission.load(path), zygote, secret())

        assert peak() - used < MEMORY, f"the judge has grown by {peak() - used} MiB"
        listening.setblocking(False)
        with pytest.raises(BlockingIOError):  # nobody has called
            listening.accept()
    assert contents(place) == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
    assert torch.is_grad_enabled() and torch.get_default_dtype() == torch.float32
    assert children(zygote) == before[2] and not strays()
    assert not list(zygote._home.folder.iterdir())
    assert all(len(each["message"]) <= WORDS for each in result["parts"])
    assert "\x1b" not in str(result) and len(json.dumps(result)) < 100_000
    return result


def costs_nobody_else(result, part, earned):
    assert result["status"] == "graded"
    for name, got in points(result).items():
        if name != part:
            assert got == PARTS[name].parts[name].points, f"{name} has lost points"
    if earned is not None:
        assert points(result)[part] == earned, result["parts"]


def next_is_graded_as_ever(zygote, folder):
    result = grade(Submission.load(notebook(SMALL, folder)), zygote, secret())
    assert points(result) == {"FeedForward": 6.0}


def peak():
    status = Path("/proc/self/status").read_text()
    return int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) >> 10


def children(zygote):
    process = zygote._home.process.pid
    return Path(f"/proc/{process}/task/{process}/children").read_text().split()


def strays():
    found = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += [each.parent.name] if b"attention-lab-stray" in each.read_bytes() else []
        except OSError:  # it has ended
            pass
    return found


# §4.1 and §4.2 of the facts: what works elsewhere


@pytest.mark.parametrize("name", NBGRADER)
def test_what_fools_nbgrader_gains_nothing(name, zygote, tmp_path, place):
    """Not a point, nobody else's, and nothing of it stays."""
    result = strike(zygote, tmp_path, place, "softmax", NBGRADER[name])

    costs_nobody_else(result, "softmax", 0)
    next_is_graded_as_ever(zygote, tmp_path)


@pytest.mark.parametrize("name", OTTER)
def test_what_fools_otter_gains_nothing(name, zygote, tmp_path, place):
    """No pickle is read, and no function of the judge's is where the learner's code is."""
    result = strike(zygote, tmp_path, place, "softmax", OTTER[name])

    costs_nobody_else(result, "softmax", 0)
    next_is_graded_as_ever(zygote, tmp_path)


@pytest.mark.parametrize("name", ENDLESS)
def test_what_has_no_end_costs_itself(name, zygote, tmp_path, place, monkeypatch):
    """The process is replaced, in time, and the other parts are graded."""
    monkeypatch.setattr(remote, "SECONDS", 1.5)
    monkeypatch.setattr(remote, "IN_ALL", 3)
    begun = time.monotonic()

    result = strike(zygote, tmp_path, place, "softmax", ENDLESS[name])

    assert time.monotonic() - begun < 15
    costs_nobody_else(result, "softmax", 0)
    next_is_graded_as_ever(zygote, tmp_path)


# Our own


@pytest.mark.parametrize("name", OWN)
def test_an_attack_gains_nothing(name, zygote, tmp_path, place, monkeypatch):
    """Its points are those of what it computes, and the rest of the notebook keeps its own."""
    monkeypatch.setattr(remote, "SECONDS", 3)
    monkeypatch.setattr(remote, "IN_ALL", 6)
    part, earned, source = OWN[name]

    result = strike(zygote, tmp_path, place, part, source)

    costs_nobody_else(result, part, earned)
    assert points(result)[part] <= (earned or 4)
    next_is_graded_as_ever(zygote, tmp_path)


def test_a_process_that_dies_and_does_not_start_again_costs_itself(zygote, tmp_path, place):
    """The cell ran once; when its process is replaced it gives an error, or an exit."""
    for last in ("raise OSError('late')", "import sys; sys.exit()", "import os; os._exit(0)"):
        source = f"""
import os, time
if time.time() > {time.time() + 1.5}: {last}
def softmax(scores, dim=-1):
    time.sleep(0.5)  # so that it ends after the 1.5 s in which the cell still runs
    os._exit(0)
"""
        costs_nobody_else(strike(zygote, tmp_path, place, "softmax", source), "softmax", 0)


def test_the_seed_is_not_to_be_seen(zygote, tmp_path, place):
    """torch's random numbers do not tell from which seed the inputs were drawn."""
    source = "def softmax(scores, dim=-1): raise ValueError(f'seed {torch.initial_seed()}')"
    path = notebook(UNITS[0], tmp_path, softmax=source)

    result = grade(Submission.load(path), zygote, 123_456_789_012)

    message = result["parts"][0]["message"]
    assert "seed " in message and "123456789012" not in message


def test_a_quiz_is_read_and_not_run(zygote, tmp_path, place):
    """Whatever stands in the cell of the answers, it is nothing or an answer."""
    for answers in (
        "answers = __import__('os').system('touch PLACE/owned')",
        "answers = {'why-scale': 0x" + "f" * 5000 + "}",
        "answers = {q: 10**9 for q in 'abc'}",
        "answers = {" + ", ".join(f"'{i}': {'9' * 400}" for i in range(9)) + "}",
        "answers = " + "[" * 90 + "]" * 90,
        "answers = {1: {2: {3}}, None: b'x', 'a': float}",
        "answers = '\0'",
    ):
        path = notebook(SMALL, tmp_path)
        content = json.loads(path.read_text())
        asked = [each.id for each in questions(SMALL.name)]
        for cell in content["cells"]:
            if "quiz" in cell["metadata"].get("lab", {}):
                cell["source"] = answers.replace("PLACE", str(place))
                for huge in ("0x" + "f" * 5000, "9" * 400):
                    if huge in answers:
                        cell["source"] = f"answers = {dict.fromkeys(asked, 0)!r}".replace("0", huge)
        path.write_text(json.dumps(content))

        result = grade(Submission.load(path), zygote, secret())

        assert result["status"] == "graded" and result["parts"][-1]["points"] == 0
        assert not (place / "owned").exists()


def test_the_names_that_are_taken_away_are_the_lab_s():
    """Of the lab's own search nothing is left where a part of it is asked for."""
    from autograder.oracle.worker import INSIDE

    assert all(hasattr(decoding, name) for names in INSIDE.values() for name in names)


@pytest.mark.parametrize(
    ("part", "source"),
    {
        "softmax": """
def softmax(scores, dim=-1):
    scores.data.zero_()
    return (1 + scores - scores.mean(dim, keepdim=True)) / scores.size(dim)
""",
        "scaled_dot_product_attention": """
def scaled_dot_product_attention(query, key, value, mask=None):
    for x in (query, key, value): x.data.zero_()
    weights = query @ key.transpose(-2, -1) + 1 / key.size(-2)
    return weights @ value, weights
""",
    }.items(),
)
def test_inputs_set_to_zero_gain_nothing(part, source, zygote, tmp_path, place):
    """A part that zeroes its inputs has an easy task."""
    costs_nobody_else(strike(zygote, tmp_path, place, part, source), part, 0)


# What is not prevented


@pytest.mark.xfail(strict=True, reason="what is in the process can be called by who hides it well")
@pytest.mark.parametrize(
    "source",
    [
        """
names = {"torch": torch}
exec("def theirs(x, dim): return getattr(torch, 'soft' + 'max')(x, dim)", names)
def softmax(scores, dim=-1): return names["theirs"](scores, dim)
""",
        """
import types
from lab import parts
theirs = parts.implementation("soft_lookup")
lookup = types.FunctionType(theirs.__code__, theirs.__globals__)
def softmax(scores, dim=-1):
    x = scores.movedim(dim, -1)
    one = torch.ones(1, dtype=x.dtype)
    rows = [lookup(one, row[:, None], row[:, None])[1] for row in x.reshape(-1, x.size(-1))]
    return torch.stack(rows).reshape(x.shape).movedim(-1, dim)
""",
    ],
    ids=["torch's by exec", "a later part's code, copied"],
)
def test_a_hidden_shortcut_gains_nothing(source, zygote, tmp_path, place):
    """The policy sees names and calls; it is a rule for the honest, not a wall."""
    costs_nobody_else(strike(zygote, tmp_path, place, "softmax", source), "softmax", 0)


# The same for an ordinary user


@pytest.mark.skipif(os.getuid() != 0, reason="this is one already")
@pytest.mark.slow
def test_all_of_this_holds_for_an_ordinary_user():
    """The known attacks again, by root's least favoured user."""
    if not (shutil.which("unshare") and shutil.which("setpriv")):
        pytest.skip("it takes util-linux")
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # pytest's own are closed to others
        os.chown(folder, ORDINARY, ORDINARY)
        result = subprocess.run(
            [
                *("unshare", "--mount", "sh", "-c", VISIBLE, "sh"),
                *(closed(Path(sys.base_prefix)), sys.base_prefix, folder),
                *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"),
                *(f"--basetemp={folder}/pytest", "-k", "nbgrader or otter or end or quiz"),
                HERE / "test_attacks.py",
            ],
            cwd=PROJECT,
            env={**os.environ, "HOME": folder, "TMPDIR": folder, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        left = list(Path(folder).glob("attention-lab-*"))

    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-2000:]
    assert "passed" in result.stdout and not left
