"""A reader who never touches the mouse, and one who is faster than the page."""

from __future__ import annotations

from collections import Counter

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import AuditEvent, Review, Study, StudyStatus, Verdict
from db.worklist_tables import Claim, HandOverNote
from engine.findings.answers import Task, bone_age_answer
from engine.services import review
from engine.services.accounts import demo_reader
from tests.ui.keys import keys_are_bound, page_rests
from tests.workstation import AddCase

CASES = 20
PATIENCE_MS = 90_000  # a busy machine draws slowly
COUNT_MOUSE_EVENTS = """
    window.mouseEvents = 0;
    for (const kind of ['mousedown', 'mousemove', 'pointerdown', 'pointermove', 'wheel', 'touchstart'])
        addEventListener(kind, event => { if (event.isTrusted) window.mouseEvents++; }, true);
"""


def image_in_view(page: Page) -> str | None:
    return page.evaluate("document.documentElement.dataset.filmReady || null")


def wait_for_case(page: Page, other_than: str | None = None) -> str:
    """Until a film is in view and can be decided about; its image."""
    page.wait_for_function(
        """before => {
            const image = document.documentElement.dataset.filmReady;
            return image && image !== before && document.querySelector(`.st-key-confirm_${image} button`);
        }""",
        arg=other_than,
        timeout=PATIENCE_MS,
    )
    keys_are_bound(page, "Enter")
    return image_in_view(page)


@pytest.mark.slow
def test_a_worklist_of_20_cases_from_the_keyboard_alone(
    server: str, page: Page, add_case: AddCase, session: Session
) -> None:
    tasks = [Task.BONE_AGE, Task.FRACTURE, Task.ROP, Task.BONE_AGE]
    for number in range(CASES):
        reason = "the image lies outside what the model was trained on" if number == 7 else None
        add_case(tasks[number % 4], reason=reason)
    page.add_init_script(COUNT_MOUSE_EVENTS)
    page.goto(server)
    expect(page.locator("tr.marked")).to_be_visible()
    press = page.keyboard.press
    press("j")
    press("k")
    press("Enter")

    image = wait_for_case(page)
    first = image
    press("j")  # not now
    image = wait_for_case(page, first)
    press("k")
    assert wait_for_case(page, image) == first

    press("e")  # a word for the next reader
    expect(page.get_by_placeholder("About this case")).to_be_visible()
    while not page.get_by_placeholder("About this case").evaluate("field => field === document.activeElement"):
        press("Tab")
    page.keyboard.type("Ask for the other side.")
    press("Tab")
    press("Enter")
    expect(page.get_by_text("Ask for the other side.").first).to_be_visible()
    press("Escape")

    decided = 0
    undone = False
    image = first
    while decided < CASES:
        if decided == 5:
            press("x")
            press("2")
        elif page.get_by_label("Years").is_visible() and decided % 3 == 1:
            press("c")
            expect(page.get_by_label("Years")).to_be_focused()
            page.keyboard.type("10")
            press("Tab")
            page.keyboard.type("4")
            press("Enter")
        elif page.locator(f".st-key-confirm_{image} button").is_disabled():  # the model gave no answer
            press("c")
            expect(page.get_by_label("Years")).to_be_focused()
            page.keyboard.type("9")
            press("Tab")
            page.keyboard.type("0")
            press("Enter")  # once: the button is locked until the months are taken in
        else:
            press("Enter")
        decided += 1
        if decided == CASES:
            break
        before, image = image, wait_for_case(page, image)
        if decided == 9 and not undone:
            press("u")
            image = wait_for_case(page, image)
            assert image == before
            decided, undone = decided - 1, True

    expect(page.get_by_text("Nothing matches")).to_be_visible()
    assert page.evaluate("window.mouseEvents") == 0
    session.rollback()
    assert Counter(session.scalars(select(Study.status))) == {StudyStatus.REVIEWED: CASES - 1, StudyStatus.REJECTED: 1}
    verdicts = Counter(session.scalars(select(Review.verdict)))
    assert verdicts[Verdict.WITHDRAWN] == 1 and verdicts[Verdict.REJECTED] == 1 and verdicts[Verdict.CORRECTED] >= 2
    assert session.scalars(select(HandOverNote.text)).all() == ["Ask for the other side."]
    assert session.scalars(select(Claim)).all() == []
    events = Counter(session.scalars(select(AuditEvent.action)))
    assert events["review.recorded"] == CASES + 1


def test_keys_pressed_while_the_page_is_at_work_are_not_lost(
    server: str, page: Page, add_case: AddCase, session: Session
) -> None:
    cases = [add_case() for _ in range(5)]
    page.goto(f"{server}/review?study={cases[0].study_id}")
    press = page.keyboard.press
    image = wait_for_case(page)
    for _ in range(3):
        press("j")  # without looking
    film = page.locator("section.viewer")
    expect(film).to_have_attribute("data-image", str(cases[3].image_id))
    image = wait_for_case(page, image)

    press("x")
    press("2")  # before the reasons are there
    expect(film).to_have_attribute("data-image", str(cases[4].image_id))
    session.rollback()
    decision = review.load_study(session, demo_reader(), cases[3].study_id).images[0].decision
    assert decision.words == "rejected: poor quality"

    wait_for_case(page, image)
    press("Enter")
    press("u")  # that was wrong
    expect(page.get_by_text("Demo reader took the decision back")).to_be_visible()
    expect(film).to_have_attribute("data-image", str(cases[4].image_id))
    session.rollback()
    assert review.load_study(session, demo_reader(), cases[4].study_id).images[0].decision is None


def test_a_key_is_not_lost_while_the_browser_still_draws_what_it_is_for(
    server: str, page: Page, add_case: AddCase
) -> None:
    case = add_case(Task.BONE_AGE, bone_age_answer(110))
    page.goto(f"{server}/review?study={case.study_id}")
    wait_for_case(page)
    page_rests(page)
    page.evaluate("""() => {
        const form = document.querySelector('.st-key-answer');
        form.classList.remove('st-key-answer');
        setTimeout(() => form.classList.add('st-key-answer'), 200);
    }""")
    page.keyboard.press("c")
    expect(page.get_by_label("Years")).to_be_focused()


def test_one_enter_saves_an_answer_that_was_incomplete_until_then(
    server: str, page: Page, add_case: AddCase, session: Session
) -> None:
    case = add_case(Task.BONE_AGE, reason="unlike the training images")
    page.goto(f"{server}/review?study={case.study_id}")
    wait_for_case(page)
    press = page.keyboard.press
    press("c")
    expect(page.get_by_label("Years")).to_be_focused()
    page.keyboard.type("9")
    press("Enter")  # too early
    expect(page.get_by_text("Not saved yet: the answer is not complete.")).to_be_visible()
    press("Tab")
    page.keyboard.type("2")
    press("Enter")
    expect(page.get_by_text("Nothing matches")).to_be_visible()
    session.rollback()
    decision = review.load_study(session, demo_reader(), case.study_id).images[0].decision
    assert decision.answer == bone_age_answer(110)


def test_enter_never_decides_a_film_that_was_not_in_view(
    server: str, page: Page, add_case: AddCase, session: Session
) -> None:
    first, second = add_case(), add_case()
    page.goto(f"{server}/review?study={first.study_id}")
    wait_for_case(page)
    page.route("**/pixels*", lambda route: (page.wait_for_timeout(700), route.continue_()))
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    expect(page.locator("section.viewer")).to_have_attribute("data-image", str(second.image_id))
    page.wait_for_timeout(1500)
    session.rollback()
    assert review.load_study(session, demo_reader(), second.study_id).images[0].decision is None
