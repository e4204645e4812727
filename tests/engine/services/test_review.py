import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import date

import pytest
from sqlalchemy import func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from db.models import AuditEvent, RejectReason, Review, Role, Study, StudyStatus, Verdict
from db.session import session_scope
from engine.errors import AdmissionRefused, AnswerRefused, Conflict, NotAllowed, NotFound
from engine.findings.answers import Task, bone_age_answer, fracture_answer, rop_answer
from engine.findings.urgency import Level
from engine.services import reading, review, worklist
from engine.services.accounts import Actor
from engine.services.review import Decision, ImageView
from tests.engine.services.conftest import ADMIN, READER, WORKER, Arrivals, grey_film, hand_tags, read_of

OTHER = Actor("other", "Other reader", Role.READER)


def image_of(session: Session, result: object, actor: Actor = READER) -> ImageView:
    return review.load_study(session, actor, result.study_id).images[0]  # type: ignore[attr-defined]


def confirm(image: ImageView) -> Decision:
    return Decision(
        Verdict.CONFIRMED, prediction_id=image.read.prediction_id, seen_review_id=image.seen_review_id, seconds=4.5
    )


def correct(image: ImageView, answer: dict) -> Decision:
    return Decision(
        Verdict.CORRECTED,
        answer,
        prediction_id=image.read.prediction_id if image.read else None,
        seen_review_id=image.seen_review_id,
    )


def reject(image: ImageView, reason: RejectReason = RejectReason.POOR_QUALITY, comment: str | None = None) -> Decision:
    return Decision(Verdict.REJECTED, reject_reason=reason, comment=comment, seen_review_id=image.seen_review_id)


def test_confirm(session: Session, new_case: Callable) -> None:
    result = new_case()
    image = image_of(session, result)
    review_id = review.record_review(session, READER, image.image_id, confirm(image))
    study = review.load_study(session, READER, result.study_id)
    decision = study.images[0].decision
    assert study.status == StudyStatus.REVIEWED
    assert (decision.review_id, decision.verdict, decision.answer) == (
        review_id,
        Verdict.CONFIRMED,
        bone_age_answer(110),
    )
    assert decision.is_mine and decision.reader == "Demo reader" and decision.seconds == 4.5


def test_correct_then_correct_again(session: Session, new_case: Callable) -> None:
    result = new_case()
    image = image_of(session, result)
    review.record_review(session, READER, image.image_id, correct(image, bone_age_answer(114)))
    image = image_of(session, result)
    review.record_review(session, READER, image.image_id, correct(image, bone_age_answer(118)))
    image = image_of(session, result)
    assert [decision.words for decision in image.reviews] == ["corrected: 9 y 10 m", "corrected: 9 y 6 m"]
    assert [decision.revision for decision in image.reviews] == [2, 1]


def test_a_correction_equal_to_the_read_is_a_confirmation(session: Session, new_case: Callable) -> None:
    result = new_case()
    image = image_of(session, result)
    review.record_review(session, READER, image.image_id, correct(image, bone_age_answer(110)))
    assert image_of(session, result).decision.verdict == Verdict.CONFIRMED


def test_reject(session: Session, new_case: Callable) -> None:
    result = new_case()
    image = image_of(session, result)
    review.record_review(session, READER, image.image_id, reject(image, RejectReason.OTHER, "a foot"))
    study = review.load_study(session, READER, result.study_id)
    assert study.status == StudyStatus.REJECTED and study.images[0].decision.words == "rejected: other"


def test_what_is_refused(session: Session, new_case: Callable) -> None:
    image = image_of(session, new_case())
    abstained = image_of(session, new_case(reason="unlike the training images"))
    seen = {"prediction_id": image.read.prediction_id}
    for target, decision, code in [
        (abstained, confirm(abstained), "abstained"),
        (image, Decision(Verdict.CONFIRMED), "nothing_to_confirm"),
        (image, Decision(Verdict.CORRECTED, {"task": "bone_age", "bone_age_months": 229}, **seen), "not_in_answer_set"),
        (
            image,
            Decision(Verdict.CORRECTED, {"task": "bone_age", "bone_age_months": "110"}, **seen),
            "not_in_answer_set",
        ),
        (image, Decision(Verdict.CORRECTED, None, **seen), "unknown_task"),
        (image, Decision(Verdict.CORRECTED, fracture_answer("buckle"), **seen), "wrong_task"),
        (image, Decision(Verdict.REJECTED), "reject_reason"),
        (image, Decision(Verdict.CONFIRMED, reject_reason=RejectReason.OTHER, **seen), "reject_reason"),
        (image, reject(image, RejectReason.OTHER, "  "), "comment_missing"),
        (image, Decision(Verdict.WITHDRAWN), "not_a_decision"),
        (image, reject(image, RejectReason.OTHER, "x" * 4001), "too_long"),
        (image, Decision(Verdict.CONFIRMED, details={"note": "x" * 4001}, **seen), "too_long"),
    ]:
        with pytest.raises(AnswerRefused) as refused:
            review.record_review(session, READER, target.image_id, decision)
        assert refused.value.code == code
    assert session.scalar(select(func.count(Review.id))) == 0


