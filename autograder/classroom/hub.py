"""Coming in by way of a JupyterHub: `lab app --course --login hub`, as one of the Hub's services.

    hub = Hub.of(os.environ)                        # as JupyterHub tells a service where it is
    address = hub.way_in(verifier)                  # where a visitor logs in, and comes back from
    visitor = await hub.visitor(query, verifier)    # who that is; or Refused, which says why not
    account = People(settings).enter(visitor)       # the Account, or None: not of this course

This is OAuth's authorization code (RFC 6749, section 4.1) with PKCE (RFC 7636). The door keeps the
verifier in a cookie. The state is PKCE's challenge, the verifier's hash: so a code counts only in
the browser that went for it, here as at the Hub. What the Hub lends us to ask who somebody is, is
asked with once and not kept.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx
from sqlalchemy.exc import SQLAlchemyError

from autograder.classroom.accounts import Account
from autograder.classroom.settings import Settings, listening
from autograder.classroom.teaching import fault_of, gradebook

BACK = "/oauth_callback"  # where the Hub sends visitors back to, below the page's prefix
SECRET = "JUPYTERHUB_API_TOKEN"
NEEDED = (SECRET, "JUPYTERHUB_API_URL", "JUPYTERHUB_SERVICE_NAME", "JUPYTERHUB_SERVICE_PREFIX")
LONGEST = 512  # characters of a code; JupyterHub's have 30
PATIENCE = 10  # seconds for an answer of the Hub
FRESH = 60  # seconds for which the list of learners is not read again


class Refused(Exception):
    """Why somebody does not come in: a status, and a word of [login]."""

    def __init__(self, status: int, word: str):
        self.status, self.word = status, word


@dataclass(frozen=True)
class Visitor:
    """A user of the Hub, and the Hub's groups that this user is in."""

    name: str
    groups: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Hub:
    """A JupyterHub, as it describes itself and the page to the page."""

    secret: str = field(repr=False)
    api: str  # for us: "http://127.0.0.1:8081/hub/api"
    front: str  # for browsers: "/hub", on the page's own host or on another one
    prefix: str  # where the page is: "/services/attention-lab/"
    client: str  # the page's name in OAuth
    back: str  # the whole address that the Hub sends visitors back to
    scopes: frozenset[str]  # one of them lets a user come to this page
    transport: httpx.AsyncBaseTransport | None = None

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Hub:
        """From the variables that JupyterHub gives to the services it starts."""
        found = {name: value for name, value in environment.items() if value}
        if missing := [name for name in NEEDED if name not in found]:
            raise ValueError(
                f"--login hub is for a page that JupyterHub runs as its service: {missing[0]} is "
                "not set (docs/teaching.md, “As a service of a JupyterHub”)"
            )
        name, prefix = found["JUPYTERHUB_SERVICE_NAME"], found["JUPYTERHUB_SERVICE_PREFIX"]
        back = found.get("JUPYTERHUB_OAUTH_CALLBACK_URL", prefix.rstrip("/") + BACK)
        if not prefix.startswith("/") or not urlsplit(back).path.endswith(BACK):
            raise ValueError(
                f"JUPYTERHUB_SERVICE_PREFIX is {prefix!r} and JUPYTERHUB_OAUTH_CALLBACK_URL "
                f"{back!r}: the one begins with '/', the other ends in {BACK!r}"
            )
        scopes = found.get("JUPYTERHUB_OAUTH_ACCESS_SCOPES")
        base = found.get("JUPYTERHUB_BASE_URL", "/").rstrip("/")
        return cls(
            secret=found[SECRET],
            api=found["JUPYTERHUB_API_URL"].rstrip("/"),
            front=found.get("JUPYTERHUB_HOST", "").rstrip("/") + base + "/hub",
            prefix=prefix.rstrip("/") + "/",
            client=found.get("JUPYTERHUB_CLIENT_ID", f"service-{name}"),
            back=back,
            scopes=frozenset(
                json.loads(scopes)
                if scopes
                else ("access:services", f"access:services!service={name}")
            ),
        )

    def way_in(self, verifier: str) -> str:
        """Where a browser that keeps this verifier logs in."""
        challenge = digest(verifier)
        asked = {
            "response_type": "code", "client_id": self.client, "redirect_uri": self.back,
            "state": challenge, "code_challenge": challenge, "code_challenge_method": "S256",
        }  # fmt: skip
        return f"{self.front}/api/oauth2/authorize?{urlencode(asked)}"

    @property
    def way_out(self) -> str:
        """Where a browser logs out of the Hub."""
        return f"{self.front}/logout"

    async def visitor(self, query: Mapping[str, str], verifier: str) -> Visitor:
        """Who came back with this query to the browser that keeps this verifier; or Refused."""
        state, code = query.get("state", ""), query.get("code", "")
        if not verifier or not hmac.compare_digest(_bytes(state), digest(verifier).encode()):
            raise Refused(400, "hub_again")
        if "error" in query:
            raise Refused(403, "hub_refused")
        if not 0 < len(code) <= LONGEST:
            raise Refused(400, "hub_again")
        try:
            # Past every proxy that the environment names: the secret is for the Hub alone.
            async with httpx.AsyncClient(
                timeout=PATIENCE, trust_env=False, transport=self.transport
            ) as client:
                return self._allowed(await self._asked(client, code, verifier))
        except (httpx.HTTPError, ValueError, LookupError, TypeError, AttributeError):
            raise Refused(502, "hub_away") from None

    async def _asked(self, client: httpx.AsyncClient, code: str, verifier: str) -> Any:
        """What the Hub says of the user whose code this is."""
        form = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": self.back,
            "client_id": self.client, "client_secret": self.secret, "code_verifier": verifier,
        }  # fmt: skip
        answer = await client.post(f"{self.api}/oauth2/token", data=form)
        if answer.status_code == 400:  # used before, too old, or of another browser
            raise Refused(400, "hub_again")
        token = answer.raise_for_status().json()["access_token"]
        answer = await client.get(f"{self.api}/user", headers={"Authorization": f"token {token}"})
        if answer.status_code in (401, 403):  # the token was taken back, or is over
            raise Refused(400, "hub_again")
        return answer.raise_for_status().json()

    def _allowed(self, user: Any) -> Visitor:
        if user["kind"] != "user" or not self.scopes & {*user["scopes"]}:
            raise Refused(403, "hub_refused")
        name, groups = user["name"], frozenset(user.get("groups") or ())
        if not isinstance(name, str):
            raise TypeError("a user's name is a text")
        return Visitor(name, groups)


