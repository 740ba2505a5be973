"""A process that grades hand-ins one after the other, as whoever started it sees it.

    with Job(seed, require=True) as job:
        job.sandbox                            # what it grants learners' code on this host
        result = job.grade("anna.ipynb", raw)  # never fails: what goes wrong is the result

The process holds the suites, its own Zygote and one thread of torch. If it dies, another takes its
place and the hand-in is tried again; a hand-in over which several die is an error, and the next one
finds a process as new. It ends with whoever started it.

A line of JSON and the bytes of a notebook go to its standard input; a line of JSON comes back
(`grader` has the other side).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from typing import IO

from autograder.oracle.result import Result, blank
from autograder.oracle.sandbox import Report as Sandbox
from autograder.oracle.sandbox import caution, strength

TRIES = 3  # processes that may die over one hand-in
SECONDS = 900  # for one; its parts have a minute each

BOOT = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from autograder.oracle import grader
grader.main()
"""
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")


class TooWeak(ValueError):
    """This host's sandbox is less than what was asked for."""


class Job:
    """The process as its owner sees it. It belongs to one thread at a time."""

    def __init__(self, seed: int, require: bool = False):
        """`seed` decides the inputs; `require`: run nothing outside of a full sandbox."""
        self.settings = {"seed": seed, "require": require}
        self.require = require
        self.sandbox: Sandbox = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._over = False

    def start(self) -> None:
        """Have a process ready. OSError where there is none to be had, TooWeak where it would run
        what it must not."""
        if self._process is not None:
            return
        with tempfile.TemporaryFile() as said:
            self._process = _start(said)
            try:
                hello = self._ask(self.settings)
            except EOFError:
                self.close()
                raise OSError(f"the grader does not start: {_end_of(said)}") from None
        if "failed" in hello:
            self.close()
            raise OSError(hello["failed"])
        self.sandbox = hello["sandbox"]
        if self.require and strength(self.sandbox) != "full":
            self.close()
            raise TooWeak(f"--require-sandbox: nothing was run. {caution(self.sandbox)}")

    def grade(self, name: str, raw: bytes) -> Result:
        """The result of a notebook, whatever happens."""
        why = ""
        for _ in range(TRIES):
            try:
                self.start()
                return self._ask({"name": name, "bytes": len(raw)}, raw)
            except EOFError:
                why = f"{TRIES} processes that graded it were killed: its file may need much memory"
                self.close()
            except TimeoutError:
                self.close()
                return failed(name, f"it was not graded within {SECONDS} s")
            except (OSError, TooWeak) as error:
                why = str(error)
        return failed(name, why)

    def end(self) -> None:
        """For another thread: what is underway becomes an error, and nothing is begun any more."""
        self._over = True
        if (process := self._process) is not None:
            process.kill()
            process.wait()

    def close(self) -> None:
        """End the process, and with it what it has started."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):  # what was not written any more
                assert pipe is not None
                pipe.close()

    def _ask(self, question: Result, raw: bytes = b"") -> Result:
        """An answer. EOFError where the process has ended."""
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        late = threading.Event()

        def stop() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(SECONDS, stop)
        timer.daemon = True
        timer.start()
        try:
            if self._over:
                raise OSError("it was ended")
            process.stdin.write(json.dumps(question).encode() + b"\n" + raw)
            process.stdin.flush()
            return json.loads(process.stdout.readline() or "{")
        except (OSError, ValueError):  # ValueError: an answer that breaks off
            raise (TimeoutError() if late.is_set() else EOFError()) from None
        finally:
            timer.cancel()

    def __enter__(self) -> Job:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def failed(name: str, reason: str) -> Result:
    """The machine's fault, and no points lost."""
    return blank(name, None, reason, "error")


def _start(said: IO[bytes]) -> subprocess.Popen[bytes]:
    """An interpreter that imports what this one does, and nothing from where it happens to stand:
    that may be a folder of hand-ins."""
    path = [os.path.abspath(each) for each in sys.path if each]
    return subprocess.Popen(
        [sys.executable, "-I", "-c", BOOT, json.dumps(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=said,
        env={**os.environ, **dict.fromkeys(THREADS, "1")},
        cwd=os.sep,
        start_new_session=True,  # Ctrl-C is its owner's
    )


def _end_of(said: IO[bytes]) -> str:
    said.seek(0)
    lines = said.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it was killed"
