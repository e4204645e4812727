"""What has been sent and what has not, for people: the hospital's IT, and the reader who signed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from db.models import Study
from db.repositories import sending as repository
from db.sending_tables import Delivery, DeliveryKind, DeliveryState, SendingDestination
from db.session import writing
from db.types import utc_now
from engine.errors import Conflict, NotFound
from engine.interop.destinations import Destination, Kind
from engine.services import audit, blind_reading
from engine.services.accounts import READERS, Actor, require
from engine.settings import settings


@dataclass(frozen=True)
class DestinationRow:
    """`is_configured`: it stands in the settings; what waits for one that does not goes on when it is back. `problem`:
    why it cannot be used as it is configured. `paused_until`, `failing_since`, `reason`: while it cannot be reached."""

    name: str
    kind: Kind | None
    where: str
    is_configured: bool
    problem: str | None
    sends_from: datetime | None
    waiting: int
    refused: int
    sent: int
    last_sent_at: datetime | None
    failing_since: datetime | None
    paused_until: datetime | None
    reason: str | None


@dataclass(frozen=True)
class ReportRow:
    """One version of a study's report on its way to one destination. `at`: what happened last. `is_latest`: no later
    version is on its way there, so that it may be sent again."""

    delivery_id: int
    study_id: int
    pseudonym: str
    accession_number: str | None
    destination: str
    version: int
    is_withdrawal: bool
    state: DeliveryState
    reason: str | None
    receipt: str | None
    attempts: int
    at: datetime
    due_at: datetime
    is_latest: bool


@dataclass(frozen=True)
class ReportPage:
    rows: list[ReportRow]
    total: int


@dataclass(frozen=True)
class ReportState:
    """Where a study's report stands towards one destination, for its readers."""

    destination: str
    is_withdrawal: bool
    is_correction: bool
    state: DeliveryState
    reason: str | None
    sent_at: datetime | None
    due_at: datetime


def destinations(session: Session, actor: Actor) -> list[DestinationRow]:
    """Those of the settings, and those that were there once. Admins only."""
    require(actor)
    known = {one.name: one for one in repository.destinations(session)}
    configured = {one.name: one for one in settings().destinations}
    counts, last_sent = repository.counts(session), repository.last_sent(session)
    return [
        _destination_row(name, configured.get(name), known.get(name), counts.get(name, {}), last_sent.get(name))
        for name in sorted({*known, *configured})
    ]


def _destination_row(
    name: str,
    here: Destination | None,
    known: SendingDestination | None,
    counts: dict[DeliveryState, int],
    last_sent_at: datetime | None,
) -> DestinationRow:
    return DestinationRow(
        name=name,
        kind=here.kind if here else None,
        where=here.where if here and here.problem is None else "",
        is_configured=here is not None,
        problem=here.problem if here else None,
        sends_from=known.sends_from if known else None,
        waiting=sum(counts.get(state, 0) for state in repository.OPEN),
        refused=counts.get(DeliveryState.REFUSED, 0),
        sent=counts.get(DeliveryState.SENT, 0),
        last_sent_at=last_sent_at,
        failing_since=known.failing_since if known else None,
        paused_until=known.paused_until if known else None,
        reason=known.reason if known else None,
    )


def reports_page(
    session: Session,
    actor: Actor,
    page: int = 1,
    page_size: int = 20,
    search: str = "",
    states: tuple[DeliveryState, ...] = tuple(DeliveryState),
) -> ReportPage:
    """One page, counted from 1, what happened last first. `search` looks in accession number, pseudonym and study.
    Admins only."""
    require(actor)
    found, total = repository.deliveries_page(session, states, search, (page - 1) * page_size, page_size)
    latest = repository.latest_versions(session, [delivery.study_fk for delivery, _, _ in found])
    return ReportPage([_report_row(*one, latest) for one in found], total)


