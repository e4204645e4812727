"""What label files and class folders say, and what they may not say."""

import json
from pathlib import Path

import pytest

from engine.findings.answers import Fracture, Task, bone_age_answer, fracture_answer, rop_answer
from training.label_columns import Choices
from training.raw_files import find_files, match
from training.raw_labels import LabelsRefused, read_labels

GRAZ_HEADER = (
    "filestem,patient_id,study_number,timehash,gender,age,laterality,projection,initial_exam,ao_classification,cast,"
    "diagnosis_uncertain,osteopenia,fracture_visible,metal,pixel_spacing,device_manufacturer\n"
)


def file(path: Path, content: str | bytes = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(raw: Path, choices: Choices = Choices(), named: list[Path] = []):  # noqa: B006, B008 - never changed
    tree = find_files(raw)
    found = read_labels(tree.label_files, named, raw, choices)
    cases, left_out = match(tree, found.labels, raw, choices)
    return {case.path.relative_to(raw).as_posix(): case.label for case in cases}, left_out, found


@pytest.mark.parametrize(
    ("text", "months", "sex"),
    [
        ("id,boneage,male\n1377,180,False\n", 180, "F"),
        ("Image ID,male,Bone Age (months)\n1377,TRUE,12\n", 12, "M"),
        ("Case ID,Sex,Ground truth bone age (months)\n1377,M,116.63\n", 117, "M"),
        ("\ufeffid;boneage;male\n1377;0;1\n", 0, "M"),
        ("id\tboneage\tmale\n1377\t228\t0\n", 228, "F"),
    ],
)
def test_each_file_of_the_rsna_challenge(tmp_path: Path, text: str, months: int, sex: str) -> None:
    file(tmp_path / "boneage-training-dataset" / "1377.png")
    file(tmp_path / "boneage-training-dataset.csv", text)
    labels, left_out, _ = read(tmp_path)
    label = labels["boneage-training-dataset/1377.png"]
    assert label.answer == bone_age_answer(months) and label.sex == sex and not left_out
    assert label.dataset == label.site == "rsna_bone_age" and label.patient is label.age_months is None


@pytest.mark.parametrize(
    ("ao", "flags", "expected"),
    [
        ("", "", "normal"),
        ("", "cast", "treated"),
        ("", "metal", "treated"),
        ("", "visible", "no AO code"),
        ("23r-M/3.1", "visible", "distal_radius"),
        ("23-M/3.1", "visible", "distal_radius"),
        ("23r-E/2.1; 23u-E/7", "visible", "distal_radius"),
        ("23r-M/3.1;23u-M/2.1", "visible cast", "distal_radius"),
        ("23r-M/3.1", "", "not set for this image"),
        ("23r-M/3.1", "visible uncertain", "not sure"),
        ("23r-M/2.1", "visible", "buckle or a greenstick"),
        ("23r-M/2.1;22u-D/4.1", "visible", "another fracture"),
        ("22r-D/2.1", "visible", "no fracture of the distal radius"),
        ("23u-M/2.1", "visible", "no fracture of the distal radius"),
        ("72B(b)", "visible", "no fracture of the distal radius"),
    ],
)
def test_graz_codes(tmp_path: Path, ao: str, flags: str, expected: str) -> None:
    stem = "0001_1297860395_01_WRI-L1_M014"
    file(tmp_path / "images_part1" / f"{stem}.png")
    cast, uncertain, visible, metal = (
        ("1" if name in flags else "") for name in ("cast", "uncertain", "visible", "metal")
    )
    row = f"{stem},1,1,1297860395,M,14.1,L,1,1,{ao},{cast},{uncertain},,{visible},{metal},0.144,Siemens\n"
    file(tmp_path / "dataset.csv", GRAZ_HEADER + row)
    labels, left_out, _ = read(tmp_path)
    if expected in list(Fracture):
        (label,) = labels.values()
        assert label.answer == fracture_answer(expected)
        assert (label.patient, label.sex, label.age_months, label.laterality) == ("1", "M", 169.2, "L")
    else:
        assert not labels and left_out[0].code == "unclear_label" and expected in left_out[0].reason
    if expected.startswith("buckle or"):
        labels, _, _ = read(tmp_path, Choices(graz_incomplete_as=Fracture.BUCKLE))
        assert [label.answer for label in labels.values()] == [fracture_answer("buckle")]


def test_columns_of_ones_own_and_json(tmp_path: Path) -> None:
    for name in ("a.dcm", "sub/b.png", "1.2.840.5"):
        file(tmp_path / name, b"\0" * 128 + b"DICM")
    file(tmp_path / "mine.csv", "Bild,Alter,Geschlecht,Kind,Jahre\na,126,F,K1,9.5\n")
    choices = Choices(
        columns=dict(file="Bild", bone_age_months="Alter", sex="Geschlecht", patient="Kind", age_years="Jahre")
    )
    record = {"image_path": "sub/b.png", "zone": "ii", "stage": 2, "plus_disease": "pre-plus", "laterality": "od"}
    file(tmp_path / "eyes.json", json.dumps([record]))
    file(tmp_path / "more.json", json.dumps({"1.2.840.5": {"task": "fracture", "fracture": "Buckle", "site": "X"}}))
    labels, left_out, _ = read(tmp_path, choices)
    assert not left_out
    assert labels["a.dcm"].answer == bone_age_answer(126)
    assert (labels["a.dcm"].sex, labels["a.dcm"].age_months, labels["a.dcm"].patient) == ("F", 114.0, "K1")
    assert labels["sub/b.png"].answer == rop_answer("II", "2", "preplus") and labels["sub/b.png"].laterality == "R"
    assert labels["1.2.840.5"].answer == fracture_answer("buckle") and labels["1.2.840.5"].site == "X"


def test_class_folders(tmp_path: Path) -> None:
    for name in (
        "fractures/distal_radius/a.png",
        "x/buckle/b.png",
        "x/normal/c.png",
        "rop_screening/zone_ii_stage1_preplus/d.png",
        "rop_screening/zone_i_stage2/e.png",
        "rop_screening/normal_pupil/f.png",
        "rop_screening/normal/g.png",  # a task's folder above it: no class of ROP
        "other/h.png",
    ):
        file(tmp_path / name)
    labels, left_out, _ = read(tmp_path)
    assert {name: label.answer for name, label in labels.items()} == {
        "fractures/distal_radius/a.png": fracture_answer("distal_radius"),
        "x/buckle/b.png": fracture_answer("buckle"),
        "x/normal/c.png": fracture_answer("normal"),
        "rop_screening/zone_ii_stage1_preplus/d.png": rop_answer("II", "1", "preplus"),
        "rop_screening/normal_pupil/f.png": rop_answer("none", "0", "none"),
    }
    assert {one.file: one.code for one in left_out} == {
        "rop_screening/zone_i_stage2/e.png": "unclear_label",
        "rop_screening/normal/g.png": "no_label",
        "other/h.png": "no_label",
    }
    labels, _, _ = read(tmp_path, Choices(plus_where_unsaid="none"))
    assert labels["rop_screening/zone_i_stage2/e.png"].answer == rop_answer("I", "2", "none")


def test_labels_and_images_that_find_no_partner(tmp_path: Path) -> None:
    for name in ("one/1.png", "two/1.png", "2.png", "3.png", "4.png"):
        file(tmp_path / name)
    file(tmp_path / "a.csv", "id,boneage,male\n1,100,True\n2,100,True\n3,100,True\n9,100,True\n../4.png,100,True\n")
    file(tmp_path / "b.csv", "id,boneage,male\n2,101,True\n3,100,True\n")
    labels, left_out, _ = read(tmp_path)
    assert list(labels) == ["3.png"]
    codes = {(one.file or one.label): one.code for one in left_out}
    assert codes == {
        "a.csv, line 2": "ambiguous_name",
        "a.csv, line 5": "label_without_file",
        "a.csv, line 6": "label_without_file",
        "2.png": "conflicting_labels",
        "one/1.png": "no_label",
        "two/1.png": "no_label",
        "4.png": "no_label",
    }


def test_an_image_beside_its_label_file_is_preferred(tmp_path: Path) -> None:
    for folder, months in (("one", 10), ("two", 20)):
        file(tmp_path / folder / "images" / "7.png")
        file(tmp_path / folder / "labels.csv", f"id,boneage,male\n7,{months},True\n")
    labels, left_out, _ = read(tmp_path)
    assert {name: label.answer["bone_age_months"] for name, label in labels.items()} == {
        "one/images/7.png": 10,
        "two/images/7.png": 20,
    }
    assert not left_out


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.csv", "id,boneage,male\n1,100,True\n1,240,True\n2,x,True\n", "a.csv, line 3, boneage"),
        ("a.csv", "id,boneage,male\n1,100,maybe\n", "line 2, male: must be 1, 0 or empty, found 'maybe'"),
        ("a.csv", "file,fracture\n1,greenstick\n", "line 2, fracture"),
        ("a.csv", "file,task,fracture\n1,hand,buckle\n", "task: must be one of bone_age, rop, fracture, found 'hand'"),
        ("a.csv", "file,zone,stage,plus_disease\n1,none,2,none\n", "line 2"),
        ("a.csv", "file,fracture,age_years\n1,buckle,84\n", "line 2, age_years"),
        ("a.csv", "file,fracture,laterality\n1,buckle,up\n", "laterality: must be L or R, found 'up'"),
        ("a.csv", "file,fracture\n1,buckle,3\n", "line 2: more cells than the header"),
        ("a.csv", 'file,fracture\n1,"buckle\n', "not CSV (unexpected end of data)"),
        ("a.csv", b"file,fracture\n\xff,buckle\n", "a.csv is not UTF-8 text (byte 14)"),
        ("a.json", '[{"file": "1", "fracture": 7}]', "record 0, fracture"),
        ("a.json", "[{", "a.json is not JSON"),
    ],
)
def test_values_that_cannot_be_true_refuse_the_run_in_one_line(tmp_path: Path, name, text, says) -> None:
    file(tmp_path / name, text)
    with pytest.raises(LabelsRefused) as refused:
        read(tmp_path)
    assert says in str(refused.value) and "\n" not in str(refused.value)


def test_a_file_that_is_no_label_file_is_mentioned_unless_the_user_named_it(tmp_path: Path) -> None:
    file(tmp_path / "1.png")
    other = file(tmp_path / "other.csv", "Name,Value\n1,2\n")
    _, _, found = read(tmp_path)
    assert found.not_labels == {"other.csv": "has the columns Name, Value"}
    with pytest.raises(LabelsRefused, match="other.csv has the columns Name, Value; --columns says"):
        read(tmp_path, named=[other])


def test_task_where_the_columns_leave_it_open(tmp_path: Path) -> None:
    file(tmp_path / "1.png")
    file(tmp_path / "a.csv", "file,fracture,bone_age_months\n1,buckle,100\n")
    with pytest.raises(LabelsRefused, match="answers bone_age and fracture: give --task"):
        read(tmp_path)
    labels, _, _ = read(tmp_path, Choices(task=Task.FRACTURE))
    assert labels["1.png"].answer == fracture_answer("buckle")
