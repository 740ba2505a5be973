"""Processes for learners: quick to get, gone without a trace, strangers to the judge."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from autograder.oracle import nursery, wire
from autograder.oracle.sandbox import Limits, caution, strength
from autograder.oracle.zygote import Exit, Unavailable, Zygote

pytestmark = [
    pytest.mark.xdist_group("oracle"),
    pytest.mark.skipif(sys.platform != "linux", reason="what is looked at lies in /proc"),
]

HERE = Path(__file__).parent


def folders():
    return set(Path(tempfile.gettempdir()).glob("attention-lab-*"))


def opened():
    return len(os.listdir("/proc/self/fd"))


def alive(pid):
    """Whether a process runs, zombies not counted."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def children_of(pid):
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return {int(each) for each in text.split()}


def eventually(condition, seconds=10):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


@pytest.fixture(scope="module")
def own(light):
    """A zygote that tests may mistreat: whatever they do to it, it starts again."""
    with light() as zygote:
        yield zygote


def test_each_child_starts_afresh(zygote, ask):
    """What one learner's code does to torch, the next one's does not see."""
    with zygote.spawn() as first, zygote.spawn() as second:
        assert ask(first, "import torch; torch.allclose = None; answer = 1") == 1
        assert ask(second, "import torch; answer = torch.allclose is None") is False
    with zygote.spawn() as third:
        assert ask(third, "import torch; answer = torch.allclose is None") is False


def test_each_child_draws_the_same_numbers(zygote, ask):
    """Grading twice gives the same: both generators start from the same seed."""
    drawn = []
    for _ in range(2):
        with zygote.spawn() as child:
            source = "import random, torch; answer = [random.random(), torch.rand(2).tolist()]"
            drawn.append(ask(child, source))

    assert drawn[0] == drawn[1]


def test_fifty_leave_nothing(zygote, ask):
    """No zombies, no open files, no folders; neither here nor in the parent."""
    zygote.spawn().close()
    parent = zygote._home.process.pid
    before = opened(), folders(), len(os.listdir(f"/proc/{parent}/fd"))

    for i in range(50):
        with zygote.spawn() as child:
            assert ask(child, f"open('file', 'w').write('x'); answer = {i}") == i

    assert (opened(), folders(), len(os.listdir(f"/proc/{parent}/fd"))) == before
    assert not children_of(parent)
    assert not list(zygote._home.folder.iterdir())


def test_how_a_child_ended(zygote, ask):
    """Status, seconds and memory of a process that ended itself."""
    with zygote.spawn() as child:
        ask(child, "x = bytearray(100 << 20)\nfor _ in range(3_000_000): pass")
        with pytest.raises(EOFError):
            ask(child, "import os; os._exit(3)")
        end = child.close()

    assert end.status == 3 and 0.01 < end.seconds < 10 and end.memory > 100 << 20
    assert child.close() == end


@pytest.mark.parametrize(
    ("last", "status"),
    [
        ("os.kill(os.getpid(), 11)", -signal.SIGSEGV),
        ("ctypes.string_at(0)", -signal.SIGSEGV),
        ("os.abort()", -signal.SIGABRT),
        ("os._exit(0)", 0),
    ],
)
def test_a_crash_is_one_child_s(zygote, ask, last, status):
    """A child that crashes takes nobody along, and its status tells how."""
    with zygote.spawn() as other, zygote.spawn() as child:
        with pytest.raises(EOFError):
            ask(child, f"import ctypes, os\n{last}")

        assert child.close().status == status
        assert ask(other, "answer = 'unmoved'") == "unmoved"


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "import signal, time\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\n"
        "while True: time.sleep(9)",
        "import threading\nfor _ in range(8): threading.Thread(target=lambda: [0 for _ in "
        "iter(int, 1)]).start()\nwhile True: pass",
        "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
    ],
    ids=["a loop", "deaf", "threads", "stubborn"],
)
def test_a_child_that_hangs_is_killed(zygote, ask, code):
    """The judge's deadline ends it, whatever it does with signals."""
    with zygote.spawn() as child:
        with pytest.raises(TimeoutError):
            ask(child, code, seconds=0.3)
        start = time.monotonic()
        end = child.close()

    assert end.status == -signal.SIGKILL and time.monotonic() - start < 10
    assert not alive(child.pid)


