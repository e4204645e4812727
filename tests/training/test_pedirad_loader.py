import json
from pathlib import Path
from typing import Any

import pytest

from engine.findings.answers import Task, bone_age_answer, fracture_answer, rop_answer
from training import pedirad_loader
from training.pedirad_loader import BadAnnotations, class_label, load_split, load_usable

HAND = {"task": "bone_age", "bone_age_months": 126, "sex": "F", "age_months": 120.5}
EYE = {"task": "rop", "zone": "II", "stage": "2", "plus_disease": "none"}
WRIST = {"task": "fracture", "fracture": "buckle"}


def image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"an image")
    return path


def annotations(file: Path, *records: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(list(records)))
    return file


@pytest.mark.parametrize(
    "file",
    [
        "bone_age/train_annotations.json",
        "bone_age/annotations/train_annotations.json",
        "annotations/bone_age/train_annotations.json",
        "annotations/train_annotations.json",
    ],
)
@pytest.mark.parametrize(
    ("place", "names"),
    [
        ("bone_age/train/a.png", {"image_path": "train/a.png"}),
        ("bone_age/train/a.png", {"image_path": "a.png"}),
        ("bone_age/train/a.png", {"image_id": "a"}),
        ("bone_age/train/12.jpg", {"image_id": 12}),
        ("bone_age/train/a.png", {"image_path": "bone_age/train/a.png"}),
        ("images/a.png", {"image_id": "a"}),
    ],
)
def test_both_layouts(tmp_path: Path, file: str, place: str, names: dict) -> None:
    path = image(tmp_path / place)
    annotations(tmp_path / file, {**HAND, **names, "site": "A"})
    (loaded,) = load_split(tmp_path, "train")
    assert loaded.path == path and loaded.split == "train"
    assert loaded.annotation.answer == bone_age_answer(126)
    assert (loaded.annotation.sex, loaded.annotation.age_months) == ("F", 120.5)
    assert loaded.annotation.provenance["site"] == "A"


def test_a_mixed_file_of_all_tasks(tmp_path: Path) -> None:
    for name in "abc":
        image(tmp_path / "images" / f"{name}.png")
    records = [{**label, "image_id": name} for name, label in zip("abc", (HAND, EYE, WRIST), strict=True)]
    annotations(tmp_path / "annotations" / "val_annotations.json", *records)
    answers = [loaded.annotation.answer for loaded in load_split(tmp_path, "val")]
    assert answers == [bone_age_answer(126), rop_answer("II", "2", "none"), fracture_answer("buckle")]
    assert [loaded.annotation.task for loaded in load_split(tmp_path, "val", [Task.ROP])] == [Task.ROP]


def test_class_folders_name_what_a_record_leaves_out(tmp_path: Path) -> None:
    image(tmp_path / "rop_screening/train/zone_i_stage2/a.png")
    image(tmp_path / "rop_screening/train/normal_pupil/b.png")
    annotations(
        tmp_path / "rop_screening/train_annotations.json",
        {"image_path": "train/zone_i_stage2/a.png", "plus_disease": "plus"},
        {"image_id": "b"},
    )
    answers = [loaded.annotation.answer for loaded in load_split(tmp_path, "train")]
    assert answers == [rop_answer("I", "2", "plus"), rop_answer("none", "0", "none")]


def test_class_folders_without_any_file(tmp_path: Path) -> None:
    for name in ("distal_radius", "buckle", "normal", "unsorted"):
        image(tmp_path / "fractures/test" / name / "a.png")
    loaded = load_split(tmp_path, "test")
    assert sorted(item.annotation.answer["fracture"] for item in loaded) == ["buckle", "distal_radius", "normal"]


def test_a_class_folder_that_leaves_plus_open_is_not_completed_by_a_guess(tmp_path: Path) -> None:
    image(tmp_path / "rop_screening/train/zone_ii_stage1/a.png")
    with pytest.raises(BadAnnotations, match="field plus_disease: missing; the folder zone_ii_stage1 says only zone"):
        load_split(tmp_path, "train")


@pytest.mark.parametrize(
    ("task", "folder", "label"),
    [
        (Task.ROP, "zone_iii_stage0", {"zone": "III", "stage": "0"}),
        (Task.ROP, "Zone-II-Stage3-plus", {"zone": "II", "stage": "3", "plus_disease": "plus"}),
        (Task.ROP, "zone_ii_stage_3_no_plus", {"zone": "II", "stage": "3", "plus_disease": "none"}),
        (Task.ROP, "zone_iv_stage1", {}),
        (Task.FRACTURE, "buckle", {"fracture": "buckle"}),
        (Task.BONE_AGE, "buckle", {}),
    ],
)
def test_class_names(task: Task, folder: str, label: dict) -> None:
    assert class_label(task, folder) == label


