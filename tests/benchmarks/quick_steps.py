"""The real training steps with less to do, for tests/benchmarks/retrain_kills.py.

python -m tests.benchmarks.quick_steps worker          a worker that retrains with them
python -m tests.benchmarks.quick_steps --adapter_path ...   radiology_merge with a certificate of few images
python -m tests.benchmarks.quick_steps --candidate ...      compare_models with few reference phantoms"""

from __future__ import annotations

import sys

from transformers import HfArgumentParser

from db.models import RetrainStep
from engine.errors import PediScreenError
from engine.findings.answers import Task, View
from engine.phantoms import replay
from engine.settings import settings

REFERENCE = {View.HAND: 30, View.FUNDUS: 8, View.WRIST: 8}
REPLAYED = dict.fromkeys(Task, 10)


def worker() -> None:
    from engine.jobs import retrain, worker

    quick = "tests.benchmarks.quick_steps"
    retrain.MODULES.update({RetrainStep.MERGE: quick, RetrainStep.EVALUATE: quick})
    replay.COUNTS.update(REPLAYED)
    worker.main(settings())


def step(arguments: list[str]) -> None:
    if "--adapter_path" in arguments:
        from training import radiology_merge

        arguments += ["--images_per_task", "4", "--min_agreement", "0.5"]
        parser = HfArgumentParser(radiology_merge.MergeConfig)
        radiology_merge.main(*parser.parse_args_into_dataclasses(arguments, look_for_args_file=False))
    else:
        from training import compare_models

        compare_models.REFERENCE_COUNTS.update(REFERENCE)
        parser = HfArgumentParser(compare_models.ComparisonConfig)
        compare_models.main(*parser.parse_args_into_dataclasses(arguments, look_for_args_file=False))


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        worker()
    else:
        try:
            step(sys.argv[1:])
        except PediScreenError as error:
            sys.exit(f"quick_steps: {error}")
