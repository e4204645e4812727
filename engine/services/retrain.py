"""Retraining, as an admin sees it: start it, watch it, cancel it, and sign for the new model or decline it.

    queued → running (snapshot, train, merge, evaluate, gate) → awaiting_signature → promoted
                └─► cancelled · failed        └─► held (by the gate)       └─► held (declined)

A row is the order; the worker (engine.jobs.retrain) does the work. Only one run can be unfinished at a time."""

from __future__ import annotations

import fcntl
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from db.models import DataSet, ModelVersion, RetrainRun, RetrainState, RetrainStep, Role
from db.repositories import audit as audit_repository
from db.repositories import retrain as repository
from db.repositories.audit import AuditQuery
from db.session import writing
from db.types import utc_now
from engine.errors import Conflict, ModelUnavailable, NotFound, Refused
from engine.findings.answers import Task
from engine.inference import model_folder
from engine.promotion_gate import Decision
from engine.services import audit, change_record, registry, training_set
from engine.services.accounts import Actor, require
from engine.services.change_record import ChangeFacts, Signature
from engine.services.retrain_run import COMPARISON, LOG, METRICS, ON, run_folder, run_of
from engine.settings import is_elsewhere, settings

NEEDED_GB = {True: 2.0, False: 30.0}  # free, by whether the base is a phantom model; see docs/retrain.md
LOG_BYTES, LOG_LINES = 6000, 8
SIGN_LOCK = "sign.lock"

# What training is asked for, see docs/train-a-model.md. MedGemma's are those of its own recipe; unverified here.
PHANTOM_SETTINGS = {"epochs": 4, "augmented_views": 2, "learning_rate": 2e-3, "save_every": 20}
MEDGEMMA_SETTINGS = {"epochs": 3, "augmented_views": 4, "learning_rate": 2e-4, "save_every": 50}


@dataclass(frozen=True)
class RetrainSettings:
    """`tasks` empty: all that the data hold. `training`: flags of training.train_radiology that replace the default
    ones; named there."""

    tasks: tuple[Task, ...] = ()
    training: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class StepView:
    step: RetrainStep
    state: Literal["waiting", "running", "done", "ended here"]
    seconds: float | None  # it took, or has taken so far
    starts: int  # more than one: the worker died in it, and it was gone on with


@dataclass(frozen=True)
class Curve:
    """`loss`: (step, training loss); `score`: (step, validation loss in nats)."""

    loss: list[tuple[int, float]]
    score: list[tuple[int, float]]


@dataclass(frozen=True)
class RunView:
    run_id: int
    state: RetrainState
    message: str | None
    started_by: str
    started_at: datetime
    finished_at: datetime | None
    cancelled_by: str | None
    steps: list[StepView]
    progress: float  # of the step that runs, 0 to 1
    settings: dict[str, Any]
    curve: Curve
    log_tail: str
    data_set_sha256: str | None
    data_set_counts: dict[str, Any]
    decision: Decision | None
    model_in_use: str | None  # that the candidate was compared with
    candidate: str | None
    pictures: Path  # what WorseCase.picture is relative to
    change_record: Path | None
    change_record_pdf: Path | None

    @property
    def is_on(self) -> bool:
        return self.state in ON


@dataclass(frozen=True)
class RunRow:
    run_id: int
    state: RetrainState
    message: str | None
    started_by: str
    started_at: datetime
    finished_at: datetime | None
    candidate: str | None


# ---------------------------------------------------------------- the order