@pytest.mark.parametrize(
    ("record", "field", "message"),
    [
        ({**HAND, "bone_age_months": 229}, "bone_age_months", "not an allowed"),
        ({**HAND, "bone_age_months": 12.5}, "bone_age_months", "whole number"),
        ({**HAND, "bone_age_months": True}, "bone_age_months", "whole number"),
        ({**HAND, "bone_age_months": "126"}, "bone_age_months", "whole number"),
        ({"task": "bone_age"}, "bone_age_months", "missing"),
        ({**HAND, "sex": "O"}, "sex", "M, F or null"),
        ({**HAND, "sex": 1}, "sex", "M, F or null"),
        ({**HAND, "age_months": -1}, "age_months", "number of months"),
        ({**HAND, "age_months": "12"}, "age_months", "number of months"),
        ({**HAND, "task": "chest"}, "task", "must be one of"),
        ({**EYE}, "task", "is rop, but the file is for bone_age"),
        ({**HAND, "image_path": "train/missing.png"}, "image_path", "no image"),
        ({**HAND, "image_path": "../../secret.png"}, "image_path", "out of the data folder"),
        ({**HAND, "image_path": "/etc/hostname"}, "image_path", "out of the data folder"),
        ({**HAND, "image_path": 5}, "image_path", "missing"),
        ({**HAND, "image_path": None}, "image_path", "missing"),
        (["not", "a", "record"], "-", "must be an object"),
    ],
)
def test_a_bad_record_is_named(tmp_path: Path, record: Any, field: str, message: str) -> None:
    data = tmp_path / "data"
    image(data / "bone_age/train/a.png")
    image(data / "bone_age/train/b.png")
    if isinstance(record, dict):
        record = {"image_path": "train/b.png", **record}
    file = annotations(data / "bone_age/train_annotations.json", {**HAND, "image_path": "train/a.png"}, record)
    loaded = load_usable(data, "train")
    assert len(loaded.images) == 1
    (problem,) = loaded.problems
    assert (problem.file, problem.index, problem.field) == (file, 1, field) and message in problem.message
    with pytest.raises(BadAnnotations, match=f"record 1, field {field}"):
        load_split(data, "train")


@pytest.mark.parametrize(
    ("label", "field"),
    [
        ({"zone": "IV", "stage": "1", "plus_disease": "none"}, "zone"),
        ({"zone": "I", "stage": "6", "plus_disease": "none"}, "stage"),
        ({"zone": "I", "stage": "1", "plus_disease": "severe"}, "plus_disease"),
        ({"zone": "none", "stage": "1", "plus_disease": "none"}, "plus_disease"),
        ({"zone": "I", "stage": 1.5, "plus_disease": "none"}, "stage"),
    ],
)
def test_a_bad_eye(tmp_path: Path, label: dict, field: str) -> None:
    image(tmp_path / "rop_screening/train/a.png")
    annotations(tmp_path / "rop_screening/train_annotations.json", {"image_id": "a", **label})
    (problem,) = load_usable(tmp_path, "train").problems
    assert problem.field == field


@pytest.mark.parametrize(
    "said", [{"zone": 2, "stage": 2, "plus_disease": "none"}, {"zone": "ii", "stage": "2", "plus_disease": "None"}]
)
def test_other_spellings_of_the_same_label(tmp_path: Path, said: dict) -> None:
    image(tmp_path / "rop_screening/train/a.png")
    annotations(tmp_path / "rop_screening/train_annotations.json", {"image_id": "a", **said})
    (loaded,) = load_split(tmp_path, "train")
    assert loaded.annotation.answer == rop_answer("II", "2", "none")


def test_a_record_against_its_class_folder(tmp_path: Path) -> None:
    image(tmp_path / "fractures/train/buckle/a.png")
    annotations(tmp_path / "fractures/train_annotations.json", {"image_id": "a", "fracture": "normal"})
    (problem,) = load_usable(tmp_path, "train").problems
    assert problem.field == "fracture" and "class folder buckle" in problem.message


def test_an_image_twice(tmp_path: Path) -> None:
    image(tmp_path / "fractures/train/a.png")
    annotations(tmp_path / "fractures/train_annotations.json", *[{**WRIST, "image_id": "a"}] * 2)
    (problem,) = load_usable(tmp_path, "train").problems
    assert problem.index == 1 and "already" in problem.message


@pytest.mark.parametrize("content", ["", "{", '{"a": 1}', "\xff"])
def test_a_file_that_is_no_list_of_records(tmp_path: Path, content: str) -> None:
    file = tmp_path / "fractures" / "train_annotations.json"
    file.parent.mkdir()
    file.write_bytes(content.encode("latin-1"))
    (problem,) = load_usable(tmp_path, "train").problems
    assert problem.file == file and problem.index is None


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(BadAnnotations, match="no train_annotations.json"):
        load_split(tmp_path, "train")
    with pytest.raises(BadAnnotations, match="must be one of"):
        load_split(tmp_path, "trian")


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image(tmp_path / "fractures/train/a.png")
    for split in ("val", "test"):
        annotations(tmp_path / f"fractures/{split}_annotations.json")
    annotations(tmp_path / "fractures/train_annotations.json", {**WRIST, "image_id": "a"}, {"image_id": "b"})
    assert pedirad_loader.main(tmp_path) == 1
    said = capsys.readouterr()
    assert "train: 1 fracture" in said.out and "record 1, field image_id: there is no image 'b'" in said.err
