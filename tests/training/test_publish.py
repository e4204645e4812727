"""training.publish: what goes is what was checked, and nothing that tells of a patient or of this machine goes."""

import hashlib
import json
import os
import pickle
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from engine.inference.checkpoint import fingerprint
from engine.settings import PROJECT_DIR
from tests.training.hub import hub
from training import model_card, publish
from training.publish import PublishConfig
from training.publish_checks import PublishRefused

PARITY = {
    "base_model": "google/medgemma-4b-it",
    "merged_against_adapter": {"labels": 20, "label_agreement": 1.0, "largest_probability_difference": 0.004},
    "four_bit_against_merged": {"labels": 20, "label_agreement": 0.95, "largest_probability_difference": 0.11},
    "bytes": 2_790_000_000,
}


def figure(value, low=None, high=None):
    return {"value": value, "low": low, "high": high}


@pytest.fixture
def model(tmp_path):
    """A folder as radiology_merge leaves it, with few weights."""
    folder = tmp_path / "prod"
    (folder / "bf16").mkdir(parents=True)
    save_file({"a": torch.ones(3, 4)}, folder / "model.safetensors", metadata={"format": "pt"})
    save_file({"b": torch.ones(5, 4, dtype=torch.int8)}, folder / "int8.safetensors", metadata={"format": "pt"})
    save_file({"a": torch.ones(9)}, folder / "bf16" / "model.safetensors")
    write(folder / "config.json", {"model_type": "gemma3", "_name_or_path": ""})
    write(folder / "reading.json", {"name": "prod", "is_phantom": False, "knows_triage": False})
    write(folder / "parity.json", PARITY)
    write(folder / "tokenizer.json", {"model": {"vocab": {"/usr/bin/env": 1, "a@b.com": 2}}})
    return folder


def write(path, value):
    path.write_text(json.dumps(value))


def evaluation_of(model, **changes):
    results = {
        "bone_age": {"n": 200, "n_read": 196, "mae_months": figure(7.123, 6.4, 7.9), "within_2_months": figure(None)},
        "fracture": {"n": 90, "n_read": 90, "macro_f1": figure(0.913, 0.88, 0.94)},
        "model_version": f"prod ({fingerprint(model)})",
        "data": "/home/anna maria/pedirad-custom test",
        "phantom": False,
    }
    path = model.parent / "evaluation.json"
    write(path, results | changes)
    return path


def config_for(model, tmp_path, **changes):
    settings = {"model": model, "evaluation": evaluation_of(model), "repo_id": "me/model", "dry_run": True,
                "output_path": tmp_path / "plan"}  # fmt: skip
    return PublishConfig(**(settings | changes))


def test_a_dry_run_writes_card_notice_and_manifest(model, tmp_path):
    manifest = publish.main(config_for(model, tmp_path))
    plan = tmp_path / "plan"
    assert sorted(f.name for f in plan.iterdir()) == ["NOTICE", "README.md", "manifest.json"]
    assert json.loads((plan / "manifest.json").read_text()) == manifest
    assert manifest["private"] is True
    by_path = {f["path"]: f for f in manifest["files"]}
    assert set(by_path) == {"README.md", "NOTICE", "config.json", "int8.safetensors", "model.safetensors",
                            "parity.json", "reading.json", "tokenizer.json"}  # fmt: skip
    for name in ("model.safetensors", "tokenizer.json"):
        assert by_path[name]["sha256"] == hashlib.sha256((model / name).read_bytes()).hexdigest()
    card = (plan / "README.md").read_text()
    assert by_path["README.md"]["sha256"] == hashlib.sha256(card.encode()).hexdigest()
    for text in (
        "license_name: health-ai-developer-foundations",
        "base_model: google/medgemma-4b-it",
        "Not for diagnostic use",
        "| mae months | 7.123 | 6.400 to 7.900 |",
        "| within 2 months | undefined |  |",
        "196 of 200 images read",
        "Not evaluated: Retinopathy of prematurity",
        "pedirad-custom test",
        "95.0%",
    ):
        assert text in card
    assert "/home" not in card and "anna" not in card and "maria" not in card
    assert (
        (plan / "NOTICE")
        .read_text()
        .startswith(
            "HAI-DEF is provided under and subject to the Health AI Developer Foundations Terms of Use found at "
            "https://developers.google.com/health-ai-developer-foundations/terms"
        )
    )


def refused(config, match):
    with pytest.raises(PublishRefused, match=match):
        publish.main(config)
    assert not (config.output_path and config.output_path.exists())


