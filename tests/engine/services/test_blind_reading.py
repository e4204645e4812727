"""Blind-first: the answer before the read, the read after it, both kept."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import BlindAnswer, BlindRead, RejectReason, Review, Role, Verdict
from engine.errors import AnswerRefused, Conflict, NotAllowed
from engine.findings.answers import Task, bone_age_answer, rop_answer
from engine.findings.urgency import Level
from engine.services import blind_reading, child_context, quality_rules, review, worklist
from engine.services.accounts import Actor
from engine.services.quality_rules import Rule
from engine.services.review import Decision, ImageView
from engine.services.worklist import Sort, WorklistFilter
from tests.engine.services.conftest import ADMIN, READER, WORKER

OTHER = Actor("other", "Other Reader", Role.READER)


@pytest.fixture
def blind_first(session: Session) -> None:
    for task in Task:
        quality_rules.set_rule(session, ADMIN, Rule(task, blind_first=True))


def image_of(session: Session, case: object, actor: Actor = READER) -> ImageView:
    session.rollback()
    return review.load_study(session, actor, case.study_id).images[0]  # type: ignore[attr-defined]


def test_the_read_is_shown_after_the_answer_and_both_are_kept(
    session: Session, new_case: Callable, blind_first: None
) -> None:
    case = new_case(Task.BONE_AGE, bone_age_answer(110))
    hidden = image_of(session, case)
    assert hidden.read_hidden and hidden.read is None and hidden.blind_answer is None
    with pytest.raises(AnswerRefused, match="blind first"):
        review.record_review(session, READER, case.image_id, Decision(Verdict.CORRECTED, bone_age_answer(100)))

    blind_reading.give_blind_answer(session, READER, case.image_id, bone_age_answer(100), 6.5)
    shown = image_of(session, case)
    assert not shown.read_hidden and shown.read.answer == bone_age_answer(110)
    assert shown.blind_answer == bone_age_answer(100)
    assert image_of(session, case, OTHER).read_hidden  # their turn has not come
    assert not image_of(session, case, ADMIN).read_hidden

    decision = Decision(Verdict.CORRECTED, bone_age_answer(106), prediction_id=shown.read.prediction_id, seconds=11.0)
    review.record_review(session, READER, case.image_id, decision)
    kept = session.execute(
        select(BlindAnswer.answer, BlindAnswer.seconds, Review.answer, Review.seconds).join(
            Review, Review.blind_answer_fk == BlindAnswer.id
        )
    ).one()
    assert tuple(kept) == (bone_age_answer(100), 6.5, bone_age_answer(106), 11.0)


def test_what_is_said_and_marked_besides_is_checked_and_kept(
    session: Session, new_case: Callable, blind_first: None
) -> None:
    case = new_case(Task.BONE_AGE)
    answer, regions = bone_age_answer(100), [{"x0": 1, "y0": 2, "x1": 9, "y1": 8}]
    for details, why in (({"notch": True}, "says nothing about a bone age"), ({"x": "x" * 5000}, "at most 4000")):
        with pytest.raises(AnswerRefused, match=why):
            blind_reading.give_blind_answer(session, READER, case.image_id, answer, details=details)
    assert image_of(session, case).read_hidden

    details = {"method": "atlas", "regions": regions}
    blind_reading.give_blind_answer(session, READER, case.image_id, answer, comment=" carpals ahead ", details=details)
    shown = image_of(session, case)
    assert (shown.blind_comment, shown.blind_details) == ("carpals ahead", details)


def test_nobody_answers_blind_twice(session: Session, new_case: Callable, blind_first: None) -> None:
    case = new_case(Task.BONE_AGE)
    give = lambda answer: blind_reading.give_blind_answer(session, READER, case.image_id, answer)  # noqa: E731
    assert give(bone_age_answer(100)) == give(bone_age_answer(100)) == bone_age_answer(100)
    with pytest.raises(Conflict):
        give(bone_age_answer(110))
    assert session.query(BlindAnswer).count() == 1


def test_an_answer_is_not_blind_once_the_read_was_seen(session: Session, new_case: Callable) -> None:
    open_case, rejected = new_case(Task.BONE_AGE), new_case(Task.BONE_AGE)
    with pytest.raises(Conflict):  # nothing is hidden
        blind_reading.give_blind_answer(session, READER, open_case.image_id, bone_age_answer(100))
    quality_rules.set_rule(session, ADMIN, Rule(Task.BONE_AGE, blind_first=True))
    reject = Decision(Verdict.REJECTED, reject_reason=RejectReason.POOR_QUALITY)
    taken_back = review.record_review(session, READER, rejected.image_id, reject)  # needs no answer
    review.undo_review(session, READER, rejected.image_id, taken_back)
    assert image_of(session, rejected).read is not None  # a rejected case shows its read
    with pytest.raises(Conflict):
        blind_reading.give_blind_answer(session, READER, rejected.image_id, bone_age_answer(100))


def test_the_worklist_does_not_tell_the_read(session: Session, new_case: Callable, blind_first: None) -> None:
    case = new_case(Task.ROP, rop_answer("I", "3", "plus"))
    other_film = new_case(Task.ROP, rop_answer("II", "1", "none"), patient_id="SAME")
    for sort in Sort:
        rows = worklist.worklist_page(session, READER, WorklistFilter(sort=sort)).rows
        [row] = [row for row in rows if row.study_id == case.study_id]
        assert (row.read_words, row.urgency_reason, row.learn_reason) == (worklist.READ_HIDDEN, None, None)
        assert row.urgency is Level.URGENT  # a child who cannot wait comes first, blind or not
    study = review.load_study(session, READER, case.study_id)
    assert (study.urgency.level, study.urgency.reason) == (Level.URGENT, None)
    films = child_context.child_context(session, READER, new_case(Task.ROP, patient_id="SAME").image_id).films
    assert [film.answer for film in films if film.image_id == other_film.image_id] in ([], [None])


def test_a_second_read_is_blind_first_too(session: Session, new_case: Callable) -> None:
    case = new_case(Task.BONE_AGE, bone_age_answer(110))
    quality_rules.set_rule(session, ADMIN, Rule(Task.BONE_AGE, blind_first=True, second_read_share=1.0))
    for actor, answer in ((READER, 112), (OTHER, 109)):
        blind_reading.give_blind_answer(session, actor, case.image_id, bone_age_answer(answer))
        image = image_of(session, case, actor)
        review.record_review(
            session, actor, case.image_id, Decision(Verdict.CONFIRMED, prediction_id=image.read.prediction_id)
        )
    assert session.scalars(select(BlindRead.blind_answer_fk)).one() is not None


def test_who_may(session: Session, new_case: Callable, blind_first: None) -> None:
    case = new_case(Task.BONE_AGE)
    with pytest.raises(NotAllowed):
        blind_reading.give_blind_answer(session, WORKER, case.image_id, bone_age_answer(100))
    with pytest.raises(AnswerRefused):
        blind_reading.give_blind_answer(session, READER, case.image_id, rop_answer("I", "3", "plus"))
    with pytest.raises(NotAllowed):
        quality_rules.set_rule(session, READER, Rule(Task.BONE_AGE))
    with pytest.raises(NotAllowed):
        quality_rules.rules(session, READER)
