"""Runs of retraining, and the data sets they saw."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from db.models import DataSet, DataSetReview, RetrainRun, RetrainState, Split


def run_by_id(session: Session, run_id: int) -> RetrainRun | None:
    """As the database has it now, and locked until the end of the transaction on PostgreSQL."""
    return session.scalar(
        select(RetrainRun).where(RetrainRun.id == run_id).with_for_update().execution_options(populate_existing=True)
    )


def unfinished_run(session: Session) -> RetrainRun | None:
    """There is at most one: queued, running, or awaiting a signature."""
    return session.scalar(select(RetrainRun).where(RetrainRun.unfinished == 1))


def runs_in_state(session: Session, state: RetrainState) -> list[RetrainRun]:
    return list(session.scalars(select(RetrainRun).where(RetrainRun.state == state).order_by(RetrainRun.id)))


def latest_runs(session: Session, limit: int) -> list[RetrainRun]:
    return list(session.scalars(select(RetrainRun).order_by(RetrainRun.id.desc()).limit(limit)))


def data_set_by_sha256(session: Session, sha256: str) -> DataSet | None:
    return session.scalar(select(DataSet).where(DataSet.sha256 == sha256))


def add_data_set(
    session: Session, sha256: str, counts: dict, left_out: dict, reviews: Iterable[tuple[int, int, Split]]
) -> DataSet:
    """`reviews`: (review, image, split). The caller commits."""
    data_set = DataSet(sha256=sha256, counts=counts, left_out=left_out)
    session.add(data_set)
    session.flush()
    rows = [
        {"data_set_fk": data_set.id, "review_fk": review_id, "image_fk": image_id, "split": split}
        for review_id, image_id, split in reviews
    ]
    if rows:
        session.execute(insert(DataSetReview), rows)
    return data_set


def reviews_of_data_set(session: Session, data_set_id: int) -> list[DataSetReview]:
    query = select(DataSetReview).where(DataSetReview.data_set_fk == data_set_id).order_by(DataSetReview.review_fk)
    return list(session.scalars(query))
