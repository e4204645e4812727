from collections.abc import Callable
from datetime import date

import pytest
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.models import Image, ModelVersion, Prediction, ReadState, Study, StudyStatus, TaskSource, Urgency
from engine.errors import AnswerRefused, NotAllowed, NotFound
from engine.findings.answers import Task, View, bone_age_answer, rop_answer
from engine.services import reading, review, worklist
from tests.engine.services.conftest import READER, WORKER, Arrivals, grey_film, hand_tags, read_of


def test_what_the_batch_job_gets(session: Session, arrive: Arrivals) -> None:
    first = arrive(session, grey_film(hand_tags(1)))
    second = arrive(session, grey_film(hand_tags(2, body_part=None, patient_sex=None), 1))
    waiting = reading.images_awaiting_read(session, WORKER)
    assert [(image.image_id, image.task, image.sex) for image in waiting] == [
        (first.image_id, Task.BONE_AGE, "F"),
        (second.image_id, None, None),
    ]
    assert waiting[0].context.age_months == 112
    assert len(reading.images_awaiting_read(session, WORKER, limit=1)) == 1


def test_a_read_makes_the_case_ready_for_review(session: Session, arrive: Arrivals) -> None:
    result = arrive(session, grey_film(hand_tags()))
    reading.record_reads(session, WORKER, [result.image_id], [read_of(Task.BONE_AGE)], is_phantom=True)
    assert reading.images_awaiting_read(session, WORKER) == []
    study = review.load_study(session, READER, result.study_id)
    read = study.images[0].read
    assert study.status == StudyStatus.AWAITING_REVIEW
    assert (read.words, read.median_months, read.interval_months) == ("9 y 2 m", 110, (103, 117))
    assert read.is_phantom and read.model_version == "phantom 0.3"


def test_reads_are_stored_once(session: Session, arrive: Arrivals) -> None:
    result = arrive(session, grey_film(hand_tags()))
    read = read_of(Task.BONE_AGE)
    ids = [
        reading.record_reads(session, WORKER, [result.image_id], [read], is_phantom=True, read_rounds=[1])
        for _ in range(3)
    ]
    assert ids[0] == ids[1] == ids[2]
    assert session.scalar(select(func.count(Prediction.id))) == 1
    other = read_of(Task.BONE_AGE, bone_age_answer(100), version="next")
    reading.record_reads(session, WORKER, [result.image_id], [other], is_phantom=False)
    assert session.scalar(select(func.count(Prediction.id))) == 2
    assert session.scalars(select(ModelVersion.is_phantom).order_by(ModelVersion.id)).all() == [True, False]
    assert review.load_study(session, READER, result.study_id).images[0].read.words == "8 y 4 m"


def test_an_answer_outside_the_set_is_not_stored(session: Session, arrive: Arrivals) -> None:
    result = arrive(session, grey_film(hand_tags()))
    with pytest.raises(AnswerRefused):
        bad = read_of(Task.BONE_AGE, {"task": "bone_age", "bone_age_months": 400})
        reading.record_reads(session, WORKER, [result.image_id], [bad], is_phantom=True)
    assert session.scalar(select(func.count(Prediction.id))) == 0


def test_bone_age_waits_for_the_sex(session: Session, arrive: Arrivals) -> None:
    result = arrive(session, grey_film(hand_tags(patient_sex=None)))
    assert reading.images_awaiting_read(session, WORKER) == []
    study = review.load_study(session, READER, result.study_id)
    assert study.status == StudyStatus.AWAITING_REVIEW
    assert any("Sex is not known" in warning for warning in study.warnings)
    assert study.images[0].missing_facts == ("sex",) and "sex is unknown" in study.images[0].read_blocked_reason
    (row,) = worklist.worklist_page(session, READER, worklist.WorklistFilter()).rows
    assert row.read_words.startswith("no read: the child's sex is unknown")

    review.set_facts(session, READER, result.image_id, sex="M")
    (waiting,) = reading.images_awaiting_read(session, WORKER)
    assert (waiting.image_id, waiting.sex) == (result.image_id, "M")
    study = review.load_study(session, READER, result.study_id)
    assert study.status == StudyStatus.AWAITING_READ and study.sex_entered_by == READER.username
    assert not any("Sex is not known" in warning for warning in study.warnings)


def test_no_bone_age_beyond_the_scale(session: Session, arrive: Arrivals) -> None:
    result = arrive(session, grey_film(hand_tags(patient_birth_date=date(2000, 1, 1))))
    image = review.load_study(session, READER, result.study_id).images[0]
    assert image.read_state == ReadState.BLOCKED and "older than" in image.read_blocked_reason


@pytest.mark.parametrize(
    ("view", "task"), [(View.HAND, Task.BONE_AGE), (View.FUNDUS, Task.ROP), (View.WRIST, Task.FRACTURE)]
)
def test_triage_routes(session: Session, arrive: Arrivals, view: View, task: Task) -> None:
    result = arrive(session, grey_film(hand_tags(body_part=None)))
    routed = reading.record_triage(session, WORKER, result.image_id, view, {"hand": 0.9})
    assert routed is not None and routed.task == task
    assert session.get(Study, result.study_id).task_source == TaskSource.TRIAGE


