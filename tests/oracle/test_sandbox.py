"""What a learner's process may not do, tried from within one; and what it still can."""

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

import pytest

import lab
from autograder.oracle import seccomp
from autograder.oracle.sandbox import MIB, Limits, caution, strength
from autograder.oracle.zygote import Zygote

pytestmark = [
    pytest.mark.xdist_group("oracle"),
    pytest.mark.skipif(sys.platform != "linux", reason="the kernel's means are Linux's"),
]

HERE = Path(__file__).parent
PROJECT = Path(lab.__file__).parents[1]

C = """
import ctypes, os, resource, sys, torch
libc = ctypes.CDLL(None, use_errno=True)
def c(name, *arguments):
    ctypes.set_errno(0)
    if getattr(libc, name)(*arguments) < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
"""

# From inside: what is tried, and the errors that may come of it. {secret} is a file of the judge's,
# {judge} its number, {project} where this repository lies, {python} where Python's packages lie.
REFUSED = {
    # other people's files
    "read /etc/passwd": "open('/etc/passwd').read()",
    "read a file of the judge's": "open('{secret}').read()",
    "list the judge's folder": "os.listdir(os.path.dirname('{secret}'))",
    "list other children's folders": "os.listdir('..')",
    "read the references": "open('{project}/solutions/attention.py').read()",
    "read the suites": "open('{project}/autograder/suites/test_attention.py').read()",
    "read through /proc/self/root": "open('/proc/self/root{secret}').read()",
    "read through a symbolic link": "os.symlink('{secret}', 'link'); open('link').read()",
    "read through a hard link": "os.link('{secret}', 'hard'); open('hard').read()",
    "read by its handle": "c('syscall', {open_by_handle_at}, -100, None, 0)",
    "write a file of the judge's": "open('{secret}', 'w')",
    "empty a file of the judge's": "os.truncate('{secret}', 0)",
    "empty a file by reading it": "os.open(torch.__file__, os.O_RDONLY | os.O_TRUNC)",
    "remove a file of the judge's": "os.remove('{secret}')",
    "move it": "os.rename('{secret}', 'mine')",
    "change its mode": "os.chmod('{secret}', 0)",
    "change its time": "os.utime('{secret}', (0, 0))",
    "change its owner": "os.chown('{secret}', os.getuid(), os.getgid())",
    "lock torch away": "os.fchmod(os.open(torch.__file__, os.O_RDONLY), 0)",
    "change torch": "open(torch.__file__, 'a')",
    "add a package": "open('{python}/evil.py', 'w')",
    "write beside its folder": "open('../evil', 'w')",
    "write to /tmp": f"open('{tempfile.gettempdir()}/evil', 'w')",
    "watch files": "c('inotify_init1', 0)",
    "read the terminal": "open('/dev/tty')",
    "make a device": "os.mknod('disk', 0o60600, os.makedev(254, 0))",
    # the network
    "a TCP connection": "import socket; socket.create_connection(('127.0.0.1', 9), 1)",
    "a TCP server": "import socket; socket.create_server(('127.0.0.1', 0))",
    "a unix socket": "import socket; socket.socket(socket.AF_UNIX)",
    "a raw socket": "import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
    "a name": "import urllib.request; urllib.request.urlopen('http://localhost', timeout=1)",
    "io_uring": "c('syscall', 425, 1, None)",
    # processes
    "fork": "os.fork()",
    "vfork": "c('vfork')",
    "subprocess": "import subprocess; subprocess.run(['true'])",
    "multiprocessing": "import multiprocessing as m; m.Process(target=print).start()",
    "a shell": "assert os.system('true') == 0",
    "exec": "os.execv(sys.executable, ['python'])",
    "exec from memory": "os.memfd_create('program')",
    # other processes
    "signal the parent": "os.kill(os.getppid(), 9)",
    "signal the judge": "os.kill({judge}, 9)",
    "signal everybody": "os.kill(-1, 9)",
    "signal a group": "os.killpg({group}, 9)",
    "signal a thread": "c('syscall', {tgkill}, os.getppid(), os.getppid(), 9)",
    "signal by a descriptor": "os.pidfd_open({judge})",
    "signal by a file": "import fcntl; fcntl.fcntl(3, fcntl.F_SETOWN, {judge})",
    "signal by a call": "import fcntl, struct; fcntl.ioctl(3, 0x8901, struct.pack('i', {judge}))",
    "trace the parent": "c('ptrace', 16, os.getppid(), 0, 0)",
    "be traced": "c('ptrace', 0, 0, 0, 0)",
    "read the parent's memory": "open(f'/proc/{{os.getppid()}}/mem', 'rb')",
    "read the judge's memory": "open('/proc/{judge}/mem', 'rb')",
    "read the judge's environment": "open('/proc/{judge}/environ').read()",
    "read the judge's command": "open('/proc/{judge}/cmdline').read()",
    "read memory by a call": "c('process_vm_readv', {judge}, None, 0, None, 0, 0)",
    "take a descriptor": "c('syscall', 438, 3, 0, 0)",
    "let the judge's time run out": "resource.prlimit({judge}, resource.RLIMIT_CPU, (1, 1))",
    "raise its own limits": "resource.setrlimit(resource.RLIMIT_CPU, (999, 999))",
    "slow the judge down": "os.setpriority(os.PRIO_PROCESS, {judge}, 19)",
    "pin the judge": "os.sched_setaffinity({judge}, [0])",
    "idle the judge": "os.sched_setscheduler({judge}, os.SCHED_IDLE, os.sched_param(0))",
    "outlive the parent": "c('prctl', 1, 0, 0, 0, 0)",
    # what outlives a process
    "shared memory": "from multiprocessing.shared_memory import SharedMemory as S; S('x', True, 9)",
    "a file in /dev/shm": "open('/dev/shm/evil', 'w')",
    "System V memory": "c('shmget', 77, 4096, 0o1600)",
    "a message queue": "c('msgget', 77, 0o1600)",
    "semaphores": "c('semget', 77, 1, 0o1600)",
    "a POSIX queue": "c('syscall', {mq_open}, b'evil', 0o102, 0o600, None)",
    # the sandbox itself
    "another's namespaces": "c('setns', os.open(f'/proc/{{os.getppid()}}/ns/net', 0), 0)",
    "setns": "c('setns', 3, 0)",
    "new namespaces": "c('unshare', 0x10000000)",
    "a mount": "c('mount', b'none', b'.', b'tmpfs', 0, None)",
    "an unmount": "c('umount2', b'.', 2)",
    "the new mounts": "c('syscall', 428, -100, b'/', 0)",
    "chroot": "os.chroot('.')",
    "another user": "os.setuid(12345)",
    "no user": "os.setgroups([0])",
    "the kernel's programs": "c('syscall', {bpf}, 0, None, 0)",
    "performance counters": "c('syscall', {perf_event_open}, None, 0, -1, -1, 0)",
    "faults": "c('syscall', {userfaultfd}, 0)",
    "keys": "c('syscall', {keyctl}, 0, -3, 1)",
    "a call too new to be known": "c('syscall', 454, 0, 0, 0)",
    "x32's calls": "c('syscall', 0x40000000 + 57)",
    # more than its share
    "3 GB": "bytearray(3 << 30)",
    "3 GB of tensor": "torch.ones(3 << 30, dtype=torch.uint8)",
    "a big file": "open('big', 'wb').write(bytes(32 << 20))",
    "a long file": "os.truncate(os.open('long', os.O_CREAT | os.O_RDWR), 1 << 40)",
    "many open files": "kept = [open(os.devnull) for _ in range(500)]",
}
REFUSAL = ("PermissionError", "OSError: [Errno 30]", "OSError: [Errno 18]")  # or another disk's
ERRORS = {
    "another user": ("PermissionError", "OSError: [Errno 22]"),
    "a shell": "AssertionError",
    "3 GB": "MemoryError",
    "3 GB of tensor": "RuntimeError",
    "a big file": "OSError: [Errno 27]",
    "a long file": "OSError: [Errno 27]",
    "many open files": "OSError: [Errno 24]",
    "a call too new to be known": "OSError: [Errno 38]",
    "x32's calls": "OSError: [Errno 38]",
    "raise its own limits": "ValueError",
    "a name": "URLError",
    "faults": "PermissionError",
}


