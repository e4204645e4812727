"""How soon a finding wants action, with the reason in words and where the rule comes from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
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
    whoever shows the urgency shows that too. `within_hours`: the rule's time, counted from the examination; None where
    it gives none."""

    level: Level
    reason: str | None = None
    source: str | None = None
    unverified: bool = False
    within_hours: int | None = None

    def act_by(self, examined_on: date | None) -> date | None:
        """The day on which the rule's time runs out. Of an examination only its day is known, so that the hours are
        given in days; None where the rule or the examination has no date."""
        if self.within_hours is None or examined_on is None:
            return None
        return examined_on + timedelta(days=self.within_hours // 24)


NO_URGENCY = Urgency(Level.NONE)


def most_urgent(urgencies: list[Urgency]) -> Urgency:
    """The gravest of them, among equals the one with the least time (the earlier one where two are equal); NO_URGENCY
    for an empty list."""
    never = 10**6
    return max(
        urgencies,
        key=lambda urgency: (
            LEVELS.index(urgency.level),
            -(never if urgency.within_hours is None else urgency.within_hours),
        ),
        default=NO_URGENCY,
    )
