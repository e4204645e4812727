"""Who is asking, and what is refused before any page or route sees it."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.services.accounts import DEMO_USER_COOKIE, Actor, demo_user

LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


def identify(scope: Scope) -> Actor | None:
    """Who is asking. None means: not signed in.

    Demo mode: everybody on this machine is the demo user they chose, the demo reader at first. Login replaces the body
    of this function by reading a signed session cookie from `scope`; nothing else in the web process decides who
    somebody is."""
    return demo_user(HTTPConnection(scope).cookies.get(DEMO_USER_COOKIE))


class Guard:
    """Puts the acting user into `scope["state"]["actor"]`, where the API finds it.

    Refused before anything else sees them: requests under a host name that is not this machine's (DNS rebinding),
    and requests that change something but were sent by another site's page (cross-site request forgery). Under /api a
    request without an actor goes on: the API answers 401 itself, or knows the sender by a token. No page of another
    site can send a token of ours, so requests that bear one may come from anywhere."""

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
        # A token speaks for itself: it is the API's to check, and no cookie beside it counts.
        actor = None if _has_bearer_token(scope, headers) else identify(scope)
        if actor is None and not _is_api(scope):
            return await _refuse(scope, receive, send, 401, "not_signed_in", "Sign in to go on.")
        scope = {**scope, "state": {**scope.get("state", {}), "actor": actor}}
        await self.app(scope, receive, send)

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> str | None:
        host = headers.get("host", "")
        if _without_port(host) not in self.hosts:
            return f"This server answers only to {', '.join(self.hosts)}, not to {host or 'a request without a host'}."
        changes_something = scope["type"] == "websocket" or scope.get("method") not in ("GET", "HEAD", "OPTIONS")
        origin = headers.get("origin")
        sent_by_a_browser = changes_something and not _has_bearer_token(scope, headers)
        if sent_by_a_browser and origin is not None and urlsplit(origin).netloc != host:
            return f"A page of {origin} may not send requests here."
        return None


def _is_api(scope: Scope) -> bool:
    return scope["type"] == "http" and (scope["path"] == "/api" or scope["path"].startswith("/api/"))


def _has_bearer_token(scope: Scope, headers: dict[str, str]) -> bool:
    return _is_api(scope) and headers.get("authorization", "").lower().startswith("bearer ")


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
