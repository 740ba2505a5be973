"""What a learner's process may not do, kept by the kernel, and how much of that this host grants.

    report = apply(Limits(), folder=Path("its/own"), readable=[Path(sys.prefix)])
    {"limits": True, "namespaces": "Operation not permitted", "disk": "it takes namespaces", ...}

No layer needs root or a library, each is tried by itself, and what is missing is said with its
reason. From the outside in:

    limits        memory, seconds, the size of a file, open files; the first to go when memory ends
    namespaces    a network without interfaces, shared memory and mounts of its own
    disk          its own folder is a small disk in memory, every other one is read-only
    landlock      which files: Python's are read, its own folder's are written, no others exist
    capabilities  none: root keeps a name without a power
    parent        when it ends, however it ends, so does this process
    seccomp       which system calls: no processes, no sockets, nobody else's affairs

As root all of this holds as well, but one thing: the kernel does not count root's threads, so that
memory alone bounds them. Files can still be asked for their names and sizes, not opened.
Training works in here; DataLoader's workers, torch.compile and pip want processes and do not.
"""

import ctypes
import functools
import os
import re
import signal
import struct
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from autograder.oracle import seccomp

Report = dict[str, bool | str]

MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """How much a process may use."""

    memory: int = 2048 * MIB  # of addresses, beyond what it starts with
    seconds: int = 30  # of the processor's time
    file: int = 16 * MIB
    files: int = 128  # open at once
    disk: int = 64 * MIB
    threads: int = 64


# Read by Python, torch and libc besides the Python that runs. The rest of the machine is not there.
SYSTEM = (
    *("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/localtime"),
    *("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system/cpu"),
)
DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random")

# <linux/prctl.h>, <linux/sched.h>, <linux/mount.h>
PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_CAPBSET_DROP = 1, 22, 24
PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 36, 38
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
SECCOMP_MODE_FILTER = 2
CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWNET = 0x20000, 0x8000000, 0x10000000, 0x40000000
MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
AT_FDCWD, AT_RECURSIVE, MOUNT_ATTR_RDONLY = -100, 0x8000, 1
CAPABILITY_VERSION_3 = 0x20080522

# System calls for which libc has no function; the same numbers on x86_64 and aarch64.
MOUNT_SETATTR = 442
LANDLOCK_CREATE_RULESET, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT_SELF = 444, 445, 446
CAPSET = {"x86_64": 126, "aarch64": 91}

# <linux/landlock.h>: what can be asked of a file
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE = (1 << i for i in range(6))
MAKE_DIR, MAKE_REG, MAKE_SYM, REFER, TRUNCATE = (1 << i for i in (7, 8, 12, 13, 14))
READ = READ_FILE | READ_DIR
WRITE = WRITE_FILE | TRUNCATE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_SYM | REFER
OF_A_FILE = WRITE_FILE | READ_FILE | TRUNCATE
RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # how many kinds each version of Landlock knows
NET, SCOPED = 3, 3  # bind and connect; abstract sockets and signals
RULE_PATH_BENEATH, VERSION = 1, 1


def apply(
    limits: Limits,
    folder: Path,
    readable: Iterable[Path] = (),
    listed: Iterable[Path] = (),
    parent: int = 0,
    only: Sequence[str] | None = None,
    secluded: bool = False,
) -> Report:
    """Give up, for this process and for good, what a learner's code does not need.

    The process must have one thread. `folder` is its own; files beneath `readable` can be read,
    beneath `listed` only their names; `parent` is the process without which it shall not live, 0
    for none; `only` names the layers to try; `secluded`: `seclude` has done its part already.
    """
    layers: dict[str, Callable[[], object]] = {
        "limits": lambda: limit(limits),
        "namespaces": lambda: leave(limits, secluded),
        "disk": lambda: small_disk(folder, limits, report["namespaces"]),
        "landlock": lambda: landlock(folder, readable, listed),
        "capabilities": drop_capabilities,
        "parent": lambda: die_with(parent),  # a change of capabilities would undo it
        "seccomp": filter_calls,
    }
    report: Report = {}
    for name, layer in layers.items():
        try:
            if only is not None and name not in only:
                raise OSError("not asked for")
            if sys.platform != "linux" and name != "limits":
                raise OSError("only Linux has it")
            layer()
            report[name] = True
        except (OSError, ValueError, ImportError) as error:
            report[name] = getattr(error, "strerror", None) or str(error)
    return report


NEEDED = ("limits", "landlock", "seccomp")


def strength(report: Report) -> Literal["full", "partial", "none"]:
    """How far a report can be trusted: full keeps the learner's code to itself."""
    needed = [report.get(layer) is True for layer in NEEDED]
    return "full" if all(needed) else "partial" if any(needed[1:]) else "none"


def caution(report: Report) -> str | None:
    """What a teacher should know before grading with less than the full sandbox."""
    if strength(report) == "full":
        return None
    why = {layer: report.get(layer, "not tried") for layer in NEEDED}
    missing = ", ".join(f"{layer}: {reason}" for layer, reason in why.items() if reason is not True)
    return (
        "Learners' code cannot forge a mark here, but it runs with your rights and may reach your "
        f"files, network and programs ({missing}): where that matters, grade on Linux 5.13 or "
        "later, in WSL 2 or in a container."
    )


