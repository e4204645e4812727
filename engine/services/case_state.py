"""What follows for a study from its images, reads and reviews: what may be read, its status, its urgency, and the
facts that the dashboards count.

Every service that changes one of them calls `refresh` in the same transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import TypeVar

from sqlalchemy.orm import Session

from db.models import (
    DecisionColumns,
    Image,
    Patient,
    Prediction,
    ReadState,
    Study,
    StudyStatus,
    Urgency,
    Verdict,
)
from db.repositories import studies as repository
from db.repositories.reads import latest_predictions, predictions_of_images
from db.repositories.reviews import latest_reviews, reviews_of_images
from engine.findings import bone_age, summary
from engine.findings.age import age_months_at
from engine.findings.answers import Answer, Task
from engine.findings.urgency import NO_URGENCY, most_urgent
from engine.findings.urgency import Urgency as FindingUrgency
from engine.services import answer_facts, case_order, growth_scores

DecisionT = TypeVar("DecisionT", bound=DecisionColumns)

NOT_ONE_OF_THE_VIEWS = "it does not look like a hand, a fundus or a wrist: choose the task on the case, or reject it"


def queue_read(image: Image, study: Study, patient: Patient) -> None:
    """Let the model read the image next, or say what that waits for."""
    image.read_blocked_reason = None
    if study.task == Task.BONE_AGE:
        image.read_blocked_reason = bone_age.why_not_readable(patient.sex, study.age_months)
    image.read_state = ReadState.BLOCKED if image.read_blocked_reason else ReadState.QUEUED


def queue_again(image: Image, study: Study, patient: Patient) -> None:
    """Let the model read the image once more, before what arrives in bulk: it is on the worklist already."""
    image.read_round += 1
    image.read_first, image.read_worker, image.read_starts = True, None, 0
    queue_read(image, study, patient)


def block_read(image: Image, reason: str) -> None:
    image.read_state = ReadState.BLOCKED
    image.read_blocked_reason = reason


def missing_facts(image: Image, study: Study, patient: Patient) -> tuple[str, ...]:
    """Facts that the file did not say and a reader has to supply before a decision can be recorded."""
    missing = []
    if study.task is None:
        missing.append("task")
    if study.task == Task.BONE_AGE and patient.sex is None:
        missing.append("sex")
    if image.laterality is None:  # (0020,0062); a finding on the wrong side is a finding about another limb or eye
        missing.append("laterality")
    return tuple(missing)


def learn_about_patient(session: Session, patient: Patient) -> None:
    """A fact about the child became known: ages and z-scores are computed anew, and undecided images are read again
    with it."""
    session.flush()
    growth_scores.refresh(session, patient)
    for study in repository.studies_of_patient(session, patient.id):
        study.age_months = age_or_none(patient.birth_date, study.acquired_on)
        read_again(session, study)


def read_again(session: Session, study: Study) -> None:
    """Queue the study's undecided images once more, as something that their reads depend on has changed."""
    reviews = latest_reviews(session, [image.id for image in study.images])
    for image in study.images:
        if in_force(reviews.get(image.id)) is None:
            queue_again(image, study, study.patient)
    refresh(session, study)


def age_or_none(birth_date: date | None, acquired_on: date | None) -> float | None:
    """In calendar months with decimals; None when a date is unknown or the two contradict each other."""
    if birth_date is None or acquired_on is None or birth_date > acquired_on:
        return None
    return age_months_at(birth_date, acquired_on)


def answers_given(session: Session, image_ids: Sequence[int], *, of_readers: bool = True) -> dict[int, list[Answer]]:
    """Image -> the latest answer of every model version and of every reader who did not take theirs back."""
    given: dict[int, dict[tuple[str, int], Answer]] = {image_id: {} for image_id in image_ids}
    for read in predictions_of_images(session, image_ids):
        if read.answer is not None:
            given[read.image_fk]["model", read.model_version_fk] = read.answer
    for image_id, history in reviews_of_images(session, image_ids if of_readers else []).items():
        withdrawn = {review.supersedes_id for review in history if review.verdict == Verdict.WITHDRAWN}
        for review in reversed(history):
            if review.answer is not None and review.id not in withdrawn:
                given[image_id]["reader", review.reader_fk] = review.answer
    return {image_id: list(by_whom.values()) for image_id, by_whom in given.items()}


