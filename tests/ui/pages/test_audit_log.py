from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy.orm import Session

from db.session import writing
from engine.services import audit, audit_check
from engine.services.accounts import demo_admin, demo_reader
from tests.tampering import tamper
from tests.ui.page_states import faults


@pytest.fixture
def hundred_rows(session: Session) -> None:
    for number in range(100):
        with writing(session):
            actor = demo_admin() if number % 10 == 0 else demo_reader()
            audit.record(session, actor, "review.recorded" if number % 2 else "study.viewed", f"study:{number}")
    session.rollback()


def open_log(server: str, page: Page) -> None:
    page.goto(f"{server}/demo/work-as/demo-admin")
    page.goto(f"{server}/audit_log")


def test_an_admin_finds_a_row_and_sees_whether_the_log_is_whole(
    server: str, page: Page, hundred_rows: None, session: Session, database_url: str
) -> None:
    open_log(server, page)
    expect(page.get_by_text("Not verified yet.")).to_be_visible()
    expect(page.get_by_role("row", name="Row 100:")).to_be_visible()
    page.get_by_role("button", name="Verify now").click()
    expect(page.get_by_text("Whole when last verified")).to_be_visible()
    page.get_by_label("Subject").fill("study:42")
    page.keyboard.press("Enter")
    expect(page.get_by_role("row", name="Row 43:")).to_be_visible()
    expect(page.get_by_role("row", name="Row 100:")).to_have_count(0)
    assert faults(page) == []
    page.get_by_role("row", name="Row 43:").click()
    expect(page.get_by_role("dialog").get_by_text("study.viewed")).to_be_visible()
    page.keyboard.press("Escape")
    with page.expect_download() as download:
        page.get_by_role("button", name="Table (CSV)").click()
    assert len(download.value.path().read_text().splitlines()) == 2
    session.rollback()
    tamper(database_url, "UPDATE audit_event SET actor = 'x' WHERE id = 43")
    page.get_by_role("button", name="Verify now").click()
    expect(page.get_by_text("row 43 does not say what was recorded")).to_be_visible()
    assert {row.action for row in audit.events_page(session, demo_admin(), 1, 20).rows[:5]} >= {
        "audit.verified",
        "audit.exported",
        "audit.viewed",
    }


def test_a_cut_end_is_on_the_screen_at_once(
    server: str, page: Page, hundred_rows: None, session: Session, database_url: str
) -> None:
    audit_check.verify(session, demo_admin())
    session.rollback()
    tamper(database_url, "DELETE FROM audit_event WHERE id > 90")
    open_log(server, page)
    expect(page.get_by_text("the end was cut off")).to_be_visible()


def test_a_reader_is_refused_and_that_is_in_the_log(server: str, page: Page, session: Session) -> None:
    page.goto(f"{server}/demo/work-as/demo-reader")
    page.goto(f"{server}/audit_log")
    expect(page.get_by_text("this needs the role admin")).to_be_visible()
    expect(page.get_by_role("link", name="Audit log")).to_have_count(0)
    refusals = [row for row in audit.events_page(session, demo_admin()).rows if row.action == "access.refused"]
    assert refusals[0].actor == demo_reader().username and refusals[0].subject == "/audit_log"
