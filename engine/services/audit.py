"""Who did what, when. Rows are only ever added, and hold no names and no dates of birth."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from db.models import AuditEvent
from db.repositories import audit as repository
from engine.services.accounts import Actor, require


@dataclass(frozen=True)
class AuditRow:
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
    """Add an audit row to the transaction of the action it describes; the caller commits both.
    `subject` is like "study:12"."""
    session.add(
        AuditEvent(actor=actor.username, action=action, subject=subject, detail=detail or {}, origin=actor.origin[:128])
    )


def events_page(
    session: Session, actor: Actor, page: int = 1, page_size: int = 50, subject: str | None = None
) -> AuditPage:
    """One page, counted from 1, the latest first. Admins only."""
    require(actor)
    events, total = repository.events_page(session, subject, (page - 1) * page_size, page_size)
    rows = [AuditRow(row.at, row.actor, row.action, row.subject, row.detail, row.origin) for row in events]
    return AuditPage(rows, total, page, page_size)
