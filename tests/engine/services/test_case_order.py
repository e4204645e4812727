from __future__ import annotations

from collections.abc import Callable
from datetime import date
from math import log

import pytest
from sqlalchemy.orm import Session

from db.models import Prediction, StudyStatus, Verdict
from engine.findings.answers import Task, bone_age_answer, fracture_answer, rop_answer
from engine.findings.urgency import Level
from engine.services import case_order, reading, review, worklist
from engine.services.review import Decision
from engine.services.worklist import Sort, WorklistFilter
from tests.engine.services.conftest import READER, WORKER, read_of

LEARNING = WorklistFilter(statuses=(StudyStatus.AWAITING_REVIEW,), sort=Sort.LEARNING)


def prediction(task: Task, **columns: object) -> Prediction:
    return Prediction(**{"task": task, "answer": {"task": task}, "probabilities": {}, **columns})


def test_uncertainty_of_a_class_is_its_entropy() -> None:
    sure = prediction(Task.FRACTURE, probabilities={"normal": 1.0, "buckle": 0.0, "distal_radius": 0.0})
    even = prediction(Task.FRACTURE, probabilities=dict.fromkeys(("normal", "buckle", "distal_radius"), 1 / 3))
    half = prediction(Task.FRACTURE, probabilities={"normal": 0.5, "buckle": 0.5, "distal_radius": 0.0})
    assert case_order.uncertainty(sure) == 0
    assert case_order.uncertainty(even) == pytest.approx(1)
    assert case_order.uncertainty(half) == pytest.approx(log(2) / log(3))


def test_uncertainty_of_an_eye_is_that_of_its_least_sure_part() -> None:
    sure = {"zone": {"I": 1.0, "II": 0.0}, "stage": {"1": 1.0, "2": 0.0}, "plus_disease": {"none": 0.5, "plus": 0.5}}
    assert case_order.uncertainty(prediction(Task.ROP, probabilities=sure)) == pytest.approx(1)


def test_uncertainty_of_a_bone_age_is_the_width_of_its_interval() -> None:
    def read(low: int | None, high: int | None) -> Prediction:
        return prediction(Task.BONE_AGE, interval_low_months=low, interval_high_months=high)

    assert case_order.uncertainty(read(100, 112)) == 0.25
    assert case_order.uncertainty(read(20, 120)) == 1
    assert case_order.uncertainty(read(None, None)) == 1


def test_no_answer_is_the_least_sure() -> None:
    assert case_order.uncertainty(prediction(Task.FRACTURE, answer=None)) == 1


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([], 0),
        ([bone_age_answer(100)], 0),
        ([bone_age_answer(100), bone_age_answer(106)], 0),  # as two readers may differ
        ([bone_age_answer(100), bone_age_answer(112)], 0.5),
        ([bone_age_answer(100), bone_age_answer(106), bone_age_answer(160)], 1),
        ([fracture_answer("normal"), fracture_answer("buckle")], 1),
        ([rop_answer("I", "1", "none"), rop_answer("I", "1", "none")], 0),
        ([rop_answer("I", "1", "none"), rop_answer("I", "1", "plus")], 1),
    ],
)
def test_disagreement_is_that_of_the_two_farthest_apart(answers: list, expected: float) -> None:
    assert case_order.disagreement(answers) == expected


def test_groups_are_named_for_people() -> None:
    assert case_order.group_of(Task.FRACTURE, "M", 70, "Site B") == "fracture, boys, 5-9 y, Site B"
    assert case_order.group_of(Task.ROP, "F", 1.5, None) == "rop, girls, under 2 months, site unknown"
    assert case_order.group_of(Task.BONE_AGE, None, None, "A") == "bone age, sex unknown, age unknown, A"
    assert case_order.group_of(None, "F", 3, "A") is None


