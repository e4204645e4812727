"""What the demo needs to know and to change of the cases that it made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import (
    BlindAnswer,
    BlindCase,
    BlindRead,
    FilmStatistics,
    Image,
    Prediction,
    Review,
    Study,
    UserAccount,
)


def usernames(session: Session, account_ids: Sequence[int | None]) -> dict[int, str]:
    query = select(UserAccount.id, UserAccount.username).where(UserAccount.id.in_(account_ids))
    return {account_id: username for account_id, username in session.execute(query)}


def first_answer(session: Session, case: BlindCase) -> dict[str, Any] | None:
    return session.scalar(select(Review.answer).where(Review.id == case.first_review_fk))


def study_with_films(session: Session, study_id: int) -> tuple[Study, list[int], list[FilmStatistics]]:
    """The study, the ids of its images, and what their films are like."""
    images = list(session.scalars(select(Image.id).where(Image.study_fk == study_id)))
    films = list(session.scalars(select(FilmStatistics).where(FilmStatistics.study_fk == study_id)))
    return session.get_one(Study, study_id), images, films


def reads_of(session: Session, images: Sequence[int]) -> list[Prediction]:
    return list(session.scalars(select(Prediction).where(Prediction.image_fk.in_(images))))


def reviews_of(session: Session, images: Sequence[int]) -> list[Review]:
    return list(session.scalars(select(Review).where(Review.image_fk.in_(images))))


def blind_answers_of(session: Session, images: Sequence[int]) -> list[BlindAnswer]:
    return list(session.scalars(select(BlindAnswer).where(BlindAnswer.image_fk.in_(images))))


def blind_cases_of(session: Session, images: Sequence[int]) -> list[tuple[BlindCase, list[BlindRead]]]:
    cases = session.scalars(select(BlindCase).where(BlindCase.image_fk.in_(images))).all()
    reads = session.scalars(select(BlindRead).where(BlindRead.blind_case_fk.in_([case.id for case in cases]))).all()
    return [(case, [read for read in reads if read.blind_case_fk == case.id]) for case in cases]
