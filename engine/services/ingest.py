"""A file comes in: it becomes an image of a study on the worklist, or a row in quarantine. Nothing is lost."""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from db.models import FilmStatistics, Image, Laterality, Patient, Role, Sex, Study, TaskSource
from db.repositories import studies as repository
from db.repositories.accounts import random_pseudonym
from db.session import writing
from db.types import utc_now
from engine.errors import AdmissionRefused, NotFound, Refused
from engine.findings.answers import Task
from engine.imaging import admission, film_store
from engine.imaging.film import Film, FilmTags, hash_pixels
from engine.imaging.load import load_film
from engine.imaging.statistics import PixelStatistics, pixel_statistics
from engine.services import audit, case_state, images, quarantine
from engine.services.accounts import READERS, Actor, require
from engine.services.answer_facts import hour_of
from engine.services.incoming import IncomingFile, move

MAX_IDENTIFIER_LENGTH = 128
SENT_AGAIN = "A file of this case was sent more than once; it is kept once."
STORE_ATTEMPTS = 3  # two uploads may add the same patient at once; the second then finds them


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
class Announced:
    """Under which UIDs a sender said that it would send an object."""

    sop_class_uid: str
    sop_instance_uid: str


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

    Raises NotFound when `path` is not a file, NotAllowed; everything else is as for `ingest_incoming`."""
    require(actor, *READERS, Role.SERVICE)
    if not path.is_file():
        raise NotFound(f"there is no file {path.name}")
    with IncomingFile() as incoming, path.open("rb") as source:
        incoming.copy(source)
        return ingest_incoming(session, actor, incoming, file_name, entry=entry, task=task)


def ingest_incoming(
    session: Session,
    actor: Actor,
    incoming: IncomingFile,
    file_name: str,
    *,
    announced: Announced | None = None,
    entry: PatientEntry | None = None,
    task: Task | None = None,
    compress_later: bool = False,
) -> IngestResult:
    """Take in a file that is written already. Commits; the result says what the database holds from then on.
    `compress_later`: see engine.imaging.film_store.save.

    What becomes of the file is written to the database last, so that a crash before leaves at most a stray file, and
    sending it again ends the same way. Refusals do not raise: they come back as `quarantined`. Raises NotAllowed, and
    OSError or SQLAlchemyError where disk or database fail: the file has to come again."""
    require(actor, *READERS, Role.SERVICE)
    file_name = plain_text(file_name.replace("\\", "/").rsplit("/", 1)[-1], 255) or "unnamed"
    incoming.close()
    known = repository.image_by_file(session, incoming.sha256)
    if known is not None:
        return _duplicate(session, actor, file_name, incoming.sha256, known)
    try:
        return _admit(session, actor, incoming, file_name, announced, entry or PatientEntry(), task, compress_later)
    except Refused as refusal:
        quarantine.keep(session, actor, incoming.path, file_name, incoming.sha256, incoming.size_bytes, refusal)
        reason = plain_text(str(refusal), 2000)
        return IngestResult("quarantined", file_name, incoming.sha256, reason_code=refusal.code, reason=reason)


def _admit(
    session: Session,
    actor: Actor,
    incoming: IncomingFile,
    file_name: str,
    announced: Announced | None,
    entry: PatientEntry,
    task: Task | None,
    compress_later: bool,
) -> IngestResult:
    file_sha256 = incoming.sha256
    film = load_film(incoming.path)
    tags, entry_warnings = merge(film.tags, entry)
    warnings = [*film.warnings, *admission.check(dataclasses.replace(film, tags=tags)), *entry_warnings]
    _check_identifiers(tags)
    _check_announced(tags, announced)
    guess = admission.guess_task(film)
    if task is not None and guess is not None and task != guess:
        warnings.append(f"the file looks like {guess.value}, but was sent as {task.value}")
    source = TaskSource.READER if task else TaskSource.TAGS if guess else None
    pixel_sha256 = hash_pixels(film)
    known = _same_film(session, film, pixel_sha256)
    if known is not None:
        return _duplicate(session, actor, file_name, file_sha256, known)
    found = _Arrival(
        film,
        tags,
        file_sha256,
        pixel_sha256,
        film_store.save(images.films_folder(), file_sha256, film, compress_later=compress_later),
        entry.site,
        task or guess,
        source,
        warnings,
        pixel_statistics(film),
        is_waited_for=actor.role is not Role.SERVICE,  # programs send in bulk
    )
    original = images.original_path(file_sha256)
    if not original.exists():
        move(incoming.path, original)
    try:
        return _store(session, actor, file_name, found)
    except Refused:
        # the film is refused because of what is stored already; the file moves on to quarantine
        if original.exists() and repository.image_by_file(session, file_sha256) is None:
            move(original, incoming.path)
            shutil.rmtree(film_store.entry_folder(images.films_folder(), file_sha256), ignore_errors=True)
        raise


def _same_film(session: Session, film: Film, pixel_sha256: str) -> Image | None:
    """The image with the same SOP Instance UID, where pixels and everything that is known of the film are the same,
    too: it came by another way, in another transfer syntax or under other file meta information."""
    uid = film.tags.sop_instance_uid
    known = repository.image_by_sop_instance_uid(session, uid) if uid else None
    if known is None or known.pixel_sha256 != pixel_sha256:
        return None
    tags = images.tags_if_kept(known.file_sha256)
    here = dataclasses.replace(film.tags, transfer_syntax_uid=None)
    return known if tags and dataclasses.replace(tags, transfer_syntax_uid=None) == here else None


@dataclass(frozen=True)
class _Arrival:
    film: Film
    tags: FilmTags  # of the file, completed by the form
    file_sha256: str
    pixel_sha256: str
    film_sha256: str
    site: str | None
    task: Task | None
    task_source: TaskSource | None
    warnings: list[str]
    statistics: PixelStatistics
    is_waited_for: bool


def _store(session: Session, actor: Actor, file_name: str, found: _Arrival) -> IngestResult:
    """Patient, study and image in one transaction. Raises Refused for what contradicts the stored data."""
    for attempt in range(STORE_ATTEMPTS):
        try:
            with writing(session):
                known = repository.image_by_file(session, found.file_sha256)
                if known is not None:
                    break
                image, study, warnings = _add_image(session, found)
                detail = {"study": study.id, "file_sha256": found.file_sha256, "task": study.task} | audit.fixed(image)
                audit.record(session, actor, "ingest.accepted", f"image:{image.id}", detail)
        except IntegrityError:
            if attempt == STORE_ATTEMPTS - 1:
                raise
            continue
        task = Task(study.task) if study.task else None
        return IngestResult("accepted", file_name, found.file_sha256, study.id, image.id, task, tuple(warnings))
    return _duplicate(session, actor, file_name, found.file_sha256, known)


def _add_image(session: Session, found: _Arrival) -> tuple[Image, Study, list[str]]:
    tags, warnings = found.tags, list(found.warnings)
    _refuse_reused_instance_uid(session, found)
    if repository.images_by_pixels(session, found.pixel_sha256):
        warnings.append("another image on the worklist has exactly these pixels: check that it is the right child")

    patient = _patient(session, tags, warnings)
    study = _study(session, patient, found, warnings)
    image = Image(
        study_fk=study.id,
        sop_instance_uid=tags.sop_instance_uid,
        series_instance_uid=tags.series_instance_uid,
        file_sha256=found.file_sha256,
        pixel_sha256=found.pixel_sha256,
        film_sha256=found.film_sha256,
        source_format=found.film.source_format,
        modality=plain_text(tags.modality, 16),
        body_part=plain_text(tags.body_part, 64),
        view_position=plain_text(tags.view_position, 64),
        laterality=Laterality(tags.laterality) if tags.laterality else None,
        rows=found.film.pixels.shape[0],
        cols=found.film.pixels.shape[1],
        burned_in_annotation=plain_text(tags.burned_in_annotation, 16),
        read_first=found.is_waited_for,
    )
    case_state.queue_read(image, study, patient)
    study.images.append(image)
    session.flush()
    session.add(
        FilmStatistics(
            image_fk=image.id,
            study_fk=study.id,
            received_hour=hour_of(utc_now()),
            **dataclasses.asdict(found.statistics),
        )
    )
    study.warnings = list(dict.fromkeys([*study.warnings, *(plain_text(text, 500) or "" for text in warnings)]))
    case_state.refresh(session, study)
    return image, study, warnings


def _refuse_reused_instance_uid(session: Session, found: _Arrival) -> None:
    uid = found.tags.sop_instance_uid
    known = repository.image_by_sop_instance_uid(session, uid) if uid else None
    if known is not None and known.file_sha256 != found.file_sha256:  # equal: the same file, sent twice at once
        raise AdmissionRefused(
            "sop_instance_uid_reused",
            "(0008,0018) SOP Instance UID belongs to an image that is already here, and this file differs from it: "
            "ask the sender which of the two is right",
        )


def _patient(session: Session, tags: FilmTags, warnings: list[str]) -> Patient:
    patient_id, issuer = tags.patient_id or "", tags.issuer_of_patient_id or ""
    patient = repository.patient_by_key(session, patient_id, issuer)
    sex = Sex(tags.patient_sex) if tags.patient_sex else None
    if patient is None:
        patient = Patient(
            pseudonym=random_pseudonym("P"),
            patient_id=patient_id,
            issuer=issuer,
            sex=sex,
            birth_date=tags.patient_birth_date,
        )
        session.add(patient)
        session.flush()
        return patient
    is_new_fact = (patient.sex is None and sex is not None) or (
        patient.birth_date is None and tags.patient_birth_date is not None
    )
    if patient.sex is None:
        patient.sex = sex
    elif sex is not None and sex != patient.sex:
        warnings.append(f"(0010,0040) sex is {sex} in this file, {patient.sex} in an earlier one: the earlier is kept")
    if patient.birth_date is None:
        patient.birth_date = tags.patient_birth_date
    elif tags.patient_birth_date is not None and tags.patient_birth_date != patient.birth_date:
        warnings.append("(0010,0030) birth date differs from that of an earlier file of the child: the earlier is kept")
    if is_new_fact:
        case_state.learn_about_patient(session, patient)
    return patient


def _study(session: Session, patient: Patient, found: _Arrival, warnings: list[str]) -> Study:
    tags = found.tags
    # A photo has no study UID; one made from its hash is the same when the file is sent again (PS3.5 B.2, 2.25.*).
    uid = tags.study_instance_uid or f"2.25.{int(found.file_sha256[:32], 16)}"
    study = repository.study_by_uid(session, uid)
    if study is None:
        study = Study(
            study_instance_uid=uid,
            patient_fk=patient.id,
            accession_number=plain_text(tags.accession_number, 64),
            acquired_on=tags.acquired_on,
            site=plain_text(found.site or tags.institution or tags.station, 128),
            task=found.task,
            task_source=found.task_source,
            age_months=age_at_acquisition(patient.birth_date, tags.acquired_on),
            warnings=[],
            is_phantom=tags.made_by_phantom,
            patient=patient,
            images=[],
        )
        session.add(study)
        session.flush()
        return study
    if study.patient_fk != patient.id:
        raise AdmissionRefused(
            "study_of_another_patient",
            "(0020,000D) Study Instance UID belongs to a study of another patient (patient ID or issuer differ)",
        )
    if found.task and study.task and found.task != study.task:
        raise AdmissionRefused(
            "mixed_tasks",
            f"the image is for {found.task.value}, but its study (0020,000D) is read for {study.task.value}: "
            "send it as a study of its own",
        )
    if tags.acquired_on and study.acquired_on and tags.acquired_on != study.acquired_on:
        warnings.append(f"this image was acquired on {tags.acquired_on}, the study on {study.acquired_on}")
    loaded = repository.study_with_images(session, study.id)
    assert loaded is not None
    if loaded.task is None and found.task:
        loaded.task, loaded.task_source = found.task, found.task_source
    loaded.is_phantom = loaded.is_phantom or tags.made_by_phantom
    return loaded


def age_at_acquisition(birth_date: date | None, acquired_on: date | None) -> float | None:
    """In calendar months with decimals; None when either date is unknown. Raises AdmissionRefused for a birth after
    the examination."""
    if birth_date is not None and acquired_on is not None and birth_date > acquired_on:
        raise AdmissionRefused(
            "birth_after_study",
            f"(0010,0030) Patient's Birth Date lies after the examination on {acquired_on}: one of the two is wrong",
        )
    return case_state.age_or_none(birth_date, acquired_on)


def merge(tags: FilmTags, entry: PatientEntry) -> tuple[FilmTags, list[str]]:
    """The file's facts, completed by the form's. Where both speak and differ the file is believed, with a warning
    that names the field but not its value."""
    added: dict[str, object] = {}
    warnings = []
    for tag, label, entered in (
        ("patient_id", "patient ID", (entry.patient_id or "").strip() or None),
        ("patient_sex", "sex", entry.sex),
        ("patient_birth_date", "birth date", entry.birth_date),
        ("acquired_on", "examination date", entry.acquired_on),
        ("laterality", "side", entry.laterality),
    ):
        in_file = getattr(tags, tag)
        if entered is None or entered == in_file:
            continue
        if in_file is None:
            added[tag] = entered
        else:
            warnings.append(f"the {label} entered at upload differs from the file's: the file's is used")
    return dataclasses.replace(tags, **added), warnings


def _check_identifiers(tags: FilmTags) -> None:
    """They are the key of the patient, so they are refused rather than cut to what the database holds."""
    for value, name in (
        (tags.patient_id, "(0010,0020) Patient ID"),
        (tags.issuer_of_patient_id, "(0010,0021) Issuer of Patient ID"),
    ):
        if value and (len(value) > MAX_IDENTIFIER_LENGTH or "\0" in value):
            raise AdmissionRefused(
                "bad_patient_id", f"{name} must have at most {MAX_IDENTIFIER_LENGTH} printable characters"
            )


def _check_announced(tags: FilmTags, announced: Announced | None) -> None:
    if announced is None:
        return
    for tag, said, held in (
        ("(0008,0016) SOP Class UID", announced.sop_class_uid, tags.sop_class_uid),
        ("(0008,0018) SOP Instance UID", announced.sop_instance_uid, tags.sop_instance_uid),
    ):
        if said != held:
            raise AdmissionRefused(
                "sent_as_another",
                f"{tag} is {held} in the object, but it was sent as {said[:80]!r}: the sending system mixed up two "
                "objects, or changed one on the way.",
            )


def _duplicate(session: Session, actor: Actor, file_name: str, file_sha256: str, known: Image) -> IngestResult:
    """The film is here already: the case says that it came again."""
    with writing(session):
        found = repository.locked_image(session, known.id)
        assert found is not None  # images are never removed
        image, study = found
        study.warnings = list(dict.fromkeys([*study.warnings, SENT_AGAIN]))
        detail = {"study": study.id, "file_sha256": file_sha256}
        audit.record(session, actor, "ingest.duplicate", f"image:{image.id}", detail)
    task = Task(study.task) if study.task else None
    return IngestResult("duplicate", file_name, file_sha256, study.id, image.id, task, (SENT_AGAIN,))


def plain_text(text: str | None, longest: int) -> str | None:
    """Text that any database stores: no NUL, at most `longest` characters; None for nothing."""
    return (text or "").replace("\0", "").strip()[:longest] or None
