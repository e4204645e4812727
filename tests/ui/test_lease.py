"""A hold that runs out while its reader writes, seen from the browser: they are told ahead of it, and lose nothing."""

from __future__ import annotations

from datetime import timedelta

from playwright.sync_api import Page, expect
from sqlalchemy import update
from sqlalchemy.orm import Session

from db.types import utc_now
from db.worklist_tables import Claim
from engine.findings.answers import Task, bone_age_answer
from engine.services import claims, review
from engine.services.accounts import demo_admin, demo_reader
from engine.services.claims import LEASE
from tests.ui.keys import keys_are_bound, page_rests
from tests.workstation import AddCase


def test_a_bar_says_that_the_case_goes_back_and_what_was_half_typed_is_kept(
    server: str, page: Page, add_case: AddCase, session: Session
) -> None:
    case = add_case(Task.BONE_AGE, bone_age_answer(110))
    page.clock.install()
    page.goto(f"{server}/review?study={case.study_id}")
    expect(page.locator("section.viewer")).to_have_attribute("data-state", "ready")
    keys_are_bound(page, "Enter")
    page_rests(page)
    comment = page.get_by_placeholder("Comment")
    comment.click()
    page.keyboard.type("carpals ahead")  # and called away
    page_rests(page)

    bar = page.locator(".page-bar[role=status]", has_text="back to the list")
    page.clock.fast_forward(milliseconds(LEASE) - 100_000)
    expect(bar).to_contain_text("The case goes back to the list in 1:")
    expect(bar).to_contain_text("Any key keeps it.")
    page_rests(page)
    page.clock.fast_forward(101_000)
    expect(bar).to_contain_text("The case went back to the list, as nothing was done here for a while.")
    expect(bar).to_contain_text("What you entered is kept")

    session.execute(update(Claim).values(ends_at=utc_now() - timedelta(seconds=1)))
    session.commit()
    claims.claim(session, demo_admin(), case.study_id)
    page.mouse.move(700, 400)
    page.mouse.move(720, 420)  # the reader is back
    expect(page.get_by_text("Demo admin has had this case open since")).to_be_visible()
    expect(page.get_by_text("What you entered is kept for you")).to_be_visible()
    expect(bar).to_be_hidden()

    claims.release(session, demo_admin(), case.study_id)
    expect(page.get_by_text("What you had entered before is back.")).to_be_visible()
    expect(comment).to_have_value("carpals ahead")
    keys_are_bound(page, "Enter")
    page_rests(page)
    page.keyboard.press("Enter")
    expect(page.get_by_text("Nothing matches")).to_be_visible()
    session.rollback()
    assert review.load_study(session, demo_reader(), case.study_id).images[0].decision.comment == "carpals ahead"


def milliseconds(time: timedelta) -> int:
    return round(time.total_seconds() * 1000)
