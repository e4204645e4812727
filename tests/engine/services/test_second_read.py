"""What a second reader sees and does, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import BlindCase, BlindRead, BlindState, RejectReason, Role, StudyStatus, Verdict
from db.repositories import blind
from engine.errors import Conflict
from engine.findings.answers import Task, bone_age_answer, fracture_answer, rop_answer
from engine.findings.urgency import Level
from engine.services import child_context, handover, quality_rules, review, second_read, worklist
from engine.services.accounts import Actor
from engine.services.quality_rules import Rule
from engine.services.review import Decision
from engine.services.worklist import Sort, WorklistFilter
from tests.engine.services.conftest import ADMIN, READER

SECOND = Actor("zweitleser", "Zweiter Leser", Role.READER)
THIRD = Actor("third", "Third Reader", Role.READER)
ADJUDICATOR = Actor("judge", "Adjudicator", Role.ADJUDICATOR)


@pytest.fixture
def everything_twice(session: Session) -> None:
    for task in Task:
        quality_rules.set_rule(session, ADMIN, Rule(task, second_read_share=1.0))


def decide(session: Session, actor: Actor, case: Any, answer: dict | None = None, comment: str | None = None) -> int:
    """As the page does it; without an answer the image is rejected."""
    image = review.load_study(session, actor, case.study_id).images[0]
    seen = {"prediction_id": image.read.prediction_id, "seen_review_id": image.seen_review_id, "comment": comment}
    if answer is None:
        decision = Decision(Verdict.REJECTED, reject_reason=RejectReason.POOR_QUALITY, **seen)
    else:
        decision = Decision(Verdict.CORRECTED, answer, seconds=8.0, **seen)
    return review.record_review(session, actor, image.image_id, decision)


def state_of(session: Session, case: Any) -> BlindState:
    session.rollback()
    return session.scalars(select(BlindCase.state).where(BlindCase.image_fk == case.image_id)).all()[-1]


def test_the_case_of_a_second_read_looks_as_before_the_first(
    session: Session, new_case: Callable, everything_twice: None
) -> None:
    case = new_case(Task.ROP, rop_answer("II", "1", "none"))
    before = asdict(review.load_study(session, SECOND, case.study_id))
    decide(session, READER, case, rop_answer("I", "3", "plus"), comment="a comment of the first reader")
    assert asdict(review.load_study(session, SECOND, case.study_id)) == before
    of_first = review.load_study(session, READER, case.study_id)
    assert of_first.status == StudyStatus.REVIEWED and of_first.urgency.level == Level.URGENT
    assert review.load_study(session, ADMIN, case.study_id).images[0].decision.comment is not None
    withheld = review.load_study(session, ADJUDICATOR, case.study_id).images[0]
    assert withheld.withheld and not withheld.reviews and withheld.decision is None


def test_a_second_read_that_agrees_stands_beside_the_case(
    session: Session, new_case: Callable, everything_twice: None
) -> None:
    case = new_case(Task.BONE_AGE, bone_age_answer(110))
    first = decide(session, READER, case, bone_age_answer(120))
    second = decide(session, SECOND, case, bone_age_answer(116), comment="mine")
    assert state_of(session, case) == BlindState.AGREES

    own = review.load_study(session, SECOND, case.study_id)
    assert own.status == StudyStatus.REVIEWED
    assert [(one.review_id, one.answer, one.is_mine) for one in own.images[0].reviews] == [
        (second, bone_age_answer(116), True)
    ]
    for actor in (READER, THIRD, ADJUDICATOR, ADMIN):
        image = review.load_study(session, actor, case.study_id).images[0]
        assert (image.decision.review_id, image.decision.answer) == (first, bone_age_answer(120))
        assert len(image.reviews) == 1


def test_readers_that_differ_leave_the_case_to_an_adjudicator(
    session: Session, new_case: Callable, everything_twice: None
) -> None:
    case = new_case(Task.BONE_AGE, bone_age_answer(110))
    decide(session, READER, case, bone_age_answer(120))
    decide(session, SECOND, case, bone_age_answer(111))
    assert state_of(session, case) == BlindState.DIFFERS
    for actor in (THIRD, ADJUDICATOR):
        image = review.load_study(session, actor, case.study_id).images[0]
        assert image.withheld and not image.reviews
        with pytest.raises(Conflict, match="adjudicator"):
            decide(session, actor, case, bone_age_answer(110))
    decide(session, READER, case, bone_age_answer(112))  # thinks again, without knowing
    assert state_of(session, case) == BlindState.AGREES


@pytest.mark.parametrize(
    ("first", "second", "state"),
    [
        (fracture_answer("buckle"), fracture_answer("buckle"), BlindState.AGREES),
        (fracture_answer("buckle"), fracture_answer("normal"), BlindState.DIFFERS),
        (fracture_answer("buckle"), None, BlindState.DIFFERS),
        (None, None, BlindState.AGREES),
    ],
)
def test_what_counts_as_a_disagreement(
    session: Session, new_case: Callable, everything_twice: None, first: dict | None, second: dict | None, state: str
) -> None:
    case = new_case(Task.FRACTURE)
    decide(session, READER, case, first)
    decide(session, SECOND, case, second)
    assert state_of(session, case) == state
    status = StudyStatus.REVIEWED if second else StudyStatus.REJECTED
    assert review.load_study(session, SECOND, case.study_id).status == status


def test_a_second_reader_takes_their_decision_back(
    session: Session, new_case: Callable, everything_twice: None
) -> None:
    case = new_case(Task.FRACTURE)
    first = decide(session, READER, case, fracture_answer("buckle"))
    second = decide(session, SECOND, case, fracture_answer("normal"))
    with pytest.raises(Conflict):
        review.undo_review(session, THIRD, case.image_id, second)
    review.undo_review(session, SECOND, case.image_id, second)
    assert state_of(session, case) == BlindState.OPEN
    assert review.load_study(session, READER, case.study_id).images[0].decision.review_id == first
    decide(session, THIRD, case, fracture_answer("buckle"))  # it is anybody's again
    assert state_of(session, case) == BlindState.AGREES
    verdicts = session.scalars(select(BlindRead.verdict).order_by(BlindRead.id)).all()
    assert verdicts == [Verdict.CORRECTED, Verdict.WITHDRAWN, Verdict.CONFIRMED]


def test_a_first_decision_taken_back_ends_the_second_read(
    session: Session, new_case: Callable, everything_twice: None
) -> None:
    case = new_case(Task.FRACTURE)
    first = decide(session, READER, case, fracture_answer("buckle"))
    review.undo_review(session, READER, case.image_id, first)
    assert state_of(session, case) == BlindState.VOID
    decide(session, SECOND, case, fracture_answer("normal"))  # the first reader now
    assert review.load_study(session, READER, case.study_id).images[0].decision is None
    decide(session, READER, case, fracture_answer("normal"))
    assert state_of(session, case) == BlindState.AGREES


def test_the_same_second_read_sent_twice_is_kept_once(
    session: Session, new_case: Callable, everything_twice: None
) -> None:
    case = new_case(Task.FRACTURE)
    decide(session, READER, case, fracture_answer("buckle"))
    image = review.load_study(session, SECOND, case.study_id).images[0]
    decision = Decision(Verdict.CORRECTED, fracture_answer("normal"), prediction_id=image.read.prediction_id)
    ids = [review.record_review(session, SECOND, case.image_id, decision) for _ in range(2)]
    assert len(set(ids)) == 1 and session.query(BlindRead).count() == 1
    with pytest.raises(Conflict):
        review.record_review(session, SECOND, case.image_id, Decision(Verdict.CORRECTED, fracture_answer("buckle")))


def test_only_one_reader_reads_second(session: Session, new_case: Callable, everything_twice: None) -> None:
    """Two had the case open; the later one is told that it was decided, and by whom the first time."""
    case = new_case(Task.FRACTURE)
    decide(session, READER, case, fracture_answer("buckle"))
    image = review.load_study(session, THIRD, case.study_id).images[0]
    decide(session, SECOND, case, fracture_answer("buckle"))
    decision = Decision(Verdict.CORRECTED, fracture_answer("normal"), prediction_id=image.read.prediction_id)
    with pytest.raises(Conflict):
        review.record_review(session, THIRD, case.image_id, decision)
    assert session.query(BlindRead).count() == 1


def test_the_share_is_of_studies_and_nobody_chooses(session: Session, new_case: Callable) -> None:
    quality_rules.set_rule(session, ADMIN, Rule(Task.FRACTURE, second_read_share=0.3))
    cases = [new_case(Task.FRACTURE) for _ in range(40)]
    for case in cases:
        decide(session, READER, case, fracture_answer("buckle"))
    sampled = session.scalars(select(BlindCase.image_fk)).all()
    assert 4 <= len(sampled) <= 20  # 12 expected, 4 standard deviations are 12
    numbers = [second_read.is_sampled(_Study(f"1.2.{number}"), 0.25) for number in range(4000)]
    assert 900 <= sum(numbers) <= 1100
    assert numbers == [second_read.is_sampled(_Study(f"1.2.{number}"), 0.25) for number in range(4000)]


class _Study:
    def __init__(self, uid: str) -> None:
        self.study_instance_uid = uid


def test_adjudicators_and_admins_are_not_read_after(
    session: Session, new_case: Callable, everything_twice: None
) -> None:
    for actor in (ADJUDICATOR, ADMIN):
        decide(session, actor, new_case(Task.FRACTURE), fracture_answer("buckle"))
    assert blind.disputed_cases(session) == [] and session.query(BlindCase).count() == 0


# ---------------------------------------------------------------- the worklist

TO_REVIEW = WorklistFilter(statuses=(StudyStatus.AWAITING_REVIEW,))
EVERY_ORDER = [WorklistFilter(sort=sort, descending=turned) for sort in Sort for turned in (False, True)]


def seen_on_worklist(session: Session, actor: Actor) -> list:
    session.rollback()
    pages = [worklist.worklist_page(session, actor, filter) for filter in (*EVERY_ORDER, TO_REVIEW)]
    overview = worklist.overview(session, actor)
    steps = [worklist.next_study(session, actor, filter, 2) for filter in EVERY_ORDER]
    return [*(asdict(page) for page in pages), overview.by_status, overview.by_urgency, steps]


def test_the_worklist_of_a_second_reader_is_as_before_the_first_read(
    session: Session, new_case: Callable, everything_twice: None
) -> None:
    """Rows, totals, counts and the place in every order, though the first reader made the case urgent."""
    new_case(Task.ROP, rop_answer("II", "2", "none"))
    case = new_case(Task.ROP, rop_answer("II", "1", "none"))
    new_case(Task.ROP, rop_answer("III", "1", "none"))
    before = seen_on_worklist(session, SECOND)
    assert decide(session, READER, case, rop_answer("I", "3", "plus"), comment="of the first reader")
    handover.leave_note(session, READER, case.study_id, "I think this is type 1")
    assert seen_on_worklist(session, SECOND) == before
    assert handover.notes(session, SECOND, case.study_id) == []
    of_first = worklist.worklist_page(session, READER, WorklistFilter(sort=Sort.URGENCY)).rows[0]
    assert (of_first.study_id, of_first.urgency, of_first.note_count) == (case.study_id, Level.URGENT, 1)


def test_a_second_read_moves_the_case_for_its_reader_alone(
    session: Session, new_case: Callable, everything_twice: None
) -> None:
    case = new_case(Task.FRACTURE, fracture_answer("buckle"))
    decide(session, READER, case, None)
    assert worklist.worklist_page(session, SECOND, TO_REVIEW).total == 1
    decide(session, SECOND, case, fracture_answer("normal"))
    assert worklist.worklist_page(session, SECOND, TO_REVIEW).total == 0
    reviewed, rejected = (
        worklist.worklist_page(session, SECOND, WorklistFilter(statuses=(status,))).rows
        for status in (StudyStatus.REVIEWED, StudyStatus.REJECTED)
    )
    assert [row.review_words for row in reviewed] == ["corrected: no fracture"] and rejected == []
    rows = worklist.worklist_page(session, READER, WorklistFilter(statuses=(StudyStatus.REJECTED,))).rows
    assert [row.review_words for row in rows] == ["rejected: poor quality"]
    [row] = worklist.worklist_page(session, THIRD, WorklistFilter()).rows  # the two differ
    assert (row.status, row.review_words) == (StudyStatus.REVIEWED, "not shown yet")


def test_an_earlier_film_of_the_child_tells_a_second_reader_nothing(
    session: Session, new_case: Callable, everything_twice: None
) -> None:
    tags = {"patient_id": "SAME", "patient_birth_date": None}
    earlier = new_case(Task.BONE_AGE, bone_age_answer(90), **tags, acquired_on=None)
    later = new_case(Task.BONE_AGE, bone_age_answer(110), patient_id="SAME")
    decide(session, READER, later, bone_age_answer(140))
    context = child_context.child_context(session, SECOND, earlier.image_id)
    assert [(film.answer, film.is_decided) for film in context.films] == [(bone_age_answer(110), False)]
    context = child_context.child_context(session, READER, earlier.image_id)
    assert [(film.answer, film.is_decided) for film in context.films] == [(bone_age_answer(140), True)]
