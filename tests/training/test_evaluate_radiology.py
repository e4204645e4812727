"""training.evaluate_radiology: from an annotated folder to figures, as a process of its own."""

import json
import subprocess
import sys

from engine import cli
from engine.phantoms.write import make_phantoms
from engine.settings import PROJECT_DIR


def evaluate(*arguments):
    command = [sys.executable, "-m", "training.evaluate_radiology", *map(str, arguments)]
    return subprocess.run(command, cwd=PROJECT_DIR, capture_output=True, text=True)


def test_the_phantom_model_on_an_annotated_folder(tmp_path, capfd, monkeypatch):
    make_phantoms(tmp_path, "wrist", 10, 3, format="pedirad-custom")
    done = evaluate("--data_dir", tmp_path, "--task", "fracture", "--json", "--output_dir", tmp_path / "report")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["fracture"]["n"] == 2, "two of ten phantoms are in the test split"
    assert result["phantom"] is True
    assert json.loads((tmp_path / "report" / "evaluation.json").read_text()) == result
    assert result["data"].endswith("test")

    monkeypatch.chdir(PROJECT_DIR)
    assert cli.main(["evaluate", "--data_dir", str(tmp_path), "--task", "fracture", "--json"]) == 0
    again = json.loads(capfd.readouterr().out)
    assert again["fracture"]["macro_f1"] == result["fracture"]["macro_f1"]


def test_a_folder_without_annotations_is_refused_with_the_reason(tmp_path):
    done = evaluate("--data_dir", tmp_path)
    assert done.returncode == 1
    assert "no test_annotations.json" in done.stderr
    assert "Traceback" not in done.stderr
