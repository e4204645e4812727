"""A Read: what the model says about one image, and what it is read with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from engine.findings.answers import Answer


@dataclass(frozen=True)
class ReadContext:
    """What is known of the child. Unknown is None, and the prompt then leaves it out."""

    sex: Literal["M", "F", None] = None
    age_months: float | None = None


@dataclass(frozen=True)
class Read:
    """One scored read.

    `probabilities` maps every allowed answer of the task to its probability: {"126": 0.08, ...} for bone age,
    {"zone": {...}, "stage": {...}, "plus_disease": {...}} (marginals) for ROP, {"buckle": 0.9, ...} for fracture.
    An abstained read has answer None and a reason; its probabilities are empty."""

    task: str
    answer: Answer | None
    probabilities: dict[str, Any]
    median_months: int | None
    interval_months: tuple[int, int] | None  # 80 %
    abstained: bool
    reason: str | None
    model_version: str
    milliseconds: float

    def as_json(self) -> dict[str, Any]:
        """The read as scripts rely on it (`pediscreen read --json`, the API)."""
        return {
            "task": self.task,
            "answer": self.answer,
            "probabilities": self.probabilities,
            "median_months": self.median_months,
            "interval_months": list(self.interval_months) if self.interval_months else None,
            "abstained": self.abstained,
            "reason": self.reason,
            "model_version": self.model_version,
            "milliseconds": round(self.milliseconds, 1),
        }
