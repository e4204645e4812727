"""When each ossification centre of the hand and wrist appears and fuses, in months of bone age, by sex.

The figures and where each comes from are in ossification_centres.csv; most are at atlas-plate resolution or
"approximate, unverified". They make the phantoms vary as hands do; they are no reference for a clinician."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

JITTER_SD_MONTHS = 6.0  # of one centre around the hand's bone age; scaled down below FULL_JITTER_FROM_MONTHS
FULL_JITTER_FROM_MONTHS = 72.0
CARPALS_ADULT_MONTHS = {"M": 168.0, "F": 150.0}  # carpals reach adult size; approximate, unverified
SCAR_FADES_MONTHS = 30.0  # a fused physis stays visible as a line this long; approximate, unverified


@dataclass(frozen=True)
class Centre:
    name: str
    kind: str  # epiphysis, carpal, sesamoid
    appears_months: float
    fusion_starts_months: float | None
    fusion_complete_months: float | None

    def last_visible_change_months(self, sex: str) -> float:
        """From this maturity on, the drawn centre no longer changes."""
        if self.fusion_complete_months is not None:
            return self.fusion_complete_months + SCAR_FADES_MONTHS
        return CARPALS_ADULT_MONTHS[sex] if self.kind == "carpal" else self.appears_months + 38.0


@cache
def centres(sex: str) -> dict[str, Centre]:
    """Every centre of one sex ("M" or "F"), by name, in a fixed order."""

    def months(text: str) -> float | None:
        return float(text) if text else None

    with (Path(__file__).parent / "ossification_centres.csv").open(encoding="utf-8") as file:
        return {
            row["centre"]: Centre(
                row["centre"],
                row["kind"],
                float(row["appears_months"]),
                months(row["fusion_starts_months"]),
                months(row["fusion_complete_months"]),
            )
            for row in csv.DictReader(file)
            if row["sex"] == sex
        }


def draw_maturities(rng: np.random.Generator, bone_age_months: float, sex: str) -> dict[str, float]:
    """One child's own maturity of each centre: the bone age with an independent error for each, so that no
    single bone gives the label away."""
    sd = JITTER_SD_MONTHS * float(np.clip(bone_age_months / FULL_JITTER_FROM_MONTHS, 0.4, 1.0))
    names = list(centres(sex))
    return dict(zip(names, bone_age_months + sd * rng.standard_normal(len(names)), strict=True))
