"""Which films may enter the worklist, and what a reader must know about those that do.

The rules, tag by tag, are in docs/dicom-conformance.md. A refusal goes to quarantine with its reason; a warning
stands on the case. What the file does not say is never filled in here: missing sex, birth date or side are warnings,
and what depends on them waits for the reader."""

from __future__ import annotations

import re

from engine.errors import AdmissionRefused
from engine.findings.age import age_months_at, months_words
from engine.findings.answers import Task
from engine.imaging.film import REPORT_MANUFACTURER, Film, FilmTags

FOR_PROCESSING_SOP_CLASS = "1.2.840.10008.5.1.4.1.1.1.1.1"
RADIOGRAPH_SOP_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.1": "computed radiography",
    "1.2.840.10008.5.1.4.1.1.1.1": "digital X-ray, for presentation",
}
SECONDARY_CAPTURE_SOP_CLASSES = {"1.2.840.10008.5.1.4.1.1.7": "secondary capture"}
FUNDUS_SOP_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.77.1.5.1": "ophthalmic photography, 8 bit",
    "1.2.840.10008.5.1.4.1.1.77.1.5.2": "ophthalmic photography, 16 bit",
}
ADMITTED_SOP_CLASSES = RADIOGRAPH_SOP_CLASSES | SECONDARY_CAPTURE_SOP_CLASSES | FUNDUS_SOP_CLASSES

# What usually arrives by mistake, in words. By the start of the SOP class UID.
OTHER_SOP_CLASSES = (
    ("1.2.840.10008.5.1.4.1.1.1.2", "mammography"),
    ("1.2.840.10008.5.1.4.1.1.1.3", "dental radiography"),
    ("1.2.840.10008.5.1.4.1.1.2", "computed tomography"),
    ("1.2.840.10008.5.1.4.1.1.3", "ultrasound"),
    ("1.2.840.10008.5.1.4.1.1.4", "magnetic resonance"),
    ("1.2.840.10008.5.1.4.1.1.6", "ultrasound"),
    ("1.2.840.10008.5.1.4.1.1.7.", "multi-frame secondary capture"),
    ("1.2.840.10008.5.1.4.1.1.11", "a presentation state"),
    ("1.2.840.10008.5.1.4.1.1.12", "angiography or fluoroscopy"),
    ("1.2.840.10008.5.1.4.1.1.20", "nuclear medicine"),
    ("1.2.840.10008.5.1.4.1.1.66", "a segmentation or registration"),
    ("1.2.840.10008.5.1.4.1.1.77.1.5", "an ophthalmic image of another kind"),
    ("1.2.840.10008.5.1.4.1.1.77", "endoscopy, microscopy or photography"),
    ("1.2.840.10008.5.1.4.1.1.88", "a structured report"),
    ("1.2.840.10008.5.1.4.1.1.104", "an encapsulated document"),
    ("1.2.840.10008.5.1.4.1.1.128", "positron emission tomography"),
    ("1.2.840.10008.5.1.4.1.1.481", "a radiotherapy object"),
)

MIN_SIDE_PX, MAX_SIDE_PX = 200, 10_000
MAX_AGE_MONTHS = 19 * 12
UID = re.compile(r"[0-9]+(\.[0-9]+)*")


def check(film: Film) -> tuple[str, ...]:
    """Warnings for the case, beyond those of the film itself. `film.tags` may have been completed by the sender.

    Raises AdmissionRefused: not_a_film, own_report, for_processing, multi_frame, colour_radiograph, bad_uid,
    no_patient_id, birth_after_study, size."""
    tags = film.tags
    warnings = check_image(film)
    if tags.patient_id is None:
        raise AdmissionRefused(
            "no_patient_id",
            "(0010,0020) Patient ID is missing: without it nobody can say whose film this is. "
            "Correct it at the sending system and send it again.",
        )
    if tags.patient_birth_date and tags.acquired_on and tags.patient_birth_date > tags.acquired_on:
        raise AdmissionRefused(
            "birth_after_study",
            f"(0010,0030) Patient's Birth Date is after the examination ({tags.acquired_on}): one of the two is wrong, "
            "or this is another child.",
        )
    return (*warnings, *_patient_warnings(tags), *_side_warnings(film))