def digest(verifier: str) -> str:
    """PKCE's S256: SHA-256 in base64 for addresses, without its padding."""
    raw = hashlib.sha256(_bytes(verifier)).digest()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


class People:
    """Who may come in, asked as `Accounts` are: everybody in the gradebook is a learner; a teacher
    is who is not, and came with the group that nbgrader has for a course's teachers."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic):
        self.settings, self.clock = settings, clock
        self.group = f"formgrade-{settings.course_id}"
        self._teachers: dict[str, Account] = {}
        self._learners = self._read()

    def all(self) -> dict[str, Account]:
        if self.clock() - self._when > FRESH:
            self._refresh()
        return self._teachers | self._learners

    def enter(self, visitor: Visitor) -> Account | None:
        """The visitor's account by the gradebook and the groups as they are now."""
        self._refresh()
        name = visitor.name
        self._teachers.pop(name, None)
        if name not in self._learners and self.group in visitor.groups and not fault_of(name):
            self._teachers[name] = _account(name, teacher=True)
        return self.all().get(name)

    def _refresh(self) -> None:
        """A gradebook that cannot be read just now leaves the list as it was."""
        with suppress(ValueError, OSError, SQLAlchemyError):
            self._learners = self._read()

    def _read(self) -> dict[str, Account]:
        self._when = self.clock()
        with listening(), gradebook(self.settings) as book:
            return {student.id: _account(student.id) for student in book.students}


def _account(name: str, teacher: bool = False) -> Account:
    """One without a password: nobody's fits an empty hash."""
    return Account(name, "", "", teacher=teacher, initial=False)
