from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy.orm import Session

from db.models import RetrainRun, RetrainState
from engine.findings.answers import Task, bone_age_answer
from engine.services import lineage, reading, registry, shadow
from engine.services.accounts import demo_admin
from engine.services.reading import READY
from tests.model_folders import promote, register
from tests.ui.conftest import OpenPage
from tests.ui.reading_pages import everything_said
from tests.workstation import PHANTOM, WORKER, AddCase, read_of
from ui.components.model_lineage import short_name
from ui.pages import models as models_page

ADMIN = demo_admin()


def test_a_fresh_install_shows_the_configured_phantom_model_in_use(open_page: OpenPage) -> None:
    said = everything_said(open_page("models"))
    assert "In use phantom model · not for diagnostic use phantom 0.4" in said
    assert "No worker is running" in said and "No model has read here yet" in said


def test_in_use_by_whom_and_the_way_back(
    open_page: OpenPage, session: Session, data_dir: Path, add_case: AddCase
) -> None:
    add_case()
    registry.record_loaded(session, WORKER, PHANTOM, is_phantom=True)
    new = register(session, data_dir, "new")
    promote(session, data_dir, new)
    reading.heartbeat(session, WORKER, "w1", new.name, READY)
    at = open_page("models")
    said = everything_said(at)
    assert "promoted by demo-admin" in said and "Loaded by w1" in said
    assert f"Before this, {short_name(PHANTOM)} read here" in said
    now = registry.model_in_use(session, ADMIN)
    models_page.roll_back(now, " too many zone I calls ")
    said = everything_said(open_page("models"))
    assert f"In use phantom model · not for diagnostic use {short_name(PHANTOM)}" in said
    assert "brought back by demo-admin · “too many zone I calls”" in said
    assert "Loaded by no worker" in said and f"w1 still reads with {new.name}" in said


def test_a_worker_that_refuses_the_model_is_heard(open_page: OpenPage, session: Session, data_dir: Path) -> None:
    new = register(session, data_dir, "new")
    promote(session, data_dir, new)
    reading.heartbeat(session, WORKER, "w1", "phantom 0.3", f"{new.name} cannot be used. Its files were changed.")
    said = everything_said(open_page("models"))
    assert f"w1: {new.name} cannot be used. Its files were changed." in said


def test_the_list_says_what_each_model_is(session: Session, data_dir: Path) -> None:
    held = RetrainRun(state=RetrainState.HELD, started_by="demo-admin", message="Fractures got worse.")
    session.add(held)
    session.commit()
    register(session, data_dir, "phantom 0.3 + 1a2b3c4d", retrain_run_id=held.id, base_model="phantom")
    (row,) = lineage.models(session, ADMIN)
    line = models_page.line(row)
    assert line.cells["model"]["text"] == "phantom 0.3 + 1a2b3c4d" and len(line.cells["model"]["note"]) == 8
    assert (line.cells["state"]["text"], line.cells["state"]["note"]) == ("Candidate", "held back")


@pytest.fixture
def with_shadow(session: Session, data_dir: Path, add_case: AddCase) -> registry.Deployed:
    """Two hands; the shadow says 140 months where the reads say 110."""
    for _ in range(2):
        add_case(Task.BONE_AGE)
    new = register(session, data_dir, "new")
    shadow.start(session, ADMIN, new.model_version_id)
    waiting = shadow.images_to_read(session, WORKER, new.model_version_id, 10)
    reads = [read_of(Task.BONE_AGE, bone_age_answer(140)) for _ in waiting]
    assert shadow.record_reads(session, WORKER, new.model_version_id, waiting, reads) == 2
    return new


def test_what_a_shadow_says_is_on_this_page_alone(open_page: OpenPage, with_shadow: registry.Deployed) -> None:
    said = everything_said(open_page("models"))
    assert "Reads alongside unseen by readers new" in said and "2 films compared" in said
    assert "30 months apart" in said and "11 y 8 m" in said
    for page in ("worklist", "upload", "quarantine", "export"):
        assert "11 y 8 m" not in everything_said(open_page(page))
    at = open_page("review", study=1)
    assert "11 y 8 m" not in everything_said(at) and "9 y 2 m" in everything_said(at)
    models_page.stop_alongside(with_shadow.model_version_id)
    assert "unseen by readers" not in everything_said(open_page("models"))


def test_rolling_back_in_a_browser_says_first_what_it_will_do(
    server: str, page: Page, session: Session, data_dir: Path, add_case: AddCase
) -> None:
    add_case()
    registry.record_loaded(session, WORKER, PHANTOM, is_phantom=True)
    promote(session, data_dir, register(session, data_dir, "new"))
    page.goto(f"{server}/models")
    page.get_by_role("button", name=f"Roll back to {short_name(PHANTOM)}").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text("Films that were read are not read again.")).to_be_visible()
    dialog.get_by_role("textbox").fill("too many zone I calls")
    dialog.get_by_role("textbox").press("Tab")
    dialog.get_by_role("button", name="Roll back now").click()
    expect(page.get_by_text(", brought back by demo-admin")).to_be_visible()
    expect(dialog).to_have_count(0)
    page.locator("tr[data-study]").first.click()
    expect(dialog.get_by_role("button", name="Put back in use")).to_be_visible()
    session.rollback()
    (back, first) = lineage.deployments(session, ADMIN)
    assert (back.kind, back.comment, first.kind) == ("rollback", "too many zone I calls", "promotion")
