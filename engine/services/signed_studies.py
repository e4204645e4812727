"""A study that its readers have signed, as what leaves of it: engine.interop.signed_study, filled from the database.

Signed means: a decision about every image stands, and no second reader or adjudicator is still at turn. What is issued
is counted in revisions. A revision says what it says for good: sent again it is the same, and whatever changes (a
decision, the child's birth date) makes the next one, which names the one before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import cv2
import numpy as np
from sqlalchemy.orm import Session

from db.models import BlindState, Image, Prediction, Review, Role, Study, Verdict
from db.report_tables import IssuedReport
from db.repositories import blind as blind_repository
from db.repositories import reports as repository
from db.repositories.reads import predictions_by_id
from db.repositories.reviews import reviews_of_images
from db.repositories.studies import locked_study, study_with_images
from db.session import writing
from engine.code_version import code_version
from engine.errors import Damaged, DocumentRefused, FileRefused, NotFound
from engine.findings import additions
from engine.findings.answers import Task
from engine.imaging.display import display_pixels
from engine.interop.signed_study import (
    Examination,
    ModelRead,
    SignedImage,
    SignedPatient,
    SignedReader,
    SignedStudy,
    SourceImage,
    regions_of,
)
from engine.interop.source_header import SourceHeader, source_header
from engine.services import audit, case_state, images
from engine.services.accounts import Actor, require
from engine.settings import settings

PICTURE_PX = 720  # the longer side of the film in a rendered page


@dataclass(frozen=True)
class Issued:
    """What has left of a study, or was written to leave."""

    revision: int
    is_withdrawal: bool
    issued_at: datetime


def why_not_signed(session: Session, actor: Actor, study_id: int) -> DocumentRefused | None:
    """Why nothing may leave of the study yet ("undecided", "second_read_pending", "adjudication_pending"), or None.
    One that was issued and whose decision was taken back may: as a withdrawal. Raises NotFound, NotAllowed."""
    require(actor, Role.SERVICE)
    study = study_with_images(session, study_id)
    if study is None:
        raise NotFound(f"there is no study {study_id}")
    history = reviews_of_images(session, [image.id for image in study.images])
    last = next(iter(repository.issued_of_study(session, study_id)), None)
    refusal = _why_not_signed(session, study, history)
    return None if refusal is None or _taken_back(history, last) else refusal


def issue(session: Session, actor: Actor, study_id: int) -> SignedStudy:
    """What leaves of the study now. Commits: what it says for the first time, or anew, is kept as its next revision;
    a repeated call gives the same revision, and so the same documents.

    After a decision that had been issued was taken back, a withdrawal (`is_withdrawn`). Service accounts and admins
    only: a reader may not know yet what others decided. Raises DocumentRefused as `why_not_signed` says, NotFound,
    NotAllowed."""
    require(actor, Role.SERVICE)
    _decode_what_is_lost(session, study_id)
    with writing(session):
        study = locked_study(session, study_id)
        if study is None:
            raise NotFound(f"there is no study {study_id}")
        history = reviews_of_images(session, [image.id for image in study.images])
        issued_before = repository.issued_of_study(session, study_id)
        last = issued_before[0] if issued_before else None
        refusal = _why_not_signed(session, study, history)
        taken_back = _taken_back(history, last) if refusal else []
        if refusal is not None and not taken_back:
            raise refusal
        said = _withdrawn(study, taken_back) if refusal else _signed(session, study, history)
        said_sha256 = _sha256(said)
        if last is None or last.said_sha256 != said_sha256:
            replaced = last
            last = IssuedReport(
                study_fk=study_id,
                revision=replaced.revision + 1 if replaced else 1,
                said_sha256=said_sha256,
                reviews={str(image_id): reviews[0].revision for image_id, reviews in history.items()},
                is_withdrawal=said.is_withdrawn,
                software=code_version(),
                issued_by=actor.username,
            )
            session.add(last)
            detail = {"revision": last.revision, "withdrawal": said.is_withdrawn}
            audit.record(session, actor, "report.issued", f"study:{study_id}", detail)
        files = {image.id: image.file_sha256 for image in study.images}
    return replace(
        said,
        software=last.software,
        revision=last.revision,
        replaced_revision=last.revision - 1 if last.revision > 1 else None,
        images=tuple(replace(one, picture=_picture(files[one.image_id])) for one in said.images),
    )


def _decode_what_is_lost(session: Session, study_id: int) -> None:
    """Before the database is held: decoding takes long, and writes in a session of its own, which would wait."""
    study = study_with_images(session, study_id)
    for image in study.images if study else ():
        with suppress(NotFound, Damaged, FileRefused):  # said where it matters
            images.film_facts(image.file_sha256)


def issued(session: Session, actor: Actor, study_id: int) -> list[Issued]:
    """Every revision, the latest first. Raises NotAllowed."""
    require(actor, Role.SERVICE)
    return [
        Issued(row.revision, row.is_withdrawal, row.issued_at) for row in repository.issued_of_study(session, study_id)
    ]


def _why_not_signed(session: Session, study: Study, history: dict[int, list[Review]]) -> DocumentRefused | None:
    undecided = [image for image in study.images if case_state.in_force(_latest(history, image)) is None]
    if undecided or not study.images:
        return DocumentRefused(
            "undecided",
            f"{len(undecided)} of {len(study.images)} images of study {study.id} await a decision: a report leaves when"
            " a reader has decided about every one",
        )
    states = {
        case.state for image in study.images if (case := blind_repository.second_read_of(session, image.id)) is not None
    }
    if BlindState.OPEN in states:
        return DocumentRefused("second_read_pending", f"study {study.id} awaits a second reader")
    if BlindState.DIFFERS in states:
        return DocumentRefused(
            "adjudication_pending", f"two readers differ about study {study.id}, and an adjudicator decides"
        )
    return None


def _taken_back(history: dict[int, list[Review]], last: IssuedReport | None) -> list[Review]:
    """The withdrawals, since the revision that was issued last, of what that said; none where it was one itself."""
    if last is None:
        return []
    return [
        review
        for image_id, reviews in history.items()
        for review in reviews
        if review.verdict == Verdict.WITHDRAWN
        and (last.is_withdrawal or review.revision > last.reviews.get(str(image_id), review.revision))
    ]


def _signed(session: Session, study: Study, history: dict[int, list[Review]]) -> SignedStudy:
    decisions = [_latest(history, image) for image in study.images]
    reads = predictions_by_id(session, [review.prediction_fk for review in decisions if review.prediction_fk])
    signed = tuple(
        _image(image, review, reads.get(review.prediction_fk))
        for image, review in zip(study.images, decisions, strict=True)
    )
    is_phantom = study.is_phantom or any(image.read is not None and image.read.is_phantom for image in signed)
    return _study(study, signed, decisions, is_phantom=is_phantom, is_withdrawn=False)


def _withdrawn(study: Study, taken_back: Sequence[Review]) -> SignedStudy:
    """Nothing is said of any image any more; who took a decision back says so."""
    latest = max(taken_back, key=lambda review: review.id)
    signed = tuple(
        replace(_image(image, latest, None), answer=None, reject_reason=None, comment=None, is_confirmed=False)
        for image in study.images
    )
    return _study(study, signed, [latest], is_phantom=study.is_phantom, is_withdrawn=True)


def _study(
    study: Study,
    signed: tuple[SignedImage, ...],
    decisions: Sequence[Review],
    *,
    is_phantom: bool,
    is_withdrawn: bool,
) -> SignedStudy:
    by_time = sorted(decisions, key=lambda review: (review.created_at, review.id), reverse=True)
    header, patient = _header(study.images[0]), study.patient
    return SignedStudy(
        study_id=study.id,
        examination=Examination(
            study_instance_uid=study.study_instance_uid,
            study_id=header.study_id,
            accession_number=study.accession_number,
            acquired_on=study.acquired_on,
            study_date=header.study_date,
            study_time=header.study_time,
            referring_physician=header.referring_physician,
            timezone_offset=header.timezone_offset,
        ),
        patient=SignedPatient(
            patient_id=patient.patient_id,
            issuer=patient.issuer,
            name=header.patient_name or images.film_facts(study.images[0].file_sha256).tags.patient_name,
            sex=patient.sex.value if patient.sex else None,
            birth_date=patient.birth_date,
        ),
        task=Task(study.task) if study.task else None,
        age_months=study.age_months,
        images=signed,
        readers=tuple(dict.fromkeys(SignedReader(one.reader.display_name, one.reader.username) for one in by_time)),
        signed_at=_local(by_time[0].created_at),
        organization=settings().organization,
        is_phantom=is_phantom,
        is_withdrawn=is_withdrawn,
        software="",
        revision=0,
        replaced_revision=None,
    )


def _image(image: Image, review: Review, read: Prediction | None) -> SignedImage:
    is_rejected = review.verdict == Verdict.REJECTED and review.reject_reason is not None
    quality = review.details.get("quality")
    return SignedImage(
        image_id=image.id,
        source=_source(image),
        modality=image.modality,
        laterality=image.laterality.value if image.laterality else None,
        film_rows=image.rows,
        film_cols=image.cols,
        answer=review.answer,
        reject_reason=review.reject_reason.value if is_rejected and review.reject_reason else None,
        additions=additions.stored(review.answer, review.details),
        regions=regions_of(review.details) if review.answer is not None else (),
        quality=quality if quality in ("good", "limited") else None,
        comment=review.comment,
        reader=SignedReader(review.reader.display_name, review.reader.username),
        signed_at=_local(review.created_at),
        is_confirmed=review.verdict == Verdict.CONFIRMED,
        read=_read(read) if read is not None else None,
    )


def _read(read: Prediction) -> ModelRead:
    version = read.model_version
    return ModelRead(read.answer, read.reason, version.name, version.is_phantom, _local(read.created_at))


def _source(image: Image) -> SourceImage | None:
    if image.source_format != "dicom" or image.sop_instance_uid is None or image.series_instance_uid is None:
        return None
    tags, header = images.film_facts(image.file_sha256).tags, _header(image)
    if tags.sop_class_uid is None:
        return None
    return SourceImage(
        sop_class_uid=tags.sop_class_uid,
        sop_instance_uid=image.sop_instance_uid,
        series_instance_uid=image.series_instance_uid,
        rows=header.rows or image.rows,
        cols=header.cols or image.cols,
        frames=tags.frames,
    )


def _header(image: Image) -> SourceHeader:
    is_dicom = image.source_format == "dicom"
    return source_header(images.original_path(image.file_sha256)) if is_dicom else SourceHeader()


def _picture(file_sha256: str) -> np.ndarray:
    """The film at its default window, small."""
    pixels = display_pixels(images.kept_film(file_sha256))
    scale = PICTURE_PX / max(pixels.shape[:2])
    if scale < 1:
        size = (round(pixels.shape[1] * scale), round(pixels.shape[0] * scale))
        pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(pixels)


def _latest(history: dict[int, list[Review]], image: Image) -> Review | None:
    return next(iter(history.get(image.id, ())), None)


def _sha256(said: SignedStudy) -> str:
    return hashlib.sha256(json.dumps(asdict(said), default=str, sort_keys=True).encode()).hexdigest()


def _local(at: datetime) -> datetime:
    """In the hospital's zone. Raises DocumentRefused where the settings name none."""
    name = settings().time_zone
    try:
        return at.astimezone(UTC if name == "UTC" else ZoneInfo(name))
    except (ZoneInfoNotFoundError, ValueError):
        raise DocumentRefused(
            "unknown_time_zone", f"PEDISCREEN_TIME_ZONE must name a zone such as Europe/Vienna, found {name!r}"
        ) from None
