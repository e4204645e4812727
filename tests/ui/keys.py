"""A browser test's reader looks before pressing: a page's keys work once they are bound."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect


def keys_are_bound(page: Page, key: str) -> None:
    """Wait until `key` does something on the page; a busy machine shows the buttons first."""
    expect(page.locator("html")).to_have_attribute("data-keys-bound", re.compile(rf"(^| ){re.escape(key)}( |$)"))