def check_image(film: Film) -> tuple[str, ...]:
    """What `check` asks of the image itself, whoever it is of. Raises AdmissionRefused."""
    if film.source_format == "dicom":
        _refuse_other_objects(film)
        _refuse_bad_uids(film.tags)
    _refuse_size(film)
    return tuple(_image_warnings(film))


def guess_task(film: Film) -> Task | None:
    """The task that modality, body part, anatomic region and study description point to; None where they do not.

    A hand is a bone age unless the description speaks of an injury. Hand and wrist together are left open, unless
    the description asks for the bone age."""
    tags = film.tags
    if film.source_format != "dicom":
        return None
    if tags.sop_class_uid in FUNDUS_SOP_CLASSES or tags.modality == "OP":
        return Task.ROP
    description = _words(tags.study_description)
    words = _words(tags.body_part) | _words(tags.anatomic_region) or description
    if film.is_colour:
        return Task.ROP if words & EYE_WORDS else None
    if description & BONE_AGE_WORDS or {"BONE", "AGE"} <= description or {"AGE", "OSSEUX"} <= description:
        return Task.BONE_AGE
    is_hand, is_wrist = bool(words & HAND_WORDS), bool(words & WRIST_WORDS)
    if is_hand == is_wrist:
        return None
    if is_wrist:
        return Task.FRACTURE
    return None if description & INJURY_WORDS else Task.BONE_AGE


EYE_WORDS = {"EYE", "RETINA", "FUNDUS", "OCULAR", "AUGE"}
HAND_WORDS = {"HAND", "HANDS", "MAIN", "MANO"}
WRIST_WORDS = {"WRIST", "HANDGELENK", "POIGNET", "POLSO", "MUNECA", "CARPUS", "RADIUS"}
BONE_AGE_WORDS = {"BONEAGE", "KNOCHENALTER", "SKELETTALTER", "CARPOGRAM", "CARPOGRAMM"}
INJURY_WORDS = {"FRACTURE", "FRAKTUR", "TRAUMA", "INJURY", "FALL", "STURZ"}


def _words(text: str | None) -> set[str]:
    return set(re.findall(r"[^\W\d_]+", (text or "").upper()))


def _refuse_other_objects(film: Film) -> None:
    tags = film.tags
    intent = (tags.presentation_intent or "").upper()
    if tags.sop_class_uid == FOR_PROCESSING_SOP_CLASS or intent == "FOR PROCESSING":
        raise AdmissionRefused(
            "for_processing",
            "(0008,0068) This is the detector's raw image (FOR PROCESSING), not the one meant for reading. "
            "Send the image FOR PRESENTATION.",
        )
    if tags.sop_class_uid not in ADMITTED_SOP_CLASSES:
        kind = next((words for start, words in OTHER_SOP_CLASSES if (tags.sop_class_uid or "").startswith(start)), None)
        found = kind or (f"SOP class {tags.sop_class_uid}" if tags.sop_class_uid else "an object without a SOP class")
        raise AdmissionRefused(
            "not_a_film",
            f"(0008,0016) This is not a radiograph or fundus photograph, but {found}"
            + (f" (modality {tags.modality})." if tags.modality else "."),
        )
    if tags.manufacturer == REPORT_MANUFACTURER:  # a PACS that hands on what it gets
        raise AdmissionRefused(
            "own_report",
            "(0008,0070) This is a page of a report that left from here, not a film: there is nothing to read.",
        )
    if tags.frames > 1:
        raise AdmissionRefused(
            "multi_frame",
            f"(0028,0008) The file holds {tags.frames} images. A read is of one image, and which of them is meant "
            "is not for the workstation to choose: send the one image.",
        )
    if film.is_colour and tags.sop_class_uid in RADIOGRAPH_SOP_CLASSES:
        raise AdmissionRefused(
            "colour_radiograph", "(0028,0002) The file is a radiograph but in colour; a radiograph is grey."
        )


