"""What a training run writes down as it goes: config.json, metrics.jsonl and TensorBoard events."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter


class TrainLog:
    """Going on at a step drops what was written after it. `writes`: only the main process does."""

    def __init__(self, output_dir: Path, settings: dict[str, Any], step: int, *, writes: bool) -> None:
        self.file = None
        if not writes:
            return
        path = output_dir / "metrics.jsonl"
        kept = path.read_text(encoding="utf-8").splitlines() if path.is_file() and step else []
        path.write_text("".join(f"{line}\n" for line in kept if _step_of(line) <= step), encoding="utf-8")
        (output_dir / "config.json").write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
        self.file = path.open("a", encoding="utf-8", buffering=1)
        self.board = SummaryWriter(str(output_dir / "tensorboard"), purge_step=step + 1 if step else None)

    def write(self, step: int, figures: dict[str, Any], kind: str) -> None:
        if self.file is None:
            return
        self.file.write(json.dumps({"step": step, "kind": kind, **figures}) + "\n")
        for name, value in figures.items():
            self.board.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        if self.file is not None:
            self.file.close()
            self.board.close()


def _step_of(line: str) -> float:
    with suppress(ValueError, KeyError, TypeError):
        return json.loads(line)["step"]
    return float("inf")  # the half line that a kill left
