"""Two models on the same cases, for the gate.

    python -m training.compare_models --model_in_use M --candidate C --data_dir DATASET --output_dir R

Reads the snapshot's locked test set, every case a reader corrected, and reference phantoms of site A where the models
are phantom models. Writes R/comparison.json and R/worse/ (pictures of the cases that got worse), whole or not at all.
Progress as JSON lines on standard output: {"done": 120, "of": 700}."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

from transformers import HfArgumentParser

from engine.errors import PediScreenError


@dataclass(frozen=True)
class ComparisonConfig:
    model_in_use: str = field(metadata={"help": "phantom, a hub name or a folder"})
    candidate: str = field(metadata={"help": "a folder, or the same with --candidate_adapter"})
    data_dir: Path = field(metadata={"help": "a snapshot of reviews (engine.services.training_set)"})
    output_dir: Path = field(metadata={"help": "where comparison.json and worse/ go"})
    in_use_adapter: Path | None = field(default=None, metadata={"help": "a lora/ folder for the model in use"})
    candidate_adapter: Path | None = field(default=None, metadata={"help": "a lora/ folder for the candidate"})
    cache_dir: Path | None = field(default=None, metadata={"help": "keeps the reads of the model in use"})


def main(config: ComparisonConfig) -> None:
    raise NotImplementedError


if __name__ == "__main__":
    (settings,) = HfArgumentParser(ComparisonConfig).parse_args_into_dataclasses(look_for_args_file=False)
    try:
        main(settings)
    except PediScreenError as error:
        print(f"compare_models: {error}", file=sys.stderr)
        sys.exit(1)
