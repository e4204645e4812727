"""Every refusal in one shape: {"error": {"code": ..., "message": ...}}, with the status that says whose turn it is."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException

from engine import faults
from engine.api.schemas import ErrorAnswer
from engine.errors import (
    Conflict,
    Damaged,
    ModelUnavailable,
    NotAllowed,
    NotFound,
    PediScreenError,
    ReaderUnavailable,
    ReadFailed,
    Refused,
)
from engine.services import audit

log = logging.getLogger(__name__)

TOO_MANY_FILES = "Too many files"  # how the words of starlette's multipart parser begin
AGAIN_IN_S = 5  # what a client is told to wait for what is away


class NotSignedIn(PediScreenError):
    """The request carries no user."""


class BadToken(NotSignedIn):
    """The bearer token is unknown, revoked or has expired."""


class ScopeMissing(NotAllowed):
    """The token was not made for this. `scope`: what it lacks."""

    def __init__(self, message: str, scope: str) -> None:
        super().__init__(message)
        self.scope = scope


class TooManyRequests(PediScreenError):
    def __init__(self, message: str, wait_s: int) -> None:
        super().__init__(message)
        self.wait_s = wait_s


# The first that fits counts.
STATUS_OF_ERROR: tuple[tuple[type[PediScreenError], int, str], ...] = (
    (BadToken, 401, "bad_token"),
    (NotSignedIn, 401, "not_signed_in"),
    (ScopeMissing, 403, "scope_missing"),
    (NotAllowed, 403, "not_allowed"),
    (NotFound, 404, "not_found"),
    (Damaged, 500, "damaged"),
    (Conflict, 409, "conflict"),
    (Refused, 422, "refused"),  # its own code takes the place of this one
    (ReadFailed, 422, "read_failed"),
    (TooManyRequests, 429, "too_many_requests"),
    (ModelUnavailable, 503, "model_unavailable"),
    (ReaderUnavailable, 503, "model_unavailable"),
    (PediScreenError, 400, "error"),
)
CODE_OF_STATUS = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}

EXAMPLES = {
    400: ("bad_request", "There was an error parsing the body"),
    401: ("not_signed_in", "Sign in, or send a token: Authorization: Bearer ps_..."),
    403: ("scope_missing", "This needs the scope review, which the token was not made for."),
    404: ("not_found", "there is no study 4711"),
    409: ("conflict", "this image has been decided in the meantime: look at that decision, then decide again"),
    413: ("too_large", "The body has more than 1,073,741,824 bytes, which is the most that is taken here."),
    422: ("invalid_request", "body.verdict: Input should be 'confirmed', 'corrected' or 'rejected'"),
    429: ("too_many_requests", "More than 600 requests a minute: go on in 3 s."),
    500: ("internal_error", "The request failed for a reason on this side; the log has it under 5f2b8c1e."),
    503: ("model_unavailable", "No worker reads here. Start web and worker with pediscreen up."),
}
DESCRIPTIONS = {
    400: "the body cannot be parsed",
    401: "no user and no valid token",
    403: "the role, or the token's scopes, do not allow it",
    404: "there is no such study or image",
    409: "somebody else was first, or the same request is being carried out",
    413: "the body is larger than what is taken, and was not read",
    422: "the request, or what it holds, is refused; the code says why",
    429: "too many requests; Retry-After says when to go on",
    500: "a failure on this side, or a stored film that is damaged",
    503: "the model, or the database, is away; Retry-After says when to try again",
}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route's description says of these statuses."""
    return {
        status: {
            "model": ErrorAnswer,
            "description": DESCRIPTIONS[status],
            "content": {"application/json": {"example": body(*EXAMPLES[status])}},
        }
        for status in statuses
    }


def body(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


def answer(status: int, code: str, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse(body(code, message), status_code=status, headers=headers)


def answer_to(error: PediScreenError) -> JSONResponse:
    status, code = next((status, code) for kind, status, code in STATUS_OF_ERROR if isinstance(error, kind))
    headers = {}
    match error:
        case BadToken():
            headers["WWW-Authenticate"] = 'Bearer realm="PediScreen", error="invalid_token"'
        case NotSignedIn():
            headers["WWW-Authenticate"] = 'Bearer realm="PediScreen"'
        case ScopeMissing():
            headers["WWW-Authenticate"] = f'Bearer error="insufficient_scope", scope="{error.scope}"'
        case TooManyRequests():
            headers["Retry-After"] = str(error.wait_s)
    if status == 503:
        headers["Retry-After"] = str(AGAIN_IN_S)
    return answer(status, error.code if isinstance(error, Refused) else code, str(error), headers)


def with_reason(request: Request, error: PediScreenError) -> JSONResponse:
    if isinstance(error, NotAllowed):
        audit.record_refusal(request.state.caller.actor, error, request.scope["route"].path)
    return answer_to(error)


def with_field(request: Request, error: RequestValidationError) -> JSONResponse:
    """Names the field and what it should be, never the value: it may be a child's."""
    problems = [f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}" for problem in error.errors()]
    return answer(422, "invalid_request", "; ".join(problems)[:2000])


def in_shape(request: Request, error: HTTPException) -> JSONResponse:
    message = str(error.detail)
    if error.status_code == 413:
        message = "The body is larger than what is taken here: docs/rest-api.md, Limits."
    if message.startswith(TOO_MANY_FILES):
        return answer(413, "too_many_files", message)
    return answer(
        error.status_code, CODE_OF_STATUS.get(error.status_code, "http"), message, dict(error.headers or {}) or None
    )


def without_database(request: Request, error: OperationalError) -> JSONResponse:
    message = faults.in_words(error) or "The database does not answer at present."
    log.error("the database failed: %s", message)
    return answer(503, "database_unavailable", message, {"Retry-After": str(AGAIN_IN_S)})


def without_disk(request: Request, error: OSError) -> JSONResponse:
    """Of a disk that is full or can only be read; whatever else the system says is a mistake of ours."""
    message = faults.in_words(error)
    if message is None:
        raise error
    log.error("the disk failed: %s", message)
    return answer(507, "disk", message, {"Retry-After": str(AGAIN_IN_S)})
