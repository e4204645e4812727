"""What the review page shows of a study, as plain values."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Literal

from sqlalchemy.orm import Session

from db.models import (
    BlindAnswer,
    Image,
    Prediction,
    ReadState,
    RejectReason,
    Study,
    StudyStatus,
    TaskSource,
    Verdict,
)
from db.repositories.reads import latest_predictions
from engine.findings.age import months_words
from engine.findings.answers import Answer, Task
from engine.findings.urgency import Urgency
from engine.services import blind_reading, case_state, words
from engine.services.accounts import Actor
from engine.services.blind_reading import KnownToReader, Shown
from engine.services.shown_film import ShownFilm, film_fields


@dataclass(frozen=True)
class ReadView:
    """A read as stored; see engine.inference.read.Read for the fields. `words` is the answer for people."""

    prediction_id: int
    task: Task
    answer: Answer | None
    words: str
    probabilities: dict[str, Any]
    median_months: int | None
    interval_months: tuple[int, int] | None
    abstained: bool
    reason: str | None
    urgency: Urgency
    model_version: str
    is_phantom: bool
    milliseconds: float
    created_at: datetime


@dataclass(frozen=True)
class ReviewView:
    review_id: int
    revision: int
    verdict: Verdict
    answer: Answer | None
    words: str
    reject_reason: RejectReason | None
    comment: str | None
    details: dict[str, Any]
    prediction_id: int | None
    reader: str  # display name
    is_mine: bool
    seconds: float | None
    created_at: datetime


@dataclass(frozen=True, kw_only=True)
class ImageView(ShownFilm):
    """`read` is the latest one, None while it is queued or blocked (`read_blocked_reason` says why), and while
    `read_hidden`: the reader answers before they see it, and `blind_answer` is what they said, `blind_comment` and
    `blind_details` what they said and marked besides.
    `reviews` has the latest first; `decision` is the one in force, None when there is none or it was withdrawn.
    `withheld` says why what others decided must not be shown to this reader, who cannot decide either.
    Pass `seen_review_id` back with a Decision: it is how a decision made in the meantime is noticed."""

    laterality_entered_by: str | None
    modality: str | None
    view_position: str | None
    read_state: ReadState
    read_blocked_reason: str | None
    read: ReadView | None
    read_hidden: bool
    blind_answer: Answer | None
    blind_comment: str | None
    blind_details: dict[str, Any]
    reviews: tuple[ReviewView, ...]
    decision: ReviewView | None
    seen_review_id: int | None
    missing_facts: tuple[str, ...]  # of "task", "sex", "laterality": what a confirm or a read waits for
    withheld: str | None


@dataclass(frozen=True)
class StudyView:
    study_id: int
    pseudonym: str
    sex: Literal["M", "F", None]
    sex_entered_by: str | None
    birth_date: date | None
    birth_date_entered_by: str | None
    age_months: float | None
    age_words: str | None
    acquired_on: date | None
    received_at: datetime
    site: str | None
    task: Task | None
    task_source: TaskSource | None
    status: StudyStatus
    urgency: Urgency
    warnings: tuple[str, ...]
    is_phantom: bool
    images: tuple[ImageView, ...]


def study_view(session: Session, actor: Actor, study: Study) -> StudyView:
    """`study` has patient and images loaded. Raises NotFound when a film is gone from the data folder.

    What the actor must not know yet is left out (engine.services.blind_reading)."""
    image_ids = [image.id for image in study.images]
    known = blind_reading.known_to(session, actor, [study])
    blind_answers = blind_reading.blind_answers_given(session, actor, image_ids)
    predictions = latest_predictions(session, image_ids)
    views = [
        _image_view(
            actor,
            study,
            image,
            predictions.get(image.id),
            known,
            blind_answers.get(image.id),
        )
        for image in study.images
    ]
    patient = study.patient
    return StudyView(
        study_id=study.id,
        pseudonym=patient.pseudonym,
        sex=patient.sex.value if patient.sex else None,
        sex_entered_by=patient.sex_entered_by,
        birth_date=patient.birth_date,
        birth_date_entered_by=patient.birth_date_entered_by,
        age_months=study.age_months,
        age_words=None if study.age_months is None else months_words(study.age_months),
        acquired_on=study.acquired_on,
        received_at=study.received_at,
        site=study.site,
        task=Task(study.task) if study.task else None,
        task_source=study.task_source,
        status=known.status(study),
        urgency=known.urgency(study, predictions),
        warnings=tuple(study.warnings),
        is_phantom=study.is_phantom,
        images=tuple(views),
    )


def _image_view(
    actor: Actor,
    study: Study,
    image: Image,
    prediction: Prediction | None,
    known: KnownToReader,
    blind_answer: BlindAnswer | None,
) -> ImageView:
    views = tuple(_review_view(actor, review) for review in known.decisions.get(image.id, ()))
    read_hidden = image.id in known.hidden_reads
    has_read = prediction is not None and image.read_state == ReadState.DONE and not read_hidden
    read = _read_view(study, prediction) if has_read else None  # type: ignore[arg-type]
    return ImageView(
        **film_fields(study, image),
        laterality_entered_by=image.laterality_entered_by,
        modality=image.modality,
        view_position=image.view_position,
        read_state=image.read_state,
        read_blocked_reason=image.read_blocked_reason,
        read=read,
        read_hidden=read_hidden,
        blind_answer=blind_answer.answer if blind_answer else None,
        blind_comment=blind_answer.comment if blind_answer else None,
        blind_details=blind_answer.details if blind_answer else {},
        reviews=views,
        decision=views[0] if views and views[0].verdict != Verdict.WITHDRAWN else None,
        seen_review_id=views[0].review_id if views else None,
        missing_facts=case_state.missing_facts(image, study, study.patient),
        withheld=known.withheld(image.id),
    )


def _read_view(study: Study, prediction: Prediction) -> ReadView:
    low, high = prediction.interval_low_months, prediction.interval_high_months
    return ReadView(
        prediction_id=prediction.id,
        task=Task(prediction.task),
        answer=prediction.answer,
        words=words.prediction_words(prediction),
        probabilities=prediction.probabilities,
        median_months=prediction.median_months,
        interval_months=(low, high) if low is not None and high is not None else None,
        abstained=prediction.abstained,
        reason=prediction.reason,
        urgency=case_state.read_urgency(prediction, study.age_months),
        model_version=prediction.model_version.name,
        is_phantom=prediction.model_version.is_phantom,
        milliseconds=prediction.milliseconds,
        created_at=prediction.created_at,
    )


def _review_view(actor: Actor, review: Shown) -> ReviewView:
    return ReviewView(
        review_id=review.id,
        revision=review.revision,
        verdict=review.verdict,
        answer=review.answer,
        words=words.review_words(review),
        reject_reason=review.reject_reason,
        comment=review.comment,
        details=review.details,
        prediction_id=review.prediction_fk,
        reader=review.reader.display_name,
        is_mine=review.reader.username == actor.username,
        seconds=review.seconds,
        created_at=review.created_at,
    )
