"""Names, comments and file names that are scripts: on every page they are text, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from db.models import Role, Verdict
from db.session import session_scope
from engine.findings.answers import Task
from engine.services import handover, ingest, review, saved_filters, users
from engine.services.accounts import command_line, demo_reader, service_actor
from engine.services.review import Decision
from engine.services.worklist import WorklistFilter
from tests.local_server import ADMIN, LocalServer, local_server
from tests.streamlit_socket import PATIENCE_S

MARK = "stolen"
SCRIPT = f'<img src=x onerror="window.{MARK}=1"><script>window.{MARK}=1</script><svg onload="window.{MARK}=1">'
SHORT = f'<img src=x onerror="{MARK}=1">'  # a DICOM text of 64 characters at most
LINK = f"[click](javascript:window.{MARK}=1)"  # Markdown, too
PAGES = ("", "review?study=1", "review?study=2", "growth", "quarantine", "dashboards", "users", "quality", "audit_log")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    folder = tmp_path_factory.mktemp("scripts")
    with local_server(folder) as running:
        fill(running, folder)
        yield running


def fill(server: LocalServer, folder: Path) -> None:
    """A script wherever somebody may put one."""
    case = server.add_case(
        Task.BONE_AGE,
        PatientName=SHORT,
        PatientID=SHORT,
        AccessionNumber="<b>1</b>",
        InstitutionName=SHORT,
        StudyDescription=SHORT,
        SeriesDescription=SHORT,
        Manufacturer=SHORT,
    )
    broken = folder / "broken"
    broken.write_bytes(b"no film")
    with session_scope(server.url) as session:
        ingest.ingest_file(session, service_actor("cli"), broken, f"{SHORT}.dcm")
        for index, text in enumerate((SCRIPT, LINK)):
            users.add_user(session, command_line(), f"eve{index}", text[:128], Role.READER)
            handover.leave_note(session, demo_reader(), case.study_id, text)
            handover.leave_note(session, demo_reader(), None, text)
            saved_filters.save(session, demo_reader(), text[:60], WorklistFilter(), share=True)
        study = review.load_study(session, demo_reader(), case.study_id)
        image = study.images[0]
        decision = Decision(
            verdict=Verdict.CONFIRMED,
            answer=None,
            comment=SCRIPT + LINK,
            prediction_id=image.read.prediction_id if image.read else None,
            seen_review_id=None,
        )
        review.record_review(session, demo_reader(), image.image_id, decision)


@pytest.fixture
def page(browser: Browser, server: LocalServer) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    name, value = server.cookies[ADMIN].split("=", 1)
    context.add_cookies([{"name": name, "value": value, "url": server.address}])
    page = context.new_page()
    page.set_default_timeout(PATIENCE_S * 1000)
    yield page
    context.close()


def test_no_script_runs_and_none_becomes_part_of_a_page(server: LocalServer, page: Page) -> None:
    dialogs: list[str] = []
    page.on("dialog", lambda dialog: (dialogs.append(dialog.message), dialog.dismiss()))
    seen = ""
    for address in PAGES:
        page.goto(f"{server.address}/{address}")
        expect(page.locator(".st-key-whoami .tag")).to_be_visible(timeout=PATIENCE_S * 1000)
        page.wait_for_timeout(1500)
        assert page.evaluate(f"window.{MARK}") is None, address
        assert page.locator('img[src="x"], svg[onload], script:text("stolen"), a[href^="javascript"]').count() == 0
        seen += page.locator("body").inner_text()
    assert "<img src=x" in seen  # it was there, as text
    assert dialogs == []
