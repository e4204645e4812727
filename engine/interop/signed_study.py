"""What a signed study says, as plain values: everything that a document of it may hold, and nothing else.

Filled from the database by engine.services.signed_studies. Everything that names the child is in `SignedPatient`, the
accession number and the source file's own words in `Examination`; a reader's comment may name them too
and therefore stays out of a document unless its receiver is inside the hospital (engine.interop.documents)."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Literal

import numpy as np

from engine.findings.additions import Additions
from engine.findings.answers import Answer, Task

# What every UID of ours is derived from (RFC 4122, version 5).
NAMESPACE = uuid.UUID("6f0f6a1e-5a0e-5bd4-9a43-0f6c1f0d2a57")


class DocumentKind(StrEnum):
    STRUCTURED_REPORT = "structured_report"
    SECONDARY_CAPTURE = "secondary_capture"
    FHIR_BUNDLE = "fhir_bundle"


@dataclass(frozen=True)
class SignedPatient:
    """Identifying, every field. `name` as (0010,0010) of the source file."""

    patient_id: str
    issuer: str  # "" when not given
    name: str | None
    sex: Literal["M", "F", None]
    birth_date: date | None


@dataclass(frozen=True)
class Examination:
    """What the source file says of its examination, copied so that documents fall into the same study. `study_time` as
    (0008,0030)."""

    study_instance_uid: str
    study_id: str | None
    accession_number: str | None
    acquired_on: date | None
    study_date: date | None
    study_time: str | None
    referring_physician: str | None
    timezone_offset: str | None  # (0008,0201), e.g. "+0100"


@dataclass(frozen=True)
class SourceImage:
    """The DICOM instance an image was read from. `rows`, `cols` are the file's own: a film with oblong pixels was
    resampled."""

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    rows: int
    cols: int
    frames: int


@dataclass(frozen=True)
class SignedReader:
    name: str
    username: str


@dataclass(frozen=True)
class ModelRead:
    """The read that the reader saw. `answer` None: the model abstained, for `reason`."""

    answer: Answer | None
    reason: str | None
    model_version: str
    is_phantom: bool
    read_at: datetime


@dataclass(frozen=True)
class Region:
    """A rectangle that the reader marked, in film pixels; x1 and y1 lie outside."""

    x0: int
    y0: int
    x1: int
    y1: int


@dataclass(frozen=True)
class SignedImage:
    """The decision in force about one image. `answer` None: not assessable, for `reject_reason`. Of a withdrawn study
    both are None."""

    image_id: int
    source: SourceImage | None  # None: PNG or JPEG
    modality: str | None
    laterality: Literal["L", "R", None]
    film_rows: int
    film_cols: int
    answer: Answer | None
    reject_reason: str | None
    additions: Additions
    regions: tuple[Region, ...]
    quality: str | None  # as the reader graded the film
    comment: str | None  # free text: it may name the child
    reader: SignedReader
    signed_at: datetime
    is_confirmed: bool  # the reader says what the read says
    read: ModelRead | None
    picture: np.ndarray | None = field(default=None, repr=False, compare=False)  # uint8, the film small


@dataclass(frozen=True)
class SignedStudy:
    """`revision` counts what was issued of the study, from 1; `replaced_revision` is the one issued before.
    `is_withdrawn`: the decisions were taken back after something had been issued. Times carry their zone."""

    study_id: int
    examination: Examination
    patient: SignedPatient
    task: Task | None  # None: every image was rejected before anybody said what the case is read for
    age_months: float | None  # at the examination
    images: tuple[SignedImage, ...]
    readers: tuple[SignedReader, ...]  # who signed last comes first
    signed_at: datetime
    organization: str | None
    is_phantom: bool  # a phantom image, or a read of the phantom model
    is_withdrawn: bool
    software: str  # the version of this workstation that issued the revision
    revision: int
    replaced_revision: int | None

    @property
    def models(self) -> tuple[str, ...]:
        """Every model version whose read a reader saw."""
        return tuple(dict.fromkeys(image.read.model_version for image in self.images if image.read))

    @property
    def has_dicom_source(self) -> bool:
        return all(image.source is not None for image in self.images)

    def uid(self, kind: DocumentKind) -> str:
        """Of the document of this kind and revision: always the same."""
        return document_uid(self.examination.study_instance_uid, self.revision, kind)

    def replaced_uid(self, kind: DocumentKind) -> str | None:
        """Of the document that this one replaces."""
        if self.replaced_revision is None:
            return None
        return document_uid(self.examination.study_instance_uid, self.replaced_revision, kind)


def document_uid(study_instance_uid: str, revision: int, kind: DocumentKind) -> str:
    return derived_uid(study_instance_uid, str(revision), kind.value)


def derived_uid(*parts: str) -> str:
    """A UID that follows from `parts` (PS3.5 B.2, 2.25.*)."""
    return f"2.25.{derived_uuid(*parts).int}"


def derived_uuid(*parts: str) -> uuid.UUID:
    return uuid.uuid5(NAMESPACE, "/".join(parts))


def regions_of(details: Mapping[str, Any]) -> tuple[Region, ...]:
    """The rectangles among a review's details."""
    return tuple(Region(**region) for region in details.get("regions", ()))