def test_triage_to_a_hand_still_waits_for_the_sex(session: Session, arrive: Arrivals) -> None:
    result = arrive(session, grey_film(hand_tags(body_part=None, patient_sex=None)))
    assert reading.record_triage(session, WORKER, result.image_id, View.HAND, {}) is None
    assert review.load_study(session, READER, result.study_id).images[0].missing_facts == ("sex",)


def test_something_else_waits_for_a_reader(session: Session, arrive: Arrivals) -> None:
    result = arrive(session, grey_film(hand_tags(body_part=None)))
    assert reading.record_triage(session, WORKER, result.image_id, View.OTHER, {}) is None
    study = review.load_study(session, READER, result.study_id)
    assert study.task is None and study.images[0].missing_facts == ("task",)
    review.set_facts(session, READER, result.image_id, task=Task.FRACTURE)
    (waiting,) = reading.images_awaiting_read(session, WORKER)
    assert waiting.task == Task.FRACTURE


def test_a_wrong_triage_is_put_right_by_a_reader(session: Session, arrive: Arrivals) -> None:
    result = arrive(session, grey_film(hand_tags(body_part=None)))
    reading.record_triage(session, WORKER, result.image_id, View.WRIST, {})
    reading.record_reads(session, WORKER, [result.image_id], [read_of(Task.FRACTURE)], is_phantom=True)
    review.set_facts(session, READER, result.image_id, task=Task.BONE_AGE)
    study = review.load_study(session, READER, result.study_id)
    assert (study.task, study.task_source) == (Task.BONE_AGE, TaskSource.READER)
    assert study.images[0].read is None and study.status == StudyStatus.AWAITING_READ


def test_a_read_that_was_overtaken_by_a_fact_does_not_count(session: Session, arrive: Arrivals) -> None:
    result = arrive(session, grey_film(hand_tags(patient_birth_date=None)))
    (waiting,) = reading.images_awaiting_read(session, WORKER)
    review.set_facts(session, READER, result.image_id, birth_date=date(2016, 3, 10))
    reading.record_reads(
        session,
        WORKER,
        [waiting.image_id],
        [read_of(Task.BONE_AGE)],
        is_phantom=True,
        read_rounds=[waiting.read_round],
    )
    (again,) = reading.images_awaiting_read(session, WORKER)
    assert again.age_months == 112 and again.read_round == waiting.read_round + 1
    assert review.load_study(session, READER, result.study_id).images[0].read is None
    reading.record_reads(
        session, WORKER, [result.image_id], [read_of(Task.BONE_AGE)], is_phantom=True, read_rounds=[again.read_round]
    )
    assert review.load_study(session, READER, result.study_id).images[0].read is not None


def test_a_read_for_a_task_the_case_no_longer_has_is_dropped(session: Session, arrive: Arrivals) -> None:
    result = arrive(session, grey_film(hand_tags()))
    assert reading.record_reads(session, WORKER, [result.image_id], [read_of(Task.FRACTURE)], is_phantom=True) == []
    assert session.get(Image, result.image_id).read_state == ReadState.QUEUED


@pytest.mark.parametrize(
    ("answer", "urgency"),
    [
        (rop_answer("I", "3", "none"), Urgency.URGENT),
        (rop_answer("II", "3", "preplus"), Urgency.SOON),
        (rop_answer("III", "4", "none"), Urgency.IMMEDIATE),
        (rop_answer("II", "1", "none"), Urgency.NONE),
    ],
)
def test_urgency_of_a_read(session: Session, new_case: Callable, answer: dict, urgency: Urgency) -> None:
    result = new_case(Task.ROP, answer)
    assert session.get(Study, result.study_id).urgency == urgency


def test_an_abstained_fundus_is_never_routine(session: Session, new_case: Callable) -> None:
    result = new_case(Task.ROP, reason="unlike the training images")
    study = review.load_study(session, READER, result.study_id)
    assert study.urgency.level == "soon" and study.urgency.unverified
    assert study.images[0].read.words == "no read: unlike the training images"


def test_a_failed_read_is_visible(session: Session, arrive: Arrivals) -> None:
    result = arrive(session, grey_film(hand_tags()))
    reading.record_read_failure(session, WORKER, result.image_id, "the pixels are gone")
    image = review.load_study(session, READER, result.study_id).images[0]
    assert image.read_blocked_reason == "the pixels are gone" and reading.images_awaiting_read(session, WORKER) == []


def test_a_worker_is_seen(session: Session) -> None:
    reading.heartbeat(session, WORKER, "worker-1", "phantom 0.3", "reading 4 images")
    reading.heartbeat(session, WORKER, "worker-1", "phantom 0.3", "waiting")
    (worker,) = worklist.overview(session, READER).workers
    assert worker.alive and (worker.name, worker.model_version, worker.detail) == ("worker-1", "phantom 0.3", "waiting")


def test_only_the_service_records_reads(session: Session) -> None:
    for call in (
        lambda: reading.images_awaiting_read(session, READER),
        lambda: reading.record_reads(session, READER, [], [], is_phantom=True),
        lambda: reading.heartbeat(session, READER, "x", None),
    ):
        with pytest.raises(NotAllowed):
            call()
    with pytest.raises(NotFound):
        reading.record_reads(session, WORKER, [99], [read_of(Task.ROP)], is_phantom=True)
