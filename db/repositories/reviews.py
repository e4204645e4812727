"""Decisions of readers."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session, joinedload

from db.models import Image, Patient, Prediction, Review, Study, Verdict


def latest_reviews(session: Session, image_ids: Sequence[int]) -> dict[int, Review]:
    """The latest decision about each image that has one, withdrawals included."""
    latest = (
        select(Review.image_fk, func.max(Review.revision).label("revision"))
        .where(Review.image_fk.in_(image_ids))
        .group_by(Review.image_fk)
        .subquery()
    )
    query = select(Review).join(latest, (Review.image_fk == latest.c.image_fk) & (Review.revision == latest.c.revision))
    return {review.image_fk: review for review in session.scalars(query)}


def reviews_of_images(session: Session, image_ids: Sequence[int]) -> dict[int, list[Review]]:
    """Every decision with its reader, the latest first."""
    query = (
        select(Review)
        .where(Review.image_fk.in_(image_ids))
        .order_by(Review.revision.desc())
        .options(joinedload(Review.reader))
    )
    found: dict[int, list[Review]] = {}
    for review in session.scalars(query):
        found.setdefault(review.image_fk, []).append(review)
    return found


def decided_images(session: Session) -> list[tuple[Review, Image, Study, Patient, Prediction | None]]:
    """Every image whose latest decision stands, with the read it was decided on, in the order of the images."""
    latest = select(Review.image_fk, func.max(Review.revision).label("revision")).group_by(Review.image_fk).subquery()
    query = (
        select(Review, Image, Study, Patient, Prediction)
        .join(latest, (Review.image_fk == latest.c.image_fk) & (Review.revision == latest.c.revision))
        .join(Image, Review.image_fk == Image.id)
        .join(Study, Image.study_fk == Study.id)
        .join(Patient, Study.patient_fk == Patient.id)
        .outerjoin(Prediction, Review.prediction_fk == Prediction.id)
        .where(Review.verdict != Verdict.WITHDRAWN)
        .order_by(Image.id)
        .options(joinedload(Review.reader), joinedload(Prediction.model_version))
    )
    return [tuple(row) for row in session.execute(query)]


def all_reviews(session: Session) -> list[tuple[Review, Image, Study, Patient, Prediction | None]]:
    """Every decision with its reader, superseded and withdrawn ones too: image by image, the first one first."""
    query = (
        select(Review, Image, Study, Patient, Prediction)
        .join(Image, Review.image_fk == Image.id)
        .join(Study, Image.study_fk == Study.id)
        .join(Patient, Study.patient_fk == Patient.id)
        .outerjoin(Prediction, Review.prediction_fk == Prediction.id)
        .order_by(Image.id, Review.revision)
        .options(joinedload(Review.reader), joinedload(Prediction.model_version))
    )
    return [tuple(row) for row in session.execute(query)]


def count_images(session: Session) -> int:
    return session.scalar(select(func.count(Image.id))) or 0