@pytest.fixture(scope="module")
def secret(tmp_path_factory):
    file = tmp_path_factory.mktemp("judge") / "secret"
    file.write_text("the answers")
    return file


@pytest.fixture(scope="module")
def hosts(zygote):
    """This host, and one without namespaces: many distributions and containers forbid them."""
    layers = ["limits", "landlock", "capabilities", "parent", "seccomp"]
    with Zygote("a_worker", path=[HERE], layers=layers) as narrow:
        yield {"this host": zygote, "no namespaces": narrow}


@pytest.fixture(params=["this host", "no namespaces"])
def somewhere(request, hosts):
    with hosts[request.param].spawn() as child:
        yield child


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name, somewhere, ask, secret):
    """What would reach files, the network, other processes or the machine ends in an error."""
    code = REFUSED[name].format(
        secret=secret,
        judge=os.getpid(),
        group=os.getpgrp(),
        project=PROJECT,
        python=sysconfig.get_path("purelib"),
        **seccomp.numbers_of(os.uname().machine),
    )

    said = ask(somewhere, f"{C}\n{code}\nanswer = 'done'")

    assert isinstance(said, str) and said.startswith(ERRORS.get(name, REFUSAL)), said
    assert secret.read_text() == "the answers"
    assert ask(somewhere, "answer = 1 + 1") == 2  # the process lives on, and so does everybody else