def test_the_unsure_the_contradicted_and_the_rare_come_first(session: Session, new_case: Callable) -> None:
    sure = new_case(Task.BONE_AGE).study_id
    unsure = new_case(Task.BONE_AGE, reason="unlike the training images").study_id
    contradicted = new_case(Task.BONE_AGE)
    other_version = read_of(Task.BONE_AGE, bone_age_answer(160), version="phantom 0.2")
    reading.record_reads(session, WORKER, [contradicted.image_id], [other_version], is_phantom=True)
    rare = new_case(Task.BONE_AGE, institution="Site B").study_id
    for _ in range(20):  # many of Site A's are decided
        image = review.load_study(session, READER, new_case(Task.BONE_AGE).study_id).images[0]
        decision = Decision(Verdict.CONFIRMED, prediction_id=image.read.prediction_id)
        review.record_review(session, READER, image.image_id, decision)
    page = worklist.worklist_page(session, READER, LEARNING)
    assert [row.study_id for row in page.rows] == [unsure, contradicted.study_id, rare, sure]
    reasons = [row.learn_reason for row in page.rows]
    assert reasons[0] == "the model gave no answer"
    assert reasons[1] == "answers differ"
    assert reasons[2] == "rare: girls, 5-9 y, Site B (0 decided)"
    assert reasons[3] == ""


def test_a_child_who_waits_for_treatment_comes_before_what_a_model_could_learn(
    session: Session, new_case: Callable
) -> None:
    unsure = new_case(Task.BONE_AGE, reason="unlike the training images").study_id
    later = new_case(Task.ROP, rop_answer("I", "3", "none"), acquired_on=date(2025, 7, 12)).study_id
    sooner = new_case(Task.ROP, rop_answer("I", "3", "none"), acquired_on=date(2025, 7, 10)).study_id
    rows = worklist.worklist_page(session, READER, LEARNING).rows
    assert [row.study_id for row in rows] == [sooner, later, unsure]


def test_a_decision_does_not_move_what_is_left(session: Session, new_case: Callable) -> None:
    """Each decision changes the weight of its group; the reader goes on from where the case stood."""
    cases = [new_case(Task.BONE_AGE).study_id for _ in range(6)]
    seen = []
    study_id = worklist.next_study(session, READER, LEARNING)
    while study_id is not None:
        seen.append(study_id)
        image = review.load_study(session, READER, study_id).images[0]
        decision = Decision(Verdict.CONFIRMED, prediction_id=image.read.prediction_id)
        review.record_review(session, READER, image.image_id, decision)
        study_id = worklist.next_study(session, READER, LEARNING, study_id)
    assert seen == cases


@pytest.mark.parametrize(
    ("task", "answer", "level", "act_by"),
    [
        (Task.ROP, rop_answer("III", "4", "none"), Level.IMMEDIATE, date(2025, 7, 13)),  # 72 h
        (Task.ROP, rop_answer("I", "3", "none"), Level.URGENT, date(2025, 7, 13)),  # ETROP type 1: 72 h
        (Task.ROP, rop_answer("II", "3", "none"), Level.SOON, date(2025, 7, 17)),  # type 2: a week
        (Task.FRACTURE, fracture_answer("distal_radius"), Level.SOON, date(2025, 7, 17)),
        (Task.FRACTURE, fracture_answer("normal"), Level.NONE, None),
    ],
)
def test_the_clock_runs_from_the_examination(
    session: Session, new_case: Callable, task: Task, answer: dict, level: Level, act_by: date | None
) -> None:
    new_case(task, answer)  # examined on 10 July 2025
    (row,) = worklist.worklist_page(session, READER, WorklistFilter()).rows
    assert (row.urgency, row.act_by) == (level, act_by)


def test_without_an_examination_date_there_is_no_clock(session: Session, new_case: Callable) -> None:
    new_case(Task.ROP, rop_answer("I", "3", "none"), acquired_on=None)
    (row,) = worklist.worklist_page(session, READER, WorklistFilter()).rows
    assert (row.urgency, row.act_by) == (Level.URGENT, None)


def test_among_equally_urgent_ones_the_one_with_the_least_time_comes_first(
    session: Session, new_case: Callable
) -> None:
    days = {
        day: new_case(Task.ROP, rop_answer("I", "3", "none"), acquired_on=date(2025, 7, day)).study_id
        for day in (12, 9, 11)
    }
    unknown = new_case(Task.ROP, rop_answer("I", "3", "none"), acquired_on=None).study_id
    rows = worklist.worklist_page(session, READER, WorklistFilter()).rows
    assert [row.study_id for row in rows] == [days[9], days[11], days[12], unknown]
