from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from db.models import Verdict
from engine.interop.deidentify import Region
from engine.services import review
from engine.services.accounts import demo_admin, demo_reader
from engine.services.review import Decision
from tests.ui.conftest import OpenPage
from tests.ui.reading_pages import everything_said
from tests.workstation import AddCase
from ui import state
from ui.components.dicom_without_patients import masks_of


def test_without_decisions_there_is_nothing_to_export(open_page: OpenPage, add_case: AddCase) -> None:
    add_case()
    assert "Nothing to export yet" in everything_said(open_page("export"))


def test_decided_cases_are_written_and_summed_up(
    open_page: OpenPage, add_case: AddCase, session: Session, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = add_case()
    image = review.load_study(session, demo_reader(), case.study_id).images[0]
    decision = Decision(Verdict.CONFIRMED, prediction_id=image.read.prediction_id)
    review.record_review(session, demo_reader(), case.image_id, decision)
    at = open_page("export")
    assert "an administrator exports" in everything_said(at)
    monkeypatch.setattr(state, "current_user", demo_admin)
    at.run()
    next(button for button in at.button if button.label == "Export 1 study").click().run()
    said = everything_said(at)
    assert "1 image of 1 child" in said
    assert "not for diagnostic use" in said
    assert "1 decision of every reader, superseded ones too, in reader_reads.json" in said
    [written] = [
        record for path in (data_dir / "exports").rglob("*_annotations.json") for record in json.loads(path.read_text())
    ]
    assert written["bone_age_months"] == 110


def test_dicom_files_leave_without_their_patients(
    open_page: OpenPage, add_case: AddCase, session: Session, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, held = add_case(), add_case(BurnedInAnnotation=None)
    for case in (kept, held):
        image = review.load_study(session, demo_reader(), case.study_id).images[0]
        decision = Decision(Verdict.CONFIRMED, prediction_id=image.read.prediction_id)
        review.record_review(session, demo_reader(), case.image_id, decision)
    at = open_page("export")
    [button] = [button for button in at.button if button.label == "Export 2 studies as DICOM"]
    assert button.disabled
    monkeypatch.setattr(state, "current_user", demo_admin)
    at.run()
    at.text_input(key="crosswalk_passphrase").set_value("a long passphrase").run()
    next(button for button in at.button if button.label == "Export 2 studies as DICOM").click().run()
    said = everything_said(at)
    assert "1 image of 1 child" in said
    assert "1 image held back" in said
    assert f"study {held.study_id}, image {held.image_id}" in said
    assert "(0028,0301) Burned In Annotation is missing" in said
    assert len(list((data_dir / "exports" / "dicom").rglob("*.dcm"))) == 1
    assert len(list((data_dir / "crosswalks").iterdir())) == 1


def test_masks_are_the_complete_rows_of_the_table() -> None:
    row = {"image": 7, "column": 0, "row": 10, "width": 100, "height": 20}
    assert masks_of([row, row | {"height": None}, dict.fromkeys(row)]) == {7: [Region(0, 10, 100, 20)]}
