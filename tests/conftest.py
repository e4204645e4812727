"""A data folder and a migrated database of its own for every test that asks for one; one browser for all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright
from sqlalchemy.orm import Session

from db import migrate
from db.session import engine_for, session_scope
from engine.settings import settings

CHROMIUM = Path("/usr/bin/chromium")
CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, one for the whole run: Playwright cannot be started twice in a process."""
    if not CHROMIUM.exists() and not os.environ.get("CI"):
        pytest.skip("Debian's chromium is not installed (make test does it)")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=list(CHROMIUM_FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def migrated_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("database") / "migrated.sqlite"
    url = f"sqlite:///{path}"
    migrate.upgrade(url)
    with engine_for(url).connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    engine_for(url).dispose()
    return path


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty data folder that `settings()` points to, with the default databases inside it."""
    folder = tmp_path / "data"
    folder.mkdir()
    monkeypatch.setenv("PEDISCREEN_DATA_DIR", str(folder))
    for name in (
        "PEDISCREEN_DATABASE_URL",
        "PEDISCREEN_JOBS_URL",
        "PEDISCREEN_MODEL",
        "LORA_ADAPTER_PATH",
        "PEDISCREEN_AUDIT_KEY",
        "PEDISCREEN_READS_PORT",  # a workstation that a test starts in its own process chooses one for good
        "PEDISCREEN_READS_TOKEN",
    ):
        monkeypatch.delenv(name, raising=False)
    settings.cache_clear()
    yield folder
    settings.cache_clear()


@pytest.fixture
def database_url(data_dir: Path, migrated_database: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A migrated, empty database. PEDISCREEN_TEST_POSTGRESQL_URL names a server's database to use instead; its
    tables are emptied before each test."""
    if server := os.environ.get("PEDISCREEN_TEST_POSTGRESQL_URL"):
        monkeypatch.setenv("PEDISCREEN_DATABASE_URL", server)
        settings.cache_clear()
        yield from _empty_postgresql(server)
        return
    shutil.copyfile(migrated_database, data_dir / "pediscreen.sqlite")
    url = settings().database_url
    yield url
    engine_for(url).dispose()


def _empty_postgresql(url: str) -> Iterator[str]:
    from db.models import Base

    migrate.upgrade(url)
    with engine_for(url).begin() as connection:
        connection.exec_driver_sql("SET LOCAL session_replication_role = replica")  # audit rows refuse to be deleted
        for table in reversed(Base.metadata.sorted_tables):
            connection.execute(table.delete())
    yield url


@pytest.fixture
def session(database_url: str) -> Iterator[Session]:
    with session_scope(database_url) as session:
        yield session
