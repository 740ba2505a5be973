"""What grading costs, by the oracle, by nbgrader and by otter-grader; and that nothing is lost.

    taskset -c 0,1 python benchmarks/grading.py [--otter /path/to/its/venv/bin/otter]

Everybody grades the same assignment, unit 03, all parts right; one Markdown table is printed.
nbgrader and otter run the notebook in a kernel, as they come: nbgrader many hand-ins in a process,
otter, which knows no more, one. CPU is user and system time with all child processes.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import json
import random
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from autograder.oracle import zygote as oracle
from autograder.oracle.batch import version
from autograder.oracle.grading import grade
from autograder.oracle.result import secret
from autograder.oracle.zygote import Zygote
from autograder.quizzes import questions
from autograder.release import read_lesson
from autograder.submission import Submission
from lab.course import unit_named

ROOT = Path(__file__).parents[1]
UNIT = unit_named("03-multi-head")
NOTEBOOK = f"{UNIT.module}.ipynb"
JOBS = 2
CONFIG = """
c = get_config()
c.CourseDirectory.course_id = "benchmark"
c.ClearSolutions.code_stub = {"python": "raise NotImplementedError"}
c.Execute.timeout = 300
"""
# Every third hand-in of the thousand has one of these slips.
SLIPS = (
    ("n_heads).transpose(1, 2)", "n_heads).permute(0, 2, 1, 3).flip(1)"),
    ("transpose(1, 2).flatten(start_dim=2)", "flatten(start_dim=2)"),
    ("self.v_proj(value)", "self.v_proj(key)"),
    ("self.k_proj(key)", "self.k_proj(query)"),
)


def main() -> None:
    """Measure, and print one row for each figure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--otter", type=Path, help="The command, of an environment with torch.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8, help="Hand-ins in a process of nbgrader.")
    parser.add_argument("--count", type=int, default=1_000, help="Hand-ins of the class.")
    parser.add_argument("--killed", type=int, default=150, help="Hand-ins of the runs with kills.")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rivals: dict[str, Callable[[], tuple[float, float]]] = {
            "oracle": Oracle(folder),
            "oracle, for answers that no other hand-in gave": Oracle(folder, known=False),
        }
        many = f"nbgrader autograde, {options.batch} hand-ins a process"
        rivals[many] = Nbgrader(folder / "nbgrader", options.batch)
        if options.otter:
            rivals["otter run"] = Otter(folder / "otter", options.otter.absolute())
        times: dict[str, list[tuple[float, float]]] = {each: [] for each in rivals}
        for _ in range(options.rounds):
            for each, run in rivals.items():
                times[each].append(run())
                print(f"{each}: {times[each][-1]}", file=sys.stderr)
        print("| a hand-in of unit 03, all right | wall | CPU | CPU against the oracle's |")
        print("|---|---|---|---|")
        own = statistics.median(cpu for _, cpu in times["oracle"])
        for each, taken in times.items():
            wall, cpu = (statistics.median(column) for column in zip(*taken, strict=True))
            print(f"| {each} | {1e3 * wall:,.0f} ms | {1e3 * cpu:,.0f} ms | {cpu / own:.0f}× |")
        print(f"| memory of a child beyond what it shares | {private_memory(folder)} | | |")
        print(f"| {a_class(folder / 'class', options.count)} | | |")
        print(f"| {killed_ten_times(folder / 'killed', options.killed)} | | |")


class Oracle:
    """One hand-in after the other, as a process of `lab grade` does it; the start is left out.

    `known`: with the same seed, so that a part's answers are those of the hand-in before.
    """

    def __init__(self, folder: Path, count: int = 20, known: bool = True):
        self.path, self.count, self.known = written(folder / NOTEBOOK, solved()), count, known

    def __call__(self) -> tuple[float, float]:
        seed, walls = secret(), []
        with Zygote() as zygote:
            grade(Submission.load(self.path), zygote, seed)
            nursery = f"/proc/{zygote._home.process.pid}/stat"
            before = _cpu(nursery)
            for _ in range(self.count):
                seed = seed if self.known else secret()
                begun = time.monotonic()
                result = grade(Submission.load(self.path), zygote, seed)
                walls.append(time.monotonic() - begun)
                assert result["points"] == UNIT.points
            return statistics.median(walls), (_cpu(nursery) - before) / self.count


