"""The door of the course's page: everything behind it knows who is asking.

    app = Door(app, accounts)   # ASGI: GET, POST /login, /password; POST /logout

Who has no session gets the login, and nothing else. Behind the door `account_of(request)` is the
Account; Gradio's `auth_dependency` gets its id. Gradio's own login has no limit on guesses, and its
cookie serves other sites too: its CORS lets every origin read what a cookie opens, unless the
server is on localhost (gradio 6.31, `CustomCORSMiddleware`). Here the cookie stays on this site,
and what comes from another origin is refused.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections.abc import Callable
from html import escape
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from autograder.classroom.accounts import Account, Accounts, Rate, a_while, fault_of_password

COOKIE = "attention-lab"
HOURS = 12  # after which one logs in again
FORM = 8_192  # bytes of a form
GUESSES = Rate(5, 300)  # wrong passwords for one name from one address
NAME_GUESSES = Rate(50, 900)  # for one name from anywhere
ADDRESS_GUESSES = Rate(100, 300)  # from one address: a class may share one
WRONG = "This name and this password do not fit together."
OPEN = ("/gradio_api/startup-events",)  # gradio asks it when it starts; it says nothing
SHUT = ("/gradio_api/upload", "/gradio_api/file", "/gradio_api/stream")  # nothing here needs them
PAGE = Template((Path(__file__).parent / "login.html").read_text("utf-8"))
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; "
    "base-uri 'none'"
)


class Sessions:
    """Who has logged in, until the server stops. Of a token only its hash is kept."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self.clock = clock
        self._lock = threading.Lock()
        self._all: dict[str, tuple[Account, float]] = {}

    def begin(self, account: Account) -> str:
        token = secrets.token_urlsafe(32)
        with self._lock:
            now = self.clock()
            self._all = {key: each for key, each in self._all.items() if each[1] > now}
            self._all[_key(token)] = account, now + HOURS * 3600
        return token

    def find(self, token: str, accounts: Accounts) -> Account | None:
        """Whose it is, as long as the account is as it was: a new password ends old sessions."""
        with self._lock:
            account, until = self._all.get(_key(token), (None, 0.0))
        if account is None or until <= self.clock():
            return None
        return account if accounts.all().get(account.id) == account else None

    def end(self, token: str) -> None:
        with self._lock:
            self._all.pop(_key(token), None)


