"""Every model that read or was made here, with where it came from: what the admin sees, and what every reader may."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from db.models import Deployment, DeploymentKind, ModelState, ModelVersion, RetrainRun, RetrainState, Role
from db.repositories import reads
from db.repositories import registry as repository
from db.types import utc_now
from engine.services import registry
from engine.services.accounts import READERS, Actor, require
from engine.services.worklist import ALIVE_SECONDS
from engine.settings import settings

CHANGE_RECORD = "change-record.md"  # engine.services.change_record, which needs the PDF library


@dataclass(frozen=True)
class DataSetRow:
    sha256: str
    created_at: datetime
    counts: dict[str, Any]
    left_out: dict[str, Any]
    reviews: int  # decisions of readers that went in


@dataclass(frozen=True)
class ModelRow:
    """A model version with its lineage; what is not known of it is None."""

    model_version_id: int
    name: str
    state: ModelState
    is_phantom: bool
    is_configured: bool  # the one that PEDISCREEN_MODEL names, or named
    created_at: datetime
    reads: int
    base_model: str | None
    data_set: DataSetRow | None
    adapter_sha256: str | None
    folder: str | None
    folder_sha256: str | None
    code_version: str | None
    settings: dict[str, Any] | None
    metrics: dict[str, Any] | None
    retrain_run_id: int | None
    run_state: RetrainState | None
    run_message: str | None
    started_by: str | None
    decision: dict[str, Any] | None  # of the gate: engine.promotion_gate.Decision
    shadow_since: datetime | None
    change_record: Path | None  # a markdown file, with a PDF beside it
    was_in_use: bool
    workers: tuple[str, ...]  # that have it loaded


@dataclass(frozen=True)
class DeploymentRow:
    deployment_id: int
    name: str
    kind: DeploymentKind
    by: str
    at: datetime
    comment: str | None
    change_record: Path | None


@dataclass(frozen=True)
class ReadingModel:
    """A model that has read here, as every reader may see it."""

    name: str
    is_phantom: bool
    first_used_at: datetime
    reads: int
    in_use: bool  # a live worker has it loaded


def models_that_read(session: Session, actor: Actor) -> list[ReadingModel]:
    """The models whose reads are shown here, the latest first. Raises NotAllowed."""
    require(actor, *READERS, Role.SERVICE)
    loaded = reads.models_of_workers(session, since=_alive_since())
    return [
        ReadingModel(version.name, version.is_phantom, version.created_at, count, version.name in loaded)
        for version, count in reads.model_versions_with_counts(session)
        if count or version.name in loaded
    ]


def models(session: Session, actor: Actor) -> list[ModelRow]:
    """Every version with its lineage, the latest first. Admins and services only."""
    require(actor, Role.SERVICE)
    versions = repository.all_versions(session)
    counts, reviews = repository.reads_by_version(session), repository.reviews_by_data_set(session)
    runs = repository.runs_of_versions(session, [version.id for version in versions])
    workers = repository.workers_since(session, _alive_since())
    history = repository.deployments(session)
    now = registry.model_in_use(session, actor).model_version_id
    return [
        _row(
            version,
            _state(version, now),
            counts.get(version.id, 0),
            reviews,
            runs.get(version.id),
            [one for one in history if one.model_version_fk == version.id],
            tuple(worker.name for worker in workers if worker.model_version == version.name),
        )
        for version in versions
    ]


def _state(version: ModelVersion, in_use_id: int | None) -> ModelState:
    """As the pointer has it; the configured model's row may be older than the first worker."""
    if version.id == in_use_id:
        return ModelState.IN_USE
    return ModelState.RETIRED if version.state == ModelState.IN_USE else version.state


def _row(
    version: ModelVersion,
    state: ModelState,
    reads_made: int,
    reviews: dict[int, int],
    run: RetrainRun | None,
    deployed_as: list[Deployment],
    workers: tuple[str, ...],
) -> ModelRow:
    data_set = version.data_set
    records = [one.change_record for one in deployed_as if one.change_record]
    return ModelRow(
        model_version_id=version.id,
        name=version.name,
        state=state,
        is_phantom=version.is_phantom,
        is_configured=version.folder is None,
        created_at=version.created_at,
        reads=reads_made,
        base_model=version.base_model,
        data_set=DataSetRow(
            data_set.sha256, data_set.created_at, data_set.counts, data_set.left_out, reviews.get(data_set.id, 0)
        )
        if data_set
        else None,
        adapter_sha256=version.adapter_sha256,
        folder=version.folder,
        folder_sha256=version.folder_sha256,
        code_version=version.code_version,
        settings=version.settings,
        metrics=version.metrics,
        retrain_run_id=run.id if run else None,
        run_state=run.state if run else None,
        run_message=run.message if run else None,
        started_by=run.started_by if run else None,
        decision=run.decision if run else None,
        shadow_since=version.shadow_since,
        change_record=settings().data_dir / records[0] if records else _record_of_run(run),
        was_in_use=bool(deployed_as) or version.folder is None,
        workers=workers,
    )


def _record_of_run(run: RetrainRun | None) -> Path | None:
    """Of a candidate that was never in use: why it was held, or declined."""
    path = settings().data_dir / "retrain" / str(run.id if run else "") / CHANGE_RECORD
    return path if path.is_file() else None


def deployments(session: Session, actor: Actor) -> list[DeploymentRow]:
    """Every change of the model in use, the latest first. Admins and services only."""
    require(actor, Role.SERVICE)
    return [
        DeploymentRow(
            one.id,
            registry.name_of(session, one),
            one.kind,
            one.deployed_by,
            one.deployed_at,
            one.comment,
            settings().data_dir / one.change_record if one.change_record else None,
        )
        for one in repository.deployments(session)
    ]


def _alive_since() -> datetime:
    return utc_now() - timedelta(seconds=ALIVE_SECONDS)
