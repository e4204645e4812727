"""Signing in, working, being away, and being put out: in a real browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import select

from db.account_tables import WebSession
from db.session import session_scope
from engine.findings.answers import Task
from engine.services import users
from engine.services.accounts import command_line
from engine.settings import settings
from tests.local_server import ADMIN, READER, LocalServer, local_server
from tests.people import PASSWORD, add_person
from tests.ui.page_states import faults


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    with local_server(tmp_path_factory.mktemp("signing-in")) as running:
        yield running


def sign_in(page: Page, server: LocalServer, username: str, path: str = "/", password: str = PASSWORD) -> None:
    page.goto(server.address + path)
    page.get_by_label("User name").fill(username)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


def name_at_the_top(page: Page, name: str):
    return page.get_by_role("button", name=name)


def test_who_signs_in_comes_to_the_page_they_wanted_and_signs_out_again(server: LocalServer, page: Page) -> None:
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if "Content Security" in message.text else None)
    sign_in(page, server, READER, "/growth", "not the password")
    expect(page.get_by_role("alert")).to_have_text("The user name or the password is wrong.")
    expect(page.get_by_label("User name")).to_have_value(READER)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(name_at_the_top(page, "Reader")).to_be_visible()
    assert page.url == f"{server.address}/growth"
    expect(page.get_by_role("link", name="Dashboards")).to_be_visible()
    assert page.get_by_role("link", name="Retrain").count() == 0
    name_at_the_top(page, "Reader").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("status")).to_have_text("You are signed out.")
    page.go_back()
    expect(page.get_by_label("User name")).to_be_visible()
    assert problems == []


def test_a_page_of_another_role_is_refused_in_words(server: LocalServer, page: Page) -> None:
    sign_in(page, server, READER, "/retrain")
    expect(page.get_by_text("works here as reader; this needs the role admin")).to_be_visible()


def test_what_is_typed_waits_under_the_lock(server: LocalServer, page: Page) -> None:
    """Nobody gets past the cover, and what was being done goes on after it."""
    case = server.add_case(Task.BONE_AGE)
    sign_in(page, server, ADMIN, f"/review?study={case.study_id}")
    expect(page.locator(".viewer")).to_have_attribute("data-state", "ready")
    comment = page.get_by_label("Comment")
    comment.fill("carpals ahead")
    page.keyboard.press("Tab")
    page.wait_for_timeout(500)
    with session_scope(server.url) as session:
        for row in session.scalars(select(WebSession)):
            row.active_at -= settings().sign_in.idle_after
        session.commit()
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # as when the machine wakes
    cover = page.get_by_role("dialog", name="Locked")
    expect(cover).to_be_visible()
    expect(cover.get_by_label("Password")).to_be_focused()
    page.keyboard.press("Escape")
    expect(cover).to_be_visible()
    cover.get_by_label("Password").fill("not the password")
    page.keyboard.press("Enter")
    expect(cover.get_by_role("alert")).to_have_text("The password is wrong.")
    cover.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(cover).to_have_count(0)
    expect(comment).to_have_value("carpals ahead")
    expect(page.locator(".viewer")).to_have_attribute("data-state", "ready")
    page.get_by_role("link", name="Worklist").click()
    expect(page.locator(f"tr[data-study='{case.study_id}']")).to_be_visible()


def test_who_is_disabled_is_out_at_their_next_click(server: LocalServer, page: Page) -> None:
    with session_scope(server.url) as session:
        add_person(session, "leaver")
    sign_in(page, server, "leaver")
    expect(name_at_the_top(page, "Leaver")).to_be_visible()
    link = page.get_by_role("link", name="Growth").bounding_box()
    with session_scope(server.url) as session:
        users.disable(session, command_line(), "leaver")
    page.mouse.click(link["x"] + 5, link["y"] + 5)  # wherever the page is by then: it also looks after itself
    expect(page.get_by_label("User name")).to_be_visible()


def test_an_admin_adds_somebody_who_then_chooses_a_password(server: LocalServer, page: Page, browser: Browser) -> None:
    sign_in(page, server, ADMIN, "/users")
    page.get_by_role("textbox", name="User name").fill("Nora")
    page.get_by_role("textbox", name="Name", exact=True).fill("Nora New")
    page.get_by_role("button", name="Add", exact=True).click()
    one_time = page.locator(".notice code").inner_text()
    page.get_by_role("button", name="Back to adding a user").click()
    expect(page.locator(".notice code")).to_have_count(0)

    context = browser.new_context()
    theirs = context.new_page()
    sign_in(theirs, server, "nora", "/", one_time)
    expect(theirs.get_by_role("heading", name="Choose a new password")).to_be_visible()
    theirs.goto(f"{server.address}/growth")  # nothing else is open
    expect(theirs.get_by_role("heading", name="Choose a new password")).to_be_visible()
    theirs.get_by_label("One-time password").fill(one_time)
    theirs.get_by_label("New password").fill("a sentence is fine")
    theirs.get_by_label("The same again").fill("a sentence is fine")
    theirs.get_by_role("button", name="Change the password").click()
    expect(name_at_the_top(theirs, "Nora New")).to_be_visible()
    context.close()


def test_axe_finds_nothing_on_these_pages(server: LocalServer, page: Page) -> None:
    page.goto(f"{server.address}/sign-in")
    assert faults(page) == []
    sign_in(page, server, ADMIN, "/users")
    expect(page.get_by_role("textbox", name="User name")).to_be_visible()
    assert faults(page) == []
    page.goto(f"{server.address}/account")
    expect(page.get_by_role("button", name="Sign out everywhere")).to_be_visible()
    assert faults(page) == []
    page.goto(f"{server.address}/sign-in/password")
    assert faults(page) == []
