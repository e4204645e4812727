"""Who did what, when and from where: what a row holds, and that rows are only ever added."""

import json
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session

from db.models import AuditEvent, Study
from db.repositories.audit import AuditQuery
from db.session import engine_for, session_scope, writing
from engine.errors import NotAllowed, PediScreenError
from engine.services import audit, audit_check, review
from engine.settings import settings
from tests.engine.services.conftest import ADMIN, READER


def rows_of(session: Session) -> list[AuditEvent]:
    return list(session.scalars(select(AuditEvent).order_by(AuditEvent.id)))


def test_a_row_says_where_the_action_came_from(session: Session) -> None:
    with writing(session):
        audit.record(session, replace(READER, origin="192.0.2.7"), "study.viewed", "study:1")
        audit.record(session, READER, "study.viewed", "study:2")
    rows = audit.events_page(session, ADMIN).rows
    assert [(row.subject, row.origin) for row in rows] == [("study:2", ""), ("study:1", "192.0.2.7")]


def test_outside_the_transaction_of_its_action_nothing_is_recorded(session: Session) -> None:
    with pytest.raises(RuntimeError, match="writing"):
        audit.record(session, READER, "study.viewed", "study:1")


def test_an_action_that_is_rolled_back_leaves_no_row_then_or_later(session: Session) -> None:
    with pytest.raises(ZeroDivisionError), writing(session):
        audit.record(session, READER, "review.recorded", "image:1")
        raise ZeroDivisionError
    with writing(session):
        audit.record(session, READER, "review.recorded", "image:2")
    assert [(row.id, row.subject) for row in rows_of(session)] == [(1, "image:2")]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_event SET actor = 'somebody'",
        "DELETE FROM audit_event",
        "DELETE FROM audit_event WHERE id = 2",
    ],
)
def test_the_database_itself_refuses_a_change(session: Session, database_url: str, statement: str) -> None:
    with writing(session):
        for number in range(3):
            audit.record(session, READER, "study.viewed", f"study:{number}")
    with engine_for(database_url).begin() as connection, pytest.raises(DBAPIError, match="only ever added"):
        connection.execute(text(statement))
    session.rollback()
    assert [row.actor for row in rows_of(session)] == [READER.username] * 3


def test_replacing_and_truncating_are_refused_too(session: Session, database_url: str) -> None:
    with writing(session):
        audit.record(session, READER, "study.viewed", "study:1")
    statement = (
        "INSERT OR REPLACE INTO audit_event (id, at, actor, action, subject, detail, origin, seal, previous_hash, hash)"
        " VALUES (1, '2026-01-01', 'a', 'b', 'c', '{}', '', 'sha256', 'x', 'y')"
    )
    if session.get_bind().dialect.name == "postgresql":
        statement = "TRUNCATE audit_event"
    with engine_for(database_url).begin() as connection, pytest.raises(DBAPIError, match="only ever added"):
        connection.execute(text(statement))


