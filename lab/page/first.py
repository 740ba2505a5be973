"""Puts the page's words, its language and its icon first into the page's HTML.

Gradio applies `launch(head=…)` only after it has chosen its own language (6.31, `setupi18n`), which
is too late to have a say in it.
"""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lab.page.gate import path_of


class First:
    """An ASGI layer: the <head> of the page at "/" begins with `text`."""

    def __init__(self, app: ASGIApp, text: str):
        self.app, self.text = app, text.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "GET" or path_of(scope) != "/":
            return await self.app(scope, receive, send)
        start: Message = {}
        body = b""

        async def whole(message: Message) -> None:
            nonlocal start, body
            if message["type"] == "http.response.start":
                start = message
                return
            body += message.get("body", b"")
            if not message.get("more_body"):
                body = body.replace(b"<head>", b"<head>" + self.text, 1)
                MutableHeaders(scope=start)["content-length"] = str(len(body))
                await send(start)
                await send({"type": "http.response.body", "body": body})

        await self.app(scope, receive, whole)
