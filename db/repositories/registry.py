"""Model versions, their lineage, and which one is in use."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, joinedload

from db.models import DataSetReview, Deployment, ModelState, ModelVersion, Prediction, RetrainRun, Worker
from db.repositories.reads import is_heard


def version_by_id(session: Session, version_id: int) -> ModelVersion | None:
    """With its data set. As the database has it now, and locked until the end of the transaction on PostgreSQL."""
    return session.scalar(
        select(ModelVersion)
        .where(ModelVersion.id == version_id)
        .options(joinedload(ModelVersion.data_set))
        .with_for_update(of=ModelVersion)
        .execution_options(populate_existing=True)
    )


def version_by_folder(session: Session, folder: str) -> ModelVersion | None:
    return session.scalar(select(ModelVersion).where(ModelVersion.folder == folder))


def version_in_state(session: Session, state: ModelState) -> ModelVersion | None:
    """The latest in that state."""
    return session.scalar(select(ModelVersion).where(ModelVersion.state == state).order_by(ModelVersion.id.desc()))


def configured_version(session: Session) -> ModelVersion | None:
    """Of the models that PEDISCREEN_MODEL named, the one in use, else the latest."""
    return session.scalar(
        select(ModelVersion)
        .where(ModelVersion.folder.is_(None))
        .order_by((ModelVersion.state == ModelState.IN_USE).desc(), ModelVersion.id.desc())
    )


def all_versions(session: Session) -> list[ModelVersion]:
    """With their data sets, the latest first."""
    query = select(ModelVersion).options(joinedload(ModelVersion.data_set)).order_by(ModelVersion.id.desc())
    return list(session.scalars(query))


def retire_those_in_use(session: Session) -> None:
    session.execute(
        update(ModelVersion).where(ModelVersion.state == ModelState.IN_USE).values(state=ModelState.RETIRED)
    )


def reads_by_version(session: Session) -> dict[int, int]:
    query = select(Prediction.model_version_fk, func.count(Prediction.id)).group_by(Prediction.model_version_fk)
    return {version_id: count for version_id, count in session.execute(query)}


def reviews_by_data_set(session: Session) -> dict[int, int]:
    query = select(DataSetReview.data_set_fk, func.count(DataSetReview.review_fk)).group_by(DataSetReview.data_set_fk)
    return {data_set_id: count for data_set_id, count in session.execute(query)}


def deployments(session: Session) -> list[Deployment]:
    """With their model versions, the latest first."""
    query = select(Deployment).options(joinedload(Deployment.model_version)).order_by(Deployment.id.desc())
    return list(session.scalars(query))


def last_deployment(session: Session) -> Deployment | None:
    """The pointer, with its model version."""
    return session.scalar(
        select(Deployment).options(joinedload(Deployment.model_version)).order_by(Deployment.id.desc()).limit(1)
    )


def deployment_by_id(session: Session, deployment_id: int) -> Deployment | None:
    """With its model version."""
    return session.scalar(
        select(Deployment).where(Deployment.id == deployment_id).options(joinedload(Deployment.model_version))
    )


def was_in_use(session: Session, version_id: int) -> bool:
    return session.scalar(select(Deployment.id).where(Deployment.model_version_fk == version_id).limit(1)) is not None


def runs_of_versions(session: Session, version_ids: Sequence[int]) -> dict[int, RetrainRun]:
    """The run that made each version, where one did."""
    query = select(RetrainRun).where(RetrainRun.candidate_fk.in_(version_ids))
    return {run.candidate_fk: run for run in session.scalars(query) if run.candidate_fk is not None}


def workers_since(session: Session, since: datetime) -> list[Worker]:
    return list(session.scalars(select(Worker).where(is_heard(since)).order_by(Worker.name)))


def registered_versions(session: Session) -> list[ModelVersion]:
    """Those that have a folder here."""
    return list(session.scalars(select(ModelVersion).where(ModelVersion.folder.is_not(None)).order_by(ModelVersion.id)))
