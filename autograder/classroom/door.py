"""The door of the course's page: everything behind it knows who is asking.

    app = Door(app, accounts)         # ASGI: GET, POST /login, /password; POST /logout
    app = Door(app, people, hub=hub)  # GET /login leads to a JupyterHub, /oauth_callback back

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
from urllib.parse import parse_qs

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from autograder.classroom.accounts import (
    LONGEST,
    SHORTEST,
    Account,
    Accounts,
    Rate,
    a_while,
    fault_of_password,
)
from autograder.classroom.hub import BACK, Hub, People, Refused
from lab.page import words
from lab.page.gate import foreign, path_of

COOKIE = "attention-lab"
ON_THE_WAY = "attention-lab-hub"  # while somebody is at the Hub: PKCE's verifier, and a language
MINUTES = 10  # for the way to the Hub and back
HOURS = 12  # after which one logs in again
FORM = 8_192  # bytes of a form
GUESSES = Rate(5, 300)  # wrong passwords for one name from one address
NAME_GUESSES = Rate(50, 900)  # for one name from anywhere
ADDRESS_GUESSES = Rate(100, 300)  # from one address: a class may share one
OPEN = ("/gradio_api/startup-events",)  # gradio asks it when it starts; it says nothing
PAGE = Template((Path(__file__).parent / "login.html").read_text("utf-8"))
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; "
    "base-uri 'none'"
)

Said = tuple[str, dict[str, Any]]  # a word of [login] and its values
Fault = Said | None


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

    def find(self, token: str, accounts: Accounts | People) -> Account | None:
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

    def __init__(
        self, app: ASGIApp, accounts: Accounts | People, course: ASGIApp, title: str = "",
        hub: Hub | None = None,
    ):  # fmt: skip
        self.app, self.accounts, self.course = app, accounts, course
        self.hub, self.root = hub, hub.prefix if hub else "/"
        self.own = ("/login", BACK, "/logout") if hub else ("/login", "/password", "/logout")
        self.title = title or "Attention Lab"
        self.sessions = Sessions()
        self.hashing = anyio.CapacityLimiter(2)  # a password costs 16 MiB and a core

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return None
        request = Request(scope, receive)
        path = path_of(scope)
        if fault := foreign(request):
            return await _said(403, fault)(scope, receive, send)
        if scope["path"] + "/" == self.root:  # else "./" would lead above it
            return await _to(self.root, request)(scope, receive, send)
        if path in OPEN:
            return await self.app(scope, receive, send)
        account = self.sessions.find(request.cookies.get(COOKIE, ""), self.accounts)
        response = None
        try:
            if path in self.own:
                response = await self._answer(request, path, account)
            elif account is None or account.initial:
                response = _first(request, path, "./login" if account is None else "./password")
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
            to = _out(self.hub) if self.hub else _to("./login", request)
            return self._without(COOKIE, to)
        if self.hub:
            return await self._by_hub(self.hub, request, path)
        if path == "/password" and account is None:
            return _to("./login", request)
        if request.method == "GET":
            return self._login(request) if path == "/login" else self._password(request, account)
        form = await _form(request)
        if form is None:
            return _said(400, "that is no form of this page")
        if path == "/login":
            return await self._log_in(request, form)
        assert account is not None
        return await self._change(request, form, account)

    async def _by_hub(self, hub: Hub, request: Request, path: str) -> Response:
        """Off to the Hub with a new verifier; or back from it, with that verifier's code."""
        assert isinstance(self.accounts, People)
        if request.method not in ("GET", "HEAD"):
            return _said(405, "JupyterHub knows the passwords, not this page")
        if path == "/login":
            verifier = secrets.token_urlsafe(32)
            chosen = language_of(request) if "lang" in request.query_params else ""
            response = _to(hub.way_in(verifier))
            self._set(response, request, ON_THE_WAY, f"{verifier}.{chosen}", MINUTES * 60)
            return response
        verifier, _, chosen = request.cookies.get(ON_THE_WAY, "").partition(".")
        language = words.language(chosen) if chosen else language_of(request)
        try:
            visitor = await hub.visitor(request.query_params, verifier)
            account = self.accounts.enter(visitor)
            if account is None:
                fault: Said = "hub_stranger", {"id": visitor.name}
                response = self._sentence(403, language, fault, hub.way_out, "hub_leave")
            else:
                inside = _to(f"./?lang={language}" if chosen else "./")
                response = self._with_cookie(request, account, inside)
        except Refused as refused:
            fault = refused.word, {}
            response = self._sentence(refused.status, language, fault, "./login", "hub_login")
        return self._without(ON_THE_WAY, response)

    async def _log_in(self, request: Request, form: dict[str, str]) -> Response:
        name, password = form.get("name", "").strip()[:200], form.get("password", "")
        address = request.client.host if request.client else ""
        limits = [
            (GUESSES, f"{address} {name}"), (NAME_GUESSES, name), (ADDRESS_GUESSES, address),
        ]  # fmt: skip
        if wait := max(rate.wait(key) for rate, key in limits):
            return self._login(request, ("many", {"wait": a_while(wait)}), name, 429)
        for rate, key in limits:  # before the hash, so that many at once are counted, too
            rate.count(key)
        account = await self._check(name, password)
        if account is None:
            return self._login(request, ("wrong", {}), name, 401)
        for rate, key in limits[:2]:
            rate.forget(key)
        return self._with_cookie(request, account)

    async def _check(self, name: str, password: str) -> Account | None:
        assert isinstance(self.accounts, Accounts)
        return await anyio.to_thread.run_sync(  # type: ignore[attr-defined]
            self.accounts.check, name, password, limiter=self.hashing
        )

    async def _change(self, request: Request, form: dict[str, str], account: Account) -> Response:
        assert isinstance(self.accounts, Accounts)
        old, new = form.get("password", ""), form.get("new", "")
        key = f"password {account.id}"
        if wait := GUESSES.wait(key):
            return self._password(request, account, ("many", {"wait": a_while(wait)}), 429)
        GUESSES.count(key)
        if await self._check(account.id, old) is None:
            return self._password(request, account, ("not_present", {}), 401)
        GUESSES.forget(key)
        if new != form.get("again"):
            return self._password(request, account, ("not_same", {}), 400)
        if new == old:
            return self._password(request, account, ("old", {}), 400)
        if fault_of_password(account.id, new):
            sizes = {"shortest": SHORTEST, "longest": LONGEST}
            return self._password(request, account, ("weak", sizes), 400)
        await run_in_threadpool(self.accounts.change, account.id, new)
        return self._with_cookie(request, self.accounts.all()[account.id])

    def _with_cookie(
        self, request: Request, account: Account, response: Response | None = None
    ) -> Response:
        response = response or _to("./password" if account.initial else "./", request)
        self._set(response, request, COOKIE, self.sessions.begin(account), HOURS * 3600)
        return response

    def _set(self, response: Response, request: Request, name: str, value: str, age: int) -> None:
        """Kept from scripts, from other sites, and from whoever else is on a Hub's host."""
        proxies = request.headers.get("x-forwarded-proto", "").split(",")  # the first saw it
        response.set_cookie(
            name, value, max_age=age, path=self.root, httponly=True, samesite="lax",
            secure="https" in (request.url.scheme, proxies[0].strip()),
        )  # fmt: skip

    def _without(self, name: str, response: Response) -> Response:
        response.delete_cookie(name, path=self.root)
        return response

    def _login(
        self, request: Request, fault: Fault = None, name: str = "", status: int = 200
    ) -> Response:
        fields = [
            ("name", "name", "text", "username", name),
            ("password", "password", "password", "current-password", ""),
        ]
        return self._page(request, "login", [("about", {})], fault, fields, "log_in", status)

    def _password(
        self, request: Request, account: Account | None, fault: Fault = None, status: int = 200
    ) -> Response:
        assert account is not None
        about: list[Said] = [("choose", {"id": account.id})]
        if account.initial:
            about.append(("initial", {}))
        fields = [
            ("password", "present", "password", "current-password", ""),
            ("new", "new", "password", "new-password", ""),
            ("again", "again", "password", "new-password", ""),
        ]
        return self._page(request, "password", about, fault, fields, "change", status)

    def _page(
        self, request: Request, action: str, about: list[Said], fault: Fault,
        fields: list[tuple[str, str, str, str, str]], button: str, status: int,
    ) -> Response:  # fmt: skip
        language = language_of(request)
        form = (
            f'<form method="post" action="./{action}?lang={language}">'
            + "".join(_field(name, _word(language, word), *rest) for name, word, *rest in fields)
            + f'<button type="submit">{_word(language, button)}</button></form>'
        )
        return self._whole(status, language, about, fault, form, action)

    def _sentence(self, status: int, language: str, fault: Said, to: str, link: str) -> Response:
        """Why somebody is not in, and one thing to do about it."""
        body = f'<p><a href="{escape(to)}">{_word(language, link)}</a></p>'
        return self._whole(status, language, [], fault, body, "login")

    def _whole(
        self, status: int, language: str, about: list[Said], fault: Fault, form: str, action: str
    ) -> Response:
        other = next(each for each in words.LANGUAGES if each != language)
        text = PAGE.substitute(
            language=language, other=other, title=escape(self.title),
            about=" ".join(_word(language, *each) for each in about),
            fault=_word(language, *fault) if fault else "", form=form, action=f"./{action}",
            other_name=escape(words.spelled(language, "page.language")),
        )  # fmt: skip
        headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-store"}
        return HTMLResponse(text, status, headers | {"Referrer-Policy": "same-origin"})


