"""What the routes of signing in read from a request, and the cookies that they set."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar
from urllib.parse import parse_qsl

from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from db.session import session_scope
from engine.errors import Refused
from engine.services.sessions import SignedIn
from engine.settings import settings
from ui import who

LARGEST_FORM_BYTES = 8192

Result = TypeVar("Result")


async def form_of(request: Request) -> dict[str, str]:
    """Anybody may send one, so it is read only as far as a form of ours reaches. Raises Refused."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > LARGEST_FORM_BYTES:
            raise Refused("too_large", f"A form here has at most {LARGEST_FORM_BYTES} bytes.")
    return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))


def signed_in(request: Request) -> SignedIn | None:
    return request.state.signed_in


def address_of(request: Request) -> str:
    return request.client.host if request.client else ""


def browser_of(request: Request) -> str:
    return request.headers.get("user-agent", "")


async def in_session(function: Callable[[Session], Result]) -> Result:
    """Away from the event loop: passwords take their time, and databases too."""

    def run() -> Result:
        with session_scope(settings().database_url) as session:
            return function(session)

    return await run_in_threadpool(run)


def set_cookie(response: Response, name: str, value: str, max_age: int | None = None) -> None:
    """Lax, not Strict: a link from another system opens the page that it names. Requests that change something are
    looked at by the Guard."""
    tls = settings().sign_in.behind_tls
    response.set_cookie(who.cookie_name(name), value, max_age=max_age, httponly=True, samesite="lax", secure=tls)


def delete_cookie(response: Response, name: str) -> None:
    tls = settings().sign_in.behind_tls
    response.delete_cookie(who.cookie_name(name), httponly=True, samesite="lax", secure=tls)