def in_force(review: DecisionT | None) -> DecisionT | None:
    return None if review is None or review.verdict == Verdict.WITHDRAWN else review


def read_urgency(prediction: Prediction, age_months: float | None) -> FindingUrgency:
    if prediction.answer is None:
        return summary.no_answer_urgency(Task(prediction.task))
    return summary.answer_urgency(prediction.answer, age_months)


def decision_urgency(review: DecisionColumns, study: Study) -> FindingUrgency:
    if review.answer is None:
        return summary.no_answer_urgency(study.task)
    return summary.answer_urgency(review.answer, study.age_months, review.details)


def refresh(session: Session, study: Study) -> None:
    """Derive status and urgency anew; `study.images` must be loaded. The latest decision counts, else the read."""
    refresh_all(session, [study])


def refresh_all(session: Session, studies: Sequence[Study]) -> None:
    """`refresh` for several studies, with as many queries as for one."""
    session.flush()
    image_ids = [image.id for study in studies for image in study.images]
    predictions = latest_predictions(session, image_ids)
    reviews = latest_reviews(session, image_ids)
    for study in studies:
        ids = [image.id for image in study.images]
        study.status = status_of(study.images, {id: r.verdict for id in ids if (r := in_force(reviews.get(id)))})
        urgency = most_urgent([image_urgency(study, reviews.get(id), predictions.get(id)) for id in ids])
        study.urgency = Urgency(urgency.level)
        study.urgency_reason = urgency.reason
        study.urgency_unverified = urgency.unverified
        study.act_by = urgency.act_by(study.acquired_on)
    _refresh_learn_values(session, studies, predictions)
    images = [image for study in studies for image in study.images]
    touched = {image.study_fk for image in images if image.id in predictions or image.id in reviews}
    touched |= {image.study_fk for image in images if image.read_round > 1}
    if touched:
        answer_facts.refresh(session, [image.id for image in images if image.study_fk in touched])


def _refresh_learn_values(session: Session, studies: Sequence[Study], predictions: dict[int, Prediction]) -> None:
    """What a model could learn from them; of a decided study it stays what it was while readers had it before them."""
    for study in studies:
        study.learn_group = case_order.group_of(study.task, study.patient.sex, study.age_months, study.site)
    open_studies = [s for s in studies if s.status not in (StudyStatus.REVIEWED, StudyStatus.REJECTED)]
    answers = answers_given(session, [image.id for study in open_studies for image in study.images])
    for study in open_studies:
        ids = [image.id for image in study.images]
        reads = [predictions[id] for id in ids if id in predictions]
        value = case_order.learn_value(reads, [answers[id] for id in ids])
        study.learn_value = None if value is None else value.total


def status_of(images: Sequence[Image], verdicts: Mapping[int, Verdict | None]) -> StudyStatus:
    """Of a study whose images are decided as `verdicts` says; None or missing: undecided."""
    undecided = [image for image in images if verdicts.get(image.id) is None]
    if any(image.read_state == ReadState.QUEUED for image in undecided):
        return StudyStatus.AWAITING_READ
    if undecided:
        return StudyStatus.AWAITING_REVIEW
    if all(verdict == Verdict.REJECTED for verdict in verdicts.values()):
        return StudyStatus.REJECTED
    return StudyStatus.REVIEWED


def image_urgency(study: Study, latest_review: DecisionColumns | None, prediction: Prediction | None) -> FindingUrgency:
    """By the decision in force, else by the read."""
    decision = in_force(latest_review)
    if decision is not None:
        return decision_urgency(decision, study)
    if prediction is not None:
        return read_urgency(prediction, study.age_months)
    return NO_URGENCY
