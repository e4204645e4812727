import pytest
from sqlalchemy.orm import Session

from db.models import QuarantineState
from engine.errors import Conflict, FileRefused, NotAllowed, NotFound, Refused
from engine.services import audit, quarantine
from tests.engine.services.conftest import ADMIN, READER, WORKER, Arrivals


def test_pages_and_search(session: Session, arrive: Arrivals) -> None:
    for n in range(7):
        arrive(session, FileRefused("truncated" if n % 2 else "empty", f"reason {n}"), name=f"file{n}.dcm")
    first = quarantine.quarantine_page(session, READER, 1, 5)
    second = quarantine.quarantine_page(session, READER, 2, 5)
    assert [row.file_name for row in [*first.rows, *second.rows]] == [f"file{n}.dcm" for n in range(6, -1, -1)]
    assert first.total == second.total == 7
    assert quarantine.quarantine_page(session, READER, search="TRUNC").total == 3
    assert quarantine.quarantine_page(session, READER, search="reason 4").rows[0].file_name == "file4.dcm"
    assert quarantine.quarantine_page(session, READER, search="%").total == 0


def test_dismiss(session: Session, arrive: Arrivals) -> None:
    arrive(session, FileRefused("truncated", "cut off"))
    (row,) = quarantine.quarantine_page(session, READER).rows
    with pytest.raises(Refused, match="what was done"):
        quarantine.dismiss(session, READER, row.quarantine_id, "  ")
    quarantine.dismiss(session, READER, row.quarantine_id, "sent again by the ward")
    assert quarantine.quarantine_page(session, READER).total == 0
    (row,) = quarantine.quarantine_page(session, READER, states=(QuarantineState.DISMISSED,)).rows
    assert (row.dismissed_by, row.note) == (READER.username, "sent again by the ward")
    assert quarantine.original_path(row.file_sha256).exists()
    with pytest.raises(Conflict):
        quarantine.dismiss(session, READER, row.quarantine_id, "again")
    with pytest.raises(NotFound):
        quarantine.dismiss(session, READER, 99, "x")
    actions = [event.action for event in audit.events_page(session, ADMIN).rows]
    assert actions == ["quarantine.dismissed", "quarantine.viewed", "ingest.quarantined"]


def test_roles(session: Session) -> None:
    with pytest.raises(NotAllowed):
        quarantine.quarantine_page(session, WORKER)
    with pytest.raises(NotAllowed):
        quarantine.dismiss(session, WORKER, 1, "x")
    with pytest.raises(NotAllowed):
        audit.events_page(session, READER)
