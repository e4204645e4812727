"""Writing requests that a sender may repeat without doing them twice: with the same key they get the same answer.

A sender who has lost the answer cannot know whether the request was carried out. It sends it again under the same
Idempotency-Key, and is answered as before for a day."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from db.api_tables import IdempotentRequest
from db.models import Role
from db.repositories import api as repository
from db.session import writing
from db.types import utc_now
from engine.errors import Conflict, Refused
from engine.services.accounts import READERS, Actor, require

KEPT_FOR = timedelta(hours=24)
# A request that was begun and never answered: its process has died. What it did, if anything, is done once all the
# same: a decision that is sent again and a file that is sent again are recognised by what they say.
ABANDONED_AFTER = timedelta(minutes=5)


@dataclass(frozen=True)
class KeptAnswer:
    status: int
    body: str


def begin(session: Session, actor: Actor, key: str, request_sha256: str) -> KeptAnswer | None:
    """What was answered to this request before; None where it is now the caller's to carry out, and to `keep` or
    `forget`. Commits.

    Raises Refused where the key came with another request, Conflict while the same one is being carried out,
    NotAllowed."""
    require(actor, *READERS, Role.SERVICE)
    now = utc_now()
    in_progress = Conflict("a request with this Idempotency-Key is being carried out: send it again in a moment")
    with writing(session):
        repository.forget_requests(session, begun_before=now - KEPT_FOR)
        known = repository.kept_request(session, actor.username, key)
        if known is None:
            try:
                row = IdempotentRequest(actor=actor.username, key=key, request_sha256=request_sha256, begun_at=now)
                session.add(row)
                session.flush()
            except IntegrityError:  # the same request, sent twice at once
                raise in_progress from None
            return None
        if known.request_sha256 != request_sha256:
            raise Refused(
                "idempotency_key_reused",
                "this Idempotency-Key came with another request in the last 24 hours: every request needs a new one",
            )
        if known.status is not None:
            return KeptAnswer(known.status, known.body or "")
        if now - known.begun_at < ABANDONED_AFTER:
            raise in_progress
        known.begun_at = now
        return None


def keep(session: Session, actor: Actor, key: str, answer: KeptAnswer) -> None:
    """What was answered to the request that `begin` left to the caller. Commits."""
    require(actor, *READERS, Role.SERVICE)
    with writing(session):
        row = repository.kept_request(session, actor.username, key)
        if row is not None:
            row.status, row.body = answer.status, answer.body


def forget(session: Session, actor: Actor, key: str) -> None:
    """The request failed for a reason that is none of its own: it may be tried again at once. Commits."""
    require(actor, *READERS, Role.SERVICE)
    with writing(session):
        row = repository.kept_request(session, actor.username, key)
        if row is not None:
            session.delete(row)
