"""What HTTP has for requests that come again: answers that have not changed (ETag), writes that were sent twice
(Idempotency-Key), the next page of a list (Link)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Header, Request
from fastapi.responses import Response
from pydantic import BaseModel
from sqlalchemy.orm import Session

from engine.api.errors import answer_to
from engine.errors import NotAllowed, PediScreenError
from engine.services import idempotency
from engine.services.accounts import Actor
from engine.services.idempotency import KeptAnswer

JSON = "application/json"
VARY = "Authorization, Cookie"
ASK_EACH_TIME = {"Cache-Control": "private, no-cache", "Vary": VARY}

IfNoneMatch = Annotated[
    str | None, Header(description="the ETag of what the client has: answered 304 where nothing has changed")
]
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[\x21-\x7e]+$",
        description="chosen by the client, new for each request: sent again with the same request within 24 hours, it "
        "brings the same answer and does nothing twice",
        examples=["5f2b8c1e-review-4711"],
    ),
]


def unless_unchanged(answer: BaseModel, if_none_match: str | None, headers: dict[str, str] | None = None) -> Response:
    """`answer` under the hash of what it says, or 304 for a client that has just that."""
    content = answer.model_dump_json().encode()
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {**ASK_EACH_TIME, **(headers or {}), "ETag": etag}
    if is_among(etag, if_none_match):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=JSON, headers=headers)


def is_among(etag: str, if_none_match: str | None) -> bool:
    """RFC 9110, 13.1.2: a list of entity tags, compared weakly, or *."""
    given = [one.strip().removeprefix("W/") for one in (if_none_match or "").split(",")]
    return etag in given or given == ["*"]


def once(
    session: Session, actor: Actor, key: str | None, request: list[Any], carry_out: Callable[[], Response]
) -> Response:
    """Carries the request out, or answers as before where the key came with it before. `request`: all that tells it
    from another one, as JSON."""
    if key is None:
        return carry_out()
    request_sha256 = hashlib.sha256(json.dumps(request, sort_keys=True, default=str).encode()).hexdigest()
    kept = idempotency.begin(session, actor, key, request_sha256)
    if kept is not None:
        return Response(kept.body, kept.status, media_type=JSON, headers={"Idempotency-Replayed": "true"})
    answered = None
    try:
        try:
            answered = carry_out()
        except NotAllowed:
            raise  # for the audit
        except PediScreenError as refused:
            answered = answer_to(refused)
    finally:
        if answered is None or answered.status_code >= 500:
            idempotency.forget(session, actor, key)
    if answered.status_code < 500:
        idempotency.keep(session, actor, key, KeptAnswer(answered.status_code, bytes(answered.body).decode()))
    return answered


def page_links(request: Request, page: int, page_size: int, total: int) -> dict[str, str]:
    """RFC 8288: first, previous, next and last page, without this machine's name: a proxy has another."""
    last = max(1, -(-total // page_size))
    pages = {"first": 1, "prev": page - 1, "next": page + 1, "last": last}
    links = []
    for relation, number in pages.items():
        if 1 <= number <= last:
            url = request.url.include_query_params(page=number, page_size=page_size)
            links.append(f'<{url.path}?{url.query}>; rel="{relation}"')
    return {"Link": ", ".join(links)}