HONEST = {
    "a thread": """
        import threading
        said = []
        thread = threading.Thread(target=said.append, args=[True])
        thread.start(); thread.join()
        answer = said == [True]
    """,
    "torch with two threads": """
        import os, torch
        torch.set_num_threads(2)
        x = torch.randn(600, 600, requires_grad=True)
        (x @ x).exp().sum().backward()
        answer = x.grad.shape == (600, 600) and len(os.listdir("/proc/self/task")) > 1
    """,
    "training": """
        import torch
        from torch import nn
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        x = torch.randn(64, 8)
        losses = []
        for _ in range(30):
            loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
            optimizer.zero_grad(); loss.backward(); optimizer.step()
            losses.append(loss.item())
        answer = losses[-1] < losses[0]
    """,
    "temporary files": """
        import os, tempfile
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "a")
            open(path, "w").write("text")
            os.rename(path, path + "b")
            answer = open(path + "b").read() == "text" and folder.startswith(os.getcwd())
        answer &= not os.path.exists(folder)
    """,
    "a checkpoint": """
        import torch
        torch.save({"a": torch.ones(3)}, "model.pt")
        answer = torch.load("model.pt")["a"].sum() == 3
        answer = bool(answer)
    """,
    "modules that nobody imported yet": """
        import sys
        new = not {"sqlite3", "wave", "torch.utils.benchmark"} & set(sys.modules)
        import sqlite3, wave, torch.utils.benchmark
        answer = new and sqlite3.connect("a.db").execute("select 1").fetchone() == (1,)
    """,
    "torch's own source": """
        import inspect, torch
        answer = "class Linear" in inspect.getsource(torch.nn.Linear)
    """,
    "the model that ships": """
        from lab.model import build, shipped
        answer = bool(shipped())
    """,
    "a picture": """
        import os
        from lab.plotting import lines
        lines({"a": [1, 2, 3]}).savefig("picture.png")
        answer = os.path.getsize("picture.png") > 1000
    """,
    "prints and warnings": """
        import sys, warnings
        print("hello"); print("hello", file=sys.stderr); warnings.warn("hello")
        answer = True
    """,
    "who and where am I": """
        import getpass, os, pathlib, platform, tempfile
        here = os.getcwd()
        answer = getpass.getuser() == "learner" and str(pathlib.Path.home()) == here
        answer &= tempfile.gettempdir() == here and os.cpu_count() > 0 and bool(platform.platform())
    """,
    "random numbers": """
        import os, random, secrets, uuid
        answer = len(os.urandom(8)) == 8 and bool(secrets.token_hex()) and bool(uuid.uuid4())
    """,
    "an event loop": """
        import asyncio
        answer = asyncio.run(asyncio.sleep(0, True))
    """,
    "signals to itself": """
        import os, signal
        seen = []
        signal.signal(signal.SIGUSR1, lambda *_: seen.append(1))
        os.kill(os.getpid(), signal.SIGUSR1); signal.raise_signal(signal.SIGUSR1)
        answer = seen == [1, 1]
    """,
    "a half of a gigabyte": """
        import torch
        answer = torch.ones(1 << 29, dtype=torch.uint8)[-1].item() == 1
    """,
}


