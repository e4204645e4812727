"""What leaves as a document once a reader has signed: the one entry.

    signed = signed_studies.issue(session, actor, study_id)
    for document in documents_of(signed): ...

A structured report and a rendered page (Secondary Capture) for a PACS, a FHIR bundle for a record system. The same
signed study gives the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from engine.errors import DocumentRefused
from engine.interop.signed_study import DocumentKind, SignedStudy

DICOM_KINDS = (DocumentKind.STRUCTURED_REPORT, DocumentKind.SECONDARY_CAPTURE)


@dataclass(frozen=True)
class Document:
    """`uid`: the SOP Instance UID, or the identifier of the DiagnosticReport ("urn:uuid:..."). `content`: a DICOM file
    (Part 10), or JSON in UTF-8. `file_name` holds nothing that identifies the child."""

    kind: DocumentKind
    uid: str
    media_type: str
    sop_class_uid: str | None
    file_name: str
    content: bytes = field(repr=False)


def why_not(signed: SignedStudy, kind: DocumentKind) -> DocumentRefused | None:
    """Why there can be no document of this kind, or None."""
    if kind in DICOM_KINDS and not signed.has_dicom_source:
        return DocumentRefused(
            "no_dicom_source",
            "the image came as PNG or JPEG and is in no PACS study: there is no DICOM document of it, only FHIR",
        )
    return None


def documents_of(
    signed: SignedStudy, kinds: Sequence[DocumentKind] | None = None, *, with_comments: bool = False
) -> list[Document]:
    """The documents of `kinds`, by default of every kind that is possible.

    `with_comments`: readers' comments too, which may name the child: for receivers inside the hospital only.
    Raises DocumentRefused for a kind that is not possible, and in release mode for a code that nobody has verified."""
    raise NotImplementedError
