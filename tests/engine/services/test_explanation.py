"""engine.services.explanation: who may ask for the model's words, and what is kept of them: nothing."""

from __future__ import annotations

import pytest
from sqlalchemy import func, select

from db.models import AuditEvent, Base, Prediction
from engine.errors import ModelUnavailable, NotAllowed, NotFound, ReaderUnavailable, Refused
from engine.findings.answers import Task
from engine.inference.read import ReadContext
from engine.services import explanation, quality_rules
from engine.services.accounts import demo_admin, demo_reader, service_actor
from engine.services.quality_rules import Rule
from tests.fake_door import WordyReader, door_of_this_machine
from tests.workstation import PHANTOM, case_adder

READER = demo_reader()


@pytest.fixture
def add_case(session, tmp_path):
    return case_adder(session, tmp_path)


def rows(session) -> dict[str, int]:
    session.rollback()
    tables = Base.metadata.sorted_tables
    return {table.name: session.scalar(select(func.count()).select_from(table)) for table in tables}


def test_the_words_come_from_the_worker_and_nothing_of_them_is_kept(session, add_case, monkeypatch):
    case = add_case(Task.FRACTURE)
    reader, before = WordyReader(), rows(session)
    with door_of_this_machine(reader, monkeypatch):
        said = explanation.words(session, READER, case.image_id)
        assert "".join(said.pieces) == "The physis is open."
    assert (said.model_version, said.is_the_readers) == ("fake 1", False)
    assert reader.asked == [((3, 320, 320), Task.FRACTURE, ReadContext("F", 112))]
    after = rows(session)
    assert {name for name in after if after[name] != before[name]} <= {"audit_event", "user_account"}
    (event,) = session.scalars(select(AuditEvent).where(AuditEvent.action == "words.asked"))
    assert event.detail == {"model_version": "fake 1"} and "physis" not in str(event.detail)
    (prediction,) = session.scalars(select(Prediction))
    assert "physis" not in str(prediction.answer) + str(prediction.reason)


def test_words_of_the_model_that_read_are_said_to_be_so(session, add_case, monkeypatch):
    reader = WordyReader()
    reader.model_version = PHANTOM
    with door_of_this_machine(reader, monkeypatch):
        assert explanation.words(session, READER, add_case().image_id).is_the_readers


def test_a_model_without_prose_says_so_and_no_words_are_made_up(session, add_case, monkeypatch):
    reader = WordyReader()

    def none(*asked):
        raise Refused("no_words", "The phantom model gives no explanation.")
        yield

    reader.words = none
    with door_of_this_machine(reader, monkeypatch):
        said = explanation.words(session, READER, add_case().image_id)
        with pytest.raises(Refused, match="phantom model gives no explanation"):
            next(said.pieces)


def test_words_that_break_off_are_an_error(session, add_case, monkeypatch):
    with door_of_this_machine(WordyReader(error=ReaderUnavailable("full")), monkeypatch):
        said = explanation.words(session, READER, add_case().image_id)
        assert next(said.pieces) == "The physis "
        with pytest.raises(ReaderUnavailable, match="in the middle"):
            next(said.pieces)


def test_before_a_blind_answer_there_are_no_words(session, add_case, monkeypatch):
    case = add_case(Task.BONE_AGE)
    quality_rules.set_rule(session, demo_admin(), Rule(Task.BONE_AGE, blind_first=True))
    reader = WordyReader()
    with door_of_this_machine(reader, monkeypatch), pytest.raises(Refused, match="after your own answer"):
        explanation.words(session, READER, case.image_id)
    assert reader.asked == []


def test_without_a_read_there_is_nothing_to_explain(session, add_case, monkeypatch):
    with door_of_this_machine(WordyReader(), monkeypatch):
        for case in (add_case(is_read=False), add_case(reason="The image is unlike all others.")):
            with pytest.raises(Refused, match="nothing to explain"):
                explanation.words(session, READER, case.image_id)


def test_without_a_worker_to_ask_it_is_said(session, add_case, monkeypatch):
    case = add_case()
    with pytest.raises(ModelUnavailable, match="pediscreen up"):
        explanation.words(session, READER, case.image_id)
    with door_of_this_machine(WordyReader(), monkeypatch):
        pass
    with pytest.raises(ModelUnavailable, match="does not answer"):
        explanation.words(session, READER, case.image_id)


def test_only_readers_may_ask(session, add_case):
    case = add_case()
    with pytest.raises(NotAllowed):
        explanation.words(session, service_actor("worker"), case.image_id)
    with pytest.raises(NotFound):
        explanation.words(session, READER, case.image_id + 1)
