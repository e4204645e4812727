from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from sqlalchemy.orm import Session
from streamlit.testing.v1 import AppTest

from db.models import Verdict
from db.sending_tables import Delivery, DeliveryKind, DeliveryState, SendingDestination
from db.session import writing
from db.types import utc_now
from engine.findings.answers import bone_age_answer
from engine.services import receiving, review
from engine.services.accounts import demo_admin, demo_reader, service_actor
from engine.services.review import Decision
from engine.settings import settings
from tests.ui.conftest import OpenPage
from tests.ui.reading_pages import everything_said
from tests.workstation import AddCase
from ui import state

READER = demo_reader()


@pytest.fixture(autouse=True)
def as_admin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "current_user", demo_admin)


@pytest.fixture
def configured(monkeypatch: pytest.MonkeyPatch, data_dir) -> Iterator[None]:
    monkeypatch.setenv("PEDISCREEN_SEND_TO_PACS", "dicom://ORTHANC@pacs.hospital:4242")
    monkeypatch.setenv("PEDISCREEN_SEND_TO_EHR", "fhir+https://ehr.hospital/fhir")
    monkeypatch.setenv("PEDISCREEN_SEND_TO_OTHER", "dicom://pacs.hospital")
    settings.cache_clear()
    yield
    settings.cache_clear()


def signed(session: Session, add_case: AddCase, **tags: str) -> tuple[int, int]:
    """A decided study and the decision."""
    study = add_case(**tags).study_id
    image = review.load_study(session, READER, study).images[0]
    decision = Decision(Verdict.CORRECTED, bone_age_answer(96), prediction_id=image.read.prediction_id)
    return study, review.record_review(session, READER, image.image_id, decision)


def on_its_way(session: Session, case: tuple[int, int], destination: str = "pacs", **columns) -> int:
    if session.get(SendingDestination, destination) is None:
        with writing(session):
            session.add(SendingDestination(name=destination, sends_from=utc_now()))
    said = {"version": 1, "kind": DeliveryKind.REPORT, "due_at": utc_now(), "attempts": 1}
    with writing(session):
        delivery = Delivery(study_fk=case[0], through_review_id=case[1], destination=destination, **said | columns)
        session.add(delivery)
    return delivery.id


def test_with_nothing_configured_it_says_how(open_page: OpenPage) -> None:
    said = everything_said(open_page("connections"))
    assert "Nothing is received" in said and "Nothing is sent" in said
    assert "PEDISCREEN_SEND_TO_PACS=dicom://" in said and "docs/send.md" in said


def test_readers_are_sent_to_an_administrator(open_page: OpenPage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "current_user", demo_reader)
    said = everything_said(open_page("connections"))
    assert "Ask an administrator" in said and "Coming in" not in said


def test_every_destination_with_its_state_in_words(
    open_page: OpenPage, configured: None, session: Session, add_case: AddCase
) -> None:
    case = signed(session, add_case, AccessionNumber="ACC-77", PatientName="Quixotesson^Planted")
    on_its_way(session, case, state=DeliveryState.FAILED, reason="nothing answers")
    on_its_way(session, case, "ehr", state=DeliveryState.REFUSED, reason="it refuses the report (HTTP 422)")
    on_its_way(session, case, "old", state=DeliveryState.WAITING)
    with writing(session):
        pacs = session.get(SendingDestination, "pacs")
        pacs.failing_since, pacs.paused_until = utc_now(), utc_now() + timedelta(minutes=5)
        pacs.reason = "nothing answers at this address and port (connection refused)"
    said = everything_said(open_page("connections"))
    assert "Not reached since" in said and "connection refused" in said and "Next attempt" in said
    assert "1 report needs somebody" in said
    assert "No longer in the settings; 1 report waits for it" in said
    assert "Cannot be used as it is configured: a DICOM node is given as dicom://AETITLE@host:port" in said
    assert "The exchange has not been running" in said
    assert "Quixotesson" not in said and "Planted" not in said
    receiving.loop_started(session, service_actor("exchange"), "sending")
    assert "The exchange has not been running" not in everything_said(open_page("connections"))


def test_send_all_again(open_page: OpenPage, configured: None, session: Session, add_case: AddCase) -> None:
    refused = on_its_way(session, signed(session, add_case), state=DeliveryState.REFUSED, reason="it refuses it")
    at = open_page("connections")
    button(at, "Send all to PACS again").click().run()
    session.rollback()
    assert session.get(Delivery, refused).state == DeliveryState.WAITING
    assert not [one for one in at.button if one.label == "Send all to PACS again"]


def test_the_reports_can_be_searched(
    open_page: OpenPage, configured: None, session: Session, add_case: AddCase
) -> None:
    on_its_way(session, signed(session, add_case, AccessionNumber="ACC-77"), state=DeliveryState.WAITING)
    at = open_page("connections")
    assert "Nothing matches" not in everything_said(at)
    at.text_input(key="reports_search").set_value("acc-78").run()
    assert "Nothing matches" in everything_said(at)


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"state": DeliveryState.SENT, "sent_at": utc_now()}, "Report sent to PACS at "),
        ({"state": DeliveryState.WAITING}, "Report goes to PACS next"),
        ({"state": DeliveryState.FAILED, "reason": "it gives no answer"}, "not sent to PACS yet: it gives no answer"),
        ({"state": DeliveryState.REFUSED, "reason": "it will not"}, "Report refused by PACS: it will not"),
        ({"state": DeliveryState.SENT, "sent_at": utc_now(), "version": 2}, "Correction sent to PACS at "),
        ({"state": DeliveryState.SENT, "sent_at": utc_now(), "kind": DeliveryKind.WITHDRAWAL}, "Withdrawal sent to"),
    ],
)
def test_under_a_decided_case_one_line_says_where_the_report_stands(
    open_page: OpenPage, session: Session, add_case: AddCase, columns: dict, says: str
) -> None:
    case = signed(session, add_case)
    on_its_way(session, case, **columns)
    assert says in everything_said(open_page("review", study=case[0]))


def test_the_link_to_the_hospitals_viewer(
    open_page: OpenPage, session: Session, add_case: AddCase, monkeypatch: pytest.MonkeyPatch, data_dir
) -> None:
    case = add_case(StudyInstanceUID="1.2.3.99")
    assert "Open in OHIF" not in everything_said(open_page("review", study=case.study_id))
    monkeypatch.setenv("PEDISCREEN_VIEWER_URL", "https://pacs/ohif/viewer?StudyInstanceUIDs={StudyInstanceUID}&a=1")
    settings.cache_clear()
    at = open_page("review", study=case.study_id)
    (link,) = [one for one in (getattr(html.proto, "body", "") for html in at.get("html")) if "OHIF" in one]
    assert 'href="https://pacs/ohif/viewer?StudyInstanceUIDs=1.2.3.99&amp;a=1"' in link
    assert 'target="_blank" rel="noopener noreferrer"' in link


def button(at: AppTest, label: str):
    return next(one for one in at.button if one.label == label)
