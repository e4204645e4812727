"""The tables of what runs between the hospital's systems and us: which loops are alive, who sends, and who was turned
away at the door. What became of each film is said by the film's own row, or by its row in quarantine."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from sqlalchemy import BigInteger, ForeignKey, Index, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from db.models import Base
from db.types import enum_by_value, utc_now


class Channel(StrEnum):
    """The way by which films come in."""

    STORAGE_SCP = "storage_scp"
    ORTHANC = "orthanc"
    STOW = "stow"
    WATCHED_FOLDER = "watched_folder"


class ExchangeLoop(Base):
    """One loop of `pediscreen exchange`, by its name. `heard_at` says that it is alive, `last_error` what kept it from
    its work; the error stands until the loop succeeds again (`failures` is then 0)."""

    __tablename__ = "exchange_loop"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    started_at: Mapped[datetime] = mapped_column(default=utc_now)
    heard_at: Mapped[datetime] = mapped_column(default=utc_now)
    stopped_at: Mapped[datetime | None]  # an orderly end
    last_success_at: Mapped[datetime | None]
    last_error: Mapped[str | None] = mapped_column(Text)
    last_error_at: Mapped[datetime | None]
    failures: Mapped[int] = mapped_column(default=0)  # in a row


class ExchangeSender(Base):
    """Who sends by which way, and how much. The counts are written every few seconds and may lag behind after a crash;
    what was received is counted exactly by the films and the rows in quarantine."""

    __tablename__ = "exchange_sender"
    __table_args__ = (UniqueConstraint("channel", "name"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    channel: Mapped[Channel] = mapped_column(enum_by_value(Channel))
    name: Mapped[str] = mapped_column(String(64))  # AE title, user name, folder
    address: Mapped[str | None] = mapped_column(String(64))  # the latest
    first_at: Mapped[datetime] = mapped_column(default=utc_now)
    last_at: Mapped[datetime] = mapped_column(default=utc_now)
    accepted: Mapped[int] = mapped_column(default=0)
    duplicates: Mapped[int] = mapped_column(default=0)
    quarantined: Mapped[int] = mapped_column(default=0)
    failed: Mapped[int] = mapped_column(default=0)  # answered with a failure for the sender to try again


class ExchangeRefusal(Base):
    """What was turned away before there was a file to keep: an association, an unknown SOP class, an address without
    rights. Counted on one row a sender and reason, so that a flood adds no rows."""

    __tablename__ = "exchange_refusal"
    __table_args__ = (UniqueConstraint("channel", "sender", "address", "code"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    channel: Mapped[Channel] = mapped_column(enum_by_value(Channel))
    sender: Mapped[str] = mapped_column(String(64))  # as it called itself
    address: Mapped[str] = mapped_column(String(64))
    code: Mapped[str] = mapped_column(String(64))
    reason: Mapped[str] = mapped_column(Text)  # of the latest
    times: Mapped[int] = mapped_column(default=0)
    first_at: Mapped[datetime] = mapped_column(default=utc_now)
    last_at: Mapped[datetime] = mapped_column(default=utc_now, index=True)


class FetchState(StrEnum):
    """`waiting`: Orthanc has it, and more of its study may be on the way. `ready`: to be fetched. `done`: taken in, or
    in quarantine. `other`: no kind of image that is read here; it stays in Orthanc. `gone`: deleted there before it
    was fetched."""

    WAITING = "waiting"
    READY = "ready"
    DONE = "done"
    OTHER = "other"
    GONE = "gone"


class OrthancSource(Base):
    """An Orthanc that is followed, and how far. `last_change` names the change at `last_seq`: where Orthanc no longer
    has it there, its database is another one, and everything is gone through again."""

    __tablename__ = "orthanc_source"

    id: Mapped[int] = mapped_column(primary_key=True)
    url: Mapped[str] = mapped_column(String(255), unique=True)
    last_seq: Mapped[int] = mapped_column(BigInteger, default=0)
    last_change: Mapped[str | None] = mapped_column(String(128))


class OrthancInstance(Base):
    """One instance that an Orthanc announced. Written in the transaction that moves the cursor on, so that none is
    lost, and closed when it was taken in, so that none is fetched twice."""

    __tablename__ = "orthanc_instance"
    __table_args__ = (
        Index("ix_orthanc_instance_source_fk_state", "source_fk", "state", "try_at"),
        {"sqlite_with_rowid": False},
    )

    source_fk: Mapped[int] = mapped_column(ForeignKey("orthanc_source.id"), primary_key=True)
    instance: Mapped[str] = mapped_column(String(64), primary_key=True)  # Orthanc's identifier, a hash
    change: Mapped[str] = mapped_column(String(128))  # the announcement; a new one means new content
    state: Mapped[FetchState] = mapped_column(enum_by_value(FetchState), default=FetchState.WAITING)
    announced_at: Mapped[datetime] = mapped_column(default=utc_now)
    try_at: Mapped[datetime] = mapped_column(default=utc_now)
    failures: Mapped[int] = mapped_column(default=0)
    done_at: Mapped[datetime | None]
