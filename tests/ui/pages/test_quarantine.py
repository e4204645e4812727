from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from engine.services import ingest, quarantine
from engine.services.accounts import demo_reader
from tests.ui.conftest import OpenPage
from tests.ui.reading_pages import everything_said


@pytest.fixture
def refused(session: Session, tmp_path: Path) -> int:
    (tmp_path / "empty.dcm").write_bytes(b"")
    ingest.ingest_file(session, demo_reader(), tmp_path / "empty.dcm", "empty.dcm")
    return quarantine.quarantine_page(session, demo_reader()).rows[0].quarantine_id


def test_an_empty_quarantine_says_what_comes_here(open_page: OpenPage) -> None:
    assert "Files that cannot be read, or may not enter, appear here." in everything_said(open_page("quarantine"))


def test_a_search_without_a_match_says_so(open_page: OpenPage, refused: int) -> None:
    at = open_page("quarantine")
    assert "Nothing" not in everything_said(at)
    at.text_input(key="quarantine_search").set_value("no such file").run()
    assert "Nothing matches" in everything_said(at)


def test_dismissed_files_leave_the_list_and_can_be_shown(open_page: OpenPage, refused: int, session: Session) -> None:
    quarantine.dismiss(session, demo_reader(), refused, "sent again")
    at = open_page("quarantine")
    assert "Nothing in quarantine" in everything_said(at)
    at.toggle(key="quarantine_dismissed").set_value(True).run()
    assert "Nothing in quarantine" not in everything_said(at)
