"""Reviewed cases as training annotations: a `pedirad-custom` folder that training.pedirad_loader reads back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.orm import Session

from engine.findings.answers import Task
from engine.services.accounts import Actor


@dataclass(frozen=True)
class LeftOut:
    image_id: int
    study_id: int
    code: str  # rejected, burned_in_annotation, burned_in_unknown, film_missing
    reason: str


@dataclass(frozen=True)
class ExportSummary:
    out_dir: Path
    images: int
    patients: int
    counts: dict[Task, dict[str, int]]  # task -> split -> images
    left_out: list[LeftOut]
    not_reviewed: int  # images that still await a decision
    is_phantom: bool  # at least one image or read is a phantom's: not for diagnostic use
    warnings: list[str]


def export_annotations(session: Session, actor: Actor, out_dir: Path, *, seed: int = 0) -> ExportSummary:
    """Write every decided image to `out_dir`, replacing an earlier export there.

    All images of a patient are in one split. The same data and seed give the same folder. Raises NotAllowed, and
    Refused("not_an_export") when `out_dir` holds something else."""
    raise NotImplementedError
