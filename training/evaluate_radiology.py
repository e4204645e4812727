"""Step 4 of 4: a model against annotated images.

    python -m training.evaluate_radiology --model ./models/medgemma-4b-radiology-prod --data_dir ./pedirad-custom

Reads a pedirad-custom or pedirad-8k folder; prints each task's figures with their 95 % intervals, with `--json` as the
JSON of `pediscreen evaluate`. Images the model gives no read for are counted, and are in no other figure."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from transformers import HfArgumentParser

from engine import evaluation
from engine.errors import PediScreenError
from engine.findings.answers import Task
from engine.inference.checkpoint import load_reader
from training.pedirad_loader import load_split


@dataclass(frozen=True)
class EvaluationConfig:
    data_dir: Path = field(metadata={"help": "a pedirad-custom or pedirad-8k folder"})
    model: str = field(default="phantom", metadata={"help": "phantom, a hub name or a folder"})
    adapter_path: Path | None = field(default=None, metadata={"help": "a lora/ folder for that model"})
    split: Literal["train", "val", "test"] = field(default="test", metadata={"help": "which images"})
    task: list[str] = field(default_factory=lambda: list(Task), metadata={"help": "bone_age, rop, fracture"})
    output_dir: Path | None = field(default=None, metadata={"help": "also write evaluation.json here"})
    json: bool = field(default=False, metadata={"help": "print JSON"})


def main(config: EvaluationConfig) -> dict:
    """Raises BadAnnotations for records that cannot be used, ModelUnavailable."""
    tasks = [Task(task) for task in config.task]
    images = [(image.path, image.annotation) for image in load_split(config.data_dir, config.split, tasks)]
    reader = load_reader(config.model, config.adapter_path)
    result = evaluation.evaluate_images(reader, images, tasks, data=f"{config.data_dir} {config.split}")
    if config.output_dir is not None:
        config.output_dir.mkdir(parents=True, exist_ok=True)
        (config.output_dir / "evaluation.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return result


if __name__ == "__main__":
    (config,) = HfArgumentParser(EvaluationConfig).parse_args_into_dataclasses(look_for_args_file=False)
    try:
        result = main(config)
    except PediScreenError as error:
        print(f"evaluate_radiology: {error}", file=sys.stderr)
        sys.exit(1)
    print(json.dumps(result, indent=2) if config.json else evaluation.as_text(result))
