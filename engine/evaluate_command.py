"""What `pediscreen evaluate --data_dir` does."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from engine.settings import settings


def evaluate_folder(arguments: argparse.Namespace, model_folder: Path | None) -> int:
    """A step of the training pipeline, and therefore a process of its own; its exit status. `model_folder`: of the
    model in use, None where it is the one of the settings."""
    here = settings()
    command = [sys.executable, "-m", "training.evaluate_radiology", "--model", str(model_folder or here.model)]
    command += ["--data_dir", str(arguments.data_dir), "--split", arguments.split]
    command += ["--json" if arguments.json else "--no_json"]
    command += ["--task", *arguments.task] if arguments.task else []
    command += ["--output_dir", str(arguments.output_dir)] if arguments.output_dir else []
    command += ["--allow_absent_classes"] if arguments.allow_absent_classes else []
    if model_folder is None and here.lora_adapter_path is not None:
        command += ["--adapter_path", str(here.lora_adapter_path)]
    return subprocess.run(command, check=False).returncode
