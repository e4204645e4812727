"""The tables of the worklist as work shared among readers: who has a case open, whose it is, what they tell each other,
which filters they keep, and what they have typed and not yet decided.

    study ─┬─ claim (one, with an end) · assignment (one)
           └─ hand_over_note            image ── draft ── user_account ── saved_filter"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from db.models import Base, UserAccount
from db.types import utc_now


class Claim(Base):
    """Who has a study open for review. One row a study, replaced when another reader takes it; one whose end has
    passed counts as none."""

    __tablename__ = "claim"

    study_fk: Mapped[int] = mapped_column(ForeignKey("study.id"), primary_key=True, autoincrement=False)
    reader_fk: Mapped[int] = mapped_column(ForeignKey("user_account.id"), index=True)
    taken_at: Mapped[datetime]
    ends_at: Mapped[datetime]

    reader: Mapped[UserAccount] = relationship(lazy="raise")


class Assignment(Base):
    """Whose case it is, whoever looks at it. Others are not led to it; they may open it."""

    __tablename__ = "assignment"

    study_fk: Mapped[int] = mapped_column(ForeignKey("study.id"), primary_key=True, autoincrement=False)
    reader_fk: Mapped[int] = mapped_column(ForeignKey("user_account.id"), index=True)
    assigned_by: Mapped[str] = mapped_column(String(64))  # username
    assigned_at: Mapped[datetime] = mapped_column(default=utc_now)

    reader: Mapped[UserAccount] = relationship(lazy="raise")


class HandOverNote(Base):
    """What a reader leaves for the next one, about a case or (`study_fk` NULL) about the whole list. It is only ever
    settled, never changed."""

    __tablename__ = "hand_over_note"

    id: Mapped[int] = mapped_column(primary_key=True)
    study_fk: Mapped[int | None] = mapped_column(ForeignKey("study.id"), index=True)
    author_fk: Mapped[int] = mapped_column(ForeignKey("user_account.id"))
    text: Mapped[str] = mapped_column(Text)  # identifying: free text may name a child
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
    settled_by: Mapped[str | None] = mapped_column(String(64))  # username
    settled_at: Mapped[datetime | None] = mapped_column(index=True)

    author: Mapped[UserAccount] = relationship(lazy="raise")


class SavedFilter(Base):
    """A choice of cases and their order, by a name of its owner's. `is_shared`: everybody may choose it."""

    __tablename__ = "saved_filter"
    __table_args__ = (UniqueConstraint("owner_fk", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    owner_fk: Mapped[int] = mapped_column(ForeignKey("user_account.id"))
    name: Mapped[str] = mapped_column(String(60))
    filter: Mapped[dict[str, Any]]  # engine.services.saved_filters.to_json
    is_shared: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)

    owner: Mapped[UserAccount] = relationship(lazy="raise")


class Draft(Base):
    """What a reader has entered about an image and not decided: a claim that ran out, a lost connection or a closed
    browser does not lose it. Gone once they decide."""

    __tablename__ = "draft"

    image_fk: Mapped[int] = mapped_column(ForeignKey("image.id"), primary_key=True, autoincrement=False)
    reader_fk: Mapped[int] = mapped_column(ForeignKey("user_account.id"), primary_key=True, autoincrement=False)
    fields: Mapped[dict[str, Any]]  # identifying: a comment may name a child
    kept_at: Mapped[datetime] = mapped_column(default=utc_now)
