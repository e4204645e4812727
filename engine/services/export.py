"""Reviewed cases as training annotations: a `pedirad-custom` folder that training.pedirad_loader reads back.

Beside them reader_reads.json: every decision of every reader, superseded and withdrawn ones too, by pseudonym."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from db.repositories.reviews import all_reviews, count_images, decided_images
from db.session import writing
from engine.annotations import SPLITS, TASK_FOLDERS, Annotation, Split
from engine.errors import FileRefused, NotFound
from engine.findings.answers import Task
from engine.services import annotation_folder, audit
from engine.services.accounts import Actor, require
from engine.services.annotation_folder import FORMAT, PHANTOM_NOTE, Decided, LeftOut

TRAIN_SHARE, VAL_SHARE = 0.70, 0.15  # of the patients; the rest is for testing
ABOUT_FILE = "export.json"
READER_READS_FILE = "reader_reads.json"


@dataclass(frozen=True)
class ExportSummary:
    out_dir: Path
    images: int
    patients: int
    counts: dict[Task, dict[str, int]]  # task -> split -> images
    left_out: list[LeftOut]
    not_reviewed: int  # images that still await a decision
    reader_reads: int  # decisions in reader_reads.json
    is_phantom: bool  # at least one image or read is a phantom's: not for diagnostic use
    warnings: list[str]


def export_annotations(session: Session, actor: Actor, out_dir: Path, *, seed: int = 0) -> ExportSummary:
    """Write every decided image to `out_dir`, replacing an earlier export there.

    All images of a patient are in one split. The same data and seed give the same folder; it appears whole or not at
    all. Admins only: raises NotAllowed, and Refused("not_an_export") when `out_dir` holds something else."""
    require(actor)
    out_dir = out_dir.absolute()
    with annotation_folder.whole_or_not_at_all(out_dir, ABOUT_FILE) as unfinished:
        summary = _write(session, unfinished, out_dir, seed)
    detail = {"images": summary.images, "patients": summary.patients, "left_out": len(summary.left_out), "seed": seed}
    with writing(session):
        audit.record(session, actor, "export.written", "export", detail)
    return summary


def split_of(patient_key: str, seed: int, train_share: float = TRAIN_SHARE, val_share: float = VAL_SHARE) -> Split:
    """Where a patient's images go: by a hash, so that it does not change when other patients are added."""
    share = int(hashlib.sha256(f"{seed}:{patient_key}".encode()).hexdigest()[:8], 16) / 2**32
    if share < train_share:
        return "train"
    return "val" if share < train_share + val_share else "test"


def reader_reads(rows: Sequence[Decided]) -> list[dict[str, Any]]:
    """One record a decision, in the order in which they were made about each image. Readers appear by pseudonym, and
    nothing that they typed: a comment may name the child."""
    reader_of = {review.id: review.reader.pseudonym for review, *_ in rows}
    return [
        {
            "image_sha256": image.file_sha256,
            "patient": patient.pseudonym,
            "site": study.site,
            "task": study.task.value if study.task else None,
            "revision": review.revision,
            "reader": review.reader.pseudonym,
            "role": review.reader.role.value,
            "supersedes_reader": reader_of[review.supersedes_id] if review.supersedes_id else None,
            "reviewed_at": review.created_at.isoformat(),
            "seconds": review.seconds,
            "verdict": review.verdict.value,
            "answer": review.answer,
            "reject_reason": review.reject_reason.value if review.reject_reason else None,
            "details": annotation_folder.details_without_free_text(review),
            "model_answer": prediction.answer if prediction else None,
            "model_version": prediction.model_version.name if prediction else None,
        }
        for review, image, study, patient, prediction in rows
    ]


def _write(session: Session, folder: Path, out_dir: Path, seed: int) -> ExportSummary:
    annotations: dict[Task, dict[Split, list[Annotation]]] = {task: {split: [] for split in SPLITS} for task in Task}
    left_out: list[LeftOut] = []
    patients: set[int] = set()
    seen_pixels: set[str] = set()
    decided = decided_images(session)
    has_photos = False
    for case in decided:
        review, image, study, patient, _ = case
        reason = annotation_folder.why_unfit(review, image, study)
        if reason is None and image.pixel_sha256 in seen_pixels:
            reason = ("same_pixels", "another image of this export has exactly these pixels")
        if reason is None:
            split = split_of(patient.pseudonym, seed)
            task = Task(review.answer["task"])  # type: ignore[index]
            try:
                image_path = annotation_folder.write_image(image.file_sha256, folder / TASK_FOLDERS[task], split)
            except (NotFound, FileRefused) as error:
                reason = ("film_missing", str(error))
        if reason is not None:
            left_out.append(LeftOut(image.id, study.id, *reason))
            continue
        seen_pixels.add(image.pixel_sha256)
        patients.add(patient.id)
        has_photos = has_photos or image.source_format != "dicom"
        annotations[task][split].append(annotation_folder.annotation_of(image_path, case))

    written = [record for splits in annotations.values() for records in splits.values() for record in records]
    is_phantom = any(record.provenance["phantom"] for record in written)
    annotation_folder.write_annotations(folder, annotations)
    reads = reader_reads(all_reviews(session))
    annotation_folder.write_json(folder / READER_READS_FILE, reads)
    about = {**FORMAT, "seed": seed, "images": len(written), "patients": len(patients), "phantom": is_phantom}
    if is_phantom:
        about["note"] = PHANTOM_NOTE
    annotation_folder.write_json(folder / ABOUT_FILE, about)

    warnings = []
    if has_photos:
        warnings.append("PNG and JPEG files cannot say whether text is burned in: look at them before they leave")
    return ExportSummary(
        out_dir=out_dir,
        images=len(written),
        patients=len(patients),
        counts={
            task: {split: len(records) for split, records in splits.items()} for task, splits in annotations.items()
        },
        left_out=left_out,
        not_reviewed=count_images(session) - len(decided),
        reader_reads=len(reads),
        is_phantom=is_phantom,
        warnings=warnings,
    )
