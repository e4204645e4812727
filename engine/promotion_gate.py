"""May a candidate replace the model in use? Decided on the cases that both have read (training.compare_models)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One line of the gate's table: the mean of both models over some cases, and their difference, paired.

    `difference` is candidate minus in use; above 0 the candidate is worse, whatever `measure` is."""

    task: str
    group: str  # "locked test", "reference phantoms", "corrected cases", "girls", "5-9 y", "site B" ...
    measure: str  # "error", "missed findings", "unread"
    unit: str  # "months", "share"
    cases: int
    patients: int
    in_use: float
    candidate: float
    difference: float
    low: float | None
    high: float | None
    rule: str  # "not worse", "floor", "better", "shown": what is asked of it
    limit: float | None
    passed: bool | None  # None: nothing is asked of this figure


@dataclass(frozen=True)
class WorseCase:
    """A case whose error grew. `picture` is relative to the comparison's folder."""

    case_id: str
    task: str
    group: str
    trained_on: bool
    picture: str | None
    truth: dict[str, Any]
    in_use_answer: dict[str, Any] | None  # None: no read
    candidate_answer: dict[str, Any] | None
    in_use_error: float
    candidate_error: float


@dataclass(frozen=True)
class Decision:
    """`reasons` are sentences for the admin: why it is held, else what it is promoted for."""

    promote: bool
    reasons: list[str]
    figures: list[Figure]
    worse_cases: list[WorseCase]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Decision:
        figures = [Figure(**figure) for figure in found["figures"]]
        return cls(found["promote"], found["reasons"], figures, [WorseCase(**case) for case in found["worse_cases"]])


def decide(comparison: dict[str, Any], *, earlier_tries: int = 0) -> Decision:
    """`comparison` is comparison.json. `earlier_tries`: candidates already compared with this model in use; each try
    at the same test makes a lucky win likelier, so later ones must win more clearly.

    Raises Refused("not_a_comparison") for anything else."""
    raise NotImplementedError
