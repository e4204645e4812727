"""Who did what, when and from where. Rows are only ever added, each tied to the one before (db.audit_chain), and hold
no names, no dates of birth and no patient IDs."""

from __future__ import annotations

import logging
import traceback
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from db import audit_chain, row_hash
from db.audit_chain import Link
from db.models import Base
from db.repositories import audit as repository
from db.repositories.audit import AuditQuery
from db.session import at_commit, session_scope, writing
from db.types import utc_now
from engine.errors import NotAllowed, PediScreenError
from engine.services import audit_anchor
from engine.services.accounts import Actor, require
from engine.settings import settings

log = logging.getLogger(__name__)

EVERYTHING = AuditQuery()
SHORTEST_KEY = 32  # characters of PEDISCREEN_AUDIT_KEY
ONE_VIEW = timedelta(minutes=5)  # who looks at a thing again within it is still looking at it


@dataclass(frozen=True)
class AuditRow:
    id: int
    at: datetime
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]
    origin: str


@dataclass(frozen=True)
class AuditPage:
    rows: list[AuditRow]
    total: int
    page: int
    page_size: int


def record(session: Session, actor: Actor, action: str, subject: str, detail: dict[str, Any] | None = None) -> None:
    """Add an audit row to the transaction of the action it describes, within `writing`, which commits both.
    `subject` is like "study:12". What `fixed` puts into `detail` is held against the database from then on."""
    link = Link(
        id=0,
        at=utc_now(),
        actor=actor.username,
        action=action,
        subject=subject,
        detail=audit_chain.as_stored(detail or {}),
        origin=actor.origin[:128],
    )
    at_commit(session, _append, link)


def record_view(session: Session, actor: Actor, subject: str, detail: dict[str, Any] | None = None) -> None:
    """The actor looks at something about a child: `study.viewed` for "study:12". Commits, unless it goes on looking
    (ONE_VIEW), which is one view."""
    action = f"{subject.split(':')[0]}.viewed"
    before = repository.last_at(session, actor.username, action, subject)
    if before is not None and timedelta(0) <= utc_now() - before < ONE_VIEW:
        return
    with writing(session):
        record(session, actor, action, subject, detail)


def record_refusal(actor: Actor, error: NotAllowed, where: str) -> None:
    """Somebody asked for what their role does not permit; `where` is the page or the address, without what was typed
    there. In a session of its own: the one it happened in may be in the midst of anything."""
    frames = traceback.extract_tb(error.__traceback__)
    asked = next((frame for frame in reversed(frames) if frame.name != "require"), None)
    detail = {"role": actor.role.value, "asked_for": asked.name if asked else None}
    log.warning("refused: %s (%s) asked for %s at %s", actor.username, actor.role, detail["asked_for"], where)
    try:
        with session_scope(settings().database_url) as session, writing(session):
            record(session, actor, "access.refused", where[:64], detail)
    except SQLAlchemyError as failure:
        log.error("a refusal could not be recorded in the audit log: %s", type(failure).__name__)


def fixed(*rows: Base) -> dict[str, Any]:
    """For the detail of `record`: the hashes of rows that never change from now on."""
    return {"hashes": [row_hash.fixed(row) for row in rows]}


def key() -> bytes | None:
    """PEDISCREEN_AUDIT_KEY, which seals the chain; None: it is not sealed. Raises PediScreenError for a short one."""
    text = settings().audit_key
    if text is not None and len(text) < SHORTEST_KEY:
        raise PediScreenError(f"PEDISCREEN_AUDIT_KEY has {len(text)} characters; it needs at least {SHORTEST_KEY}.")
    return None if text is None else text.encode()


def keep_anchor(session: Session, *, now: bool = False) -> None:
    """See engine.services.audit_anchor; cheap unless it is due."""
    audit_anchor.write_if_due(session, partial(audit_chain.last, session), key(), now=now)


def events_page(
    session: Session, actor: Actor, page: int = 1, page_size: int = 50, query: AuditQuery = EVERYTHING
) -> AuditPage:
    """One page, counted from 1, the latest first. Admins only. A look at the audit log is a row of it."""
    require(actor)
    events, total = repository.events_page(session, query, (page - 1) * page_size, page_size)
    found = AuditPage([as_row(event) for event in events], total, page, page_size)
    record_view(session, actor, "audit:log", {"filter": query.as_json()})
    return found


def as_row(event: Any) -> AuditRow:
    return AuditRow(*(getattr(event, name) for name in AuditRow.__dataclass_fields__))


def choices(session: Session, actor: Actor) -> tuple[list[str], list[str]]:
    """Who and what the audit log names, in order. Admins only."""
    require(actor)
    return repository.actors(session), repository.actions(session)


def _append(session: Session, links: list[Link]) -> None:
    try:
        before = audit_chain.append(session, links, key())
    except audit_chain.WrongKey as wrong:
        raise PediScreenError(
            f"Nothing can be recorded: the audit log is sealed with the key {wrong}, and PEDISCREEN_AUDIT_KEY "
            f"{'names another' if settings().audit_key else 'is not set'} here. Set it to the key that belongs to it."
        ) from None
    audit_anchor.write_if_due(session, lambda: before, key())