def test_what_is_added_to_an_answer_is_kept_beside_it(session: Session, new_case: Callable) -> None:
    result = new_case(Task.ROP, rop_answer("II", "2", "none"))
    image = image_of(session, result)
    added = {"aggressive": True, "notch": False, "quality": "good", "regions": [{"x0": 1, "y0": 2, "x1": 3, "y1": 4}]}
    review.record_review(session, READER, image.image_id, replace(confirm(image), details=added))
    study = review.load_study(session, READER, result.study_id)
    decision = study.images[0].decision
    assert (decision.verdict, decision.answer) == (Verdict.CONFIRMED, rop_answer("II", "2", "none"))
    assert decision.details == {name: value for name, value in added.items() if name != "notch"}
    assert decision.words == "confirmed: zone II, stage 2, no plus, A-ROP"
    assert study.urgency.level is Level.IMMEDIATE and "aggressive ROP" in study.urgency.reason


def test_an_addition_that_contradicts_the_answer_is_refused(session: Session, new_case: Callable) -> None:
    result = new_case(Task.FRACTURE, fracture_answer("normal"))
    image = image_of(session, result)
    displaced = {"displaced": True}
    with pytest.raises(AnswerRefused) as refused:
        review.record_review(session, READER, image.image_id, replace(confirm(image), details=displaced))
    assert refused.value.code == "no_fracture"
    review.record_review(session, READER, image.image_id, replace(reject(image), details=displaced))
    assert image_of(session, result).decision.details == {}  # there is no answer to add to


def test_a_second_sending_with_another_addition_is_another_decision(session: Session, new_case: Callable) -> None:
    image = image_of(session, new_case(Task.FRACTURE, fracture_answer("buckle")))
    review.record_review(session, READER, image.image_id, confirm(image))
    with pytest.raises(Conflict):
        review.record_review(session, READER, image.image_id, replace(confirm(image), details={"open_fracture": True}))


def test_an_abstained_read_can_be_answered_by_the_reader(session: Session, new_case: Callable) -> None:
    result = new_case(reason="unlike the training images")
    image = image_of(session, result)
    review.record_review(session, READER, image.image_id, correct(image, bone_age_answer(90)))
    assert review.load_study(session, READER, result.study_id).status == StudyStatus.REVIEWED


@pytest.mark.parametrize("task", list(Task))
def test_an_image_needs_its_side_before_a_decision(session: Session, new_case: Callable, task: Task) -> None:
    result = new_case(task, laterality=None)
    image = image_of(session, result)
    assert image.missing_facts == ("laterality",)
    with pytest.raises(AnswerRefused) as refused:
        review.record_review(session, READER, image.image_id, confirm(image))
    assert refused.value.code == "laterality_missing"
    review.set_facts(session, READER, image.image_id, laterality="R")
    image = image_of(session, result)
    assert image.laterality == "R" and image.laterality_entered_by == READER.username and image.read is not None
    review.record_review(session, READER, image.image_id, confirm(image))


def test_a_failed_read_can_be_asked_for_again(session: Session, new_case: Callable) -> None:
    result = new_case()
    reading.record_read_failure(session, WORKER, result.image_id, "out of memory")
    assert reading.images_awaiting_read(session, WORKER) == []
    review.request_read(session, READER, result.image_id)
    (waiting,) = reading.images_awaiting_read(session, WORKER)
    assert waiting.image_id == result.image_id and waiting.is_waited_for
    reading.record_reads(session, WORKER, [result.image_id], [read_of(Task.BONE_AGE)], is_phantom=True)
    image = image_of(session, result)
    review.record_review(session, READER, image.image_id, confirm(image))
    with pytest.raises(Conflict):
        review.request_read(session, READER, result.image_id)


