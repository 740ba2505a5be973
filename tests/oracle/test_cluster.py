"""lab grade --scheduler: a real scheduler, real workers, real SIGKILL."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from some_notebooks import solved, write
from test_batch import LINUX, by_name, command, descendants, gone, wait_until

pytest.importorskip("distributed", reason="the extra `cluster` is not installed")

import dask
from distributed import LocalCluster, WorkerPlugin

from autograder.oracle import cluster
from autograder.oracle.batch import Kept, grade_all
from autograder.oracle.cluster import Cluster
from autograder.oracle.finding import find
from autograder.oracle.job import TooWeak

pytestmark = [
    LINUX,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # distributed's own, and tornado's
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

DEADLY = """
import os
grade = grader.grade
def deadly(submission, *rest):
    if "poison" in submission.path.name:
        os.kill(os.getppid(), 9)
    return grade(submission, *rest)
grader.grade = deadly
grader.main()
"""
WEAK = """
import functools
from autograder.oracle.zygote import Zygote
grader.Zygote.__init__ = functools.partialmethod(Zygote.__init__, layers=["limits"])
grader.main()
"""


@pytest.fixture
def workers():
    """Two workers, each a process, as on two machines; the second death over a task is its last."""
    dask.config.set({"distributed.scheduler.allowed-failures": 1})
    # 15 s after a death LocalCluster gives up a worker that is not there: it may have died again.
    dask.config.set({"distributed.deploy.lost-worker-timeout": "1 hour"})
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as workers:
        yield workers
        pids = [each.pid for each in workers.workers.values() if each.pid]
        left = [child for pid in pids for child in descendants(pid)]
    wait_until(lambda: gone(left))


def boot_on_workers(graders, more):
    """Every grader's process begins with this, on workers that come back too."""

    class Booting(WorkerPlugin):  # travels as it stands here: the workers do not know this file
        def setup(self, worker):
            from autograder.oracle import job

            job.BOOT = job.BOOT.replace("grader.main()", more)

    graders.client.register_plugin(Booting(), name="booting")


def class_of(folder, count, *more):
    for name in [*(f"{number:02}" for number in range(count)), *more]:
        write(folder / f"{name}.ipynb", solved(note=name))
    return find([folder])


def points(found, graders, watch=lambda number: None):
    results = {}
    for number, each in grade_all(found, graders, Kept()):
        results[Path(found[number].name).stem] = each
        watch(len(results))
    return results


def test_a_cluster_grades_as_one_machine_does(tmp_path, workers):
    """The same command with --scheduler; the workers keep nothing when it has ended."""
    class_of(tmp_path / "in", 3)
    (tmp_path / "in" / "none.ipynb").write_text("no notebook")

    arguments = command("in", "--json", "out.json", "--scheduler", workers.scheduler_address)
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True)

    assert done.returncode == 1, done.stderr
    found = by_name(tmp_path / "out.json")
    assert {name: each["points"] for name, each in found.items()} == {
        "00": 11.0, "01": 11.0, "02": 11.0, "none": None,
    }  # fmt: skip
    assert found["00"]["sandbox"]["seccomp"] is True
    pids = [each.pid for each in workers.workers.values()]
    wait_until(lambda: not any(descendants(pid) for pid in pids))


def test_a_worker_that_is_killed_costs_nothing(tmp_path, workers, monkeypatch):
    """SIGKILL in the middle; its batch is graded by the other, its graders end with it."""
    monkeypatch.setattr(cluster, "BATCH", 4)
    found = class_of(tmp_path, 16)
    killed = []

    def watch(count):
        if not killed:
            victim = next(iter(workers.workers.values())).pid
            killed.extend(descendants(victim))
            os.kill(victim, signal.SIGKILL)

    with Cluster(workers.scheduler_address, seed=1) as graders:
        results = points(found, graders, watch)

    assert {each["points"] for each in results.values()} == {11.0}
    assert len(results) == 16
    assert killed
    wait_until(lambda: gone(killed))


def test_without_any_worker_it_ends(tmp_path, workers, monkeypatch):
    """Nobody waits for a cluster that is not there any more; what was graded is kept."""
    monkeypatch.setattr(cluster, "PATIENCE", 2)
    monkeypatch.setattr(cluster, "BATCH", 1)
    found = class_of(tmp_path, 9)
    with Cluster(workers.scheduler_address, seed=1) as graders:
        with pytest.raises(OSError, match="no worker is left.*again to go on"):
            points(found, graders, lambda count: workers.scale(0))


@pytest.mark.slow
def test_a_hand_in_that_kills_workers_is_isolated(tmp_path, workers, monkeypatch):
    """One after the other dies over it: it is an error, and everybody beside it is graded."""
    monkeypatch.setattr(cluster, "BATCH", 3)
    found = class_of(tmp_path, 7, "poison")
    with Cluster(workers.scheduler_address, seed=1) as graders:
        boot_on_workers(graders, DEADLY)
        results = points(found, graders)

    poison = results.pop("poison")
    assert poison["status"] == "error"
    assert "every worker that graded it was killed" in poison["reason"]
    assert {each["points"] for each in results.values()} == {11.0}


def test_require_sandbox_asks_every_worker(tmp_path, workers):
    """One host with less is enough to refuse, and nothing is run."""
    found = class_of(tmp_path, 1)
    with Cluster(workers.scheduler_address, seed=1, require=True) as graders:
        boot_on_workers(graders, WEAK)
        with pytest.raises(TooWeak, match="nothing was run"):
            points(found, graders)


def test_workers_with_other_code_are_refused(tmp_path, workers, monkeypatch):
    """A suite that is not this one would give other points."""
    found = class_of(tmp_path, 1)
    monkeypatch.setattr(cluster, "version", lambda: "newer")
    with Cluster(workers.scheduler_address, seed=1) as graders:
        with pytest.raises(ValueError, match="has another version of this project"):
            points(found, graders)


def test_dask_is_loaded_only_for_a_cluster():
    """The extra is optional."""
    code = (
        "import sys, autograder.cli, autograder.oracle.batch, autograder.oracle.grading\n"
        "print('distributed' in sys.modules)"
    )

    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
