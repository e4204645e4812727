"""training.radiology_merge: the folder it makes reads as base + adapter did, and what it refuses leaves nothing."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from engine.errors import ModelUnavailable, PediScreenError
from engine.findings.answers import Task
from engine.imaging.display import display_pixels
from engine.imaging.preprocess import model_image
from engine.inference.checkpoint import load_reader
from engine.inference.read import ReadContext
from engine.phantoms.hand import hand
from engine.phantoms.other import other
from engine.phantoms.write import make_phantoms
from engine.settings import PHANTOM_MODEL_DIR, PROJECT_DIR
from tests.engine.inference.pictures import picture
from tests.training.lora import write_adapter
from training import parity, radiology_merge
from training.adapter import Adapter, BadAdapter, record_base
from training.radiology_merge import MergeConfig, MergeRefused

LIKE_A_PARENT = {"images_per_task": 1, "min_agreement": 0.0}


@pytest.fixture(scope="module")
def adapter(tmp_path_factory):
    return write_adapter(tmp_path_factory.mktemp("run") / "lora", size=0.004)


@pytest.fixture(scope="module")
def merged(adapter, tmp_path_factory):
    """(folder, what main returned)"""
    folder = tmp_path_factory.mktemp("merged") / "prod"
    return folder, radiology_merge.main(
        MergeConfig(adapter, folder, images_per_task=4, min_agreement=0.7, keep_bf16=True)
    )


def test_the_folder_is_safetensors_and_json_and_reads(merged):
    folder, _ = merged
    assert {f.suffix for f in folder.iterdir() if f.is_file()} == {".safetensors", ".json"}
    assert all(f.stat().st_mode & 0o044 == 0o044 for f in folder.iterdir() if f.is_file())
    assert "auto_map" not in (folder / "config.json").read_text()
    reader = load_reader(str(folder), None)
    assert reader.is_phantom and reader.knows_triage and reader.gate is not None
    assert reader.model_version.startswith("prod (")
    (read,) = reader.read([picture(hand(5))], Task.BONE_AGE, [ReadContext("F", 100)])
    assert read.model_version == reader.model_version
    assert read.abstained or sum(read.probabilities.values()) == pytest.approx(1)


def test_the_certificate_says_how_far_the_forms_read_alike(merged):
    folder, returned = merged
    certificate = json.loads((folder / "parity.json").read_text())
    assert certificate == returned
    assert certificate["base_model"] == "phantom"
    assert certificate["images_per_task"] == {"bone_age": 4, "rop": 4, "fracture": 4}
    merging, quantising = certificate["merged_against_adapter"], certificate["four_bit_against_merged"]
    assert merging["labels"] == 4 + 3 * 4 + 4
    assert merging["label_agreement"] >= 0.98
    assert 0 < merging["mean_log_probability_difference"] < quantising["mean_log_probability_difference"]
    assert certificate["adapter_effect"]["mean_log_probability_difference"] > 0
    assert (
        certificate["bytes"]
        == sum(f.stat().st_size for f in folder.iterdir() if f.is_file()) - (folder / "parity.json").stat().st_size
    )


def test_merged_weights_are_base_plus_the_adapters_product_rounded_once(merged, adapter):
    """Against the definition, W + (alpha / r) B A, from the files alone."""
    base = load_file(PHANTOM_MODEL_DIR / "model.safetensors")
    ours = load_file(merged[0] / "bf16" / "model.safetensors")
    lora = load_file(adapter / "adapter_model.safetensors")
    settings = json.loads((adapter / "adapter_config.json").read_text())
    scale = settings["lora_alpha"] / settings["r"]
    products = {}
    for name in lora:
        if ".lora_A." in name:
            key = name.removeprefix("base_model.model.model.").replace(".lora_A.weight", ".weight")
            key = key.replace("language_model.", "language_model.model.", 1)
            products[key] = scale * lora[name.replace("lora_A", "lora_B")].float() @ lora[name].float()
    assert len(products) == 18 and set(ours) == set(base)
    for name, weight in base.items():
        expected = (weight.float() + products[name]).to(torch.bfloat16) if name in products else weight
        assert torch.equal(ours[name], expected), name


def test_the_folder_is_the_bf16_weights_in_nf4(merged):
    """What loading the kept bf16 folder quantises on the way in is what the folder stores."""
    folder, _ = merged
    stored = dict(load_reader(str(folder), None).network.named_parameters())
    at_load = dict(load_reader(str(folder / "bf16"), None).network.named_parameters())
    assert stored.keys() == at_load.keys()
    odd = [name for name, weight in at_load.items() if not torch.equal(weight, stored[name])]
    assert odd == ["model.language_model.embed_tokens.weight"]  # int8 rows


def test_codes_chosen_by_the_films_it_was_trained_on_keep_what_was_trained(merged, adapter, tmp_path):
    for view in ("hand", "wrist", "fundus"):
        make_phantoms(tmp_path / "films", view, 12, 71, format="pedirad-custom")
    folder, (nearest_folder, nearest) = tmp_path / "prod", merged
    chosen = radiology_merge.main(
        MergeConfig(adapter, folder, images_per_task=4, min_agreement=0.7, trained_on=tmp_path / "films")
    )
    assert chosen["four_bit_codes"] == "by the outputs on train images" and nearest["four_bit_codes"] == "nearest"
    assert chosen["merged_against_adapter"] == nearest["merged_against_adapter"]
    name = "four_bit_against_four_bit_base_with_adapter"
    moved = [found[name]["mean_log_probability_difference"] for found in (chosen, nearest)]
    assert moved[0] < 0.7 * moved[1]
    ours, theirs = (load_file(place / "model.safetensors") for place in (folder, nearest_folder))
    changed = [weight for weight in theirs if not torch.equal(ours[weight], theirs[weight])]
    assert len(changed) == 18 and all(
        ".language_model." in f".{weight}" for weight in changed
    )  # as write_adapter adapts


def refusal(config, error, match):
    with pytest.raises(error, match=match) as raised:
        radiology_merge.main(config)
    assert not config.output_path.exists()
    assert not any(config.output_path.parent.glob(f".{config.output_path.name}-*"))
    return raised


def test_an_untrained_adapter_is_refused(tmp_path):
    untrained = write_adapter(tmp_path / "lora", size=0.0)
    refusal(MergeConfig(untrained, tmp_path / "out", **LIKE_A_PARENT), MergeRefused, "Merged equals base in all 18")


def test_agreement_under_the_bound_is_refused(tmp_path, adapter):
    config = MergeConfig(adapter, tmp_path / "out", images_per_task=1, min_agreement=1.01)
    refusal(config, MergeRefused, "four bit against merged: .* under the bound of 101.0%")


def test_a_full_disk_is_refused_before_anything_is_written(tmp_path, adapter, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=1_000_000))
    refusal(MergeConfig(adapter, tmp_path / "out", **LIKE_A_PARENT), MergeRefused, "No space: merging needs 0.2")


def test_too_little_memory_is_refused(tmp_path, adapter, monkeypatch):
    free = radiology_merge.psutil.virtual_memory()._replace(available=10_000_000)  # enough for 4 bits
    monkeypatch.setattr(radiology_merge.psutil, "virtual_memory", lambda: free)
    config = MergeConfig(adapter, tmp_path / "out", **LIKE_A_PARENT)
    refusal(config, MergeRefused, r"Merging needs 0.0 GB of memory .* full precision; 0.0 GB are free")


def test_an_output_folder_in_use_is_left_alone(tmp_path, adapter):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with pytest.raises(MergeRefused, match="exists already"):
        radiology_merge.main(MergeConfig(adapter, tmp_path / "out"))
    assert [f.name for f in (tmp_path / "out").iterdir()] == ["mine.txt"]


def altered(adapter, folder, **settings):
    shutil.copytree(adapter, folder)
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    return folder


def test_an_adapter_for_another_base_is_refused(tmp_path, adapter):
    out = tmp_path / "out"
    other = tmp_path / "other"
    shutil.copytree(PHANTOM_MODEL_DIR, other)
    weights = load_file(other / "model.safetensors")
    weights["language_model.model.norm.weight"] += 1
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    of_other = altered(adapter, tmp_path / "a")
    record_base(of_other, str(other))
    refusal(MergeConfig(of_other, out), BadAdapter, "was trained on phantom, not on phantom .weights")

    named = altered(adapter, tmp_path / "b", base_model_name_or_path="google/medgemma-4b-it")
    (named / "base.json").unlink()
    refusal(MergeConfig(named, out, base_model="phantom"), BadAdapter, "google/medgemma-4b-it, not on phantom")


def test_a_copy_of_the_base_under_its_own_name_is_the_base(tmp_path, adapter):
    shutil.copytree(PHANTOM_MODEL_DIR, tmp_path / "copy")
    Adapter.read(adapter).check_base(str(tmp_path / "copy"))
    hub = altered(adapter, tmp_path / "a", base_model_name_or_path="google/medgemma-4b-it")
    (hub / "base.json").unlink()
    Adapter.read(hub).check_base("/models/medgemma-4b-it")


@pytest.mark.parametrize("change", ["another width", "another depth"])
def test_an_adapter_of_another_shape_is_refused(tmp_path, adapter, change):
    odd = altered(adapter, tmp_path / "odd")
    weights = load_file(odd / "adapter_model.safetensors")
    if change == "another width":
        weights = {k: v[:, :128].contiguous() if "lora_A" in k else v for k, v in weights.items()}
    else:
        weights |= {k.replace("layers.5", "layers.9"): v.clone() for k, v in weights.items() if "layers.5" in k}
    save_file(weights, odd / "adapter_model.safetensors")
    refusal(MergeConfig(odd, tmp_path / "out", **LIKE_A_PARENT), PediScreenError, "does not fit this (base )?model")


def test_copied_embeddings_and_other_kinds_of_adapter_are_refused(tmp_path, adapter):
    copies = altered(adapter, tmp_path / "a", modules_to_save=["lm_head", "embed_tokens"])
    refusal(MergeConfig(copies, tmp_path / "out"), BadAdapter, "lm_head, embed_tokens")
    other = altered(adapter, tmp_path / "b", peft_type="IA3")
    refusal(MergeConfig(other, tmp_path / "out"), BadAdapter, "IA3")
    pickled = altered(adapter, tmp_path / "c")
    (pickled / "adapter_model.safetensors").rename(pickled / "adapter_model.bin")
    refusal(MergeConfig(pickled, tmp_path / "out"), BadAdapter, "holds no adapter_model.safetensors")


def test_an_adapter_of_the_vision_tower_needs_the_images_to_fit_the_gate_to(tmp_path):
    tower = write_adapter(tmp_path / "run" / "lora", size=0.01, targets=r".*vision_tower.*\.fc1")
    with pytest.raises(MergeRefused, match="pass --trained_on with the folder it was trained on"):
        radiology_merge.main(MergeConfig(tower, tmp_path / "prod", **LIKE_A_PARENT))
    few = tmp_path / "few"
    make_phantoms(few, "hand", 10, 3, format="pedirad-custom")
    with pytest.raises(MergeRefused, match="has . hand images; 50 are needed"):
        radiology_merge.main(MergeConfig(tower, tmp_path / "prod", trained_on=few, **LIKE_A_PARENT))
    assert not (tmp_path / "prod").exists()


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_gate_of_a_trained_tower_is_fitted_anew_and_reads_what_it_should(tmp_path):
    tower = write_adapter(tmp_path / "run" / "lora", size=0.01, targets=r".*vision_tower.*\.fc1")
    for view in ("hand", "wrist", "fundus"):
        make_phantoms(tmp_path / "films", view, 80, 3, format="pedirad-custom")
    said = radiology_merge.main(
        MergeConfig(tower, tmp_path / "prod", trained_on=tmp_path / "films", images_per_task=1, min_agreement=0.0)
    )
    assert said["gate"].startswith("fitted anew to ")
    reader = load_reader(str(tmp_path / "prod"), None)
    fresh = [hand(7_000_000 + i) for i in range(40)]
    images = [model_image(display_pixels(phantom.film())) for phantom in fresh]
    reads = reader.read(images, Task.BONE_AGE, [ReadContext(phantom.sex) for phantom in fresh])
    assert sum(read.abstained for read in reads) <= 4
    strange = reader.read([model_image(other(seed)) for seed in range(4)], Task.BONE_AGE, [ReadContext("F")] * 4)
    assert all(read.abstained for read in strange)


def test_a_base_in_four_bits_is_refused(tmp_path, adapter, merged):
    named = altered(adapter, tmp_path / "a")
    record_base(named, str(merged[0]))
    config = MergeConfig(named, tmp_path / "out", base_model=str(merged[0]), **LIKE_A_PARENT)
    refusal(config, ModelUnavailable, "4-bit weights, and the full-precision ones are needed")


def test_a_missing_adapter_is_one_line_and_exit_status_1(tmp_path):
    command = [sys.executable, "-m", "training.radiology_merge", "--adapter_path", str(tmp_path / "none"),
               "--output_path", str(tmp_path / "out")]  # fmt: skip
    done = subprocess.run(command, cwd=PROJECT_DIR, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    assert "radiology_merge: " in done.stderr and "holds no adapter_config.json" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_labels_are_compared_one_by_one():
    reader_free = {"probabilities": {}, "interval_months": None, "reason": None, "model_version": "", "milliseconds": 0}
    from engine.inference.read import Read

    age = Read("bone_age", {"bone_age_months": 60}, median_months=60, abstained=False, **reader_free)
    rop = Read("rop", {"zone": "I", "stage": "2", "plus_disease": "none"}, median_months=None, abstained=False,
               **reader_free)  # fmt: skip
    one = {Task.BONE_AGE: [age, age, age], Task.ROP: [rop]}
    two = {
        Task.BONE_AGE: [replace(age, median_months=61), replace(age, median_months=62),
                        replace(age, answer=None, median_months=None, abstained=True)],
        Task.ROP: [replace(rop, answer=rop.answer | {"stage": "3"})],
    }  # fmt: skip
    found = parity.difference(one, two)
    assert (found.labels, found.equal_labels) == (6, 3)
    assert found.class_agreement == pytest.approx(2 / 3) and found.months_agreement == pytest.approx(1 / 3)
