"""How soon a finding wants action, with the reason in words and where the rule comes from."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """Mildest first."""

    NONE = "none"
    SOON = "soon"
    URGENT = "urgent"
    IMMEDIATE = "immediate"


LEVELS = tuple(Level)


@dataclass(frozen=True)
class Urgency:
    """`unverified`: the rule, or part of it, still has to be checked against the primary document by a clinician;
    whoever shows the urgency shows that too."""

    level: Level
    reason: str | None = None
    source: str | None = None
    unverified: bool = False


NO_URGENCY = Urgency(Level.NONE)


def most_urgent(urgencies: list[Urgency]) -> Urgency:
    """The gravest of them (the earlier one where two are equal); NO_URGENCY for an empty list."""
    return max(urgencies, key=lambda urgency: LEVELS.index(urgency.level), default=NO_URGENCY)
