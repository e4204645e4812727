from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy.orm import Session
from streamlit.testing.v1 import AppTest

from tests.ui.web_process import web_process
from tests.workstation import AddCase, case_adder

APP = Path(__file__).parents[2] / "ui" / "app.py"

PATIENCE_MS = 30_000  # of every expectation: a machine that runs other tests besides may be slow
expect.set_options(timeout=PATIENCE_MS)

OpenPage = Callable[..., AppTest]


@pytest.fixture
def add_case(session: Session, tmp_path: Path) -> AddCase:
    return case_adder(session, tmp_path)


@pytest.fixture
def open_page(database_url: str) -> OpenPage:
    """`open_page("review", study=3)`: the app at that page, on this test's database."""

    def open_at(name: str, **query: object) -> AppTest:
        at = AppTest.from_file(str(APP), default_timeout=PATIENCE_MS / 250).run()
        for key, value in query.items():
            at.query_params[key] = str(value)
        return at.switch_page(f"pages/{name}.py").run()

    return open_at


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    yield context.new_page()
    context.close()


@pytest.fixture
def server(database_url: str, data_dir: Path, tmp_path: Path) -> Iterator[str]:
    """The address of a server on this test's database."""
    with web_process(database_url, data_dir, tmp_path) as address:
        yield address
