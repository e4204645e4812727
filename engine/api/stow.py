"""DICOMweb STOW-RS: objects by POST, streamed to the disk and taken in one after the other (PS3.18 10.5).

Each object has its own outcome. One in ReferencedSOPSequence is on the worklist; one in FailedSOPSequence is in
quarantine, where its reason is kept, or (A700) was not kept at all and should be sent again."""

from __future__ import annotations

import dataclasses
import logging
from email.message import Message
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request
from fastapi.responses import JSONResponse
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from python_multipart.exceptions import MultipartParseError
from python_multipart.multipart import MultipartParser
from sqlalchemy.exc import SQLAlchemyError
from starlette.concurrency import run_in_threadpool

from db.exchange_tables import Channel
from db.models import Role
from db.session import session_scope
from engine.api import errors
from engine.api.access import UploadingUser
from engine.errors import Refused
from engine.imaging.sniff import MAX_FILE_BYTES
from engine.services import receiving
from engine.services.accounts import READERS, Actor, require, service_actor
from engine.services.incoming import IncomingFile
from engine.services.ingest import Announced, IngestResult, ingest_incoming
from engine.services.receiving import Counts, Tally
from engine.settings import settings

log = logging.getLogger(__name__)

router = APIRouter(tags=["DICOMweb"])

DICOM_JSON = "application/dicom+json"
FEED_BYTES = 1 << 20
LONGEST_BOUNDARY = 200  # RFC 2046 allows 70, and Orthanc sends 73
MAX_OBJECTS = 2000  # in one request

# (0008,1197) Failure Reason, PS3.3 C.14.1.1 and PS3.4 table B.2-1
OUT_OF_RESOURCES = 0xA700
CANNOT_UNDERSTAND = 0xC000
FAILURE_REASONS = {
    "sop_instance_uid_reused": 0x0111,  # duplicate SOP instance
    "not_a_film": 0x0122,  # SOP class not supported
    "for_processing": 0x0122,
    "unsupported_syntax": 0xC122,  # referenced transfer syntax not supported
    "sent_as_another": 0xA900,  # data set does not match SOP class
}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """Of one object. The UIDs are those of its file meta information; None where it has none. `failure_reason` None:
    stored."""

    sop_class_uid: str | None
    sop_instance_uid: str | None
    failure_reason: int | None


@router.post(
    "/studies",
    response_class=JSONResponse,
    responses={
        200: {"description": "every object is on the worklist", "content": {DICOM_JSON: {}}},
        202: {"description": "some objects are, FailedSOPSequence lists the others", "content": {DICOM_JSON: {}}},
        400: {"description": "the body is no complete multipart message"},
        406: {"description": "the answer is application/dicom+json and nothing else"},
        409: {"description": "no object is on the worklist, FailedSOPSequence says why", "content": {DICOM_JSON: {}}},
        415: {"description": "not multipart/related; type=application/dicom"},
        503: {"description": "nothing can be stored at present, send it again", "content": {DICOM_JSON: {}}},
    },
    openapi_extra={"requestBody": {"content": {'multipart/related; type="application/dicom"': {}}, "required": True}},
)
async def store(
    request: Request,
    actor: UploadingUser,
    accept: Annotated[str, Header()] = "*/*",
    content_type: Annotated[str, Header()] = "",
) -> JSONResponse:
    """Store objects (STOW-RS). Sending the same again is a success and stays one image."""
    require(actor, *READERS, Role.SERVICE)
    boundary = _boundary(content_type)
    if boundary is None:
        return errors.answer(415, "media_type", 'Send multipart/related; type="application/dicom"; boundary=...')
    if not any(kind in accept for kind in (DICOM_JSON, "application/json", "*/*", "application/*")):
        return errors.answer(406, "not_acceptable", f"The answer is {DICOM_JSON}.")
    upload = Upload(boundary, actor)
    waiting = bytearray()
    try:
        async for chunk in request.stream():
            waiting += chunk
            if len(waiting) >= FEED_BYTES:
                await run_in_threadpool(upload.feed, bytes(waiting))
                waiting.clear()
        await run_in_threadpool(upload.feed, bytes(waiting))
    except (MultipartParseError, Refused) as error:
        return errors.answer(400, "multipart", f"The body cannot be taken apart: {error}")
    finally:
        await run_in_threadpool(upload.close)
    if not upload.is_complete or not upload.outcomes:
        said = "ends before its closing boundary" if not upload.is_complete else "holds no object"
        message = f"The body {said}. What it held before that is kept; send all of it again."
        return errors.answer(400, "multipart", message)
    return answer(upload.outcomes)


