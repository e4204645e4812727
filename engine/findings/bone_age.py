"""Bone age: months on the Greulich-Pyle scale, set against the child's age and the atlas. No urgency follows from a
bone age by itself.

Sources
    tables/bone_age_sd.csv, tables/greulich_pyle_plates.csv: see tables/sources.csv for the figures.
    Bone-age SDS = (bone age - chronological age) / SD of bone age in children of that age and sex: Greulich & Pyle
    1959. The SD between two rows of a table is interpolated; outside a table there is none.
    Delayed or advanced beyond 2 SD: the usual convention, unverified."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from math import isfinite

import numpy as np

from engine.findings import reference
from engine.findings.age import months_words
from engine.findings.answers import Answer
from engine.findings.reference import Refusal, Source, Status
from engine.findings.urgency import NO_URGENCY, Urgency

# Chronological ages the atlas can speak about; outside, no read is offered.
# Source: dicom-ingest rules of this project ("0-19 y for bone age"); the atlas' last plate for boys is 19 y.
MAX_CHRONOLOGICAL_AGE_MONTHS = 19 * 12
# Up to here two readings of one film may differ: the RMS difference of two manual ratings is 0.63 y (Thodberg &
# Savendahl, Acad Radiol 2010;17:1425-32).
TWO_READINGS_DIFFER_MONTHS = 8
USUAL_SDS = 2.0
MEANING_SOURCE = Source("convention: delayed or advanced beyond 2 SD", Status.UNVERIFIED)


class SdTable(StrEnum):
    """Whose children the SD comes from."""

    GREULICH_PYLE = "greulich_pyle"
    BRUSH = "brush"


TABLE_NAMES = {SdTable.GREULICH_PYLE: "Greulich-Pyle 1959, Tables V and VI", SdTable.BRUSH: "Brush Foundation"}


@dataclass(frozen=True)
class MeanDistance:
    """Bone age against the table's own mean bone age at that age, rather than against the age itself."""

    sds: float
    mean_bone_age_months: float
    source: Source


@dataclass(frozen=True)
class BoneAgeSds:
    """`source.status` (and that of `about_mean`, which only the Brush table has) belongs on the screen."""

    sds: float
    difference_months: float
    sd_months: float
    table: SdTable
    interpolated: bool  # the age lies between two rows of the table
    source: Source
    about_mean: MeanDistance | None = None

    @property
    def table_name(self) -> str:
        return TABLE_NAMES[self.table]

    @property
    def meaning(self) -> str:
        """ "delayed", "advanced" or "within 2 SD"; by MEANING_SOURCE, which is unverified."""
        if abs(round(self.sds, 2)) <= USUAL_SDS:  # as it is shown
            return "within 2 SD"
        return "advanced" if self.sds > 0 else "delayed"


@dataclass(frozen=True)
class Plate:
    """A plate of the Greulich-Pyle atlas, by its number among those of the sex."""

    sex: str
    number: int
    bone_age_months: int
    source: Source

    @property
    def words(self) -> str:
        return months_words(self.bone_age_months)


@dataclass(frozen=True)
class NearestPlates:
    """`nearest` has two plates when the bone age lies just between them. `below` and `above` are the neighbours, the
    same plate where the bone age is a plate's own, None beyond the first or last."""

    nearest: tuple[Plate, ...]
    below: Plate | None
    above: Plate | None


def words(answer: Answer) -> str:
    return months_words(int(answer["bone_age_months"]))


def urgency(answer: Answer) -> Urgency:
    return NO_URGENCY


def why_not_readable(sex: str | None, age_months: float | None) -> str | None:
    """Why a bone age cannot be read for this child, or None. The scale differs by sex, so sex must be known."""
    if sex is None:
        return "the child's sex is unknown and bone age depends on it: enter it on the case"
    if age_months is not None and age_months > MAX_CHRONOLOGICAL_AGE_MONTHS:
        return f"at {months_words(age_months)} the child is older than the bone-age scale reaches (19 y)"
    return None


def bone_age_sds(
    bone_age_months: float,
    chronological_age_months: float | None,
    sex: str | None,
    table: SdTable = SdTable.GREULICH_PYLE,
) -> BoneAgeSds | Refusal:
    """How far bone age is from the child's age, in SD of the named table; or why that cannot be said."""
    refusal = _unknown_child(bone_age_months, chronological_age_months, sex)
    if refusal is not None:
        return refusal
    ages, sds, means, source, mean_source = _sd_rows(table, sex)
    if not ages[0] <= chronological_age_months <= ages[-1]:
        reach = f"{months_words(ages[0])} to {months_words(ages[-1])}"
        return Refusal(
            "outside_table",
            f"{TABLE_NAMES[table]} has no SD for a {_child(sex)} of {months_words(chronological_age_months)},"
            f" only from {reach}",
        )
    sd = interpolate(ages, sds, chronological_age_months)
    difference = bone_age_months - chronological_age_months
    about_mean = None
    if means is not None:
        mean = interpolate(ages, means, chronological_age_months)
        about_mean = MeanDistance((bone_age_months - mean) / sd, mean, mean_source)
    return BoneAgeSds(difference / sd, difference, sd, table, chronological_age_months not in ages, source, about_mean)