def start(session: Session, actor: Actor, wanted: RetrainSettings | None = None) -> int:
    """Orders a retraining; a worker takes it up within a second. Returns the run's id. Commits. Admins only.

    Raises Refused with a sentence when there is too little to learn from or too little space, Conflict when a run is
    unfinished already, whoever started it, NotAllowed."""
    require(actor)
    wanted = wanted or RetrainSettings()
    if is_elsewhere(settings().model):
        raise Refused("model_elsewhere", f"the model is at {settings().model}, and can be trained only there")
    _check_flags(wanted.training)
    preview = training_set.preview(session, actor)
    if not preview.enough:
        raise Refused("not_enough", preview.why_not or "there is too little to learn from")
    _check_space()
    training = {**default_training(), **wanted.training}
    asked = {
        "base_model": settings().model,
        "tasks": [task.value for task in wanted.tasks],
        "training": training,
        "estimate_minutes": preview.estimate_minutes,
    }
    run = RetrainRun(started_by=actor.username, settings=asked, message="Waits for a worker.")
    try:
        with writing(session):
            if repository.unfinished_run(session) is None:
                session.add(run)
                session.flush()
                audit.record(session, actor, "retrain.started", f"retrain:{run.id}", asked)
                return run.id
    except IntegrityError:  # the other click was a moment faster
        pass
    raise Conflict("a retraining is under way already, and only one can be")


def default_training() -> dict[str, Any]:
    return dict(PHANTOM_SETTINGS if base_is_phantom() else MEDGEMMA_SETTINGS)


def base_is_phantom() -> bool:
    return bool(model_folder.configured_is_phantom(settings().model))


def cancel(session: Session, actor: Actor, run_id: int) -> None:
    """At once: the worker ends what it runs within seconds, and the model in use stays as it is. Commits. Admins only.
    Raises Conflict when the run is over, NotFound, NotAllowed."""
    require(actor)
    with writing(session):
        run = run_of(session, run_id)
        if run.state not in ON:
            raise Conflict(f"the run is over: {run.state.replace('_', ' ')}")
        run.state, run.cancel_requested_by, run.finished_at = RetrainState.CANCELLED, actor.username, utc_now()
        run.message = f"Cancelled by {actor.display_name}. The model in use was not touched."
        audit.record(session, actor, "retrain.cancelled", f"retrain:{run_id}", {"step": run.step})


def _check_flags(training: dict[str, Any]) -> None:
    """They become arguments of a process, one by one and without a shell; where files go is not for them to say."""
    for name, value in training.items():
        if not re.fullmatch("[a-z_]{2,24}", name) or name in ("data_dir", "output_dir", "base_model", "cache_dir"):
            raise Refused("setting", f"{name!r} is not a setting of training")
        if not isinstance(value, bool | int | float) and not re.fullmatch(r"[\w.]{1,24}", str(value)):
            raise Refused("setting", f"{name} cannot be {value!r}")


def _check_space() -> None:
    folder = settings().data_dir
    free, needed = shutil.disk_usage(folder).free / 1e9, NEEDED_GB[base_is_phantom()]
    if free < needed:
        raise Refused(
            "disk_full",
            f"{folder} has {free:.1f} GB left, and a retraining needs {needed:.0f} GB while it runs. Free some, or set "
            "PEDISCREEN_DATA_DIR to a larger disk.",
        )


# ---------------------------------------------------------------- looking


def current(session: Session, actor: Actor) -> RunView | None:
    """The unfinished run, else the latest; None before the first. Admins only."""
    require(actor)
    run = repository.unfinished_run(session) or next(iter(repository.latest_runs(session, limit=1)), None)
    return _view(session, run) if run else None


def run(session: Session, actor: Actor, run_id: int) -> RunView:
    """Admins only. Raises NotFound."""
    require(actor)
    return _view(session, run_of(session, run_id))


def history(session: Session, actor: Actor, limit: int = 50) -> list[RunRow]:
    """The latest first. Admins only."""
    require(actor)
    return [
        RunRow(
            run.id,
            run.state,
            run.message,
            run.started_by,
            run.started_at,
            run.finished_at,
            _name(session, run.candidate_fk),
        )
        for run in repository.latest_runs(session, limit)
    ]


