"""What every answer of the page's server tells the browser: about safety, and what it may keep."""

import os
import re

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lab.page.gate import path_of

# Only what the page itself serves. Gradio starts by a script within its HTML and makes functions
# of its components' `js_on_load`: neither works without 'unsafe-inline' and 'unsafe-eval'. So what
# keeps a sentence from being a script is that it is never put into markup (see lab.page.view);
# the policy then sees to it that nothing is fetched from elsewhere, or sent there.
POLICY = "; ".join(
    [
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
    ]
)
FRAMES = "LAB_FRAME_FROM"  # the environment's word for who may frame the page: origins, spaces
ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]+)?", re.IGNORECASE)
KEPT = "public, max-age=31536000, immutable"  # what lies in /assets/ has its hash in its name


def framing() -> tuple[str, ...]:
    """The origins in LAB_FRAME_FROM, for example "https://moodle.example.edu"."""
    found = tuple(os.environ.get(FRAMES, "").split())
    for each in found:
        if not ORIGIN.fullmatch(each):
            raise ValueError(f"{FRAMES}: {each!r} is no origin, such as https://moodle.example.edu")
    return found


class Headers:
    """An ASGI layer: policy, no guessing of types, no framing by others unless `frames` names them
    (see `framing`)."""

    def __init__(self, app: ASGIApp, frames: tuple[str, ...] = ()):
        self.app = app
        ancestors = " ".join(frames) or "'none'"
        self.headers = {
            "Content-Security-Policy": f"{POLICY}; frame-ancestors {ancestors}",
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "same-origin",
        }
        if not frames:
            self.headers["X-Frame-Options"] = "DENY"  # for browsers that do not know the policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self.headers.items():
                    headers.setdefault(name, value)
                if message["status"] == 200 and path_of(scope).startswith("/assets/"):
                    headers["Cache-Control"] = KEPT
            await send(message)

        await self.app(scope, receive, with_headers if scope["type"] == "http" else send)
