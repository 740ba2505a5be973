"""Which system calls a learner's process may make: all but these, as a filter that the kernel runs.

What is refused is what reaches another process, what leaves something behind, what opens a way out.
Numbers and rules stand in tables; below them is the filter, in the kernel's classic BPF: a list of
instructions with one register, that starts from the call's number and ends in a verdict.
"""

import errno
import functools
import os
import platform
import struct

# The two architectures' numbers; "-" where there is no such call.
NUMBERS = """
    socket              41 198    io_uring_setup     425 425    io_uring_enter     426 426
    io_uring_register  427 427    fork                57   -    vfork               58   -
    clone               56 220    clone3             435 435    execve              59 221
    execveat           322 281    kill                62 129    tkill              200 130
    tgkill             234 131    rt_sigqueueinfo    129 138    rt_tgsigqueueinfo  297 240
    pidfd_open         434 434    pidfd_getfd        438 438    pidfd_send_signal  424 424
    ptrace             101 117    process_vm_readv   310 270    process_vm_writev  311 271
    process_madvise    440 440    process_mrelease   448 448    kcmp               312 272
    prlimit64          302 261    setpriority        141 140    ioprio_set         251  30
    sched_setaffinity  203 122    sched_setparam     142 118    sched_setscheduler 144 119
    sched_setattr      314 274    migrate_pages      256 238    move_pages         279 239
    prctl              157 167    shmget              29 194    msgget              68 186
    semget              64 190    mq_open            240 180    memfd_create       319 279
    memfd_secret       447 447    open                 2   -    openat             257  56
    openat2            437 437    truncate            76  45    chmod               90   -
    fchmod              91  52    fchmodat           268  53    chown               92   -
    fchown              93  55    lchown              94   -    fchownat           260  54
    setxattr           188   5    lsetxattr          189   6    fsetxattr          190   7
    removexattr        197  14    lremovexattr       198  15    fremovexattr       199  16
    utime              132   -    utimes             235   -    futimesat          261   -
    utimensat          280  88    inotify_init       253   -    inotify_init1      294  26
    fanotify_init      300 262    open_by_handle_at  304 265    mount              165  40
    umount2            166  39    pivot_root         155  41    chroot             161  51
    unshare            272  97    setns              308 268    open_tree          428 428
    move_mount         429 429    fsopen             430 430    fsconfig           431 431
    fsmount            432 432    fspick             433 433    mount_setattr      442 442
    bpf                321 280    perf_event_open    298 241    userfaultfd        323 282
    keyctl             250 219    add_key            248 217    request_key        249 218
    fcntl               72  25    ioctl               16  29
"""
NEWEST = 450  # what came later is not judged here, and so does not exist

REFUSED = """
    socket io_uring_setup io_uring_enter io_uring_register
    fork vfork execve execveat
    tkill pidfd_open pidfd_getfd pidfd_send_signal ptrace kcmp setpriority ioprio_set
    process_vm_readv process_vm_writev process_madvise process_mrelease
    shmget msgget semget mq_open memfd_create memfd_secret
    truncate chmod fchmod fchmodat chown fchown lchown fchownat utime utimes futimesat utimensat
    setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr
    inotify_init inotify_init1 fanotify_init open_by_handle_at
    mount umount2 pivot_root chroot unshare setns mount_setattr
    open_tree move_mount fsopen fsconfig fsmount fspick
    bpf perf_event_open userfaultfd keyctl add_key request_key
""".split()  # Landlock says nothing of the modes, owners and times of files that may be read

# Their arguments lie in memory, where a filter cannot look; libc then asks in the older way.
ABSENT = ("clone3", "openat2")

# Their first argument is a process, which must be this one. The judge belongs to the same user:
# with prlimit64 its seconds could be made to run out.
ABOUT_ITSELF = """
    kill tgkill rt_sigqueueinfo rt_tgsigqueueinfo prlimit64 migrate_pages move_pages
    sched_setaffinity sched_setparam sched_setscheduler sched_setattr
""".split()

MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column, AUDIT_ARCH_*

# Calls that are refused where an argument has one of these values: to outlive the parent; to have
# the kernel send signals to a file's owner, who may be anybody.
REFUSED_VALUES = {
    ("prctl", 0): (1,),  # PR_SET_PDEATHSIG
    ("fcntl", 1): (8, 10, 15),  # F_SETOWN, F_SETSIG, F_SETOWN_EX
    ("ioctl", 1): (0x8901, 0x8902),  # FIOSETOWN, SIOCSPGRP
}

