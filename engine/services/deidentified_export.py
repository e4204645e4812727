"""Studies as DICOM files without their patients: `OUT_DIR/<pseudonym>/<study>/<instance>.dcm`, whole or not at all.

Beside them deidentified.json (what is there) and held_back.json (what is not, and why). Nothing is left there that
engine.interop.rescan finds its patient in."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from db.models import Image, Patient, Review, Study, Verdict
from db.repositories.reviews import decided_images, latest_reviews
from db.repositories.studies import study_with_images
from db.session import writing
from engine.errors import Damaged, NotFound, Refused
from engine.interop import crosswalk, rescan
from engine.interop.deidentify import DeidentificationKey, Region, deidentified, write
from engine.services import annotation_folder, audit, images
from engine.services.accounts import Actor, require
from engine.services.annotation_folder import PHANTOM_NOTE
from engine.settings import settings

FORMAT = {"format": "pediscreen-deidentified-dicom", "format_version": 1}
ABOUT_FILE, HELD_BACK_FILE = "deidentified.json", "held_back.json"


@dataclass(frozen=True)
class HeldBack:
    image_id: int
    study_id: int
    code: str  # rejected, photo, burned_in_annotation, burned_in_unknown, still_identifying ...
    reason: str


@dataclass(frozen=True)
class DeidentifiedExport:
    out_dir: Path
    images: int
    patients: int
    masked: int
    held_back: list[HeldBack]
    is_phantom: bool
    is_key_kept: bool  # False: made for this export and gone, no later one will fit to it
    crosswalk: Path | None


@dataclass(frozen=True)
class CrosswalkWanted:
    """Where to write who is who, and what it is encrypted with."""

    path: Path
    secret: bytes


def export_dicom(
    session: Session,
    actor: Actor,
    out_dir: Path,
    *,
    study_ids: Sequence[int] | None = None,
    masks: Mapping[int, Sequence[Region]] | None = None,
    wanted_crosswalk: CrosswalkWanted | None = None,
) -> DeidentifiedExport:
    """Write every decided image, or all images of `study_ids`, replacing an earlier export there. `masks` by image.

    The key is PEDISCREEN_DEIDENTIFICATION_KEY, or made for this export. Admins only: raises NotAllowed, NotFound for a
    study or a masked image that is not there, and Refused: not_an_export, weak_key, crosswalk_in_export, weak_secret,
    file_exists, still_identifying for the folder as a whole."""
    require(actor)
    out_dir = out_dir.absolute()
    if wanted_crosswalk is not None:
        _check_wish(wanted_crosswalk, out_dir)
    key_setting = settings().deidentification_key
    key = DeidentificationKey(key_setting.encode() if key_setting else secrets.token_bytes(32))
    chosen = _chosen(session, study_ids)
    if missing := set(masks or {}) - {image.id for _, image, *_ in chosen}:
        raise NotFound(f"a mask is given for image {min(missing)}, which is not among those to export")
    with annotation_folder.whole_or_not_at_all(out_dir, ABOUT_FILE, FORMAT["format"]) as unfinished:
        export = _Export(key, unfinished, masks or {})
        for case in chosen:
            export.add(*case)
        export.write_reports()
    if wanted_crosswalk is not None:
        crosswalk.write(wanted_crosswalk.path, export.crosswalk, wanted_crosswalk.secret)
    detail = {
        "images": len(export.written),
        "patients": len({record["patient"] for record in export.written}),
        "masked": sum(record["masked"] for record in export.written),
        "held_back": len(export.held_back),
        "key_kept": key_setting is not None,
        "crosswalk": wanted_crosswalk is not None,
        "studies": "decided" if study_ids is None else sorted(set(study_ids)),
    }
    with writing(session):
        audit.record(session, actor, "export.deidentified", "export", detail)
    return DeidentifiedExport(
        out_dir,
        detail["images"],
        detail["patients"],
        detail["masked"],
        export.held_back,
        any(record["phantom"] for record in export.written),
        detail["key_kept"],
        wanted_crosswalk.path if wanted_crosswalk else None,
    )


def _check_wish(wanted: CrosswalkWanted, out_dir: Path) -> None:
    crosswalk.check_secret(wanted.secret)
    if wanted.path.absolute().is_relative_to(out_dir):
        raise Refused("crosswalk_in_export", "The crosswalk must not lie in the folder that leaves.")
    if wanted.path.exists():
        raise Refused("file_exists", f"{wanted.path} is there already: a crosswalk replaces no other file.")


Chosen = tuple[Review | None, Image, Study, Patient]


def _chosen(session: Session, study_ids: Sequence[int] | None) -> list[Chosen]:
    if study_ids is None:
        return [(review, image, study, patient) for review, image, study, patient, _ in decided_images(session)]
    found: list[Chosen] = []
    for study_id in sorted(set(study_ids)):
        study = study_with_images(session, study_id)
        if study is None:
            raise NotFound(f"there is no study {study_id}")
        reviews = latest_reviews(session, [image.id for image in study.images])
        found += [(reviews.get(image.id), image, study, study.patient) for image in study.images]
    return found


class _Export:
    def __init__(self, key: DeidentificationKey, folder: Path, masks: Mapping[int, Sequence[Region]]) -> None:
        self.key, self.folder, self.masks = key, folder, masks
        self.written: list[dict[str, Any]] = []
        self.held_back: list[HeldBack] = []
        self.crosswalk: list[dict[str, Any]] = []
        self.known = rescan.identifiers([])

    def add(self, review: Review | None, image: Image, study: Study, patient: Patient) -> None:
        try:
            self._add(review, image, study, patient)
        except (Refused, NotFound, Damaged) as refusal:
            code = refusal.code if isinstance(refusal, Refused) else "file_missing_or_changed"
            self.held_back.append(HeldBack(image.id, study.id, code, str(refusal)))

    def _add(self, review: Review | None, image: Image, study: Study, patient: Patient) -> None:
        if review is not None and review.verdict is Verdict.REJECTED:
            raise Refused("rejected", "A reader rejected the image.")
        if image.source_format != "dicom":
            raise Refused("photo", "PNG and JPEG files are no DICOM objects: they leave with the annotations.")
        original = images.checked_original(image.file_sha256)
        masks = self.masks.get(image.id, ())
        is_free_of_text = study.is_phantom or (review is not None and review.details.get("no_burned_in_text") is True)
        new = deidentified(original, self.key, patient.pseudonym, masks=masks, is_free_of_text=is_free_of_text)

        name = f"{patient.pseudonym}/{new.StudyInstanceUID}/{new.SOPInstanceUID}.dcm"
        path = self.folder / name
        write(new, path)
        known = rescan.identifiers_of(original) | rescan.identifiers(_known_here(image, study, patient))
        if leaks := rescan.leaks_in_dicom(path, known, name):
            path.unlink()
            found = "; ".join(f"{leak.what} in {leak.where}" for leak in leaks[:5])
            raise Refused("still_identifying", f"The scan of the new file still found: {found}.")
        self.known |= known
        answer = review.answer if review is not None and review.verdict is not Verdict.WITHDRAWN else None
        self.written.append(
            {
                "file": name,
                "patient": patient.pseudonym,
                "task": study.task.value if study.task else None,
                "answer": answer,
                "masked": bool(masks),
                "phantom": study.is_phantom,
            }
        )
        self.crosswalk.append(
            {
                "file": name,
                "patient": patient.pseudonym,
                "patient_id": patient.patient_id,
                "issuer": patient.issuer,
                "days_earlier": self.key.days_earlier(patient.pseudonym),
                "accession_number": study.accession_number,
                "study_instance_uid": [study.study_instance_uid, str(new.StudyInstanceUID)],
                "series_instance_uid": [image.series_instance_uid, str(new.SeriesInstanceUID)],
                "sop_instance_uid": [image.sop_instance_uid, str(new.SOPInstanceUID)],
            }
        )

    def write_reports(self) -> None:
        about: dict[str, Any] = {**FORMAT, "images": self.written}
        if any(record["phantom"] for record in self.written):
            about["note"] = PHANTOM_NOTE
        annotation_folder.write_json(self.folder / ABOUT_FILE, about)
        held_back = [{"image": one.image_id, "study": one.study_id, "code": one.code} for one in self.held_back]
        annotation_folder.write_json(self.folder / HELD_BACK_FILE, held_back)
        for name in (ABOUT_FILE, HELD_BACK_FILE):
            if leaks := rescan.leaks_in_json(self.folder / name, self.known, name):
                raise Refused("still_identifying", f"The scan of {name} found: {leaks[0].what}. Nothing was exported.")
        for folder in sorted(self.folder.rglob("*"), reverse=True):  # of files that were taken back
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


def _known_here(image: Image, study: Study, patient: Patient) -> list[tuple[str, str | None]]:
    """What the database knows; a reader may have entered it, so the file need not say it."""
    return [
        ("identifier", patient.patient_id),
        ("text", patient.issuer),
        ("date", patient.birth_date.strftime("%Y%m%d") if patient.birth_date else None),
        ("identifier", study.accession_number),
        ("date", study.acquired_on.strftime("%Y%m%d") if study.acquired_on else None),
        ("text", study.site),
        ("uid", study.study_instance_uid),
        ("uid", image.series_instance_uid),
        ("uid", image.sop_instance_uid),
        ("text", image.file_sha256),
    ]
