"""lab grade from end to end: real processes, real signals, nobody lost, nothing graded twice."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from some_notebooks import UNIT, cell_of, released, right, solved, without, write

from autograder.cli import main
from autograder.oracle import grading, job
from autograder.oracle.batch import Graders, Kept, Processes, grade_all
from autograder.oracle.finding import find
from autograder.oracle.job import Job, TooWeak, failed
from autograder.oracle.result import blank
from autograder.submission import Submission
from lab.course import UNITS, unit_named

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc and this sandbox")
POISON = """
import os
grade = grader.grade
def deadly(submission, *rest):
    if "poison" in submission.path.name:
        os.kill(os.getpid(), 9)
    return grade(submission, *rest)
grader.grade = deadly
"""
WEAK = """
import functools
from autograder.oracle.zygote import Zygote
grader.Zygote.__init__ = functools.partialmethod(Zygote.__init__, layers=["limits"])
"""


def boot(more):
    """A grader's process with something done to it first."""
    return job.BOOT.replace("grader.main()", f"{more}\ngrader.main()")


def command(*arguments):
    code = "from autograder.cli import main; main()"
    return [sys.executable, "-c", code, "grade", *map(str, arguments)]


def run(folder, *arguments):
    return subprocess.run(
        command(*arguments), cwd=folder, capture_output=True, text=True, encoding="utf-8"
    )


def results(path):
    return json.loads(path.read_text("utf-8"))


def by_name(path):
    return {Path(each["notebook"]).stem: each for each in results(path)}


def timeless(found):
    return [each | {"seconds": 0} for each in found]


# What comes of a notebook


@pytest.fixture
def zygote(learners):
    return learners


def graded(zygote, notebook, name="x.ipynb"):
    raw = notebook if isinstance(notebook, bytes) else json.dumps(notebook).encode()
    return grading.grade(Submission.load(Path(name), raw=raw), zygote, seed=3)


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_what_was_not_touched_needs_no_process(zygote, unit, monkeypatch):
    """A stub's result is the one that its process would have given."""
    quick = graded(zygote, released(unit))
    monkeypatch.setattr(grading, "is_stub", lambda cell: False)
    slow = graded(zygote, released(unit))

    assert quick["sandbox"] == {}
    assert quick["parts"] == slow["parts"]
    assert [each["state"] for each in quick["parts"]] == ["not started"] * len(quick["parts"])


def test_a_stub_without_its_checksum_is_run(zygote):
    """A tool may have taken the checksums off, and a solved cell must not pass for a stub."""
    notebook = solved()
    del cell_of(notebook, "FeedForward")["metadata"]["nbgrader"]["checksum"]

    assert graded(zygote, notebook)["points"] == UNIT.points


@pytest.mark.parametrize(
    "notebook, status, reason",
    [
        (b"", "rejected", "is empty"),
        (b"hello", "rejected", "is no notebook"),
        (b'{"cells": [', "rejected", "is cut off"),
        (b"[" * 100_000, "rejected", "is no notebook"),
        ({"worksheets": [], "nbformat": 3}, "rejected", "has version 3 of the format"),
        ({"cells": [], "nbformat": 4}, "rejected", "the cell of FeedForward is missing"),
        (without(solved(), "check-FeedForward"), "graded", "grading puts it back"),
        (without(solved(), "FeedForward"), "rejected", "none of the cells of 06-feed-forward"),
    ],
)
def test_what_has_become_of_a_notebook(zygote, notebook, status, reason):
    """It is rejected, or graded, and why stands beside it."""
    result = graded(zygote, notebook, "feed_forward.ipynb")

    assert (result["status"], reason in result["reason"]) == (status, True), result["reason"]
    assert result["points"] == (UNIT.points if status == "graded" else None)


def test_of_a_doubled_cell_the_last_one_counts(zygote):
    """As in nbgrader; the reason says which cells they are."""
    notebook = solved()
    twin = json.loads(json.dumps(cell_of(notebook, "FeedForward"))) | {"source": "FeedForward = 1"}
    notebook["cells"].append(twin)

    result = graded(zygote, notebook)

    assert result["parts"][0]["points"] == 0
    assert "more than once" in result["reason"]


def test_a_notebook_in_another_language_is_rejected(zygote):
    """No 0 for cells that were never Python; an odd kernel over Python cells costs nothing."""
    kernel = {"kernelspec": {"name": "ir", "display_name": "R", "language": "R"}}
    odd = solved() | {"metadata": kernel}
    foreign = solved(FeedForward="FeedForward <- function(x) { x }") | {"metadata": kernel}

    assert graded(zygote, odd)["points"] == UNIT.points
    result = graded(zygote, foreign)
    assert (result["status"], result["points"]) == ("rejected", None)
    assert "not written in Python" in result["reason"]


