from __future__ import annotations

import json
import stat
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydicom import Dataset, dcmread
from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import AuditEvent, RejectReason, Verdict
from db.repositories.studies import study_with_images
from engine.errors import NotAllowed, NotFound, Refused
from engine.findings.answers import Task
from engine.interop import crosswalk, deidentify
from engine.interop.deidentify import Region
from engine.services import deidentified_export as service
from engine.services import images, review
from engine.services.accounts import demo_admin, demo_reader
from engine.services.deidentified_export import CrosswalkWanted, export_dicom
from engine.services.ingest import IngestResult
from engine.services.review import Decision
from engine.settings import settings
from tests.workstation import AddCase, case_adder

ADMIN = demo_admin()


@pytest.fixture
def add_case(session: Session, tmp_path: Path) -> AddCase:
    return case_adder(session, tmp_path)


def decide(session: Session, case: IngestResult, verdict: Verdict = Verdict.CONFIRMED, **more: Any) -> None:
    image = review.load_study(session, demo_reader(), case.study_id).images[0]
    decision = Decision(verdict, prediction_id=image.read.prediction_id, **more)
    review.record_review(session, demo_reader(), case.image_id, decision)


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.dcm"))


def test_decided_cases_leave_and_say_nothing_of_the_child(session: Session, tmp_path: Path, add_case: AddCase) -> None:
    for task in (Task.BONE_AGE, Task.ROP):
        decide(session, add_case(task, PatientName="Quackenbush^Thaddeus", PatientID="87305551", StudyDate="20250710"))
    add_case()  # nobody has decided it
    done = export_dicom(session, ADMIN, tmp_path / "out")
    assert (done.images, done.patients, done.masked, done.held_back) == (2, 1, 0, [])
    for path in (tmp_path / "out").rglob("*"):
        if path.is_file():
            raw = path.read_bytes().lower()
            assert not any(word in raw for word in (b"quackenbush", b"thaddeus", b"87305551", b"20250710"))
    about = json.loads((tmp_path / "out" / "deidentified.json").read_text())
    assert [one["answer"]["task"] for one in about["images"]] == ["bone_age", "rop"]
    for one in about["images"]:
        new = dcmread(tmp_path / "out" / one["file"])
        assert one["file"] == f"{new.PatientID}/{new.StudyInstanceUID}/{new.SOPInstanceUID}.dcm"
        assert new.PatientID == one["patient"]


def test_chosen_studies_leave_decided_or_not_but_never_rejected_ones(
    session: Session, tmp_path: Path, add_case: AddCase
) -> None:
    undecided, decided, rejected = add_case(), add_case(), add_case()
    decide(session, decided)
    decide(session, rejected, Verdict.REJECTED, reject_reason=RejectReason.WRONG_CHILD)
    done = export_dicom(session, ADMIN, tmp_path / "out", study_ids=[undecided.study_id, rejected.study_id])
    assert (done.images, [(one.image_id, one.code) for one in done.held_back]) == (1, [(rejected.image_id, "rejected")])
    with pytest.raises(NotFound):
        export_dicom(session, ADMIN, tmp_path / "out", study_ids=[999])


def test_text_in_the_pixels_is_held_back_until_it_is_masked(
    session: Session, tmp_path: Path, add_case: AddCase
) -> None:
    case = add_case(BurnedInAnnotation=None)
    decide(session, case)
    done = export_dicom(session, ADMIN, tmp_path / "out")
    assert (done.images, [one.code for one in done.held_back]) == (0, ["burned_in_unknown"])
    report = json.loads((tmp_path / "out" / "held_back.json").read_text())
    assert report == [{"image": case.image_id, "study": case.study_id, "code": "burned_in_unknown"}]
    done = export_dicom(session, ADMIN, tmp_path / "out", masks={case.image_id: [Region(5, 6, 50, 40)]})
    assert (done.images, done.masked) == (1, 1)
    [path] = files(tmp_path / "out")
    pixels = dcmread(path).pixel_array
    assert not pixels[6:46, 5:55].any() and pixels[6:46, 55:].any()
    with pytest.raises(NotFound, match="not among those"):
        export_dicom(session, ADMIN, tmp_path / "out", masks={999: [Region(0, 0, 1, 1)]})


def test_a_reader_who_saw_no_text_is_believed(session: Session, tmp_path: Path, add_case: AddCase) -> None:
    decide(session, add_case(BurnedInAnnotation=None), details={"no_burned_in_text": True})
    assert export_dicom(session, ADMIN, tmp_path / "out").images == 1


