"""Audit events."""

from __future__ import annotations

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.models import AuditEvent


def events_page(session: Session, subject: str | None, offset: int, limit: int) -> tuple[list[AuditEvent], int]:
    """The latest first, and how many there are on all pages."""
    conditions = [AuditEvent.subject == subject] if subject else []
    total = session.scalar(select(func.count(AuditEvent.id)).where(*conditions)) or 0
    query = select(AuditEvent).where(*conditions).order_by(AuditEvent.id.desc()).offset(offset).limit(limit)
    return list(session.scalars(query)), total