def bone_age_sds_values(
    bone_age_months: np.ndarray,
    chronological_age_months: np.ndarray,
    sex: np.ndarray,
    table: SdTable = SdTable.GREULICH_PYLE,
) -> np.ndarray:
    """`bone_age_sds` of many films at once: (n,), NaN where that refuses."""
    values = np.full(len(sex), np.nan)
    for one in ("M", "F"):
        ages, sds, *_ = _sd_rows(table, one)
        of_sex = np.asarray(sex) == one
        sd = np.interp(chronological_age_months[of_sex], ages, sds, left=np.nan, right=np.nan)
        values[of_sex] = (bone_age_months[of_sex] - chronological_age_months[of_sex]) / sd
    return np.where(np.asarray(bone_age_months) >= 0, values, np.nan)


def nearest_plates(bone_age_months: float, sex: str | None) -> NearestPlates | Refusal:
    """The plates of the atlas around a bone age, to compare the film with."""
    if sex not in ("M", "F"):
        return Refusal("no_sex", "the atlas has plates by sex, and the child's sex is unknown")
    plates = atlas(sex)
    if not (isfinite(bone_age_months) and 0 <= bone_age_months <= MAX_CHRONOLOGICAL_AGE_MONTHS):
        return Refusal("outside_table", f"{bone_age_months:g} months is no bone age of the atlas (0 to 19 y)")
    least = min(abs(plate.bone_age_months - bone_age_months) for plate in plates)
    return NearestPlates(
        nearest=tuple(plate for plate in plates if abs(plate.bone_age_months - bone_age_months) == least),
        below=max((p for p in plates if p.bone_age_months <= bone_age_months), key=_age_of, default=None),
        above=min((p for p in plates if p.bone_age_months >= bone_age_months), key=_age_of, default=None),
    )


@cache
def atlas(sex: str) -> tuple[Plate, ...]:
    """Every plate of one sex ("M" or "F"), youngest first."""
    return tuple(
        Plate(sex, int(row["plate"]), int(row["bone_age_months"]), reference.source(row["source"]))
        for row in reference.rows("greulich_pyle_plates")
        if row["sex"] == sex
    )


def interpolate(ages: tuple[float, ...], values: tuple[float, ...], age: float) -> float:
    """The value at `age`, which must not lie outside `ages` (rising): a row's own value, or on the line between two."""
    upper = next(index for index, row_age in enumerate(ages) if row_age >= age)
    if ages[upper] == age:
        return values[upper]
    share = (age - ages[upper - 1]) / (ages[upper] - ages[upper - 1])
    return values[upper - 1] + share * (values[upper] - values[upper - 1])


@cache
def _sd_rows(
    table: SdTable, sex: str
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...] | None, Source, Source | None]:
    """Ages, SDs and (where the table has them) mean bone ages, all in months, with their sources."""
    chosen = [row for row in reference.rows("bone_age_sd") if (row["table"], row["sex"]) == (table, sex)]
    ages = tuple(float(row["chronological_age_months"]) for row in chosen)
    sds = tuple(float(row["sd_months"]) for row in chosen)
    source = reference.source(chosen[0]["source"])
    if not chosen[0]["mean_source"]:
        return ages, sds, None, source, None
    means = tuple(float(row["mean_bone_age_months"]) for row in chosen)
    return ages, sds, means, source, reference.source(chosen[0]["mean_source"])


def _unknown_child(bone_age_months: float, chronological_age_months: float | None, sex: str | None) -> Refusal | None:
    if sex not in ("M", "F"):
        return Refusal("no_sex", "the child's sex is unknown and the tables differ by sex")
    if chronological_age_months is None or not isfinite(chronological_age_months):
        return Refusal("no_age", "the child's age at the film is unknown")
    if not (isfinite(bone_age_months) and bone_age_months >= 0):
        return Refusal("no_bone_age", f"{bone_age_months:g} months is no bone age")
    return None


def _child(sex: str) -> str:
    return "boy" if sex == "M" else "girl"


def _age_of(plate: Plate) -> int:
    return plate.bone_age_months
