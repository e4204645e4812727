from __future__ import annotations

from pathlib import Path

from sqlalchemy.orm import Session

from engine.services import quarantine, worklist
from engine.services.accounts import demo_reader
from engine.services.worklist import WorklistFilter
from tests.ui.conftest import OpenPage
from tests.ui.reading_pages import everything_said
from tests.workstation import write_film


def test_each_file_has_its_own_outcome(open_page: OpenPage, session: Session, tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.dcm").read_bytes()
    at = open_page("upload")
    at.file_uploader[0].set_value(
        [("film.dcm", film, "application/dicom"), ("empty.dcm", b"", "application/dicom"), ("again.dcm", film, "")]
    ).run()
    [add] = [button for button in at.button if button.label == "Add 3 files"]
    add.click().run()
    outcomes = {result.file_name: result.outcome for result in at.session_state["upload_results"]}
    assert outcomes == {"film.dcm": "accepted", "empty.dcm": "quarantined", "again.dcm": "duplicate"}
    assert "1 film on the worklist, 1 refused, 1 already here" in everything_said(at)
    assert worklist.worklist_page(session, demo_reader(), WorklistFilter()).total == 1
    assert quarantine.quarantine_page(session, demo_reader()).rows[0].code == "empty"


def test_a_photo_needs_a_patient_id_and_gets_the_facts_of_the_form(
    open_page: OpenPage, session: Session, tmp_path: Path
) -> None:
    from PIL import Image

    Image.linear_gradient("L").resize((400, 300)).save(tmp_path / "hand.png")
    at = open_page("upload")
    at.file_uploader[0].set_value([("hand.png", (tmp_path / "hand.png").read_bytes(), "image/png")]).run()
    assert "a patient ID is needed" in everything_said(at)
    next(field for field in at.text_input if field.label == "Patient ID").set_value("ID7")
    next(group for group in at.button_group if group.label == "Sex").set_value("F")
    next(group for group in at.button_group if group.label == "Shows").set_value("bone_age")
    next(button for button in at.button if button.label == "Add 1 file").click().run()
    [row] = worklist.worklist_page(session, demo_reader(), WorklistFilter()).rows
    assert (row.sex, row.task) == ("F", "bone_age")
