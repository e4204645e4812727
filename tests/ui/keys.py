"""A browser test's reader looks before pressing: a page's keys work once they are bound."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect


def keys_are_bound(page: Page, key: str) -> None:
    """Wait until `key` does something on the page; a busy machine shows the buttons first."""
    expect(page.locator("html")).to_have_attribute("data-keys-bound", re.compile(rf"(^| ){re.escape(key)}( |$)"))


def page_rests(page: Page) -> None:
    """Wait until the server has said all. A key pressed before waits its turn, and on a very busy machine is given back
    with the request to press it again."""
    expect(page.locator("[data-testid=stApp]")).to_have_attribute("data-test-script-state", "notRunning")
