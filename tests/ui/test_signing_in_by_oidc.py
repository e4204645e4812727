"""Through the hospital's identity provider and back: in a real browser, with a provider that really answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import select
from sqlalchemy.orm import Session

from db.account_tables import WebSession
from engine.settings import settings
from tests.oidc_provider import Provider, oidc_provider, settings_for
from tests.pediscreen_up import free_port
from tests.ui.web_process import web_process

TO_PROVIDER = "Sign in with your hospital account"


@pytest.fixture
def provider() -> Iterator[Provider]:
    with oidc_provider() as running:
        yield running


@pytest.fixture
def server(provider: Provider, database_url: str, data_dir: Path, tmp_path: Path) -> Iterator[str]:
    port = free_port()
    environment = settings_for(provider, f"http://127.0.0.1:{port}")
    with web_process(database_url, data_dir, tmp_path, port, **environment) as address:
        yield address


def test_there_and_back_to_the_page_that_was_wanted(
    server: str, provider: Provider, page: Page, session: Session
) -> None:
    page.goto(f"{server}/growth")
    page.get_by_role("link", name=TO_PROVIDER).click()
    expect(page.get_by_role("button", name="Rita Reader")).to_be_visible()
    assert page.url == f"{server}/growth" and len(provider.asked) == 1
    assert page.request.get(f"{server}/api/radiology/queue").status == 200

    for row in session.scalars(select(WebSession)):
        row.active_at -= settings().sign_in.idle_after
    session.commit()
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    cover = page.get_by_role("dialog", name="Locked")
    with page.context.expect_page() as opened:
        cover.get_by_role("link", name="Unlock with your hospital account").click()
    expect(opened.value.get_by_role("heading", name="Unlocked")).to_be_visible()
    expect(cover).to_have_count(0)
    assert provider.asked[-1]["prompt"] == "login"


def test_somebody_without_a_role_reads_why(server: str, provider: Provider, page: Page) -> None:
    provider.claims = {"groups": ["canteen"]}
    page.goto(server)
    page.get_by_role("link", name=TO_PROVIDER).click()
    expect(page.get_by_role("alert")).to_contain_text("gives you no role here")
    assert page.request.get(f"{server}/api/radiology/queue").status == 401
    page.goto(page.url)  # the same answer once more
    expect(page.get_by_role("alert")).to_contain_text("was not asked for")
