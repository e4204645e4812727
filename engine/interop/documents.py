"""What leaves as a document once a reader has signed: the one entry.

    signed = signed_studies.issue(session, actor, study_id)
    for document in documents_of(signed): ...

A structured report and a rendered page (Secondary Capture) for a PACS, a FHIR bundle for a record system. The same
signed study gives the same bytes."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pydicom import Dataset

from engine.errors import DocumentRefused
from engine.interop import codes, dicom_study, fhir, fhir_check
from engine.interop.secondary_capture import secondary_captures
from engine.interop.signed_study import DocumentKind, SignedStudy
from engine.interop.structured_report import structured_report

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
    wanted = [kind for kind in DocumentKind if why_not(signed, kind) is None] if kinds is None else kinds
    for kind in wanted:
        if (refusal := why_not(signed, kind)) is not None:
            raise refusal
    return [document for kind in wanted for document in MAKERS[kind](signed, with_comments)]


def _structured_report(signed: SignedStudy, with_comments: bool) -> list[Document]:
    return [_dicom(signed, DocumentKind.STRUCTURED_REPORT, structured_report(signed, with_comments=with_comments))]


def _secondary_capture(signed: SignedStudy, with_comments: bool) -> list[Document]:
    """Without comments, whoever receives it: text burned into a picture cannot be taken out again."""
    pages = secondary_captures(signed)
    return [
        _dicom(signed, DocumentKind.SECONDARY_CAPTURE, page, f"-page-{number}" if len(pages) > 1 else "")
        for number, page in enumerate(pages, 1)
    ]


def _dicom(signed: SignedStudy, kind: DocumentKind, data: Dataset, page: str = "") -> Document:
    codes.check(dicom_study.codes_in(data))
    return Document(
        kind=kind,
        uid=str(data.SOPInstanceUID),
        media_type="application/dicom",
        sop_class_uid=str(data.SOPClassUID),
        file_name=f"{_name(signed, kind)}{page}.dcm",
        content=dicom_study.file_bytes(data),
    )


def _fhir_bundle(signed: SignedStudy, with_comments: bool) -> list[Document]:
    bundle = fhir.fhir_bundle(signed, with_comments=with_comments)
    codes.check(fhir_check.codes_in(bundle))
    return [
        Document(
            kind=DocumentKind.FHIR_BUNDLE,
            uid=fhir.report_identifier(signed),
            media_type="application/fhir+json",
            sop_class_uid=None,
            file_name=f"{_name(signed, DocumentKind.FHIR_BUNDLE)}.json",
            content=json.dumps(bundle, ensure_ascii=False, indent=1).encode(),
        )
    ]


def _name(signed: SignedStudy, kind: DocumentKind) -> str:
    return f"study-{signed.study_id}-v{signed.revision}-{kind.replace('_', '-')}"


MAKERS: dict[DocumentKind, Callable[[SignedStudy, bool], list[Document]]] = {
    DocumentKind.STRUCTURED_REPORT: _structured_report,
    DocumentKind.SECONDARY_CAPTURE: _secondary_capture,
    DocumentKind.FHIR_BUNDLE: _fhir_bundle,
}