def test_a_decision_on_what_the_reader_has_not_seen(session: Session, new_case: Callable) -> None:
    result = new_case()
    mine, theirs = image_of(session, result), image_of(session, result, OTHER)
    review.record_review(session, OTHER, theirs.image_id, confirm(theirs))
    with pytest.raises(Conflict):
        review.record_review(session, READER, mine.image_id, correct(mine, bone_age_answer(90)))
    mine = image_of(session, result)
    assert not mine.decision.is_mine and mine.decision.reader == "Other reader"
    review.record_review(session, READER, mine.image_id, correct(mine, bone_age_answer(90)))
    assert len(image_of(session, result).reviews) == 2


def test_the_same_click_twice_is_one_decision(session: Session, new_case: Callable) -> None:
    image = image_of(session, new_case())
    ids = {review.record_review(session, READER, image.image_id, confirm(image)) for _ in range(3)}
    assert len(ids) == 1 and session.scalar(select(func.count(Review.id))) == 1


def test_a_new_read_in_the_meantime(session: Session, new_case: Callable) -> None:
    image = image_of(session, new_case())
    newer = read_of(Task.BONE_AGE, bone_age_answer(60), version="next")
    reading.record_reads(session, WORKER, [image.image_id], [newer], is_phantom=True)
    with pytest.raises(Conflict, match="read again"):
        review.record_review(session, READER, image.image_id, confirm(image))


def test_undo(session: Session, new_case: Callable) -> None:
    result = new_case()
    image = image_of(session, result)
    first = review.record_review(session, READER, image.image_id, confirm(image))
    with pytest.raises(NotAllowed):
        review.undo_review(session, OTHER, image.image_id, first)
    withdrawal = review.undo_review(session, READER, image.image_id, first)
    study = review.load_study(session, READER, result.study_id)
    assert study.status == StudyStatus.AWAITING_REVIEW and study.images[0].decision is None
    assert study.images[0].seen_review_id == withdrawal
    for again in (first, withdrawal):
        with pytest.raises(Conflict):
            review.undo_review(session, READER, image.image_id, again)
    image = image_of(session, result)
    second = review.record_review(session, READER, image.image_id, correct(image, bone_age_answer(90)))
    review.undo_review(session, ADMIN, image.image_id, second)
    assert session.scalar(select(func.count(Review.id))) == 4


def test_urgency_follows_the_decision(session: Session, new_case: Callable) -> None:
    result = new_case(Task.ROP, rop_answer("I", "3", "plus"))
    image = image_of(session, result)
    review_id = review.record_review(session, READER, image.image_id, correct(image, rop_answer("III", "1", "none")))
    assert review.load_study(session, READER, result.study_id).urgency.level == Level.NONE
    review.undo_review(session, READER, image.image_id, review_id)
    study = review.load_study(session, READER, result.study_id)
    assert study.urgency.level == Level.URGENT and "ETROP type 1" in study.urgency.reason
    image = study.images[0]
    review.record_review(session, READER, image.image_id, reject(image))
    assert review.load_study(session, READER, result.study_id).urgency.level == Level.SOON


def test_a_study_is_reviewed_when_all_its_images_are(session: Session, arrive: Arrivals) -> None:
    first = arrive(session, grey_film(hand_tags()))
    second = arrive(session, grey_film(hand_tags(sop_instance_uid="1.2.3.1.2"), 1))
    ids = [first.image_id, second.image_id]
    reading.record_reads(session, WORKER, ids, [read_of(Task.BONE_AGE)] * 2, is_phantom=True)
    one, two = review.load_study(session, READER, first.study_id).images
    review.record_review(session, READER, one.image_id, reject(one))
    assert session.get(Study, first.study_id, populate_existing=True).status == StudyStatus.AWAITING_REVIEW
    review.record_review(session, READER, two.image_id, confirm(two))
    assert session.get(Study, first.study_id, populate_existing=True).status == StudyStatus.REVIEWED


def test_facts_only_fill_what_is_unknown(session: Session, new_case: Callable) -> None:
    result = new_case()
    for facts in (
        {"sex": "M"},
        {"birth_date": date(2015, 1, 1)},
        {"laterality": "R"},
        {"task": Task.FRACTURE},
    ):
        with pytest.raises(Conflict, match="known already"):
            review.set_facts(session, READER, result.image_id, **facts)
    review.set_facts(session, READER, result.image_id, sex="F", laterality="L")
    study = review.load_study(session, READER, result.study_id)
    assert study.sex_entered_by is None and study.images[0].laterality_entered_by is None


