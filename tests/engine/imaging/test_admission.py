"""Who may enter the worklist, in words that help whoever sent the film."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from engine.errors import AdmissionRefused
from engine.findings.answers import Task
from engine.imaging.admission import check, guess_task
from engine.imaging.film import REPORT_MANUFACTURER, Film, FilmTags

GOOD = FilmTags(
    sop_class_uid="1.2.840.10008.5.1.4.1.1.1.1",
    sop_instance_uid="1.2.3.4",
    study_instance_uid="1.2.3",
    series_instance_uid="1.2.3.1",
    accession_number="A1",
    modality="DX",
    patient_id="P1",
    patient_sex="F",
    patient_birth_date=date(2015, 3, 10),
    acquired_on=date(2024, 6, 11),
    laterality="L",
    body_part="HAND",
    image_type=("ORIGINAL", "PRIMARY"),
)
GREY = np.zeros((400, 300), np.uint16)
COLOUR = np.zeros((400, 300, 3), np.uint8)


def film(pixels: np.ndarray = GREY, source_format: str = "dicom", **tags) -> Film:
    return Film(pixels, source_format, tags=replace(GOOD, **tags))


def test_a_complete_film_enters_without_a_word() -> None:
    assert check(film()) == ()


@pytest.mark.parametrize(
    ("tags", "code", "says"),
    [
        ({"sop_class_uid": "1.2.840.10008.5.1.4.1.1.2"}, "not_a_film", "computed tomography"),
        ({"sop_class_uid": "1.2.840.10008.5.1.4.1.1.4"}, "not_a_film", "magnetic resonance"),
        ({"sop_class_uid": "1.2.840.10008.5.1.4.1.1.6.1"}, "not_a_film", "ultrasound"),
        ({"sop_class_uid": "1.2.840.10008.5.1.4.1.1.88.11"}, "not_a_film", "a structured report"),
        ({"sop_class_uid": "9.9.9"}, "not_a_film", "9.9.9"),
        ({"sop_class_uid": None}, "not_a_film", "without a SOP class"),
        ({"sop_class_uid": "1.2.840.10008.5.1.4.1.1.1.1.1"}, "for_processing", "FOR PRESENTATION"),
        ({"presentation_intent": "FOR PROCESSING"}, "for_processing", "(0008,0068)"),
        ({"manufacturer": REPORT_MANUFACTURER}, "own_report", "a report that left from here"),
        ({"frames": 12}, "multi_frame", "12 images"),
        ({"pixels": COLOUR}, "colour_radiograph", "grey"),
        ({"sop_instance_uid": None}, "bad_uid", "(0008,0018)"),
        ({"sop_instance_uid": ".1.2"}, "bad_uid", "'.1.2'"),
        ({"study_instance_uid": "1." * 40 + "1"}, "bad_uid", "64"),
        ({"series_instance_uid": "abc"}, "bad_uid", "(0020,000E)"),
        ({"patient_id": None}, "no_patient_id", "(0010,0020)"),
        ({"patient_birth_date": date(2024, 6, 12)}, "birth_after_study", "after the examination (2024-06-11)"),
        ({"pixels": np.zeros((199, 1000), np.uint16)}, "size", "199 x 1000"),
        ({"pixels": np.zeros((300, 10001), np.uint16)}, "size", "300 x 10001"),
    ],
)
def test_what_may_not_enter(tags: dict, code: str, says: str) -> None:
    with pytest.raises(AdmissionRefused) as refusal:
        check(film(**tags))
    assert refusal.value.code == code
    assert says in str(refusal.value)


@pytest.mark.parametrize(
    ("tags", "says"),
    [
        ({"patient_sex": None}, "Sex is not known"),
        ({"patient_birth_date": None}, "Birth Date is not known"),
        ({"patient_birth_date": None, "patient_age_text": "008Y"}, "008Y only"),
        ({"acquired_on": None}, "date of the examination"),
        ({"laterality": None}, "side (left or right) is not known"),
        ({"laterality": "R"}, "right hand"),
        ({"accession_number": None}, "Accession Number"),
        ({"burned_in_annotation": "YES"}, "burnt into the image"),
        ({"image_type": ("DERIVED", "SECONDARY")}, "not the original"),
        ({"sop_class_uid": "1.2.840.10008.5.1.4.1.1.7"}, "not the original"),
        ({"image_type": ("ORIGINAL", "PRIMARY", "ERROR")}, "marked this image as an error"),
        ({"patient_age_text": "003Y"}, "does not fit the birth date"),
        ({"patient_age_text": "100M"}, "does not fit the birth date"),
        ({"patient_birth_date": date(1980, 1, 1)}, "44 years old"),
    ],
)
def test_what_enters_with_a_warning(tags: dict, says: str) -> None:
    warnings = check(film(**tags))
    assert len([warning for warning in warnings if says in warning]) == 1, warnings


@pytest.mark.parametrize("age", ["009Y", "111M", "481W"])
def test_an_age_that_fits_says_nothing(age: str) -> None:
    assert check(film(patient_age_text=age)) == ()


def test_a_right_wrist_is_nothing_special() -> None:
    assert check(film(laterality="R", body_part="WRIST")) == ()


def test_a_picture_enters_with_what_the_sender_added() -> None:
    tags = FilmTags(patient_id="P1", patient_sex="M", patient_birth_date=date(2015, 1, 1), acquired_on=date(2020, 1, 1))
    warnings = check(Film(COLOUR, "jpeg", tags=replace(tags, laterality="L")))
    assert warnings == ()
    with pytest.raises(AdmissionRefused) as refusal:
        check(Film(COLOUR, "jpeg"))
    assert refusal.value.code == "no_patient_id"


@pytest.mark.parametrize(
    ("tags", "task"),
    [
        ({"body_part": "HAND"}, Task.BONE_AGE),
        ({"body_part": "WRIST"}, Task.FRACTURE),
        ({"body_part": None, "anatomic_region": "Wrist joint"}, Task.FRACTURE),
        ({"body_part": None, "anatomic_region": "Hand"}, Task.BONE_AGE),
        ({"body_part": "WRIST", "study_description": "Bone age, left hand"}, Task.BONE_AGE),
        ({"body_part": "HAND", "study_description": "Knochenalter"}, Task.BONE_AGE),
        ({"body_part": "HAND", "study_description": "Hand trauma"}, None),
        ({"body_part": None, "study_description": "Handgelenk links"}, Task.FRACTURE),
        ({"body_part": "HAND", "anatomic_region": "Wrist"}, None),
        ({"body_part": "CHEST"}, None),
        ({"body_part": "CHEST", "study_description": "hand"}, None),
        ({"body_part": None}, None),
        ({"sop_class_uid": "1.2.840.10008.5.1.4.1.1.77.1.5.1", "modality": "OP", "pixels": COLOUR}, Task.ROP),
        ({"sop_class_uid": "1.2.840.10008.5.1.4.1.1.7", "body_part": "RETINA", "pixels": COLOUR}, Task.ROP),
        ({"sop_class_uid": "1.2.840.10008.5.1.4.1.1.7", "body_part": "HAND", "pixels": COLOUR}, None),
        ({"source_format": "png"}, None),
    ],
)
def test_the_task_is_guessed_from_the_tags_or_left_open(tags: dict, task: Task | None) -> None:
    assert guess_task(film(**tags)) == task
