from __future__ import annotations

import pytest
from playwright.sync_api import Page

from tests.ui.components.film_page import Show, shower


@pytest.fixture
def show(page: Page) -> Show:
    """`show(film)`: the viewer with that film."""
    return shower(page)
