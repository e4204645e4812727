"""Predicted adult height by Bayley and Pinneau: height now, divided by the share of it reached at this bone age.

Sources
    tables/bayley_pinneau.csv: Bayley & Pinneau, J Pediatr 1952;40:423-441, in Greulich & Pyle 1959
    Which table: bone age a year or more ahead of the age is accelerated, a year or more behind retarded, otherwise
    average (directions of the tables, read in the same public transcription)
    Between two rows the share is interpolated, as users of the tables do; outside a table there is no prediction. The
    tables for boys whose bone age is behind end at 13 years: their continuation was not found.
    Limits: Tarim, Turk J Pediatr 2013;55:485-492 (too high with an advanced, too low with a delayed bone age)"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from math import isfinite

from engine.findings import reference
from engine.findings.age import months_words
from engine.findings.bone_age import interpolate
from engine.findings.growth_visits import Visit, score_visit
from engine.findings.reference import Refusal, Source

A_YEAR_MONTHS = 12
LIMITS = (
    "An estimate for healthy children, by tables of 1952: known to be too high where bone age is advanced and"
    " too low where it is delayed; not for children with a growth disorder or under treatment that changes growth."
)


class Maturity(StrEnum):
    """Which of the tables, by their own names."""

    AVERAGE = "average"
    ACCELERATED = "accelerated"
    RETARDED = "retarded"


MATURITY_WORDS = {
    Maturity.AVERAGE: "bone age within a year of the age",
    Maturity.ACCELERATED: "bone age a year or more ahead",
    Maturity.RETARDED: "bone age a year or more behind",
}


@dataclass(frozen=True)
class AdultHeight:
    """`limits` and `source.status` belong beside the figure wherever it is shown."""

    adult_height_cm: float
    percent_of_mature_height: float
    maturity: Maturity
    interpolated: bool  # the bone age lies between two rows of the table
    source: Source
    limits: str = LIMITS

    @property
    def maturity_words(self) -> str:
        return MATURITY_WORDS[self.maturity]


def maturity(bone_age_months: float, chronological_age_months: float) -> Maturity:
    ahead = bone_age_months - chronological_age_months
    if ahead >= A_YEAR_MONTHS:
        return Maturity.ACCELERATED
    return Maturity.RETARDED if ahead <= -A_YEAR_MONTHS else Maturity.AVERAGE


def adult_height(
    height_cm: float | None, bone_age_months: float, chronological_age_months: float | None, sex: str | None
) -> AdultHeight | Refusal:
    """Predicted adult height from the standing height at the time of the film; or why there is none.

    A height that cannot be right for the child's age (metres, inches) is refused as growth_visits does."""
    if sex not in ("M", "F"):
        return Refusal("no_sex", "the child's sex is unknown and the tables differ by sex")
    if chronological_age_months is None or not isfinite(chronological_age_months):
        return Refusal("no_age", "the child's age at the film is unknown, and it decides which table counts")
    if height_cm is None:
        return Refusal("not_measured", "no height was measured at the time of the film")
    checked = score_visit(Visit(sex, age_months=chronological_age_months, length_height_cm=height_cm))
    for issue in checked.issues:
        if issue.withholds:
            return Refusal(issue.code, issue.message)
    group = maturity(bone_age_months, chronological_age_months)
    ages, percents, source = _rows(sex, group)
    if not ages[0] <= bone_age_months <= ages[-1]:  # also for a bone age that is not a number
        child = "boys" if sex == "M" else "girls"
        return Refusal(
            "outside_table",
            f"Bayley-Pinneau has no figure for {child} with a bone age of {_words(bone_age_months)} when it is"
            f" {group} ({MATURITY_WORDS[group]}), only from {months_words(ages[0])} to {months_words(ages[-1])}",
        )
    percent = interpolate(ages, percents, bone_age_months)
    return AdultHeight(height_cm / percent * 100, percent, group, bone_age_months not in ages, source)


@cache
def _rows(sex: str, group: Maturity) -> tuple[tuple[float, ...], tuple[float, ...], Source]:
    """Bone ages in months and percent of mature height."""
    chosen = [row for row in reference.rows("bayley_pinneau") if (row["sex"], row["maturity"]) == (sex, group)]
    ages = tuple(float(row["bone_age_months"]) for row in chosen)
    percents = tuple(float(row["percent_of_mature_height"]) for row in chosen)
    return ages, percents, reference.source(chosen[0]["source"])


def _words(months: float) -> str:
    return months_words(months) if isfinite(months) else f"{months:g} months"
