"""What an image's answer facts follow from, and their storage. What the dashboards ask of them is in `figures`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import delete, exists, insert, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session, joinedload

from db.models import (
    AnswerFact,
    Base,
    BlindCase,
    BlindRead,
    GoldCase,
    Image,
    Prediction,
    Review,
    Study,
    Verdict,
)

COLUMNS = tuple(column.name for column in AnswerFact.__table__.columns)


def images_with_children(session: Session, image_ids: Sequence[int]) -> list[Image]:
    query = (
        select(Image)
        .where(Image.id.in_(image_ids))
        .options(joinedload(Image.study).joinedload(Study.patient))
        .order_by(Image.id)
    )
    return list(session.scalars(query))


def by_image(
    session: Session, rows_of: type[Base], image_ids: Sequence[int], order: InstrumentedAttribute[int]
) -> dict[int, list[Any]]:
    """Reviews, predictions, shadow reads or blind answers of these images, in order."""
    found = defaultdict(list)
    for row in session.scalars(select(rows_of).where(rows_of.image_fk.in_(image_ids)).order_by(order)):
        found[row.image_fk].append(row)
    return found


def blind_reads_by_image(
    session: Session, image_ids: Sequence[int]
) -> dict[int, list[tuple[BlindCase, BlindRead, Review | None, GoldCase | None]]]:
    """The blind reads that stand, with the decision or the gold answer that each is held against."""
    query = (
        select(BlindCase, BlindRead, Review, GoldCase)
        .join(BlindRead, BlindRead.blind_case_fk == BlindCase.id)
        .outerjoin(Review, BlindCase.first_review_fk == Review.id)
        .outerjoin(GoldCase, BlindCase.gold_fk == GoldCase.id)
        .where(BlindCase.image_fk.in_(image_ids))
        .order_by(BlindCase.id, BlindRead.revision)
    )
    latest = {case.id: (case, read, first, gold) for case, read, first, gold in session.execute(query)}
    found = defaultdict(list)
    for case, read, first, gold in latest.values():
        if read.verdict != Verdict.WITHDRAWN:
            found[case.image_fk].append((case, read, first, gold))
    return found


def replace(session: Session, image_ids: Sequence[int], rows: Sequence[dict[str, Any]]) -> None:
    session.execute(delete(AnswerFact).where(AnswerFact.image_fk.in_(image_ids)))
    if rows:
        session.execute(insert(AnswerFact), [dict.fromkeys(COLUMNS) | row for row in rows])


def images_without_facts(session: Session, after_image_id: int, limit: int) -> list[int]:
    """Read or decided, and no facts say so."""
    query = (
        select(Image.id)
        .where(
            Image.id > after_image_id,
            or_(exists().where(Prediction.image_fk == Image.id), exists().where(Review.image_fk == Image.id)),
            ~exists().where(AnswerFact.image_fk == Image.id),
        )
        .order_by(Image.id)
        .limit(limit)
    )
    return list(session.scalars(query))
