"""What the file that an image came in says of its examination: tags that the film does not keep."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError

from engine.imaging.tag_reader import UNREADABLE, TagReader

KEYWORDS = [
    "SpecificCharacterSet",
    "PatientName",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "TimezoneOffsetFromUTC",
    "Rows",
    "Columns",
]

TIME = re.compile(r"([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?")  # PS3.5 6.2, TM
OFFSET = re.compile(r"[+-](0\d|1[0-4])[0-5]\d")


@dataclass(frozen=True)
class SourceHeader:
    """None: the file does not say. `rows`, `cols` are the file's own, before a film is made of it."""

    patient_name: str | None = None
    study_id: str | None = None
    study_date: date | None = None
    study_time: str | None = None
    referring_physician: str | None = None
    timezone_offset: str | None = None
    rows: int | None = None
    cols: int | None = None


def source_header(path: Path) -> SourceHeader:
    """Of a file that was admitted. One that is gone, or that is no DICOM file, says nothing."""
    try:
        with path.open("rb") as file:
            dataset = dcmread(file, force=True, stop_before_pixels=True, specific_tags=KEYWORDS)
    except (FileNotFoundError, InvalidDicomError, *UNREADABLE):
        dataset = Dataset()
    tags = TagReader(dataset)
    return SourceHeader(
        patient_name=tags.text("PatientName"),
        study_id=tags.text("StudyID"),
        study_date=tags.day("StudyDate"),
        study_time=_matching(TIME, tags.text("StudyTime")),
        referring_physician=tags.text("ReferringPhysicianName"),
        timezone_offset=_matching(OFFSET, tags.text("TimezoneOffsetFromUTC")),
        rows=tags.integer("Rows"),
        cols=tags.integer("Columns"),
    )


def _matching(form: re.Pattern[str], text: str | None) -> str | None:
    return text if text is not None and form.fullmatch(text) else None
