"""training.evaluate_radiology: from an annotated folder to figures and a report, and what it refuses at once."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers import HfArgumentParser

from engine import cli
from engine.annotations import SPLITS
from engine.errors import ModelUnavailable, PediScreenError
from engine.phantoms.write import make_phantoms
from engine.settings import PROJECT_DIR
from training import evaluate_radiology
from training.evaluate_radiology import EvaluationConfig, EvaluationRefused, main


def evaluate(*arguments):
    command = [sys.executable, "-m", "training.evaluate_radiology", *map(str, arguments)]
    return subprocess.run(command, cwd=PROJECT_DIR, capture_output=True, text=True)


@pytest.fixture
def wrists(tmp_path):
    """Two images of every fracture class in every split: grey squares, for what is checked before the model."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "cases" / "fractures"
    for split in SPLITS:
        (folder / split).mkdir(parents=True)
        records = []
        for k, kind in enumerate(["normal", "buckle", "distal_radius"] * 2):
            name = f"{split}/{k}.png"
            Image.fromarray(rng.integers(0, 255, (96, 64), np.uint8)).save(folder / name)
            records.append({"image_path": name, "task": "fracture", "fracture": kind, "patient": f"p{k}"})
        (folder / f"{split}_annotations.json").write_text(json.dumps(records))
    return tmp_path / "cases"


@pytest.fixture
def no_model(monkeypatch):
    """The model must not be loaded."""
    monkeypatch.setattr(evaluate_radiology, "load_reader", lambda *_: pytest.fail("the model was loaded"))


def relabel(folder, split, kind):
    file = folder / "fractures" / f"{split}_annotations.json"
    records = [record | {"fracture": kind} for record in json.loads(file.read_text())]
    file.write_text(json.dumps(records))


def test_the_phantom_model_on_an_annotated_folder(tmp_path):
    make_phantoms(tmp_path, "wrist", 10, 3, format="pedirad-custom")
    report = tmp_path / "report"
    options = ("--task", "fracture", "--allow_absent_classes", "--output_dir", report)
    done = evaluate("--data_dir", tmp_path, *options)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["fracture"]["n"] == 2, "two of ten phantoms are in the test split"
    assert result["phantom"] is True and result["data"].endswith("test")
    assert result["notes"], "so few images cannot be of every class"
    assert sorted(path.name for path in report.iterdir()) == ["evaluation.json", "report.html"]
    assert json.loads((report / "evaluation.json").read_text()) == result
    assert "The figures say nothing about children" in (report / "report.html").read_text()
    assert result["fracture"]["patients"] == 2
    assert list(result["fracture"]["groups"]["site"]) == ["A"]


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ((), {"json": False, "task": []}),
        (("--json", "--split", "val"), {"json": True, "split": "val"}),
        (("--task", "rop", "--task", "fracture"), {"task": ["rop", "fracture"]}),
        (("--output_dir", "R", "--allow_absent_classes"), {"output_dir": Path("R"), "allow_absent_classes": True}),
    ],
)
def test_pediscreen_evaluate_passes_its_options_on(data_dir, monkeypatch, options, settings):
    passed = []

    def run(command, **_):
        passed.append(command)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr("subprocess.run", run)
    assert cli.main(["evaluate", "--data_dir", str(data_dir), *options]) == 0
    assert passed[0][:3] == [sys.executable, "-m", "training.evaluate_radiology"]
    (config,) = HfArgumentParser(EvaluationConfig).parse_args_into_dataclasses(passed[0][3:], look_for_args_file=False)
    assert config.data_dir == data_dir
    assert {name: getattr(config, name) for name in settings} == settings


def test_a_folder_without_annotations_is_refused_with_the_reason(tmp_path):
    done = evaluate("--data_dir", tmp_path, "--output_dir", tmp_path / "report")
    assert done.returncode == 1
    assert "no test_annotations.json" in done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"task": ["rop"]}, "has no test images of rop"),
        ({"task": ["fracture", "scoliosis"]}, "--task 'scoliosis' is not one of bone_age, rop, fracture"),
    ],
)
def test_tasks_that_cannot_be_evaluated_are_refused(wrists, no_model, settings, said):
    with pytest.raises(EvaluationRefused, match=said):
        main(EvaluationConfig(wrists, **settings))


def test_a_missing_folder_is_named(tmp_path, no_model):
    with pytest.raises(EvaluationRefused, match="There is no data folder .*nowhere"):
        main(EvaluationConfig(tmp_path / "nowhere"))


def test_unreadable_images_are_named_before_the_model_is_loaded(wrists, no_model, tmp_path):
    damaged = wrists / "fractures" / "test" / "3.png"
    damaged.write_bytes(damaged.read_bytes()[:-400])
    (wrists / "fractures" / "test" / "1.png").write_bytes(b"")
    with pytest.raises(EvaluationRefused, match="2 of 6 images cannot be read") as refused:
        main(EvaluationConfig(wrists, output_dir=tmp_path / "report"))
    assert str(damaged) in str(refused.value) and "1.png: " in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "report").exists()


def test_a_class_that_only_other_splits_have_is_refused_or_noted(wrists, monkeypatch):
    relabel(wrists, "test", "normal")
    with pytest.raises(EvaluationRefused, match="fracture buckle is in train only.*every image has fracture normal"):
        main(EvaluationConfig(wrists))

    def no_model_here(*_):
        raise ModelUnavailable("as far as here")

    monkeypatch.setattr(evaluate_radiology, "load_reader", no_model_here)
    with pytest.raises(ModelUnavailable):
        main(EvaluationConfig(wrists, allow_absent_classes=True))
    relabel(wrists, "train", "normal")
    relabel(wrists, "val", "normal")
    with pytest.raises(EvaluationRefused, match="test: every image has fracture normal"):
        main(EvaluationConfig(wrists))


def test_an_output_folder_with_something_else_in_it_is_left_alone(wrists, no_model, tmp_path):
    output = tmp_path / "mine"
    output.mkdir()
    (output / "thesis.docx").write_text("a year's work")
    with pytest.raises(EvaluationRefused, match="holds something other than an evaluation .thesis.docx"):
        main(EvaluationConfig(wrists, output_dir=output))
    assert [path.name for path in output.iterdir()] == ["thesis.docx"]


def test_an_output_folder_that_cannot_be_made_is_refused_at_once(wrists, no_model, tmp_path):
    (tmp_path / "file").write_text("")
    for output, said in ((tmp_path / "file", "is a file"), (tmp_path / "file" / "deeper", "cannot be written to")):
        with pytest.raises(EvaluationRefused, match=said):
            main(EvaluationConfig(wrists, output_dir=output))


def test_a_disk_that_is_nearly_full_is_refused_at_once(wrists, no_model, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: shutil._ntuple_diskusage(10**12, 10**12 - 3_000_000, 3_000_000))
    with pytest.raises(EvaluationRefused, match="has 3 MB left; the report needs up to 20 MB"):
        main(EvaluationConfig(wrists, output_dir=tmp_path / "report"))


def test_a_full_disk_leaves_the_earlier_evaluation(tmp_path, monkeypatch):
    evaluate_radiology.write(tmp_path, {"evaluation.json": "old", "report.html": "old"})

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(PediScreenError, match="No space left on device"):
        evaluate_radiology.write(tmp_path, {"evaluation.json": "new", "report.html": "new"})
    assert sorted((path.name, path.read_text()) for path in tmp_path.iterdir()) == [
        ("evaluation.json", "old"),
        ("report.html", "old"),
    ]