def test_a_leaky_writer_exports_nothing(
    session: Session, tmp_path: Path, add_case: AddCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide(session, add_case(PatientName="Quackenbush^Thaddeus"))

    def leaky(dataset: Dataset, path: Path) -> None:
        dataset.StudyID = "Quackenbush"
        deidentify.write(dataset, path)

    monkeypatch.setattr(service, "write", leaky)
    done = export_dicom(session, ADMIN, tmp_path / "out")
    assert (done.images, [one.code for one in done.held_back]) == (0, ["still_identifying"])
    assert "uackenbush" not in done.held_back[0].reason
    assert sorted(path.name for path in (tmp_path / "out").rglob("*")) == ["deidentified.json", "held_back.json"]


def test_what_a_reader_entered_counts_too(
    session: Session, tmp_path: Path, add_case: AddCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = add_case(PatientBirthDate=None)
    decide(session, case)
    study = study_with_images(session, case.study_id)
    assert study is not None
    study.patient.birth_date = date(2016, 3, 10)
    session.commit()

    def leaky(dataset: Dataset, path: Path) -> None:
        dataset.StudyID = "10.03.2016"
        deidentify.write(dataset, path)

    monkeypatch.setattr(service, "write", leaky)
    [held_back] = export_dicom(session, ADMIN, tmp_path / "out").held_back
    assert held_back.reason == "The scan of the new file still found: date in bytes; date in (0020,0010)."


def test_the_same_key_gives_the_same_files_and_no_key_others(
    session: Session, tmp_path: Path, add_case: AddCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide(session, add_case())
    once, again = (export_dicom(session, ADMIN, tmp_path / name) for name in ("a", "b"))
    assert not once.is_key_kept
    assert files(tmp_path / "a")[0].name != files(tmp_path / "b")[0].name
    monkeypatch.setenv("PEDISCREEN_DEIDENTIFICATION_KEY", "a key that the hospital keeps")
    settings.cache_clear()
    for name in ("c", "d"):
        assert export_dicom(session, ADMIN, tmp_path / name).is_key_kept
    assert files(tmp_path / "c")[0].read_bytes() == files(tmp_path / "d")[0].read_bytes()
    monkeypatch.setenv("PEDISCREEN_DEIDENTIFICATION_KEY", "short")
    settings.cache_clear()
    with pytest.raises(Refused, match="needs 16"):
        export_dicom(session, ADMIN, tmp_path / "e")


def test_a_crosswalk_is_written_when_asked_for_and_opens_with_its_secret_only(
    session: Session, tmp_path: Path, add_case: AddCase
) -> None:
    decide(session, add_case(PatientID="87305551"))
    path, secret = tmp_path / "apart" / "crosswalk.json", b"a long passphrase"
    done = export_dicom(session, ADMIN, tmp_path / "out", wanted_crosswalk=CrosswalkWanted(path, secret))
    assert done.crosswalk == path
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert b"87305551" not in path.read_bytes()
    [row] = crosswalk.read(path, secret)
    assert (row["patient_id"], tmp_path / "out" / row["file"]) == ("87305551", files(tmp_path / "out")[0])
    with pytest.raises(Refused, match="not the one"):
        crosswalk.read(path, b"another passphrase")
    for wanted, code in (
        (CrosswalkWanted(path, secret), "file_exists"),
        (CrosswalkWanted(tmp_path / "out" / "c.json", secret), "crosswalk_in_export"),
        (CrosswalkWanted(tmp_path / "c.json", b"short"), "weak_secret"),
    ):
        with pytest.raises(Refused) as refusal:
            export_dicom(session, ADMIN, tmp_path / "out", wanted_crosswalk=wanted)
        assert refusal.value.code == code


def test_only_an_admin_exports_and_the_audit_row_names_nobody(
    session: Session, tmp_path: Path, add_case: AddCase
) -> None:
    decide(session, add_case(PatientID="87305551"))
    with pytest.raises(NotAllowed):
        export_dicom(session, demo_reader(), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    export_dicom(session, ADMIN, tmp_path / "out")
    [event] = session.scalars(select(AuditEvent).where(AuditEvent.action == "export.deidentified"))
    assert event.detail["images"] == 1 and event.detail["crosswalk"] is False
    assert "87305551" not in json.dumps(event.detail)


def test_another_folder_is_not_overwritten(session: Session, tmp_path: Path, add_case: AddCase) -> None:
    decide(session, add_case())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    with pytest.raises(Refused, match="something other"):
        export_dicom(session, ADMIN, tmp_path / "out")
    assert (tmp_path / "out" / "thesis.txt").exists()


def test_an_original_that_was_changed_on_the_disk_is_held_back(
    session: Session, tmp_path: Path, add_case: AddCase
) -> None:
    case = add_case()
    decide(session, case)
    path = images.original_path(case.file_sha256)
    path.write_bytes(path.read_bytes()[:-2] + b"\x01\x02")
    [held_back] = export_dicom(session, ADMIN, tmp_path / "out").held_back
    assert held_back.code == "file_missing_or_changed"
