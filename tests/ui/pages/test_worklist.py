from __future__ import annotations

from datetime import timedelta

from sqlalchemy.orm import Session

from db.models import Worker
from engine.findings.answers import Task, rop_answer
from engine.services import reading
from tests.ui.conftest import OpenPage
from tests.ui.reading_pages import everything_said
from tests.workstation import WORKER, AddCase


def test_an_empty_worklist_says_what_would_fill_it(open_page: OpenPage) -> None:
    said = everything_said(open_page("worklist"))
    assert "No studies yet" in said
    assert "pediscreen ingest" in said


def test_counts_by_status_and_urgency_stand_at_the_top(open_page: OpenPage, add_case: AddCase) -> None:
    add_case(Task.ROP, rop_answer("I", "3", "plus"))
    add_case(Task.FRACTURE)
    add_case(is_read=False)
    at = open_page("worklist")
    assert at.button_group(key="filter_status").options == [
        "Awaiting read 1",
        "To review 2",
        "Reviewed 0",
        "Rejected 0",
        "All 3",
    ]
    assert at.button_group(key="filter_urgency").options == ["Urgent 1"]


def test_filters_leave_only_what_matches(open_page: OpenPage, add_case: AddCase) -> None:
    add_case(Task.ROP, rop_answer("I", "3", "plus"))
    add_case(Task.FRACTURE)
    at = open_page("worklist")
    assert "1 to 2 of 2" in everything_said(at)
    at.button_group(key="filter_task").set_value([Task.FRACTURE]).run()
    assert "1 to 1 of 1" in everything_said(at)
    at.text_input(key="filter_search").set_value("no such child").run()
    assert "Nothing matches" in everything_said(at)


def test_pending_reads_without_a_worker_say_how_to_start_one(open_page: OpenPage, add_case: AddCase) -> None:
    add_case(is_read=False)
    said = everything_said(open_page("worklist"))
    assert "1 study awaits its read, and no worker is running. Start it with: pediscreen worker" in said


def test_pending_reads_with_a_worker_say_what_it_does(open_page: OpenPage, add_case: AddCase, session: Session) -> None:
    add_case(is_read=False)
    reading.heartbeat(session, WORKER, "worker-1", "phantom 0.3", "Reading a batch of 8.")
    assert "Reading a batch of 8." in everything_said(open_page("worklist"))


def test_a_worker_that_lost_its_gpu_is_still_heard_when_it_is_gone(
    open_page: OpenPage, add_case: AddCase, session: Session
) -> None:
    add_case(is_read=False)
    lost = f"{reading.LOST}The GPU does not work any more: CUDA error: device lost"
    reading.heartbeat(session, WORKER, "worker-1", None, lost)
    assert f"1 study awaits its read. {lost}" in everything_said(open_page("worklist"))
    session.get(Worker, "worker-1").at -= timedelta(minutes=5)
    session.commit()
    said = everything_said(open_page("worklist"))
    assert f"and no worker is running. {lost} Start it with: pediscreen worker" in said
