"""A file comes in: it becomes an image of a study on the worklist, or a row in quarantine. Nothing is lost."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

from sqlalchemy.orm import Session

from engine.findings.answers import Task
from engine.services.accounts import Actor


@dataclass(frozen=True)
class PatientEntry:
    """What the upload form adds for files without tags. It fills what the file does not say and never overrides
    what it says: a contradiction becomes a warning on the case. PNG and JPEG need at least `patient_id`."""

    patient_id: str | None = None
    sex: Literal["M", "F", None] = None
    birth_date: date | None = None
    acquired_on: date | None = None
    laterality: Literal["L", "R", None] = None
    site: str | None = None


@dataclass(frozen=True)
class IngestResult:
    """`duplicate` points to the image that is already there; `quarantined` has a `reason_code` and a `reason`."""

    outcome: Literal["accepted", "duplicate", "quarantined"]
    file_name: str
    file_sha256: str
    study_id: int | None = None
    image_id: int | None = None
    task: Task | None = None
    warnings: tuple[str, ...] = ()
    reason_code: str | None = None
    reason: str | None = None


def ingest_file(
    session: Session,
    actor: Actor,
    path: Path,
    file_name: str,
    *,
    entry: PatientEntry | None = None,
    task: Task | None = None,
) -> IngestResult:
    """Take in one file. Commits. `path` is read and left where it is; `file_name` is what the sender called it.

    Refusals do not raise: they come back as `quarantined`. Raises NotAllowed."""
    raise NotImplementedError
