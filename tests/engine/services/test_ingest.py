import dataclasses
import hashlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.models import AuditEvent, Image, Patient, Quarantine, ReadState, Study, TaskSource
from db.session import session_scope
from engine.errors import AdmissionRefused, FileRefused, NotAllowed, NotFound
from engine.findings.answers import Task
from engine.imaging.film import Film, FilmTags, hash_pixels
from engine.services import images, ingest, quarantine
from engine.services.accounts import Actor
from engine.services.ingest import IngestResult, PatientEntry
from tests.engine.services.conftest import ADMIN, READER, WORKER, Arrivals, grey_film, hand_tags


def test_a_film_becomes_a_case(session: Session, arrive: Arrivals, data_dir: Path) -> None:
    path = arrive.file(grey_film(hand_tags()), b"the file")
    result = ingest.ingest_file(session, READER, path, "hand.dcm")
    assert (result.outcome, result.task) == ("accepted", Task.BONE_AGE)
    assert result.file_sha256 == hashlib.sha256(b"the file").hexdigest()
    study = session.get(Study, result.study_id)
    patient = session.get(Patient, study.patient_fk)
    image = session.get(Image, result.image_id)
    assert study.age_months == 112 and study.site == "Site A" and study.task_source == TaskSource.TAGS
    assert patient.sex == "F" and patient.birth_date == date(2016, 3, 10)
    assert image.laterality == "L" and (image.rows, image.cols) == (210, 200) and image.read_state == ReadState.QUEUED
    assert images.original_path(result.file_sha256).read_bytes() == b"the file"
    assert path.exists()
    stored = images.film(session, READER, image.id)
    np.testing.assert_array_equal(stored.pixels, grey_film(hand_tags()).pixels)


def test_the_pseudonym_does_not_come_from_the_identifiers(session: Session, arrive: Arrivals) -> None:
    first = {arrive(session, grey_film(hand_tags(n), n)).study_id for n in range(1, 30)}
    pseudonyms = session.scalars(select(Patient.pseudonym)).all()
    assert len(first) == len(set(pseudonyms)) == 29
    assert all("ID" not in pseudonym and pseudonym.startswith("P-") for pseudonym in pseudonyms)


def test_the_same_file_again_is_a_duplicate(session: Session, arrive: Arrivals) -> None:
    path = arrive.file(grey_film(hand_tags()))
    first = ingest.ingest_file(session, READER, path, "a.dcm")
    second = ingest.ingest_file(session, READER, path, "b.dcm")
    assert second.outcome == "duplicate"
    assert (second.study_id, second.image_id) == (first.study_id, first.image_id)
    assert session.scalar(select(func.count(Image.id))) == 1
    assert any("sent more than once" in warning for warning in session.get(Study, first.study_id).warnings)


def test_two_images_of_a_study_are_one_case(session: Session, arrive: Arrivals) -> None:
    first = arrive(session, grey_film(hand_tags()))
    second = arrive(session, grey_film(hand_tags(sop_instance_uid="1.2.3.1.2", laterality="R"), 1))
    assert first.study_id == second.study_id and first.image_id != second.image_id


@pytest.mark.parametrize("code", ["empty", "truncated", "wrong_type", "bomb"])
def test_a_refused_file_is_kept_with_its_reason(session: Session, arrive: Arrivals, code: str) -> None:
    path = arrive.file(FileRefused(code, f"the file is {code}"), b"" if code == "empty" else b"x\0y")
    result = ingest.ingest_file(session, READER, path, "../../etc/Doe Jane.dcm")
    assert (result.outcome, result.reason_code, result.reason) == ("quarantined", code, f"the file is {code}")
    (row,) = quarantine.quarantine_page(session, READER).rows
    assert (row.code, row.reason, row.file_name) == (code, f"the file is {code}", "Doe Jane.dcm")
    assert row.file_sha256 == hashlib.sha256(path.read_bytes()).hexdigest() and row.size_bytes == path.stat().st_size
    assert quarantine.original_path(row.file_sha256).read_bytes() == path.read_bytes()
    assert session.scalar(select(func.count(Study.id))) == 0