def test_the_weakest_process_speaks_for_a_hand_in():
    """One part outside of a layer is a hand-in outside of it."""
    assert grading.weakest([{"limits": True, "seccomp": True}, {"limits": True, "seccomp": "no"},
                            {"limits": True, "seccomp": True}, {}]) == {
        "limits": True, "seccomp": "no",
    }  # fmt: skip


# The command


FORMAT = {
    "notebook": str, "unit": str | None, "points": float | None, "max_points": int | None,
    "status": str, "reason": str, "sandbox": dict, "seconds": float, "parts": list,
}  # fmt: skip
OF_PART = {
    "part": str, "points": float, "max_points": int, "state": str, "mistake": str | None,
    "message": str, "checks": list,
}  # fmt: skip
OF_CHECK = {"name": str, "passed": bool, "points": int | float, "message": str}
STATES = {"passed", "partial", "failed", "not started", "forbidden", "crashed", "timeout"}


def fits(value, kinds):
    return all(isinstance(value[name], kind) for name, kind in kinds.items())


def test_a_class_is_graded_and_graded_again(tmp_path):
    """One JSON in the issue's format, status 1 for what could not be; again, nothing changes."""
    write(tmp_path / "in" / "right.ipynb", solved())
    write(tmp_path / "in" / "twin.ipynb", solved())
    write(tmp_path / "in" / "stub.ipynb", released())
    write(tmp_path / "in" / "wrong.ipynb", solved(FeedForward="class FeedForward: pass"))
    (tmp_path / "in" / "none.ipynb").write_text("no notebook")

    first = run(tmp_path, "in", "--json", "out.json", "--jobs", 2)
    written = (tmp_path / "out.json").read_bytes()
    second = run(tmp_path, "in", "--json", "out.json")

    assert (first.returncode, second.returncode) == (1, 1)
    assert "━" not in first.stderr  # no bar, this is no terminal
    assert "none.ipynb  REJECTED: none.ipynb is no notebook" in first.stdout
    assert "06-feed-forward" in first.stdout
    assert (tmp_path / "out.json").read_bytes() == written
    assert first.stdout == second.stdout
    found = by_name(tmp_path / "out.json")
    assert list(found) == ["none", "right", "stub", "twin", "wrong"]
    for each in found.values():
        assert set(each) == set(FORMAT) and fits(each, FORMAT), each
        for part in each["parts"]:
            assert set(part) >= set(OF_PART) and fits(part, OF_PART), part
            assert part["state"] in STATES
            assert all(set(x) >= set(OF_CHECK) and fits(x, OF_CHECK) for x in part["checks"])
    points = {name: each["points"] for name, each in found.items()}
    assert points == {"none": None, "right": 11.0, "stub": 0.0, "twin": 11.0, "wrong": 5.0}
    assert found["twin"]["seconds"] == found["right"]["seconds"]  # graded once
    kept = tmp_path / "out.json.results"
    assert len(list(kept.iterdir())) == 4  # and no seed: the run has come to its end
    assert kept.stat().st_mode & 0o077 == 0 or os.name == "nt"


def test_everything_graded_is_status_0_whatever_the_points(tmp_path):
    """Nought of eleven is a grade."""
    write(tmp_path / "stub.ipynb", released())

    done = run(tmp_path, "stub.ipynb")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("stub.ipynb  0 of 11\n")
    assert [each.name for each in tmp_path.iterdir()] == ["stub.ipynb"]


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["nowhere"], "nowhere is not there"),
        ([".", "--json", "."], "--json . is a folder: give the file to write"),
        ([".", "--json", "no/out.json"], "--json no/out.json: there is no folder no"),
        ([".", "--scheduler", "tcp://127.0.0.1:1"], "no Dask scheduler answers at tcp://127.0.0.1"),
    ],
)
def test_what_the_caller_can_mend_is_one_line(tmp_path, arguments, sentence):
    """Status 1, and nothing was graded."""
    if "--scheduler" in arguments:
        pytest.importorskip("distributed", reason="the extra `cluster` is not installed")
    write(tmp_path / "stub.ipynb", released())

    done = run(tmp_path, *arguments)

    assert done.returncode == 1
    assert f"error: {sentence}" in done.stderr.splitlines()[-1]
    assert done.stdout == ""


