"""The other side: a process without secrets that has torch ready, and the children it forks.

`zygote` starts it with a path that leads to Python's packages, to `lab` and to this package, and to
nothing else of the project. It has one thread until a child is forked (a fork in the middle of two
threads' work hangs) and answers, over a socket of datagrams with JSON in them:

    {"limits": {...}} and a socket   ->  {"pid": 7}; the child says {"sandbox": {...}} there, then
                                         it is the worker's: `serve(connection)`
    {"end": 7}                       ->  the child is killed
    a child has ended                ->  {"exit": [7, status, seconds, bytes]}, its folder is gone
    the judge has ended              ->  every child is killed, then this process ends

Where there is no fork, the same file is a process for one learner: `alone`.
"""

from __future__ import annotations

import base64
import gc
import importlib
import itertools
import json
import os
import platform
import random
import selectors
import signal
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import nn
from torch.nn import functional as F

from autograder.oracle import sandbox, seccomp, wire

Serve = Callable[[socket.socket], None]

CONNECTION = 3  # the one thing besides 0, 1 and 2 that a child has open
MESSAGE = 1 << 16
LARGE = 2 << 20  # bytes of a large page
MADV_HUGEPAGE, MADV_COLLAPSE = 14, 25  # <linux/mman.h>


def main(settings: dict[str, Any]) -> NoReturn:
    """Do what `zygote` says in its settings; never return."""
    os.umask(0o077)
    for module in settings["preload"]:
        importlib.import_module(module)
    serve = importlib.import_module(settings["worker"]).serve
    sys.modules["autograder"].__path__ = []  # what was needed of it is here; no more comes
    warm()
    if settings["fork"]:
        Nursery(socket.socket(fileno=settings["socket"]), settings, serve).tend()
    else:
        alone(settings, serve)
    os._exit(0)


def warm() -> None:
    """Have ready what torch imports when it is first used: sympy, dynamo, a second and a half."""
    torch.set_num_threads(1)
    layer, x = nn.Linear(4, 4), torch.randn(2, 4, requires_grad=True)
    torch.autograd.grad(layer(x), [x], torch.ones(2, 4))
    layer(x).sum().backward()
    optimizer = torch.optim.Adam(layer.parameters())
    optimizer.step()
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    nn.TransformerEncoderLayer(8, 2, batch_first=True)(torch.randn(1, 3, 8))
    query = torch.randn(1, 2, 3, 4)
    F.scaled_dot_product_attention(query, query, query)
    F.cross_entropy(x, torch.tensor([0, 1]), label_smoothing=0.1)
    torch.testing.assert_close(x, x)
    repr(x)
    with suppress(OSError):  # a machine whose calls nobody has numbered
        seccomp.for_all(platform.machine())


@dataclass
class Nursery:
    """A parent of many, one at a time or side by side."""

    control: socket.socket
    settings: dict[str, Any]
    serve: Serve
    watch: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    children: dict[int, Path] = field(default_factory=dict)  # their folders
    born: Iterator[int] = field(default_factory=itertools.count)

    def __post_init__(self) -> None:
        settings = self.settings
        withheld = {Path(each).resolve() for each in settings["withheld"]}
        self.listed = [Path(each).resolve() for each in settings["readable"]]
        self.readable = [each for place in self.listed for each in without(place, withheld)]
        self.folder = Path(settings["folder"])

    def tend(self) -> None:
        """Bear children and bury them until the judge is gone."""
        threads = len(os.listdir("/proc/self/task"))
        if threads > 1:
            raise RuntimeError(f"{threads} threads: a fork would leave all but one behind")
        layers = self.settings["layers"]
        self.secluded = (layers is None or "namespaces" in layers) and sandbox.seclude()
        adopt_strays()
        torch.manual_seed(0)
        gc.collect()
        in_large_pages()
        gc.freeze()  # what is here now is shared with the children, and stays untouched
        self.watch.register(self.control, selectors.EVENT_READ)
        self.tell(ready=os.getpid())
        with suppress(EOFError, ConnectionError):
            while True:
                for key, _ in self.watch.select():
                    self.answer() if key.data is None else self.bury(key.data)
        for pid in list(self.children):
            end(pid)
            with suppress(OSError):
                self.bury(pid)
        discard(self.folder)

    def answer(self) -> None:
        text, passed, _, _ = socket.recv_fds(self.control, MESSAGE, 1)
        if not text:
            raise EOFError("the judge is gone")
        request = json.loads(text)
        if "end" not in request:
            self.bear(passed[0], sandbox.Limits(**request["limits"]))
        elif request["end"] in self.children:  # not buried yet: the number is nobody else's
            end(request["end"])

    def bear(self, connection: int, limits: sandbox.Limits) -> None:
        """Fork a child that serves this connection."""
        folder = self.folder / str(next(self.born))
        try:
            folder.mkdir()
            parent, pid = os.getpid(), os.fork()
        except OSError as error:
            os.close(connection)
            return self.tell(failed=str(error))
        if pid == 0:
            try:
                forget_parent(connection)
                grant = {
                    "readable": self.readable,
                    "listed": self.listed,
                    "parent": parent,
                    "only": self.settings["layers"],
                    "secluded": self.secluded,
                }
                live(socket.socket(fileno=CONNECTION), self.serve, folder, limits, **grant)
            finally:
                os._exit(1)
        os.close(connection)
        self.children[pid] = folder
        self.watch.register(os.pidfd_open(pid), selectors.EVENT_READ, pid)
        self.tell(pid=pid)

    def bury(self, pid: int) -> None:
        """A child has ended: see that nothing of it stays, and tell the judge."""
        _, status, used = os.wait4(pid, 0)
        for key in list(self.watch.get_map().values()):
            if key.data == pid:
                self.watch.unregister(key.fd)
                os.close(key.fd)
        while strays := strays_beside(self.children):
            for stray in strays:
                end(stray)
                os.waitpid(stray, 0)
        discard(self.children.pop(pid))
        seconds = used.ru_utime + used.ru_stime
        self.tell(exit=[pid, os.waitstatus_to_exitcode(status), seconds, used.ru_maxrss * 1024])

    def tell(self, **message: Any) -> None:
        self.control.send(json.dumps(message).encode())