def test_a_refused_file_sent_again_is_counted_not_repeated(session: Session, arrive: Arrivals) -> None:
    path = arrive.file(FileRefused("truncated", "cut off"))
    ingest.ingest_file(session, READER, path, "a.dcm")
    (row,) = quarantine.quarantine_page(session, READER).rows
    quarantine.dismiss(session, READER, row.quarantine_id, "asked for it again")
    assert quarantine.quarantine_page(session, READER).total == 0
    ingest.ingest_file(session, READER, path, "a.dcm")
    (row,) = quarantine.quarantine_page(session, READER).rows
    assert row.times_received == 2 and row.dismissed_by is None


def test_a_refused_file_that_decodes_now_is_accepted(session: Session, arrive: Arrivals) -> None:
    path = arrive.file(FileRefused("no_decoder", "no decoder"))
    assert ingest.ingest_file(session, READER, path, "a.dcm").outcome == "quarantined"
    arrive.by_content[path.read_bytes()] = grey_film(hand_tags())
    assert ingest.ingest_file(session, READER, path, "a.dcm").outcome == "accepted"


def test_reused_instance_uid_is_an_alert(session: Session, arrive: Arrivals) -> None:
    arrive(session, grey_film(hand_tags()))
    result = arrive(session, grey_film(hand_tags(), seed=1))
    assert (result.outcome, result.reason_code) == ("quarantined", "sop_instance_uid_reused")
    (row,) = quarantine.quarantine_page(session, READER).rows
    assert row.is_alert and quarantine.original_path(row.file_sha256).exists()
    assert not images.original_path(row.file_sha256).exists()
    assert not list(images.films_folder().rglob(row.file_sha256))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"patient_id": "ID-OTHER"}, "study_of_another_patient"),
        ({"body_part": "WRIST"}, "mixed_tasks"),
    ],
)
def test_an_image_that_contradicts_its_study(session: Session, arrive: Arrivals, changes: dict, code: str) -> None:
    arrive(session, grey_film(hand_tags()))
    result = arrive(session, grey_film(hand_tags(sop_instance_uid="1.2.3.1.2", **changes), 1))
    assert (result.outcome, result.reason_code) == ("quarantined", code)
    assert session.scalar(select(func.count(Image.id))) == 1


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"patient_id": None}, "no_patient_id"),
        ({"patient_id": "x" * 129}, "bad_patient_id"),
        ({"acquired_on": date(2016, 3, 9)}, "birth_after_study"),
    ],
)
def test_admission(session: Session, arrive: Arrivals, changes: dict, code: str) -> None:
    result = arrive(session, grey_film(hand_tags(**changes)))
    assert (result.outcome, result.reason_code) == ("quarantined", code)


@pytest.mark.parametrize("missing", ["patient_birth_date", "acquired_on"])
def test_an_unknown_date_leaves_the_age_unknown(session: Session, arrive: Arrivals, missing: str) -> None:
    result = arrive(session, grey_film(hand_tags(**{missing: None})))
    assert result.outcome == "accepted"
    assert session.get(Study, result.study_id).age_months is None


def test_a_contradiction_with_an_earlier_file_is_a_warning(session: Session, arrive: Arrivals) -> None:
    arrive(session, grey_film(hand_tags()))
    changes = {"patient_sex": "M", "patient_birth_date": date(2017, 3, 10)}
    later = hand_tags(2, patient_id="ID00001", **changes)
    result = arrive(session, grey_film(later, 1))
    assert result.outcome == "accepted"
    assert sum("the earlier is kept" in warning for warning in result.warnings) == 2
    assert session.get(Study, result.study_id).warnings == list(result.warnings)
    (patient,) = session.scalars(select(Patient)).all()
    assert patient.sex == "F" and patient.birth_date == date(2016, 3, 10)
    assert session.get(Study, result.study_id).age_months == 112


