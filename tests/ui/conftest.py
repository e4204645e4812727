from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy.orm import Session
from streamlit.testing.v1 import AppTest

from engine.settings import PROJECT_DIR
from tests.pediscreen_up import free_port
from tests.workstation import AddCase, case_adder

APP = Path(__file__).parents[2] / "ui" / "app.py"

PATIENCE_MS = 30_000  # of every expectation: a machine that runs other tests besides may be slow
expect.set_options(timeout=PATIENCE_MS)

STARTS_WITHIN_S = 60  # and the web process

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
    """The address of a server on this test's database. It is started from a folder that is not the project's."""
    port = free_port()
    environment = os.environ | {
        "PEDISCREEN_DATA_DIR": str(data_dir),
        "PEDISCREEN_DATABASE_URL": database_url,
        "PEDISCREEN_PORT": str(port),
        "PYTHONPATH": str(PROJECT_DIR),
    }
    with (tmp_path / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ui.serve"], cwd=tmp_path, env=environment, stdout=log, stderr=log
        )
        address = f"http://127.0.0.1:{port}"
        try:
            _wait_for(f"{address}/_stcore/health", process)
            yield address
        finally:
            process.terminate()
            process.wait(15)


def _wait_for(url: str, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=1)
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the server did not start")
