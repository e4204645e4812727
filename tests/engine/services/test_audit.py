"""Who did what, when and from where; nothing of it can be changed unseen."""

from dataclasses import replace

from sqlalchemy.orm import Session

from db.session import writing
from engine.services import audit
from tests.engine.services.conftest import ADMIN, READER


def test_a_row_says_where_the_action_came_from(session: Session) -> None:
    with writing(session):
        audit.record(session, replace(READER, origin="192.0.2.7"), "study.viewed", "study:1")
        audit.record(session, READER, "study.viewed", "study:2")
    rows = audit.events_page(session, ADMIN).rows
    assert [(row.subject, row.origin) for row in rows] == [("study:2", ""), ("study:1", "192.0.2.7")]
