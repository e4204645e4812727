"""Refused files."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from db.models import Quarantine, QuarantineState


def quarantined_file(session: Session, file_sha256: str, code: str, file_name: str) -> Quarantine | None:
    """Its row, locked until the end of the transaction where the database locks rows."""
    return session.scalar(
        select(Quarantine)
        .where(Quarantine.file_sha256 == file_sha256, Quarantine.code == code, Quarantine.file_name == file_name)
        .with_for_update()
        .execution_options(populate_existing=True)
    )


def quarantine_page(
    session: Session, states: Sequence[QuarantineState], search: str, offset: int, limit: int
) -> tuple[list[Quarantine], int]:
    """The latest first, and how many there are on all pages."""
    conditions = [Quarantine.state.in_(states)] if states else []
    if term := search.strip():
        conditions.append(
            or_(
                *(
                    column.icontains(term, autoescape=True)
                    for column in (Quarantine.file_name, Quarantine.code, Quarantine.reason, Quarantine.file_sha256)
                )
            )
        )
    total = session.scalar(select(func.count(Quarantine.id)).where(*conditions)) or 0
    query = (
        select(Quarantine)
        .where(*conditions)
        .order_by(Quarantine.received_at.desc(), Quarantine.id.desc())
        .offset(offset)
        .limit(limit)
    )
    return list(session.scalars(query)), total


def count_open(session: Session) -> int:
    return session.scalar(select(func.count(Quarantine.id)).where(Quarantine.state == QuarantineState.OPEN)) or 0