@pytest.mark.parametrize("name", HONEST)
def test_allowed(name, somewhere, ask):
    """What an honest notebook does works as it does outside."""
    assert ask(somewhere, HONEST[name]) is True


def test_the_report_says_what_is_active(child):
    """On a host like this one every layer is there, and strength is full."""
    assert strength(child.sandbox) == "full", child.sandbox
    assert caution(child.sandbox) is None
    assert set(child.sandbox) == {
        *("limits", "namespaces", "disk", "landlock", "capabilities", "parent", "seccomp"),
    }


def test_the_kernel_agrees(child, ask):
    """No capability in any set, no way to new privileges, a filter in force."""
    answer = ask(
        child,
        """
        lines = [line.split(":") for line in open("/proc/self/status")]
        status = {name: value.strip() for name, value in lines}
        answer = {name: status[name] for name in status if name.startswith(("Cap", "NoN", "Secc"))}
        """,
    )

    kept = {name for name, value in answer.items() if name[:3] == "Cap" and int(value, 16)}
    assert kept <= {"CapBnd"} if os.getuid() else not kept
    assert (answer["NoNewPrivs"], answer["Seccomp"]) == ("1", "2")


def test_its_disk_is_small(child, ask):
    """Many files together stop at the disk's size, and so do many names."""
    if child.sandbox["disk"] is not True:
        pytest.skip("no disk of its own on this host")
    said = ask(
        child,
        """
        written = 0
        try:
            for i in range(20):
                written += open(f"file{i}", "wb").write(bytes(8 << 20))
        except OSError as error:
            answer = [written, error.errno]
        """,
    )
    assert said[0] <= Limits().disk and said[1] == 28

    many = ask(child, "import os\nfor i in range(10_000): os.mkdir(f'folder{i}')")
    assert many.startswith("OSError: [Errno 28]")


def test_its_network_has_no_interface_up(child, ask):
    """Even the loopback is a new one, and down."""
    if child.sandbox["namespaces"] is not True:
        pytest.skip("no namespaces on this host")
    routes = ask(child, "answer = open('/proc/self/net/route').read().splitlines()[1:]")

    assert routes == []


