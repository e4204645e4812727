"""What runs between the hospital's systems and us."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from db.exchange_tables import Channel, ExchangeLoop, ExchangeRefusal, ExchangeSender


def loops(session: Session) -> Sequence[ExchangeLoop]:
    return session.scalars(select(ExchangeLoop).order_by(ExchangeLoop.name)).all()


def senders(session: Session) -> Sequence[ExchangeSender]:
    """The latest first."""
    return session.scalars(select(ExchangeSender).order_by(ExchangeSender.last_at.desc(), ExchangeSender.id)).all()


def sender(session: Session, channel: Channel, name: str) -> ExchangeSender | None:
    return session.scalar(
        select(ExchangeSender)
        .where(ExchangeSender.channel == channel, ExchangeSender.name == name)
        .with_for_update()
        .execution_options(populate_existing=True)
    )


def refusals(session: Session, limit: int, *, in_part: bool) -> Sequence[ExchangeRefusal]:
    """The latest first."""
    query = select(ExchangeRefusal).order_by(ExchangeRefusal.last_at.desc(), ExchangeRefusal.id.desc())
    if not in_part:
        query = query.where(ExchangeRefusal.code.not_like(r"%\_in\_part", escape="\\"))
    return session.scalars(query.limit(limit)).all()


def refusal(session: Session, channel: Channel, sender: str, address: str, code: str) -> ExchangeRefusal | None:
    return session.scalar(
        select(ExchangeRefusal)
        .where(
            ExchangeRefusal.channel == channel,
            ExchangeRefusal.sender == sender,
            ExchangeRefusal.address == address,
            ExchangeRefusal.code == code,
        )
        .with_for_update()
        .execution_options(populate_existing=True)
    )


def forget_old_refusals(session: Session, keep: int) -> None:
    """All but the `keep` latest rows."""
    kept = select(ExchangeRefusal.id).order_by(ExchangeRefusal.last_at.desc(), ExchangeRefusal.id.desc()).limit(keep)
    session.execute(delete(ExchangeRefusal).where(ExchangeRefusal.id.not_in(kept.scalar_subquery())))