def in_large_pages() -> None:
    """Gather memory in pages of 2 MB where the kernel can: a fork copies the table of pages, and
    with fewer of them it takes a third of the time."""
    with open("/proc/self/maps") as maps:
        regions = [line.split()[:2] for line in maps]
    for addresses, rights in regions:
        start, stop = (int(each, 16) for each in addresses.split("-"))
        start, stop = -(-start // LARGE) * LARGE, stop // LARGE * LARGE
        if rights == "rw-p" and start < stop:
            for advice in (MADV_HUGEPAGE, MADV_COLLAPSE):
                with suppress(OSError):
                    sandbox.libc("madvise", start, stop - start, advice)


def live(
    connection: socket.socket, serve: Serve, folder: Path, limits: sandbox.Limits, **grant: Any
) -> NoReturn:
    """Move into the sandbox, say how strong it is, and serve until nobody asks any more."""
    try:
        os.chdir(folder)
        furnish(folder)
        report = sandbox.apply(limits, folder, **grant)
    except Exception as error:
        wire.send(connection, {"failed": f"{type(error).__name__}: {error}"})
        os._exit(1)
    wire.send(connection, {"sandbox": report})
    with suppress(EOFError):
        serve(connection)
    os._exit(0)


def alone(settings: dict[str, Any], serve: Serve) -> NoReturn:
    """One process for one learner, where the system cannot fork: started anew for each."""
    if sys.platform == "win32":
        connection = socket.fromshare(base64.b64decode(sys.stdin.readline()))
    else:
        connection = socket.socket(fileno=settings["socket"])
    torch.manual_seed(0)
    limits = sandbox.Limits(**wire.recv(connection)["limits"])
    live(connection, serve, Path(settings["folder"]), limits, only=["limits"])


def furnish(folder: Path) -> None:
    """An environment of its own; what was in the old one is gone."""
    home = str(folder)
    kept = {name: os.environ[name] for name in ("SYSTEMROOT", "PATH") if name in os.environ}
    os.environ.clear()
    os.environ.update(
        kept
        | dict.fromkeys(("HOME", "USERPROFILE", "TMPDIR", "TEMP", "TMP"), home)
        | {"USER": "learner", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "MPLBACKEND": "agg"}
    )
    tempfile.tempdir = None  # asked again when it is next needed
    random.seed(0)


def forget_parent(connection: int) -> None:
    """A session of its own, nothing open but the connection, and no terminal."""
    os.setsid()
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(name, signal.SIG_DFL if name != signal.SIGPIPE else signal.SIG_IGN)
    nowhere = os.open(os.devnull, os.O_RDWR)
    connection = os.dup(connection)  # out of the way of what follows, if it was 3 or less
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    os.dup2(connection, CONNECTION)
    for opened in map(int, os.listdir("/proc/self/fd")):
        if opened > CONNECTION:
            with suppress(OSError):  # the listing's own
                os.close(opened)


def adopt_strays() -> None:
    """Become the parent of what a child may leave behind where nothing keeps it from forking."""
    sandbox.libc("prctl", sandbox.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def strays_beside(children: dict[int, Path]) -> list[int]:
    """Processes that came to this one from children that ended."""
    here = Path(f"/proc/self/task/{os.getpid()}/children")
    with suppress(FileNotFoundError):  # a kernel may be built without this file
        return [pid for pid in map(int, here.read_text().split()) if pid not in children]
    return []


def end(pid: int) -> None:
    """Kill a process and its group."""
    for kill in (os.killpg, os.kill):  # a moment after the fork it has no group yet
        with suppress(ProcessLookupError, PermissionError):
            kill(pid, signal.SIGKILL)


def without(place: Path, withheld: set[Path]) -> Iterator[Path]:
    """The place, or, where something beneath it is withheld, all that stands beside that."""
    if place in withheld:
        return
    if not any(place in each.parents for each in withheld):
        yield place
    elif place.is_dir():
        for each in place.iterdir():
            yield from without(each.resolve(), withheld)


def discard(folder: Path) -> None:
    """Remove a folder and all in it. However deep it goes: folders within are moved up first."""
    numbers = itertools.count()
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        with suppress(OSError):
            place.chmod(0o700)
            for entry in list(os.scandir(place)):
                if entry.is_dir(follow_symlinks=False):
                    os.chmod(entry.path, 0o700)
                    aside = folder.with_name(f"{folder.name}-{next(numbers)}")
                    os.rename(entry.path, aside)
                    waiting.append(aside)
                else:
                    os.unlink(entry.path)
            place.rmdir()
