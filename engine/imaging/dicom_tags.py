"""What a DICOM file says about the child, the examination and the size of a pixel."""

from __future__ import annotations

import math
from typing import Literal

from pydicom.charset import python_encoding

from engine.imaging.film import PHANTOM_MANUFACTURER, FilmTags
from engine.imaging.stored_pixels import StoredPixels
from engine.imaging.tag_reader import TagReader

Spacing = tuple[float, float]  # (row, column), mm


def film_tags(tags: TagReader, stored: StoredPixels, warnings: list[str]) -> FilmTags:
    """Missing and unreadable values are None; contradictions and unknown character sets are warnings."""
    for name in tags.texts("SpecificCharacterSet"):
        if name and name not in python_encoding:
            warnings.append(f"(0008,0005) Specific Character Set {name!r} is not known: names may be shown wrongly.")
    region = next(iter(tags.items("AnatomicRegionSequence")), None)
    manufacturer = tags.text("Manufacturer")
    return FilmTags(
        sop_class_uid=tags.text("SOPClassUID"),
        sop_instance_uid=tags.text("SOPInstanceUID"),
        study_instance_uid=tags.text("StudyInstanceUID"),
        series_instance_uid=tags.text("SeriesInstanceUID"),
        accession_number=tags.text("AccessionNumber"),
        modality=tags.text("Modality"),
        patient_id=tags.text("PatientID"),
        issuer_of_patient_id=tags.text("IssuerOfPatientID"),
        patient_name=tags.text("PatientName"),
        patient_sex=_sex(tags, warnings),
        patient_birth_date=tags.day("PatientBirthDate"),
        patient_age_text=tags.text("PatientAge"),
        acquired_on=tags.day("AcquisitionDate") or tags.day("AcquisitionDateTime") or tags.day("StudyDate"),
        laterality=_laterality(tags, warnings),
        body_part=tags.text("BodyPartExamined"),
        anatomic_region=TagReader(region).text("CodeMeaning") if region is not None else None,
        study_description=tags.text("StudyDescription"),
        view_position=tags.text("ViewPosition"),
        institution=tags.text("InstitutionName"),
        station=tags.text("StationName"),
        manufacturer=manufacturer,
        image_type=tuple(part.upper() for part in tags.texts("ImageType") if part),
        presentation_intent=tags.text("PresentationIntentType"),
        burned_in_annotation=tags.text("BurnedInAnnotation"),
        frames=stored.frames,
        transfer_syntax_uid=stored.transfer_syntax_uid,
        made_by_phantom=manufacturer == PHANTOM_MANUFACTURER,
    )


def _sex(tags: TagReader, warnings: list[str]) -> Literal["M", "F", None]:
    sex = tags.text("PatientSex")
    if sex in ("M", "F"):
        return sex
    if sex is not None:
        warnings.append(f"(0010,0040) Patient's Sex must be M or F, found {sex[:16]!r}: it is treated as unknown.")
    return None


def _laterality(tags: TagReader, warnings: list[str]) -> Literal["L", "R", None]:
    """L or R where the image, the series and the frame do not contradict each other."""
    said = {tags.text(keyword) for keyword in ("ImageLaterality", "Laterality", "FrameLaterality")}
    sides = said & {"L", "R"}
    if len(sides) == 2:
        warnings.append(
            "(0020,0062) Image Laterality and (0020,0060) Laterality contradict each other: the side is unknown."
        )
    return sides.pop() if len(sides) == 1 else None


def spacing(tags: TagReader, warnings: list[str]) -> tuple[Spacing | None, Literal["calibrated", "detector", None]]:
    """The size of a pixel in mm and what it may be called: `calibrated` to the patient, or at the `detector`.

    Pixel Spacing counts as calibrated where a calibration type is given or it differs from Imager Pixel Spacing
    (PS3.3 10.7.1.3). Alone and without a type it may be either, so nothing is said."""
    at_detector = _pair(tags, "ImagerPixelSpacing", warnings)
    given = _pair(tags, "PixelSpacing", warnings)
    if given is not None and (tags.text("PixelSpacingCalibrationType") or (at_detector and given != at_detector)):
        return given, "calibrated"
    at_detector = at_detector or _pair(tags, "NominalScannedPixelSpacing", warnings)
    if at_detector is not None:
        return at_detector, "detector"
    if given is not None:
        warnings.append("(0028,0030) Pixel Spacing does not say whether it is calibrated: millimetres are not shown.")
    return None, None


def pixel_aspect(tags: TagReader) -> float | None:
    """Height of a pixel over its width, from a spacing or (0028,0034) Pixel Aspect Ratio; None where not said."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "PixelAspectRatio"):
        pair = _pair(tags, keyword, [])
        if pair is not None:
            return pair[0] / pair[1]
    return None


def _pair(tags: TagReader, keyword: str, warnings: list[str]) -> Spacing | None:
    values = tags.numbers(keyword)
    if values is None:
        return None
    if len(values) != 2 or not all(math.isfinite(value) and value > 0 for value in values):
        warnings.append(f"{keyword} must be two numbers greater than 0, found {values[:4]}: it is not used.")
        return None
    return values[0], values[1]
