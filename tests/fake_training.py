"""Training steps that need no model, for tests of what runs them: `python -m tests.fake_training` with the flags of
training.train_radiology, training.radiology_merge or training.compare_models.

FAKE_FAIL names the step that fails (with FAKE_SENTENCE, or as FAKE_CRASH says), FAKE_STEP_S is what each of the ten
training steps takes, FAKE_VERDICT how good the candidate is: "better", or "worse"."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import time
from pathlib import Path

TRAINING_STEPS = 10


def train(flags: dict[str, str]) -> None:
    """Goes on from its checkpoint; each step is one line of metrics.jsonl."""
    folder = Path(flags["output_dir"])
    lora = folder / "lora"
    if (lora / "adapter_config.json").is_file():
        return
    lora.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(flags))
    checkpoint = folder / "checkpoint"
    done = int(checkpoint.read_text()) if checkpoint.is_file() else 0
    metrics = folder / "metrics.jsonl"
    kept = metrics.read_text().splitlines()[:done] if metrics.is_file() else []
    metrics.write_text("".join(f"{line}\n" for line in kept))
    for step in range(done + 1, TRAINING_STEPS + 1):
        time.sleep(float(os.environ.get("FAKE_STEP_S", "0")))
        with metrics.open("a") as log:
            print(json.dumps({"step": step, "kind": "train", "loss": 1 / step}), file=log)
        unfinished = folder / "checkpoint.part"
        unfinished.write_text(str(step))
        unfinished.replace(checkpoint)
        print(f"training: {10 * step}%|###       | {step}/10", end="\r", file=sys.stderr)
    (lora / "adapter_model.safetensors").write_bytes(b"adapter")
    (lora / "adapter_config.json").write_text("{}")


def merge(flags: dict[str, str]) -> None:
    out = Path(flags["output_path"])
    unfinished = out.parent / f".{out.name}-{os.getpid()}"
    unfinished.mkdir()
    (unfinished / "model.safetensors").write_bytes(flags["name"].encode())
    (unfinished / "reading.json").write_text(json.dumps({"name": flags["name"], "is_phantom": True}))
    time.sleep(float(os.environ.get("FAKE_STEP_S", "0")))
    (unfinished / "config.json").write_text("{}")
    unfinished.rename(out)


def evaluate(flags: dict[str, str]) -> None:
    import numpy as np

    from tests.engine.test_promotion_gate import BETTER, COUNTS, OLD, comparison

    rng = np.random.default_rng(5)
    better = os.environ.get("FAKE_VERDICT", "better") == "better"
    found = comparison(rng, OLD, BETTER, COUNTS) if better else comparison(rng, BETTER, OLD, COUNTS)
    out = Path(flags["output_dir"])
    unfinished = out.with_name(".comparison.part")
    unfinished.mkdir(exist_ok=True)
    for done in range(4):
        time.sleep(float(os.environ.get("FAKE_STEP_S", "0")))
        print(json.dumps({"done": done, "of": 4}))
    (unfinished / "comparison.json").write_text(json.dumps(found))
    unfinished.rename(out)


def crash(how: str | None) -> None:
    if how == "disk_full":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if how == "memory":
        raise MemoryError
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "mistake":
        raise ZeroDivisionError("division by zero")


def main(arguments: list[str]) -> int:
    flags = {name.removeprefix("--"): value for name, value in zip(arguments[::2], arguments[1::2], strict=True)}
    step = "merge" if "adapter_path" in flags else "evaluate" if "candidate" in flags else "train"
    if os.environ.get("FAKE_FAIL") == step:
        crash(os.environ.get("FAKE_CRASH"))
        sentence = os.environ.get("FAKE_SENTENCE", f"The {step} found something wrong.")
        print(f"fake_training: {sentence}", file=sys.stderr)
        return 1
    {"train": train, "merge": merge, "evaluate": evaluate}[step](flags)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
