"""Reviewed cases as training annotations: a `pedirad-custom` folder that training.pedirad_loader reads back."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image as Pillow
from sqlalchemy.orm import Session

from db.models import Image, Patient, Prediction, Review, Study, Verdict
from db.repositories.reviews import count_images, decided_images
from db.session import writing
from engine.annotations import SPLITS, TASK_FOLDERS, Annotation, Split, annotations_file_name
from engine.errors import FileRefused, NotFound, Refused
from engine.findings.answers import Task, check_answer
from engine.imaging.display import display_pixels
from engine.imaging.preprocess import model_image
from engine.services import audit, images, words
from engine.services.accounts import Actor, require

TRAIN_SHARE, VAL_SHARE = 0.70, 0.15  # of the patients; the rest is for testing
CHOICE = re.compile("[a-z_]{1,24}")
ABOUT_FILE = "export.json"
FORMAT = {"format": "pedirad-custom", "format_version": 1}


@dataclass(frozen=True)
class LeftOut:
    image_id: int
    study_id: int
    code: str  # rejected, burned_in_annotation, burned_in_unknown, same_pixels, film_missing
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

    All images of a patient are in one split. The same data and seed give the same folder; it appears whole or not at
    all. Admins only: raises NotAllowed, and Refused("not_an_export") when `out_dir` holds something else."""
    require(actor)
    out_dir = out_dir.absolute()
    _check_replaceable(out_dir)
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    unfinished = out_dir.parent / f".{out_dir.name}-{uuid.uuid4().hex}.unfinished"
    try:
        summary = _write(session, actor, unfinished, out_dir, seed)
        _put_in_place(unfinished, out_dir)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    detail = {"images": summary.images, "patients": summary.patients, "left_out": len(summary.left_out), "seed": seed}
    with writing(session):
        audit.record(session, actor, "export.written", "export", detail)
    return summary


def split_of(patient_key: str, seed: int) -> Split:
    """Where a patient's images go: by a hash, so that it does not change when other patients are added."""
    share = int(hashlib.sha256(f"{seed}:{patient_key}".encode()).hexdigest()[:8], 16) / 2**32
    if share < TRAIN_SHARE:
        return "train"
    return "val" if share < TRAIN_SHARE + VAL_SHARE else "test"


def _write(session: Session, actor: Actor, folder: Path, out_dir: Path, seed: int) -> ExportSummary:
    annotations: dict[Task, dict[str, list[Annotation]]] = {task: {split: [] for split in SPLITS} for task in Task}
    left_out: list[LeftOut] = []
    patients: set[int] = set()
    seen_pixels: set[str] = set()
    decided = decided_images(session)
    has_photos = False
    for review, image, study, patient, prediction in decided:
        reason = _why_left_out(review, image, study, seen_pixels)
        if reason is None:
            split = split_of(patient.pseudonym, seed)
            task = Task(review.answer["task"])  # type: ignore[index]
            try:
                image_path = _write_image(session, actor, image, folder / TASK_FOLDERS[task], split)
            except (NotFound, FileRefused) as error:
                reason = ("film_missing", str(error))
        if reason is not None:
            left_out.append(LeftOut(image.id, study.id, *reason))
            continue
        seen_pixels.add(image.pixel_sha256)
        patients.add(patient.id)
        has_photos = has_photos or image.source_format != "dicom"
        annotations[task][split].append(_annotation(image_path, review, image, study, patient, prediction))

    written = [record for splits in annotations.values() for records in splits.values() for record in records]
    is_phantom = any(record.provenance["phantom"] for record in written)
    for task, splits in annotations.items():
        for split, records in splits.items():
            _write_json(
                folder / TASK_FOLDERS[task] / annotations_file_name(split), [record.as_record() for record in records]
            )
            (folder / TASK_FOLDERS[task] / split).mkdir(exist_ok=True)
    about = {**FORMAT, "seed": seed, "images": len(written), "patients": len(patients), "phantom": is_phantom}
    if is_phantom:
        about["note"] = "made with phantoms or the phantom model: not for diagnostic use"
    _write_json(folder / ABOUT_FILE, about)

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
        is_phantom=is_phantom,
        warnings=warnings,
    )


def _why_left_out(review: Review, image: Image, study: Study, seen_pixels: set[str]) -> tuple[str, str] | None:
    """A code and a reason, or None when the image may go out."""
    if review.verdict == Verdict.REJECTED or review.answer is None:
        return "rejected", words.review_words(review)
    if image.pixel_sha256 in seen_pixels:
        return "same_pixels", "another image of this export has exactly these pixels"
    if image.source_format != "dicom" or study.is_phantom or review.details.get("no_burned_in_text") is True:
        return None
    # (0028,0301) Burned In Annotation; missing counts as YES
    if image.burned_in_annotation is None:
        return "burned_in_unknown", "(0028,0301) Burned In Annotation is missing: the pixels may name the child"
    if image.burned_in_annotation.upper() != "NO":
        return "burned_in_annotation", f"(0028,0301) Burned In Annotation is {image.burned_in_annotation}"
    return None


def _write_image(session: Session, actor: Actor, image: Image, task_folder: Path, split: str) -> str:
    """An 8-bit PNG of what the model saw before its resize; returns the path relative to the task's folder."""
    film = images.film(session, actor, image.id)
    picture: Pillow.Image = model_image(display_pixels(film))
    if not film.is_colour:
        picture = picture.convert("L")
    path = task_folder / split / f"{image.file_sha256[:32]}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, compress_level=3)
    return f"{split}/{path.name}"


def _annotation(
    image_path: str, review: Review, image: Image, study: Study, patient: Patient, prediction: Prediction | None
) -> Annotation:
    is_phantom = study.is_phantom or (prediction is not None and prediction.model_version.is_phantom)
    return Annotation(
        image_path=image_path,
        answer=check_answer(review.answer or {}),
        sex=patient.sex.value if patient.sex else None,
        age_months=study.age_months,
        provenance={
            "patient": patient.pseudonym,
            "laterality": image.laterality.value if image.laterality else None,
            "site": study.site,
            "image_sha256": image.file_sha256,
            "pixel_sha256": image.pixel_sha256,
            "reader": review.reader.pseudonym,
            "reviewed_at": review.created_at.isoformat(),
            "verdict": review.verdict.value,
            "details": _details_without_free_text(review),
            "model_answer": prediction.answer if prediction else None,
            "model_version": prediction.model_version.name if prediction else None,
            "phantom": is_phantom,
        },
    )


def _details_without_free_text(review: Review) -> dict[str, Any]:
    """What a reader typed may name the child; only switches and choices leave."""
    return {
        name: value
        for name, value in review.details.items()
        if CHOICE.fullmatch(name) and (isinstance(value, bool) or (isinstance(value, str) and CHOICE.fullmatch(value)))
    }


def _write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _check_replaceable(out_dir: Path) -> None:
    if not out_dir.exists() or (out_dir.is_dir() and not any(out_dir.iterdir())):
        return
    about = out_dir / ABOUT_FILE
    try:
        is_export = json.loads(about.read_text(encoding="utf-8")).get("format") == FORMAT["format"]
    except (OSError, ValueError, AttributeError):
        is_export = False
    if not is_export:
        raise Refused("not_an_export", f"{out_dir} holds something other than an export: choose an empty folder")


def _put_in_place(unfinished: Path, out_dir: Path) -> None:
    if out_dir.exists():
        earlier = unfinished.with_suffix(".earlier")
        os.rename(out_dir, earlier)
        os.rename(unfinished, out_dir)
        shutil.rmtree(earlier)
    else:
        os.rename(unfinished, out_dir)