@LINUX
def test_a_terminal_gets_a_bar(tmp_path):
    """Progress is for whoever watches."""
    write(tmp_path / "stub.ipynb", released())
    ours, theirs = os.openpty()
    with subprocess.Popen(
        command("stub.ipynb"), cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=theirs
    ) as process:
        os.close(theirs)
        seen = b""
        while True:
            try:
                seen += (more := os.read(ours, 4096))
            except OSError:  # the other end is closed
                break
            if not more:
                break
    os.close(ours)

    assert process.returncode == 0
    assert "1/1" in seen.decode() and "━" in seen.decode()


# Machines that fail


class Fake(Graders):
    """Grades at once, and counts."""

    room = 3
    sandbox = None

    def __init__(self, **statuses):
        self.statuses, self.tasks, self.graded = statuses, [], []

    def submit(self, task):
        assert len(self.tasks) < self.room
        self.tasks.append(task)

    def next(self):
        task = self.tasks.pop()
        name = Path(task.name).stem
        self.graded.append(name)
        status, sandbox = self.statuses.get(name, ("graded", {}))
        points = 1.0 if status == "graded" else None
        result = blank(task.name, UNIT, f"{name}.ipynb is odd", status)
        return task.key, result | {"points": points, "sandbox": sandbox}

    def close(self):
        pass


def through(fake, folder, kept, require=False):
    found = find([folder])
    return {Path(found[number].name).stem: each["status"]
            for number, each in grade_all(found, fake, kept, require)}  # fmt: skip


def texts(folder, **notebooks):
    for name, text in notebooks.items():
        (folder / f"{name}.ipynb").write_text(text)


def test_the_same_bytes_are_graded_once_under_each_name(tmp_path):
    """One of a hundred copies is judged; each has its own name, in the reason too."""
    texts(tmp_path, **{f"copy{n}": "same" for n in range(9)}, other="other")
    fake = Fake()
    found = find([tmp_path])
    reasons = {Path(found[n].name).stem: each["reason"]
               for n, each in grade_all(found, fake, Kept())}  # fmt: skip

    assert sorted(fake.graded) == ["copy0", "other"]
    assert reasons == {name: f"{name}.ipynb is odd" for name in reasons} and len(reasons) == 10


def test_an_error_is_tried_again_and_a_grade_is_not(tmp_path):
    """What was the machine's fault is not written down."""
    texts(tmp_path, a="1", b="2", c="3")
    folder = tmp_path / "kept"
    first = Fake(a=("error", {}), c=("rejected", {}))

    assert through(first, tmp_path, Kept(folder)) == {"a": "error", "b": "graded", "c": "rejected"}
    assert through(second := Fake(), tmp_path, Kept(folder))["a"] == "graded"
    assert (sorted(first.graded), second.graded) == (["a", "b", "c"], ["a"])


def test_what_was_graded_in_a_weaker_sandbox_is_graded_again_if_that_matters(tmp_path):
    """With --require-sandbox only; what needed no process needs no sandbox."""
    texts(tmp_path, strong="1", weak="2", none="3")
    full = dict.fromkeys(("limits", "landlock", "seccomp"), True)
    kept = Kept(tmp_path / "kept")
    through(Fake(strong=("graded", full), weak=("graded", {"limits": True})), tmp_path, kept)

    through(careless := Fake(), tmp_path, kept)
    through(careful := Fake(), tmp_path, kept, require=True)

    assert (careless.graded, careful.graded) == ([], ["weak"])


def test_half_a_result_is_none(tmp_path):
    """A machine may lose its power while it writes."""
    texts(tmp_path, a="1")
    folder = tmp_path / "kept"
    through(Fake(), tmp_path, Kept(folder))
    (file,) = folder.glob("*.json")
    file.write_bytes(file.read_bytes()[:20])

    through(again := Fake(), tmp_path, Kept(folder))

    assert again.graded == ["a"]


def test_one_seed_a_run(tmp_path):
    """A run that goes on has the seed that it had; the next run has another; learners see none."""
    kept = Kept(tmp_path / "kept")
    seed = kept.seed

    assert Kept(tmp_path / "kept").seed == seed
    assert (tmp_path / "kept" / "seed").stat().st_mode & 0o077 == 0 or os.name == "nt"
    kept.done()
    assert Kept(tmp_path / "kept").seed != seed
    assert Kept().seed != Kept().seed


