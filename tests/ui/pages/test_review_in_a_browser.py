"""The review form in a browser: from the keyboard, and all of it on one screen."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy.orm import Session

from db.models import GrowthVisit, VisitSource
from db.repositories.studies import study_with_images
from engine.findings.answers import Task, bone_age_answer, fracture_answer, rop_answer
from engine.services import growth_scores, review
from engine.services.accounts import demo_reader
from engine.services.ingest import IngestResult
from tests.fake_door import WordyReader, door_of_this_machine
from tests.ui.keys import keys_are_bound
from tests.ui.web_process import web_process
from tests.workstation import AddCase

SCREENS = ((1440, 900), (1920, 1080))
OVERFLOWING = """() => [...document.querySelectorAll('.st-key-panel *')].filter(element =>
    element instanceof HTMLElement && element.clientWidth && element.scrollWidth > element.clientWidth + 1
    && getComputedStyle(element).overflowX === 'visible').map(element => element.className)"""


def case_with_a_history(session: Session, add_case: AddCase, task: Task, answer: dict) -> IngestResult:
    """Two earlier examinations and a measured height."""
    same = {"PatientID": f"CHILD-{task}", "PatientBirthDate": "20160310"}
    for day in ("20230710", "20240710"):
        add_case(task, StudyDate=day, AcquisitionDate=day, **same)
    case = add_case(task, answer, **same)
    patient = study_with_images(session, case.study_id).patient
    on = study_with_images(session, case.study_id).acquired_on
    measured = {"length_height_cm": 133.0, "weight_kg": 29.0, "source": VisitSource.FORM, "entered_by": "a"}
    session.add(GrowthVisit(patient_fk=patient.id, measured_on=on, **measured))
    session.flush()
    growth_scores.refresh(session, patient)
    session.commit()
    return case


def open_case(page: Page, server: str, case: IngestResult) -> None:
    page.goto(f"{server}/review?study={case.study_id}")
    expect(page.locator("section.viewer")).to_have_attribute("data-state", "ready")
    expect(page.locator(f".st-key-confirm_{case.image_id} button")).to_be_visible()
    expect(page.locator(".read-chart").first).to_be_visible()


@pytest.mark.slow
def test_everything_for_a_decision_is_on_one_screen(
    server: str, page: Page, add_case: AddCase, session: Session
) -> None:
    for task, answer, says in (
        (Task.BONE_AGE, bone_age_answer(118), "Adult height"),
        (Task.ROP, rop_answer("II", "3", "plus"), "ETROP type 1"),
        (Task.FRACTURE, fracture_answer("distal_radius"), "see within 7 days"),
    ):
        case = case_with_a_history(session, add_case, task, answer)
        for width, height in SCREENS:
            page.set_viewport_size({"width": width, "height": height})
            open_case(page, server, case)
            expect(page.locator(".st-key-panel")).to_contain_text("10 Jul 2024")
            expect(page.locator(".st-key-panel")).to_contain_text(says)
            bottom = page.locator(".st-key-undo").evaluate("element => element.getBoundingClientRect().bottom")
            assert bottom <= height, (task, width, bottom)
            assert page.evaluate(OVERFLOWING) == [], (task, width)


@pytest.mark.slow
def test_an_eye_is_graded_from_the_keyboard(server: str, page: Page, add_case: AddCase, session: Session) -> None:
    eye, _ = add_case(Task.ROP, rop_answer("III", "1", "none")), add_case(Task.ROP)
    open_case(page, server, eye)
    keys_are_bound(page, "C")

    def choose(field: str, said: str, *keys: str) -> None:
        place = page.locator(f".st-key-finding_{field}_{eye.image_id}")
        for key in keys:
            page.keyboard.press(key)
        expect(place.locator("button:focus")).to_have_text(said)
        page.keyboard.press("Space")
        expect(place.locator("button[data-selected=true]")).to_have_text(said)

    choose("zone", "I", "c")
    expect(page.locator(".st-key-panel")).to_contain_text("ETROP type 2")
    choose("stage", "0", "Tab")
    choose("plus", "plus", "Tab", "ArrowRight", "ArrowRight")
    choose("flags", "A-ROP", "Tab")
    expect(page.locator(".st-key-panel")).to_contain_text("Aggressive ROP contradicts stage 0, no ROP: say which.")
    expect(page.locator(f".st-key-confirm_{eye.image_id} button")).to_be_disabled()
    page.keyboard.press("c")
    expect(page.locator(f".st-key-finding_zone_{eye.image_id} button").first).to_be_focused()
    choose("stage", "3", "Tab", "ArrowRight", "ArrowRight", "ArrowRight")
    expect(page.locator(".st-key-panel")).to_contain_text("Specialist, treatment by 12 Jul 2025")
    expect(page.locator(f".st-key-confirm_{eye.image_id} button")).to_be_enabled()
    page.keyboard.press("Enter")
    expect(page.locator("section.viewer")).not_to_have_attribute("data-image", str(eye.image_id))
    session.rollback()
    [image] = review.load_study(session, demo_reader(), eye.study_id).images
    assert (image.decision.answer, image.decision.details) == (rop_answer("I", "3", "plus"), {"aggressive": True})


def test_the_models_words_come_as_it_writes_them_and_decide_nothing(
    database_url: str,
    data_dir: Path,
    tmp_path: Path,
    page: Page,
    add_case: AddCase,
    session: Session,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case, go_on = add_case(Task.FRACTURE), threading.Event()

    class Slow(WordyReader):
        def words(self, *asked: object) -> Iterator[str]:
            yield "The cortex is "
            assert go_on.wait(60)
            yield "bulged on one side."

    with door_of_this_machine(Slow(), monkeypatch), web_process(database_url, data_dir, tmp_path) as address:
        page.goto(f"{address}/review?study={case.study_id}")
        expect(page.locator(".viewer")).to_have_attribute("data-state", "ready")
        page.get_by_role("button", name="In words").click()
        dialog = page.get_by_role("dialog")
        expect(dialog.get_by_text("The model's words, not a finding.")).to_be_visible()
        expect(dialog.get_by_text("The cortex is")).to_be_visible()
        expect(dialog.get_by_text("bulged")).to_have_count(0)
        go_on.set()
        expect(dialog.get_by_text("The cortex is bulged on one side.")).to_be_visible()
        page.keyboard.press("X")  # the case's keys are asleep under the dialog
        page.keyboard.press("Escape")
        expect(dialog).to_have_count(0)
        expect(page.get_by_role("button", name="Confirm and next")).to_be_visible()
    session.rollback()
    assert review.load_study(session, demo_reader(), case.study_id).images[0].decision is None
