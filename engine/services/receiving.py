"""What comes in from a hospital's systems, and by whom: what the loops of `pediscreen exchange` record, and what the
page for IT shows. The films themselves come in through engine.services.ingest."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy.orm import Session

from db.exchange_tables import Channel, ExchangeLoop, ExchangeRefusal, ExchangeSender
from db.models import Role
from db.repositories import exchange as repository
from db.session import writing
from db.types import utc_now
from engine.services.accounts import Actor, require
from engine.settings import Settings

LOOP_SILENT_AFTER = timedelta(seconds=60)
MOST_REFUSALS = 500  # rows; each counts how often
LONGEST_REASON = 500

Outcome = Literal["accepted", "duplicate", "quarantined", "failed"]


@dataclass(frozen=True)
class LoopRow:
    """`silent`: it should be running and nothing was heard of it for a minute; `failing`: it goes on trying."""

    name: str
    state: Literal["running", "failing", "silent", "stopped"]
    started_at: datetime
    heard_at: datetime
    last_success_at: datetime | None
    last_error: str | None
    last_error_at: datetime | None
    failures: int


@dataclass(frozen=True)
class SenderRow:
    channel: Channel
    name: str
    address: str | None
    first_at: datetime
    last_at: datetime
    accepted: int
    duplicates: int
    quarantined: int
    failed: int


@dataclass(frozen=True)
class RefusalRow:
    channel: Channel
    sender: str
    address: str
    code: str
    reason: str
    times: int
    first_at: datetime
    last_at: datetime


@dataclass
class Counts:
    """What one sender sent since it was last written down."""

    address: str | None = None
    accepted: int = 0
    duplicates: int = 0
    quarantined: int = 0
    failed: int = 0

    def add(self, outcome: Outcome, times: int = 1) -> None:
        field_name = "duplicates" if outcome == "duplicate" else outcome
        setattr(self, field_name, getattr(self, field_name) + times)


@dataclass(frozen=True)
class RefusalKey:
    channel: Channel
    sender: str
    address: str
    code: str


@dataclass
class Tally:
    """What was seen at the doors and is not in the database yet."""

    senders: dict[tuple[Channel, str], Counts] = field(default_factory=dict)
    refusals: dict[RefusalKey, tuple[int, str]] = field(default_factory=dict)  # times, the latest reason

    def plus(self, later: Tally) -> Tally:
        for key, counts in later.senders.items():
            here = self.senders.setdefault(key, Counts())
            here.address = counts.address or here.address
            for name in ("accepted", "duplicates", "quarantined", "failed"):
                setattr(here, name, getattr(here, name) + getattr(counts, name))
        for refusal, (times, reason) in later.refusals.items():
            self.refusals[refusal] = self.refusals.get(refusal, (0, ""))[0] + times, reason
        return self


def loops(session: Session, actor: Actor) -> list[LoopRow]:
    """Every loop that ever ran here. Admins only."""
    require(actor)
    return [_loop_row(row) for row in repository.loops(session)]


def senders(session: Session, actor: Actor) -> list[SenderRow]:
    """Who has sent, by which way and how much, the latest first. Admins only."""
    require(actor)
    return [
        SenderRow(
            Channel(row.channel),
            row.name,
            row.address,
            row.first_at,
            row.last_at,
            row.accepted,
            row.duplicates,
            row.quarantined,
            row.failed,
        )
        for row in repository.senders(session)
    ]


def refusals(session: Session, actor: Actor, limit: int = 100, *, in_part: bool = False) -> list[RefusalRow]:
    """Who was turned away and why, the latest first. With `in_part` also those who were let in and asked for more than
    there is: many senders always ask for all they know. Admins only."""
    require(actor)
    return [
        RefusalRow(
            Channel(row.channel),
            row.sender,
            row.address,
            row.code,
            row.reason,
            row.times,
            row.first_at,
            row.last_at,
        )
        for row in repository.refusals(session, limit, in_part=in_part)
    ]


def where(here: Settings, loop: str) -> str:
    """What a loop is configured for, in words; "" where that is nothing."""
    if loop == "storage_scp" and here.storage_scp is not None:
        scp = here.storage_scp
        tls = ", TLS" if scp.certificate else ""
        return f"{scp.ae_title} at {scp.host}:{scp.port}{tls}, for {scp.senders or 'nobody'}"
    if loop == "orthanc" and here.orthanc is not None:
        return here.orthanc.url
    if loop == "watched_folder" and here.watched_folder is not None:
        return str(here.watched_folder)
    return ""


def only_loops(session: Session, actor: Actor, names: Collection[str]) -> None:
    """Forget loops that are no longer configured. Commits."""
    require(actor, Role.SERVICE)
    with writing(session):
        for row in repository.loops(session):
            if row.name not in names:
                session.delete(row)


def loop_started(session: Session, actor: Actor, name: str) -> None:
    """Commits, as the three below do."""
    require(actor, Role.SERVICE)
    with writing(session):
        row = _loop(session, name)
        row.started_at = row.heard_at = utc_now()
        row.stopped_at = None


def loop_heard(session: Session, actor: Actor, name: str, *, did_work: bool) -> None:
    """It is alive; with `did_work` it also reached what it talks to, and an earlier error is over."""
    require(actor, Role.SERVICE)
    with writing(session):
        row = _loop(session, name)
        row.heard_at = utc_now()
        if did_work:
            row.last_success_at, row.failures = row.heard_at, 0


def loop_failed(session: Session, actor: Actor, name: str, error: str) -> None:
    require(actor, Role.SERVICE)
    with writing(session):
        row = _loop(session, name)
        row.heard_at = row.last_error_at = utc_now()
        row.last_error = plain(error, LONGEST_REASON)
        row.failures += 1


def loop_stopped(session: Session, actor: Actor, name: str) -> None:
    require(actor, Role.SERVICE)
    with writing(session):
        row = _loop(session, name)
        row.heard_at = row.stopped_at = utc_now()


def write_tally(session: Session, actor: Actor, tally: Tally) -> None:
    """Add what was seen at the doors to what is known of it. Commits."""
    require(actor, Role.SERVICE)
    if not tally.senders and not tally.refusals:
        return
    now = utc_now()
    with writing(session):
        for (channel, name), counts in tally.senders.items():
            row = repository.sender(session, channel, name)
            if row is None:
                row = ExchangeSender(
                    channel=channel, name=name, accepted=0, duplicates=0, quarantined=0, failed=0, first_at=now
                )
                session.add(row)
            row.address, row.last_at = counts.address or row.address, now
            row.accepted += counts.accepted
            row.duplicates += counts.duplicates
            row.quarantined += counts.quarantined
            row.failed += counts.failed
        for key, (times, reason) in tally.refusals.items():
            refused = repository.refusal(session, key.channel, key.sender, key.address, key.code)
            if refused is None:
                refused = ExchangeRefusal(
                    channel=key.channel,
                    sender=key.sender,
                    address=key.address,
                    code=key.code,
                    times=0,
                    first_at=now,
                    reason=reason,
                )
                session.add(refused)
            refused.times += times
            refused.reason, refused.last_at = reason, now
        session.flush()
        if tally.refusals:
            repository.forget_old_refusals(session, MOST_REFUSALS)


def plain(text: str, longest: int) -> str:
    """What a stranger sent, fit for a page: printable characters only, at most `longest`."""
    return "".join(character if character.isprintable() else "?" for character in text)[:longest]


def _loop(session: Session, name: str) -> ExchangeLoop:
    row = session.get(ExchangeLoop, name, with_for_update=True, populate_existing=True)
    if row is None:
        row = ExchangeLoop(name=name, failures=0)
        session.add(row)
    return row


def _loop_row(row: ExchangeLoop) -> LoopRow:
    if row.stopped_at is not None:
        state = "stopped"
    elif utc_now() - row.heard_at > LOOP_SILENT_AFTER:
        state = "silent"
    else:
        state = "failing" if row.failures else "running"
    return LoopRow(
        name=row.name,
        state=state,
        started_at=row.started_at,
        heard_at=row.heard_at,
        last_success_at=row.last_success_at,
        last_error=row.last_error,
        last_error_at=row.last_error_at,
        failures=row.failures,
    )