def test_a_new_suite_grades_anew(tmp_path, monkeypatch):
    """A result belongs to the code that gave it."""
    texts(tmp_path, a="1")
    through(Fake(), tmp_path, Kept(tmp_path / "kept"))
    monkeypatch.setattr("autograder.oracle.batch.version", lambda: "another")

    through(again := Fake(), tmp_path, Kept(tmp_path / "kept"))

    assert again.graded == ["a"]


@LINUX
def test_a_grader_that_is_killed_is_replaced_and_its_hand_in_tried_again():
    """The kill comes in the middle of grading; the result is whole."""
    raw = json.dumps(solved(unit_named("08-decoder"))).encode()
    with Job(seed=1) as grader:
        process = grader._process
        timer = threading.Timer(0.4, process.kill)
        timer.start()
        result = grader.grade("decoder.ipynb", raw)
        timer.join()

        assert process.returncode == -signal.SIGKILL
        assert grader._process.pid != process.pid
    assert (result["status"], result["points"]) == ("graded", 23.0)


@LINUX
def test_a_poisonous_hand_in_is_an_error_and_the_others_are_graded(tmp_path, monkeypatch):
    """It kills every process that grades it; with one job, all that come after it still count."""
    monkeypatch.setattr(job, "BOOT", boot(POISON))
    for name in ("a", "poison", "z"):
        write(tmp_path / f"{name}.ipynb", solved(note=name))
    found = find([tmp_path])
    with Processes(1, seed=1) as graders:
        results = {Path(found[n].name).stem: each for n, each in grade_all(found, graders, Kept())}

    assert {name: each["points"] for name, each in results.items()} == {
        "a": 11.0, "poison": None, "z": 11.0,
    }  # fmt: skip
    assert results["poison"]["status"] == "error"
    assert results["poison"]["reason"].startswith("3 processes that graded it were killed")
    assert results["poison"]["unit"] == "06-feed-forward" or results["poison"]["unit"] is None


def test_a_grader_that_does_not_answer_is_ended(monkeypatch):
    """What holds it up costs one hand-in, and not the run."""
    monkeypatch.setattr(job, "BOOT", boot("import time\ngrader.grade = lambda *_: time.sleep(99)"))
    with Job(seed=1) as grader:
        monkeypatch.setattr(job, "SECONDS", 0.5)
        result = grader.grade("x.ipynb", json.dumps(solved()).encode())

    assert (result["status"], result["reason"]) == ("error", "it was not graded within 0.5 s")


def test_a_grader_that_breaks_says_so(monkeypatch):
    """An error of ours is no zero of theirs."""
    monkeypatch.setattr(job, "BOOT", boot("grader.grade = lambda *_: 1 / 0"))
    with Job(seed=1) as grader:
        result = grader.grade("x.ipynb", json.dumps(solved()).encode())

    assert result == failed("x.ipynb", "the grader itself gave up: ZeroDivisionError: "
                                       "division by zero")  # fmt: skip


def test_a_grader_that_does_not_start_ends_the_run(monkeypatch):
    """Its own last words are the reason."""
    monkeypatch.setattr(job, "BOOT", "raise SystemExit('torch is broken')")

    with pytest.raises(OSError, match="the grader does not start: torch is broken"):
        Job(seed=1).start()


def test_folders_of_hand_ins_are_no_place_to_import_from(tmp_path, monkeypatch):
    """Whoever grades inside of such a folder does not run what a learner put there."""
    (tmp_path / "torch.py").write_text("open('ran', 'w')")
    (tmp_path / "json.py").write_text("open('ran', 'w')")
    write(tmp_path / "x.ipynb", solved())
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    with Job(seed=1) as grader:
        result = grader.grade("x.ipynb", Path("x.ipynb").read_bytes())

    assert result["points"] == 11.0
    assert not (tmp_path / "ran").exists()


@LINUX
def test_require_sandbox_refuses_before_anything_is_run(tmp_path, monkeypatch, capsys):
    """A host with less than the full sandbox grades nothing, and without the option warns once."""
    monkeypatch.setattr(job, "BOOT", boot(WEAK))
    for number in range(3):
        write(tmp_path / f"{number}.ipynb", solved(note=str(number)))
    arguments = ["grade", str(tmp_path), "--json", str(tmp_path / "out.json"), "--jobs", "1"]

    with pytest.raises(SystemExit) as refused:
        main([*arguments, "--require-sandbox"])
    said = " ".join(capsys.readouterr().err.split())
    assert refused.value.code == 1
    assert "error: --require-sandbox: nothing was run." in said
    assert "landlock: not asked for" in said
    assert not (tmp_path / "out.json").exists()

    with pytest.raises(SystemExit) as warned:
        main(arguments)
    said = " ".join(capsys.readouterr().err.split())
    assert warned.value.code == 0
    assert said.count("Learners' code cannot forge a mark here, but it runs with your rights") == 1
    assert [each["points"] for each in results(tmp_path / "out.json")] == [11.0] * 3


