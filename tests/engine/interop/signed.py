"""Signed studies as a hospital would have them, made by hand: every task, both eyes, rejected, corrected, bare."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import numpy as np

from engine.findings.answers import Task, bone_age_answer, fracture_answer, rop_answer
from engine.interop.signed_study import (
    Examination,
    ModelRead,
    Region,
    SignedImage,
    SignedPatient,
    SignedReader,
    SignedStudy,
    SourceImage,
)

DX, OP = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.5.1.4.1.1.77.1.5.1"
SIGNED_AT = datetime(2026, 3, 4, 9, 30, 15, tzinfo=UTC)
# planted: no document may say them anywhere but where a patient or an examination is named
NAME, PATIENT_ID, ACCESSION = "Quixotesson^Planted", "MRN-774411", "ACC-993355"
BIRTH_DATE = date(2016, 11, 5)
PATIENT = SignedPatient(PATIENT_ID, "HOSPITAL-A", NAME, "F", BIRTH_DATE)
READER = SignedReader("Anna Reader", "anna")
PHANTOM_MODEL = "pediscreen-phantom 0.3"


def image_of(answer: dict[str, Any] | None, number: int = 1, side: str | None = "L", **changes: Any) -> SignedImage:
    is_eye = answer is not None and "zone" in answer
    read = ModelRead(answer or bone_age_answer(80), None, PHANTOM_MODEL, False, SIGNED_AT)
    values: dict[str, Any] = {
        "image_id": number,
        "source": SourceImage(
            OP if is_eye else DX, f"1.2.826.0.1.3680043.8.498.1.{number}", f"1.2.826.0.1.3680043.8.498.2.{number}",
            1280, 1024, 1,
        ),
        "modality": "OP" if is_eye else "DX",
        "laterality": side,
        "film_rows": 1280,
        "film_cols": 1024,
        "answer": answer,
        "reject_reason": None,
        "additions": {},
        "regions": (),
        "quality": None,
        "comment": None,
        "reader": READER,
        "signed_at": SIGNED_AT,
        "is_confirmed": True,
        "read": read,
        "picture": film(is_eye),
    }  # fmt: skip
    return SignedImage(**values | changes)


def film(is_colour: bool = False) -> np.ndarray:
    """A gradient with a bright bar, so that something is to be seen."""
    pixels = np.tile(np.linspace(20, 160, 576).astype(np.uint8), (720, 1))
    pixels[200:520, 260:310] = 235
    return np.stack([pixels, pixels // 2, pixels // 3], axis=-1) if is_colour else pixels


def study_of(task: Task | None, *images: SignedImage, **changes: Any) -> SignedStudy:
    values: dict[str, Any] = {
        "study_id": 12,
        "examination": Examination(
            study_instance_uid="1.2.826.0.1.3680043.8.498.77",
            study_id="4711",
            accession_number=ACCESSION,
            acquired_on=date(2026, 3, 3),
            study_date=date(2026, 3, 3),
            study_time="101500",
            referring_physician="Referrer^Rita",
            timezone_offset=None,
        ),
        "patient": PATIENT,
        "task": task,
        "age_months": 111.94,
        "images": images,
        "readers": (READER,),
        "signed_at": SIGNED_AT,
        "organization": "Children's Hospital",
        "is_phantom": False,
        "is_withdrawn": False,
        "software": "0.3.0 (abc1234)",
        "revision": 1,
        "replaced_revision": None,
    }
    return SignedStudy(**values | changes)


def bone_age(months: int = 114, **changes: Any) -> SignedStudy:
    return study_of(Task.BONE_AGE, image_of(bone_age_answer(months), additions={"method": "atlas"}), **changes)


def both_eyes(**changes: Any) -> SignedStudy:
    return study_of(
        Task.ROP,
        image_of(rop_answer("I", "3", "plus"), 1, "R", additions={"aggressive": True, "treatment": "laser"}),
        image_of(rop_answer("none", "0", "none"), 2, "L"),
        **changes,
    )


def fracture(**changes: Any) -> SignedStudy:
    answer = fracture_answer("distal_radius")
    additions = {"fracture_class": "greenstick", "bone": "radius", "region": "metaphysis", "displaced": False}
    marked = image_of(answer, additions=additions, regions=(Region(400, 600, 520, 700),), quality="limited")
    return study_of(Task.FRACTURE, marked, **changes)


def rejected(**changes: Any) -> SignedStudy:
    return study_of(Task.BONE_AGE, image_of(None, reject_reason="not_readable", is_confirmed=False), **changes)


def one_eye_rejected() -> SignedStudy:
    left = image_of(None, 2, "L", reject_reason="poor_quality", is_confirmed=False)
    return study_of(Task.ROP, image_of(rop_answer("II", "2", "preplus"), 1, "R"), left)


def corrected() -> SignedStudy:
    return bone_age(120, revision=2, replaced_revision=1)


def withdrawn() -> SignedStudy:
    bare = image_of(None, read=None, is_confirmed=False)
    return study_of(Task.BONE_AGE, bare, is_withdrawn=True, revision=3, replaced_revision=2)


def bare() -> SignedStudy:
    """Nothing is known of the child but the number, the film has no side, and nothing was read before the decision."""
    image = image_of(fracture_answer("normal"), side=None, read=None, modality="CR", regions=(Region(0, 0, 9, 9),))
    examination = Examination("1.2.826.0.1.3680043.8.498.78", None, None, None, None, None, None, None)
    patient = SignedPatient("7", "", None, None, None)
    return study_of(Task.FRACTURE, image, patient=patient, examination=examination, age_months=None, organization=None)


def unusual_names() -> SignedStudy:
    readers = (SignedReader("Łucja Żółć-O'Neill \\ ^= 山田", "łucja"), SignedReader("Ærø <script>", "ærø"))
    patient = replace(PATIENT, name="Yamada^Tarou=山田^太郎=やまだ^たろう", patient_id="Ä-1")
    image = image_of(bone_age_answer(114), reader=readers[0], comment="größer als\nerwartet \x07 \\ <b>")
    return study_of(Task.BONE_AGE, image, patient=patient, readers=readers)


def phantom() -> SignedStudy:
    study = both_eyes(is_phantom=True)
    images = [replace(one, read=replace(one.read, is_phantom=True)) for one in study.images]  # type: ignore[type-var]
    return replace(study, images=tuple(images))


EVERY_KIND = {
    "bone age": bone_age,
    "both eyes": both_eyes,
    "fracture": fracture,
    "rejected": rejected,
    "one eye rejected": one_eye_rejected,
    "corrected": corrected,
    "withdrawn": withdrawn,
    "bare": bare,
    "unusual names": unusual_names,
    "phantom": phantom,
    "no task": lambda: study_of(None, image_of(None, reject_reason="other", comment="is a foot", read=None)),
    "several frames": lambda: study_of(
        Task.FRACTURE,
        image_of(
            fracture_answer("buckle"),
            source=SourceImage("1.2.840.10008.5.1.4.1.1.7.2", "1.2.3.4.5", "1.2.3.4", 640, 512, 3),
            regions=(Region(0, 0, 1024, 1280), Region(3, 4, 5, 6)),
        ),
    ),
}
