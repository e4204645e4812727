"""The structured report, judged by dciodvfy, read by dcmtk and by highdicom, kept by Orthanc."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import highdicom as hd
import pydicom
import pytest
from pydicom.sr.codedict import codes as dicom_codes

from engine.findings.answers import Task, bone_age_answer, fracture_answer
from engine.interop import dicom_study, report_text
from engine.interop.documents import documents_of
from engine.interop.signed_study import DocumentKind, Region, SignedStudy
from engine.interop.structured_report import structured_report
from tests.engine.interop import signed
from tests.engine.interop.validators import dciodvfy_errors, dsrdump

SR = DocumentKind.STRUCTURED_REPORT
KINDS = pytest.mark.parametrize("make", signed.EVERY_KIND.values(), ids=signed.EVERY_KIND)


def written(study: SignedStudy, folder: Path, *, with_comments: bool = True) -> Path:
    (document,) = documents_of(study, [SR], with_comments=with_comments)
    path = folder / document.file_name
    path.write_bytes(document.content)
    return path


def groups_of(path: Path) -> list:
    return hd.sr.srread(path).content.get_image_measurement_groups()


def numbers_of(group) -> dict[str, float]:
    return {one.name.meaning: one.value for one in group.get_measurements()}


def evaluations_of(group) -> dict[str, str]:
    return {one.name.meaning: one.value.meaning for one in group.get_qualitative_evaluations()}


@KINDS
def test_it_keeps_to_the_standard(make, tmp_path: Path) -> None:
    assert dciodvfy_errors(written(make(), tmp_path)) == []


def test_a_broken_report_is_caught(tmp_path: Path) -> None:
    path = written(signed.bone_age(), tmp_path)
    data = pydicom.dcmread(path)
    del data.VerifyingObserverSequence[0].VerifyingOrganization
    data.CompletionFlag = "DONE"
    data.save_as(path)
    errors = dciodvfy_errors(path)
    assert any("CompletionFlag" in one or "Completion Flag" in one for one in errors)
    assert any("Organization" in one for one in errors)


@KINDS
def test_the_same_study_gives_the_same_bytes(make, tmp_path: Path) -> None:
    assert documents_of(make(), [SR]) == documents_of(make(), [SR])


def test_bone_age_with_all_its_numbers(tmp_path: Path) -> None:
    path = written(signed.bone_age(), tmp_path)
    text = dsrdump(path)
    for said in (
        '"XR Bone age")="114.0" (mo,UCUM,"month")',
        '"Subject Age")="111.94" (mo,UCUM,"month")',
        '"Standard deviation of population")="9.79"',
        '"Z-Score of measurement")="0.21"',
        '(85562004,SCT,"Hand")',
        '(7771000,SCT,"Left")',
        '(GP,99PEDXR,"Greulich and Pyle, 2nd edition")',
        '"by the atlas"',
        "9 y 6 m (114 months)",
        "Greulich-Pyle 1959, Tables V and VI",
        f"{signed.PHANTOM_MODEL} read 9 y 6 m (114 months): confirmed by the reader",
        "Verification Flag   : VERIFIED",
        "2026-03-04 09:30:15 +00:00, Anna Reader^, Children's Hospital",
    ):
        assert said in text, said
    (group,) = groups_of(path)
    assert numbers_of(group) == {
        "XR Bone age": 114.0,
        "Subject Age": 111.94,
        "Standard deviation of population": 9.79,
        "Z-Score of measurement": 0.21,
    }
    # the numbers follow from each other: (114 - 111.94) / 9.79
    assert round((114 - 111.94) / 9.79, 2) == 0.21


@pytest.mark.parametrize("missing", [{"age_months": None}, {"patient": replace(signed.PATIENT, sex=None)}])
def test_what_is_not_known_of_the_child_is_not_calculated(missing: dict, tmp_path: Path) -> None:
    path = written(signed.bone_age(**missing), tmp_path)
    numbers = numbers_of(groups_of(path)[0])
    assert numbers["XR Bone age"] == 114.0 and "Z-Score of measurement" not in numbers
    assert "none: the child's" in dsrdump(path)


def test_a_bone_age_of_zero_is_a_finding(tmp_path: Path) -> None:
    assert numbers_of(groups_of(written(signed.bone_age(0), tmp_path))[0])["XR Bone age"] == 0.0


def test_each_eye_has_its_group(tmp_path: Path) -> None:
    right, left = groups_of(written(signed.both_eyes(), tmp_path))
    assert right.finding_sites[0].laterality == dicom_codes.SCT.Right
    assert right.finding_type.value == "408849009"
    assert evaluations_of(right) == {
        "ROP zone (ICROP3)": "Zone I",
        "ROP stage (ICROP3)": "Stage 3",
        "ROP plus disease (ICROP3)": "Plus disease",
        "Aggressive ROP (A-ROP)": "Yes",
        "Treatment the eye has had": "Laser",
    }
    assert left.finding_sites[0].laterality == dicom_codes.SCT.Left and left.finding_type is None
    assert evaluations_of(left)["ROP stage (ICROP3)"] == "Stage 0"
    assert right.source_images[0].referenced_sop_instance_uid != left.source_images[0].referenced_sop_instance_uid


def test_a_fracture_with_the_region_that_the_reader_marked(tmp_path: Path) -> None:
    path = written(signed.fracture(), tmp_path)
    (group,) = groups_of(path)
    assert group.finding_type.value == "263199001"
    assert evaluations_of(group)["Displaced"] == "No" and evaluations_of(group)["Film quality"] == "Limited"
    (region,) = hd.sr.srread(path).content.get_planar_roi_measurement_groups()
    assert region.roi.value.tolist() == [[400, 600], [520, 600], [520, 700], [400, 700], [400, 600]]
    assert region.finding_type.value == "263199001"


def test_a_region_is_said_in_the_pixels_of_the_file(tmp_path: Path) -> None:
    """The film of a file with oblong pixels was resampled, and the reader marked the film."""
    study = signed.fracture()
    source = replace(study.images[0].source, rows=640)  # type: ignore[type-var]
    resampled = replace(study.images[0], source=source, regions=(Region(0, 0, 1024, 1280), Region(10, 20, 30, 40)))
    path = written(replace(study, images=(resampled,)), tmp_path)
    whole, part = hd.sr.srread(path).content.get_planar_roi_measurement_groups()
    assert whole.roi.value.max(axis=0).tolist() == [1024, 640]
    assert part.roi.value.tolist()[0] == [10, 10] and part.roi.value.tolist()[2] == [30, 20]


def test_no_fracture_is_said_and_has_no_finding(tmp_path: Path) -> None:
    study = signed.study_of(Task.FRACTURE, signed.image_of(fracture_answer("normal")))
    (group,) = groups_of(written(study, tmp_path))
    assert group.finding_type is None
    assert evaluations_of(group) == {"Fracture of the distal forearm": "No fracture seen"}


@pytest.mark.parametrize("make", [signed.rejected, signed.one_eye_rejected])
def test_what_was_not_assessed_is_never_normal(make, tmp_path: Path) -> None:
    path = written(make(), tmp_path)
    group = groups_of(path)[-1]
    assert group.get_measurements() == [] and group.finding_type is None
    said = evaluations_of(group)
    assert said.pop("Assessability of the image") == "Not assessable"
    assert list(said) == ["Why the image was not assessed"]
    text = dsrdump(path)
    assert "not assessable: " in text
    assert "No fracture seen" not in text and "Stage 0" not in text


def test_a_correction_names_what_it_replaces(tmp_path: Path) -> None:
    first, second = signed.bone_age(), signed.corrected()
    before, after = pydicom.dcmread(written(first, tmp_path)), pydicom.dcmread(written(second, tmp_path))
    assert "PredecessorDocumentsSequence" not in before
    (study,) = after.PredecessorDocumentsSequence
    (series,) = study.ReferencedSeriesSequence
    (named,) = series.ReferencedSOPSequence
    assert study.StudyInstanceUID == before.StudyInstanceUID == after.StudyInstanceUID
    assert (series.SeriesInstanceUID, named.ReferencedSOPInstanceUID) == (
        before.SeriesInstanceUID, before.SOPInstanceUID,
    )  # fmt: skip
    assert after.SOPInstanceUID != before.SOPInstanceUID and "version 2" in after.SeriesDescription
    assert numbers_of(groups_of(written(second, tmp_path))[0])["XR Bone age"] == 120.0


def test_a_withdrawal_says_nothing_of_the_image(tmp_path: Path) -> None:
    path = written(signed.withdrawn(), tmp_path)
    (group,) = groups_of(path)
    assert group.get_measurements() == [] and evaluations_of(group) == {"Status of the report": "Report withdrawn"}
    assert pydicom.dcmread(path).PredecessorDocumentsSequence


def test_person_and_device_are_observers(tmp_path: Path) -> None:
    report = hd.sr.srread(written(signed.unusual_names(), tmp_path))
    (person,) = report.content.get_observer_contexts(observer_type=dicom_codes.DCM.Person)
    (device,) = report.content.get_observer_contexts(observer_type=dicom_codes.DCM.Device)
    assert "Łucja Żółć-O'Neill" in str(person.observer_identifying_attributes.name)
    assert device.observer_identifying_attributes.model_name == signed.PHANTOM_MODEL
    verifiers = [str(one.VerifyingObserverName) for one in report.VerifyingObserverSequence]
    assert verifiers == ["Łucja Żółć-O'Neill      山田^", "Ærø <script>^"]
    assert str(report.PatientName) == "Yamada^Tarou=山田^太郎=やまだ^たろう"


def test_what_a_phantom_made_says_so(tmp_path: Path) -> None:
    path = written(signed.phantom(), tmp_path)
    text = dsrdump(path)
    assert '"Not for diagnostic use")="Phantom: not for diagnostic use"' in text
    assert "(phantom model, not for diagnostic use)" in text
    assert "not for diagnostic use" in pydicom.dcmread(path).SeriesDescription
    assert "not for diagnostic use" not in dsrdump(written(signed.both_eyes(), tmp_path))


def test_comments_leave_only_where_they_are_asked_for(tmp_path: Path) -> None:
    study = signed.study_of(Task.BONE_AGE, signed.image_of(bone_age_answer(90), comment="Jane's brother\nhad the same"))
    assert "Jane" not in dsrdump(written(study, tmp_path, with_comments=False))
    assert "Jane" in dsrdump(written(study, tmp_path, with_comments=True))


def test_the_child_is_named_in_the_patient_module_alone(tmp_path: Path) -> None:
    """Planted names, numbers and dates: whatever else the file holds, they stand where the study's images have them."""
    data = structured_report(signed.fracture(), with_comments=False)
    for keyword in ("PatientName", "PatientID", "PatientBirthDate", "AccessionNumber"):
        assert data.get(keyword), keyword
        delattr(data, keyword)
    rest = dicom_study.file_bytes(data)
    for planted in (signed.NAME, "Quixotesson", signed.PATIENT_ID, signed.ACCESSION, "20161105", "774411"):
        assert planted.encode() not in rest
    (document,) = documents_of(signed.fracture(), [SR])
    assert document.file_name == "study-12-v1-structured-report.dcm"


def test_times_are_in_the_zone_of_the_source_image() -> None:
    study = signed.bone_age()
    study = replace(study, examination=replace(study.examination, timezone_offset="+0530"))
    data = structured_report(study, with_comments=False)
    assert (str(data.ContentDate), str(data.ContentTime)) == ("20260304", "150015")
    assert data.TimezoneOffsetFromUTC == "+0530"
    assert str(data.VerifyingObserverSequence[0].VerificationDateTime) == "20260304150015+0530"
    assert dicom_study.signed_at(study) == datetime(2026, 3, 4, 9, 30, 15, tzinfo=UTC)


def test_words_of_a_conclusion() -> None:
    assert report_text.conclusion(signed.one_eye_rejected()) == (
        "Right eye: zone II, stage 2, pre-plus.\nLeft eye: not assessable: poor quality."
    )