def test_a_birth_after_the_examination_is_refused(session: Session, new_case: Callable) -> None:
    result = new_case(patient_birth_date=None)
    with pytest.raises(AdmissionRefused):
        review.set_facts(session, READER, result.image_id, birth_date=date(2025, 7, 11))
    review.set_facts(session, READER, result.image_id, birth_date=date(2016, 3, 10))
    assert review.load_study(session, READER, result.study_id).age_words == "9 y 4 m"


def test_every_step_leaves_a_trace_without_a_name(session: Session, new_case: Callable) -> None:
    result = new_case(patient_birth_date=None)
    image = image_of(session, result)
    review.set_facts(session, READER, image.image_id, birth_date=date(2016, 3, 10))
    reading.record_reads(session, WORKER, [image.image_id], [read_of(Task.BONE_AGE)], is_phantom=True)
    image = image_of(session, result)
    recorded = review.record_review(session, READER, image.image_id, confirm(image))
    review.undo_review(session, READER, image.image_id, recorded)
    events = session.scalars(select(AuditEvent).order_by(AuditEvent.id)).all()
    assert [event.action for event in events] == [
        "ingest.accepted",
        "model.seen",
        "read.recorded",
        "study.viewed",
        "facts.entered",
        "read.recorded",
        "review.recorded",
        "review.withdrawn",
    ]
    assert "2016" not in " ".join(str(event.detail) for event in events)


def test_roles_and_unknown_ids(session: Session, new_case: Callable) -> None:
    image = image_of(session, new_case())
    for call in (
        lambda: review.load_study(session, WORKER, 1),
        lambda: review.record_review(session, WORKER, image.image_id, confirm(image)),
        lambda: review.set_facts(session, WORKER, image.image_id, sex="M"),
        lambda: review.undo_review(session, WORKER, image.image_id, 1),
    ):
        with pytest.raises(NotAllowed):
            call()
    for call in (
        lambda: review.load_study(session, READER, 99),
        lambda: review.record_review(session, READER, 99, reject(image)),
        lambda: review.set_facts(session, READER, 99, sex="M"),
        lambda: review.undo_review(session, READER, image.image_id, 99),
    ):
        with pytest.raises(NotFound):
            call()


def test_two_readers_at_once_exactly_one_wins(session: Session, database_url: str, new_case: Callable) -> None:
    """A hundred images, two threads with a session each, both decide at the same moment on what they see."""
    cases = [new_case(Task.FRACTURE) for _ in range(10)]
    images = [image_of(session, case) for case in cases]
    start = threading.Barrier(2, timeout=60)
    outcomes: dict[str, list[list[str]]] = {}

    def decide(actor: Actor) -> None:
        mine = outcomes.setdefault(actor.username, [])
        with session_scope(database_url) as own:
            for _ in range(10):
                seen = [review.load_study(own, actor, case.study_id).images[0] for case in cases]
                start.wait()
                results = []
                for image in seen:
                    answer = fracture_answer("normal" if actor is READER else "distal_radius")
                    try:
                        review.record_review(own, actor, image.image_id, correct(image, answer))
                        results.append("won")
                    except Conflict:
                        own.rollback()
                        results.append("conflict")
                mine.append(results)
                start.wait()

    threads = [threading.Thread(target=decide, args=(actor,)) for actor in (READER, OTHER)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for round_of_reader, round_of_other in zip(*outcomes.values(), strict=True):
        for pair in zip(round_of_reader, round_of_other, strict=True):
            assert sorted(pair) == ["conflict", "won"]
    assert session.scalar(select(func.count(Review.id))) == 100
    for image in images:
        chain = session.scalars(select(Review).where(Review.image_fk == image.image_id).order_by(Review.revision)).all()
        assert [row.revision for row in chain] == list(range(1, 11))
        assert [row.supersedes_id for row in chain] == [None, *(row.id for row in chain[:-1])]
    assert worklist.overview(session, READER).by_status[StudyStatus.REVIEWED] == 10


def test_the_database_itself_refuses_a_second_decision_of_the_same_revision(
    session: Session, new_case: Callable
) -> None:
    image = image_of(session, new_case())
    first = session.get(Review, review.record_review(session, READER, image.image_id, confirm(image)))
    common = {"image_fk": image.image_id, "reader_fk": first.reader_fk, "verdict": Verdict.REJECTED, "details": {}}
    for revision, supersedes in ((1, None), (2, None), (1, first.id)):
        session.add(Review(revision=revision, supersedes_id=supersedes, **common))
        with pytest.raises(IntegrityError):
            session.flush()
        session.rollback()
