"""The facts that dashboards count are what decisions, reads and children say, whatever happened in between."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from db.models import AnswerFact, FilmStatistics, Influence, RejectReason, Verdict
from engine.findings.answers import Task, bone_age_answer, fracture_answer, rop_answer
from engine.services import answer_facts, review
from engine.services.accounts import Actor, Role, demo_admin, demo_reader
from engine.services.review import Decision
from tests.workstation import AddCase, case_adder

OTHER = Actor("other", "Other reader", Role.READER)


@pytest.fixture
def add_case(session: Session, tmp_path: Path) -> AddCase:
    return case_adder(session, tmp_path)


def facts(session: Session) -> list[dict]:
    rows = session.execute(select(AnswerFact.__table__).order_by(*AnswerFact.__table__.primary_key.columns)).mappings()
    return [dict(row) for row in rows]


def decide(session: Session, actor: Actor, image_id: int, study_id: int, verdict: Verdict, **more) -> int:
    image = next(i for i in review.load_study(session, actor, study_id).images if i.image_id == image_id)
    seen = {"prediction_id": image.read.prediction_id if image.read else None, "seen_review_id": image.seen_review_id}
    return review.record_review(session, actor, image_id, Decision(verdict, **seen, **more))


def test_a_read_counts_before_anybody_decided_about_it(session: Session, add_case: AddCase) -> None:
    add_case(Task.BONE_AGE)
    (fact,) = facts(session)
    assert (fact["kind"], fact["reader_fk"], fact["is_shown"], fact["is_in_force"]) == ("model", 0, True, False)
    assert (fact["read_months"], fact["label_months"], fact["site"], fact["sex"]) == (110, None, "Site A", "F")
    assert fact["read_hour"] is not None and fact["decided_hour"] is None


def test_a_correction_puts_the_readers_answer_beside_the_read(session: Session, add_case: AddCase) -> None:
    case = add_case(Task.BONE_AGE)
    decide(session, demo_reader(), case.image_id, case.study_id, Verdict.CORRECTED, answer=bone_age_answer(113),
           seconds=12.34)  # fmt: skip
    (fact,) = facts(session)
    assert (fact["label_months"], fact["read_months"], fact["verdict"]) == (113, 110, "corrected")
    assert (fact["interval_low_months"], fact["interval_high_months"]) == (103, 117)
    assert fact["seconds_tenths"] == 123 and fact["is_in_force"] and fact["turnaround_minutes"] == 0
    weights = np.exp(-0.5 * ((np.arange(229) - 110) / 5) ** 2)
    shares = weights / weights.sum()
    assert fact["below_label"] == round(shares[:113].sum() * 10_000)
    assert fact["through_label"] == round(shares[:114].sum() * 10_000)


def test_every_class_has_its_probability(session: Session, add_case: AddCase) -> None:
    case = add_case(Task.ROP)
    decide(session, demo_reader(), case.image_id, case.study_id, Verdict.CORRECTED, answer=rop_answer("I", "3", "plus"))
    (fact,) = facts(session)
    assert (fact["label_zone"], fact["read_zone"], fact["sure_zone"]) == ("I", "II", 9000)
    assert (fact["zone_i"], fact["zone_ii"], fact["stage_2"], fact["plus_disease_none"]) == (333, 9000, 9000, 9000)
    assert fact["label_plus_disease"] == "plus" and fact["label_months"] is None


def test_an_abstained_read_and_a_rejection_have_no_answers(session: Session, add_case: AddCase) -> None:
    case = add_case(Task.FRACTURE, reason="blurred")
    decide(session, demo_reader(), case.image_id, case.study_id, Verdict.REJECTED,
           reject_reason=RejectReason.POOR_QUALITY)  # fmt: skip
    (fact,) = facts(session)
    assert not fact["is_answered"] and fact["read_fracture"] is None and fact["label_fracture"] is None
    assert (fact["verdict"], fact["reject_reason"]) == ("rejected", "poor_quality")


def test_each_readers_standing_decision_counts_and_one_is_in_force(session: Session, add_case: AddCase) -> None:
    case = add_case(Task.FRACTURE)
    ids = (case.image_id, case.study_id)
    decide(session, demo_reader(), *ids, Verdict.CONFIRMED)
    second = decide(session, OTHER, *ids, Verdict.CORRECTED, answer=fracture_answer("normal"))
    by_label = {fact["label_fracture"]: fact["is_in_force"] for fact in facts(session)}
    assert by_label == {"buckle": False, "normal": True}
    review.undo_review(session, OTHER, case.image_id, second)
    assert {(fact["label_fracture"], fact["is_in_force"]) for fact in facts(session)} == {
        ("buckle", False), (None, False)
    }  # fmt: skip


def test_a_fact_that_becomes_known_reaches_decided_images(session: Session, add_case: AddCase) -> None:
    case = add_case(Task.FRACTURE, PatientSex=None, PatientBirthDate=None)
    decide(session, demo_reader(), case.image_id, case.study_id, Verdict.CONFIRMED)
    assert facts(session)[0]["sex"] is None and facts(session)[0]["age_months"] is None
    review.set_facts(session, demo_reader(), case.image_id, sex="M", birth_date=date(2016, 3, 10))
    assert facts(session)[0]["sex"] == "M" and facts(session)[0]["age_months"] == pytest.approx(112)


def test_facts_made_anew_are_the_same(session: Session, add_case: AddCase, database_url: str) -> None:
    for task in Task:
        one, other = add_case(task), add_case(task)
        add_case(task, is_read=False)
        decide(session, demo_reader(), one.image_id, one.study_id, Verdict.CONFIRMED)
        taken_back = decide(session, demo_admin(), other.image_id, other.study_id, Verdict.CONFIRMED)
        review.undo_review(session, demo_admin(), other.image_id, taken_back)
    kept = facts(session)
    assert len(kept) == 6
    session.execute(delete(AnswerFact))
    session.commit()
    assert answer_facts.fill_missing(database_url) == 6
    assert facts(session) == kept
    assert answer_facts.fill_missing(database_url) == 0


@pytest.mark.parametrize(
    ("blind", "read", "final", "expected"),
    [(110, 110, 110, "agreed"), (110, 110, 112, "otherwise"), (120, 110, 120, "kept"), (120, 110, 114, "towards"),
     (120, 110, 110, "towards"), (120, 110, 125, "otherwise")],
)  # fmt: skip
def test_what_seeing_the_read_did(blind: int, read: int, final: int, expected: str) -> None:
    said = answer_facts.influence(bone_age_answer(blind), bone_age_answer(read), bone_age_answer(final))
    assert said == Influence(expected)
    assert answer_facts.influence(bone_age_answer(blind), None, bone_age_answer(final)) is None


def test_what_the_pixels_are_like_is_kept(session: Session, add_case: AddCase) -> None:
    case = add_case(Task.BONE_AGE, is_read=False, pixels=np.full((240, 260), 4095, np.uint16))
    found = session.get_one(FilmStatistics, case.image_id)
    assert (found.study_fk, found.mean, found.spread, found.dark_share, found.sharpness) == (
        case.study_id, 1.0, 0.0, 0.0, 0.0
    )  # fmt: skip
