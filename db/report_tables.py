"""What has left of a study as documents (engine.services.signed_studies). Only ever added to."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from db.models import Base
from db.types import utc_now


class IssuedReport(Base):
    """One revision of what is said of a study outside. A new one is issued only where something else is said, so that
    sending again sends the same; its uniqueness lets one of two simultaneous senders issue it."""

    __tablename__ = "issued_report"
    __table_args__ = (UniqueConstraint("study_fk", "revision"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    study_fk: Mapped[int] = mapped_column(ForeignKey("study.id"), index=True)
    revision: Mapped[int]
    said_sha256: Mapped[str] = mapped_column(String(64))  # of everything that the documents say
    reviews: Mapped[dict[str, Any]]  # image id -> the revision of its review
    is_withdrawal: Mapped[bool]
    software: Mapped[str] = mapped_column(String(64))  # that said it first
    issued_at: Mapped[datetime] = mapped_column(default=utc_now)
    issued_by: Mapped[str] = mapped_column(String(64))  # username
