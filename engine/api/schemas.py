"""The shapes of requests and answers. Built from the services' dataclasses by attribute; enums go out by value.

A child appears by pseudonym and age: no name, patient ID or birth date leaves by this door."""

from __future__ import annotations

from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr

from db.models import ReadState, RejectReason, StudyStatus, Verdict
from engine.api import examples
from engine.api.details import Details, StoredDetails
from engine.findings.answers import MAX_BONE_AGE_MONTHS, Fracture, Plus, Stage, Task, Zone
from engine.findings.urgency import Level
from engine.services.ingest import IngestResult

LARGEST_ID = 2**31 - 1


def _shown(example: dict[str, Any]) -> ConfigDict:
    return ConfigDict(from_attributes=True, json_schema_extra={"examples": [example]})


class Schema(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class ErrorDetail(Schema):
    code: str = Field(description="stable, short, machine readable")
    message: str = Field(description="what was wrong, the value seen, and what to do")


class ErrorAnswer(Schema):
    model_config = _shown(examples.ERROR)

    error: ErrorDetail


# ---------------------------------------------------------------- answers of a read, or of a reader


class BoneAgeAnswer(Schema):
    model_config = ConfigDict(extra="forbid")

    task: Literal["bone_age"]
    bone_age_months: StrictInt = Field(ge=0, le=MAX_BONE_AGE_MONTHS, description="on the Greulich-Pyle scale")


class RopAnswer(Schema):
    """ICROP3's words; the zone "none" is complete vascularisation, and leaves stage 0 and no plus disease."""

    model_config = ConfigDict(extra="forbid")

    task: Literal["rop"]
    zone: Zone
    stage: Stage
    plus_disease: Plus


class FractureAnswer(Schema):
    model_config = ConfigDict(extra="forbid")

    task: Literal["fracture"]
    fracture: Fracture


Answer = Annotated[BoneAgeAnswer | RopAnswer | FractureAnswer, Field(discriminator="task")]


class RopProbabilities(Schema):
    zone: dict[Zone, float]
    stage: dict[Stage, float]
    plus_disease: dict[Plus, float]


Probabilities = Annotated[
    RopProbabilities | dict[str, float],
    Field(
        description="of every allowed answer: by months (bone age), by class (fracture), or for ROP by zone, stage and "
        "plus disease; empty where the model abstained"
    ),
]


class ScoredRead(Schema):
    """What the model says about one image, as `pediscreen read --json` prints it."""

    task: Task
    answer: Answer | None = Field(description="null where the model abstained")
    probabilities: Probabilities
    median_months: int | None = Field(description="bone age alone")
    interval_months: tuple[int, int] | None = Field(description="80 %, bone age alone")
    abstained: bool
    reason: str | None = Field(description="why the model abstained")
    model_version: str
    milliseconds: float
    is_phantom: bool = Field(description="made by the phantom model: not for diagnostic use")


class AnalysisOut(ScoredRead):
    """A read of an image that was not stored."""

    model_config = _shown(examples.ANALYSIS)

    sex: Literal["M", "F"] | None = Field(description="what it was read with")
    age_months: float | None = Field(description="what it was read with")
    image_is_phantom: bool = Field(description="the image says that it is synthetic")
    warnings: tuple[str, ...]


# ---------------------------------------------------------------- studies


class UrgencyOut(Schema):
    level: Level
    reason: str | None
    source: str | None
    unverified: bool = Field(description="the rule still awaits a clinician's check against its primary document")


class ReadOut(ScoredRead):
    prediction_id: int = Field(description="send it back with a review")


class ReviewOut(Schema):
    review_id: int
    revision: int
    verdict: Verdict
    answer: Answer | None
    words: str
    reject_reason: RejectReason | None
    comment: str | None
    details: StoredDetails = Field(description="what was added to the answer, marks on the film")
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
    read_state: ReadState
    read_blocked_reason: str | None
    read: ReadOut | None
    read_hidden: bool = Field(description="the read is shown after a blind answer")
    blind_answer: Answer | None = Field(description="what this reader answered before they saw the read")
    blind_comment: str | None
    blind_details: StoredDetails = Field(description="what they added to it, and marked on the film")
    withheld: str | None = Field(description="why neither the decisions are shown nor one can be recorded")
    reviews: tuple[ReviewOut, ...] = Field(description="the latest first")
    seen_review_id: int | None = Field(description="send it back with a review")


class StudyOut(Schema):
    model_config = _shown(examples.STUDY)

    study_id: int
    pseudonym: str
    sex: Literal["M", "F"] | None
    age_months: float | None = Field(description="at the examination")
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
    model_config = _shown(examples.QUEUE)

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
    model_config = _shown(examples.UPLOAD)

    files: list[UploadedFile] = Field(description="in the order in which they were sent")

    @classmethod
    def of(cls, results: list[IngestResult]) -> UploadAnswer:
        return cls(files=[UploadedFile.model_validate(result) for result in results])


class UploadRefused(UploadAnswer):
    """None of the files is on the worklist."""

    model_config = _shown(examples.UPLOAD_REFUSED)

    error: ErrorDetail


# ---------------------------------------------------------------- decisions


ImageId = Annotated[
    StrictInt | None, Field(ge=1, le=LARGEST_ID, description="may be left out where the study has one image")
]
Comment = Annotated[StrictStr | None, Field(max_length=2000, pattern=r"^[^\u0000]*$")]
Seconds = Annotated[float | None, Field(ge=0, le=1e6, strict=True, allow_inf_nan=False)]


class ReviewIn(Schema):
    """`answer` belongs to `corrected`, `reject_reason` to `rejected`; "other" needs a comment."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": examples.REVIEWS})

    image_id: ImageId = None
    verdict: Literal["confirmed", "corrected", "rejected"]
    answer: Answer | None = None
    reject_reason: RejectReason | None = None
    comment: Comment = None
    details: Details = Field(default_factory=dict)  # type: ignore[assignment]
    prediction_id: StrictInt | None = Field(None, ge=1, le=LARGEST_ID, description="the read that was looked at")
    seen_review_id: StrictInt | None = Field(
        None, ge=1, le=LARGEST_ID, description="the latest review that was looked at"
    )
    seconds: Seconds = Field(None, description="from image shown to decision")


class BlindAnswerIn(Schema):
    """An answer given before the read was shown."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [examples.BLIND_ANSWER]})

    image_id: ImageId = None
    answer: Answer
    comment: Comment = None
    details: Details = Field(default_factory=dict)  # type: ignore[assignment]
    seconds: Seconds = Field(None, description="from image shown to this answer")


class ReviewRecorded(Schema):
    model_config = _shown({"review_id": 12})

    review_id: int


# ---------------------------------------------------------------- the rest


class ModelOut(Schema):
    model_config = _shown(examples.MODEL)

    name: str
    is_phantom: bool
    first_used_at: datetime
    reads: int
    in_use: bool = Field(description="a live worker has it loaded")


class Health(Schema):
    model_config = _shown({"status": "ok", "version": "0.3.0"})

    status: Literal["ok"]
    version: str
