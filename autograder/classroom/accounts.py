"""Who may come in to the course's page: `lab course accounts` makes them, the login asks them.

    accounts = Accounts.of(settings)
    passwords = accounts.make(["ada"])        # {"ada": "kv3t-9qpm-x7wd"}, here and nowhere else
    accounts.check("ada", "kv3t-9qpm-x7wd")   # the Account, or None

What is kept of a password is scrypt's hash with its salt and its sizes (RFC 7914), in a file that
only its owner reads. A password that was given out is good for one thing: to choose an own one.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import hmac
import io
import json
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from autograder.classroom.formats.tables import harmless
from autograder.classroom.results import full_name
from autograder.classroom.settings import Settings, listening
from autograder.classroom.teaching import Learner, fault_of, gradebook
from lab.files import replacing

try:
    import fcntl
except ImportError:  # Windows, where nbgrader has no exchange either
    fcntl = None

SIZES = (
    2**14,
    8,
    5,
)  # scrypt's n, r, p, as OWASP has them: 16 MiB, a quarter of a second
LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # none that looks like another one
SHORTEST, LONGEST = 10, 200  # characters of a password that somebody chooses


@dataclass(frozen=True)
class Account:
    """Somebody who may come in, and what is kept of the password."""

    id: str
    salt: str
    hash: str
    sizes: tuple[int, int, int] = SIZES
    teacher: bool = False
    initial: bool = True  # the password was given out, and has to be changed

    @classmethod
    def of(cls, id: str, password: str, teacher: bool = False, initial: bool = True) -> Account:
        salt = secrets.token_bytes(16)
        return cls(id, _text(salt), _text(_hash(password, salt, SIZES)), SIZES, teacher, initial)

    def fits(self, password: str) -> bool:
        found = _hash(password, base64.b64decode(self.salt), self.sizes)
        return hmac.compare_digest(found, base64.b64decode(self.hash))


class Accounts:
    """The accounts of a course, in a file that may change while somebody reads it."""

    def __init__(self, path: Path):
        self.path = path
        self._stranger = Account.of("", secrets.token_hex())
        self._lock = threading.Lock()
        self._read: tuple[tuple[int, int], dict[str, Account]] | None = None

    @classmethod
    def of(cls, settings: Settings) -> Accounts:
        return cls(settings.root / "accounts.json")

    def all(self) -> dict[str, Account]:
        """Every account by its id; none where there is no file yet."""
        with self._lock:
            try:
                found = self.path.stat()
            except FileNotFoundError:
                return {}
            state = (found.st_mtime_ns, found.st_ino)
            if self._read is None or self._read[0] != state:
                self._read = state, self._load()
            return self._read[1]

    def check(self, id: str, password: str) -> Account | None:
        """The account, where the password fits; who is unknown takes as long as everybody else."""
        known = self.all().get(id)
        fits = (known or self._stranger).fits(password[: LONGEST + 1])
        return known if fits else None

    def make(
        self, ids: Iterable[str], teacher: bool = False, again: bool = False
    ) -> dict[str, str]:
        """New accounts and their first passwords. Who has one keeps it, unless `again`."""
        ids = list(dict.fromkeys(ids))
        if faults := [fault for id in ids if (fault := fault_of(id))]:
            raise ValueError("; ".join(faults))
        with self._changing() as known:
            passwords = {id: new_password() for id in ids if again or id not in known}
            for id, password in passwords.items():
                stays = known[id].teacher if id in known else teacher
                known[id] = Account.of(id, password, stays)
        return passwords

    def change(self, id: str, password: str) -> None:
        """Somebody's own password."""
        if fault := fault_of_password(id, password):
            raise ValueError(fault)
        with self._changing() as known:
            known[id] = Account.of(id, password, known[id].teacher, initial=False)

    def remove(self, ids: Iterable[str]) -> None:
        with self._changing() as known:
            for id in ids:
                if known.pop(id, None) is None:
                    raise ValueError(f"{id} has no account")

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Account]]:
        """The accounts, to be changed: written whole or not at all, one writer at a time."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_suffix(".lock").open("w") as lock:
            if fcntl is not None:
                fcntl.flock(lock, fcntl.LOCK_EX)
            before = self.all()
            known = dict(before)
            yield known
            if known == before:
                return
            text = json.dumps([asdict(each) for each in known.values()], ensure_ascii=False)
            with replacing(self.path, mode=0o600) as new:
                new.write_text(text, encoding="utf-8")

    def _load(self) -> dict[str, Account]:
        try:
            found = json.loads(self.path.read_text("utf-8"))
            each = (Account(**entry | {"sizes": tuple(entry["sizes"])}) for entry in found)
            return {account.id: account for account in each}
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError(f"{self.path} holds no accounts: {error}") from None


def enter(
    settings: Settings, teachers: Sequence[str], reset: Sequence[str], remove: Sequence[str]
) -> Iterator[str]:
    """Accounts for teachers and for who is in the gradebook, as lines of a CSV: id, name, role and
    the first password, which is kept nowhere."""
    accounts = Accounts.of(settings)
    with listening(), gradebook(settings) as book:
        people = [Learner(s.id, s.first_name or "", s.last_name or "") for s in book.students]
    names = {each.id: full_name(each) for each in people}
    if unknown := sorted(set(reset) - set(accounts.all())):
        raise ValueError(f"{', '.join(unknown)}: there is no such account")
    accounts.remove(remove)
    if learners := [id for id in teachers if id in names]:
        raise ValueError(f"{', '.join(learners)}: in the gradebook, so no teacher: take another id")
    passwords = accounts.make(teachers, teacher=True)
    if not (reset or remove):
        passwords |= accounts.make(names)
    passwords |= accounts.make(reset, again=True)
    if not passwords:
        return
    known = accounts.all()
    table = [["id", "name", "role", "password"]]
    for id, password in passwords.items():
        role = "teacher" if known[id].teacher else "learner"
        table.append([harmless(id), harmless(names.get(id, "")), role, password])
    for row in table:
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow(row)
        yield line.getvalue()


def new_password() -> str:
    """Sixty bits in three groups that can be typed from paper."""
    return "-".join("".join(secrets.choice(LETTERS) for _ in range(4)) for _ in range(3))


def fault_of_password(id: str, password: str) -> str:
    """Why nobody should choose this password, or ""."""
    if len(password) < SHORTEST:
        return f"it has {len(password)} characters: take {SHORTEST} or more"
    if len(password) > LONGEST:
        return f"it has {len(password)} characters: {LONGEST} are enough"
    if id.casefold() in password.casefold() or len(set(password)) < 4:
        return "it is easy to guess: take one without your name, and not of one letter"
    return ""


def _hash(password: str, salt: bytes, sizes: tuple[int, int, int]) -> bytes:
    n, r, p = sizes
    secret = password.encode("utf-8", "surrogatepass")
    return hashlib.scrypt(secret, salt=salt, n=n, r=r, p=p, maxmem=256 * n * r, dklen=32)


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


class Rate:
    """So many times in so many seconds, each key by itself."""

    def __init__(self, times: int, seconds: float, clock: Callable[[], float] = time.monotonic):
        self.times, self.seconds, self.clock = times, seconds, clock
        self._lock = threading.Lock()
        self._when: dict[str, deque[float]] = {}

    def wait(self, key: str) -> float:
        """Seconds until there is another time; 0 where there is one now."""
        with self._lock:
            when = self._recent(key)
            return when[0] + self.seconds - self.clock() if len(when) >= self.times else 0.0

    def count(self, key: str) -> None:
        with self._lock:
            if len(self._when) > 10_000:  # names that somebody makes up
                self._when = {each: kept for each in [*self._when] if (kept := self._recent(each))}
            self._recent(key)
            self._when.setdefault(key, deque()).append(self.clock())

    def forget(self, key: str) -> None:
        with self._lock:
            self._when.pop(key, None)

    def _recent(self, key: str) -> deque[float]:
        when = self._when.get(key, deque())
        while when and when[0] <= self.clock() - self.seconds:
            when.popleft()
        return when


def a_while(seconds: float) -> str:
    """How long to wait, in words: "40 s", "5 min"."""
    return f"{max(1, round(seconds))} s" if seconds < 90 else f"{-int(-seconds // 60)} min"