CLONE_THREAD = 0x00010000
WHOLE = 0xFFFFFFFF

# <linux/bpf_common.h>: load a word, keep some of its bits, jump, return
LOAD, AND, IF_EQUAL, IF_GREATER, RETURN = 0x20, 0x54, 0x15, 0x25, 0x06
# <linux/seccomp.h>: the call's data, and the verdicts
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16
KILL, ERROR, ALLOW = 0x80000000, 0x00050000, 0x7FFF0000

Instruction = tuple[int, int, int, int]  # what, how far to jump if so, if not, operand


def program(pid: int, machine: str | None = None) -> bytes:
    """The filter for the process with this number, ready for the kernel."""
    machine = machine or platform.machine()
    before, after = for_all(machine)
    numbers = numbers_of(machine)
    itself = [_only(numbers[name], 0, WHOLE, (0, pid)) for name in ABOUT_ITSELF]
    return before + _packed(*itself) + after


@functools.cache
def for_all(machine: str) -> tuple[bytes, bytes]:
    """What stands in every process's filter before its own rules, and after them."""
    numbers, architecture = numbers_of(machine), MACHINES[machine][1]
    before: list[Instruction] = [
        (LOAD, 0, 0, ARCHITECTURE),
        (IF_EQUAL, 1, 0, architecture),
        (RETURN, 0, 0, KILL),  # 32-bit calls have other numbers
        (LOAD, 0, 0, NUMBER),
        (IF_GREATER, 0, 1, NEWEST),
        (RETURN, 0, 0, ERROR | errno.ENOSYS),
    ]
    rules = [_refuse(numbers[name], errno.ENOSYS) for name in ABSENT]
    rules += [_refuse(numbers[name], errno.EPERM) for name in REFUSED if name in numbers]
    rules.append(_only(numbers["clone"], 0, CLONE_THREAD, (CLONE_THREAD,)))
    for (name, argument), values in REFUSED_VALUES.items():
        rules += [_never(numbers[name], argument, WHOLE, value) for value in values]
    for name, flags in (("open", 1), ("openat", 2)):
        if name in numbers:  # emptying a file that is opened to be read: old Landlocks miss it
            kind = os.O_ACCMODE | os.O_TRUNC
            rules.append(_never(numbers[name], flags, kind, os.O_RDONLY | os.O_TRUNC))
    return _packed(before), _packed(*rules, [(RETURN, 0, 0, ALLOW)])


@functools.cache
def numbers_of(machine: str) -> dict[str, int]:
    """The system calls of a machine by name."""
    if machine not in MACHINES:
        raise OSError(f"no table of system calls for {machine}")
    words = NUMBERS.split()
    column = words[1 + MACHINES[machine][0] :: 3]
    return {name: int(n) for name, n in zip(words[::3], column, strict=True) if n != "-"}


def _packed(*rules: list[Instruction]) -> bytes:
    return b"".join(struct.pack("=HBBI", *each) for rule in rules for each in rule)


def _refuse(number: int, error: int) -> list[Instruction]:
    return [(IF_EQUAL, 0, 1, number), (RETURN, 0, 0, ERROR | error)]


def _only(number: int, argument: int, mask: int, values: tuple[int, ...]) -> list[Instruction]:
    """Refuse the call unless these bits of an argument have one of these values."""
    found = [(IF_EQUAL, len(values) - i, 0, value) for i, value in enumerate(values)]
    return _where(number, argument, mask, [*found, (RETURN, 0, 0, ERROR | errno.EPERM)])


def _never(number: int, argument: int, mask: int, value: int) -> list[Instruction]:
    """Refuse the call where these bits of an argument have this value."""
    found = [(IF_EQUAL, 0, 1, value), (RETURN, 0, 0, ERROR | errno.EPERM)]
    return _where(number, argument, mask, found)


def _where(number: int, argument: int, mask: int, test: list[Instruction]) -> list[Instruction]:
    """Run a test on an argument of one call; behind it the register holds the number again.

    Of an argument's 64 bits the lower 32 are looked at: the kernel takes these as int too.
    """
    body = [(LOAD, 0, 0, ARGUMENTS + 8 * argument), (AND, 0, 0, mask), *test]
    return [(IF_EQUAL, 0, len(body) + 1, number), *body, (LOAD, 0, 0, NUMBER)]
