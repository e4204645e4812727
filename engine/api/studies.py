"""Studies by REST: the queue, one study, its pixels, a new one, and a reader's decision."""

from __future__ import annotations

import hashlib
import tempfile
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, File, Form, Query, Request, Response, UploadFile
from fastapi import Path as InPath
from fastapi.responses import JSONResponse
from sqlalchemy.orm import Session

from db.models import StudyStatus, Verdict
from engine.api import examples
from engine.api.access import DatabaseSession, ReadingUser, ReviewingUser, UploadingUser
from engine.api.errors import documented
from engine.api.limits import LARGEST_JSON_BYTES, LARGEST_UPLOAD_BYTES, MOST_FILES, copy_to
from engine.api.repeats import VARY, IdempotencyKey, IfNoneMatch, is_among, once, page_links, unless_unchanged
from engine.api.schemas import (
    LARGEST_ID,
    BlindAnswerIn,
    ErrorAnswer,
    QueuePage,
    ReviewIn,
    ReviewRecorded,
    StudyOut,
    UploadAnswer,
    UploadRefused,
)
from engine.errors import NotFound, Refused
from engine.findings.answers import Task
from engine.findings.urgency import Level
from engine.services import blind_reading, images, ingest, review, worklist
from engine.services.accounts import Actor
from engine.services.ingest import PatientEntry

router = APIRouter(tags=["studies"], responses=documented(401, 403, 422, 429, 500, 503))

StudyId = Annotated[int, InPath(ge=1, le=LARGEST_ID, examples=[7])]
Text = r"^[^\x00]*$"  # NUL is what PostgreSQL takes in no text
NOT_CHANGED = {304: {"description": "not changed since the ETag that was sent"}}


