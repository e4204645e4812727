"""The groups of children by whom figures are told apart: sex, age, site."""

from __future__ import annotations

from engine.findings.answers import Task

UNKNOWN = "unknown"
SEX_NAMES = {"F": "girls", "M": "boys"}

# From this many months on. Five-year bands split childhood the same way for girls and boys; bands by puberty would need
# a table for each sex. A wide last band, because films get rare there.
AGE_BANDS: tuple[tuple[int, str], ...] = ((0, "0-4 y"), (60, "5-9 y"), (120, "10-14 y"), (180, "15 y and older"))
# Screening begins at four to six weeks of age and mostly ends before four months. What grades disease is the time since
# conception, which annotations do not have. The limits are unverified.
ROP_AGE_BANDS: tuple[tuple[int, str], ...] = ((0, "under 2 months"), (2, "2-3 months"), (4, "4 months and older"))


def sex_name(sex: str | None) -> str:
    return SEX_NAMES.get(sex or "", UNKNOWN)


def age_band(task: Task, age_months: float | None) -> str:
    if age_months is None:
        return UNKNOWN
    return next(name for start, name in reversed(age_bands(task)) if age_months >= start)


def age_bands(task: Task) -> tuple[tuple[int, str], ...]:
    return ROP_AGE_BANDS if task is Task.ROP else AGE_BANDS
