"""The shapes of requests and answers. Built from the services' dataclasses by attribute; enums go out by value.

A child appears by pseudonym and age: no name, patient ID or birth date leaves by this door."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from db.models import RejectReason, StudyStatus, Verdict
from engine.findings.answers import Task
from engine.findings.urgency import Level
from engine.services.ingest import IngestResult


class Schema(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class ErrorDetail(Schema):
    code: str = Field(description="stable, short, machine readable")
    message: str = Field(description="what was wrong, the value seen, and what to do")


class ErrorAnswer(Schema):
    error: ErrorDetail


class UrgencyOut(Schema):
    level: Level
    reason: str | None
    source: str | None
    unverified: bool = Field(description="the rule still awaits a clinician's check against its primary document")


class ReadOut(Schema):
    """One read of one image, as `pediscreen read --json` prints it."""

    task: Task
    answer: dict[str, Any] | None
    probabilities: dict[str, Any]
    median_months: int | None
    interval_months: tuple[int, int] | None = Field(description="80 %")
    abstained: bool
    reason: str | None
    model_version: str
    milliseconds: float
    prediction_id: int
    is_phantom: bool = Field(description="made by the phantom model: not for diagnostic use")


class ReviewOut(Schema):
    review_id: int
    revision: int
    verdict: Verdict
    answer: dict[str, Any] | None
    words: str
    reject_reason: RejectReason | None
    comment: str | None
    details: dict[str, Any] = Field(description="what was added to the answer, marks on the film")
    reader: str
    created_at: datetime


class ImageOut(Schema):
    image_id: int
    laterality: Literal["L", "R"] | None
    rows: int
    cols: int
    is_colour: bool
    modality: str | None
    pixels_url: str
    missing_facts: tuple[str, ...]
    read_state: str
    read_blocked_reason: str | None
    read: ReadOut | None
    read_hidden: bool = Field(description="the read is shown after a blind answer")
    blind_answer: dict[str, Any] | None = Field(description="what this reader answered before they saw the read")
    blind_comment: str | None
    blind_details: dict[str, Any] = Field(description="what they added to it, and marked on the film")
    withheld: str | None = Field(description="why neither the decisions are shown nor one can be recorded")
    reviews: tuple[ReviewOut, ...] = Field(description="the latest first")
    seen_review_id: int | None = Field(description="send it back with a review")


class StudyOut(Schema):
    study_id: int
    pseudonym: str
    sex: Literal["M", "F"] | None
    age_months: float | None
    acquired_on: date | None
    received_at: datetime
    site: str | None
    task: Task | None
    status: StudyStatus
    urgency: UrgencyOut
    warnings: tuple[str, ...]
    is_phantom: bool
    images: tuple[ImageOut, ...]


class QueueRow(Schema):
    study_id: int
    pseudonym: str
    task: Task | None
    lateralities: tuple[str, ...]
    sex: Literal["M", "F"] | None
    age_months: float | None
    site: str | None
    acquired_on: date | None
    received_at: datetime
    status: StudyStatus
    urgency: Level
    urgency_reason: str | None
    urgency_unverified: bool
    read_words: str
    review_words: str | None
    warning_count: int
    is_phantom: bool


class QueuePage(Schema):
    rows: list[QueueRow]
    total: int = Field(description="over all pages")
    page: int
    page_size: int


class UploadedFile(Schema):
    outcome: Literal["accepted", "duplicate", "quarantined"]
    file_name: str
    file_sha256: str
    study_id: int | None
    image_id: int | None
    task: Task | None
    warnings: tuple[str, ...]
    reason_code: str | None
    reason: str | None


class UploadAnswer(Schema):
    files: list[UploadedFile]

    @classmethod
    def of(cls, results: list[IngestResult]) -> UploadAnswer:
        return cls(files=[UploadedFile.model_validate(result) for result in results])


class ReviewIn(Schema):
    """`answer` belongs to `corrected`, `reject_reason` to `rejected`; "other" needs a comment."""

    model_config = ConfigDict(extra="forbid")

    image_id: int | None = Field(None, description="may be left out where the study has one image")
    verdict: Literal["confirmed", "corrected", "rejected"]
    answer: dict[str, Any] | None = None
    reject_reason: RejectReason | None = None
    comment: str | None = Field(None, max_length=2000)
    details: dict[str, Any] = Field(default_factory=dict)
    prediction_id: int | None = Field(None, description="the read that was looked at")
    seen_review_id: int | None = Field(None, description="the latest review that was looked at")
    seconds: float | None = Field(None, ge=0, description="from image shown to decision")


class BlindAnswerIn(Schema):
    """An answer given before the read was shown."""

    model_config = ConfigDict(extra="forbid")

    image_id: int | None = Field(None, description="may be left out where the study has one image")
    answer: dict[str, Any]
    comment: str | None = Field(None, max_length=2000)
    details: dict[str, Any] = Field(default_factory=dict)
    seconds: float | None = Field(None, ge=0, description="from image shown to this answer")


class ReviewRecorded(Schema):
    review_id: int


class ModelOut(Schema):
    name: str
    is_phantom: bool
    first_used_at: datetime
    reads: int
    in_use: bool = Field(description="a live worker has it loaded")