def _report_row(delivery: Delivery, study: Study, pseudonym: str, latest: dict[tuple[int, str], int]) -> ReportRow:
    return ReportRow(
        delivery_id=delivery.id,
        study_id=study.id,
        pseudonym=pseudonym,
        accession_number=study.accession_number,
        destination=delivery.destination,
        version=delivery.version,
        is_withdrawal=delivery.kind == DeliveryKind.WITHDRAWAL,
        state=DeliveryState(delivery.state),
        reason=delivery.reason,
        receipt=delivery.receipt,
        attempts=delivery.attempts,
        at=delivery.sent_at or delivery.tried_at or delivery.created_at,
        due_at=delivery.due_at,
        is_latest=latest[delivery.study_fk, delivery.destination] == delivery.version,
    )


def send_again(session: Session, actor: Actor, delivery_id: int) -> None:
    """At once, whatever became of it before. A receiver that has it already keeps one. Commits. Admins only.

    Raises NotFound, Conflict where a later version is on its way, or it is being sent at this moment."""
    require(actor)
    with writing(session):
        delivery = _locked(session, delivery_id)
        if repository.deliveries_of_study(session, delivery.study_fk, delivery.destination)[0] is not delivery:
            raise Conflict("a later version of this report has been made: send that one")
        if delivery.state == DeliveryState.OVERTAKEN:
            raise Conflict("what was decided changed before it was sent: there is nothing to send")
        _again(session, actor, delivery)


def send_all_again(session: Session, actor: Actor, destination: str) -> int:
    """Everything that failed or was refused there, at once; returns how many. Commits. Admins only."""
    require(actor)
    with writing(session):
        found = repository.unsettled(session, destination, (DeliveryState.FAILED, DeliveryState.REFUSED))
        for delivery in found:
            _again(session, actor, delivery)
        return len(found)


def _again(session: Session, actor: Actor, delivery: Delivery) -> None:
    if delivery.state == DeliveryState.SENDING:
        raise Conflict("it is being sent at this moment")
    known = repository.locked_destination(session, delivery.destination)
    assert known is not None
    known.paused_until = None
    delivery.state, delivery.due_at = DeliveryState.WAITING, utc_now()
    detail = {"destination": delivery.destination, "version": delivery.version}
    audit.record(session, actor, "report.sent_again", f"study:{delivery.study_fk}", detail)


def give_up(session: Session, actor: Actor, delivery_id: int) -> None:
    """Somebody has dealt with it by other means, or the destination is gone for good: it is not sent, and no longer
    counted. Commits. Admins only. Raises NotFound, Conflict where there is nothing to let go."""
    require(actor)
    with writing(session):
        delivery = _locked(session, delivery_id)
        if delivery.state not in (DeliveryState.WAITING, DeliveryState.FAILED, DeliveryState.REFUSED):
            raise Conflict("it is on its way, or done with: there is nothing to let go")
        delivery.state = DeliveryState.GIVEN_UP
        detail = {"destination": delivery.destination, "version": delivery.version}
        audit.record(session, actor, "report.given_up", f"study:{delivery.study_fk}", detail)


def _locked(session: Session, delivery_id: int) -> Delivery:
    delivery = repository.locked_delivery(session, delivery_id)
    if delivery is None:
        raise NotFound(f"there is no report on its way with the number {delivery_id}")
    return delivery


def reports_of_study(session: Session, actor: Actor, study_id: int) -> list[ReportState]:
    """The latest version towards every destination. Nothing to whoever must not know that the case is decided: a report
    that left would say so."""
    require(actor, *READERS)
    if blind_reading.is_blind_to(session, actor, study_id):
        return []
    latest: dict[str, Delivery] = {}
    for delivery in repository.deliveries_of_study(session, study_id):
        latest.setdefault(delivery.destination, delivery)
    return [
        ReportState(
            destination=name,
            is_withdrawal=delivery.kind == DeliveryKind.WITHDRAWAL,
            is_correction=delivery.version > 1,
            state=DeliveryState(delivery.state),
            reason=delivery.reason,
            sent_at=delivery.sent_at,
            due_at=delivery.due_at,
        )
        for name, delivery in sorted(latest.items())
    ]
