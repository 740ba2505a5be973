"""What the oracle's tests share: processes that run the source they are given."""

import os
import shutil
import tempfile
import textwrap
import time
from pathlib import Path

import pytest

from autograder.oracle import wire
from autograder.oracle.zygote import Zygote

HERE = Path(__file__).parent


@pytest.fixture(scope="session", autouse=True)
def home():
    """Folders of learners' processes stand where no other test process has any, for any user."""
    before, folder = tempfile.tempdir, tempfile.mkdtemp()
    os.chmod(folder, 0o1777)
    tempfile.tempdir = folder
    yield
    tempfile.tempdir = before
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def zygote(home):
    """A warm parent whose children run what they are sent."""
    with Zygote("a_worker", path=[HERE]) as zygote:
        yield zygote


@pytest.fixture(scope="session")
def learners(home):
    """The warm parent that grading uses."""
    with Zygote() as zygote:
        yield zygote


@pytest.fixture(scope="session")
def light():
    return _light


def _light(worker="a_light_worker", **options):
    """A parent that has no more ready than torch: for how processes live and die, not for what is
    in them."""
    zygote = Zygote(worker, path=[HERE], **options)
    zygote._settings["preload"] = ()
    return zygote


@pytest.fixture
def child(zygote):
    with zygote.spawn() as child:
        yield child


@pytest.fixture
def ask():
    return _ask


def _ask(child, source, seconds=60):
    """What `answer` is after a child has run the source; an error as "Type: message"."""
    deadline = time.monotonic() + seconds
    wire.send(child.socket, textwrap.dedent(source), deadline)
    return wire.recv(child.socket, deadline)
