"""What an Orthanc announced, and what became of it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session

from db.exchange_tables import FetchState, OrthancInstance, OrthancSource

MOST_PARAMETERS = 5000  # of a statement; a study may have more instances


def source(session: Session, url: str) -> OrthancSource | None:
    """Locked until the end of the transaction where the database locks rows."""
    return session.scalar(
        select(OrthancSource)
        .where(OrthancSource.url == url)
        .with_for_update()
        .execution_options(populate_existing=True)
    )


def sources(session: Session) -> Sequence[OrthancSource]:
    return session.scalars(select(OrthancSource).order_by(OrthancSource.url)).all()


def instances(session: Session, source_id: int, names: Collection[str]) -> dict[str, OrthancInstance]:
    rows = session.scalars(
        select(OrthancInstance).where(OrthancInstance.source_fk == source_id, OrthancInstance.instance.in_(names))
    )
    return {row.instance: row for row in rows}


def make_ready(session: Session, source_id: int, names: Collection[str]) -> None:
    """Of these, those that wait."""
    ordered = sorted(names)
    for start in range(0, len(ordered), MOST_PARAMETERS):
        some = ordered[start : start + MOST_PARAMETERS]
        _make_ready(session, OrthancInstance.source_fk == source_id, OrthancInstance.instance.in_(some))


def make_ready_announced_before(session: Session, source_id: int, moment: datetime) -> None:
    _make_ready(session, OrthancInstance.source_fk == source_id, OrthancInstance.announced_at < moment)


def _make_ready(session: Session, *conditions: ColumnElement[bool]) -> None:
    session.execute(
        update(OrthancInstance)
        .where(*conditions, OrthancInstance.state == FetchState.WAITING)
        .values(state=FetchState.READY)
        .execution_options(synchronize_session=False)
    )


def ready(session: Session, source_id: int, now: datetime, limit: int) -> Sequence[OrthancInstance]:
    """Whose turn it is, the longest waiting first."""
    return session.scalars(
        select(OrthancInstance)
        .where(
            OrthancInstance.source_fk == source_id,
            OrthancInstance.state == FetchState.READY,
            OrthancInstance.try_at <= now,
        )
        .order_by(OrthancInstance.try_at, OrthancInstance.instance)
        .limit(limit)
    ).all()


def counts(session: Session, source_id: int) -> dict[FetchState, int]:
    rows = session.execute(
        select(OrthancInstance.state, func.count())
        .where(OrthancInstance.source_fk == source_id)
        .group_by(OrthancInstance.state)
    )
    return {FetchState(state): count for state, count in rows}


def failing(session: Session, source_id: int) -> int:
    """How many are to be fetched and could not be."""
    return (
        session.scalar(
            select(func.count())
            .select_from(OrthancInstance)
            .where(
                OrthancInstance.source_fk == source_id,
                OrthancInstance.state == FetchState.READY,
                OrthancInstance.failures > 0,
            )
        )
        or 0
    )
