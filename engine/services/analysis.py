"""An image that somebody wants read and not stored: no study, no file; what stays is an audit row with its hash."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sqlalchemy.orm import Session

from db.models import Role
from db.session import writing
from engine.errors import AdmissionRefused
from engine.findings.answers import Task
from engine.imaging import admission
from engine.imaging.display import display_pixels
from engine.imaging.load import load_film
from engine.imaging.preprocess import model_image
from engine.inference.read import Read, ReadContext
from engine.services import audit, worker_door
from engine.services.accounts import READERS, Actor, require
from engine.services.ingest import age_at_acquisition


@dataclass(frozen=True)
class Analysis:
    """`context`: what it was read with, from the sender or the file."""

    read: Read
    context: ReadContext
    is_phantom: bool  # the model
    image_is_phantom: bool
    warnings: tuple[str, ...]


def analyze(
    session: Session,
    actor: Actor,
    path: Path,
    task: Task,
    *,
    sex: Literal["M", "F", None] = None,
    age_months: float | None = None,
) -> Analysis:
    """Have this machine's worker read the image in `path`. Writes an audit row and commits.

    Raises Refused for a file that would not enter the worklist either, and for a sex that contradicts the file's;
    ModelUnavailable and ReaderUnavailable where nothing reads now, ReadFailed, NotAllowed."""
    require(actor, *READERS, Role.SERVICE)
    film = load_film(path)
    warnings = (*film.warnings, *admission.check_image(film))
    tags = film.tags
    if sex is not None and tags.patient_sex is not None and sex != tags.patient_sex:
        raise AdmissionRefused(
            "sex_contradicts_file",
            f"(0010,0040) Patient's Sex is {tags.patient_sex} in the file, and {sex} was sent: one of the two is wrong",
        )
    if age_months is None:
        age_months = age_at_acquisition(tags.patient_birth_date, tags.acquired_on)
    context = ReadContext(sex or tags.patient_sex, age_months)
    reader = worker_door.reader()
    (read,) = reader.read([model_image(display_pixels(film))], task, [context])
    with path.open("rb") as file:
        file_sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    with writing(session):
        detail = {"task": task.value, "model_version": read.model_version, "file_sha256": file_sha256}
        audit.record(session, actor, "image.analyzed", f"file:{file_sha256[:16]}", detail)
    return Analysis(read, context, reader.is_phantom, tags.made_by_phantom, warnings)