ALONE = """
import os, sys
from autograder.oracle import sandbox
sandbox._unshare(0)
if sys.argv[1] == "refused":
    open("/proc/sys/user/max_user_namespaces", "w").write("0")
there = [os.readlink(f"/proc/self/ns/{each}") for each in ("user", "net", "ipc", "mnt")]
print(sandbox.seclude(), os.geteuid())
if sys.argv[1] == "leave":
    sandbox.leave(sandbox.Limits(), secluded=True)
now = [os.readlink(f"/proc/self/ns/{each}") for each in ("user", "net", "ipc", "mnt")]
print([one != other for one, other in zip(there, now)])
"""


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ("granted", f"True {os.geteuid()}\n[True, True, True, False]\n"),
        ("leave", f"True {os.geteuid()}\n[True, True, True, True]\n"),
        ("refused", f"False {os.geteuid()}\n[False, False, False, False]\n"),
    ],
)
def test_a_parent_leaves_the_network_for_its_children(child, way, said):
    """Wholly, or not at all where the host refuses: then it is who it was, where it was."""
    if child.sandbox["namespaces"] is not True:
        pytest.skip("no namespaces on this host")
    command = [sys.executable, "-c", ALONE, way]
    ended = subprocess.run(command, capture_output=True, text=True)
    if "max_user_namespaces" in ended.stderr:
        pytest.skip("this host does not let its namespaces be bounded")
    assert (ended.stdout, ended.stderr) == (said, "")


def test_time_is_bounded(zygote, ask):
    """An endless loop ends after its seconds of the processor, even when it ignores the warning."""
    with zygote.spawn(Limits(seconds=1)) as child:
        ignoring = "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass"
        with pytest.raises(EOFError):
            ask(child, ignoring)

        end = child.close()

    assert end.status in (-signal.SIGXCPU, -signal.SIGKILL)
    assert 0.9 < end.seconds < 4


def test_memory_is_the_limit_s(zygote, ask):
    """A process gets what it is given and no more."""
    with zygote.spawn(Limits(memory=200 * MIB)) as child:
        assert ask(child, "answer = len(bytearray(100 << 20))") == 100 * MIB
        assert ask(child, "bytearray(300 << 20)").startswith("MemoryError")


@pytest.mark.skipif(os.getuid() == 0, reason="the kernel does not count root's threads")
def test_threads_are_counted(child, ask):
    """The hundredth thread is one too many."""
    if child.sandbox["namespaces"] is not True:
        pytest.skip("threads are counted in a user namespace")
    said = ask(
        child,
        """
        import threading
        stop = threading.Event()
        try:
            for i in range(200):
                threading.Thread(target=stop.wait, daemon=True).start()
        except RuntimeError:
            answer = i
        stop.set()
        """,
    )

    assert 10 < said < 100


def test_nothing_is_open_but_the_connection(child, ask):
    """No file, socket or pipe of the parent's came along; stdio leads nowhere."""
    said = ask(
        child,
        """
        import os
        answer = {}
        for name in os.listdir("/proc/self/fd"):
            try: answer[name] = os.readlink(f"/proc/self/fd/{name}")
            except OSError: pass
        """,
    )

    assert {said.pop(each) for each in "012"} == {"/dev/null"}
    assert list(said) == ["3"] and said["3"].startswith("socket:")


REPORTS = {
    "full": {"limits": True, "landlock": True, "seccomp": True, "namespaces": "no", "disk": "no"},
    "partial": {"limits": True, "landlock": "not in this kernel", "seccomp": True},
    "none": {"limits": True, "landlock": "only Linux has it", "seccomp": "only Linux has it"},
}


@pytest.mark.parametrize("expected", REPORTS)
def test_strength(expected):
    """Files and system calls must both be kept for "full"; namespaces come on top."""
    assert strength(REPORTS[expected]) == expected
    assert strength({}) == "none"


def test_caution_names_what_is_missing():
    """One sentence, with the reason of each missing layer and what to do."""
    said = caution(REPORTS["partial"])

    assert "landlock: not in this kernel" in said and "seccomp" not in said
    assert "cannot forge" in said and "your rights" in said and "container" in said


def test_layers_fail_alone(ask, light):
    """Where one is missing the others stand: without Landlock, no fork and no socket still."""
    with light(layers=["limits", "seccomp"]) as weaker:
        with weaker.spawn() as child:
            assert child.sandbox["landlock"] == "not asked for"
            assert strength(child.sandbox) == "partial"
            assert ask(child, "import os; os.fork()").startswith("PermissionError")
            assert ask(child, "import socket; socket.socket()").startswith("PermissionError")
            assert ask(child, "import os; os.kill(os.getppid(), 0)").startswith("PermissionError")


