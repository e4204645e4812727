"""What every DICOM document shares: the child, the examination, the times, the equipment."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from pydicom import Dataset
from pydicom.valuerep import DA, DT, TM

from engine.interop.report_text import NOT_FOR_DIAGNOSIS, PRODUCT, plain
from engine.interop.signed_study import DocumentKind, SignedStudy, SourceImage, derived_uid

CHARACTER_SET = "ISO_IR 192"  # UTF-8
FIRST_SERIES = {DocumentKind.STRUCTURED_REPORT: 9100, DocumentKind.SECONDARY_CAPTURE: 9200}

LEFT_TO_COMPLETE = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
)


def evidence(study: SignedStudy) -> list[Dataset]:
    """The source images as references; the patient is added to the finished document, by `complete`."""
    return [_reference(study, image.source) for image in study.images if image.source is not None]


def _reference(study: SignedStudy, source: SourceImage) -> Dataset:
    data = Dataset()
    data.SOPClassUID, data.SOPInstanceUID = source.sop_class_uid, source.sop_instance_uid
    data.SeriesInstanceUID = source.series_instance_uid
    data.StudyInstanceUID = study.examination.study_instance_uid
    for keyword in LEFT_TO_COMPLETE:
        setattr(data, keyword, None)
    data.Rows, data.Columns = source.rows, source.cols
    if source.frames > 1:
        data.NumberOfFrames = source.frames
    return data


def patient_and_study(study: SignedStudy) -> Dataset:
    """Patient and General Study module, as far as they are known: the only place for what names the child."""
    patient, examination = study.patient, study.examination
    data = Dataset()
    data.SpecificCharacterSet = CHARACTER_SET
    data.PatientID = patient.patient_id
    if patient.issuer:
        data.IssuerOfPatientID = patient.issuer
    data.PatientName = patient.name
    data.PatientSex = patient.sex
    data.PatientBirthDate = DA(patient.birth_date) if patient.birth_date else None
    data.StudyInstanceUID = examination.study_instance_uid
    data.StudyID = examination.study_id
    data.StudyDate = DA(examination.study_date) if examination.study_date else None
    data.StudyTime = examination.study_time
    data.AccessionNumber = examination.accession_number
    data.ReferringPhysicianName = examination.referring_physician
    return data


def series(study: SignedStudy, kind: DocumentKind) -> dict[str, Any]:
    """Series, instance and equipment, as highdicom takes them. A series of its own for every version, so that a list
    of series shows which is the latest."""
    phantom = f", {NOT_FOR_DIAGNOSIS}" if study.is_phantom else ""
    description = f"{PRODUCT} report, version {study.revision}{phantom}"
    return {
        "series_instance_uid": series_uid(study, kind, study.revision),
        "series_number": FIRST_SERIES[kind] + study.revision,
        "sop_instance_uid": study.uid(kind),
        "instance_number": 1,
        "series_description": description,
        "manufacturer": PRODUCT,
        "manufacturer_model_name": PRODUCT,
        "software_versions": study.software[:64],
        "device_serial_number": "0",
        "content_date": DA(signed_at(study).date()),
        "content_time": TM(signed_at(study).time()),
    }


def series_uid(study: SignedStudy, kind: DocumentKind, revision: int) -> str:
    return derived_uid(study.examination.study_instance_uid, str(revision), kind, "series")


def complete(study: SignedStudy, data: Dataset) -> None:
    """The child and the examination, and what highdicom fills with the present time or leaves out."""
    data.update(patient_and_study(study))
    at = signed_at(study)
    data.InstanceCreationDate, data.InstanceCreationTime = DA(at.date()), TM(at.time())
    data.SeriesDate, data.SeriesTime = data.InstanceCreationDate, data.InstanceCreationTime
    for equipment in data.get("ContributingEquipmentSequence", ()):
        equipment.ContributionDateTime = DT(at)
    if study.examination.timezone_offset:
        data.TimezoneOffsetFromUTC = study.examination.timezone_offset


def signed_at(study: SignedStudy) -> datetime:
    """To the second, in the zone that the source image says its own times are in, where it says one."""
    at = study.signed_at.replace(microsecond=0)
    offset = study.examination.timezone_offset
    return at.astimezone(datetime.strptime(offset, "%z").tzinfo) if offset else at


def person_name(name: str) -> str:
    """A name as it is shown, as a PN: one component, as nobody said which part is the family name."""
    clean = plain(name).replace("\n", " ")
    for delimiter in "\\^=":
        clean = clean.replace(delimiter, " ")
    return f"{clean[:63]}^"


def codes_in(data: Dataset) -> Iterator[tuple[str, str]]:
    """(scheme, code) of everything coded in it."""
    if "CodingSchemeDesignator" in data and "CodeMeaning" in data:
        yield data.CodingSchemeDesignator, data.get("CodeValue") or data.get("LongCodeValue")
    for element in data:
        if element.VR == "SQ":
            for item in element.value:
                yield from codes_in(item)


def file_bytes(data: Dataset) -> bytes:
    """A DICOM file (Part 10)."""
    buffer = io.BytesIO()
    data.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
