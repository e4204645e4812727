"""Two readers differ, a third decides."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import BlindCase, BlindState, RejectReason, Role, StudyStatus, Verdict
from engine.errors import AnswerRefused, Conflict, NotAllowed, NotFound
from engine.findings.answers import Task, bone_age_answer, fracture_answer
from engine.services import adjudication, gold_cases, quality_rules, review, training_set
from engine.services.accounts import Actor
from engine.services.adjudication import Ruling
from engine.services.quality_rules import Rule
from tests.engine.services.conftest import ADMIN, READER
from tests.engine.services.test_second_read import ADJUDICATOR, SECOND, decide, state_of


@pytest.fixture
def disputed(session: Session, new_case: Callable) -> object:
    """Read 110 by the model, 90 and 120 by the two readers."""
    quality_rules.set_rule(session, ADMIN, Rule(Task.BONE_AGE, second_read_share=1.0))
    case = new_case(Task.BONE_AGE, bone_age_answer(110))
    decide(session, READER, case, bone_age_answer(90), comment="carpals delayed")
    decide(session, SECOND, case, bone_age_answer(120))
    return case


def test_both_reads_side_by_side_without_names(session: Session, disputed: object) -> None:
    [dispute] = adjudication.disputes(session, ADJUDICATOR)
    case = adjudication.load(session, ADJUDICATOR, dispute.case_id)
    assert {one.answer["bone_age_months"] for one in case.reads} == {90, 120} and case.months_apart == 30
    assert [one.comment for one in case.reads if one.answer["bone_age_months"] == 90] == ["carpals delayed"]
    everything = str(asdict(case))
    for actor in (READER, SECOND):
        assert actor.username not in everything and actor.display_name not in everything
    assert case.study.images[0].reviews == ()


def test_which_read_stands_left_says_nothing(session: Session, new_case: Callable) -> None:
    quality_rules.set_rule(session, ADMIN, Rule(Task.FRACTURE, second_read_share=1.0))
    for _ in range(12):
        case = new_case(Task.FRACTURE)
        decide(session, READER, case, fracture_answer("buckle"))
        decide(session, SECOND, case, fracture_answer("normal"))
    ids = [dispute.case_id for dispute in adjudication.disputes(session, ADJUDICATOR)]
    left = [adjudication.load(session, ADJUDICATOR, case_id).reads[0].words for case_id in ids]
    assert len(set(left)) == 2
    assert left == [adjudication.load(session, ADJUDICATOR, case_id).reads[0].words for case_id in ids]


def test_the_ruling_becomes_the_decision_for_everybody(session: Session, disputed: object) -> None:
    [dispute] = adjudication.disputes(session, ADJUDICATOR)
    assert "readers_differ" in {left.code for left in training_set.preview(session, ADMIN).left_out}
    ruling = adjudication.settle(session, ADJUDICATOR, dispute.case_id, Ruling(bone_age_answer(112), comment="met"))
    assert state_of(session, disputed) == BlindState.SETTLED
    for actor in (READER, SECOND, ADJUDICATOR, ADMIN):
        study = review.load_study(session, actor, dispute.study_id)
        assert (study.images[0].decision.review_id, study.images[0].decision.verdict) == (ruling, Verdict.CORRECTED)
        assert study.status == StudyStatus.REVIEWED and study.images[0].withheld is None
    assert session.scalars(select(BlindCase.adjudication_fk)).one() == ruling
    assert adjudication.disputes(session, ADJUDICATOR) == []
    assert "readers_differ" not in {left.code for left in training_set.preview(session, ADMIN).left_out}
    with pytest.raises(Conflict):
        adjudication.settle(session, ADJUDICATOR, dispute.case_id, Ruling(bone_age_answer(100)))


def test_a_ruling_may_follow_the_model_or_reject(session: Session, disputed: object) -> None:
    [dispute] = adjudication.disputes(session, ADJUDICATOR)
    with pytest.raises(AnswerRefused):
        adjudication.settle(session, ADJUDICATOR, dispute.case_id, Ruling(None))
    with pytest.raises(AnswerRefused):
        adjudication.settle(session, ADJUDICATOR, dispute.case_id, Ruling(fracture_answer("normal")))
    with pytest.raises(AnswerRefused):
        adjudication.settle(session, ADJUDICATOR, dispute.case_id, Ruling(None, RejectReason.OTHER))
    adjudication.settle(session, ADJUDICATOR, dispute.case_id, Ruling(None, RejectReason.NOT_READABLE))
    assert review.load_study(session, SECOND, dispute.study_id).status == StudyStatus.REJECTED


def test_nobody_settles_their_own_disagreement(session: Session, disputed: object) -> None:
    [dispute] = adjudication.disputes(session, ADJUDICATOR)
    promoted = Actor(SECOND.username, SECOND.display_name, Role.ADJUDICATOR)
    assert adjudication.disputes(session, promoted) == []
    for call in (adjudication.load, lambda *args: adjudication.settle(*args, Ruling(bone_age_answer(100)))):
        with pytest.raises(NotAllowed):
            call(session, promoted, dispute.case_id)
        with pytest.raises(NotAllowed):
            call(session, READER, dispute.case_id)
        with pytest.raises(NotFound):
            call(session, ADJUDICATOR, 999)
    with pytest.raises(NotAllowed):
        adjudication.disputes(session, SECOND)


def test_a_settled_case_becomes_a_gold_case(session: Session, disputed: object, new_case: Callable) -> None:
    """It is dealt to a reader who knows nothing of it, looks like any other, and changes nothing."""
    [dispute] = adjudication.disputes(session, ADJUDICATOR)
    with pytest.raises(Conflict):
        gold_cases.make_gold(session, ADMIN, dispute.image_id, "not settled")
    ruling = adjudication.settle(session, ADJUDICATOR, dispute.case_id, Ruling(bone_age_answer(112)))
    gold_id = gold_cases.make_gold(session, ADMIN, dispute.image_id, "settled by an adjudicator")
    quality_rules.set_rule(session, ADMIN, Rule(Task.BONE_AGE, gold_every=2))

    third = Actor("third", "Third Reader", Role.READER)
    new_cases = [new_case(Task.BONE_AGE) for _ in range(4)]
    for case in new_cases[:1]:
        decide(session, third, case, bone_age_answer(100))
    assert review.load_study(session, third, dispute.study_id).images[0].decision.review_id == ruling
    assert session.scalars(select(BlindCase.id).where(BlindCase.gold_fk == gold_id)).all() == []

    fourth = Actor("fourth", "Fourth Reader", Role.READER)  # third has opened the case just now
    for reader in (third, fourth, READER):
        for case in new_cases:
            decide(session, reader, case, bone_age_answer(100))
    dealt = session.scalars(select(BlindCase).where(BlindCase.gold_fk == gold_id)).all()
    assert len(dealt) == 1
    image = review.load_study(session, fourth, dispute.study_id).images[0]
    assert image.decision is None and image.reviews == ()
    decide(session, fourth, disputed, bone_age_answer(117))
    assert state_of(session, disputed) == BlindState.AGREES  # within 8 months
    own = review.load_study(session, fourth, dispute.study_id).images[0]
    assert own.decision.answer == bone_age_answer(117) and own.decision.is_mine
    assert review.load_study(session, READER, dispute.study_id).images[0].decision.review_id == ruling
    with pytest.raises(NotAllowed):
        gold_cases.gold_cases(session, fourth)
    assert [gold.answer for gold in gold_cases.gold_cases(session, ADMIN)] == [bone_age_answer(112)]
    gold_cases.retire(session, ADMIN, gold_id)
    assert gold_cases.gold_cases(session, ADMIN) == []
