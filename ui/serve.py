"""One process for everything a browser needs: the Streamlit pages, and the API mounted at /api.   python -m ui.serve

Two layers stand in front of both, for pages, API calls and websockets alike: `Guard` decides who is asking, and refuses
what another web site's page may have sent; `SecurityHeaders` tells the browser what our pages may do."""

from __future__ import annotations

import gc
import os
from urllib.parse import urlsplit

import streamlit as st
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit.runtime.pages_manager import PagesManager

from engine.api.app import api
from engine.services.accounts import DEMO_USER_COOKIE, DEMO_USERS, Actor, demo_user
from engine.settings import PROJECT_DIR, settings

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")

# Streamlit 1.67's index page carries one inline script; this is its hash, and it changes with Streamlit's version.
STREAMLIT_INLINE_SCRIPT = "'sha256-THxz9J9+wf7rhwR2YkXJoSZ13UCmYyC+3lNDv2+8ugA='"
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'self'",
        f"script-src 'self' blob: {STREAMLIT_INLINE_SCRIPT}",
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "worker-src 'self' blob:",
        "font-src 'self' data:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
SECURITY_HEADERS = [
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
]


def identify(scope: Scope) -> Actor | None:
    """Who is asking. None means: not signed in.

    Demo mode: everybody on this machine is the demo user they chose, the demo reader at first. Login replaces the body
    of this function by reading a signed session cookie from `scope`; nothing else in the web process decides who
    somebody is."""
    return demo_user(HTTPConnection(scope).cookies.get(DEMO_USER_COOKIE))


async def work_as(request: Request) -> Response:
    """The demo's "Work as": choose a user, and start at the worklist with a new session."""
    user = DEMO_USERS.get(request.path_params["username"])
    if user is None or request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return JSONResponse({"error": {"code": "not_found", "message": "There is no such demo user."}}, 404)
    response = RedirectResponse("/", status_code=303)
    response.set_cookie(DEMO_USER_COOKIE, user.username, httponly=True, samesite="strict")
    return response


class SecurityHeaders:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *SECURITY_HEADERS]}
            await send(message)

        await self.app(scope, receive, send_with_headers)


class Guard:
    """Puts the acting user into `scope["state"]["actor"]`, where the API finds it.

    Refused before anything else sees them: requests under a host name that is not this machine's (DNS rebinding),
    and requests that change something but were sent by another site's page (cross-site request forgery)."""

    def __init__(self, app: ASGIApp, hosts: tuple[str, ...] = LOOPBACK) -> None:
        self.app = app
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            return await _refuse(scope, receive, send, 403, "forbidden", refusal)
        actor = identify(scope)
        if actor is None:
            return await _refuse(scope, receive, send, 401, "not_signed_in", "Sign in to go on.")
        scope = {**scope, "state": {**scope.get("state", {}), "actor": actor}}
        await self.app(scope, receive, send)

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> str | None:
        host = headers.get("host", "")
        if _without_port(host) not in self.hosts:
            return f"This server answers only to {', '.join(self.hosts)}, not to {host or 'a request without a host'}."
        changes_something = scope["type"] == "websocket" or scope.get("method") not in ("GET", "HEAD", "OPTIONS")
        origin = headers.get("origin")
        if changes_something and origin is not None and urlsplit(origin).netloc != host:
            return f"A page of {origin} may not send requests here."
        return None


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


async def _refuse(scope: Scope, receive: Receive, send: Send, status: int, code: str, message: str) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 4000 + status})
        return
    response = JSONResponse({"error": {"code": code, "message": message}}, status_code=status)
    await response(scope, receive, send)


# A folder named pages beside the script makes Streamlit run its files on their own, without app.py's frame, until the
# first st.navigation of the process: a link to a case, opened first, would then stay without it.
PagesManager.uses_pages_directory = False


async def to_worklist(request: Request) -> Response:
    """The first page has no address of its own in Streamlit, which answers /worklist with "Page not found"."""
    return RedirectResponse(request.url.replace(path="/"))


app = st.App(
    PROJECT_DIR / "ui" / "app.py",
    routes=[Mount("/api", api), Route("/worklist", to_worklist), Route("/demo/work-as/{username}", work_as)],
    middleware=[Middleware(SecurityHeaders), Middleware(Guard)],
)


def main() -> None:
    """Serve on this machine only, until stopped."""
    os.chdir(PROJECT_DIR)  # Streamlit looks for .streamlit/config.toml in the working folder
    gc.collect()
    gc.freeze()  # what is imported by now stays: looking through it for garbage took 0.2 s, in the midst of a page
    app.run(config={"server.port": settings().port, "server.address": "127.0.0.1"})


if __name__ == "__main__":
    main()
