"""The tables of what goes out: where to, and how far each version of a study's report has come.

study ── delivery ── sending_destination"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from db.models import Base
from db.types import enum_by_value, utc_now


class DeliveryKind(StrEnum):
    """`withdrawal`: a report that was sent, or may have arrived, is taken back."""

    REPORT = "report"
    WITHDRAWAL = "withdrawal"


class DeliveryState(StrEnum):
    """`failed`: not this time, and tried again. `refused`: the receiver will not have it as it is, and somebody has to
    look. `overtaken`: a later version, or a reader who took the decision back, came before it was acknowledged."""

    WAITING = "waiting"
    SENDING = "sending"
    SENT = "sent"
    FAILED = "failed"
    REFUSED = "refused"
    GIVEN_UP = "given_up"
    OVERTAKEN = "overtaken"


class SendingDestination(Base):
    """A destination of the settings, from the first time it was seen there. What was signed before that is not sent by
    itself: an archive that is connected today does not want the past years at once. While it cannot be reached nothing
    is tried before `paused_until`, and `reason` says why not."""

    __tablename__ = "sending_destination"

    name: Mapped[str] = mapped_column(String(24), primary_key=True)
    sends_from: Mapped[datetime] = mapped_column(default=utc_now)
    reached_at: Mapped[datetime | None]  # the last answer that it gave
    failures: Mapped[int] = mapped_column(default=0)  # in a row
    failing_since: Mapped[datetime | None]
    paused_until: Mapped[datetime | None]
    reason: Mapped[str | None] = mapped_column(Text)


class Delivery(Base):
    """One version of a study's report on its way to one destination, `version` 1, 2, ...; `through_review_id` is the
    latest decision that it takes in. Until it is tried it follows what the readers do; from then on it stays, and what
    they do is a version of its own."""

    __tablename__ = "delivery"
    __table_args__ = (
        UniqueConstraint("study_fk", "destination", "version"),
        Index("ix_delivery_destination_state_due_at", "destination", "state", "due_at"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    study_fk: Mapped[int] = mapped_column(ForeignKey("study.id"), index=True)
    destination: Mapped[str] = mapped_column(ForeignKey("sending_destination.name"))
    version: Mapped[int]
    kind: Mapped[DeliveryKind] = mapped_column(enum_by_value(DeliveryKind))
    revision: Mapped[int | None]  # of the study as issued (engine.services.signed_studies); NULL before it was tried
    through_review_id: Mapped[int] = mapped_column(ForeignKey("review.id"), index=True)
    state: Mapped[DeliveryState] = mapped_column(enum_by_value(DeliveryState), default=DeliveryState.WAITING)
    due_at: Mapped[datetime]  # not before; of one that is being sent: when its sender counts as lost
    sender: Mapped[str | None] = mapped_column(String(64))  # the process that has it in hand
    attempts: Mapped[int] = mapped_column(default=0)
    may_have_arrived: Mapped[bool] = mapped_column(default=False)  # it was handed over, acknowledged or not
    reason: Mapped[str | None] = mapped_column(Text)  # of the last failure, in words, without anything identifying
    receipt: Mapped[str | None] = mapped_column(Text)  # who acknowledged it, and how
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    tried_at: Mapped[datetime | None]
    sent_at: Mapped[datetime | None]
