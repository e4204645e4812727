"""What a shadow model read, and what is left for it to read. Nothing else looks at its reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session, joinedload

from db.models import Image, ModelVersion, Patient, Prediction, ReadState, ShadowRead, Study


@dataclass(frozen=True)
class Pair:
    """A shadow's read and the one that readers saw."""

    shadow: ShadowRead
    prediction: Prediction  # with its model version
    study_id: int
    age_months: float | None


def prediction_so_far_back(session: Session, reads: int) -> int:
    """The id of the prediction that begins the latest `reads` ones."""
    ids = select(Prediction.id).order_by(Prediction.id.desc()).limit(reads).subquery()
    return session.scalar(select(func.min(ids.c.id))) or 0


def is_anything_waiting(session: Session) -> bool:
    return session.scalar(select(Image.id).where(Image.read_state == ReadState.QUEUED).limit(1)) is not None


def images_to_read(session: Session, version: ModelVersion, limit: int) -> list[tuple[Image, Study, Patient, int]]:
    """With the id of the read beside which the shadow's will stand, the latest first."""
    query = _to_read(version, select(Image, Study, Patient, Prediction.id)).order_by(Prediction.id.desc()).limit(limit)
    return [tuple(row) for row in session.execute(query)]


def count_to_read(session: Session, version: ModelVersion) -> int:
    return session.scalar(_to_read(version, select(func.count(Prediction.id)))) or 0


def _to_read(version: ModelVersion, query: Select[Any]) -> Select[Any]:
    """The latest reads of other models, since where the shadow begins, that it has not read itself."""
    latest = select(func.max(Prediction.id)).group_by(Prediction.image_fk)
    already = select(ShadowRead.id).where(
        ShadowRead.image_fk == Image.id,
        ShadowRead.model_version_fk == version.id,
        ShadowRead.read_round == Image.read_round,
    )
    return (
        query.select_from(Prediction)
        .join(Image, (Prediction.image_fk == Image.id) & (Prediction.read_round == Image.read_round))
        .join(Study, Image.study_fk == Study.id)
        .join(Patient, Study.patient_fk == Patient.id)
        .where(
            Prediction.id >= (version.shadow_from_prediction or 0),
            Prediction.id.in_(latest),
            Prediction.model_version_fk != version.id,
            Prediction.task == Study.task,
            Image.read_state == ReadState.DONE,
            ~already.exists(),
        )
    )


def pairs_of_reads(session: Session, version_id: int) -> list[Pair]:
    """Every read of the shadow with the one that it stood beside."""
    query = (
        select(ShadowRead, Prediction, Study.id, Study.age_months)
        .join(Prediction, ShadowRead.prediction_fk == Prediction.id)
        .join(Image, ShadowRead.image_fk == Image.id)
        .join(Study, Image.study_fk == Study.id)
        .where(ShadowRead.model_version_fk == version_id)
        .order_by(ShadowRead.id)
        .options(joinedload(Prediction.model_version))
    )
    return [Pair(*row) for row in session.execute(query)]
