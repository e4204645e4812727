"""Audit events: looking for them. They are added by db.audit_chain alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, func, select
from sqlalchemy.orm import Session

from db.models import AuditEvent
from db.repositories.studies import different


@dataclass(frozen=True)
class AuditQuery:
    """Which events; None means any. `action` with what follows a dot left out means all of its kind: "review"."""

    actor: str | None = None
    action: str | None = None
    subject: str | None = None
    since: datetime | None = None
    until: datetime | None = None  # not included

    def conditions(self) -> list[ColumnElement[bool]]:
        conditions: list[ColumnElement[bool]] = []
        if self.actor is not None:
            conditions.append(AuditEvent.actor == self.actor)
        if self.action is not None:
            of_kind = AuditEvent.action.startswith(f"{self.action}.", autoescape=True)
            conditions.append((AuditEvent.action == self.action) if "." in self.action else of_kind)
        if self.subject is not None:
            conditions.append(AuditEvent.subject == self.subject)
        if self.since is not None:
            conditions.append(AuditEvent.at >= self.since)
        if self.until is not None:
            conditions.append(AuditEvent.at < self.until)
        return conditions

    def as_json(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {
            name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items() if value
        }


def events_page(session: Session, query: AuditQuery, offset: int, limit: int) -> tuple[list[AuditEvent], int]:
    """The latest first, and how many there are on all pages."""
    conditions = query.conditions()
    total = session.scalar(select(func.count(AuditEvent.id)).where(*conditions)) or 0
    statement = select(AuditEvent).where(*conditions).order_by(AuditEvent.id.desc()).offset(offset).limit(limit)
    return list(session.scalars(statement)), total


def events(session: Session, query: AuditQuery, many: int = 2000) -> Iterator[AuditEvent]:
    """All of them, the earliest first, a part at a time."""
    after_id = 0
    while True:
        statement = select(AuditEvent).where(*query.conditions(), AuditEvent.id > after_id)
        found = list(session.scalars(statement.order_by(AuditEvent.id).limit(many)))
        yield from found
        if len(found) < many:
            return
        after_id = found[-1].id
        session.expunge_all()


def last_event(session: Session, action: str, subject: str) -> AuditEvent | None:
    return session.scalar(
        select(AuditEvent)
        .where(AuditEvent.subject == subject, AuditEvent.action == action)
        .order_by(AuditEvent.id.desc())
        .limit(1)
    )


def last_at(session: Session, actor: str, action: str, subject: str) -> datetime | None:
    """When the actor last did this to the subject."""
    return session.scalar(
        select(AuditEvent.at)
        .where(AuditEvent.subject == subject, AuditEvent.actor == actor, AuditEvent.action == action)
        .order_by(AuditEvent.id.desc())
        .limit(1)
    )


def actors(session: Session) -> list[str]:
    return different(session, AuditEvent.actor)


def actions(session: Session) -> list[str]:
    return different(session, AuditEvent.action)
