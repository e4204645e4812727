"""A signed study as Secondary Capture: the page of engine.interop.report_page, for a PACS that shows no SR."""

from __future__ import annotations

import numpy as np
from highdicom.sc import SCImage
from pydicom import Dataset
from pydicom.valuerep import DA, TM

from engine.interop import dicom_study, report_page
from engine.interop.report_text import NOT_FOR_DIAGNOSIS, PRODUCT, TITLES, version_words
from engine.interop.signed_study import DocumentKind, SignedStudy, derived_uid

KIND = DocumentKind.SECONDARY_CAPTURE


def secondary_captures(study: SignedStudy) -> list[Dataset]:
    """One instance a page, in one series."""
    return [_capture(study, page, number) for number, page in enumerate(report_page.pages_of(study), 1)]


def _capture(study: SignedStudy, page: np.ndarray, number: int) -> Dataset:
    series = dicom_study.series(study, KIND)
    uid = series.pop("sop_instance_uid")
    series["instance_number"] = number
    data = SCImage(
        pixel_array=page,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "F"),
        study_instance_uid=study.examination.study_instance_uid,
        sop_instance_uid=uid if number == 1 else derived_uid(uid, f"page {number}"),
        **series,
    )
    at = dicom_study.signed_at(study)
    data.PatientOrientation = None  # a page has none; type 2C
    sides = {image.laterality for image in study.images}
    data.Laterality = sides.pop() if len(sides) == 1 else None  # of the series; type 2C
    data.ConversionType = "WSD"  # made by a workstation
    data.DateOfSecondaryCapture, data.TimeOfSecondaryCapture = DA(at.date()), TM(at.time())
    data.BurnedInAnnotation = "YES"
    phantom = f" {NOT_FOR_DIAGNOSIS}." if study.is_phantom else ""
    data.DerivationDescription = (
        f"{PRODUCT}: {TITLES[study.task]}, {version_words(study)}, rendered for display.{phantom}"
    )
    dicom_study.complete(study, data)
    return data