def _cpu(stat: str) -> float:
    """Seconds of this process, of the nursery, and of its children that have ended."""
    fields = Path(stat).read_text().rpartition(")")[2].split()
    there = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return time.process_time() + there


class Nbgrader:
    """A course with nbgrader's own settings, and its own executor: a kernel for each hand-in."""

    def __init__(self, folder: Path, count: int):
        self.folder, self.count = folder, count
        folder.mkdir()
        (folder / "nbgrader_config.py").write_text(CONFIG)
        written(folder / "source" / UNIT.name / NOTEBOOK, read_lesson(UNIT, ROOT / "solutions"))
        self._run("generate_assignment", "--create")
        released = json.loads((folder / "release" / UNIT.name / NOTEBOOK).read_text("utf-8"))
        for number in range(count):
            written(folder / "submitted" / f"s{number}" / UNIT.name / NOTEBOOK, solved(released))

    def __call__(self) -> tuple[float, float]:
        wall, cpu = taken_by(lambda: self._run("autograde", "--force"))
        return wall / self.count, cpu / self.count

    def _run(self, *command: str) -> None:
        _quietly([sys.executable, "-m", "nbgrader", *command, UNIT.name], self.folder)


class Otter:
    """The same notebook; a test for each part runs this project's checks of it in the kernel."""

    def __init__(self, folder: Path, otter: Path):
        self.folder, self.otter = folder, otter
        for each in ("tests", "out"):
            (folder / each).mkdir(parents=True)
        for part, of in UNIT.parts.items():
            code = (
                ">>> from autograder.report import report_on\n"
                f">>> report_on({part!r}, {part}).passed\nTrue"
            )
            case = {"code": code, "hidden": False, "locked": False}
            suite = {"cases": [case], "scored": True, "setup": "", "teardown": "",
                     "type": "doctest"}  # fmt: skip
            test = {"name": part, "points": of.points, "suites": [suite]}
            (folder / "tests" / f"{part}.py").write_text(f"OK_FORMAT = True\ntest = {test!r}\n")
        generate = ["generate", "-t", "tests", "-o", "autograder.zip", "--no-config"]
        _quietly([otter, *generate, "--no-requirements", "--no-environment"], folder)
        notebook = solved()
        notebook["cells"] = [
            cell
            for cell in notebook["cells"]
            if not cell["metadata"].get("nbgrader", {}).get("grade")  # the tests do that here
        ]
        written(folder / NOTEBOOK, notebook)

    def __call__(self) -> tuple[float, float]:
        command = [self.otter, "run", "-a", "autograder.zip", "-o", "out", "--no-logo", NOTEBOOK]
        taken = taken_by(lambda: _quietly(command, self.folder))
        results = json.loads((self.folder / "out" / "results.json").read_text("utf-8"))
        points = sum(each.get("score", 0) for each in results["tests"])
        assert points == UNIT.points - UNIT.quiz, results
        return taken


def private_memory(folder: Path) -> str:
    """What a process has that it does not share, at the end of its part: median and largest."""
    found, close = [], oracle.Child.close

    def look(self: oracle.Child) -> oracle.Exit:
        if self._exit is None:
            lines = Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines()
            found.append(sum(int(x.split()[1]) for x in lines if x.startswith("Private")) / 1024)
        return close(self)

    oracle.Child.close = look
    try:
        with Zygote() as zygote:
            for _ in range(5):
                grade(Submission.load(folder / NOTEBOOK), zygote, secret())
    finally:
        oracle.Child.close = close
    return f"{statistics.median(found):.1f} MiB, at most {max(found):.1f}"


def a_class(folder: Path, count: int) -> str:
    """`lab grade` on hand-ins no two of which are the same."""
    hand_ins(folder, count)
    command = [*lab_grade, "class", "--json", "class.json", "--jobs", str(JOBS)]
    wall, _ = taken_by(lambda: _quietly(command, folder.parent))
    results = json.loads((folder.parent / "class.json").read_text("utf-8"))
    assert len(results) == count and all(each["status"] == "graded" for each in results)
    whole = sum(each["points"] == UNIT.points for each in results)
    named = sum(any(part["mistake"] for part in each["parts"]) for each in results)
    return (
        f"`lab grade --jobs {JOBS}`, {count:,} hand-ins, no two the same; all points {whole:,}, "
        f"a mistake named {named:,} | {wall:.0f} s, {1e3 * wall / count:.0f} ms each"
    )


