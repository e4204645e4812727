"""Studies by REST: the queue, one study, its pixels, a new one, and a reader's decision."""

from __future__ import annotations

import shutil
import tempfile
from datetime import date
from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, File, Form, Header, Query, Response, UploadFile

from db.models import StudyStatus, Verdict
from engine.api.access import ActingUser, DatabaseSession
from engine.api.schemas import BlindAnswerIn, ErrorAnswer, QueuePage, ReviewIn, ReviewRecorded, StudyOut, UploadAnswer
from engine.errors import NotFound, Refused
from engine.findings.answers import Task
from engine.findings.urgency import Level
from engine.services import blind_reading, images, ingest, review, worklist
from engine.services.ingest import PatientEntry

router = APIRouter(tags=["studies"], responses={status: {"model": ErrorAnswer} for status in (401, 403, 404, 422)})


@router.get("/queue")
def queue(
    session: DatabaseSession,
    actor: ActingUser,
    status: Annotated[list[StudyStatus] | None, Query()] = None,
    task: Annotated[list[Task] | None, Query()] = None,
    site: Annotated[list[str] | None, Query()] = None,
    urgency: Annotated[list[Level] | None, Query()] = None,
    search: Annotated[str, Query(max_length=200)] = "",
    age_from_months: Annotated[float | None, Query(ge=0)] = None,
    age_to_months: Annotated[float | None, Query(ge=0)] = None,
    sort: worklist.Sort = worklist.Sort.URGENCY,
    descending: bool = False,
    page: Annotated[int, Query(ge=1)] = 1,
    page_size: Annotated[int, Query(ge=1, le=500)] = 50,
) -> QueuePage:
    """One page of the worklist. Repeat a parameter to allow several values of it."""
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
    return QueuePage.model_validate(worklist.worklist_page(session, actor, filter, page, page_size))


@router.get("/studies/{study_id}")
def study(session: DatabaseSession, actor: ActingUser, study_id: int) -> StudyOut:
    return StudyOut.model_validate(review.load_study(session, actor, study_id))


@router.get(
    "/studies/{study_id}/pixels",
    response_class=Response,
    responses={200: {"content": {"application/octet-stream": {}}}, 304: {"description": "not changed"}},
)
def pixels(
    session: DatabaseSession,
    actor: ActingUser,
    study_id: int,
    image: Annotated[int | None, Query(description="image id; the study's first image when left out")] = None,
    if_none_match: Annotated[str | None, Header()] = None,
) -> Response:
    """The stored values, little endian: uint16 (rows, cols) for grey, uint8 (rows, cols, 3) for colour.

    They were compressed once, when the film came in, and leave as they lie on disk: compressing 10 MB for every
    answer would hold up every other user of this process for half a second."""
    image_id = _image_of(images.study_image_ids(session, actor, study_id), study_id, image)
    etag = f'"{images.pixel_sha256(session, actor, image_id)}"'
    headers = {
        "ETag": etag,
        "Cache-Control": "private, max-age=3600",
        "Vary": "Cookie",
    }
    if if_none_match == etag:
        return Response(status_code=304, headers=headers)
    return Response(
        images.pixels_gzip(session, actor, image_id),
        media_type="application/octet-stream",
        headers={**headers, "Content-Encoding": "gzip"},
    )


@router.post("/studies")
def upload(
    session: DatabaseSession,
    actor: ActingUser,
    response: Response,
    files: Annotated[list[UploadFile], File(description="DICOM, PNG or JPEG")],
    patient_id: Annotated[str | None, Form(max_length=128)] = None,
    sex: Annotated[Literal["M", "F"] | None, Form()] = None,
    birth_date: Annotated[date | None, Form()] = None,
    acquired_on: Annotated[date | None, Form()] = None,
    laterality: Annotated[Literal["L", "R"] | None, Form()] = None,
    site: Annotated[str | None, Form(max_length=128)] = None,
    task: Annotated[Task | None, Form()] = None,
) -> UploadAnswer:
    """Take in files. The form's fields fill what the files do not say and never override what they say.

    Each file has its own outcome; a refused one is kept in quarantine. The status is 201 when at least one file is
    now on the worklist, and 422 when none is."""
    entry = PatientEntry(patient_id, sex, birth_date, acquired_on, laterality, site)
    results = []
    with tempfile.TemporaryDirectory(prefix="pediscreen-upload-") as folder:
        for number, file in enumerate(files):
            path = Path(folder) / str(number)  # never the sender's name
            with path.open("wb") as target:
                shutil.copyfileobj(file.file, target)
            name = file.filename or "without a name"
            results.append(ingest.ingest_file(session, actor, path, name, entry=entry, task=task))
            path.unlink()
    on_worklist = any(result.outcome != "quarantined" for result in results)
    response.status_code = 201 if on_worklist else 422
    return UploadAnswer.of(results)


@router.post("/studies/{study_id}/review", status_code=201, responses={409: {"model": ErrorAnswer}})
def record_review(session: DatabaseSession, actor: ActingUser, study_id: int, body: ReviewIn) -> ReviewRecorded:
    """Record a decision. 409 when somebody decided, or the model read again, after `seen_review_id`."""
    image_id = _image_of(images.study_image_ids(session, actor, study_id), study_id, body.image_id)
    decision = review.Decision(
        verdict=Verdict(body.verdict),
        answer=body.answer,
        reject_reason=body.reject_reason,
        comment=body.comment,
        details=body.details,
        prediction_id=body.prediction_id,
        seen_review_id=body.seen_review_id,
        seconds=body.seconds,
    )
    return ReviewRecorded(review_id=review.record_review(session, actor, image_id, decision))


@router.post("/studies/{study_id}/blind-answer", status_code=201, responses={409: {"model": ErrorAnswer}})
def give_blind_answer(session: DatabaseSession, actor: ActingUser, study_id: int, body: BlindAnswerIn) -> StudyOut:
    """Answer before the read is shown; the answer is the study with its read. 409 when it was shown already."""
    image_id = _image_of(images.study_image_ids(session, actor, study_id), study_id, body.image_id)
    blind_reading.give_blind_answer(
        session, actor, image_id, body.answer, body.seconds, comment=body.comment, details=body.details
    )
    return StudyOut.model_validate(review.load_study(session, actor, study_id))


def _image_of(image_ids: list[int], study_id: int, image_id: int | None) -> int:
    """The image meant by a request about a study; an image of another study is not found."""
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
