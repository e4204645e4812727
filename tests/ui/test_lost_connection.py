"""The web process goes away while a reader writes, and comes back: nothing is lost, and they are told what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Error, Page, expect
from sqlalchemy.orm import Session

from engine.findings.answers import Task, bone_age_answer
from engine.services import review
from engine.services.accounts import demo_reader
from engine.settings import PROJECT_DIR
from tests.pediscreen_up import free_port
from tests.ui.keys import keys_are_bound
from tests.workstation import AddCase


@pytest.fixture
def start(database_url: str, data_dir: Path, tmp_path: Path) -> Iterator[Callable[[], str]]:
    """`start()` kills the web process where one runs, and starts one at the same address; its address."""
    port, processes = free_port(), []
    environment = os.environ | {"PEDISCREEN_DATA_DIR": str(data_dir), "PEDISCREEN_PORT": str(port)}

    def restart(stop_only: bool = False) -> str:
        for process in processes:
            process.kill()
            process.wait(15)
        processes.clear()
        if not stop_only:
            environment_ = environment | {"PYTHONPATH": str(PROJECT_DIR), "PEDISCREEN_DATABASE_URL": database_url}
            processes.append(subprocess.Popen([sys.executable, "-m", "ui.serve"], cwd=tmp_path, env=environment_))
        return f"http://127.0.0.1:{port}"

    yield restart
    restart(stop_only=True)


@pytest.mark.slow
def test_what_was_typed_outlives_a_web_process_that_was_killed(
    start: Callable, page: Page, add_case: AddCase, session: Session
) -> None:
    case = add_case(Task.BONE_AGE, bone_age_answer(110))
    address = start()
    for _ in range(300):
        try:
            page.goto(f"{address}/review?study={case.study_id}")
            break
        except Error:  # it has not started yet
            page.wait_for_timeout(200)
    expect(page.locator("section.viewer")).to_have_attribute("data-state", "ready")
    keys_are_bound(page, "C")
    page.keyboard.press("c")
    page.keyboard.type("10")
    page.keyboard.press("Tab")
    comment = page.get_by_placeholder("Comment")
    comment.click()
    page.keyboard.type("carpals ahead")
    page.keyboard.press("Tab")
    expect(page.get_by_text("122 months")).to_be_visible()
    page.wait_for_timeout(1000)  # the comment is on its way to the server

    start(stop_only=True)
    lost = page.get_by_role("alert").filter(has_text="No connection to the workstation since")
    expect(lost).to_contain_text("What you entered is still here")
    expect(page.get_by_text("Is Streamlit still running")).to_be_hidden()
    start()
    expect(page.locator(".page-bar", has_text="Connected again")).to_be_visible(timeout=90_000)
    expect(page.get_by_text("What you had entered before is back.")).to_be_visible()
    expect(comment).to_have_value("carpals ahead")
    expect(page.get_by_label("Years")).to_have_value("10")
    expect(page.get_by_role("button", name="Correct to 10 y 2 m and next")).to_be_enabled()
    keys_are_bound(page, "Enter")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Nothing matches")).to_be_visible()
    session.rollback()
    decision = review.load_study(session, demo_reader(), case.study_id).images[0].decision
    assert (decision.answer, decision.comment) == (bone_age_answer(122), "carpals ahead")
