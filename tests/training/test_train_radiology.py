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
from safetensors import safe_open
from safetensors.torch import load_file

from engine.findings.answers import ALLOWED, Task
from engine.imaging.preprocess import model_image_of
from engine.inference.checkpoint import load_reader
from engine.inference.read import ReadContext
from engine.phantoms.write import make_phantoms
from engine.settings import PROJECT_DIR
from training import image_tokens, memory_preflight, train_radiology
from training.adapter import Adapter
from training.answer_loss import AnswerLoss
from training.pedirad_loader import load_split
from training.radiology_processor import RadiologyProcessor, examples_of
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


@pytest.fixture(scope="module")
def with_replay(data, tmp_path_factory):
    """The wrists are what the model is not to forget; LoRA is aimed at what sets the hands apart from them."""
    copy = shutil.copytree(data, tmp_path_factory.mktemp("with-replay") / "data")
    for file in (copy / "fractures").glob("*_annotations.json"):
        file.write_text(json.dumps([r | {"replay": True} for r in json.loads(file.read_text())]))
    return copy


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
    killed_and_gone_on_with(data, output, cache, losses(undisturbed[0]))
    assert "finished already" in finished(*arguments(data, output, cache))


def test_after_kill_9_an_aimed_adapter_goes_on_too(with_replay, cache, tmp_path):
    said = finished(*arguments(with_replay, tmp_path / "undisturbed", cache))
    assert "in which the new films stand out" in said
    killed_and_gone_on_with(with_replay, tmp_path / "model", cache, losses(tmp_path / "undisturbed"))
    weights = [load_file(tmp_path / run / "lora" / "adapter_model.safetensors") for run in ("undisturbed", "model")]
    assert all(torch.allclose(weights[0][name], weights[1][name], atol=1e-5) for name in weights[0])


def killed_and_gone_on_with(data, output, cache, undisturbed: dict[int, float]):
    process = start(*arguments(data, output, cache))
    while process.poll() is None and not list(output.glob("checkpoint-*/state.json")):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (output / "lora").exists()
    reached = len(losses(output))
    assert "Going on from step" in finished(*arguments(data, output, cache))
    ours = losses(output)
    assert 0 < reached < len(undisturbed) and ours.keys() == undisturbed.keys()
    assert max(abs(ours[s] - undisturbed[s]) for s in undisturbed) < 1e-4


@pytest.mark.slow
def test_two_processes_train_as_one_does(undisturbed, data, cache, tmp_path):
    launcher = ("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
                "--mixed_precision", "no", "--dynamo_backend", "no", "-m")  # fmt: skip
    finished(*arguments(data, tmp_path / "model", cache, batch_size=2), launcher=launcher)
    ours, theirs = losses(tmp_path / "model"), losses(undisturbed[0])
    assert ours.keys() == theirs.keys() and max(abs(ours[s] - theirs[s]) for s in theirs) < 1e-3


def test_replayed_films_are_held_to_the_answers_before_training(data, cache, tmp_path):
    copy = shutil.copytree(data, tmp_path / "copy")
    for file in (copy / "fractures").glob("*_annotations.json"):
        file.write_text(json.dumps([r | {"replay": True, "fracture": "normal"} for r in json.loads(file.read_text())]))
    output = tmp_path / "model"
    said = finished(*arguments(copy, output, cache, max_steps=2))
    assert "fracture replayed" in said
    figures = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    assert "replay_macro_f1" in figures[0] and "macro_f1" not in figures[0] and "mae_months" in figures[0]

    reader = train_radiology.load_base(TrainingConfig(copy, output))
    processor = RadiologyProcessor(reader.processor)
    labelled = load_split(copy, "train", (Task.FRACTURE,))
    examples = examples_of(processor, labelled)
    loss = AnswerLoss(processor, month_loss="path", month_sd=1.5)
    tokens = image_tokens.compute(reader, [i.path for i in labelled], [(0, 1)] * len(labelled), cache)
    (taught, *_) = train_radiology.taught_by_base(reader, loss, examples, tokens, with_features=True)
    context = [ReadContext(i.annotation.sex, i.annotation.age_months) for i in labelled]
    (read, *_) = reader.read([model_image_of(labelled[0].path)], Task.FRACTURE, context[:1])
    by_name = dict(zip([a["fracture"] for a in ALLOWED[Task.FRACTURE]], loss.target(taught), strict=True))
    assert by_name == pytest.approx(read.probabilities, abs=1e-4)
    seen = tokens.stack([0], [0], reader.network.device)
    assert train_radiology.moved([taught], seen) == 0
    assert train_radiology.moved([taught], 2 * seen).item() == pytest.approx(1.0)
    assert train_radiology.moved(examples[:1], seen) == 0


def test_a_replayed_film_has_one_form_and_is_augmented_as_often_as_the_new_ones(with_replay, tmp_path):
    config = TrainingConfig(with_replay, tmp_path / "model", augmented_views=2)
    examples = [SimpleNamespace(replay=replayed) for replayed in (False, True, True, True, False)]
    views = train_radiology.shown_views(config, {"train": examples, "val": examples[:2]})
    assert views == [(0, 1), (1,), (0,), (1,), (0, 1), (0,), (0,)]

    reader = train_radiology.load_base(config)
    (film, *_) = load_split(with_replay, "train", (Task.FRACTURE,))
    both = image_tokens.compute(reader, [film.path], [(0, 1)], tmp_path / "both")
    one = image_tokens.compute(reader, [film.path], [(1,)], tmp_path / "one")
    assert torch.equal(one[0, 0], both[0, 1]) and not torch.equal(one[0, 0], both[0, 0])


def test_the_vision_tower_is_trained_and_the_adapter_says_so(data, cache, tmp_path):
    output = tmp_path / "model"
    finished(*arguments(data, output, cache, tasks="fracture", train_vision=True, max_steps=2, learning_rate=0.01))
    adapter = Adapter.read(output / "lora")
    assert adapter.changes_image_features
    image = [model_image_of(next((data / "fractures" / "train").glob("*.png")))]
    with torch.inference_mode():
        before, after = (load_reader("phantom", a).image_tokens(image) for a in (None, output / "lora"))
    moved = json.loads((output / "metrics.jsonl").read_text().splitlines()[-1])
    assert torch.equal(before, after) == (lines_best(output) == 0), moved


def lines_best(output) -> int:
    """The step whose adapter was kept: the first with the lowest score."""
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]
    return min((line for line in lines if line["kind"] == "val"), key=lambda line: line["score"])["step"]


def test_when_no_step_is_better_the_model_stays_as_it_was(data, cache, tmp_path):
    said = finished(*arguments(data, tmp_path / "model", cache, tasks="fracture", max_steps=1, learning_rate=1e-9))
    assert "no step read the val split better" in said
    with safe_open(tmp_path / "model" / "lora" / "adapter_model.safetensors", framework="pt") as weights:
        assert not any(weights.get_tensor(name).any() for name in weights.keys() if "lora_B" in name)  # noqa: SIM118


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