def test_a_later_file_fills_what_an_earlier_one_left_open(session: Session, arrive: Arrivals) -> None:
    first = arrive(session, grey_film(hand_tags(patient_sex=None, patient_birth_date=None)))
    image = session.get(Image, first.image_id)
    assert image.read_state == ReadState.BLOCKED
    arrive(session, grey_film(hand_tags(2, patient_id="ID00001"), 1))
    session.expire_all()
    assert session.get(Image, first.image_id).read_state == ReadState.QUEUED
    assert session.get(Study, first.study_id).age_months == 112


def test_the_same_patient_id_of_another_issuer_is_another_child(session: Session, arrive: Arrivals) -> None:
    arrive(session, grey_film(hand_tags(issuer_of_patient_id="North")))
    arrive(session, grey_film(hand_tags(2, patient_id="ID00001", issuer_of_patient_id="South"), 1))
    assert session.scalar(select(func.count(Patient.id))) == 2


def test_a_photo_needs_the_form(session: Session, arrive: Arrivals) -> None:
    photo = grey_film(FilmTags(), source_format="png")
    assert arrive(session, photo).reason_code == "no_patient_id"
    entry = PatientEntry("K1", "M", date(2020, 1, 1), date(2024, 1, 1), "R", "Site B")
    result = arrive(session, photo, entry=entry, task=Task.FRACTURE)
    assert (result.outcome, result.task) == ("accepted", Task.FRACTURE)
    study = session.get(Study, result.study_id)
    assert study.age_months == 48 and study.site == "Site B" and study.task_source == TaskSource.READER
    assert session.get(Image, result.image_id).laterality == "R"


def test_the_form_never_overrides_the_file(session: Session, arrive: Arrivals) -> None:
    entry = PatientEntry("OTHER", "M", date(2020, 1, 1), date(2024, 1, 1), "R")
    result = arrive(session, grey_film(hand_tags()), entry=entry)
    assert sum("entered at upload differs" in warning for warning in result.warnings) == 5
    assert not any("OTHER" in warning or "2020" in warning for warning in result.warnings)
    (patient,) = session.scalars(select(Patient)).all()
    assert (patient.patient_id, patient.sex) == ("ID00001", "F")


def test_equal_pixels_under_other_tags_are_noticed(session: Session, arrive: Arrivals) -> None:
    arrive(session, grey_film(hand_tags(1), seed=5))
    result = arrive(session, grey_film(hand_tags(2), seed=5))
    assert result.outcome == "accepted" and any("exactly these pixels" in warning for warning in result.warnings)


def test_no_identity_in_the_audit_trail(session: Session, arrive: Arrivals) -> None:
    arrive(session, grey_film(hand_tags()))
    arrive(session, FileRefused("truncated", "cut off"), name="Doe Jane.dcm")
    events = session.scalars(select(AuditEvent)).all()
    assert {event.action for event in events} == {"ingest.accepted", "ingest.quarantined"}
    text = " ".join(f"{event.subject} {event.detail}" for event in events)
    for secret in ("ID00001", "Doe", "Jane", "2016", "A00001"):
        assert secret not in text


def test_roles(session: Session, arrive: Arrivals) -> None:
    path = arrive.file(grey_film(hand_tags()))
    with pytest.raises(NotAllowed):
        ingest.ingest_file(session, Actor("x", "x", "visitor"), path, "a.dcm")  # type: ignore[arg-type]
    assert ingest.ingest_file(session, WORKER, path, "a.dcm").outcome == "accepted"
    assert ingest.ingest_file(session, ADMIN, path, "a.dcm").outcome == "duplicate"


def test_not_a_file(session: Session, tmp_path: Path, data_dir: Path) -> None:
    with pytest.raises(NotFound):
        ingest.ingest_file(session, READER, tmp_path, "folder")


STOPS: list[tuple[str, Callable[[pytest.MonkeyPatch], None]]] = [
    ("before the film is kept", lambda patch: patch.setattr(ingest.film_store, "save", crash)),
    ("before the row is written", lambda patch: patch.setattr(ingest, "_store", crash)),
    ("before the commit", lambda patch: patch.setattr(ingest.audit, "record", crash)),
]


