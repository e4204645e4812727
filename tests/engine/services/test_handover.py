from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import AuditEvent, StudyStatus
from engine.errors import Conflict, NotAllowed, NotFound, Refused
from engine.services import handover, worklist
from engine.services.worklist import Whose, WorklistFilter
from tests.engine.services.conftest import ADMIN, READER, WORKER


def listed(session: Session, actor, whose: Whose) -> list[int]:
    filter = WorklistFilter(statuses=(StudyStatus.AWAITING_REVIEW,), whose=whose)
    return [row.study_id for row in worklist.worklist_page(session, actor, filter).rows]


def test_a_note_stays_until_somebody_settles_it(session: Session, new_case: Callable) -> None:
    case = new_case().study_id
    note = handover.leave_note(session, READER, case, "  Ask for the other side.\n")
    handover.leave_note(session, READER, None, "Site B's monitor is dark.")
    (found,) = handover.notes(session, ADMIN, case)
    assert (found.text, found.author, found.is_mine) == ("Ask for the other side.", READER.display_name, False)
    assert [about.text for about in handover.notes(session, ADMIN, None)] == ["Site B's monitor is dark."]
    (row,) = worklist.worklist_page(session, ADMIN, WorklistFilter()).rows
    assert row.note_count == 1
    handover.settle(session, ADMIN, note)
    assert handover.notes(session, READER, case) == []
    with pytest.raises(Conflict, match="demo-admin has settled"):
        handover.settle(session, READER, note)


def test_a_note_in_the_audit_log_is_a_number(session: Session, new_case: Callable) -> None:
    handover.leave_note(session, READER, new_case().study_id, "Jane Doe's mother rang")
    event = session.scalars(select(AuditEvent).where(AuditEvent.action == "note.left")).one()
    assert set(event.detail) == {"note"}


@pytest.mark.parametrize("text", ["", " \n", "\0"])
def test_an_empty_note_is_refused(session: Session, text: str) -> None:
    with pytest.raises(Refused, match="empty"):
        handover.leave_note(session, READER, None, text)


def test_a_note_is_not_a_letter(session: Session) -> None:
    with pytest.raises(Refused, match="at most 1000 characters, this one has 1001"):
        handover.leave_note(session, READER, None, "x" * 1001)


def test_whose_a_case_is(session: Session, new_case: Callable) -> None:
    first, second = new_case().study_id, new_case().study_id
    handover.assign(session, READER, first, READER.username)
    assert handover.assigned_to(session, ADMIN, first).display_name == READER.display_name
    assert listed(session, READER, Whose.MINE) == [first]
    assert listed(session, ADMIN, Whose.MINE) == []
    assert listed(session, ADMIN, Whose.NOBODYS) == [second]
    assert listed(session, ADMIN, Whose.ANYBODYS) == [first, second]
    handover.assign(session, ADMIN, first, ADMIN.username)
    assert listed(session, ADMIN, Whose.MINE) == [first] and listed(session, READER, Whose.MINE) == []
    handover.assign(session, ADMIN, first, None)
    handover.assign(session, ADMIN, first, None)  # twice is no change
    assert handover.assigned_to(session, ADMIN, first) is None
    said = session.scalars(select(AuditEvent.detail).where(AuditEvent.action == "study.assigned")).all()
    assert said == [{"to": "demo-reader"}, {"to": "demo-admin"}, {"to": None}]


def test_cases_go_to_readers_who_are_known(session: Session, new_case: Callable) -> None:
    case = new_case().study_id
    with pytest.raises(NotFound, match="no reader nobody"):
        handover.assign(session, READER, case, "nobody")
    with pytest.raises(NotFound, match="no reader worker"):
        handover.assign(session, READER, case, "worker")
    with pytest.raises(NotFound):
        handover.assign(session, READER, 99, READER.username)
    with pytest.raises(NotAllowed):
        handover.assign(session, WORKER, case, READER.username)
    assert [reader.username for reader in handover.readers(session, READER)] == ["demo-reader"]