def limit(limits: Limits) -> None:
    """The classic limits. Memory counts from what the process already has, which it shares."""
    import resource  # not on Windows

    ceilings = {
        resource.RLIMIT_FSIZE: limits.file,
        resource.RLIMIT_NOFILE: limits.files,
        resource.RLIMIT_CORE: 0,
    }
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        ceilings[resource.RLIMIT_AS] = pages * resource.getpagesize() + limits.memory
        Path("/proc/self/oom_score_adj").write_text("1000")
    for kind, most in ceilings.items():
        hard = resource.getrlimit(kind)[1]
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))
    resource.setrlimit(resource.RLIMIT_CPU, (limits.seconds, limits.seconds + 1))


def seclude() -> bool:
    """For the parent of many: leave network and shared memory once, so that none of its children
    has to: a network takes the kernel two milliseconds to make and to take away. Where that
    cannot be, nothing has happened."""
    trial = os.fork()  # halfway, a process would be nobody
    if trial == 0:
        try:
            _unshare(CLONE_NEWNET | CLONE_NEWIPC)
            os._exit(0)
        finally:
            os._exit(1)
    if os.waitpid(trial, 0)[1]:
        return False  # each child will try for itself, and say why not
    _unshare(CLONE_NEWNET | CLONE_NEWIPC)
    return True


def leave(limits: Limits, secluded: bool = False) -> None:
    """Into a user namespace, and from there into one without network, mounts or shared memory."""
    import resource

    _unshare(CLONE_NEWNS if secluded else CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC)
    if _kernel() >= (5, 14):  # before, the user's other processes would be counted as well
        resource.setrlimit(resource.RLIMIT_NPROC, (limits.threads, limits.threads))


def _unshare(what: int) -> None:
    user, group = os.geteuid(), os.getegid()
    libc("unshare", CLONE_NEWUSER | what)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")


def small_disk(folder: Path, limits: Limits, namespaces: bool | str) -> None:
    """Every file system read-only, and in the folder one in memory that goes with the process."""
    if namespaces is not True:
        raise OSError("it takes namespaces")
    read_only = struct.pack("=QQQQ", MOUNT_ATTR_RDONLY, 0, 0, 0)
    _call(MOUNT_SETATTR, AT_FDCWD, b"/", AT_RECURSIVE, read_only, len(read_only))
    options = f"size={limits.disk},nr_inodes=4096,mode=700".encode()
    flags = MS_NOSUID | MS_NODEV | MS_NOEXEC
    libc("mount", b"tmpfs", os.fsencode(folder), b"tmpfs", flags, options)
    os.chdir(folder)  # until now this process stood in what lies below


def landlock(folder: Path, readable: Iterable[Path], listed: Iterable[Path] = ()) -> None:
    """Open nothing but what is named here. Names beneath it that lead elsewhere stay closed."""
    version = _call(LANDLOCK_CREATE_RULESET, None, 0, VERSION)
    handled = (1 << RIGHTS[min(version, max(RIGHTS))]) - 1
    attributes = struct.pack("=QQQ", handled, NET, SCOPED)
    known = 24 if version >= 6 else 16 if version >= 4 else 8
    rules = _call(LANDLOCK_CREATE_RULESET, attributes[:known], known, 0)
    try:
        for path in (*SYSTEM, *readable):
            _allow(rules, path, READ & handled)
        for path in listed:
            _allow(rules, path, READ_DIR & handled)
        for path in DEVICES:
            _allow(rules, path, (READ_FILE | WRITE_FILE) & handled)
        _allow(rules, folder, (READ | WRITE) & handled)
        _no_new_privileges()
        _call(LANDLOCK_RESTRICT_SELF, rules, 0)
    finally:
        os.close(rules)


def _allow(rules: int, path: Path | str, rights: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:  # it is not there, or not for this user anyway
        return
    try:
        if not os.path.isdir(path):
            rights &= OF_A_FILE
        _call(LANDLOCK_ADD_RULE, rules, RULE_PATH_BENEATH, struct.pack("=Qi", rights, place), 0)
    finally:
        os.close(place)


def drop_capabilities() -> None:
    """Root's powers, those inside of a namespace included, and the ways to get them back."""
    _no_new_privileges()
    libc("prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    for capability in range(64):
        try:
            libc("prctl", PR_CAPBSET_DROP, capability, 0, 0, 0)
        except OSError:  # beyond the last one, or without the right to, and without the need
            break
    none = struct.pack("=6I", 0, 0, 0, 0, 0, 0)
    header = struct.pack("=Ii", CAPABILITY_VERSION_3, 0)
    _call(CAPSET[os.uname().machine], header, none)


def filter_calls() -> None:
    """Last of all: some of the calls that the other layers take are refused from here on."""
    code = ctypes.create_string_buffer(seccomp.program(os.getpid()))
    program = struct.pack("@HP", len(code) // 8, ctypes.addressof(code))
    _no_new_privileges()
    libc("prctl", PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0)


def die_with(parent: int) -> None:
    """Be killed when the parent ends."""
    if not parent:
        raise OSError("it has none to die with")
    libc("prctl", PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it ended a moment ago
        os.kill(os.getpid(), signal.SIGKILL)


def _no_new_privileges() -> None:
    libc("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _kernel() -> tuple[int, int]:
    major, minor = re.findall(r"\d+", os.uname().release)[:2]
    return int(major), int(minor)


def _call(number: int, *arguments: int | bytes | None) -> int:
    return libc("syscall", number, *arguments)


@functools.cache
def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def libc(name: str, *arguments: int | bytes | None) -> int:
    """Call a function of libc; OSError where it returns -1."""
    words = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    result = getattr(_library(), name)(*words)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