def test_a_parent_that_is_killed_is_replaced(own, ask):
    """kill -9 of the zygote: its children die with it, the next spawn starts another."""
    child = own.spawn()
    parent, folder = own._home.process.pid, own._home.folder
    os.kill(parent, signal.SIGKILL)

    assert eventually(lambda: not alive(child.pid))
    with own.spawn() as next_child:
        assert ask(next_child, "answer = 'again'") == "again"
    assert own._home.process.pid != parent and not alive(parent)
    assert child.close() == Exit(None)
    assert not folder.exists()


@pytest.mark.whoever
def test_a_parent_is_replaced_in_the_middle_of_a_call(own, ask):
    """The judge that waits for an answer sees an end, not a hang."""
    child = own.spawn()
    wire.send(child.socket, "import time; time.sleep(60)")
    os.kill(own._home.process.pid, signal.SIGKILL)

    with pytest.raises(EOFError):
        wire.recv(child.socket, time.monotonic() + 20)
    child.close()
    own.spawn().close()


@pytest.mark.whoever
def test_a_parent_that_hangs_is_replaced(own, ask, monkeypatch):
    """A stopped zygote is given up after its time."""
    own.spawn().close()
    monkeypatch.setattr("autograder.oracle.zygote.ANSWER", 0.5)
    stopped = own._home.process.pid
    os.kill(stopped, signal.SIGSTOP)

    with own.spawn() as child:
        monkeypatch.setattr("autograder.oracle.zygote.ANSWER", 30)
        assert ask(child, "answer = 1") == 1
    assert not alive(stopped)


JUDGE = """
import os, sys, time
from autograder.oracle import wire
from autograder.oracle.zygote import Zygote
zygote = Zygote("a_light_worker", path=[sys.argv[1]])
zygote._settings["preload"] = ()
children = [zygote.spawn() for _ in range(3)]
wire.send(children[0].socket, "open('file', 'w').write('x')\\nwhile True: pass")
pids = [child.pid for child in children]
print(zygote._home.process.pid, *pids, zygote._home.folder, flush=True)
time.sleep(60)
"""


def test_a_judge_that_is_killed_leaves_nothing():
    """kill -9 of the judge: parent, children and their folder are gone a moment later."""
    judge = subprocess.Popen(
        [sys.executable, "-c", JUDGE, str(HERE)], stdout=subprocess.PIPE, text=True
    )
    with judge:
        *pids, folder = judge.stdout.readline().split()
        pids = [int(each) for each in pids]
        assert len(pids) == 4 and all(map(alive, pids))
        judge.kill()

    assert eventually(lambda: not any(map(alive, pids)))
    assert eventually(lambda: not Path(folder).exists())


def test_no_secret_is_in_a_child(ask, monkeypatch):
    """Neither environment nor modules nor import path lead to the judge's side."""
    monkeypatch.setenv("JUDGES_SECRET", "4711-0815")
    with Zygote("a_worker", path=[HERE]) as zygote, zygote.spawn() as child:
        assert "4711-0815" not in repr(ask(child, "import os; answer = dict(os.environ)"))
        environ = ask(child, "answer = open('/proc/self/environ', 'rb').read()")
        assert isinstance(environ, str) or b"4711-0815" not in environ
        modules = set(ask(child, "import sys; answer = sorted(sys.modules)"))

    ours = {name for name in modules if name.split(".")[0] in ("autograder", "solutions", "tests")}
    assert ours == {
        "autograder",
        *(f"autograder.oracle{each}" for each in ("", ".nursery", ".sandbox", ".seccomp", ".wire")),
    }
    assert {"torch", "lab.parts", "lab.stock", "lab.lesson"} <= modules


