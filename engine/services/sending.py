"""What has to leave of signed studies, and how far it has come: the sending loop's side (engine.jobs.sending).

Nothing in the review path knows of it: what the readers decided is compared with what has been sent, again and again,
and all there is to know is in the database. A process that dies at any line is followed by one that goes on.

A report waits until its case has been quiet for a while, as readers can undo. Until it is tried, its row follows what
the readers do; from then on it may have arrived, and what they do is a version of its own: a correction that names the
one before, or a withdrawal (engine.services.signed_studies.issue)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from db.models import Role, StudyStatus
from db.repositories import sending as repository
from db.repositories.studies import study_with_images
from db.sending_tables import Delivery, DeliveryKind, DeliveryState, SendingDestination
from db.session import writing
from db.types import utc_now
from engine.errors import DocumentRefused
from engine.interop.destinations import Destination
from engine.interop.signed_study import SignedStudy
from engine.services import audit, signed_studies
from engine.services.accounts import Actor, require

LOST_AFTER = timedelta(minutes=10)  # longer than any attempt can take (engine.interop.sending has the time limits)
FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=15), timedelta(minutes=15)
LONGEST_REASON = 500
PENDING = ("undecided", "second_read_pending", "adjudication_pending")  # of DocumentRefused: somebody is at it
DECIDED = (StudyStatus.REVIEWED, StudyStatus.REJECTED)


@dataclass(frozen=True)
class InHand:
    """A delivery that the caller now sends, and nobody else."""

    delivery_id: int
    study_id: int
    through_review_id: int
    had_arrived: bool  # perhaps, at an earlier attempt


# ---------------------------------------------------------------- what has to be sent


def note_signed(
    session: Session,
    actor: Actor,
    destinations: Sequence[Destination],
    quiet_s: float,
    now: datetime | None = None,
    *,
    after_review_id: int = 0,
) -> int:
    """Bring the deliveries up to what the readers have decided; returns of how many something changed. Commits.

    `after_review_id`: a quick look at the decisions made since that one alone. It does not see cases that a second
    reader or an adjudicator has freed, nor, on PostgreSQL, a decision that was committed after a later one."""
    require(actor, Role.SERVICE)
    now = now or utc_now()
    changed = 0
    for destination in destinations:
        known = _known(session, destination, now)
        undelivered = repository.undelivered_studies(
            session, known, of_dicom_only=destination.takes_dicom, after_review_id=after_review_id
        )
        for study_id in undelivered:
            why_not = signed_studies.why_not_signed(session, actor, study_id)
            with writing(session):
                changed += _follow(session, study_id, destination.name, why_not is None, timedelta(seconds=quiet_s))
    return changed


def last_review_id(session: Session, actor: Actor) -> int:
    """Of the decisions made so far."""
    require(actor, Role.SERVICE)
    return repository.last_review_id(session)


def _known(session: Session, destination: Destination, now: datetime) -> SendingDestination:
    known = session.get(SendingDestination, destination.name)
    if known is None:
        with writing(session):
            known = SendingDestination(name=destination.name, sends_from=now)
            session.add(known)
    return known


def _follow(session: Session, study_id: int, destination: str, may_leave: bool, quiet: timedelta) -> bool:
    """Make the study's latest delivery say what was decided. Part of the caller's transaction."""
    repository.lock_study(session, study_id)
    latest = repository.latest_decision(session, study_id)
    study = study_with_images(session, study_id)
    if latest is None or study is None:
        return False
    review_id, decided_at = latest
    is_decided = study.status in DECIDED
    if is_decided and not may_leave:
        return False  # a second reader or an adjudicator is at turn
    before = repository.deliveries_of_study(session, study_id, destination)
    last = before[0] if before else None
    if last is not None and last.through_review_id >= review_id:
        return False
    arrived = next((one for one in before if one.may_have_arrived), None)
    is_withdrawal = may_leave and not is_decided and arrived is not None and arrived.kind == DeliveryKind.REPORT
    if not is_decided and not is_withdrawal:
        return last is not None and _nothing_to_send(last, review_id)
    untried = last is not None and last.state == DeliveryState.WAITING and not last.attempts
    if last is not None and not untried and last.state in (*repository.OPEN, DeliveryState.REFUSED):
        last.state = DeliveryState.OVERTAKEN
    if last is None or not untried:
        version = last.version + 1 if last else 1
        last = Delivery(study_fk=study_id, destination=destination, version=version, may_have_arrived=False)
        session.add(last)
    last.kind = DeliveryKind.WITHDRAWAL if is_withdrawal else DeliveryKind.REPORT
    last.through_review_id, last.due_at = review_id, decided_at + quiet
    last.state, last.reason = DeliveryState.WAITING, None
    return True


def _nothing_to_send(last: Delivery, review_id: int) -> bool:
    """The decision was taken back, or an image awaits one, before anything of this version left."""
    last.through_review_id = review_id
    if last.state in (*repository.OPEN, DeliveryState.REFUSED):
        last.state, last.reason = DeliveryState.OVERTAKEN, "what was decided changed before it was sent"
    return True


# ---------------------------------------------------------------- sending


def release(session: Session, actor: Actor, destination: Destination, sender: str) -> None:
    """What `sender` had in hand there when it died is tried again at once. Commits."""
    require(actor, Role.SERVICE)
    with writing(session):
        for delivery in repository.in_hand_of(session, destination.name, sender):
            delivery.state, delivery.due_at, delivery.sender = DeliveryState.FAILED, utc_now(), None
            delivery.reason = "the sending process ended while it was at it"


def take_in_hand(
    session: Session, actor: Actor, destination: Destination, sender: str, now: datetime | None = None
) -> InHand | None:
    """The next delivery that is due there, or None. Whatever becomes of the caller, it is tried again. Commits."""
    require(actor, Role.SERVICE)
    now = now or utc_now()
    with writing(session):
        known = repository.locked_destination(session, destination.name)
        if known is None or (known.paused_until is not None and known.paused_until > now):
            return None
        delivery = repository.next_due(session, destination.name, now)
        if delivery is None:
            return None
        delivery.state, delivery.sender, delivery.tried_at = DeliveryState.SENDING, sender, now
        delivery.due_at, delivery.attempts = now + LOST_AFTER, delivery.attempts + 1
        return InHand(delivery.id, delivery.study_fk, delivery.through_review_id, delivery.may_have_arrived)


def issue(
    session: Session, actor: Actor, in_hand: InHand, quiet_s: float, now: datetime | None = None
) -> SignedStudy | None:
    """What is to be sent; None where it has to wait after all, as somebody decides about the study at this moment.
    Commits. Raises DocumentRefused where there can be no report of it."""
    require(actor, Role.SERVICE)
    later = (now or utc_now()) + timedelta(seconds=quiet_s)
    pending = None
    try:
        signed = signed_studies.issue(session, actor, in_hand.study_id)
    except DocumentRefused as refusal:
        if refusal.code not in PENDING:
            raise
        pending = refusal
    with writing(session):
        delivery = repository.locked_delivery(session, in_hand.delivery_id)
        assert delivery is not None
        if delivery.state != DeliveryState.SENDING:  # overtaken
            return None
        if pending is not None or not _is_current(session, delivery):
            delivery.state, delivery.due_at, delivery.sender = DeliveryState.WAITING, later, None
            delivery.reason, delivery.attempts = pending and str(pending), delivery.attempts - 1
            return None
        delivery.kind = DeliveryKind.WITHDRAWAL if signed.is_withdrawn else DeliveryKind.REPORT
        delivery.revision, delivery.may_have_arrived = signed.revision, True
    return signed


def _is_current(session: Session, delivery: Delivery) -> bool:
    """Nothing has been decided since, and nothing will be before the end of the transaction."""
    repository.lock_study(session, delivery.study_fk)
    decided = repository.latest_decision(session, delivery.study_fk)
    return decided is not None and decided[0] == delivery.through_review_id


def record_sent(session: Session, actor: Actor, delivery_id: int, receipt: str, now: datetime | None = None) -> None:
    """It was acknowledged, by whom and how. Commits."""
    require(actor, Role.SERVICE)
    now = now or utc_now()
    with writing(session):
        delivery = repository.locked_delivery(session, delivery_id)
        assert delivery is not None
        delivery.sent_at, delivery.receipt, delivery.reason = now, receipt[:LONGEST_REASON], None
        delivery.state, delivery.sender = DeliveryState.SENT, None
        _reached(session, delivery.destination, now)
        audit.record(session, actor, "report.sent", f"study:{delivery.study_fk}", _detail(delivery))


def record_refused(session: Session, actor: Actor, delivery_id: int, reason: str, now: datetime | None = None) -> None:
    """The receiver will not have it as it is. It is not tried again by itself. Commits."""
    require(actor, Role.SERVICE)
    now = now or utc_now()
    with writing(session):
        delivery = repository.locked_delivery(session, delivery_id)
        assert delivery is not None
        delivery.reason, delivery.sender = reason[:LONGEST_REASON], None
        if delivery.state == DeliveryState.SENDING:  # not overtaken in the meantime
            delivery.state = DeliveryState.REFUSED
        _reached(session, delivery.destination, now)
        audit.record(session, actor, "report.refused", f"study:{delivery.study_fk}", _detail(delivery))


def record_failed(
    session: Session,
    actor: Actor,
    in_hand: InHand,
    reason: str,
    *,
    nothing_left: bool,
    now: datetime | None = None,
) -> datetime:
    """Not this time. The destination rests, longer each time in a row; returns until when. Commits.

    `nothing_left`: there was no connection, so of this attempt nothing can have arrived."""
    require(actor, Role.SERVICE)
    now = now or utc_now()
    with writing(session):
        delivery = repository.locked_delivery(session, in_hand.delivery_id)
        assert delivery is not None
        known = repository.locked_destination(session, delivery.destination)
        assert known is not None
        known.failures += 1
        known.failing_since = known.failing_since or now
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(known.failures - 1, 16))
        known.paused_until, known.reason = now + pause, reason[:LONGEST_REASON]
        delivery.reason, delivery.sender = known.reason, None
        if nothing_left:
            delivery.may_have_arrived = in_hand.had_arrived
        if delivery.state == DeliveryState.SENDING:
            delivery.state, delivery.due_at = DeliveryState.FAILED, known.paused_until
        return known.paused_until


def _reached(session: Session, destination: str, now: datetime) -> None:
    known = repository.locked_destination(session, destination)
    assert known is not None
    known.reached_at, known.failures = now, 0
    known.paused_until = known.reason = known.failing_since = None


def _detail(delivery: Delivery) -> dict[str, object]:
    said = {"destination": delivery.destination, "version": delivery.version, "kind": DeliveryKind(delivery.kind).value}
    return said | {"revision": delivery.revision}
