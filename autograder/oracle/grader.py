"""What runs in a process that grades: hand-ins come in, their results go out (see `job`).

Here are the suites, the answers and the seed; the learner's code runs in the Zygote's processes.
"""

from __future__ import annotations

import gc
import json
import os
import queue
import threading
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NoReturn

import torch

from autograder.oracle.grading import grade
from autograder.oracle.job import failed
from autograder.oracle.result import Result
from autograder.oracle.sandbox import Limits, strength
from autograder.oracle.zygote import Child, Unavailable, Zygote
from autograder.submission import Submission


def main() -> NoReturn:
    """Grade what comes in until nobody is there any more."""
    questions, answers = _pipes()
    settings = json.loads(questions.readline())
    waiting: queue.Queue[tuple[str, bytes]] = queue.Queue()
    threading.Thread(target=_listen, args=(questions, waiting), daemon=True).start()
    with suppress(OSError):  # where memory ends, the teacher's own programs shall not be the first
        Path("/proc/self/oom_score_adj").write_text("500")

    torch.set_num_threads(1)
    zygote = (Strict if settings["require"] else Zygote)()
    hello: Result = {}
    try:
        with Zygote.spawn(zygote) as child:  # however weak it is: the owner decides
            hello = {"sandbox": child.sandbox}
    except OSError as error:
        hello = {"failed": f"the machine gives no process for learners' code: {error}"}
    _say(answers, hello)
    gc.collect()
    gc.freeze()  # suites and torch stay; the collector need not look at them again
    while True:
        name, raw = waiting.get()
        _say(answers, _graded(name, raw, zygote, settings["seed"]))


class Strict(Zygote):
    """Gives no process whose sandbox is less than full."""

    def spawn(self, limits: Limits | None = None) -> Child:
        child = super().spawn(limits)
        if strength(child.sandbox) != "full":
            child.close()
            raise Unavailable(f"its sandbox was less than --require-sandbox asks: {child.sandbox}")
        return child


def _graded(name: str, raw: bytes, zygote: Zygote, seed: int) -> Result:
    try:
        return grade(Submission.load(Path(name), raw=raw), zygote, seed)
    except Exception as error:  # whatever is in a file, the others are graded
        return failed(name, f"the grader itself gave up: {type(error).__name__}: {error}"[:500])


def _pipes() -> tuple[BinaryIO, BinaryIO]:
    """The two pipes, kept from whatever prints or reads."""
    questions, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1):
        os.dup2(nowhere, standard)
    return questions, answers


def _listen(questions: BinaryIO, waiting: queue.Queue[tuple[str, bytes]]) -> None:
    """Take what comes in; end the process, whatever it is doing, when nobody is there any more."""
    while line := questions.readline():
        question = json.loads(line)
        waiting.put((question["name"], questions.read(question["bytes"])))
    os._exit(0)  # its Zygote's processes see that, and end


def _say(answers: BinaryIO, answer: Result) -> None:
    answers.write(json.dumps(answer).encode() + b"\n")
    answers.flush()