def _view(session: Session, run: RetrainRun) -> RunView:
    folder = run_folder(run.id)
    data_set = session.get(DataSet, run.data_set_fk) if run.data_set_fk else None
    record, pdf = folder / change_record.FILE_NAME, folder / change_record.PDF_NAME
    return RunView(
        run_id=run.id,
        state=run.state,
        message=run.message,
        started_by=run.started_by,
        started_at=run.started_at,
        finished_at=run.finished_at,
        cancelled_by=run.cancel_requested_by,
        steps=_steps(session, run),
        progress=run.progress,
        settings=run.settings,
        curve=_curve(folder),
        log_tail=_log_tail(folder / LOG),
        data_set_sha256=data_set.sha256 if data_set else None,
        data_set_counts=data_set.counts if data_set else {},
        decision=_decision(run),
        model_in_use=(run.decision or {}).get("model_in_use"),
        candidate=_name(session, run.candidate_fk),
        pictures=folder / COMPARISON,
        change_record=record if record.is_file() else None,
        change_record_pdf=pdf if pdf.is_file() else None,
    )


def _steps(session: Session, run: RetrainRun) -> list[StepView]:
    """From the audit rows of their beginnings."""
    events, _ = audit_repository.events_page(session, AuditQuery(subject=f"retrain:{run.id}"), 0, 500)
    begun: dict[str, list[datetime]] = {}
    for event in reversed(events):
        begun.setdefault(event.action.removeprefix("retrain."), []).append(event.at)
    found = []
    for step in RetrainStep:
        later = [begun[other][0] for other in list(RetrainStep)[list(RetrainStep).index(step) + 1 :] if other in begun]
        is_last = run.step == step
        over = run.finished_at or _ended_at(begun)
        first = begun.get(step, [None])[0]
        until = later[0] if later else over if run.state not in ON and is_last else utc_now()
        if first is None:
            state = "waiting"
        elif not is_last or run.state in (RetrainState.AWAITING_SIGNATURE, RetrainState.PROMOTED):
            state = "done"
        elif run.state in ON:
            state = "running"
        else:
            state = "done" if run.state is RetrainState.HELD and step is RetrainStep.GATE else "ended here"
        seconds = (until - first).total_seconds() if first and until else None
        found.append(StepView(step, state, seconds, len(begun.get(step, []))))
    return found


def _ended_at(begun: dict[str, list[datetime]]) -> datetime | None:
    """When the worker was done with it, while it awaits a signature."""
    return begun.get(RetrainState.AWAITING_SIGNATURE, [None])[-1]


def _curve(folder: Path) -> Curve:
    """Of a run that is under way or over; empty where it has not come so far."""
    loss, score = [], []
    path = next((path for path in (folder / METRICS, folder / "model" / METRICS) if path.is_file()), None)
    for line in path.read_text(encoding="utf-8").splitlines() if path else ():
        with suppress(ValueError, KeyError):  # the last line may be half written
            point = json.loads(line)
            if point["kind"] == "train":
                loss.append((point["step"], point["loss"]))
            else:
                score.append((point["step"], point["score"]))
    return Curve(loss, score)


def _log_tail(path: Path) -> str:
    """The last lines; of a progress bar only how it stands."""
    if not path.is_file():
        return ""
    with path.open("rb") as log:
        log.seek(max(0, path.stat().st_size - LOG_BYTES))
        text = log.read().decode(errors="replace")
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n")[-LOG_LINES:]).strip()


# ---------------------------------------------------------------- the signature


def sign(session: Session, actor: Actor, run_id: int, comment: str) -> Path:
    """Puts the candidate in use, with a change record that the admin answers for. Returns the record's markdown file.
    Commits. Admins only.

    Raises Conflict when the run awaits no signature, or the model it was compared with is not in use any more, Refused
    without a comment, and ModelUnavailable for a candidate whose files were changed: the run then ends failed."""
    require(actor)
    if not comment.strip():
        raise Refused("no_comment", "A comment is part of the signature: say why the change is right.")
    with _one_signature(run_id):
        run = _awaiting(session, run_id)
        record = _write_record(session, run, "promoted", _signature(actor, comment))
        try:
            registry.promote(
                session,
                actor,
                run.candidate_fk,
                change_record=record,
                comment=comment.strip(),
                seen_deployment_id=run.settings["deployment_id"],
            )
        except ModelUnavailable as error:
            _forget_record(run_id)
            _end(session, actor, run_id, RetrainState.FAILED, f"{error} The model in use was not touched.")
            raise
        except BaseException:
            _forget_record(run_id)
            raise
    return record


