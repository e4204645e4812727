"""Nothing that is loaded can run a program: weights are safetensors, everything else is JSON."""

import os
import pickle
import re
import shutil
from pathlib import Path

import pytest

from engine.errors import ModelUnavailable
from engine.inference import model_folder
from engine.inference.checkpoint import load_reader
from engine.settings import PHANTOM_MODEL_DIR, PROJECT_DIR

OURS = ("db", "engine", "ui", "training")
LOADS_PROGRAMS = re.compile(
    r"""^\s*(import|from)\s+(pickle|cPickle|dill|cloudpickle|joblib|shelve|marshal)\b
    | \btorch\.(load|save)\( | \bnp\.load\([^)]*allow_pickle\s*=\s*True | \bread_pickle\( | \byaml\.(load|unsafe_load)\(
    | trust_remote_code\s*=\s*True | use_safetensors\s*=\s*False | weights_only\s*=\s*False | \b(eval|exec)\(""",
    re.VERBOSE | re.MULTILINE,
)
NOT_BUILTIN = re.compile(r"\.\s*eval\(")  # torch's network.eval()


def test_no_code_of_ours_loads_what_could_be_a_program() -> None:
    found = []
    for folder in OURS:
        for path in sorted((PROJECT_DIR / folder).rglob("*.py")):
            text = NOT_BUILTIN.sub(".x(", path.read_text(encoding="utf-8"))
            found += [f"{path.relative_to(PROJECT_DIR)}: {match[0].strip()}" for match in LOADS_PROGRAMS.finditer(text)]
    assert found == []


def test_no_pickle_is_in_the_tree() -> None:
    suffixes = {".pkl", ".pickle", ".pt", ".pth", ".bin", ".joblib", ".npy", ".ckpt"}
    files = (path for folder in OURS for path in (PROJECT_DIR / folder).rglob("*"))
    assert [path.name for path in files if path.suffix in suffixes] == []


class RunsOnLoad:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.marker),)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder without its weights."""
    copy = tmp_path / "model"
    shutil.copytree(PHANTOM_MODEL_DIR, copy, ignore=shutil.ignore_patterns("*.safetensors", "*.md", "*.jinja"))
    return copy


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors", "weights.pt", "gate.safetensors"])
def test_a_pickle_in_a_models_folder_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    """Also one that calls itself safetensors."""
    marker = tmp_path / "loaded"
    if name == "gate.safetensors":
        shutil.copy(PHANTOM_MODEL_DIR / "model.safetensors", folder)
    (folder / name).write_bytes(pickle.dumps(RunsOnLoad(marker)))
    with pytest.raises(ModelUnavailable):
        load_reader(str(folder), None)
    assert not marker.exists()
    if not name.endswith(".safetensors"):
        with pytest.raises(ModelUnavailable, match=f"{name}; only safetensors and JSON files are loaded"):
            model_folder.check(folder)


def test_a_pickle_in_an_adapter_is_refused(tmp_path: Path) -> None:
    marker, adapter = tmp_path / "loaded", tmp_path / "lora"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA", "target_modules": ["q_proj"], "r": 4}')
    (adapter / "adapter_model.bin").write_bytes(pickle.dumps(RunsOnLoad(marker)))
    with pytest.raises(ModelUnavailable, match="no adapter_model.safetensors"):
        load_reader(str(PHANTOM_MODEL_DIR), adapter)
    assert not marker.exists()