def dicom(path):
    path.write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 40)


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (lambda m: (m / "film.png").write_bytes(b"\x89PNG"), "film.png: not a kind of file"),
        (lambda m: (m / "labels.csv").write_text("a"), "labels.csv: not a kind of file"),
        (lambda m: (m / "modeling.py").write_text("a"), "modeling.py: not a kind of file"),
        (lambda m: (m / "pytorch_model.bin").write_bytes(b"a"), "pytorch_model.bin: not a kind of file"),
        (lambda m: (m / "extra.json").write_bytes(pickle.dumps([1])), "extra.json: a pickle"),
        (lambda m: dicom(m / "film.json"), "film.json: a DICOM file"),
        (lambda m: (m / "model.safetensors").write_bytes(pickle.dumps([1])), "model.safetensors: a pickle"),
        (lambda m: (m / "int8.safetensors").write_bytes(b"nothing"), "int8.safetensors: not safetensors"),
        (lambda m: write(m / "notes.json", {"records": [{"patient_id": "4711"}]}), "field patient_id"),
        (lambda m: write(m / "notes.json", {"study": "1.2.840.113619.2.55.3.604688"}), "a DICOM UID"),
        (lambda m: write(m / "config.json", {"_name_or_path": "/data/hospital/base"}), "a path of this machine"),
        (lambda m: write(m / "config.json", {"base": "C:\\models\\base"}), "a path of this machine"),
        (lambda m: write(m / "config.json", {"auto_map": {"AutoModel": "m.M"}}), "makes loading run code"),
        (lambda m: write(m / "notes.json", {"by": "anna@hospital.example"}), "an e-mail address"),
        (lambda m: write(m / "notes.json", {"hf_token": "hf_x"}), "may be a secret"),
        (lambda m: save_file({"a": torch.ones(2)}, m / "x.safetensors", {"from": "/root/x/y"}), "a path of this"),
        (lambda m: (m / "link.json").symlink_to(m / "config.json"), "link.json: a link"),
        (lambda m: (m / "images").mkdir(), "images: a folder"),
        (lambda m: (m / "parity.json").unlink(), "holds no parity.json"),
    ],
)  # fmt: skip
def test_a_folder_with_what_may_not_leave_is_refused(model, tmp_path, spoil, match):
    spoil(model)
    refused(config_for(model, tmp_path), match)


def test_the_evaluation_must_be_of_this_folder_and_of_patients(model, tmp_path):
    for changes, match in (
        ({"model_version": "prod (00000000)"}, "run python -m training.evaluate_radiology"),
        ({"bone_age": None, "fracture": {"n": 0}}, "no figures"),
        ({"phantom": True}, "images of patients"),
    ):
        config = config_for(model, tmp_path)
        evaluation_of(model, **changes)
        refused(config, match)


def test_licences(model, tmp_path):
    assert model_card.licence_of("phantom", True).name == "Apache-2.0"
    assert model_card.licence_of("medgemma-4b-it", False).needs_acceptance
    with pytest.raises(model_card.LicenceUnknown, match="'someone/else'"):
        model_card.licence_of("someone/else", False)
    refused(config_for(model, tmp_path, dry_run=False, output_path=None), "pass --terms_accepted")


def run(model, hub_address, *options):
    command = [sys.executable, "-m", "training.publish", "--model", str(model), "--evaluation",
               str(evaluation_of(model)), "--repo_id", "me/model", *options]  # fmt: skip
    environment = os.environ | {"HF_ENDPOINT": hub_address, "HF_TOKEN": "hf_test", "HF_HUB_DISABLE_XET": "1",
                                "HF_HUB_OFFLINE": "0", "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}  # fmt: skip
    return subprocess.run(command, cwd=PROJECT_DIR, env=environment, capture_output=True, text=True)


def test_an_upload_to_a_hub_on_loopback(model):
    with hub() as server:
        done = run(model, server.address, "--terms_accepted", "True")
        assert done.returncode == 0, done.stderr
        manifest = json.loads(done.stdout)
        assert manifest["url"].startswith(server.address)
        assert (server.created["name"], server.created["organization"]) == ("model", "me")
        assert server.created["visibility"] == "private"
        assert server.tokens == {"Bearer hf_test"}
        assert {f["path"]: f["sha256"] for f in manifest["files"]} == {
            name: hashlib.sha256(content).hexdigest() for name, content in server.files.items()
        }
        assert server.files["model.safetensors"] == (model / "model.safetensors").read_bytes()
        assert server.files["README.md"].decode() == server.card and server.card.startswith("---\nlicense: other")


def test_a_public_repository_is_not_filled_by_default(model):
    with hub() as server:
        server.is_public_already = True
        done = run(model, server.address, "--terms_accepted", "True")
        assert done.returncode == 1 and "exists already and is public" in done.stderr
        assert server.files == {} and server.objects == {}


def test_a_hub_that_refuses_is_one_line_and_exit_status_1(model):
    with hub() as server:
        server.refuse = 401
        done = run(model, server.address, "--terms_accepted", "True")
        assert done.returncode == 1 and done.stdout == ""
        assert "publish: The hub at" in done.stderr and "401" in done.stderr and "HF_TOKEN" in done.stderr
        assert "Traceback" not in done.stderr
        assert server.files == {}


def test_the_card_tells_girls_and_boys_apart_but_names_no_site(model, tmp_path):
    few = figure(None) | {"reason": "too few: 3 patients read, at least 10 are needed"}
    groups = {
        "sex": {
            "girls": {"n_read": 80, "macro_f1": figure(0.95, 0.9, 0.98)},
            "boys": {"n_read": 7, "macro_f1": few},
        },
        "site": {"Sankt Elsewhere": {"n_read": 87, "macro_f1": figure(0.9, 0.8, 1.0)}},
    }
    config = config_for(model, tmp_path)
    evaluation_of(model, fracture={"n": 90, "n_read": 87, "macro_f1": figure(0.9), "groups": groups})
    publish.main(config)
    card = (tmp_path / "plan" / "README.md").read_text()
    assert "| girls | 80 | 0.950 (0.900 to 0.980) |" in card
    assert "| boys | 7 | too few: 3 patients read" in card
    assert "Sankt Elsewhere" not in card