def killed_ten_times(folder: Path, count: int) -> str:
    """A run that is ended by SIGKILL again and again, against one that never was."""
    hand_ins(folder, count)
    seed = str(secret())
    for name in ("whole", "broken"):
        kept = folder.parent / f"{name}.json.results"
        kept.mkdir()
        (kept / "seed").write_text(seed)
    jobs = ["--jobs", str(JOBS)]
    before = version()
    _quietly([*lab_grade, "killed", "--json", "whole.json", *jobs], folder.parent)
    command = [*lab_grade, "killed", "--json", "broken.json", *jobs]
    kept, kills, stamps = folder.parent / "broken.json.results", 0, {}
    for kill in range(1, 11):
        with subprocess.Popen(command, cwd=folder.parent, stdout=subprocess.DEVNULL) as process:
            while len(list(kept.glob("?*.json"))) < kill * count // 11 and process.poll() is None:
                time.sleep(random.uniform(0, 0.05))
            kills += process.poll() is None
            process.kill()
        for each in kept.glob("[0-9a-f]*.json"):
            stamps.setdefault(each, each.stat().st_mtime_ns)
    _quietly(command, folder.parent)
    again = sum(each.stat().st_mtime_ns != stamp for each, stamp in stamps.items())
    whole, broken = (
        [each | {"seconds": 0} for each in json.loads((folder.parent / f"{name}.json").read_text())]
        for name in ("whole", "broken")
    )
    assert before == version(), "the course's code was changed in between: measure again"
    differ = sum(one != other for one, other in zip(whole, broken, strict=True))
    return (
        f"{count} hand-ins, the run killed {kills} times (SIGKILL), against one never killed | "
        f"{differ} results differ, {again} graded twice"
    )


# Notebooks and processes

lab_grade = [sys.executable, "-c", "from autograder.cli import main; main()", "grade"]


def solved(notebook: dict | None = None, note: str = "", slip: tuple[str, str] = ("", "")) -> dict:
    """The unit with every part right but for a slip, and the quiz answered."""
    exercise = ROOT / "exercises" / UNIT.name / NOTEBOOK
    notebook = json.loads(json.dumps(notebook) if notebook else exercise.read_text("utf-8"))
    text = (ROOT / "solutions" / f"{UNIT.module}.py").read_text("utf-8")
    answers = {each.id: each.right for each in questions(UNIT.name)}
    for cell in notebook["cells"]:
        part = cell["metadata"].get("nbgrader", {}).get("grade_id")
        if part in UNIT.parts:
            right = re.search(rf'^# %% solution="{part}"\n(.*?)(?=^# %%)', text, re.S | re.M)[1]
            cell["source"] = f"# {note}\n{right.replace(*slip)}" if note else right
        if "quiz" in cell["metadata"].get("lab", {}):
            cell["source"] = f"answers = {answers!r}"
    return notebook


def hand_ins(folder: Path, count: int) -> None:
    """A class: no two hand-ins are the same, every third one has a slip."""
    for number in range(count):
        slip = SLIPS[number // 3 % len(SLIPS)] if number % 3 == 2 else ("", "")
        path = folder / f"s{number:04}" / UNIT.name / NOTEBOOK
        written(path, solved(note=f"hand-in {number}", slip=slip))


def written(path: Path, notebook: dict) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(notebook, ensure_ascii=False), encoding="utf-8")
    return path


def taken_by(run: Callable[[], None]) -> tuple[float, float]:
    """Wall and CPU seconds of the processes that it starts and waits for."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    run()
    wall, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _quietly(command: list, folder: Path) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # for alembic
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PATH": path}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{shutil.which(command[0])}: {done.stdout[-2000:]}{done.stderr[-2000:]}")


if __name__ == "__main__":
    main()