@router.get("/queue", response_model=QueuePage, responses=NOT_CHANGED)
def queue(
    session: DatabaseSession,
    actor: ReadingUser,
    request: Request,
    status: Annotated[list[StudyStatus] | None, Query()] = None,
    task: Annotated[list[Task] | None, Query()] = None,
    site: Annotated[list[Annotated[str, Query(max_length=128, pattern=Text)]] | None, Query()] = None,
    urgency: Annotated[list[Level] | None, Query()] = None,
    search: Annotated[
        str,
        Query(max_length=200, pattern=Text, description="in pseudonym, patient ID, accession number, study UID"),
    ] = "",
    age_from_months: Annotated[float | None, Query(ge=0, allow_inf_nan=False)] = None,
    age_to_months: Annotated[float | None, Query(ge=0, allow_inf_nan=False)] = None,
    sort: worklist.Sort = worklist.Sort.URGENCY,
    descending: bool = False,
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
    page_size: Annotated[int, Query(ge=1, le=500)] = 50,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """One page of the worklist. Repeat a parameter to allow several values of it. The header Link names the first,
    previous, next and last page."""
    ages = None
    if age_from_months is not None or age_to_months is not None:
        ages = (age_from_months or 0.0, float("inf") if age_to_months is None else age_to_months)
    filter = worklist.WorklistFilter(
        statuses=tuple(status or ()),
        tasks=tuple(task or ()),
        sites=tuple(site or ()),
        urgencies=tuple(urgency or ()),
        search=search,
        age_months_range=ages,
        sort=sort,
        descending=descending,
    )
    found = QueuePage.model_validate(worklist.worklist_page(session, actor, filter, page, page_size))
    return unless_unchanged(found, if_none_match, page_links(request, page, page_size, found.total))


@router.get("/studies/{study_id}", response_model=StudyOut, responses=documented(404) | NOT_CHANGED)
def study(
    session: DatabaseSession, actor: ReadingUser, study_id: StudyId, if_none_match: IfNoneMatch = None
) -> Response:
    """One study with its images, their reads and what was decided about them."""
    return unless_unchanged(StudyOut.model_validate(review.load_study(session, actor, study_id)), if_none_match)


@router.get(
    "/studies/{study_id}/pixels",
    response_class=Response,
    responses={
        200: {
            "description": "gzipped, as stored",
            "content": {
                "application/octet-stream": {
                    "schema": {"type": "string", "format": "binary"},
                    "example": "(the pixels)",
                }
            },
        },
        **documented(404),
        **NOT_CHANGED,
    },
)
def pixels(
    session: DatabaseSession,
    actor: ReadingUser,
    study_id: StudyId,
    image: Annotated[
        int | None, Query(ge=1, le=LARGEST_ID, description="image id; the study's first image when left out")
    ] = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """The stored values, little endian: uint16 (rows, cols) for grey, uint8 (rows, cols, 3) for colour.

    They were compressed once, when the film came in, and leave as they lie on disk: compressing 10 MB for every
    answer would hold up every other user of this process for half a second."""
    image_id = _image_of(session, actor, study_id, image)
    etag = f'"{images.pixel_sha256(session, actor, image_id)}"'
    headers = {"ETag": etag, "Cache-Control": "private, max-age=3600", "Vary": VARY}
    if is_among(etag, if_none_match):
        return Response(status_code=304, headers=headers)
    return Response(
        images.pixels_gzip(session, actor, image_id),
        media_type="application/octet-stream",
        headers={**headers, "Content-Encoding": "gzip"},
    )


@router.post(
    "/studies",
    status_code=201,
    response_model=UploadAnswer,
    max_body_size=LARGEST_UPLOAD_BYTES,
    form_limits={"max_files": MOST_FILES, "max_fields": 20},
    responses={
        **documented(400, 409, 413),
        422: {
            "model": UploadRefused | ErrorAnswer,
            "description": "none of the files is on the worklist, or the form is refused",
        },
    },
    openapi_extra={"requestBody": {"content": {"multipart/form-data": {"example": examples.UPLOAD_FORM}}}},
)
def upload(
    session: DatabaseSession,
    actor: UploadingUser,
    files: Annotated[list[UploadFile], File(description=f"DICOM, PNG or JPEG; at most {MOST_FILES}", min_length=1)],
    patient_id: Annotated[str | None, Form(max_length=128)] = None,
    sex: Annotated[Literal["M", "F"] | None, Form()] = None,
    birth_date: Annotated[date | None, Form()] = None,
    acquired_on: Annotated[date | None, Form()] = None,
    laterality: Annotated[Literal["L", "R"] | None, Form()] = None,
    site: Annotated[str | None, Form(max_length=128)] = None,
    task: Annotated[Task | None, Form()] = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Take in files. The form's fields fill what the files do not say and never override what they say.

    Each file has its own outcome; a refused one is kept in quarantine. The status is 201 when at least one file is
    now on the worklist, and 422 when none is."""
    entry = PatientEntry(patient_id, sex, birth_date, acquired_on, laterality, site)

    def take_in() -> Response:
        results = []
        with tempfile.TemporaryDirectory(prefix="pediscreen-upload-") as folder:
            for number, file in enumerate(files):
                path = copy_to(Path(folder) / str(number), file)  # never the sender's name
                name = file.filename or "without a name"
                results.append(ingest.ingest_file(session, actor, path, name, entry=entry, task=task))
                path.unlink()
        answer = UploadAnswer.of(results).model_dump(mode="json")
        if all(result.outcome == "quarantined" for result in results):
            return JSONResponse({"error": examples.UPLOAD_REFUSED["error"], **answer}, 422)
        return JSONResponse(answer, 201)

    sent = [] if idempotency_key is None else [(file.filename, _sha256(file)) for file in files]
    return once(session, actor, idempotency_key, ["studies", sent, vars(entry), task], take_in)


@router.post(
    "/studies/{study_id}/review",
    status_code=201,
    response_model=ReviewRecorded,
    max_body_size=LARGEST_JSON_BYTES,
    responses=documented(400, 404, 409, 413),
)
def record_review(
    session: DatabaseSession,
    actor: ReviewingUser,
    study_id: StudyId,
    body: ReviewIn,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Record a decision. 409 when somebody decided, or the model read again, after `seen_review_id`."""
    said = body.model_dump(mode="json")

    def record() -> Response:
        image_id = _image_of(session, actor, study_id, body.image_id)
        decision = review.Decision(
            verdict=Verdict(body.verdict),
            answer=said["answer"],
            reject_reason=body.reject_reason,
            comment=body.comment,
            details=said["details"],
            prediction_id=body.prediction_id,
            seen_review_id=body.seen_review_id,
            seconds=body.seconds,
        )
        recorded = ReviewRecorded(review_id=review.record_review(session, actor, image_id, decision))
        return JSONResponse(recorded.model_dump(), 201)

    return once(session, actor, idempotency_key, ["review", study_id, said], record)


@router.post(
    "/studies/{study_id}/blind-answer",
    status_code=201,
    response_model=StudyOut,
    max_body_size=LARGEST_JSON_BYTES,
    responses=documented(400, 404, 409, 413),
)
def give_blind_answer(
    session: DatabaseSession,
    actor: ReviewingUser,
    study_id: StudyId,
    body: BlindAnswerIn,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Answer before the read is shown; the answer is the study with its read. 409 when it was shown already."""
    said = body.model_dump(mode="json")

    def answer() -> Response:
        image_id = _image_of(session, actor, study_id, body.image_id)
        blind_reading.give_blind_answer(
            session, actor, image_id, said["answer"], body.seconds, comment=body.comment, details=said["details"]
        )
        found = StudyOut.model_validate(review.load_study(session, actor, study_id))
        return JSONResponse(found.model_dump(mode="json"), 201)

    return once(session, actor, idempotency_key, ["blind-answer", study_id, said], answer)


def _image_of(session: Session, actor: Actor, study_id: int, image_id: int | None) -> int:
    """The image meant by a request about a study; an image of another study is not found."""
    image_ids = images.study_image_ids(session, actor, study_id)
    if image_id is None:
        if len(image_ids) > 1:
            listed = ", ".join(str(one) for one in image_ids)
            raise Refused("image_missing", f"study {study_id} has {len(image_ids)} images; say which of {listed}")
        if not image_ids:
            raise NotFound(f"study {study_id} has no images")
        return image_ids[0]
    if image_id not in image_ids:
        raise NotFound(f"study {study_id} has no image {image_id}")
    return image_id


def _sha256(file: UploadFile) -> str:
    file.file.seek(0)
    return hashlib.file_digest(file.file, "sha256").hexdigest()