def crash(*args: object, **kwargs: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(("stop"), [stop for _, stop in STOPS], ids=[name for name, _ in STOPS])
@pytest.mark.parametrize("decodes", [True, False])
def test_sending_again_after_a_crash(
    session: Session, arrive: Arrivals, stop: Callable[[pytest.MonkeyPatch], None], decodes: bool
) -> None:
    path = arrive.file(grey_film(hand_tags()) if decodes else AdmissionRefused("no", "not this one"))
    with pytest.MonkeyPatch.context() as patch:
        stop(patch)
        try:
            ingest.ingest_file(session, READER, path, "a.dcm")
        except KeyboardInterrupt:
            session.rollback()
    result = ingest.ingest_file(session, READER, path, "a.dcm")
    assert result.outcome == ("accepted" if decodes else "quarantined")
    kept = images.original_path if decodes else quarantine.original_path
    assert kept(result.file_sha256).read_bytes() == path.read_bytes()
    assert session.scalar(select(func.count(Image.id))) == int(decodes)
    assert session.scalar(select(func.count(Quarantine.id))) == int(not decodes)
    assert not list((images.settings().data_dir / "incoming").iterdir())


def test_a_lost_decoded_film_is_decoded_again(
    session: Session, arrive: Arrivals, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = arrive(session, grey_film(hand_tags()))
    for kept in sorted(images.films_folder().rglob("*"), reverse=True):
        kept.rmdir() if kept.is_dir() else kept.unlink()
    monkeypatch.setattr(images, "load_film", arrive.load)
    assert images.film(session, READER, result.image_id).pixels.shape == (210, 200)
    images.original_path(result.file_sha256).unlink()
    assert images.pixels_gzip(session, READER, result.image_id)[:2] == b"\x1f\x8b"


def test_colour_and_grey_films_hash_by_shape_too() -> None:
    flat = Film(np.zeros((4, 6), np.uint16), "png")
    turned = dataclasses.replace(flat, pixels=np.zeros((6, 4), np.uint16))
    assert hash_pixels(flat) != hash_pixels(turned)


def at_once(database_url: str, paths: list[Path]) -> list[IngestResult]:
    """Each path by a thread and a session of its own, all starting together."""
    start = threading.Barrier(len(paths), timeout=60)

    def send(path: Path) -> IngestResult:
        with session_scope(database_url) as own:
            start.wait()
            return ingest.ingest_file(own, READER, path, path.name)

    with ThreadPoolExecutor(len(paths)) as threads:
        return list(threads.map(send, paths))


def test_one_file_sent_by_many_at_once(session: Session, database_url: str, arrive: Arrivals) -> None:
    for number in range(5):
        path = arrive.file(grey_film(hand_tags(number), number))
        results = at_once(database_url, [path] * 4)
        assert sorted(result.outcome for result in results) == ["accepted", "duplicate", "duplicate", "duplicate"]
        assert len({result.image_id for result in results}) == 1
        assert images.original_path(results[0].file_sha256).exists()
    bad = arrive.file(FileRefused("truncated", "cut off"))
    at_once(database_url, [bad] * 4)
    (row,) = quarantine.quarantine_page(session, READER).rows
    assert row.times_received == 4 and quarantine.original_path(row.file_sha256).exists()


def test_films_of_one_new_child_sent_at_once(session: Session, database_url: str, arrive: Arrivals) -> None:
    for child in range(5):
        tags = [hand_tags(10 * child + n, patient_id=f"child {child}") for n in range(4)]
        same_study = [*tags[:2], dataclasses.replace(tags[1], sop_instance_uid=f"1.2.9.{child}")]
        films = [grey_film(each, 10 * child + n) for n, each in enumerate([*same_study, tags[3]])]
        results = at_once(database_url, [arrive.file(film) for film in films])
        assert [result.outcome for result in results] == ["accepted"] * 4
    assert session.scalar(select(func.count(Patient.id))) == 5
    assert session.scalar(select(func.count(Study.id))) == 15
    assert session.scalar(select(func.count(Image.id))) == 20