@pytest.mark.parametrize(
    "name",
    [
        *("autograder.suites", "autograder.suites.test_attention", "autograder.mistakes"),
        *("autograder.quizzes", "autograder.checks", "solutions", "solutions.attention"),
    ],
)
def test_the_judge_s_modules_cannot_be_imported(child, ask, name):
    """They are not on the path, and were they on it they could not be read."""
    root = HERE.parents[1]

    plain = ask(child, f"import {name}; answer = 'imported'")
    forced = ask(
        child,
        f"""
        import importlib, sys
        sys.modules.pop("autograder", None)
        sys.path.insert(0, {str(root)!r})
        importlib.invalidate_caches()
        module = importlib.import_module({name!r})
        answer = "imported " + str(module.__file__)
        """,
    )

    assert plain.startswith("ModuleNotFoundError")
    assert forced.startswith(("ModuleNotFoundError", "PermissionError")), forced


def test_no_memory_is_shared(zygote, child):
    """What a child writes, neither its parent nor another child can see."""
    for pid in (zygote._home.process.pid, child.pid):
        if not os.access(f"/proc/{pid}/maps", os.R_OK):
            continue
        try:
            maps = Path(f"/proc/{pid}/maps").read_text().splitlines()
        except PermissionError:  # in a namespace of its own it is closed even to its user
            continue
        shared = [line for line in maps if line.split()[1][1:] in ("w-s", "wxs")]
        assert not shared


def test_the_parent_has_one_thread(zygote):
    """A fork copies one thread: another's locks would stay locked for ever."""
    status = Path(f"/proc/{zygote._home.process.pid}/status").read_text()

    assert "Threads:\t1\n" in status


def test_a_stray_is_caught(ask, light):
    """On a host without seccomp a child can fork; what it leaves ends with it all the same."""
    with light(layers=["limits"]) as zygote:
        with zygote.spawn() as child:
            strays = ask(
                child,
                """
                import os, time
                strays = []
                for _ in range(5):
                    ours, theirs = os.pipe()
                    if os.fork() == 0:
                        os.setsid()
                        if (pid := os.fork()):
                            os.write(theirs, str(pid).encode())
                            os._exit(0)
                        time.sleep(60)
                    strays.append(int(os.read(ours, 20)))
                answer = strays
                """,
            )
            assert all(map(alive, strays))
            child.close()

            assert not any(map(alive, strays))
            assert not children_of(zygote._home.process.pid)


def test_a_deep_folder_is_removed(ask, light):
    """Without a disk of its own a child's files are removed, however they lie."""
    with light(layers=["limits", "landlock", "seccomp"]) as zygote:
        with zygote.spawn() as child:
            said = ask(
                child,
                """
                import os
                os.mkdir("closed", 0)
                os.symlink("/", "everything")
                os.mkfifo("pipe")
                for i in range(3000):
                    open("file", "w").close()
                    os.mkdir("folder"); os.chdir("folder")
                answer = "deep"
                """,
            )
            assert said == "deep" or "PermissionError" in said  # Landlock grants no pipes
            assert list(zygote._home.folder.iterdir())
        assert not list(zygote._home.folder.iterdir())


def test_discard_follows_nothing(tmp_path):
    """A link is removed, what it leads to is not; closed and very deep folders go."""
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("text")
    gone = tmp_path / "gone"
    gone.mkdir()
    (gone / "link").symlink_to(kept)
    (gone / "closed").mkdir(mode=0)
    descent = os.open(gone, os.O_RDONLY)
    for _ in range(2500):  # deeper than a path can be long, or Python recurse
        os.mkdir("a", dir_fd=descent)
        further = os.open("a", os.O_RDONLY, dir_fd=descent)
        os.close(descent)
        descent = further
    os.close(descent)

    nursery.discard(gone)

    assert os.listdir(tmp_path) == ["kept"] and (kept / "file").read_text() == "text"


def test_what_stands_beside_a_secret_is_granted(tmp_path):
    """Where the project is installed among other packages, the others can be read."""
    for each in ("a", "secret", "deep/secret", "deep/b"):
        (tmp_path / each).mkdir(parents=True)
    withheld = {tmp_path / "secret", tmp_path / "deep/secret"}

    granted = set(nursery.without(tmp_path, withheld))

    assert granted == {tmp_path / "a", tmp_path / "deep/b"}
    assert list(nursery.without(tmp_path, {tmp_path.parent / "else"})) == [tmp_path]
    assert not list(nursery.without(tmp_path, {tmp_path}))


