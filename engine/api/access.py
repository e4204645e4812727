"""Who is asking, and whether they may: in front of every route, before a byte of a request's body is read.

Whoever sends a token is what the token says. Whoever sends none is the user that ui/serve.py has put into the scope,
where it serves the API beside the pages; alone (`pediscreen api`) there is only the token."""

from __future__ import annotations

import logging
import re
import time
import traceback
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer, SecurityScopes
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.routing import get_route_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from db.session import session_scope
from engine.api import errors, rate_limit
from engine.api.errors import BadToken, NotSignedIn, ScopeMissing
from engine.errors import PediScreenError
from engine.services import api_tokens
from engine.services.accounts import Actor
from engine.services.api_tokens import Caller
from engine.settings import settings

log = logging.getLogger("engine.api")

PUBLIC = ("/docs", "/openapi.json", "/health")  # what the API is and whether it runs; nothing of a child, nothing kept
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

bearer = HTTPBearer(
    auto_error=False,
    scheme_name="token",
    bearerFormat="ps_...",
    description="Made under Administration, API access, or with `pediscreen token add`. The scopes that a route needs "
    "are listed with it. A browser that is signed in needs no token.",
)


class Gate:
    """Identifies, counts and logs each request. Its log line names the route, never the path as it was sent or the
    query: either may hold what a user has typed."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        begun, status, who = time.perf_counter(), 0, "-"
        request_id = _request_id(scope)

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            await send(message)

        try:
            if get_route_path(scope) not in PUBLIC:
                caller = await run_in_threadpool(_identified, scope)
                who = caller.actor.username
                scope["state"] = {**scope.get("state", {}), "caller": caller}
            await self.app(scope, receive, send_with_id)
        except PediScreenError as refused:
            await errors.answer_to(refused)(scope, receive, send_with_id)
        except OperationalError as away:
            log.error("%s the database does not answer: %s", request_id, type(away.orig).__name__)
            await errors.without_database(Request(scope), away)(scope, receive, send_with_id)
        except Exception as error:  # the outermost line of a request
            # Where it happened and what kind it is. Its text stays out of the log: it may quote a file or a row.
            frames = traceback.extract_tb(error.__traceback__)
            where = "\n".join(f"  {frame.filename}:{frame.lineno} {frame.name}" for frame in frames)
            log.error("%s %s at\n%s", request_id, type(error).__name__, where)
            if status == 0:
                message = f"The request failed for a reason on this side; the log has it under {request_id}."
                await errors.answer(500, "internal_error", message)(scope, receive, send_with_id)
        finally:
            route = getattr(scope.get("route"), "path", "(no route)")
            taken_ms = (time.perf_counter() - begun) * 1000
            log.info("%s %s %s %s %d %.0f ms", request_id, who, scope["method"], route, status, taken_ms)


def _request_id(scope: Scope) -> str:
    given = Headers(scope=scope).get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else uuid.uuid4().hex


def _identified(scope: Scope) -> Caller:
    """Raises NotSignedIn, TooManyRequests."""
    scheme, _, secret = Headers(scope=scope).get("authorization", "").partition(" ")
    actor = scope.get("state", {}).get("actor")
    if scheme.lower() == "bearer":
        with session_scope(settings().database_url) as session:
            caller = api_tokens.caller_of(session, secret.strip())
        if caller is None:
            raise BadToken("This token is not known here, was revoked or has expired: ask an admin for another.")
    elif actor is not None:
        caller = Caller(actor)
    else:
        raise NotSignedIn("Sign in, or send a token: Authorization: Bearer ps_...")
    if not caller.actor.origin:
        caller = replace(caller, actor=replace(caller.actor, origin=_address(scope)))
    rate_limit.take(caller.actor.username)
    return caller


def _address(scope: Scope) -> str:
    """Of whoever is connected, for the audit."""
    return scope["client"][0] if scope.get("client") else ""


def acting_user(
    request: Request,
    needed: SecurityScopes,
    credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
) -> Actor:
    """The caller, who may use the route's scope. Raises ScopeMissing."""
    caller: Caller = request.state.caller
    for scope in needed.scopes:
        if scope not in caller.scopes:
            raise ScopeMissing(f"This needs the scope {scope}, which the token was not made for.", scope)
    return caller.actor


def database_session() -> Iterator[Session]:
    with session_scope(settings().database_url) as session:
        yield session


# One of these is what every route takes: the acting user, and with it the scope that the route needs.
ReadingUser = Annotated[Actor, Security(acting_user, scopes=[api_tokens.Scope.READ.value])]
UploadingUser = Annotated[Actor, Security(acting_user, scopes=[api_tokens.Scope.UPLOAD.value])]
ReviewingUser = Annotated[Actor, Security(acting_user, scopes=[api_tokens.Scope.REVIEW.value])]
AnalyzingUser = Annotated[Actor, Security(acting_user, scopes=[api_tokens.Scope.ANALYZE.value])]
ModelsUser = Annotated[Actor, Security(acting_user, scopes=[api_tokens.Scope.MODELS.value])]
DatabaseSession = Annotated[Session, Depends(database_session)]
