"""The judge's side of a learner's process: a warm parent that gives a fresh one in milliseconds.

    with Zygote() as zygote:
        with zygote.spawn(Limits(seconds=10)) as child:
            wire.send(child.socket, ...)
            print(child.sandbox)
        print(child.close())  # Exit(status=-9, seconds=0.03, memory=...)

The parent (`nursery`) is a process of its own, started before anything is judged and without
anything of the judge's: no suite, no answer, no secret is in the memory that its children copy. It
imports torch once; it is started again when it has died. A Zygote belongs to one thread.

Where a process cannot be forked safely (macOS, Windows), each learner gets an interpreter that is
started anew, one of them ahead of time. There the learner's code runs with your rights: it cannot
forge a mark, but nothing keeps it from your files, your network and other programs.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import lab
from autograder.oracle import wire
from autograder.oracle.nursery import MESSAGE, discard, end
from autograder.oracle.sandbox import Limits, Report

HERE = Path(__file__).parent
LAB = Path(lab.__path__[0])

# Imported before the first fork: what the lessons' cells import.
PRELOAD = (
    *("math", "itertools", "random", "typing", "numpy", "jaxtyping"),
    *("lab.parts", "lab.stock", "lab.decoding", "lab.data", "lab.tokens", "lab.model"),
    *("lab.translation", "lab.training", "lab.recording", "lab.lesson", "lab.plotting"),
)

ANSWERS = ("stock", "decoding")  # modules of the lab that learners could copy from

# What runs first over there: of the project it gives `lab` and what the worker needs of
# `autograder`, whose own door then closes.
BOOT = """
import json, sys, types
settings = json.loads(sys.argv[1])
sys.path += settings["path"]
for name, folders in settings["packages"].items():
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__path__ = folders
from autograder.oracle import nursery
nursery.main(settings)
"""

START = 120  # seconds; torch comes from a cold disk
ANSWER = 30  # a fork takes milliseconds; a machine out of breath may take longer


class Unavailable(OSError):
    """No process could be had: the machine's fault, and no learner's."""


@dataclass(frozen=True)
class Exit:
    """How a process ended."""

    status: int | None  # negative: the signal (-9: closed); None: its parent died, nobody saw
    seconds: float = 0.0  # of the processor's time
    memory: int = 0  # the most that it had at once, with what it shared


@dataclass
class Child:
    """A process for one learner. The judge owns its end of the socket and its life."""

    pid: int
    socket: socket.socket
    sandbox: Report
    _home: _Parent | _Interpreters = field(repr=False)
    _exit: Exit | None = field(default=None, repr=False)

    def close(self) -> Exit:
        """Kill it if it lives, remove what it left, and say how it ended."""
        if self._exit is None:
            self.socket.close()
            self._exit = self._home.end(self.pid)
        return self._exit

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Zygote:
    """Gives processes in which `worker.serve(connection)` runs, each in a sandbox."""

    def __init__(
        self,
        worker: str = "autograder.oracle.worker",
        *,
        path: Sequence[str | Path] = (),
        withheld: Sequence[str | Path] = (),
        layers: Sequence[str] | None = None,
        fork: bool | None = None,
    ):
        """`path`: where else the worker's modules are; `withheld`: what no child may read even if
        it stands among Python's own files; `layers`: of the sandbox, all by default; `fork`: False
        for interpreters started one by one."""
        self.fork = sys.platform == "linux" if fork is None else fork
        project = HERE.parents[1]
        site = [each for each in sys.path if Path(each).name in ("site-packages", "dist-packages")]
        self._settings: dict[str, Any] = {
            "worker": worker,
            "preload": PRELOAD,
            "path": [*site, *map(str, path)],
            "packages": {
                "autograder": [str(HERE.parent)],
                "autograder.oracle": [str(HERE)],
                "lab": [str(LAB)],
            },
            "readable": [sys.prefix, sys.base_prefix, *site, str(LAB)],
            "withheld": [
                *(str(project / each) for each in ("autograder", "solutions")),
                *(str(LAB / each) for each in ("stock.py", "decoding.py", "__pycache__")),
                *(str(each) for name in ANSWERS for each in LAB.rglob(f"{name}.*")),
                *map(str, withheld),
            ],
            "layers": layers,
            "fork": self.fork,
        }
        self._home: _Parent | _Interpreters | None = None

    def start(self) -> None:
        """Have torch imported now; the first `spawn` would do it."""
        if self._home is None:
            self._home = (_Parent if self.fork else _Interpreters)(self._settings)

    def spawn(self, limits: Limits | None = None) -> Child:
        """A fresh process. Unavailable where even a second parent could not give one."""
        limits = limits or Limits()
        try:
            self.start()
            return self._home.spawn(limits)  # pyright: ignore[reportOptionalMemberAccess]
        except Unavailable:
            self.close()
            self.start()
            return self._home.spawn(limits)  # pyright: ignore[reportOptionalMemberAccess]

    def close(self) -> None:
        """End every process."""
        home, self._home = self._home, None
        if home is not None:
            home.close()

    def __enter__(self) -> Zygote:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Parent:
    """A running nursery, which forks."""

    def __init__(self, settings: dict[str, Any]):
        self.folder = Path(tempfile.mkdtemp(prefix="attention-lab-"))
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.exits: dict[int, Exit] = {}
        with theirs, tempfile.TemporaryFile() as said:
            self.process = _start(settings, theirs, self.folder, said)
            theirs.close()
            try:
                self._hear(START)
            except Unavailable as error:
                self.close()
                raise Unavailable(f"{error}: {_end_of(said)}") from None

    def spawn(self, limits: Limits) -> Child:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                request = json.dumps({"limits": asdict(limits)}).encode()
                socket.send_fds(self.control, [request], [theirs.fileno()])
            answer = self._hear(ANSWER)
            if "pid" not in answer:
                raise Unavailable(f"no process could be forked: {answer.get('failed')}")
        except OSError as error:
            ours.close()
            raise Unavailable(str(error)) from error
        return _greeted(answer["pid"], ours, self)

    def end(self, pid: int) -> Exit:
        try:
            if pid not in self.exits:
                self.control.send(json.dumps({"end": pid}).encode())
            while pid not in self.exits:
                self._receive(ANSWER)
        except OSError:  # without its parent no child is alive
            return Exit(None)
        return self.exits.pop(pid)

    def close(self) -> None:
        """The nursery sees that nobody is there any more, and ends with its children."""
        self.control.close()
        try:
            self.process.wait(ANSWER)
        except subprocess.TimeoutExpired:
            end(self.process.pid)
            self.process.wait()
        if self.folder.exists():  # it was killed
            discard(self.folder)

    def _hear(self, seconds: float) -> dict[str, Any]:
        """The next answer; what is told of exits in between is kept."""
        while True:
            if (answer := self._receive(seconds)) is not None:
                return answer

    def _receive(self, seconds: float) -> dict[str, Any] | None:
        try:
            self.control.settimeout(seconds)
            message = self.control.recv(MESSAGE)
        except OSError as error:
            end(self.process.pid)  # one that does not answer is of no use
            raise Unavailable(f"the nursery does not answer ({error})") from error
        if not message:
            raise Unavailable("the nursery has ended")
        answer = json.loads(message)
        if "exit" not in answer:
            return answer
        pid, *how = answer["exit"]
        self.exits[pid] = Exit(*how)
        return None


class _Interpreters:
    """Processes without a parent: each an interpreter that imports torch for one learner."""

    def __init__(self, settings: dict[str, Any]):
        self.settings = settings
        self.alive: dict[int, tuple[subprocess.Popen[bytes], Path]] = {}
        self.ahead = self._another()

    def spawn(self, limits: Limits) -> Child:
        (pid, ours), self.ahead = self.ahead, self._another()
        try:
            wire.send(ours, {"limits": asdict(limits)})
        except (EOFError, wire.WireError) as error:
            ours.close()
            self.end(pid)
            raise Unavailable(str(error)) from error
        return _greeted(pid, ours, self)

    def end(self, pid: int) -> Exit:
        if pid not in self.alive:
            return Exit(None)
        process, folder = self.alive.pop(pid)
        if sys.platform == "win32":
            process.kill()
            how = Exit(process.wait())
        else:
            end(pid)
            _, status, used = os.wait4(pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            unit = 1 if sys.platform == "darwin" else 1024
            seconds = used.ru_utime + used.ru_stime
            how = Exit(process.returncode, seconds, used.ru_maxrss * unit)
        discard(folder)
        return how

    def close(self) -> None:
        self.ahead[1].close()
        for pid in list(self.alive):
            self.end(pid)

    def _another(self) -> tuple[int, socket.socket]:
        ours, theirs = socket.socketpair()
        folder = Path(tempfile.mkdtemp(prefix="attention-lab-"))
        with theirs:
            process = _start(self.settings, theirs, folder, subprocess.DEVNULL)
        self.alive[process.pid] = process, folder
        return process.pid, ours


def _greeted(pid: int, connection: socket.socket, home: _Parent | _Interpreters) -> Child:
    """The child, once it has said how its sandbox stands; nothing of the learner's ran before."""
    try:
        hello = wire.recv(connection, time.monotonic() + START)
        if "sandbox" not in hello:
            raise Unavailable(f"a process did not start: {hello.get('failed')}")
    except (EOFError, OSError, wire.WireError) as error:
        connection.close()
        home.end(pid)
        raise Unavailable(str(error)) from error
    return Child(pid, connection, hello["sandbox"], home)


def _start(
    settings: dict[str, Any], theirs: socket.socket, folder: Path, said: IO[bytes] | int
) -> subprocess.Popen[bytes]:
    """An interpreter with an environment of few words, its own session, and one socket."""
    settings = settings | {"socket": theirs.fileno(), "folder": str(folder)}
    kept = ("PATH", "HOME", "LD_LIBRARY_PATH", "SYSTEMROOT", "USERPROFILE", "APPDATA", "TEMP")
    threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    windows = sys.platform == "win32"
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", BOOT, json.dumps(settings)],
        stdin=subprocess.PIPE if windows else subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=said,
        env=environment | dict.fromkeys(threads, "1") | {"LANG": "C.UTF-8", "MPLBACKEND": "agg"},
        cwd=folder,
        start_new_session=True,
        pass_fds=[] if windows else [theirs.fileno()],
    )
    if sys.platform == "win32":  # sockets are not inherited there, but copied for a process
        with suppress(OSError):
            process.stdin.write(base64.b64encode(theirs.share(process.pid)) + b"\n")
            process.stdin.close()
    return process


def _end_of(said: IO[bytes]) -> str:
    said.seek(0)
    lines = said.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"it said nothing, signal {int(signal.SIGKILL)} perhaps"