@pytest.mark.parametrize("machine", seccomp.MACHINES)
def test_the_filter_is_well_formed(machine):
    """Every jump lands within the program, and the last instruction is a verdict."""
    program = seccomp.program(1234, machine)
    length = len(program) // 8
    for at in range(length):
        code, yes, no = (
            int.from_bytes(program[8 * at : 8 * at + 2], "little"),
            *program[8 * at + 2 : 8 * at + 4],
        )
        if code in (seccomp.IF_EQUAL, seccomp.IF_GREATER):
            assert at + 1 + max(yes, no) < length
    assert program[-8] == seccomp.RETURN and length < 4096


HEADERS = {
    "x86_64": "/usr/include/x86_64-linux-gnu/asm/unistd_64.h",
    "aarch64": "/usr/include/asm-generic/unistd.h",  # aarch64 uses the generic table
}


@pytest.mark.parametrize("machine", HEADERS)
def test_numbers_are_the_kernel_s(machine):
    """The table agrees with the kernel's own headers, where they are installed."""
    if not os.path.exists(HEADERS[machine]):
        pytest.skip("no kernel headers")
    text = Path(HEADERS[machine]).read_text()
    theirs = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", text))

    ours = seccomp.numbers_of(machine)
    assert {name: str(number) for name, number in ours.items()} == {
        name: theirs[name] for name in ours
    }
    assert not set(seccomp.REFUSED) & set(theirs) - set(ours)


def test_another_machine_is_told():
    """Where the numbers are unknown the layer says so instead of filtering wrongly."""
    with pytest.raises(OSError, match="riscv64"):
        seccomp.program(1, "riscv64")


ORDINARY = 65534


@pytest.mark.skipif(os.getuid() != 0, reason="this is one already")
@pytest.mark.slow
def test_all_of_this_holds_for_an_ordinary_user():
    """The tests of this file and of test_zygote, run again by root's least favoured user; but for
    those of processes that end and come, to which a user makes no difference."""
    if not (shutil.which("unshare") and shutil.which("setpriv")):
        pytest.skip("it takes util-linux")
    with tempfile.TemporaryDirectory() as folder:  # pytest's own are closed to others
        os.chown(folder, ORDINARY, ORDINARY)
        result = subprocess.run(
            [
                *("unshare", "--mount", "sh", "-c", VISIBLE, "sh"),
                *(closed(Path(sys.base_prefix)), sys.base_prefix, folder),
                *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"),
                *(f"--basetemp={folder}/pytest", "-m", "not whoever"),
                *(HERE / "test_sandbox.py", HERE / "test_zygote.py"),
            ],
            cwd=PROJECT,
            env={**os.environ, "HOME": folder, "TMPDIR": folder, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        left = list(Path(folder).glob("attention-lab-*"))

    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-2000:]
    assert "passed" in result.stdout and not left


# Root's Python may lie where only root can look. In mounts of its own, this shell covers that
# folder with an empty one that has nothing but Python in it, and then becomes the ordinary user.
VISIBLE = f"""
set -e; closed=$1 python=$2 folder=$3; shift 3
if [ -n "$closed" ]; then
    mkdir "$folder/python"; mount --bind "$python" "$folder/python"
    mount -t tmpfs -o mode=755 none "$closed"
    mkdir -p "$python"; mount --bind "$folder/python" "$python"
fi
exec setpriv --reuid {ORDINARY} --regid {ORDINARY} --clear-groups "$@"
"""


def closed(place: Path) -> str:
    """The outermost folder on the way that others may not enter, or nothing."""
    for each in reversed([place, *place.parents]):
        if not each.stat().st_mode & 0o001:
            return str(each)
    return ""
