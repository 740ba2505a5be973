"""The course on the page: `lab app --course` puts a login before it, and two tabs into it.

    course = Course(settings)
    course.start()
    launch(tabs=[course.hand_in, course.the_class], **course.behind_a_door())

The tabs are drawings; what they show comes from addresses below /course/, each of which knows who
asks (see `door`). So a file goes straight to its place and never into Gradio's folder of uploads,
which all who are logged in can read, and nobody's work is in what Gradio keeps.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from autograder import chinese
from autograder.classroom import formats, views
from autograder.classroom.accounts import Accounts
from autograder.classroom.door import Door, account_of
from autograder.classroom.handing_in import NotHandedIn
from autograder.classroom.hub import SECRET, Hub, People
from autograder.classroom.inbox import READING, Inbox, Limits
from autograder.classroom.queue import Queue
from autograder.classroom.report import Report, sources_of
from autograder.classroom.settings import Settings
from autograder.oracle.sandbox import Report as Sandbox
from autograder.oracle.sandbox import caution

from lab.page import resource  # first: it imports Gradio as the page needs it  # isort: skip
import gradio as gr  # isort: skip

from lab.page.view import drawing
from lab.page.words import label, say

SECONDS = 600  # for a file on its way
PRIVATE = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
NO_PASSWORD = ".course a[href=password] { display: none; }"  # to change: it is the Hub's
_HERE = Path(__file__).parent

Answer = Callable[[Request], Awaitable[Response]]


class Course:
    """A course's hand-ins, queue and accounts, and the page's way to them."""

    def __init__(
        self, settings: Settings, limits: Limits | None = None, require_sandbox: bool = False,
        hub: Hub | None = None,
    ):  # fmt: skip
        self.settings, self.hub = settings, hub
        self.accounts = People(settings) if hub else Accounts.of(settings)
        if not hub and not self.accounts.all():
            raise ValueError("there are no accounts yet: run `lab course accounts` first")
        self.inbox = Inbox(settings, limits)
        self.queue = Queue(self.inbox, require_sandbox)
        self._reports: dict[bool, tuple[int, str]] = {}
        self._reporting = threading.Lock()

    def start(self) -> Sandbox:
        """Begin to grade; how well learners' code is kept apart."""
        return self.queue.start()

    def stop(self) -> None:
        self.queue.stop()

    def behind_a_door(self) -> dict[str, Any]:
        """What Gradio's `launch` is told, so that nobody comes in without an account."""
        door = Middleware(
            Door,  # type: ignore[arg-type]
            accounts=self.accounts,
            course=self.routes(),
            title=f"Attention Lab: {self.settings.course_id}",
            hub=self.hub,
        )
        below = {"root_path": self.hub.prefix.rstrip("/")} if self.hub else {}
        return below | {
            "css": resource("course.css", _HERE) + (NO_PASSWORD if self.hub else ""),
            "middleware": [door],
            "auth_dependency": lambda request: (
                account_of(request).id if "account" in request.scope else None
            ),
        }

    def routes(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/course/mine", self._mine),
                Route("/course/changes", self._changes),
                Route("/course/hand-in", self._hand_in, methods=["POST"]),
                Route("/course/notebook", self._notebook),
                Route("/course/class", teachers_only(self._class)),
                Route("/course/report", teachers_only(self._report)),
                Route("/course/export", teachers_only(self._export)),
            ]
        )

    # For learners

    async def _mine(self, request: Request) -> Response:
        found = await run_in_threadpool(
            views.of_learner, self.inbox, self.queue, account_of(request)
        )
        return _told(request, found)

    async def _changes(self, request: Request) -> Response:
        found = views.places(self.inbox, self.queue, account_of(request))
        return JSONResponse(found, headers=PRIVATE)

    async def _hand_in(self, request: Request) -> Response:
        """The body is the file; ?name= and ?saved= (ms since 1970) say what the browser knows."""
        student, name = account_of(request).id, request.query_params.get("name", "")
        try:
            length = int(request.headers.get("content-length", 0))
            with self.inbox.upload(student) as upload, anyio.fail_after(SECONDS):
                upload.expect(length)
                async for chunk in request.stream():
                    upload.write(chunk)
                saved = _saved(request.query_params.get("saved", ""))
                kept = await run_in_threadpool(self.inbox.keep, student, upload, name, saved)
        except (NotHandedIn, ValueError) as error:
            return _fault(request, 400, str(error))
        except (ClientDisconnect, TimeoutError):
            return _fault(request, 408, say("hand_in.cut"))
        except OSError:
            return _fault(request, 507, say("hand_in.full"))
        if kept.result is None:
            self.queue.add(kept)
        return _told(request, {"receipt": kept.receipt.text(), "id": kept.id})

    async def _notebook(self, request: Request) -> Response:
        """A file as it was handed in, to whoever did."""
        wanted = request.query_params.get("id", "")
        for each in self.inbox.of(account_of(request).id):
            if each.id == wanted:
                headers = PRIVATE | {"Content-Security-Policy": "sandbox"}
                return FileResponse(
                    each.notebook, 200, headers, "application/x-ipynb+json", None,
                    each.notebook.name,
                )  # fmt: skip
        return _fault(request, 404, "there is no such hand-in of yours")

    # For teachers

    async def _class(self, request: Request) -> Response:
        found = await run_in_threadpool(views.of_class, self.inbox, self.queue)
        return _told(request, found)

    async def _report(self, request: Request) -> Response:
        similar = request.query_params.get("similar") == "yes"
        text = await run_in_threadpool(self._report_text, similar)
        if _language(request) == "zh-CN":
            text = await run_in_threadpool(chinese.page, text)
        policy = "sandbox; default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'"
        return HTMLResponse(text, headers=PRIVATE | {"Content-Security-Policy": policy})

    def _report_text(self, similar: bool) -> str:
        """A page without a script; made again when something has happened."""
        with self._reporting:
            changes, text = self._reports.get(similar, (-1, ""))
            if changes != self.queue.changes:
                changes, entries = self.queue.changes, views.entries(self.inbox)
                title = f"{self.settings.course_id}: what was handed in on the page"
                with READING:
                    report = Report.of(entries, sources_of(entries) if similar else None)
                    text = report.html(title)
                self._reports[similar] = changes, text
            return text

    async def _export(self, request: Request) -> Response:
        format, unit = (request.query_params.get(name, "") for name in ("format", "unit"))
        if format not in views.DOWNLOADS:
            return _fault(request, 400, f"choose a format: {', '.join(views.DOWNLOADS)}")
        try:
            raw = await run_in_threadpool(self._exported, format, unit)
        except ValueError as error:
            return _fault(request, 400, str(error))
        name = views.DOWNLOADS[format]
        headers = PRIVATE | {"Content-Disposition": f'attachment; filename="{name}"'}
        return Response(raw, headers=headers, media_type="application/octet-stream")

    def _exported(self, format: str, unit: str) -> bytes:
        found = [each for each in views.entries(self.inbox) if unit in ("", each.unit)]
        if not found:
            raise ValueError(f"nobody has handed in {unit or 'anything'} yet")
        if format == views.RESULTS:
            return json.dumps(views.results(found), ensure_ascii=False, indent=1).encode()
        with tempfile.TemporaryDirectory() as folder:
            to = Path(folder) / views.DOWNLOADS[format]
            list(formats.export(format, found, to))
            return to.read_bytes()

    # The tabs

    def hand_in(self, page: gr.Blocks, _: object) -> None:
        """Upload, receipts, the queue, feedback."""
        with gr.Tab(label("hand_in.tab"), elem_id="hand-in-tab"):
            drawing("hand_in", {}, _HERE)

    def the_class(self, page: gr.Blocks, _: object) -> None:
        """Shown to teachers. Hiding it keeps nothing: what it shows does not come to others."""
        with gr.Tab(label("the_class.tab"), visible=False, elem_id="class-tab") as tab:
            drawing("the_class", {}, _HERE)
        page.load(self._shown_to, None, tab, queue=False, api_visibility="private")

    def _shown_to(self, request: gr.Request) -> Any:
        return gr.update(visible=account_of(request.request).teacher)