def _refuse_bad_uids(tags: FilmTags) -> None:
    for tag, name, value in (
        ("(0008,0018)", "SOP Instance UID", tags.sop_instance_uid),
        ("(0020,000D)", "Study Instance UID", tags.study_instance_uid),
        ("(0020,000E)", "Series Instance UID", tags.series_instance_uid),
    ):
        if value is None or len(value) > 64 or not UID.fullmatch(value):
            raise AdmissionRefused(
                "bad_uid",
                f"{tag} {name} must be digits and dots, at most 64 characters, found "
                f"{'nothing' if value is None else repr(value[:80])}: the image cannot be told from others.",
            )


def _refuse_size(film: Film) -> None:
    rows, cols = film.pixels.shape[:2]
    if not (MIN_SIDE_PX <= rows <= MAX_SIDE_PX and MIN_SIDE_PX <= cols <= MAX_SIDE_PX):
        raise AdmissionRefused(
            "size",
            f"The image has {rows} x {cols} pixels; each side must have {MIN_SIDE_PX} to {MAX_SIDE_PX} to be read.",
        )


def _image_warnings(film: Film) -> list[str]:
    tags, warnings = film.tags, []
    kinds = set(tags.image_type)
    if kinds & {"DERIVED", "SECONDARY"} or tags.sop_class_uid in SECONDARY_CAPTURE_SOP_CLASSES:
        warnings.append(
            "(0008,0008) This is a copy or a processed image, not the original: contrast and size may have changed."
        )
    if any("ERROR" in kind for kind in kinds):
        warnings.append("(0008,0008) The sending system marked this image as an error.")
    if (tags.burned_in_annotation or "").upper() == "YES":
        warnings.append("(0028,0301) Text is burnt into the image and may name the child: do not export it.")
    if film.source_format == "dicom" and tags.accession_number is None:
        warnings.append("(0008,0050) Accession Number is missing: the film cannot be linked to an order.")
    return warnings


def _patient_warnings(tags: FilmTags) -> list[str]:
    warnings = []
    if tags.patient_sex is None:
        warnings.append(
            "(0010,0040) Patient's Sex is not known: no comparison with a sex-specific standard until it is entered."
        )
    if tags.acquired_on is None:
        warnings.append("(0008,0022) The date of the examination is not known: the age at it cannot be computed.")
    if tags.patient_birth_date is None:
        said = f" The file says {tags.patient_age_text} only." if tags.patient_age_text else ""
        warnings.append(f"(0010,0030) Patient's Birth Date is not known: no age and no z-score.{said}")
        return warnings
    if tags.acquired_on is None:
        return warnings
    months = age_months_at(tags.patient_birth_date, tags.acquired_on)
    if months > MAX_AGE_MONTHS:
        warnings.append(
            f"The patient was {months // 12:.0f} years old at the examination; this workstation reads films of "
            "children up to 19."
        )
    stated = _stated_months(tags.patient_age_text)
    if stated is not None and abs(stated[0] - months) > stated[1]:
        warnings.append(
            f"(0010,1010) Patient's Age {tags.patient_age_text} does not fit the birth date "
            f"({months_words(months)} at the examination): check whose film this is."
        )
    return warnings


def _stated_months(age: str | None) -> tuple[float, float] | None:
    """An AS value in months, and how far it may be from the computed age: a year for Y, else a month."""
    match = re.fullmatch(r"(\d{3})([DWMY])", age or "")
    if match is None:
        return None
    number, unit = int(match.group(1)), match.group(2)
    months_of = {"D": 12 / 365.25, "W": 7 * 12 / 365.25, "M": 1.0, "Y": 12.0}
    return number * months_of[unit], 12.0 if unit == "Y" else 1.0


def _side_warnings(film: Film) -> list[str]:
    side = film.tags.laterality
    if side is None:
        return ["(0020,0062) The side (left or right) is not known: it must be entered by the reader."]
    if side == "R" and guess_task(film) is Task.BONE_AGE:
        return ["This is a right hand: the Greulich-Pyle standard is for the left."]
    return []
