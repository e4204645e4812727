"""The exports are read back by others' programs: the csv module, and fhir.resources."""

import csv
import io
import json

import pytest
from fhir.resources.R4B.bundle import Bundle
from sqlalchemy.orm import Session

from db.repositories.audit import AuditQuery
from db.session import writing
from engine.errors import NotAllowed, Refused
from engine.services import audit, audit_check, audit_export
from engine.services.accounts import Actor
from engine.services.audit_export import Format, export
from tests.engine.services.conftest import ADMIN, READER

EVERYTHING = AuditQuery()


@pytest.fixture
def some_rows(session: Session) -> Session:
    hostile = Actor("=cmd|' /C calc'!A0", "Nobody", READER.role, origin="@SUM(1)")
    with writing(session):
        audit.record(session, READER, "review.recorded", "image:7", {"review": 3, "verdict": "confirmed"})
        audit.record(session, Actor("a", "A", READER.role, "192.0.2.7"), "study.viewed", "study:1")
        audit.record(session, hostile, "access.refused", "-1+1")
    return session


def test_a_table_in_which_nothing_is_a_formula(some_rows: Session) -> None:
    rows = list(csv.reader(io.StringIO(export(some_rows, ADMIN, EVERYTHING, Format.CSV))))
    assert rows[0] == list(audit_export.COLUMNS) and len(rows) == 4
    assert not [cell for row in rows[1:] for cell in row if cell[:1] in "=+-@\t\r" and cell]
    assert rows[3][2] == "'=cmd|' /C calc'!A0"
    assert json.loads(rows[1][6]) == {"review": 3, "verdict": "confirmed"}
    assert rows[2][8] == rows[1][9]  # the chain can be followed in the table


def test_a_bundle_that_a_fhir_library_takes(some_rows: Session) -> None:
    bundle = Bundle.model_validate_json(export(some_rows, ADMIN, EVERYTHING, Format.FHIR))
    first, second, third = (entry.resource for entry in bundle.entry)
    assert [event.type.code for event in (first, second, third)] == ["110110", "110103", "110113"]
    assert [event.outcome for event in (first, second, third)] == ["0", "0", "4"]
    assert first.agent[0].who.identifier.value == READER.username and first.agent[0].network is None
    assert (second.agent[0].network.address, second.agent[0].network.type, second.action) == ("192.0.2.7", "2", "R")
    assert third.agent[0].network.type == "1"
    assert {detail.type for detail in first.entity[0].detail} == {"review", "verdict", "audit_row", "audit_hash"}


def test_an_empty_bundle_is_one_too(session: Session) -> None:
    assert Bundle.model_validate_json(export(session, ADMIN, EVERYTHING, Format.FHIR)).entry is None


def test_what_was_asked_for_and_by_whom_is_recorded(some_rows: Session) -> None:
    found = export(some_rows, ADMIN, AuditQuery(action="review"), Format.CSV)
    assert len(found.splitlines()) == 2
    row = audit.events_page(some_rows, ADMIN).rows[0]
    assert (row.actor, row.action) == (ADMIN.username, "audit.exported")
    assert row.detail == {"format": "csv", "rows": 1, "filter": {"action": "review"}}
    assert audit_check.verify(some_rows, ADMIN).problems == ()


def test_too_much_and_too_little(some_rows: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_export, "MOST_ROWS", 2)
    with pytest.raises(Refused, match="3 rows are too many"):
        export(some_rows, ADMIN, EVERYTHING, Format.CSV)
    with pytest.raises(NotAllowed):
        export(some_rows, READER, EVERYTHING, Format.CSV)
