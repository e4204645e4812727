"""What has to go out, and how far it has come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session, aliased

from db.models import Image, Patient, Review, Study
from db.sending_tables import Delivery, DeliveryState, SendingDestination

OPEN = (DeliveryState.WAITING, DeliveryState.SENDING, DeliveryState.FAILED)


def destinations(session: Session) -> list[SendingDestination]:
    return list(session.scalars(select(SendingDestination).order_by(SendingDestination.name)))


def locked_destination(session: Session, name: str) -> SendingDestination | None:
    return session.get(SendingDestination, name, with_for_update=True, populate_existing=True)


def undelivered_studies(
    session: Session, destination: SendingDestination, *, of_dicom_only: bool, after_review_id: int
) -> list[int]:
    """Studies decided about since the destination is known, the latest decision of which is in none of its
    deliveries; signed or not. `of_dicom_only`: those that came as DICOM. Decisions up to `after_review_id` are not
    looked at."""
    latest = (
        select(Image.study_fk, func.max(Review.id).label("review_id"))
        .join(Image, Review.image_fk == Image.id)
        .where(Review.id > after_review_id, Review.created_at >= destination.sends_from)
        .group_by(Image.study_fk)
        .subquery()
    )
    taken_in = (
        select(func.max(Delivery.through_review_id))
        .where(Delivery.study_fk == latest.c.study_fk, Delivery.destination == destination.name)
        .scalar_subquery()
    )
    query = select(latest.c.study_fk).where(latest.c.review_id > func.coalesce(taken_in, 0))
    if of_dicom_only:
        no_dicom = select(Image.id).where(Image.study_fk == latest.c.study_fk, Image.sop_instance_uid.is_(None))
        query = query.where(~no_dicom.exists())
    return list(session.scalars(query.order_by(latest.c.review_id)))


def last_review_id(session: Session) -> int:
    return session.scalar(select(func.max(Review.id))) or 0


def latest_decision(session: Session, study_id: int) -> tuple[int, datetime] | None:
    """Id and time of the latest decision about any image of the study, withdrawals included."""
    query = (
        select(Review.id, Review.created_at)
        .join(Image, Review.image_fk == Image.id)
        .where(Image.study_fk == study_id)
        .order_by(Review.id.desc())
    )
    found = session.execute(query.limit(1)).first()
    return None if found is None else (found.id, found.created_at)


def lock_study(session: Session, study_id: int) -> None:
    """Until the end of the transaction nobody decides about it."""
    session.execute(select(Study.id).where(Study.id == study_id).with_for_update())


def deliveries_of_study(session: Session, study_id: int, destination: str | None = None) -> list[Delivery]:
    """The latest version first."""
    query = select(Delivery).where(Delivery.study_fk == study_id).order_by(Delivery.version.desc(), Delivery.id.desc())
    if destination is not None:
        query = query.where(Delivery.destination == destination)
    return list(session.scalars(query.execution_options(populate_existing=True)))


def next_due(session: Session, destination: str, now: datetime) -> Delivery | None:
    """Locked. One whose sender has not been heard of in time counts too; of a study one at a time, so that an older
    version never arrives after a newer one."""
    in_hand = aliased(Delivery)
    query = (
        select(Delivery)
        .where(Delivery.destination == destination, Delivery.state.in_(OPEN), Delivery.due_at <= now)
        .where(
            ~select(in_hand.id)
            .where(
                in_hand.study_fk == Delivery.study_fk,
                in_hand.destination == Delivery.destination,
                in_hand.state == DeliveryState.SENDING,
                in_hand.due_at > now,
            )
            .exists()
        )
        .order_by(Delivery.due_at, Delivery.id)
        .limit(1)
    )
    return session.scalar(query.with_for_update(skip_locked=True, of=Delivery))


def locked_delivery(session: Session, delivery_id: int) -> Delivery | None:
    return session.get(Delivery, delivery_id, with_for_update=True, populate_existing=True)


def in_hand_of(session: Session, destination: str, sender: str) -> list[Delivery]:
    """Locked."""
    query = select(Delivery).where(
        Delivery.destination == destination, Delivery.state == DeliveryState.SENDING, Delivery.sender == sender
    )
    return list(session.scalars(query.with_for_update().execution_options(populate_existing=True)))


def counts(session: Session) -> dict[str, dict[DeliveryState, int]]:
    """Destination -> state -> how many."""
    query = select(Delivery.destination, Delivery.state, func.count()).group_by(Delivery.destination, Delivery.state)
    found: dict[str, dict[DeliveryState, int]] = {}
    for name, state, count in session.execute(query):
        found.setdefault(name, {})[DeliveryState(state)] = count
    return found


def last_sent(session: Session) -> Mapping[str, datetime]:
    query = select(Delivery.destination, func.max(Delivery.sent_at)).where(Delivery.sent_at.is_not(None))
    return {name: at for name, at in session.execute(query.group_by(Delivery.destination))}


def unsettled(session: Session, destination: str, states: Sequence[DeliveryState]) -> list[Delivery]:
    """Locked."""
    query = select(Delivery).where(Delivery.destination == destination, Delivery.state.in_(states))
    return list(session.scalars(query.with_for_update().execution_options(populate_existing=True)))


def latest_versions(session: Session, study_ids: Sequence[int]) -> dict[tuple[int, str], int]:
    """Study and destination -> the version of its latest delivery."""
    query = (
        select(Delivery.study_fk, Delivery.destination, func.max(Delivery.version))
        .where(Delivery.study_fk.in_(study_ids))
        .group_by(Delivery.study_fk, Delivery.destination)
    )
    return {(study_id, destination): version for study_id, destination, version in session.execute(query)}


def deliveries_page(
    session: Session, states: Sequence[DeliveryState], search: str, offset: int, limit: int
) -> tuple[list[tuple[Delivery, Study, str]], int]:
    """With the study and the child's pseudonym, what happened last first. `search` looks in accession number,
    pseudonym and study instance UID; a whole number is the study's own."""
    conditions: list[ColumnElement[bool]] = [Delivery.state.in_(states)]
    if search:
        columns = (Study.accession_number, Patient.pseudonym, Study.study_instance_uid)
        matches = [column.icontains(search, autoescape=True) for column in columns]
        if search.isdecimal() and len(search) < 10:
            matches.append(Study.id == int(search))
        conditions.append(or_(*matches))
    base = (
        select(Delivery, Study, Patient.pseudonym)
        .join(Study, Delivery.study_fk == Study.id)
        .join(Patient, Study.patient_fk == Patient.id)
        .where(*conditions)
    )
    total = session.scalar(select(func.count()).select_from(base.subquery())) or 0
    happened = func.coalesce(Delivery.sent_at, Delivery.tried_at, Delivery.created_at)
    rows = session.execute(base.order_by(happened.desc(), Delivery.id.desc()).offset(offset).limit(limit))
    return [(delivery, study, pseudonym) for delivery, study, pseudonym in rows], total
