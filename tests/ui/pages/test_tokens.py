from __future__ import annotations

import re
import urllib.error
import urllib.request

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy.orm import Session

from db.models import Role
from engine.services import api_tokens
from engine.services.accounts import demo_admin
from engine.services.api_tokens import SCOPES_OF, Scope
from tests.ui.conftest import OpenPage
from tests.ui.reading_pages import everything_said


def make(session: Session, name: str = "RIS") -> api_tokens.NewToken:
    return api_tokens.make(session, demo_admin(), name, Role.READER, (Scope.READ, Scope.REVIEW))


def test_an_empty_list_says_what_a_token_is_for(open_page: OpenPage) -> None:
    assert "No program may call the API yet" in everything_said(open_page("tokens"))


def test_an_admin_makes_a_token_and_sees_it_once(open_page: OpenPage, session: Session) -> None:
    at = open_page("tokens")
    [button] = [button for button in at.button if button.label == "Make token"]
    assert button.disabled
    at.text_input(key="token_name").set_value("PACS").run()
    at.number_input(key="token_days").set_value(30)
    at.checkbox(key="token_service_analyze").uncheck()
    at.checkbox(key="token_service_models").uncheck()
    next(button for button in at.button if button.label == "Make token").click().run()
    session.rollback()
    [row] = api_tokens.tokens(session, demo_admin())
    assert (row.name, row.role, row.scopes) == ("PACS", Role.SERVICE, (Scope.UPLOAD,))
    secret = at.code[0].value
    assert secret.startswith(row.starts_with) and secret in at.code[1].value
    assert api_tokens.caller_of(session, secret).actor.display_name == "PACS"
    next(button for button in at.button if button.label == "Copied").click().run()
    assert not at.code and secret not in everything_said(at)


def test_the_scopes_offered_are_those_of_the_role(open_page: OpenPage) -> None:
    at = open_page("tokens")
    for role in Role:
        at.selectbox(key="token_role").set_value(role).run()
        assert [box.key for box in at.checkbox] == [f"token_{role.value}_{scope.value}" for scope in SCOPES_OF[role]]


def test_a_name_that_is_taken_is_said(open_page: OpenPage, session: Session) -> None:
    make(session, "RIS")
    at = open_page("tokens")
    at.text_input(key="token_name").set_value("RIS").run()
    next(button for button in at.button if button.label == "Make token").click().run()
    assert 'There is a token "RIS" already' in at.error[0].value


def test_in_a_browser_a_token_is_made_used_and_revoked(server: str, page: Page, session: Session) -> None:
    page.goto(f"{server}/tokens")
    page.get_by_label("What is it for?").fill("RIS")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Make token").click()
    secret = page.get_by_test_id("stCode").first.inner_text().strip()
    models = urllib.request.Request(f"{server}/api/radiology/models", headers={"Authorization": f"Bearer {secret}"})
    with urllib.request.urlopen(models) as answer:
        assert answer.status == 200
    page.reload()
    expect(page.get_by_text("New token")).to_be_visible()
    expect(page.get_by_text(secret)).to_have_count(0)
    page.get_by_text("RIS", exact=True).first.click()
    page.get_by_role("button", name="Revoke").click()
    expect(page.get_by_text(re.compile(r"^revoked \d"))).to_be_visible()
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(models)
    assert refused.value.code == 401
