"""Which model reads here: every version with where it came from, the one pointer to the model in use, and the way back.

    candidate ── promote ──► in use ── (another is promoted) ──► retired ── promote or roll back ──► in use

The pointer is a row that is only ever added to (db.models.Deployment); the workers follow it. A model's folder lies
under `data_dir/models`, holds data only, and is loaded only while its hash is the one it was registered with."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from db.models import Deployment, DeploymentKind, ModelState, ModelVersion, RetrainRun, RetrainState, Role
from db.repositories import reads
from db.repositories import registry as repository
from db.session import writing
from db.types import utc_now
from engine.errors import Conflict, ModelUnavailable, NotFound, Refused
from engine.inference import model_folder
from engine.services import audit
from engine.services.accounts import READERS, Actor, require
from engine.services.retrain_run import run_of
from engine.settings import settings

SLUG = re.compile(r"[^a-z0-9.]+")


@dataclass(frozen=True)
class Deployed:
    """A model that a worker can load: its folder is under `data_dir/models`."""

    model_version_id: int
    name: str  # what its reads carry
    folder: Path
    folder_sha256: str


@dataclass(frozen=True)
class InUse:
    """The model whose reads are shown. Without a deployment it is the one that PEDISCREEN_MODEL names."""

    name: str
    model_version_id: int | None  # None: no worker has loaded the configured model yet
    is_configured: bool
    is_phantom: bool | None  # None: a name on the hub that no worker has loaded yet
    deployment_id: int  # what `seen_deployment_id` takes; 0 before the first deployment
    since: datetime | None
    by: str | None  # username
    kind: DeploymentKind | None
    returns_to: str | None  # what a rollback would bring back; None when there is nothing to return to


# ---------------------------------------------------------------- looking


def model_in_use(session: Session, actor: Actor) -> InUse:
    """The model in use, since when and by whom, and what a rollback would bring back. Raises NotAllowed."""
    require(actor, *READERS, Role.SERVICE)
    pointer = repository.last_deployment(session)
    version = pointer.model_version if pointer else None
    is_configured = version is None
    if version is None:
        version = _configured(session)
    return InUse(
        name=version.name if version else _configured_name(),
        model_version_id=version.id if version else None,
        is_configured=is_configured,
        is_phantom=version.is_phantom if version else model_folder.configured_is_phantom(settings().model),
        deployment_id=pointer.id if pointer else 0,
        since=pointer.deployed_at if pointer else version.created_at if version else None,
        by=pointer.deployed_by if pointer else None,
        kind=pointer.kind if pointer else None,
        returns_to=name_of(session, _return_of(session, pointer)) if pointer and _can_return(pointer) else None,
    )


def in_use(session: Session, actor: Actor) -> Deployed | None:
    """What the workers have to load; None: the model that PEDISCREEN_MODEL names. Cheap: one query. Raises
    ModelUnavailable where the registry names a folder that is not under `data_dir/models`, NotAllowed."""
    require(actor, *READERS, Role.SERVICE)
    pointer = repository.last_deployment(session)
    return deployed(pointer.model_version) if pointer and pointer.model_version else None


def ways_back(session: Session, actor: Actor) -> list[Deployed | None]:
    """The model that a rollback would bring back, in a list that is empty where there is none; None: the one that
    PEDISCREEN_MODEL names. Raises as `in_use`."""
    require(actor, Role.SERVICE)
    pointer = repository.last_deployment(session)
    if pointer is None or not _can_return(pointer):
        return []
    target = _return_of(session, pointer)
    return [deployed(target.model_version) if target and target.model_version else None]


def deployed(version: ModelVersion) -> Deployed:
    return Deployed(version.id, version.name, folder_of(version), version.folder_sha256 or "")


# ---------------------------------------------------------------- a new model


def add_candidate(
    session: Session,
    actor: Actor,
    source: Path,
    *,
    retrain_run_id: int | None = None,
    base_model: str | None = None,
    adapter_sha256: str | None = None,
    data_set_id: int | None = None,
    code_version: str | None = None,
    settings: dict[str, Any] | None = None,
    metrics: dict[str, Any] | None = None,
) -> Deployed:
    """Registers the model in `source` and moves that folder, by one rename, to where models are kept. Commits.

    Idempotent: called again for the same run or the same weights it finishes what was begun and changes nothing else.
    Admins and services only. Raises ModelUnavailable for a folder that may not be loaded, Refused for one outside the
    data folder."""
    require(actor, Role.SERVICE)
    if not source.resolve().is_relative_to(models_folder().parent):
        raise Refused("outside", f"{source} is not in the data folder: only what was made there is registered")
    if not source.exists() and retrain_run_id is not None:  # moved before the process was killed
        run = run_of(session, retrain_run_id)
        if run.candidate_fk is not None:
            return deployed(version_of(session, run.candidate_fk))
    model_folder.check(source)
    name, sha256 = model_folder.version_name(source), model_folder.sha256_of(source)
    card = model_folder.ReadingCard.of(source, source.name)
    target = models_folder() / SLUG.sub("-", name.lower()).strip("-.")[:120]
    with writing(session):
        version = reads.model_version_by_name(session, name)
        if version is not None and version.folder_sha256 != sha256:
            raise Refused("name_taken", f"another model is called {name} already: give this one a name of its own")
        if version is None:
            version = ModelVersion(
                name=name,
                is_phantom=card.is_phantom,
                state=ModelState.CANDIDATE,
                folder=_relative(target),
                folder_sha256=sha256,
                base_model=base_model,
                adapter_sha256=adapter_sha256,
                data_set_fk=data_set_id,
                code_version=code_version,
                settings=settings,
                metrics=metrics,
            )
            session.add(version)
            session.flush()
            audit.record(
                session,
                actor,
                "model.candidate",
                f"model:{version.id}",
                {"name": name, "folder_sha256": sha256, "retrain_run": retrain_run_id} | audit.fixed(version),
            )
        if retrain_run_id is not None:
            run_of(session, retrain_run_id).candidate_fk = version.id
        registered = deployed(version)
    if not registered.folder.exists():
        registered.folder.parent.mkdir(parents=True, exist_ok=True)
        os.rename(source, registered.folder)
    return registered


# ---------------------------------------------------------------- the pointer


def promote(
    session: Session,
    actor: Actor,
    version_id: int,
    *,
    change_record: Path | None = None,
    comment: str | None = None,
    seen_deployment_id: int | None = None,
) -> Deployed:
    """Puts a version in use; the workers follow within a tick. A retrain run that awaits this signature ends
    `promoted` in the same transaction. Commits. Admins only.

    A candidate's first promotion needs its change record (a file below the data folder), and a run that the gate let
    through; a version that was in use before needs neither. `seen_deployment_id` (InUse.deployment_id): what the admin
    saw; raises Conflict when another model was put in use meanwhile. Raises Refused, NotFound, NotAllowed, and
    ModelUnavailable for a folder that is missing or was changed."""
    require(actor)
    candidate = version_of(session, version_id)
    if candidate.folder is None:
        raise Refused(
            "not_registered",
            f"{candidate.name} is not kept in the registry: it comes back by a rollback, or by PEDISCREEN_MODEL",
        )
    model_folder.verify(folder_of(candidate), candidate.folder_sha256 or "")  # before the transaction: it may take long
    record = _change_record(change_record)
    with _one_wins(session):
        version = version_of(session, version_id)
        pointer = _pointer(session, seen_deployment_id)
        if pointer is not None and pointer.model_version_fk == version.id:
            raise Conflict(f"{version.name} is in use already")
        run = repository.runs_of_versions(session, [version.id]).get(version.id)
        if not repository.was_in_use(session, version.id):
            _check_first_promotion(version, run, record)
        if run is not None and run.state == RetrainState.AWAITING_SIGNATURE:
            run.state, run.finished_at = RetrainState.PROMOTED, utc_now()
            run.message = f"Signed for by {actor.display_name}" + (f": {comment}" if comment else ".")
        _deploy(session, actor, version, DeploymentKind.PROMOTION, pointer, pointer, record, comment)
        return deployed(version)


def roll_back(
    session: Session, actor: Actor, *, comment: str | None = None, seen_deployment_id: int | None = None
) -> Deployed | None:
    """Brings back the model that was in use before the present one (None: the one that PEDISCREEN_MODEL names); again,
    the one before that. Commits. Admins only. Raises Refused where there is nothing to return to, Conflict (see
    `promote`), and ModelUnavailable for a folder that is missing or was changed."""
    require(actor)
    seen = repository.last_deployment(session)
    target = _return_of(session, seen) if seen else None
    if target is not None and target.model_version is not None:
        model_folder.verify(folder_of(target.model_version), target.model_version.folder_sha256 or "")
    with _one_wins(session):
        pointer = _pointer(session, seen.id if seen and seen_deployment_id is None else seen_deployment_id)
        if pointer is None or not _can_return(pointer):
            raise Refused("nothing_before", "no other model was in use before this one: there is nothing to return to")
        target = _return_of(session, pointer)
        version = target.model_version if target else None
        if version is not None:
            version = version_of(session, version.id)
        _deploy(
            session,
            actor,
            version,
            DeploymentKind.ROLLBACK,
            pointer,
            repository.deployment_by_id(session, target.previous_id) if target and target.previous_id else None,
            None,
            comment,
        )
        return deployed(version) if version else None


def record_loaded(session: Session, actor: Actor, name: str, *, is_phantom: bool) -> None:
    """A worker has loaded the model that PEDISCREEN_MODEL names: while nothing else is deployed, that one is in use.
    Commits. Services only."""
    require(actor, Role.SERVICE)
    with writing(session):
        version = reads.model_version_by_name(session, name)
        if version is None:
            version = ModelVersion(name=name, is_phantom=is_phantom)
            session.add(version)
            session.flush()
            audit.record(session, actor, "model.seen", f"model:{version.id}", {"name": name} | audit.fixed(version))
        pointer = repository.last_deployment(session)
        if version.folder is None and (pointer is None or pointer.model_version_fk is None):
            repository.retire_those_in_use(session)
            version.state = ModelState.IN_USE


def record_refusal(session: Session, actor: Actor, deployed: Deployed | None, reason: str) -> None:
    """A worker could not load the model in use, perhaps because somebody changed its files. Commits. Services only."""
    require(actor, Role.SERVICE)
    subject = f"model:{deployed.model_version_id}" if deployed else "model:configured"
    with writing(session):
        audit.record(session, actor, "model.refused", subject, {"reason": reason[:500]})


def _deploy(
    session: Session,
    actor: Actor,
    version: ModelVersion | None,
    kind: DeploymentKind,
    pointer: Deployment | None,
    previous: Deployment | None,
    change_record: str | None,
    comment: str | None,
) -> None:
    repository.retire_those_in_use(session)
    now_in_use = version or _configured(session)
    if now_in_use is not None:
        now_in_use.state = ModelState.IN_USE
        now_in_use.shadow_since = now_in_use.shadow_from_prediction = None
    deployment = Deployment(
        id=(pointer.id if pointer else 0) + 1,
        model_version_fk=version.id if version else None,
        kind=kind,
        deployed_by=actor.username,
        change_record=change_record,
        comment=comment,
        previous_id=previous.id if previous else None,
    )
    session.add(deployment)
    session.flush()
    audit.record(
        session,
        actor,
        f"model.{kind}",
        f"model:{now_in_use.id}" if now_in_use else "model:configured",
        {"deployment": deployment.id, "name": now_in_use.name if now_in_use else _configured_name()}
        | audit.fixed(deployment),
    )


def _check_first_promotion(version: ModelVersion, run: RetrainRun | None, change_record: str | None) -> None:
    if run is not None and run.state != RetrainState.AWAITING_SIGNATURE:
        reason = f": {run.message}" if run.message else ""
        raise Refused("not_let_through", f"{version.name} was not let through by its retraining ({run.state}){reason}")
    if change_record is None:
        raise Refused(
            "no_change_record", f"{version.name} was never in use: it is put in use by signing its change record"
        )


def _can_return(pointer: Deployment) -> bool:
    """After a rollback to the configured model there is nothing before it."""
    return pointer.model_version_fk is not None


def _return_of(session: Session, pointer: Deployment) -> Deployment | None:
    """The deployment that a rollback from `pointer` restores; None: the state before all deployments."""
    return repository.deployment_by_id(session, pointer.previous_id) if pointer.previous_id else None


def _pointer(session: Session, seen_deployment_id: int | None) -> Deployment | None:
    pointer = repository.last_deployment(session)
    if seen_deployment_id is not None and seen_deployment_id != (pointer.id if pointer else 0):
        raise Conflict("another model was put in use meanwhile")
    return pointer


@contextmanager
def _one_wins(session: Session) -> Iterator[None]:
    """The transaction of a change of the pointer. Raises Conflict for the second of two that wrote the same row."""
    try:
        with writing(session):
            yield
    except IntegrityError as error:
        raise Conflict("another model was put in use meanwhile") from error


# ---------------------------------------------------------------- folders and names


def models_folder() -> Path:
    return settings().data_dir / "models"


def folder_of(version: ModelVersion) -> Path:
    """Raises ModelUnavailable where it would lead out of the folder of models."""
    folder = settings().data_dir / (version.folder or "")
    if folder.resolve().parent != models_folder().resolve():
        raise ModelUnavailable(f"The folder registered for {version.name} is not in {models_folder()}.")
    return folder


def _relative(path: Path) -> str:
    return path.relative_to(settings().data_dir).as_posix()


def _change_record(path: Path | None) -> str | None:
    """Relative to the data folder. Raises Refused where there is no such file below it."""
    if path is None:
        return None
    found = path.resolve()
    if not found.is_relative_to(settings().data_dir) or not found.is_file():
        raise Refused("no_change_record", f"there is no change record {path} in the data folder")
    return _relative(found)


def _configured(session: Session) -> ModelVersion | None:
    """The row of the model that PEDISCREEN_MODEL names now, once a worker has loaded it."""
    return reads.model_version_by_name(session, _configured_name()) or repository.configured_version(session)


def _configured_name() -> str:
    return model_folder.configured_name(settings().model, settings().lora_adapter_path)


def name_of(session: Session, deployment: Deployment | None) -> str:
    if deployment is not None and deployment.model_version is not None:
        return deployment.model_version.name
    configured = _configured(session)
    return configured.name if configured else _configured_name()


def version_of(session: Session, version_id: int) -> ModelVersion:
    """Raises NotFound."""
    version = repository.version_by_id(session, version_id)
    if version is None:
        raise NotFound(f"there is no model {version_id}")
    return version