@LINUX
def test_a_process_that_comes_out_weaker_runs_nothing(monkeypatch):
    """The sandbox is looked at before each part, not only in the beginning."""
    monkeypatch.setattr(job, "strength", lambda sandbox: "full")  # as if it had been, at first
    monkeypatch.setattr(job, "BOOT", boot(WEAK))
    with Job(seed=1, require=True) as grader:
        result = grader.grade("x.ipynb", json.dumps(solved()).encode())

    assert (result["status"], result["points"]) == ("error", None)
    assert "less than --require-sandbox asks" in result["reason"]


def test_too_weak_is_said_to_whoever_asks(monkeypatch):
    """By Job, for all that use it."""
    monkeypatch.setattr(job, "strength", lambda sandbox: "partial")

    with pytest.raises(TooWeak, match="nothing was run"):
        Job(seed=1, require=True).start()


# Runs that are ended


def class_of(folder, count):
    """Different hand-ins, some of them wrong."""
    for number in range(count):
        wrong = {"FeedForward": right("FeedForward", UNIT).replace("relu", "tanh")}
        other = wrong if number % 3 == 2 else {}
        write(folder / f"{number:02}.ipynb", solved(note=f"number {number}", **other))
    return folder


def descendants(pid):
    """The processes that came from this one, and are there."""
    parents = {}
    for place in Path("/proc").iterdir():
        if place.name.isdigit():
            try:
                fields = (place / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(place.name)] = int(fields[1])
    found, more = set(), {pid}
    while more:
        found |= more
        more = {child for child, parent in parents.items() if parent in more} - found
    return found - {pid}


def wait_until(true, seconds=60):
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)


def gone(pids):
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


@LINUX
@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_as_one_that_never_was(tmp_path):
    """SIGKILL after every few results; no hand-in is graded twice, and nothing stays behind."""
    class_of(tmp_path / "in", 9)
    assert run(tmp_path, "in", "--json", "whole.json").returncode == 0
    kept = tmp_path / "killed.json.results"

    def count():
        return len(list(kept.glob("[0-9a-f]*.json")))

    times, seeds = {}, set()
    for _ in range(3):
        before = count() if kept.exists() else 0
        with subprocess.Popen(
            command("in", "--json", "killed.json", "--jobs", 2), cwd=tmp_path,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        ) as process:  # fmt: skip
            wait_until(lambda before=before: kept.exists() and count() >= before + 2)
            left = descendants(process.pid)
            process.kill()
        wait_until(lambda left=left: gone(left))
        seeds.add((kept / "seed").read_text())
        for file in kept.glob("[0-9a-f]*.json"):
            assert times.setdefault(file.name, file.stat().st_mtime_ns) == file.stat().st_mtime_ns
    done = run(tmp_path, "in", "--json", "killed.json")

    assert done.returncode == 0
    assert len(seeds) == 1
    for name, stamp in times.items():
        assert (kept / name).stat().st_mtime_ns == stamp
    killed, whole = results(tmp_path / "killed.json"), results(tmp_path / "whole.json")
    assert [(each["points"], each["status"]) for each in killed] == [
        (each["points"], each["status"]) for each in whole
    ]
    assert {each["points"] for each in killed} != {11.0}
    assert [[part["mistake"] for part in each["parts"]] for each in killed] == [
        [part["mistake"] for part in each["parts"]] for each in whole
    ]


@LINUX
def test_ctrl_c_ends_at_once_and_says_how_to_go_on(tmp_path):
    """One line, status 130, no process and no half file left."""
    class_of(tmp_path / "in", 8)
    kept = tmp_path / "out.json.results"
    with subprocess.Popen(
        command("in", "--json", "out.json", "--jobs", 1), cwd=tmp_path,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        wait_until(lambda: kept.exists() and len(list(kept.glob("*.json"))) >= 2)
        left = descendants(process.pid)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)

    assert (process.returncode, out) == (130, "")
    assert err.startswith("stopped with ") and err.count("\n") == 1
    assert "the same command goes on from there (out.json.results)" in err
    wait_until(lambda: gone(left))
    assert {each.name for each in tmp_path.iterdir()} == {"in", "out.json.results"}
    assert run(tmp_path, "in", "--json", "out.json").returncode == 0
