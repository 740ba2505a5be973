"""`lab app --work FOLDER`: what the tabs Your code and Progress share, and when it may be shown.

With `--public` the page expects visitors: a learner's code runs in a full sandbox or not at all,
and what they check is not counted among the owner's attempts.
"""

from __future__ import annotations

import ipaddress
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from autograder.chinese import spoken
from autograder.oracle.grader import Strict
from autograder.oracle.sandbox import Report, caution, strength
from autograder.oracle.zygote import Zygote
from autograder.page.checking import Checks
from autograder.page.work import Work
from lab.course import PARTS

WORKER = "autograder.page.worker"


@dataclass(frozen=True)
class Live:
    """A folder of work, its checks, and the processes that its code runs in."""

    work: Work
    checks: Checks
    zygote: Zygote
    public: bool = False

    @classmethod
    def of(cls, folder: Path, public: bool = False) -> Live:
        work = Work(folder)
        zygote = (Strict if public else Zygote)(worker=WORKER)
        return cls(work, Checks(work, records=not public, strict=public), zygote, public)

    @property
    def pause(self) -> float:
        """Seconds between two looks of a browser at what was saved."""
        return 5.0 if self.public else 1.0

    def news(self, part: str = "") -> dict[str, Any]:
        """What a browser asks again and again: has a notebook been saved, is a check done? With a
        part, also what the checks say of it; they are run if they have not been."""
        found = {"version": self.work.look(), "saved": self.work.saved}
        if part in PARTS:
            found["result"] = self.checks.look_up(part)
        return found | self.checks.status()

    def sandbox(self) -> Report:
        """How well the learner's code is kept apart on this machine."""
        with Zygote.spawn(self.zygote) as child:  # however weak it is
            return child.sandbox

    def close(self) -> None:
        self.checks.close()
        self.zygote.close()


class News:
    """An ASGI layer that answers /learner/news and /learner/news?part=softmax&lang=zh-CN.

    Beside Gradio's queue: a look at eleven files, many times a minute.
    """

    def __init__(self, app: ASGIApp, live: Live):
        self.app, self.live = app, live

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        from lab.page.gate import foreign, path_of

        if scope["type"] != "http" or path_of(scope) != "/learner/news":
            return await self.app(scope, receive, send)
        request = Request(scope)
        if foreign(request) or request.method != "GET":
            return await JSONResponse({}, 403)(scope, receive, send)
        asked = request.query_params
        news = await run_in_threadpool(self.live.news, asked.get("part", ""))
        news = spoken(news, asked.get("lang"))
        await JSONResponse(news, headers={"Cache-Control": "no-store"})(scope, receive, send)


def serve(
    host: str, port: int, device: str, checkpoint: Path | None, work: Path | None, public: bool
) -> None:
    """The page with both tabs, until it is stopped."""
    live = None if work is None else Live.of(work, public)
    print("Attention Lab is starting …", file=sys.stderr, flush=True)
    try:
        for line in _refused_or_said(live, host, port, public):
            print(line, file=sys.stderr, flush=True)
        from lab.page import launch, resource
        from autograder.page import progress, your_code  # isort: skip

        css = "".join(resource(f"{name}.css", your_code.HERE) for name in ("your_code", "progress"))
        tabs = [your_code.tab(live), progress.tab(live)]
        layers = [Middleware(News, live=live)] if live else []  # type: ignore[arg-type]
        launch(host, port, device, checkpoint, tabs=tabs, css=css, middleware=layers)
    finally:
        if live is not None:
            live.close()


def _refused_or_said(live: Live | None, host: str, port: int, public: bool) -> list[str]:
    """What whoever starts the page should know. ValueError where others could reach what they
    must not."""
    said = []
    if live is not None and not public and not _is_here(host):
        raise ValueError(
            f"--host {host} lets others reach the page, and --work runs code: add --public, which "
            "takes a full sandbox for it, or leave out one of the two"
        )
    if live is not None:
        report = live.sandbox() if public or sys.platform != "linux" else {}
        if public and strength(report) != "full":
            raise ValueError(
                "--public shows nobody's code without a full sandbox, and this machine does not "
                f"give one: leave out --work. {caution(report)}"
            )
        if report and (weak := caution(report)):
            said.append(weak)
    if public and not _is_here(host):
        said.append(
            f"--public: everybody who can reach this machine on port {port} can open the page, "
            "translate, and see all it shows; nothing they type is kept. It has no login "
            "(--course has one) and no encryption: see docs/deploy.md."
        )
        if live is not None:
            said.append(
                f"--work {live.work.folder}: they see these parts, their mistakes and your "
                "progress, and can run the checks; the code itself stays in its sandbox."
            )
    return said


def _is_here(host: str) -> bool:
    """Whether only this machine's own users reach that address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
