"""What a worker records of a retraining: where it is, how it ended. The admin's side is engine.services.retrain.

Every change asks first whether the run is still on: an admin may have cancelled it meanwhile, and then nothing is
changed any more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from db.models import RetrainRun, RetrainState, RetrainStep, Role
from db.repositories import retrain as repository
from db.session import writing
from db.types import utc_now
from engine.errors import NotFound
from engine.services import audit
from engine.services.accounts import Actor, require
from engine.settings import settings

ON = (RetrainState.QUEUED, RetrainState.RUNNING)
LOG, METRICS, COMPARISON = "log.txt", "metrics.jsonl", "comparison"


@dataclass(frozen=True)
class Order:
    """What an admin asked for, as the worker needs it."""

    run_id: int
    state: RetrainState
    started_by: str
    settings: dict[str, Any]
    data_set_id: int | None
    candidate_id: int | None

    @property
    def is_on(self) -> bool:
        return self.state in ON


def run_folder(run_id: int) -> Path:
    return settings().data_dir / "retrain" / str(run_id)


def run_of(session: Session, run_id: int) -> RetrainRun:
    """Raises NotFound."""
    run = repository.run_by_id(session, run_id)
    if run is None:
        raise NotFound(f"there is no retrain run {run_id}")
    return run


def waiting_runs(session: Session, actor: Actor) -> list[int]:
    """Runs that a worker has to be at: queued, or running on whichever worker. Services only."""
    require(actor, Role.SERVICE)
    return [run.id for state in ON for run in repository.runs_in_state(session, state)]


def is_kept(session: Session, actor: Actor, run_id: int) -> bool:
    """Whether the run needs what its steps left in its folder. Services only."""
    require(actor, Role.SERVICE)
    run = session.get(RetrainRun, run_id)
    return run is not None and run.state in ON


def order(session: Session, actor: Actor, run_id: int) -> Order | None:
    """None when there is no such run. Services only."""
    require(actor, Role.SERVICE)
    session.rollback()
    run = session.get(RetrainRun, run_id, populate_existing=True)
    if run is None:
        return None
    return Order(run.id, run.state, run.started_by, dict(run.settings), run.data_set_fk, run.candidate_fk)


def begin(session: Session, actor: Actor, run_id: int, step: RetrainStep) -> bool:
    """Commits. Services only; False when the run is over."""

    def change(run: RetrainRun) -> None:
        run.state, run.step, run.progress, run.message = RetrainState.RUNNING, step, 0.0, None
        audit.record(session, actor, f"retrain.{step}", _subject(run_id))

    return _while_on(session, actor, run_id, change)


def report(session: Session, actor: Actor, run_id: int, progress: float, message: str | None = None) -> bool:
    """`progress` of the step, 0 to 1. Commits where it has moved. Services only; False when the run is over."""
    now = order(session, actor, run_id)
    if now is None or not now.is_on:
        return False
    run = session.get(RetrainRun, run_id)
    if run is None or (abs(run.progress - progress) < 0.005 and run.message == message):
        return run is not None

    def change(run: RetrainRun) -> None:
        run.progress, run.message = progress, message

    return _while_on(session, actor, run_id, change)


def note(session: Session, actor: Actor, run_id: int, **values: Any) -> bool:
    """Columns that a step has found out, and `settings` added to those there are. Commits. Services only."""

    def change(run: RetrainRun) -> None:
        for name, value in values.items():
            setattr(run, name, {**run.settings, **value} if name == "settings" else value)

    return _while_on(session, actor, run_id, change)


def end(session: Session, actor: Actor, run_id: int, state: RetrainState, message: str, **values: Any) -> bool:
    """The worker's last word: failed, held, or awaiting a signature. Commits. Services only."""

    def change(run: RetrainRun) -> None:
        run.state, run.message = state, message
        if state is not RetrainState.AWAITING_SIGNATURE:
            run.finished_at = utc_now()
        for name, value in values.items():
            setattr(run, name, value)
        audit.record(session, actor, f"retrain.{state}", _subject(run_id), {"step": run.step, "message": message})

    return _while_on(session, actor, run_id, change)


def earlier_tries(session: Session, actor: Actor, run_id: int, model_in_use: str) -> int:
    """How many candidates were compared with that model before. Services only."""
    require(actor, Role.SERVICE)
    runs = repository.latest_runs(session, limit=1000)
    return sum(run.id < run_id and (run.decision or {}).get("model_in_use") == model_in_use for run in runs)


def _while_on(session: Session, actor: Actor, run_id: int, change: Callable[[RetrainRun], None]) -> bool:
    require(actor, Role.SERVICE)
    with writing(session):
        run = repository.run_by_id(session, run_id)
        if run is None or run.state not in ON:
            return False
        change(run)
    return True


def _subject(run_id: int) -> str:
    return f"retrain:{run_id}"