def decline(session: Session, actor: Actor, run_id: int, comment: str) -> Path:
    """The candidate is kept but not used; the change record says who declined it and why. Commits. Admins only.
    Raises Conflict, Refused without a comment."""
    require(actor)
    if not comment.strip():
        raise Refused("no_comment", "Say why the candidate is declined; the change record keeps it.")
    with _one_signature(run_id):
        run = _awaiting(session, run_id)
        record = _write_record(session, run, "declined", _signature(actor, comment))
        message = f"Declined by {actor.display_name}: {comment.strip()}"
        _end(session, actor, run_id, RetrainState.HELD, message)
    return record


def write_held_record(session: Session, actor: Actor, run_id: int) -> Path:
    """For a candidate that the gate held back; nobody signs it. The same run gives the same record. Services only."""
    require(actor, Role.SERVICE)
    return _write_record(session, run_of(session, run_id), "held", None)


def _write_record(
    session: Session, run: RetrainRun, outcome: Literal["promoted", "declined", "held"], signature: Signature | None
) -> Path:
    decision, candidate = _decision(run), session.get(ModelVersion, run.candidate_fk)
    data_set = session.get(DataSet, run.data_set_fk)
    if decision is None or candidate is None or data_set is None:
        raise NotFound(f"run {run.id} has no candidate to record")
    facts = ChangeFacts(
        run_id=run.id,
        outcome=outcome,
        decision=decision,
        model_in_use=(run.decision or {})["model_in_use"],
        candidate=candidate.name,
        base_model=candidate.base_model or "",
        candidate_sha256=candidate.folder_sha256,
        data_set_sha256=data_set.sha256,
        data_set_counts=data_set.counts,
        left_out=data_set.left_out,
        code_version=candidate.code_version or "",
        settings=run.settings["training"],
        started_by=run.started_by,
        started_at=run.started_at,
        signature=signature,
        is_phantom=candidate.is_phantom,
    )
    return change_record.write(facts, run_folder(run.id))


def _forget_record(run_id: int) -> None:
    for name in (change_record.FILE_NAME, change_record.PDF_NAME):
        (run_folder(run_id) / name).unlink(missing_ok=True)


def _signature(actor: Actor, comment: str) -> Signature:
    return Signature(actor.username, actor.display_name, utc_now(), comment.strip())


def _end(session: Session, actor: Actor, run_id: int, state: RetrainState, message: str) -> None:
    with writing(session):
        run = _awaiting(session, run_id)
        run.state, run.message, run.finished_at = state, message, utc_now()
        audit.record(session, actor, f"retrain.{state}", f"retrain:{run_id}", {"message": message})


@contextmanager
def _one_signature(run_id: int) -> Iterator[None]:
    """Two admins write one record at a time."""
    folder = run_folder(run_id)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / SIGN_LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _awaiting(session: Session, run_id: int) -> RetrainRun:
    run = run_of(session, run_id)
    if run.state is not RetrainState.AWAITING_SIGNATURE or run.candidate_fk is None:
        raise Conflict(f"this run awaits no signature: it is {run.state.replace('_', ' ')}")
    return run


# ---------------------------------------------------------------- rows


def _decision(run: RetrainRun) -> Decision | None:
    return Decision.from_json(run.decision) if run.decision else None


def _name(session: Session, version_id: int | None) -> str | None:
    version = session.get(ModelVersion, version_id) if version_id else None
    return version.name if version else None
