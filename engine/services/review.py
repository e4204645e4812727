"""A reader opens a study, decides about each image, takes a decision back, supplies what the file did not say."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Literal

from sqlalchemy.orm import Session

from db.models import ReadState, RejectReason, StudyStatus, TaskSource, Verdict
from engine.findings.answers import Answer, Task
from engine.findings.urgency import Urgency
from engine.imaging.film import Voi
from engine.services.accounts import Actor


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


@dataclass(frozen=True)
class ImageView:
    """`read` is the latest one, None while it is queued or blocked (`read_blocked_reason` says why).
    `reviews` has the latest first; `decision` is the one in force, None when there is none or it was withdrawn.
    Pass `seen_review_id` back with a Decision: it is how a decision made in the meantime is noticed."""

    image_id: int
    laterality: Literal["L", "R", None]
    laterality_entered_by: str | None
    rows: int
    cols: int
    is_colour: bool
    vois: tuple[Voi, ...]
    inverted: bool
    slope: float
    intercept: float
    spacing_mm: tuple[float, float] | None
    spacing_source: Literal["calibrated", "detector", None]
    modality: str | None
    view_position: str | None
    pixels_url: str
    read_state: ReadState
    read_blocked_reason: str | None
    read: ReadView | None
    reviews: tuple[ReviewView, ...]
    decision: ReviewView | None
    seen_review_id: int | None
    missing_facts: tuple[str, ...]  # of "task", "sex", "laterality": what a confirm or a read waits for


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


@dataclass(frozen=True)
class Decision:
    """`answer` goes with `corrected` only; `reject_reason` with `rejected` only, and "other" needs a comment.
    `details` is what the form adds for its task, kept as JSON; {"no_burned_in_text": true} says that the reader
    looked and found no text that identifies the child. `seconds` from image shown to decision."""

    verdict: Verdict
    answer: dict[str, Any] | None = None
    reject_reason: RejectReason | None = None
    comment: str | None = None
    details: dict[str, Any] = field(default_factory=dict)
    prediction_id: int | None = None
    seen_review_id: int | None = None
    seconds: float | None = None


def load_study(session: Session, actor: Actor, study_id: int) -> StudyView:
    """Everything the review page shows. Writes an audit row and commits. Raises NotFound, NotAllowed."""
    raise NotImplementedError


def record_review(session: Session, actor: Actor, image_id: int, decision: Decision) -> int:
    """Add a decision and return its id. Commits.

    A correction that equals the read is stored as confirmed. Sending the same decision twice stores it once.
    Raises Conflict when there is a review or a read the reader has not seen, AnswerRefused for an answer outside
    the closed set or while a needed fact is missing, NotFound, NotAllowed."""
    raise NotImplementedError


def undo_review(session: Session, actor: Actor, review_id: int) -> int:
    """Withdraw the latest decision of an image, which then awaits review again; returns the id of the row that
    says so. A reader may withdraw only their own. Raises Conflict, NotFound, NotAllowed."""
    raise NotImplementedError


def set_facts(
    session: Session,
    actor: Actor,
    image_id: int,
    *,
    sex: Literal["M", "F", None] = None,
    birth_date: date | None = None,
    laterality: Literal["L", "R", None] = None,
    task: Task | None = None,
) -> None:
    """Fill in what the file did not say; who did is recorded. Unreviewed images that it matters to are read again.

    Only fills unknowns (a task that triage guessed counts as unknown): raises Conflict where the fact is known and
    differs, AdmissionRefused for a birth after the examination, NotFound, NotAllowed."""
    raise NotImplementedError
