"""A raw tree as people have it, prepared as its user would: every file accounted for, nothing on two sides."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple
from itertools import combinations
from pathlib import Path

import numpy as np
import psutil
import pydicom
import pytest
from PIL import Image

from engine.imaging.display import display_pixels
from engine.imaging.load import load_film
from engine.imaging.preprocess import model_image
from engine.phantoms.write import make_phantoms
from engine.settings import PROJECT_DIR
from training import prepare_pedirad_dataset
from training.pedirad_loader import load_split
from training.prepare_pedirad_dataset import PrepareConfig, main
from training.raw_films import Journal

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
SPLITS = ("train", "val", "test")


def table(path: Path, *rows) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)


def prepare(raw: Path, out: Path, **settings) -> int:
    return main(PrepareConfig(raw, out, **{"workers": 2, **settings}))


def shown(path: Path) -> np.ndarray:
    """What the model is given of a file."""
    return np.asarray(model_image(display_pixels(load_film(path))))


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


Made = namedtuple("Made", "raw out child expected_out")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Made:
    """`child`: raw file -> who it truly is of; `expected_out`: raw file -> code of those that must be left out."""
    place = tmp_path_factory.mktemp("prepare")
    raw, child, out_of = place / "raw_xrays", {}, {}

    hands = make_phantoms(raw / "rsna" / "images", "hand", 8, 21, format="png")
    rows = []
    for number, hand in enumerate(hands):
        path = hand.path.rename(hand.path.with_name(f"{1377 + number}.png"))
        rows.append((path.stem, hand.answer["bone_age_months"], hand.sex == "M"))
        child[path] = f"hand {number}"
    table(raw / "rsna" / "boneage-training-dataset.csv", ("id", "boneage", "male"), *rows)
    Image.open(raw / "rsna/images/1377.png").resize((600, 760)).save(raw / "rsna/images/9001.jpg", quality=40)
    copy, twin = raw / "rsna/images/9001.jpg", raw / "rsna/images/9002.png"
    shutil.copy(raw / "rsna/images/1378.png", twin)
    quarrel = [shutil.copy(raw / "rsna/images/1379.png", raw / f"rsna/images/900{n}.png") for n in (3, 4)]
    (cut := raw / "rsna/images/9005.png").write_bytes((raw / "rsna/images/1380.png").read_bytes()[:20_000])
    (unlabelled := raw / "rsna/images/9006.png").write_bytes((raw / "rsna/images/1381.png").read_bytes())
    child |= {copy: "hand 0", twin: "hand 1"}
    table(
        raw / "rsna" / "more.csv",
        ("id", "boneage", "male"),
        (9001, rows[0][1], rows[0][2]),
        (9002, rows[1][1], rows[1][2]),
        (9003, (rows[2][1] + 24) % 200, rows[2][2]),
        (9004, rows[2][1], rows[2][2]),
        (9005, 100, True),
        (9999, 100, True),
    )
    out_of |= {twin: "same_image", cut: "truncated", unlabelled: "no_label"}
    out_of |= dict.fromkeys([raw / "rsna/images/1379.png", *map(Path, quarrel)], "same_image_other_label")

    wrists = make_phantoms(raw / "hospital" / "films", "wrist", 10, 22)
    rows = [("file", "task", "fracture", "sex", "age_months", "patient")]
    for number, wrist in enumerate(wrists):
        patient = f"Meier-{number // 2}"  # two films a child, whatever their tags say
        rows.append((f"films/{wrist.path.name}", "fracture", wrist.answer["fracture"], "", "", patient))
        child[wrist.path] = patient
    bare = pydicom.dcmread(wrists[-1].path)  # de-identified by taking everything out
    for keyword in ("PatientID", "PatientName", "PatientBirthDate", "AccessionNumber", "StudyInstanceUID"):
        delattr(bare, keyword)
    bare.save_as(wrists[-1].path)
    wrong = make_phantoms(raw / "hospital" / "films", "hand", 3, 23)
    rows.append((f"films/{wrong[0].path.name}", "fracture", "buckle", "", "", "Huber-1"))
    rows.append((f"films/{wrong[1].path.name}", "", "", "", "", "Huber-2"))
    rows.append((f"films/{wrong[2].path.name}", "fracture", "normal", "", "", "Huber-3"))
    text = pydicom.dcmread(wrong[2].path)
    text.BurnedInAnnotation = "YES"
    text.save_as(wrong[2].path)
    out_of |= {wrong[0].path: "contradicting_task", wrong[1].path: "no_label", wrong[2].path: "burned_in_annotation"}
    other_sex = make_phantoms(raw / "hospital" / "films", "wrist", 1, 24)[0]
    other = "F" if other_sex.sex == "M" else "M"
    rows.append((f"films/{other_sex.path.name}", "fracture", other_sex.answer["fracture"], other, "", ""))
    out_of[other_sex.path] = "contradicting_sex"
    (raw / "hospital" / "labels.csv").write_text("\n".join(";".join(row) for row in rows))

    eyes = make_phantoms(raw / "rop_screening" / "zone_ii_stage2", "fundus", 6, 25, format="png")
    for number, eye in enumerate(eyes):
        path = eye.path.rename(eye.path.with_name(f"infant{number // 2}_{'OD' if number % 2 else 'OS'}.png"))
        child[path] = f"infant {number // 2}"
    colour = raw / "fractures" / "normal" / "eye.png"
    colour.parent.mkdir(parents=True)
    shutil.copy(eyes[0].path.with_name("infant0_OS.png"), colour)
    out_of[colour] = "contradicting_task"
    (raw / "README.txt").write_text("about these data")

    out = place / "pedirad-8k"
    assert prepare(raw, out, stratified_split=True, plus_where_unsaid="none") == 0
    return Made(raw, out, child, out_of)


def records(out: Path) -> list[tuple[str, dict]]:
    return [
        (split, record)
        for split in SPLITS
        for record in json.loads((out / "annotations" / f"{split}_annotations.json").read_text())
    ]


@pytest.fixture(scope="module")
def kept(made: Made) -> dict[Path, tuple[str, dict]]:
    """Raw file -> (split, record), found by what the model is shown, not by what preparing says."""
    by_pixels = {shown(made.out / r["image_path"]).tobytes(): (split, r) for split, r in records(made.out)}
    found = {path: by_pixels[shown(path).tobytes()] for path in made.child if path not in made.expected_out}
    assert len(found) == len(by_pixels) == 8 - 1 + 1 + 10 + 6
    return found


def test_the_loader_reads_it_back(made: Made, kept) -> None:
    images = [image for split in SPLITS for image in load_split(made.out, split)]
    assert {i.path.name for i in images} == {p.name for p in (made.out / "images").iterdir()}
    assert len(images) == len(kept)
    _, hand = kept[made.raw / "rsna/images/1383.png"]
    with (made.raw / "rsna/boneage-training-dataset.csv").open() as file:
        row = next(row for row in csv.DictReader(file) if row["id"] == "1383")
    assert (hand["bone_age_months"], hand["sex"]) == (int(row["boneage"]), "M" if row["male"] == "True" else "F")
    _, wrist = kept[next(path for path in kept if path.suffix == ".dcm")]
    assert wrist["sex"] and wrist["age_months"] and wrist["laterality"]  # the file's, where the label is silent


def test_no_child_and_no_picture_is_on_two_sides(made: Made, kept) -> None:
    for (one, (split, record)), (other, (other_split, other_record)) in combinations(kept.items(), 2):
        if made.child[one] == made.child[other]:
            assert split == other_split, (one, other)
            assert record["group"] == other_record["group"]
        if record["patient"] and record["patient"] == other_record["patient"]:
            assert made.child[one] == made.child[other]
    sides = {split for split, _ in kept.values()}
    assert sides == set(SPLITS)


def test_every_raw_file_is_kept_or_named_with_its_reason(made: Made, kept) -> None:
    report = json.loads(made.out.with_name("pedirad-8k.report.json").read_text())
    told = {one["file"]: one["code"] for one in report["left_out"] if one["file"]}
    assert told == {path.relative_to(made.raw).as_posix(): code for path, code in made.expected_out.items()}
    every = {path for path in made.raw.rglob("*") if path.suffix in (".png", ".jpg", ".dcm")}
    assert every == kept.keys() | made.expected_out.keys()
    assert [one["label"] for one in report["left_out"] if not one["file"]] == ["rsna/more.csv, line 7"]
    assert report["one_picture"] == [{"files": ["rsna/images/1377.png", "rsna/images/9001.jpg"], "same_label": True}]
    text = made.out.with_name("pedirad-8k.report.txt").read_text()
    assert all(name in text for name in told)


def test_nothing_in_the_folder_names_a_child_or_a_file(made: Made) -> None:
    named = {path.stem for path in made.child} | {"Meier", "Huber", "infant", "PH-", "Phantom^"}
    for name, data in content(made.out).items():
        if name != "config.json":
            assert not any(word.encode() in data for word in named if len(word) > 4 or not name.endswith(".png")), name
    config = json.loads((made.out / "config.json").read_text())
    assert config["stratified_split"] is True and config["plus_where_unsaid"] == "none"


def test_pseudonyms_follow_the_images_not_the_names(made: Made) -> None:
    first: dict[str, str] = {}
    for _, record in records(made.out):
        if record["patient"]:
            first[record["patient"]] = min(first.get(record["patient"], "g"), record["image_sha256"])
    assert sorted(first, key=first.__getitem__) == [f"P{n:05d}" for n in range(1, len(first) + 1)]
    assert len(first) == 5 + 3  # children of the hospital and of the eyes; RSNA names none
    assert json.loads((made.out / "dataset.json").read_text())["phantom"] is True


def test_again_and_elsewhere(made: Made, tmp_path: Path, capsys) -> None:
    """The same command does nothing; other settings are refused; order of the disk and workers do not matter."""
    before = content(made.out)
    assert prepare(made.raw, made.out, stratified_split=True, plus_where_unsaid="none", workers=1) == 0
    assert "is finished already" in capsys.readouterr().out
    assert prepare(made.raw, made.out, stratified_split=False, plus_where_unsaid="none") == 1
    assert "prepared with other settings (stratified_split was True, now False)" in capsys.readouterr().err
    assert content(made.out) == before


def command(raw: Path, out: Path) -> list[str]:
    flags = ["--raw_dir", str(raw), "--output_dir", str(out), "--workers", "2", "--stratified_split"]
    return [sys.executable, "-m", "training.prepare_pedirad_dataset", *flags]


def test_after_a_kill_the_same_command_ends_in_the_same_folder(tmp_path: Path) -> None:
    raw, out, work = tmp_path / "raw", tmp_path / "out", tmp_path / ".out.unfinished"
    wrists = make_phantoms(raw, "wrist", 12, 31)
    table(raw / "labels.csv", ("file", "fracture"), *((w.path.name, w.answer["fracture"]) for w in wrists))
    process = subprocess.Popen(
        command(raw, out), cwd=PROJECT_DIR, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    journal = work / "journal.jsonl"
    while not journal.is_file() or journal.read_bytes().count(b"\n") < 4:
        assert process.poll() is None
        time.sleep(0.01)
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = {path: path.stat().st_mtime_ns for path in (work / "data" / "images").glob("*.png")}
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive and not out.exists() and 3 <= len(done) < 12
    with journal.open("a") as file:
        file.write('{"key": ["half a li')

    finished = subprocess.run(command(raw, out), cwd=PROJECT_DIR, env=ENVIRONMENT, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    again = {out / "images" / path.name: stamp for path, stamp in done.items()}
    untouched = sum(path.stat().st_mtime_ns == stamp for path, stamp in again.items())
    assert untouched >= 3 and not work.exists()

    resumed = content(out)
    out.rename(tmp_path / "resumed")
    assert prepare(raw, out, stratified_split=True) == 0
    assert {name: data for name, data in content(out).items() if name != "config.json"} == {
        name: data for name, data in resumed.items() if name != "config.json"
    }


@pytest.fixture
def small(tmp_path: Path) -> Path:
    raw = tmp_path / "raw"
    wrist = make_phantoms(raw, "wrist", 1, 41, format="png")[0]
    table(raw / "labels.csv", ("file", "fracture"), (wrist.path.name, wrist.answer["fracture"]))
    return raw


def refused(capsys, tmp_path: Path, before: dict, code: int) -> str:
    said = capsys.readouterr().err.strip().splitlines()
    lines = [line for line in said if not line.startswith(("\r", "reading films"))]
    assert code == 1 and len(lines) == 1 and lines[0].startswith("prepare_pedirad_dataset: "), said
    assert content(tmp_path) == before and not (tmp_path / ".out.unfinished").exists()
    return lines[0]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"labels": ["none.csv"]}, "There is no label file none.csv"),
        ({"task": "hand"}, "--task must be one of bone_age, rop, fracture, found 'hand'"),
        ({"graz_incomplete_as": "torus"}, "--graz_incomplete_as must be one of"),
        ({"columns": "file=file,age=BA"}, "--columns takes FIELD=COLUMN with FIELD one of"),
        ({"columns": "fracture=F"}, "which column names the image"),
        ({"workers": -1}, "--workers must be 0 or more"),
    ],
)
def test_settings_are_refused_in_one_line(small: Path, tmp_path: Path, capsys, settings, says) -> None:
    before = content(tmp_path)
    assert says in refused(capsys, tmp_path, before, prepare(small, tmp_path / "out", **settings))


def test_what_is_wrong_with_data_is_refused_in_one_line(small: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    out, labels = tmp_path / "out", small / "labels.csv"

    def says(raw: Path = small, where: Path = out) -> str:
        return refused(capsys, tmp_path, content(tmp_path), prepare(raw, where))

    assert "There is no folder" in says(tmp_path / "nothing")
    assert "lies in" in says(where=small / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    assert "holds something else" in says(where=tmp_path / "full")
    (tmp_path / "empty").mkdir()
    assert "no DICOM, PNG or JPEG file below" in says(tmp_path / "empty")

    good = labels.read_text()
    labels.write_text(good.replace(good.split(",")[-1].strip(), "greenstick"))
    assert "labels.csv, line 2, fracture" in says()
    labels.write_text("Picture,Finding\na,b\n")
    assert "labels.csv has the columns Picture, Finding. --columns says" in says()
    labels.unlink()
    assert "there is no label file and no class folder" in says()
    labels.write_text("file,fracture\nother.png,buckle\n")
    assert "there is no image other.png" in says()
    labels.write_text(good)

    with monkeypatch.context() as patch:
        usage = shutil.disk_usage(small)._replace(free=1000)
        patch.setattr(prepare_pedirad_dataset.shutil, "disk_usage", lambda folder: usage)
        assert "GB left and the images need about" in says()
    image = next(small.glob("*.png"))
    whole = image.read_bytes()
    image.write_bytes(whole[: len(whole) // 2])
    assert "none of 1 labelled images can be used; the first: The image file ends too early" in says()


def test_two_runs_at_once_and_a_full_disk(small: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    out, work = tmp_path / "out", tmp_path / ".out.unfinished"
    (work / "data" / "images").mkdir(parents=True)
    with Journal(work / "journal.jsonl"):
        assert prepare(small, out) == 1
    assert "Another run is at work in" in capsys.readouterr().err

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", "a.png")

    with monkeypatch.context() as patch:
        patch.setattr(prepare_pedirad_dataset, "write_annotations", full)
        assert prepare(small, out) == 1
    assert "No space left on device. Free some: the same command goes on" in capsys.readouterr().err
    assert not out.exists() and prepare(small, out) == 0
    said = capsys.readouterr().out
    assert "warning: val has no fracture images" in said and out.is_dir() and not work.exists()