def serve(
    host: str, port: int, device: str, checkpoint: Path | None, require_sandbox: bool,
    by_hub: bool = False,
) -> None:  # fmt: skip
    """`lab app --course`: the page with the course in it, until it is stopped."""
    from autograder.classroom import settings
    from lab.page import launch

    hub = Hub.of(os.environ) if by_hub else None
    os.environ.pop(SECRET, None)  # the processes that grade have no use for it
    course = Course(settings.read(), require_sandbox=require_sandbox, hub=hub)
    print(f"{course.settings.course_id} is starting …", file=sys.stderr, flush=True)
    sandbox = course.start()
    if weak := caution(sandbox):
        print(weak, file=sys.stderr, flush=True)
    try:
        tabs = [course.hand_in, course.the_class]
        launch(host, port, device, checkpoint, tabs=tabs, **course.behind_a_door())
    finally:
        course.stop()


def teachers_only(answer: Answer) -> Answer:
    """Refuse everybody else; on the server, whatever a browser shows."""

    async def asked(request: Request) -> Response:
        if not account_of(request).teacher:
            return _fault(request, 403, "this is for teachers")
        return await answer(request)

    return asked


def _fault(request: Request, status: int, said: str | dict[str, Any]) -> Response:
    """A sentence, or a message of `say`, which the browser puts into its visitor's language."""
    found = {"fault": said} if isinstance(said, str) else {"fault": said["text"], "said": said}
    return _told(request, found, status)


def _told(request: Request, value: Any, status: int = 200) -> Response:
    """JSON, its sentences in the visitor's language."""
    found = chinese.spoken(value, _language(request))
    return JSONResponse(found, status, headers=PRIVATE)


def _language(request: Request) -> str | None:
    return request.query_params.get("lang")


def _saved(text: str) -> datetime | None:
    """When the browser says that the file was changed."""
    try:
        return datetime.fromtimestamp(int(text) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None
