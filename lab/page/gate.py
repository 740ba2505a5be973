"""What the page's server takes in: addresses the page needs, and questions as it asks them.

Gradio serves more than this page uses: uploads and the folder they lie in, files by their path, a
proxy, recordings, deep links. What nobody needs nobody can misuse. And a question that no page of
ours would ask ends here in one sentence, and not deep within Gradio in a stack trace.
"""

import json
import re
from typing import Any
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

OPEN = re.compile(
    r"/|/config/?|/theme\.css|/favicon\.ico|/robots\.txt|/manifest\.json|/(assets|static|svelte)/.+"
    r"|/gradio_api/(info|app_id|startup-events|theme\.css|heartbeat/\w+"
    r"|queue/(join|data)|run/predict|cancel|reset)/?"
)
ASKED = re.compile("/gradio_api/(queue/join|run/predict)/?")
ANSWERS = re.compile("/gradio_api/queue/data/?")
FIELDS = {"data", "event_data", "fn_index", "trigger_id", "session_hash"}
SESSION = re.compile(r"[\w-]{1,64}", re.ASCII)
SIZE = 256_000  # bytes: 400 characters, what is chosen, and a painted mask are far below
DEPTH = 16  # of lists in lists


class Gate:
    """An ASGI layer before Gradio: refuses the rest with one sentence, whoever asks.

    `page` is the gr.Blocks behind it: what its events are, and whose questions wait.
    """

    def __init__(self, app: ASGIApp, page: Any):
        self.app, self.page = app, page
        self.places = {block for event in page.fns.values() for block, _ in event.targets}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":  # Gradio has no other; a WebSocket is closed before it opens
            return None
        request, path = Request(scope, receive), path_of(scope)
        if fault := foreign(request):
            return await _refused(403, fault)(scope, receive, send)
        if not OPEN.fullmatch(path):
            fault = "this page does not use that address"
            return await _refused(403, fault)(scope, receive, send)
        if ANSWERS.fullmatch(path):
            session = request.query_params.get("session_hash")
            if session not in self.page._queue.pending_messages_per_session:
                return await _refused(404, "nobody of that name asks")(scope, receive, send)
        if request.method == "POST":
            body = await _body(receive)
            if body is None:
                fault = f"a question has at most {SIZE // 1000} kB"
                return await _refused(413, fault)(scope, receive, send)
            if ASKED.fullmatch(path) and (fault := self._fault_of(body)):
                return await _refused(400, fault)(scope, receive, send)
            receive = _again(body, receive)
        await self.app(scope, receive, send)

    def _fault_of(self, body: bytes) -> str:
        """Why this is no question of the page, or ""."""
        try:
            question = json.loads(body)
        except (ValueError, RecursionError):
            return "a question is JSON"
        if not isinstance(question, dict) or not set(question) <= FIELDS:
            return f"a question has the fields {', '.join(sorted(FIELDS))}, and no others"
        number, data = question.get("fn_index"), question.get("data")
        event = self.page.fns.get(number) if type(number) is int else None
        if event is None or event.fn is None:
            return "the page has no such event"
        if not isinstance(data, list) or len(data) != len(event.inputs):
            return f"this event takes a list of {len(event.inputs)} values"
        session = question.get("session_hash")
        if not isinstance(session, str) or not SESSION.fullmatch(session):
            return "a question names its session"
        trigger = question.get("trigger_id")  # one that follows another bears that one's
        if trigger is not None and (type(trigger) is not int or trigger not in self.places):
            return "nothing on the page begins this event"
        if not _plain([data, question.get("event_data")]):
            return "a question is of plain values, not too deep in each other, and of no file"
        return ""


def foreign(request: Request) -> str:
    """Why a request is not from a page of this site, or "". A program that is no browser says
    nothing of where it comes from, and has no cookie that it does not know."""
    origin, host = request.headers.get("origin"), request.headers.get("host", "")
    if origin and _host(origin) != host.lower():
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


def _host(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:  # http://[
        return ""


def path_of(scope: Scope) -> str:
    """The path below the root; with one slash where somebody sends two."""
    root, path = scope.get("root_path", ""), scope["path"]
    if root and (path == root or path.startswith(root + "/")):
        path = path[len(root) :]
    return "/" + path.strip("/") if path.strip("/") else "/"


def _plain(value: Any, depth: int = 0) -> bool:
    """JSON that Gradio takes for nothing but JSON; no half of a surrogate pair in a text."""
    if isinstance(value, str):
        return value != "gradio.FileData" and not re.search("[\ud800-\udfff]", value)
    if isinstance(value, dict):
        value = [*value, *value.values()]
    return not isinstance(value, list) or (
        depth < DEPTH and all(_plain(each, depth + 1) for each in value)
    )


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None where it is too long, whatever its length was said to be."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > SIZE:
            return None
    return body


def _again(body: bytes, receive: Receive) -> Receive:
    """Gives a body that was read to whoever reads next."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> Message:
        return messages.pop() if messages else await receive()

    return replayed


def _refused(status: int, sentence: str) -> JSONResponse:
    return JSONResponse({"fault": sentence}, status, {"Cache-Control": "no-store"})