def test_looking_again_within_minutes_is_the_same_view(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    now = audit.utc_now()
    for minutes, expected in ((0, 1), (4, 1), (9, 2), (-600, 3), (-600, 3)):  # the clock may be set back meanwhile
        monkeypatch.setattr(audit, "utc_now", lambda minutes=minutes: now + timedelta(minutes=minutes))
        audit.record_view(session, READER, "study:7")
        assert len(rows_of(session)) == expected
    audit.record_view(session, ADMIN, "study:7")
    audit.record_view(session, ADMIN, "study:8")
    assert [(row.actor, row.action, row.subject) for row in rows_of(session)[3:]] == [
        (ADMIN.username, "study.viewed", "study:7"),
        (ADMIN.username, "study.viewed", "study:8"),
    ]


def test_a_refusal_says_who_asked_for_what(session: Session) -> None:
    asking = replace(READER, origin="192.0.2.7")
    with pytest.raises(NotAllowed) as refused:
        audit.events_page(session, asking)
    audit.record_refusal(asking, refused.value, "/audit_log")
    [row] = rows_of(session)
    assert (row.actor, row.action, row.subject, row.origin) == (
        READER.username,
        "access.refused",
        "/audit_log",
        "192.0.2.7",
    )
    assert row.detail == {"role": "reader", "asked_for": "events_page"}


def test_filters_and_pages(session: Session) -> None:
    for number in range(12):
        with writing(session):
            actor = ADMIN if number % 3 == 0 else READER
            audit.record(session, actor, ("review.recorded", "review.withdrawn")[number % 2], f"image:{number % 4}")
    rows = rows_of(session)
    find = lambda **query: audit.events_page(session, ADMIN, 1, 50, AuditQuery(**query))  # noqa: E731
    assert find(actor=READER.username).total == 8
    assert find(action="review.withdrawn", actor=READER.username).total == 4
    assert find(action="review").total == 12 and find(action="rev").total == 0
    assert [row.id for row in find(subject="image:1").rows] == [10, 6, 2]
    assert [row.id for row in find(since=rows[3].at, until=rows[5].at).rows] == [5, 4]
    page = audit.events_page(session, ADMIN, 2, 5, AuditQuery(action="review"))
    assert [row.id for row in page.rows] == [7, 6, 5, 4, 3] and page.total == 12


def test_looking_at_the_log_is_in_the_log(session: Session) -> None:
    audit.events_page(session, ADMIN, query=AuditQuery(subject="study:4"))
    [row] = rows_of(session)
    assert (row.actor, row.action, row.detail) == (ADMIN.username, "audit.viewed", {"filter": {"subject": "study:4"}})


def test_only_an_admin_sees_or_verifies_it(session: Session) -> None:
    for call in (audit.events_page, audit.choices, audit_check.verify, audit_check.last_verification):
        with pytest.raises(NotAllowed):
            call(session, READER)


def test_without_its_key_nothing_goes_into_a_sealed_log(
    session: Session, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def use(key: str | None) -> None:
        monkeypatch.setenv("PEDISCREEN_AUDIT_KEY", key or "")
        settings.cache_clear()

    use("k" * 40)
    with writing(session):
        audit.record(session, READER, "study.viewed", "study:1")
    for key, reason in ((None, "is not set here"), ("other key " * 4, "names another")):
        use(key)
        with pytest.raises(PediScreenError, match=reason), writing(session):
            audit.record(session, READER, "study.viewed", "study:2")
    use("too short")
    with pytest.raises(PediScreenError, match="9 characters"), writing(session):
        audit.record(session, READER, "study.viewed", "study:2")
    assert len(rows_of(session)) == 1


WRITER = """
import sys
from db.session import session_scope, writing
from engine.services import audit
from engine.services.accounts import service_actor
url, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
with session_scope(url) as session:
    for number in range(count):
        with writing(session):
            audit.record(session, service_actor(name), "test.written", f"row:{number}")
            if number % 5 == 0:
                audit.record(session, service_actor(name), "test.written_too", f"row:{number}")
"""


def test_several_processes_write_one_chain(session: Session, database_url: str) -> None:
    command = [sys.executable, "-c", WRITER, database_url]
    writers = [subprocess.Popen([*command, f"writer-{number}", "25"]) for number in range(4)]
    assert [writer.wait() for writer in writers] == [0] * 4
    rows = rows_of(session)
    assert [row.id for row in rows] == list(range(1, 4 * 30 + 1))
    assert audit_check.verify(session, ADMIN).problems == ()


def test_a_case_from_end_to_end_leaves_nothing_that_names_the_child(session: Session, new_case, caplog) -> None:
    planted = {"patient_id": "PLANTED-77", "patient_name": "Planted^Child", "accession_number": "PLANTED-A1"}
    case = new_case(**planted)
    view = review.load_study(session, READER, case.study_id)
    [image] = view.images
    decision = review.Decision(
        review.Verdict.CORRECTED,
        answer={"task": "bone_age", "bone_age_months": 99},
        comment="Planted comment: mother is Mrs Planted",
        prediction_id=image.read.prediction_id,
    )
    review.record_review(session, READER, image.image_id, decision)
    audit_check.verify(session, ADMIN)
    said = json.dumps([[row.subject, row.detail, row.origin] for row in rows_of(session)]).lower()
    for secret in ("planted", "2016-03-10", "20160310", "doe", "jane"):
        assert secret not in said and secret not in caplog.text.lower()


def test_the_rows_of_one_session_do_not_reach_another_ones_chain(database_url: str) -> None:
    with session_scope(database_url) as one, session_scope(database_url) as other:
        with writing(one):
            audit.record(one, READER, "test.first", "row:1")
        with writing(other):
            audit.record(other, READER, "test.second", "row:2")
        assert [row.action for row in rows_of(one)] == ["test.first", "test.second"]


def test_every_way_to_look_at_a_child_is_recorded(session: Session, new_case, arrive) -> None:
    """And nobody else's look, nor a program's."""
    from engine.errors import FileRefused
    from engine.services import child_growth, images, quarantine
    from engine.services.accounts import demo_second_reader
    from tests.engine.services.conftest import WORKER

    case = new_case()
    child = session.scalars(select(Study.patient_fk)).one()
    arrive(session, FileRefused("truncated", "cut off"))
    before = len(rows_of(session))
    images.film(session, WORKER, case.image_id)
    images.pixels_gzip(session, WORKER, case.image_id)
    assert len(rows_of(session)) == before
    images.pixels_gzip(session, READER, case.image_id)
    review.load_study(session, READER, case.study_id)  # within the same view
    images.film(session, demo_second_reader(), case.image_id)
    child_growth.visits_of(session, READER, child)
    quarantine.quarantine_page(session, READER)
    seen = [(row.actor, row.action, row.subject) for row in rows_of(session)[before:]]
    assert seen == [
        (READER.username, "study.viewed", f"study:{case.study_id}"),
        (demo_second_reader().username, "study.viewed", f"study:{case.study_id}"),
        (READER.username, "patient.viewed", f"patient:{child}"),
        (READER.username, "quarantine.viewed", "quarantine:list"),
    ]