def _key(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


class Door:
    """Lets an application's requests through once it is known whose they are."""

    def __init__(self, app: ASGIApp, accounts: Accounts, course: ASGIApp, title: str = ""):
        self.app, self.accounts, self.course = app, accounts, course
        self.title = title or "Attention Lab"
        self.sessions = Sessions()
        self.hashing = anyio.CapacityLimiter(2)  # a password costs 16 MiB and a core

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return None
        request = Request(scope, receive)
        path = _path(scope)
        if fault := foreign(request):
            return await _said(403, fault)(scope, receive, send)
        if path in OPEN:
            return await self.app(scope, receive, send)
        account = self.sessions.find(request.cookies.get(COOKIE, ""), self.accounts)
        response = None
        try:
            if path in ("/login", "/password", "/logout"):
                response = await self._answer(request, path, account)
            elif account is None or account.initial:
                response = _first(request, path, "./login" if account is None else "./password")
            elif path.startswith(SHUT):
                response = _said(403, "this page takes and gives files at its own address only")
        except ClientDisconnect:
            return None
        if response is not None:
            return await response(scope, receive, send)
        scope["account"] = account
        inner = self.course if path.startswith("/course/") else self.app
        return await inner(scope, receive, send)

    async def _answer(self, request: Request, path: str, account: Account | None) -> Response:
        if path == "/logout":
            if request.method != "POST":
                return _to("./")
            self.sessions.end(request.cookies.get(COOKIE, ""))
            return _without_cookie(_to("./login"))
        if path == "/password" and account is None:
            return _to("./login")
        if request.method == "GET":
            return self._login() if path == "/login" else self._password(account)
        form = await _form(request)
        if form is None:
            return _said(400, "that is no form of this page")
        if path == "/login":
            return await self._log_in(request, form)
        assert account is not None
        return await self._change(request, form, account)

    async def _log_in(self, request: Request, form: dict[str, str]) -> Response:
        name, password = form.get("name", "").strip()[:200], form.get("password", "")
        address = request.client.host if request.client else ""
        limits = [
            (GUESSES, f"{address} {name}"), (NAME_GUESSES, name), (ADDRESS_GUESSES, address),
        ]  # fmt: skip
        if wait := max(rate.wait(key) for rate, key in limits):
            return self._login(f"Too many wrong passwords: wait {a_while(wait)}.", name, 429)
        for rate, key in limits:  # before the hash, so that many at once are counted, too
            rate.count(key)
        account = await self._check(name, password)
        if account is None:
            return self._login(WRONG, name, 401)
        for rate, key in limits[:2]:
            rate.forget(key)
        return self._with_cookie(request, account)

    async def _check(self, name: str, password: str) -> Account | None:
        return await anyio.to_thread.run_sync(  # type: ignore[attr-defined]
            self.accounts.check, name, password, limiter=self.hashing
        )

    async def _change(self, request: Request, form: dict[str, str], account: Account) -> Response:
        old, new = form.get("password", ""), form.get("new", "")
        key = f"password {account.id}"
        if wait := GUESSES.wait(key):
            return self._password(account, f"Too many wrong passwords: wait {a_while(wait)}.", 429)
        GUESSES.count(key)
        if await self._check(account.id, old) is None:
            return self._password(account, "The present password is another one.", 401)
        GUESSES.forget(key)
        if new != form.get("again"):
            return self._password(account, "The two new passwords are not the same.", 400)
        fault = fault_of_password(account.id, new) or ("it is the old one" if new == old else "")
        if fault:
            return self._password(account, f"Choose another new password: {fault}.", 400)
        await run_in_threadpool(self.accounts.change, account.id, new)
        return self._with_cookie(request, self.accounts.all()[account.id])

    def _with_cookie(self, request: Request, account: Account) -> Response:
        response = _to("./password" if account.initial else "./")
        response.set_cookie(
            COOKIE, self.sessions.begin(account), max_age=HOURS * 3600, httponly=True,
            samesite="lax", secure=request.url.scheme == "https",
        )  # fmt: skip
        return response

    def _login(self, fault: str = "", name: str = "", status: int = 200) -> Response:
        fields = _field("name", "Name", "text", "username", name) + _field(
            "password", "Password", "password", "current-password"
        )
        about = "Log in with the name and the password that your teacher gave you."
        return self._page("login", about, fault, fields, "Log in", status)

    def _password(self, account: Account | None, fault: str = "", status: int = 200) -> Response:
        assert account is not None
        about = f"{account.id}: choose a password of your own, of ten characters or more."
        if account.initial:
            about += " The one you were given is good for this only."
        fields = (
            _field("password", "Present password", "password", "current-password")
            + _field("new", "New password", "password", "new-password")
            + _field("again", "New password again", "password", "new-password")
        )
        return self._page("password", about, fault, fields, "Change it", status)

    def _page(
        self, action: str, about: str, fault: str, fields: str, button: str, status: int
    ) -> Response:
        text = PAGE.substitute(
            title=escape(self.title), about=escape(about), fault=escape(fault), fields=fields,
            action=f"./{action}", button=button,
        )  # fmt: skip
        headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-store"}
        return HTMLResponse(text, status, headers | {"Referrer-Policy": "same-origin"})


def account_of(request: Any) -> Account:
    """Who is asking; only behind the door."""
    return request.scope["account"]


def foreign(request: Request) -> str:
    """Why a request is not from a page of this site, or "". A program that is no browser says
    nothing of where it comes from, and has no cookie that it does not know."""
    origin, host = request.headers.get("origin"), request.headers.get("host", "")
    if origin and urlsplit(origin).netloc.lower() != host.lower():
        return (
            f"this came from a page at {origin}, and this is {host}. Where a proxy stands between "
            "them, it has to pass the Host on"
        )
    if request.method not in ("GET", "HEAD") and request.headers.get("sec-fetch-site") in (
        "cross-site",
        "same-site",
    ):
        return "this came from a page of another site"
    return ""


def _path(scope: Scope) -> str:
    """The path below the root; with one slash where somebody sends two."""
    root, path = scope.get("root_path", ""), scope["path"]
    if root and (path == root or path.startswith(root + "/")):
        path = path[len(root) :]
    return "/" + path.strip("/") if path.strip("/") else "/"


def _field(name: str, label: str, kind: str, complete: str, value: str = "") -> str:
    focus = "autofocus" if name in ("name", "password") and not value else ""
    return (
        f'<label for="{name}">{escape(label)}</label><input id="{name}" name="{name}" '
        f'type="{kind}" autocomplete="{complete}" value="{escape(value)}" maxlength="200" '
        f"required {focus}>"
    )


async def _form(request: Request) -> dict[str, str] | None:
    raw = b""
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > FORM:
            return None
    try:
        found = parse_qs(raw.decode(), keep_blank_values=True, max_num_fields=10)
    except ValueError:
        return None
    return {name: values[-1] for name, values in found.items()}


def _first(request: Request, path: str, to: str) -> Response:
    """What has to be done before anything else: a page goes there, a program is told."""
    if path == "/" and request.method in ("GET", "HEAD"):
        return _to(to)
    return _said(401, "log in first")


def _to(place: str) -> Response:
    return RedirectResponse(place, 303, {"Cache-Control": "no-store"})


def _without_cookie(response: Response) -> Response:
    response.delete_cookie(COOKIE)
    return response


def _said(status: int, sentence: str) -> Response:
    return JSONResponse({"fault": sentence}, status, {"Cache-Control": "no-store"})
