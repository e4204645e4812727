"""When a study is signed, what is issued of it, and which revision that is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import date
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import AuditEvent, Role, Task, Verdict
from db.session import session_scope
from engine.errors import DocumentRefused, NotAllowed, NotFound
from engine.findings.answers import bone_age_answer, fracture_answer, rop_answer
from engine.interop.signed_study import DocumentKind, Region
from engine.services import adjudication, quality_rules, review, signed_studies
from engine.services.accounts import Actor, service_actor
from engine.services.adjudication import Ruling
from engine.services.quality_rules import Rule
from engine.services.review import Decision
from engine.settings import settings
from tests.engine.services.conftest import ADMIN, READER, WORKER, Arrivals, grey_film, hand_tags
from tests.engine.services.test_review import confirm, correct, image_of, reject
from tests.engine.services.test_second_read import ADJUDICATOR, SECOND, decide

SENDER = service_actor("sender")
SR = DocumentKind.STRUCTURED_REPORT


def signed_case(session: Session, case: Any, answer: dict | None = None) -> None:
    image = image_of(session, case)
    decision = confirm(image) if answer is None else correct(image, answer)
    review.record_review(session, READER, image.image_id, decision)


def issue(session: Session, case: Any) -> Any:
    return signed_studies.issue(session, SENDER, case.study_id)


def refused(session: Session, case: Any) -> str:
    with pytest.raises(DocumentRefused) as refusal:
        issue(session, case)
    said = signed_studies.why_not_signed(session, SENDER, case.study_id)
    assert said is not None and said.code == refusal.value.code
    return refusal.value.code


def test_an_unsigned_study_is_refused(session: Session, new_case: Callable) -> None:
    case = new_case()
    assert refused(session, case) == "undecided"
    assert signed_studies.issued(session, SENDER, case.study_id) == []
    with pytest.raises(NotFound):
        signed_studies.issue(session, SENDER, 999)


def test_readers_may_not_issue(session: Session, new_case: Callable) -> None:
    case = new_case()
    signed_case(session, case)
    for act in (signed_studies.issue, signed_studies.issued, signed_studies.why_not_signed):
        for actor in (READER, ADJUDICATOR):
            with pytest.raises(NotAllowed):
                act(session, actor, case.study_id)
    assert signed_studies.issue(session, ADMIN, case.study_id).revision == 1


def test_what_a_signed_study_says(session: Session, new_case: Callable) -> None:
    case = new_case()
    image = image_of(session, case)
    details = {"method": "atlas", "quality": "limited", "regions": [{"x0": 10, "y0": 20, "x1": 30, "y1": 60}]}
    said = Decision(
        Verdict.CORRECTED, bone_age_answer(118), None, " for Jane ", details, image.read.prediction_id, None, 9.0
    )
    review.record_review(session, READER, image.image_id, said)
    signed = issue(session, case)
    (of_image,) = signed.images
    assert (signed.task, signed.revision, signed.replaced_revision, signed.is_phantom) == (Task.BONE_AGE, 1, None, True)
    assert (signed.patient.name, signed.patient.sex) == ("Doe^Jane", "F")
    assert signed.patient.birth_date == date(2016, 3, 10) and signed.age_months == pytest.approx(112.0)
    assert (of_image.answer, of_image.additions, of_image.quality) == (
        bone_age_answer(118), {"method": "atlas"}, "limited",
    )  # fmt: skip
    assert of_image.regions == (Region(10, 20, 30, 60),) and of_image.comment == "for Jane"
    assert of_image.read is not None and of_image.read.answer == bone_age_answer(110) and not of_image.is_confirmed
    assert (of_image.read.model_version, of_image.read.is_phantom) == ("phantom 0.3", True)
    assert of_image.source is not None and of_image.source.sop_instance_uid.startswith("1.2.3.")
    assert signed.readers[0].name == "Demo reader" and signed.signed_at.tzinfo is not None
    assert of_image.picture is not None and of_image.picture.shape == (210, 200)


def test_sent_again_it_is_the_same(session: Session, new_case: Callable) -> None:
    case = new_case()
    signed_case(session, case)
    first, again = issue(session, case), issue(session, case)
    assert first == again and first.uid(SR) == again.uid(SR)
    assert [one.revision for one in signed_studies.issued(session, SENDER, case.study_id)] == [1]
    events = session.scalars(select(AuditEvent).where(AuditEvent.action == "report.issued")).all()
    assert [event.detail for event in events] == [{"revision": 1, "withdrawal": False}]


def test_a_correction_replaces_what_was_issued(session: Session, new_case: Callable) -> None:
    case = new_case()
    signed_case(session, case)
    first = issue(session, case)
    signed_case(session, case, bone_age_answer(120))
    second = issue(session, case)
    assert (second.revision, second.replaced_revision) == (2, 1)
    assert second.replaced_uid(SR) == first.uid(SR) != second.uid(SR)
    assert second.images[0].answer == bone_age_answer(120)


def test_corrections_that_were_never_issued_are_not_counted(session: Session, new_case: Callable) -> None:
    case = new_case()
    signed_case(session, case)
    signed_case(session, case, bone_age_answer(120))
    assert issue(session, case).revision == 1


def test_what_becomes_known_of_the_child_makes_a_new_revision(session: Session, new_case: Callable) -> None:
    case = new_case(Task.FRACTURE, patient_birth_date=None)
    signed_case(session, case)
    assert issue(session, case).age_months is None
    review.set_facts(session, READER, case.image_id, birth_date=date(2016, 3, 10))
    second = issue(session, case)
    assert second.revision == 2 and second.age_months == pytest.approx(112.0)


def test_a_decision_taken_back_is_withdrawn_and_then_corrected(session: Session, new_case: Callable) -> None:
    case = new_case()
    signed_case(session, case)
    issue(session, case)
    image = image_of(session, case)
    review.undo_review(session, READER, image.image_id, image.decision.review_id)
    assert signed_studies.why_not_signed(session, SENDER, case.study_id) is None
    withdrawal, again = issue(session, case), issue(session, case)
    assert withdrawal == again and withdrawal.is_withdrawn and withdrawal.revision == 2
    assert withdrawal.images[0].answer is None and withdrawal.readers[0].username == READER.username
    signed_case(session, case, bone_age_answer(130))
    third = issue(session, case)
    assert (third.revision, third.replaced_revision, third.is_withdrawn) == (3, 2, False)
    assert [one.is_withdrawal for one in signed_studies.issued(session, SENDER, case.study_id)] == [False, True, False]


def test_nothing_is_withdrawn_that_was_never_issued(session: Session, new_case: Callable) -> None:
    case = new_case()
    signed_case(session, case)
    image = image_of(session, case)
    review.undo_review(session, READER, image.image_id, image.decision.review_id)
    assert refused(session, case) == "undecided"


def test_another_film_does_not_withdraw_what_was_said(session: Session, arrive: Arrivals) -> None:
    first = arrive(session, grey_film(hand_tags(1)))
    review.record_review(session, READER, first.image_id, reject(image_of(session, first)))
    issue(session, first)
    arrive(session, grey_film(hand_tags(1, sop_instance_uid="1.2.3.1.2"), seed=2))
    assert refused(session, first) == "undecided"


def test_a_rejected_image_is_said_as_such(session: Session, new_case: Callable) -> None:
    case = new_case(Task.ROP)
    image = image_of(session, case)
    review.record_review(session, READER, image.image_id, reject(image))
    (said,) = issue(session, case).images
    assert said.answer is None and said.reject_reason == "poor_quality"


def test_a_second_read_that_is_pending_holds_it_back(session: Session, new_case: Callable) -> None:
    quality_rules.set_rule(session, ADMIN, Rule(Task.BONE_AGE, second_read_share=1.0))
    case = new_case()
    decide(session, READER, case, bone_age_answer(120))
    assert refused(session, case) == "second_read_pending"
    decide(session, SECOND, case, bone_age_answer(118))
    signed = issue(session, case)
    assert signed.images[0].answer == bone_age_answer(120) and [one.name for one in signed.readers] == ["Demo reader"]


def test_a_disagreement_holds_it_back_until_an_adjudicator_settles_it(session: Session, new_case: Callable) -> None:
    quality_rules.set_rule(session, ADMIN, Rule(Task.ROP, second_read_share=1.0))
    case = new_case(Task.ROP)
    decide(session, READER, case, rop_answer("II", "1", "none"))
    decide(session, SECOND, case, rop_answer("I", "3", "plus"))
    assert refused(session, case) == "adjudication_pending"
    (dispute,) = adjudication.disputes(session, ADJUDICATOR)
    adjudication.settle(session, ADJUDICATOR, dispute.case_id, Ruling(rop_answer("I", "3", "plus")))
    signed = issue(session, case)
    assert signed.images[0].answer == rop_answer("I", "3", "plus")
    assert [one.name for one in signed.readers] == ["Adjudicator"]


def test_a_gold_case_holds_nothing_back(session: Session, new_case: Callable) -> None:
    from db.models import BlindCase, BlindKind

    case = new_case()
    signed_case(session, case)
    session.add(BlindCase(kind=BlindKind.GOLD, image_fk=case.image_id, study_fk=case.study_id))
    session.commit()
    assert issue(session, case).revision == 1


def test_both_eyes_are_one_report(session: Session, arrive: Arrivals) -> None:
    tags = {"body_part": "EYE", "modality": "OP"}
    right = arrive(session, grey_film(hand_tags(1, laterality="R", **tags)))
    left = arrive(session, grey_film(hand_tags(1, sop_instance_uid="1.2.3.1.2", **tags), seed=2))
    answer = {"answer": rop_answer("III", "1", "none")}
    review.record_review(session, READER, right.image_id, Decision(Verdict.CORRECTED, **answer))
    assert refused(session, right) == "undecided"
    other = Actor("other", "Other reader", Role.READER)
    review.record_review(session, other, left.image_id, Decision(Verdict.CORRECTED, **answer))
    signed = issue(session, right)
    assert [one.laterality for one in signed.images] == ["R", "L"]
    assert [one.name for one in signed.readers] == ["Other reader", "Demo reader"]  # who signed last comes first
    assert not signed.is_phantom and signed.models == ()


def test_a_photo_has_no_dicom_source(session: Session, arrive: Arrivals) -> None:
    film = grey_film(hand_tags(1, sop_instance_uid=None, study_instance_uid=None), source_format="png")
    case = arrive(session, film, task=Task.BONE_AGE)
    review.record_review(session, READER, case.image_id, Decision(Verdict.CORRECTED, bone_age_answer(100)))
    signed = issue(session, case)
    assert signed.images[0].source is None and not signed.has_dicom_source


def test_times_are_said_in_the_hospitals_zone(
    session: Session, new_case: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEDISCREEN_TIME_ZONE", "Asia/Tokyo")
    settings.cache_clear()
    case = new_case(Task.FRACTURE, fracture_answer("buckle"))
    signed_case(session, case)
    assert issue(session, case).signed_at.utcoffset().total_seconds() == 9 * 3600
    monkeypatch.setenv("PEDISCREEN_TIME_ZONE", "Nowhere/At_all")
    settings.cache_clear()
    with pytest.raises(DocumentRefused, match="Nowhere/At_all"):
        issue(session, case)


def test_two_senders_at_once_issue_one_revision(session: Session, new_case: Callable, database_url: str) -> None:
    case = new_case()
    signed_case(session, case)
    session.rollback()
    both, found = threading.Barrier(2), []

    def send() -> None:
        with session_scope(database_url) as own:
            both.wait()
            found.append(signed_studies.issue(own, SENDER, case.study_id))

    senders = [threading.Thread(target=send) for _ in range(2)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert found[0] == found[1]
    assert len(signed_studies.issued(session, SENDER, case.study_id)) == 1


def test_the_worker_may_issue_too(session: Session, new_case: Callable) -> None:
    case = new_case()
    signed_case(session, case)
    assert signed_studies.issue(session, WORKER, case.study_id).revision == 1
