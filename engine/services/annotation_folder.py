"""Decided images as a `pedirad-custom` folder: what an export and a training set have in common."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from db.models import Image, Patient, Prediction, Review, Study, Verdict
from engine.annotations import TASK_FOLDERS, Annotation, Split, annotations_file_name
from engine.errors import Refused
from engine.findings import additions
from engine.findings.answers import Task, check_answer
from engine.imaging.preprocess import FILM_PNG, stored_model_image
from engine.services import images, words

CHOICE = re.compile("[a-z_]{1,24}")
UNFINISHED = re.compile(r"\.(?P<name>.+)-[0-9a-f]{32}\.lock")
FORMAT = {"format": "pedirad-custom", "format_version": 1}
PHANTOM_NOTE = "made with phantoms or the phantom model: not for diagnostic use"

Decided = tuple[Review, Image, Study, Patient, Prediction | None]


@dataclass(frozen=True)
class LeftOut:
    image_id: int
    study_id: int
    code: str  # rejected, burned_in_annotation, burned_in_unknown, same_pixels, film_missing ...
    reason: str


def why_unfit(review: Review, image: Image, study: Study) -> tuple[str, str] | None:
    """A code and a reason, or None when the image may go out."""
    if review.verdict == Verdict.REJECTED or review.answer is None:
        return "rejected", words.review_words(review)
    if image.source_format != "dicom" or study.is_phantom or review.details.get("no_burned_in_text") is True:
        return None
    # (0028,0301) Burned In Annotation; missing counts as YES
    if image.burned_in_annotation is None:
        return "burned_in_unknown", "(0028,0301) Burned In Annotation is missing: the pixels may name the child"
    if image.burned_in_annotation.upper() != "NO":
        return "burned_in_annotation", f"(0028,0301) Burned In Annotation is {image.burned_in_annotation}"
    return None


def write_image(file_sha256: str, task_folder: Path, split: Split) -> str:
    """An 8-bit PNG of what the model saw before its resize; returns the path relative to the task's folder. For the
    services that have checked the actor; threads may call it.

    Raises NotFound when the film is gone, FileRefused."""
    film = images.kept_film(file_sha256)
    path = task_folder / split / f"{file_sha256[:32]}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    stored_model_image(film).save(path, **FILM_PNG)
    return f"{split}/{path.name}"


def annotation_of(image_path: str, decided: Decided, **more: Any) -> Annotation:
    """`more` is added to the provenance."""
    review, image, study, patient, prediction = decided
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
            "details": details_without_free_text(review),
            "model_answer": prediction.answer if prediction else None,
            "model_version": prediction.model_version.name if prediction else None,
            "phantom": is_phantom,
            **more,
        },
    )


def details_without_free_text(review: Review) -> dict[str, Any]:
    """What a reader typed may name the child; only switches and choices leave, and what was added to the answer."""
    choices = {
        name: value
        for name, value in review.details.items()
        if CHOICE.fullmatch(name) and (isinstance(value, bool) or (isinstance(value, str) and CHOICE.fullmatch(value)))
    }
    return choices | additions.stored(review.answer, review.details)


def write_annotations(folder: Path, annotations: Mapping[Task, Mapping[Split, Sequence[Annotation]]]) -> None:
    for task, splits in annotations.items():
        for split, records in splits.items():
            place = folder / TASK_FOLDERS[task]
            write_json(place / annotations_file_name(split), [record.as_record() for record in records])
            (place / split).mkdir(exist_ok=True)


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@contextmanager
def whole_or_not_at_all(out_dir: Path, about_file: str, format: str = FORMAT["format"]) -> Iterator[Path]:
    """A new folder that takes `out_dir`'s place at the end, and goes away on an error; what a killed process left is
    cleared away by the next one beside it.

    Raises Refused("not_an_export") when `out_dir` holds something other than a folder whose `about_file` says
    that it has this `format`."""
    out_dir.parent.mkdir(parents=True, exist_ok=True)
    _clear_up_after_the_killed(out_dir.parent)
    _check_replaceable(out_dir, about_file, format)
    beside = out_dir.parent / f".{out_dir.name}-{uuid.uuid4().hex}"
    unfinished, held = beside.with_name(f"{beside.name}.unfinished"), beside.with_name(f"{beside.name}.lock")
    with held.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            unfinished.mkdir()
            yield unfinished
            _put_in_place(unfinished, out_dir)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
            held.unlink(missing_ok=True)


def _clear_up_after_the_killed(folder: Path) -> None:
    """Unfinished folders whose lock nobody holds any more, because its process has died. An earlier export that was
    out of its place at that moment comes back to it."""
    for held in folder.glob(".*.lock"):
        found = UNFINISHED.fullmatch(held.name)
        if found is None:
            continue
        with held.open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(held.with_suffix(".unfinished"), ignore_errors=True)
            earlier, out_dir = held.with_suffix(".earlier"), folder / found["name"]
            if earlier.exists() and not out_dir.exists():
                os.rename(earlier, out_dir)
            shutil.rmtree(earlier, ignore_errors=True)
            held.unlink(missing_ok=True)


def _check_replaceable(out_dir: Path, about_file: str, format: str) -> None:
    if not out_dir.exists() or (out_dir.is_dir() and not any(out_dir.iterdir())):
        return
    try:
        is_ours = json.loads((out_dir / about_file).read_text(encoding="utf-8")).get("format") == format
    except (OSError, ValueError, AttributeError):
        is_ours = False
    if not is_ours:
        raise Refused("not_an_export", f"{out_dir} holds something other than an export: choose an empty folder")


def _put_in_place(unfinished: Path, out_dir: Path) -> None:
    if out_dir.exists():
        earlier = unfinished.with_suffix(".earlier")
        os.rename(out_dir, earlier)
        os.rename(unfinished, out_dir)
        shutil.rmtree(earlier)
    else:
        os.rename(unfinished, out_dir)
