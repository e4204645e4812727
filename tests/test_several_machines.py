"""The installation of docs/several-machines.md on one machine: PostgreSQL, two web processes, two workers, and Caddy
with the file of docs/deploy in front."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import select

from db.models import Prediction, Worker
from db.session import session_scope
from engine.phantoms.write import make_phantoms
from engine.services.accounts import demo_reader
from engine.services.ingest import ingest_file
from engine.settings import PROJECT_DIR, settings
from tests.pediscreen_up import free_port
from tests.postgresql import private_server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(shutil.which("caddy") is None, reason="caddy is not installed (apt-get install caddy)"),
]
PATIENCE_S = 240
FILMS = 24


@contextmanager
def process(name: str, command: list[str], environment: dict[str, str], folder: Path) -> Iterator[subprocess.Popen]:
    """It leaves its log in `folder`."""
    with (folder / f"{name}.log").open("wb") as log:
        started = subprocess.Popen(command, cwd=PROJECT_DIR, env=environment, stdout=log, stderr=log)
        try:
            yield started
        finally:
            started.terminate()
            try:
                started.wait(20)
            except subprocess.TimeoutExpired:
                started.kill()
                started.wait()


def answers(address: str) -> bool:
    try:
        return urllib.request.urlopen(f"{address}/_stcore/health", timeout=5).status == 200
    except OSError:
        return False


def wait_until(condition, what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S} s: {what}"
        time.sleep(0.3)


@pytest.fixture
def installation(tmp_path: Path, data_dir: Path) -> Iterator[tuple[str, str, dict[int, subprocess.Popen]]]:
    """The address of the proxy, the URL of the database, and the web processes by their port."""
    with private_server() as url, ExitStack() as running:
        environment = os.environ | {
            "PEDISCREEN_DATA_DIR": str(data_dir),
            "PEDISCREEN_DATABASE_URL": url,
            "PEDISCREEN_JOBS_URL": url.replace("/postgres?", "/pediscreen_jobs?"),
            "PYTHONPATH": str(PROJECT_DIR),
        }
        web_ports, proxy_port = [free_port(), free_port()], free_port()
        webs = {}
        for port in web_ports:
            command = [sys.executable, "-m", "engine.cli", "serve", "--port", str(port)]
            webs[port] = running.enter_context(process(f"web-{port}", command, environment, tmp_path))
        for number in (1, 2):
            command = [sys.executable, "-m", "engine.cli", "worker"]
            running.enter_context(process(f"worker-{number}", command, environment, tmp_path))
        address = f"http://localhost:{proxy_port}"
        proxy = {
            "PEDISCREEN_NAME": address,
            "PEDISCREEN_WEB": " ".join(f"localhost:{port}" for port in web_ports),
            "XDG_DATA_HOME": str(tmp_path),
            "XDG_CONFIG_HOME": str(tmp_path),
        }
        command = ["caddy", "run", "--adapter", "caddyfile", "--config", str(PROJECT_DIR / "docs/deploy/Caddyfile")]
        running.enter_context(process("caddy", command, os.environ | proxy, tmp_path))
        for port in web_ports:
            wait_until(lambda port=port: answers(f"http://localhost:{port}"), "a web process answers")
        wait_until(lambda: answers(address), "the proxy answers")
        yield address, url, webs


def open_worklist(page: Page, address: str) -> None:
    page.goto(address)
    expect_cases(page)


def expect_cases(page: Page) -> None:
    expect(page.get_by_text(re.compile(f"1 to [0-9]+ of {FILMS}"))).to_be_visible(timeout=60_000)


def route_of(page: Page) -> str:
    return next(cookie["value"] for cookie in page.context.cookies() if cookie["name"] == "pediscreen_route")


def test_browsers_stay_where_they_are_and_every_film_is_read_once(
    installation: tuple[str, str, dict[int, subprocess.Popen]], browser: Browser, tmp_path: Path, monkeypatch
) -> None:
    address, url, webs = installation
    monkeypatch.setenv("PEDISCREEN_DATABASE_URL", url)
    settings.cache_clear()
    films = make_phantoms(tmp_path / "films", "wrist", FILMS, 11)
    images = []
    with session_scope(url) as session:
        for film in films:
            result = ingest_file(session, demo_reader(), film.path, film.path.name)
            assert result.outcome == "accepted", result.reason
            images.append(result.image_id)

    def reads() -> list[int]:
        with session_scope(url) as session:
            return list(session.scalars(select(Prediction.image_fk)))

    wait_until(lambda: len(set(reads())) == FILMS, "every film is read")
    assert Counter(reads()) == Counter(images)
    with session_scope(url) as session:
        assert len({worker.name for worker in session.scalars(select(Worker))}) == 2

    pages = [browser.new_context().new_page() for _ in range(6)]
    for page in pages:
        open_worklist(page, address)
    assert len({route_of(page) for page in pages}) == 2, "both web processes serve"
    for page in pages:
        before = route_of(page)
        page.reload()
        expect_cases(page)
        assert route_of(page) == before

    next(iter(webs.values())).kill()  # the machine of one web process is gone: its people go on at the other
    time.sleep(11)  # twice what the proxy takes between two looks
    for page in pages:
        open_worklist(page, address)
        page.context.close()
