"""Every page as axe-core sees it, WCAG 2.1 A and AA: contrast, names, roles; nothing is out of the keyboard's reach."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy.orm import Session

from db.models import Verdict
from engine.findings.answers import Task, bone_age_answer
from engine.services import quality_rules, review
from engine.services.accounts import demo_admin, demo_reader, demo_second_reader
from engine.services.quality_rules import Rule
from engine.services.review import Decision
from tests.ui import page_states
from tests.ui.page_states import faults
from tests.workstation import AddCase


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("state", page_states.STATES)
def test_every_page_in_every_state(browser: Browser, state: str, tmp_path: Path) -> None:
    assert page_states.look(browser, state, tmp_path) == {}


@pytest.mark.slow
def test_the_reading_rooms_pages_have_nothing_that_axe_finds(
    server: str, page: Page, add_case: AddCase, session: Session
) -> None:
    quality_rules.set_rule(session, demo_admin(), Rule(Task.BONE_AGE, second_read_share=1.0))
    disputed = add_case(Task.BONE_AGE, bone_age_answer(110))
    for actor, months in ((demo_reader(), 90), (demo_second_reader(), 120)):
        image = review.load_study(session, actor, disputed.study_id).images[0]
        decision = Decision(Verdict.CORRECTED, bone_age_answer(months), prediction_id=image.read.prediction_id)
        review.record_review(session, actor, disputed.image_id, decision)
    cases = [add_case(task) for task in Task]

    found = {}
    page.goto(f"{server}/demo/work-as/demo-reader")
    expect(page.locator("tr[data-study]").first).to_be_visible()
    expect(page.get_by_role("link", name="Adjudication")).to_have_count(0)
    found["worklist"] = faults(page)
    for case in cases:
        page.goto(f"{server}/review?study={case.study_id}")
        expect(page.locator("section.viewer")).to_have_attribute("data-state", "ready")
        expect(page.get_by_role("button", name="Confirm and next")).to_be_visible()
        found[f"review {case.task}"] = faults(page)

    page.goto(f"{server}/demo/work-as/demo-adjudicator")
    page.get_by_role("link", name="Adjudication").click()
    expect(page.locator("section.viewer")).to_have_attribute("data-state", "ready")
    expect(page.get_by_text("30 months apart")).to_be_visible()
    found["adjudication"] = faults(page)
    page.keyboard.press("1")
    settle = page.get_by_role("button", name="Settle:")
    expect(settle).to_be_enabled()
    page.keyboard.press("Enter")
    expect(page.get_by_text("No disagreement awaits you")).to_be_visible()
    found["adjudication, empty"] = faults(page)
    assert not {name: one for name, one in found.items() if one}
