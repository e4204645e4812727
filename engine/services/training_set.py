"""What a retraining would learn from, and the snapshot of it that it does learn from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from engine.annotations import Split
from engine.findings.answers import Task
from engine.services.accounts import Actor
from engine.services.export import LeftOut


@dataclass(frozen=True)
class TaskCounts:
    """Usable decisions of one task."""

    task: Task
    corrected: int
    confirmed: int
    by_label: dict[str, int]  # "5-9 y" for bone age, the zone for ROP, the class for fracture
    by_site: dict[str, int]
    by_sex: dict[str, int]  # F, M, unknown
    splits: dict[Split, int]
    enough: bool  # to be taught
    why_not: str | None


@dataclass(frozen=True)
class Agreement:
    """Images that two or more readers have answered."""

    task: Task
    images: int
    agreeing: int
    mean_difference_months: float | None  # bone age only


@dataclass(frozen=True)
class TrainingSetPreview:
    tasks: list[TaskCounts]
    agreement: list[Agreement]
    replay: dict[Task, int]  # cases added so that the model does not forget
    left_out: list[LeftOut]
    not_reviewed: int  # images that still await a decision
    new_decisions: int  # that the model in use has not seen
    enough: bool
    why_not: str | None  # a sentence for the admin
    estimate_minutes: float


@dataclass(frozen=True)
class SnapshotReview:
    review_id: int
    image_id: int
    split: Split


@dataclass(frozen=True)
class Snapshot:
    """`counts` and `left_out` are fit for the data_set row, which `snapshot` has added: `data_set_id`."""

    out_dir: Path
    sha256: str
    counts: dict[str, Any]
    left_out: dict[str, int]  # code -> images
    reviews: list[SnapshotReview]
    is_phantom: bool
    data_set_id: int | None = None


def preview(session: Session, actor: Actor) -> TrainingSetPreview:
    """Admins only: raises NotAllowed."""
    raise NotImplementedError


def snapshot(session: Session, actor: Actor, out_dir: Path) -> Snapshot:
    """Write the training set to `out_dir` (a pedirad-custom folder), whole or not at all, replacing an earlier one
    there. The same decisions give the same `sha256`. Records the data set and commits.

    Raises Refused with a sentence for the admin when there is too little to learn from (codes too_few, one_class,
    nothing_new), NotAllowed."""
    raise NotImplementedError
