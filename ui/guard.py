"""What is refused before any page or route sees it: strange hosts, other sites' pages, and everybody who is not signed
in."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

from sqlalchemy.exc import OperationalError
from starlette.concurrency import run_in_threadpool
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.services.sessions import SignedIn
from engine.settings import settings
from engine.sign_in_settings import Login, SignInSettings, is_loopback
from ui import who

READING = ("GET", "HEAD", "OPTIONS")
OPEN_TO_NOBODY = ("/sign-in", "/sign-out", "/_stcore/health")
SIGNED_OUT, LOCKED, MUST_CHANGE = "/sign-in", "/sign-in/unlock", "/sign-in/password"
NOT_SIGNED_IN = (401, "not_signed_in", "Sign in to go on.")
SESSION_LOCKED = (401, "locked", "Nobody was here for a while: unlock the session with your password.")
NO_DATABASE = (503, "no_database", "The database does not answer, so nobody can be let in. Try again in a minute.")
PASSWORD_TO_CHANGE = (403, "must_change_password", "Choose a password of your own first.")


class Guard:
    """Puts who asks into the request's state: `actor` for the API, `signed_in` for the pages of signing in.

    A request that changes something must come from a page of ours (cross-site request forgery); under a host name that
    is not this server's none is answered (DNS rebinding). Under /api a request without an actor goes on: the API
    answers 401 itself, or knows the sender by a token. No page of another site can send a token of ours, so requests
    that bear one may come from anywhere, and no cookie beside it counts.

    A websocket is asked about at its connection and again at each message: it ends when the session does, and while
    the session is locked it hears nothing, so that what is open on the page stays as it was."""

    def __init__(self, app: ASGIApp, sign_in: SignInSettings | None = None) -> None:
        self.app = app
        self.sign_in = sign_in or settings().sign_in

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        connection = HTTPConnection(scope)
        refusal = self._refusal(connection)
        if refusal is not None:
            return await _refuse(connection, receive, send, (403, "forbidden", refusal))
        try:
            found = None if _bears_token(connection) else await _signed_in(connection)
        except OperationalError:
            return await _refuse(connection, receive, send, NO_DATABASE)
        works = found is not None and found.may_work
        if not (works or _is_open(scope["path"]) or (found is None and _is_api(scope))):
            return await _refuse(connection, receive, send, *_why(found))
        actor = found.actor if found is not None and works else None
        scope = {**scope, "state": {**scope.get("state", {}), "actor": actor, "signed_in": found}}
        if scope["type"] == "websocket" and self.sign_in.login is not Login.DEMO:
            receive = _listening_while_signed_in(connection, receive, send)
        await self.app(scope, receive, send)

    def _refusal(self, connection: HTTPConnection) -> str | None:
        hosts = connection.headers.getlist("host")
        host = hosts[0] if len(hosts) == 1 else ""
        if _without_port(host) not in self.sign_in.hosts:
            names = ", ".join(self.sign_in.hosts)
            return f"This server answers only to {names}, not to {host or 'a request without one host'}."
        if self.sign_in.login is Login.DEMO and not is_loopback(_address(connection)):
            return "The demo answers to this machine alone."
        if connection.scope.get("method") in READING or _bears_token(connection):
            return None
        origin = connection.headers.get("origin")
        if origin is not None and not self._is_ours(origin, host):
            return f"A page of {origin} may not send requests here."
        if connection.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return "A page of another site may not send requests here."
        return None

    def _is_ours(self, origin: str, host: str) -> bool:
        parts = urlsplit(origin)
        schemes = ("https",) if self.sign_in.behind_tls else ("http", "https")
        return parts.netloc == host and parts.scheme in schemes


async def _signed_in(connection: HTTPConnection) -> SignedIn | None:
    if settings().sign_in.login is Login.DEMO:  # nothing to wait for
        return who.signed_in(connection.cookies, _address(connection))
    return await run_in_threadpool(who.signed_in, connection.cookies, _address(connection))


def _listening_while_signed_in(connection: HTTPConnection, receive: Receive, send: Send) -> Receive:
    async def receive_if_signed_in() -> Message:
        while True:
            message = await receive()
            if message["type"] != "websocket.receive":
                return message
            try:
                now = await _signed_in(connection)
            except OperationalError:
                return await _ended(send, 4503)  # the page tries again, and keeps what is in it
            if now is None or now.must_change:
                return await _ended(send, 4401)
            if not now.locked:
                return message

    return receive_if_signed_in


async def _ended(send: Send, code: int) -> Message:
    await send({"type": "websocket.close", "code": code})
    return {"type": "websocket.disconnect", "code": code}


def _why(found: SignedIn | None) -> tuple[tuple[int, str, str], str]:
    """The answer, and the page that helps."""
    if found is None:
        return NOT_SIGNED_IN, SIGNED_OUT
    return (SESSION_LOCKED, LOCKED) if found.locked else (PASSWORD_TO_CHANGE, MUST_CHANGE)


def _is_open(path: str) -> bool:
    return path in OPEN_TO_NOBODY or path.startswith("/sign-in/")


def _is_api(scope: Scope) -> bool:
    return scope["type"] == "http" and (scope["path"] == "/api" or scope["path"].startswith("/api/"))


def _bears_token(connection: HTTPConnection) -> bool:
    return _is_api(connection.scope) and connection.headers.get("authorization", "").lower().startswith("bearer ")


def _address(connection: HTTPConnection) -> str:
    return connection.client.host if connection.client else ""


def _without_port(host: str) -> str:
    name, colon, port = host.lower().rpartition(":")
    return name if colon and port.isdigit() else host.lower()


async def _refuse(
    connection: HTTPConnection, receive: Receive, send: Send, why: tuple[int, str, str], helps: str | None = None
) -> None:
    status, code, message = why
    if connection.scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 4000 + status})
        return
    response: Response = JSONResponse({"error": {"code": code, "message": message}}, status_code=status)
    wants_page = connection.scope["method"] == "GET" and "text/html" in connection.headers.get("accept", "")
    if helps is not None and wants_page and not _is_api(connection.scope):
        url = connection.url
        here = quote(url.path + (f"?{url.query}" if url.query else ""), safe="")
        response = RedirectResponse(f"{helps}?next={here}", status_code=303)
    await response(connection.scope, receive, send)
