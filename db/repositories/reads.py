"""Reads of the model, and the images that wait for one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, Select, func, select, update
from sqlalchemy.orm import Session, joinedload

from db.models import Image, ModelVersion, Patient, Prediction, ReadState, Study, Worker
from db.types import utc_now


def images_awaiting_read(
    session: Session, limit: int, image_ids: Sequence[int] | None = None
) -> list[tuple[Image, Study, Patient]]:
    """Those that a person waits for, then the longest waiting; of `image_ids` where given."""
    query = _awaiting().limit(limit)
    if image_ids is not None:
        query = query.where(Image.id.in_(image_ids))
    return [(image, study, patient) for image, study, patient in session.execute(query)]


def _awaiting() -> Select[tuple[Image, Study, Patient]]:
    return (
        select(Image, Study, Patient)
        .join(Study, Image.study_fk == Study.id)
        .join(Patient, Study.patient_fk == Patient.id)
        .where(Image.read_state == ReadState.QUEUED)
        .order_by(Image.read_first.desc(), Image.read_starts, Image.id)
    )


def images_to_take_in_hand(
    session: Session,
    limit: int,
    *,
    worker: str,
    held: Collection[int],
    heard_since: datetime,
    starts: tuple[int, int | None],
    first_only: bool,
) -> list[tuple[Image, Study, Patient]]:
    """As `images_awaiting_read`, without those in the hands of a worker that was heard of since `heard_since`; of
    `worker` itself only `held` are. On PostgreSQL the rows are locked, and rows that are locked left out.

    `starts`: begun at least so often, and less often than that. `first_only`: only what a person waits for."""
    others = select(Worker.name).where(is_heard(heard_since), Worker.name != worker)
    query = (
        _awaiting()
        .where(Image.id.not_in(held), Image.read_worker.is_(None) | Image.read_worker.not_in(others))
        .where(Image.read_starts >= starts[0])
        .limit(limit)
        .with_for_update(of=Image, skip_locked=True)
    )
    if starts[1] is not None:
        query = query.where(Image.read_starts < starts[1])
    if first_only:
        query = query.where(Image.read_first)
    return [(image, study, patient) for image, study, patient in session.execute(query)]


def give_back(session: Session, worker: str, image_ids: Collection[int]) -> None:
    """What `worker` took in hand and did not read."""
    session.execute(
        update(Image)
        .where(Image.id.in_(image_ids), Image.read_worker == worker, Image.read_state == ReadState.QUEUED)
        .values(read_worker=None, read_starts=Image.read_starts - 1)
    )


def latest_predictions(session: Session, image_ids: Sequence[int]) -> dict[int, Prediction]:
    """The latest read of each image that has one made with all that is known now, with its model version."""
    latest = (
        select(func.max(Prediction.id))
        .join(Image, (Prediction.image_fk == Image.id) & (Prediction.read_round == Image.read_round))
        .where(Prediction.image_fk.in_(image_ids))
        .group_by(Prediction.image_fk)
    )
    query = select(Prediction).where(Prediction.id.in_(latest)).options(joinedload(Prediction.model_version))
    return {prediction.image_fk: prediction for prediction in session.scalars(query)}


def predictions_of_images(session: Session, image_ids: Sequence[int]) -> list[Prediction]:
    """Every read there is of them, the latest last."""
    return list(session.scalars(select(Prediction).where(Prediction.image_fk.in_(image_ids)).order_by(Prediction.id)))


def predictions_by_id(session: Session, prediction_ids: Sequence[int]) -> dict[int, Prediction]:
    """With their model versions."""
    query = select(Prediction).where(Prediction.id.in_(prediction_ids)).options(joinedload(Prediction.model_version))
    return {prediction.id: prediction for prediction in session.scalars(query)}


def model_version_by_name(session: Session, name: str) -> ModelVersion | None:
    return session.scalar(select(ModelVersion).where(ModelVersion.name == name))


def model_versions_with_counts(session: Session) -> list[tuple[ModelVersion, int]]:
    """Every model version with how many reads it made, the latest first."""
    query = (
        select(ModelVersion, func.count(Prediction.id))
        .outerjoin(Prediction, Prediction.model_version_fk == ModelVersion.id)
        .group_by(ModelVersion.id)
        .order_by(ModelVersion.id.desc())
    )
    return [(version, count) for version, count in session.execute(query)]


def models_of_workers(session: Session, since: datetime) -> set[str]:
    """What the workers that were heard of since then have loaded."""
    query = select(Worker.model_version).where(is_heard(since), Worker.model_version.is_not(None))
    return set(session.scalars(query))


def is_heard(since: datetime) -> ColumnElement[bool]:
    """Workers heard of since then, which is a moment ago. A heartbeat from the future is from before the clock was set
    back, and says nothing."""
    now = utc_now()
    return Worker.at.between(since, now + (now - since))
