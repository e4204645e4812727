"""A signed study to one destination, by the way that it takes."""

from __future__ import annotations

from engine.interop.destinations import SECONDARY_CAPTURE, STRUCTURED_REPORT, Destination, Kind
from engine.interop.documents import documents_of
from engine.interop.sending import c_store, fhir_server, folder, stow
from engine.interop.signed_study import DocumentKind, SignedStudy

DICOM_KIND = {
    STRUCTURED_REPORT: DocumentKind.STRUCTURED_REPORT,
    SECONDARY_CAPTURE: DocumentKind.SECONDARY_CAPTURE,
}


def deliver(destination: Destination, signed: SignedStudy) -> str:
    """Returns who acknowledged it, in words. Raises NotDelivered, DeliveryRefused, and DocumentRefused where there can
    be no document for it."""
    comments = destination.with_comments
    match destination.kind:
        case Kind.FOLDER:
            return folder.send(destination, documents_of(signed, with_comments=comments))
        case Kind.FHIR:
            (bundle,) = documents_of(signed, [DocumentKind.FHIR_BUNDLE], with_comments=comments)
            return fhir_server.send(destination, bundle, identifying(signed))
    kinds = [kind for name, kind in DICOM_KIND.items() if name in destination.documents]
    documents = documents_of(signed, kinds, with_comments=comments)
    return (c_store if destination.kind is Kind.DICOM else stow).send(destination, documents)


def identifying(signed: SignedStudy) -> set[str]:
    """Every text of the study that names the child, as a server could repeat it."""
    patient, examination = signed.patient, signed.examination
    names = (patient.name or "").replace("=", "^").split("^")
    birth_date = patient.birth_date
    dates = {birth_date.isoformat(), birth_date.strftime("%Y%m%d")} if birth_date else set()
    others = {patient.patient_id, examination.accession_number or "", examination.referring_physician or ""}
    comments = {image.comment for image in signed.images if image.comment}
    return {text.strip() for text in {*names, *dates, *others, *comments} if text.strip()}
