"""A training run as its user meets it: it writes an adapter that reads, survives a kill, and refuses in one line."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch

from engine.findings.answers import Task
from engine.inference.checkpoint import load_reader
from engine.phantoms.write import make_phantoms
from engine.settings import PROJECT_DIR
from training import memory_preflight, train_radiology
from training.train_radiology import TrainingConfig, main

ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for view in ("hand", "wrist"):
        make_phantoms(folder, view, 10, 90, site="B", format="pedirad-custom")
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def arguments(data, output, cache, **more):
    settings = {
        "data_dir": data, "output_dir": output, "cache_dir": cache, "batch_size": 4, "epochs": 3, "augmented_views": 2,
        "save_every": 1, **more,
    }  # fmt: skip
    return [part for name, value in settings.items() for part in (f"--{name}", str(value))]


def start(*parts, launcher=("-m",)):
    command = [sys.executable, *launcher, "training.train_radiology", *parts]
    return subprocess.Popen(
        command, cwd=PROJECT_DIR, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finished(*parts, launcher=("-m",)):
    process = start(*parts, launcher=launcher)
    said, _ = process.communicate()
    assert process.returncode == 0, said
    return said


def losses(output) -> dict[int, float]:
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return {line["step"]: line["loss"] for line in lines if line["kind"] == "train"}


@pytest.fixture(scope="module")
def undisturbed(data, cache, tmp_path_factory):
    output = tmp_path_factory.mktemp("run") / "model"
    said = finished(*arguments(data, output, cache))
    return output, said


def test_a_run_writes_an_adapter_that_reads(undisturbed, data):
    output, said = undisturbed
    assert "One training example as the loss sees it" in said
    assert json.loads((output / "config.json").read_text())["lora_rank"] == 16
    assert json.loads((output / "lora" / "adapter_config.json").read_text())["base_model_name_or_path"] == "phantom"
    assert not list(output.glob("checkpoint-*")) and not [
        p for p in output.rglob("*") if p.suffix in (".pt", ".bin", ".pkl")
    ]
    assert list(output.glob("tensorboard/*"))
    kinds = [json.loads(line)["kind"] for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert kinds[0] == "val" and "train" in kinds
    reader = load_reader("phantom", output / "lora")
    assert "lora" in str(reader.network) and reader.model_version != load_reader("phantom", None).model_version


def test_after_kill_9_the_same_command_ends_at_the_same_loss(undisturbed, data, cache, tmp_path):
    output = tmp_path / "model"
    process = start(*arguments(data, output, cache))
    while process.poll() is None and not list(output.glob("checkpoint-*/state.json")):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (output / "lora").exists()
    reached = len(losses(output))
    finished(*arguments(data, output, cache))
    ours, theirs = losses(output), losses(undisturbed[0])
    assert 0 < reached < len(theirs) and ours.keys() == theirs.keys()
    assert max(abs(ours[s] - theirs[s]) for s in theirs) < 1e-4
    assert "finished already" in finished(*arguments(data, output, cache))


@pytest.mark.slow
def test_two_processes_train_as_one_does(undisturbed, data, cache, tmp_path):
    launcher = ("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
                "--mixed_precision", "no", "--dynamo_backend", "no", "-m")  # fmt: skip
    finished(*arguments(data, tmp_path / "model", cache, batch_size=2), launcher=launcher)
    ours, theirs = losses(tmp_path / "model"), losses(undisturbed[0])
    assert ours.keys() == theirs.keys() and max(abs(ours[s] - theirs[s]) for s in theirs) < 1e-3


def refusal(capsys, output, config) -> str:
    assert main(config) == 1
    said = capsys.readouterr().err.strip().splitlines()[-1].split("\r")[-1]
    assert not output.exists()
    return said


def config_for(data, output, **more):
    return TrainingConfig(data_dir=data, output_dir=output, batch_size=4, epochs=1, augmented_views=1, **more)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"tasks": "bone"}, "--tasks 'bone'"),
        ({"tasks": "rop"}, "no train images of rop"),
        ({"batch_size": 0}, "--batch_size must be at least 1"),
        ({"month_loss": "soft"}, "--month_loss must be"),
        ({"base_model": "/no/such/folder"}, "/no/such/folder"),
    ],
)
def test_wrong_settings_are_one_line(capsys, data, tmp_path, more, words):
    config = TrainingConfig(data_dir=data, output_dir=tmp_path / "out", **more)
    said = refusal(capsys, tmp_path / "out", config)
    assert words in said and said.startswith("train_radiology: ") and "\n" not in said


def test_a_missing_folder_or_split(capsys, data, tmp_path):
    assert "no data folder" in refusal(capsys, tmp_path / "out", config_for(tmp_path / "none", tmp_path / "out"))
    copy = shutil.copytree(data, tmp_path / "copy")
    for file in copy.rglob("val_annotations.json"):
        file.write_text("[]")
    assert "no val images" in refusal(capsys, tmp_path / "out", config_for(copy, tmp_path / "out"))


def test_an_unreadable_image_a_label_outside_the_set(capsys, data, tmp_path):
    copy = shutil.copytree(data, tmp_path / "copy")
    image = next((copy / "fractures" / "train").glob("*.png"))
    image.write_bytes(image.read_bytes()[:2000])
    said = refusal(capsys, tmp_path / "out", config_for(copy, tmp_path / "out"))
    assert image.name in said and "\n" not in said
    file = copy / "fractures" / "train_annotations.json"
    file.write_text(file.read_text().replace('"buckle"', '"torus"').replace('"normal"', '"torus"'))
    assert "torus" in refusal(capsys, tmp_path / "out", config_for(copy, tmp_path / "out"))


def test_no_room_on_disk_or_in_memory_no_bf16(capsys, data, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with monkeypatch.context() as full:
        full.setattr(train_radiology.shutil, "disk_usage", lambda _: SimpleNamespace(free=10**8))
        assert "GB left" in refusal(capsys, out, config_for(data, out))
    with monkeypatch.context() as small:
        small.setattr(memory_preflight.psutil, "virtual_memory", lambda: SimpleNamespace(available=150 * 10**6))
        said = refusal(capsys, out, config_for(data, out, tasks="fracture"))
        assert "--batch_size" in said and "free" in said
    with monkeypatch.context() as old:
        old.setattr(torch.cuda, "is_available", lambda: True)
        old.setattr(torch.cuda, "is_bf16_supported", lambda: False)
        old.setattr(torch.cuda, "get_device_name", lambda: "GeForce GTX 1080")
        assert "no bf16" in refusal(capsys, out, config_for(data, out))


def test_a_run_with_other_settings_is_not_continued(capsys, undisturbed, data, cache, tmp_path):
    output = tmp_path / "model"
    output.mkdir()
    shutil.copy(undisturbed[0] / "config.json", output)
    assert main(TrainingConfig(data_dir=data, output_dir=output, lora_rank=8)) == 1
    assert "other settings" in capsys.readouterr().err


def test_a_class_that_one_split_lacks_is_said():
    def example(name):
        return SimpleNamespace(task=Task.FRACTURE, answer={"task": "fracture", "fracture": name})

    said = train_radiology.absent_classes({"train": [example("normal")], "val": [example("normal"), example("buckle")]})
    assert said == ["fracture buckle is in val but not in train: it cannot be learnt"]