class Upload:
    """Takes a multipart body apart as it comes; each part goes to a file of its own, and in when it is whole."""

    def __init__(self, boundary: bytes, actor: Actor) -> None:
        self.actor = actor
        self.outcomes: list[Outcome] = []
        self.counts = Counts(actor.origin)
        self.is_complete = False
        self._part: IncomingFile | None = None
        self._part_failed = False
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_part_data": self._data,
                "on_part_end": self._end,
                "on_end": self._complete,
            },
        )

    def feed(self, data: bytes) -> None:
        """Raises MultipartParseError, and Refused for more than one request may hold."""
        if data:
            self._parser.write(data)

    def close(self) -> None:
        """Drop what is not whole, and count what came."""
        self._drop_part()
        tally = Tally(senders={(Channel.STOW, self.actor.username): self.counts})
        try:
            with session_scope(settings().database_url) as session:
                receiving.write_tally(session, service_actor("stow"), tally)
        except SQLAlchemyError as error:
            log.error("what was sent by STOW-RS could not be counted: %s", type(error).__name__)

    def _begin(self) -> None:
        if len(self.outcomes) >= MAX_OBJECTS:
            raise Refused("too_many", f"more than {MAX_OBJECTS} objects; send them in several requests")
        self._part_failed = False
        try:
            self._part = IncomingFile()
        except OSError:
            self._part_failed = True

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._part is None or self._part_failed:
            return
        try:
            if self._part.size_bytes + end - start <= MAX_FILE_BYTES + 1:  # the one byte too many refuses it
                self._part.write(memoryview(data)[start:end])
        except OSError:
            self._part_failed = True

    def _end(self) -> None:
        try:
            outcome = None if self._part is None or self._part_failed else self._take_in(self._part)
        except (OSError, SQLAlchemyError) as error:
            log.error("an object sent by STOW-RS could not be kept: %s", type(error).__name__)
            outcome = None
        if outcome is None:
            self.counts.add("failed")
        self.outcomes.append(outcome or Outcome(None, None, OUT_OF_RESOURCES))
        self._drop_part()

    def _take_in(self, part: IncomingFile) -> Outcome:
        part.close()
        announced = _meta_uids(part)
        name = f"{announced.sop_instance_uid}.dcm" if announced else "object.dcm"
        with session_scope(settings().database_url) as session:
            result = ingest_incoming(session, self.actor, part, name, announced=announced)
        self.counts.add(result.outcome)
        uids = (announced.sop_class_uid, announced.sop_instance_uid) if announced else (None, None)
        return Outcome(*uids, _failure_reason(result))

    def _drop_part(self) -> None:
        if self._part is not None:
            self._part.__exit__(None, None, None)
            self._part = None

    def _complete(self) -> None:
        self.is_complete = True


def answer(outcomes: list[Outcome]) -> JSONResponse:
    """The Store Instances Response Module (PS3.18 10.5.3, table I.2.2-1) and the status that goes with it."""
    stored = [outcome for outcome in outcomes if outcome.failure_reason is None]
    failed = [outcome for outcome in outcomes if outcome.failure_reason is not None]
    named = [outcome for outcome in failed if outcome.sop_instance_uid]
    unnamed = [outcome for outcome in failed if not outcome.sop_instance_uid]
    body: dict[str, Any] = {"00081190": {"vr": "UR"}}  # Retrieve URL: nothing is given out here
    if stored:
        body["00081199"] = _sequence([_reference(outcome) | {"00081190": {"vr": "UR"}} for outcome in stored])
    if named:
        body["00081198"] = _sequence([_reference(outcome) | _reason(outcome) for outcome in named])
    if unnamed:
        body["0008119A"] = _sequence([_reason(outcome) for outcome in unnamed])  # Other Failures Sequence
    if not failed:
        status = 200
    elif stored:
        status = 202
    else:
        status = 503 if all(outcome.failure_reason == OUT_OF_RESOURCES for outcome in failed) else 409
    return JSONResponse(body, status_code=status, media_type=DICOM_JSON)


def _sequence(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"vr": "SQ", "Value": items}


def _reference(outcome: Outcome) -> dict[str, Any]:
    return {
        "00081150": {"vr": "UI", "Value": [outcome.sop_class_uid]},
        "00081155": {"vr": "UI", "Value": [outcome.sop_instance_uid]},
    }


def _reason(outcome: Outcome) -> dict[str, Any]:
    return {"00081197": {"vr": "US", "Value": [outcome.failure_reason]}}


def _failure_reason(result: IngestResult) -> int | None:
    if result.outcome != "quarantined":
        return None
    return FAILURE_REASONS.get(result.reason_code or "", CANNOT_UNDERSTAND)


def _meta_uids(part: IncomingFile) -> Announced | None:
    """From group 0002 alone: the data set of a foreign file is read in the decode process."""
    try:
        meta = read_file_meta_info(part.path)
        uids = Announced(str(meta.MediaStorageSOPClassUID), str(meta.MediaStorageSOPInstanceUID))
    except (InvalidDicomError, AttributeError, ValueError, KeyError, TypeError, EOFError, NotImplementedError):
        return None
    printable = all(uid.isprintable() and 0 < len(uid) <= 64 for uid in (uids.sop_class_uid, uids.sop_instance_uid))
    return uids if printable else None


def _boundary(content_type: str) -> bytes | None:
    """Of multipart/related; type="application/dicom"; None for anything else."""
    header = Message()
    header["Content-Type"] = content_type
    kind, boundary = header.get_param("type"), header.get_boundary()
    if header.get_content_type() != "multipart/related" or not boundary or len(boundary) > LONGEST_BOUNDARY:
        return None
    if kind is not None and str(kind).lower() != "application/dicom":
        return None
    return boundary.encode("latin-1", "replace")
