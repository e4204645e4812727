"""What the batch job that reads new studies needs: the images that wait, and a place to put the reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sqlalchemy.orm import Session

from engine.findings.answers import Task, View
from engine.inference.read import Read, ReadContext
from engine.services.accounts import Actor


@dataclass(frozen=True)
class AwaitingImage:
    """`task` None: triage it first (`record_triage`). `read_round` goes back with the read, so that a fact which a
    reader supplied meanwhile leads to a new read."""

    image_id: int
    study_id: int
    task: Task | None
    sex: Literal["M", "F", None]
    age_months: float | None
    read_round: int

    @property
    def context(self) -> ReadContext:
        return ReadContext(sex=self.sex, age_months=self.age_months)


def images_awaiting_read(
    session: Session, actor: Actor, limit: int = 32, image_ids: Sequence[int] | None = None
) -> list[AwaitingImage]:
    """The images to read next, the longest waiting first; of `image_ids` only those that still wait, when given."""
    raise NotImplementedError


def record_triage(
    session: Session, actor: Actor, image_id: int, view: View, probabilities: dict[str, float]
) -> AwaitingImage | None:
    """Route an image whose tags did not say what it is. Returns it with its task, ready to be read, or None when it
    cannot be read now (not one of the three views, or a fact is missing; the case says so). Commits."""
    raise NotImplementedError


def record_reads(
    session: Session,
    actor: Actor,
    image_ids: Sequence[int],
    reads: Sequence[Read],
    *,
    is_phantom: bool,
    read_rounds: Sequence[int] | None = None,
) -> list[int]:
    """Store reads, one an image, and return the prediction ids. Commits.

    Idempotent: a second read of the same image, round and model version changes nothing. `is_phantom` says that the
    phantom model made them (Reader.is_phantom)."""
    raise NotImplementedError


def record_read_failure(session: Session, actor: Actor, image_id: int, reason: str) -> None:
    """The image cannot be read for a reason of its own (its pixels are gone, say): the case says so. Commits."""
    raise NotImplementedError


def heartbeat(
    session: Session, actor: Actor, worker_name: str, model_version: str | None, detail: str | None = None
) -> None:
    """The worker is alive; `detail` in a few words what it does or waits for. Commits."""
    raise NotImplementedError
