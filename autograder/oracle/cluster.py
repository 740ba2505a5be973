"""A Dask cluster that grades: lab grade --scheduler tcp://host:8786, extra `cluster`.

The workers need nothing but this project. A task is a batch of hand-ins; each thread of a worker
has a Job, a process that grades, so that neither learners' code nor what it does to a grader
reaches the worker. A batch whose worker is killed is graded by another one. A batch over which one
worker after the other dies is taken apart; a hand-in that does so even when nothing else runs is
an error.
"""

from __future__ import annotations

import queue
from collections import deque
from concurrent.futures import CancelledError
from typing import Any

from distributed import Client, Future, KilledWorker, Worker, WorkerPlugin, get_worker, wait
from distributed.comm.core import CommClosedError

from autograder.oracle.batch import Graders, Task, version
from autograder.oracle.job import Job, failed
from autograder.oracle.result import Result
from autograder.oracle.sandbox import Report as Sandbox
from autograder.oracle.sandbox import strength

BATCH = 20  # hand-ins: some seconds, which is what a worker's death costs
PLUGIN = "attention-lab"
PATIENCE = 60  # seconds until a worker is there

Asked = list[tuple[str, bytes]]  # names and notebooks


class Cluster(Graders):
    """The workers of a scheduler, those that join later too."""

    def __init__(self, scheduler: str, seed: int, require: bool = False):
        self.seed, self.require = seed, require
        try:
            self.client: Any = Client(scheduler, timeout=PATIENCE / 6)
        except (OSError, ValueError) as error:
            raise OSError(f"no Dask scheduler answers at {scheduler} ({error})") from None
        self._at_hand: list[Task] = []
        self._underway: dict[Future, list[Task]] = {}
        self._suspects: deque[Task] = deque()
        self._alone: Task | None = None  # the suspect beside which nothing else is underway
        self._done: deque[tuple[str, Result]] = deque()
        self.room = BATCH

    def submit(self, task: Task) -> None:
        if self.sandbox is None:
            self._start()
        self._at_hand.append(task)
        if len(self._at_hand) == BATCH:
            self._send_off()

    def next(self) -> tuple[str, Result]:
        while not self._done:
            self._send_off()
            if not self._underway:
                self._alone = self._suspects.popleft()
                self._send([self._alone])
            self._receive()
        return self._done.popleft()

    def close(self) -> None:
        try:
            self.client.cancel(list(self._underway))
            self.client.unregister_worker_plugin(PLUGIN)
        except (OSError, ValueError, RuntimeError):  # it was never there, or they are not any more
            pass
        finally:
            self.client.close()

    def _start(self) -> None:
        """See that every worker has the same code and the sandbox that was asked for."""
        self._wait_for_a_worker("no worker has joined the scheduler")
        try:
            self.client.register_plugin(Grading(self.seed, self.require), name=PLUGIN)
            workers = self.client.nthreads()
            asked = [
                self.client.submit(_about, workers=[each], allow_other_workers=True, pure=False)
                for each in workers
            ]
            told: list[tuple[str, str, Sandbox]] = self.client.gather(asked)
        except ModuleNotFoundError as error:
            raise ValueError(f"the workers lack {error.name}: install this project there") from None
        for address, theirs, _ in told:
            if theirs != version():
                raise ValueError(f"{address} has another version of this project: update it")
        self.sandbox = min((sandbox for _, _, sandbox in told), key=_rank)
        self.room = 2 * BATCH * sum(workers.values())

    def _send_off(self) -> None:
        tasks, self._at_hand = self._at_hand, []
        if tasks:
            self._send(tasks)

    def _send(self, tasks: list[Task]) -> None:
        asked: Asked = [(each.name, each.raw) for each in tasks]
        future = self.client.submit(_grade, asked, pure=False)
        self._underway[future] = tasks

    def _receive(self) -> None:
        tasks: list[Task] = []
        try:
            ended = self._first()
            tasks = self._underway.pop(ended)
            results = ended.result()
        except KilledWorker as error:
            if len(tasks) > 1:
                for each in tasks:
                    self._send([each])
            elif tasks[0] is not self._alone:  # something beside it may have killed them
                self._suspects.append(tasks[0])
            else:
                why = f"every worker that graded it was killed: {error.last_worker.address} last"
                self._done.append((tasks[0].key, failed(tasks[0].name, why)))
        except (CancelledError, CommClosedError) as error:
            raise OSError(f"the scheduler is gone ({error}); grade again to go on") from None
        else:
            keys = [each.key for each in tasks]
            self._done += zip(keys, results, strict=True)

    def _first(self) -> Future:
        """One that has come to its end. OSError where nobody is there any more to end it."""
        while True:
            try:
                ended: Any = wait(list(self._underway), PATIENCE, "FIRST_COMPLETED")
                return ended.done.pop()
            except TimeoutError:  # it takes that long, or waits for a worker
                self._wait_for_a_worker("no worker is left")

    def _wait_for_a_worker(self, why: str) -> None:
        try:
            self.client.wait_for_workers(1, timeout=PATIENCE)
        except TimeoutError:
            again = "start one, and grade again to go on"
            raise OSError(f"{why} for {PATIENCE} s: {again}") from None


def _rank(sandbox: Sandbox) -> int:
    return ("none", "partial", "full").index(strength(sandbox))


# On a worker


class Grading(WorkerPlugin):
    """A worker's processes that grade, one for each thread that asks."""

    name = PLUGIN

    def __init__(self, seed: int, require: bool):
        self.seed, self.require = seed, require

    def setup(self, worker: Worker) -> None:
        self.all: list[Job] = []
        self.idle: queue.LifoQueue[Job] = queue.LifoQueue()

    def teardown(self, worker: Worker) -> None:
        for job in self.all:
            job.end()

    def take(self) -> Job:
        try:
            return self.idle.get_nowait()
        except queue.Empty:
            job = Job(self.seed, self.require)
            self.all.append(job)
            return job


def _grade(asked: Asked) -> list[Result]:
    """The results of a batch, whatever happens to its processes."""
    grading: Any = get_worker().plugins[PLUGIN]
    job = grading.take()
    try:
        return [job.grade(name, raw) for name, raw in asked]
    finally:
        grading.idle.put(job)


def _about() -> tuple[str, str, Sandbox]:
    """A worker's address, version of the project, and sandbox; TooWeak where that is too weak."""
    worker = get_worker()
    grading: Any = worker.plugins[PLUGIN]
    job = grading.take()
    try:
        job.start()
    finally:
        grading.idle.put(job)
    return worker.address, version(), job.sandbox
