"""From the button to the promotion in a real browser, with real web process, worker and queue. Only the training steps
are made up, and so is the comparison: the real ones are in test_retrain_end_to_end."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from db.models import RetrainState
from db.session import session_scope
from engine.services import registry, retrain
from engine.services.accounts import demo_admin
from engine.settings import PROJECT_DIR
from tests.pediscreen_up import free_port

ADMIN = demo_admin()


@pytest.fixture
def workstation(database_url: str, tmp_path: Path) -> Iterator[str]:
    port = free_port()
    environment = os.environ | {
        "PEDISCREEN_PORT": str(port),
        "FAKE_RETRAIN": "1",
        "FAKE_STEP_S": "1",
        "FAKE_LOG": str(tmp_path / "reads.log"),
        "PYTHONPATH": str(PROJECT_DIR),
    }
    worker = [str(PROJECT_DIR / "tests" / "engine" / "jobs" / "fake_worker.py"), "w1", "60"]
    with (tmp_path / "log").open("ab") as log:
        processes = [
            subprocess.Popen([sys.executable, *command], cwd=PROJECT_DIR, env=environment, stdout=log, stderr=log)
            for command in (["-m", "tests.fake_workstation"], worker)
        ]
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(f"{address}/_stcore/health", timeout=2).close()
            break
        except OSError:
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.2)
    yield address
    for process in processes:
        process.terminate()
        process.wait(30)


@pytest.mark.slow
def test_two_tabs_start_one_run_and_a_signature_promotes_it(workstation: str, browser: Browser, database_url: str):
    expect.set_options(timeout=60_000)
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page, other_tab = context.new_page(), context.new_page()
    for tab in (page, other_tab):
        tab.goto(f"{workstation}/retrain")
        expect(tab.get_by_text("What would be learnt from")).to_be_visible()
    for tab in (page, other_tab):
        tab.bring_to_front()
        tab.get_by_role("button", name="Retrain", exact=True).click()
        expect(tab.get_by_role("button", name="Cancel")).to_be_visible()
    with session_scope(database_url) as session:
        assert [run.state.value for run in retrain.history(session, ADMIN)] in (["queued"], ["running"])

    expect(other_tab.get_by_text(re.compile(r"^Train: \d+%"))).to_be_visible()
    sign = page.get_by_role("button", name=re.compile("^Sign and put .* in use$"))
    page.bring_to_front()
    expect(sign).to_be_visible()
    expect(page.get_by_text("Let through")).to_be_visible()
    sign.click()
    expect(page.get_by_text("A comment is part of the signature")).to_be_visible()
    comment = page.get_by_label(re.compile("^Why is the change right"))
    comment.fill("Fewer errors at site B.")
    comment.blur()
    sign.click()
    expect(page.get_by_text(re.compile(r"^Run \d+, promoted"))).to_be_visible()
    expect(page.get_by_role("button", name="Change record as PDF")).to_be_visible()
    with session_scope(database_url) as session:
        (run,) = retrain.history(session, ADMIN)
        assert run.state is RetrainState.PROMOTED
        assert registry.in_use(session, ADMIN).name == run.candidate
    context.close()