def language_of(request: Request) -> str:
    """What ?lang= says, else the first language of the browser, as the page behind has it."""
    wanted = request.query_params.get("lang") or request.headers.get("accept-language", "")
    return words.language(wanted)


def account_of(request: Any) -> Account:
    """Who is asking; only behind the door."""
    return request.scope["account"]


def _word(language: str, word: str, values: dict[str, Any] | None = None) -> str:
    return escape(words.spelled(language, f"login.{word}", **(values or {})))


def _field(name: str, label: str, kind: str, complete: str, value: str) -> str:
    focus = "autofocus" if name in ("name", "password") and not value else ""
    return (
        f'<label for="{name}">{label}</label><input id="{name}" name="{name}" type="{kind}" '
        f'autocomplete="{complete}" value="{escape(value)}" maxlength="200" required {focus}>'
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
        return _to(to, request)
    return _said(401, "log in first")


def _to(place: str, request: Request | None = None) -> Response:
    """See there; a language that the address names goes along."""
    if request is not None and "lang" in request.query_params:
        place += f"?lang={language_of(request)}"
    return RedirectResponse(place, 303, {"Cache-Control": "no-store"})


def _out(hub: Hub) -> Response:
    """On to the Hub's logout: a form may not lead to another host (`form-action`), a page may."""
    if hub.way_out.startswith("/"):
        return _to(hub.way_out)
    return Response(headers={"Refresh": f"0; url={hub.way_out}", "Cache-Control": "no-store"})


def _said(status: int, sentence: str) -> Response:
    return JSONResponse({"fault": sentence}, status, {"Cache-Control": "no-store"})