def test_what_is_withheld_cannot_be_read(ask, light):
    """A package among Python's own is closed, its neighbours are open and can be imported."""
    import jaxtyping

    package = Path(jaxtyping.__file__).parent
    with light(withheld=[package]) as zygote, zygote.spawn() as child:
        closed = ask(child, f"answer = open({str(package / '__init__.py')!r}).read()")
        beside = ask(child, "import sacrebleu, wave; answer = sacrebleu.__name__")

    assert closed.startswith("PermissionError")
    assert beside == "sacrebleu"


@pytest.mark.whoever
def test_a_worker_that_cannot_start_is_told(light):
    """The machine's fault comes with the reason, and leaves nothing."""
    before = opened(), folders()

    with pytest.raises(Unavailable, match="no_such_worker"):
        light("no_such_worker").start()

    assert (opened(), folders()) == before


def test_a_child_that_cannot_start_is_told(own):
    """One that fails before it says how its sandbox stands is the machine's fault."""
    with pytest.raises(Unavailable, match="TypeError"):
        own.spawn(Limits(memory="much"))

    own.spawn().close()


def test_no_room_to_fork_is_told(own):
    """Where the system gives no more processes, the reason arrives, and nobody's mark suffers."""
    own._home.folder.chmod(0)
    own._home.folder.rename(f"{own._home.folder}-moved")
    moved = Path(f"{own._home.folder}-moved")

    with own.spawn() as child:  # a second parent could
        assert child.sandbox["limits"] is True

    nursery.discard(moved)


@pytest.mark.whoever
def test_closing_twice_and_late(ask, light):
    """A child may be closed after its zygote, either twice, and a zygote used again."""
    zygote = light()
    child = zygote.spawn()
    zygote.close()
    zygote.close()

    assert child.close() == child.close() == Exit(None)
    with zygote:
        with zygote.spawn() as another:
            assert ask(another, "answer = 1") == 1


@pytest.fixture(scope="module")
def interpreters(light):
    with light(fork=False) as zygote:
        yield zygote


@pytest.mark.whoever
def test_without_fork_the_same_words(interpreters, ask):
    """Where nothing forks, an interpreter for each learner speaks the same protocol."""
    before = opened(), len(folders())

    for i in range(2):
        with interpreters.spawn(Limits(seconds=60)) as child:
            assert ask(child, f"import torch; answer = torch.ones({i + 1})").sum() == i + 1
            assert child.sandbox["limits"] is True
            assert strength(child.sandbox) == "none" and "your rights" in caution(child.sandbox)
            with pytest.raises(EOFError):
                ask(child, "import os; os._exit(5)")
            assert child.close().status == 5

    assert (opened(), len(folders())) == before


@pytest.mark.whoever
def test_without_fork_limits_and_environment_hold(interpreters, ask):
    """Memory and files are bounded, the environment is its own, the judge's modules are away."""
    with interpreters.spawn(Limits(memory=500 << 20)) as child:
        assert ask(child, "bytearray(1 << 30)").startswith("MemoryError")
        assert ask(child, "open('a', 'wb').write(bytes(32 << 20))").startswith("OSError")
        assert ask(child, "import autograder.suites").startswith("ModuleNotFoundError")
        home = ask(child, "import os; answer = [os.environ['HOME'], os.getcwd()]")
        assert home[0] == home[1] and Path(home[0]).exists()

    assert not Path(home[0]).exists()


@pytest.mark.whoever
def test_without_fork_one_that_hangs_is_killed(interpreters, ask):
    """The judge's deadline holds there too, and what the child started in its group goes along."""
    with interpreters.spawn() as child:
        source = "import subprocess; answer = subprocess.Popen(['sleep', '60']).pid"
        started = ask(child, source)
        with pytest.raises(TimeoutError):
            ask(child, "while True: pass", seconds=0.2)
        assert child.close().status == -signal.SIGKILL

    assert eventually(lambda: not alive(started))


@pytest.mark.whoever
def test_settings_fit_on_a_command_line():
    """What a process is told at its start is short, and is JSON."""
    assert len(json.dumps(Zygote()._settings)) < 16_000
