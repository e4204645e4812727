"""WHO z-scores and centiles: height, weight, BMI, head circumference for age, and weight for length or height.

Standards (2006) below 60 months, reference (2007) from 60 to 228 months; weight for age ends at 120 months, head
circumference and weight for length or height at 60. Where WHO has no table there is no z: the value is NaN.

Sources
    WHO 2006  WHO Child Growth Standards: methods and development, Geneva 2006 and 2007 (chapter 7: computation)
    WHO 2007  de Onis et al., Bull World Health Organ 2007;85:660-667
    LMS       Cole & Green, Stat Med 1992;11:1305-19
    Rules that the two reports leave open (rounding of days, interpolation, 0.7 cm, flags) are those of WHO's own
    software, WorldHealthOrganization/anthro and anthroplus, which the tests compare with.

Here is the arithmetic, on arrays; growth_visits.py checks what comes in first and is what pages and files use."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import cache

import numpy as np
from scipy.special import ndtr, ndtri

from engine.findings import who_tables
from engine.findings.who_tables import FIRST_MONTH, LAST_DAY, LAST_MONTH, SEXES

DAYS_PER_MONTH = 30.4375  # WHO anthro: 365.25 / 12
STANDING_FROM_DAYS = 731  # WHO 2006: length below, standing height from here on
LYING_IS_LONGER_CM = 0.7  # WHO 2006: what is added to or taken from a measurement in the other position
NO_STANDING_BELOW_MONTHS = 9  # WHO anthro: "standing" below is taken as not said
CHART_CENTILES_PERCENT = (3.0, 15.0, 50.0, 85.0, 97.0)  # those of WHO's charts


class Indicator(StrEnum):
    HEIGHT = "height_for_age"
    WEIGHT = "weight_for_age"
    BMI = "bmi_for_age"
    HEAD = "head_circumference_for_age"
    WEIGHT_FOR_LENGTH = "weight_for_length_height"


UNITS = {
    Indicator.HEIGHT: "cm",
    Indicator.WEIGHT: "kg",
    Indicator.BMI: "kg/m²",
    Indicator.HEAD: "cm",
    Indicator.WEIGHT_FOR_LENGTH: "kg",
}

# WHO anthro and anthroplus: a z outside is "extreme, most likely an error in measurement or entry".
PLAUSIBLE_Z = {
    Indicator.HEIGHT: (-6.0, 6.0),
    Indicator.WEIGHT: (-6.0, 5.0),
    Indicator.BMI: (-5.0, 5.0),
    Indicator.HEAD: (-5.0, 5.0),
    Indicator.WEIGHT_FOR_LENGTH: (-5.0, 5.0),
}
# WHO 2006, chapter 7: beyond 3 SD these go on in steps of the distance from 2 to 3 SD; the others do not.
RESTRICTED = frozenset({Indicator.WEIGHT, Indicator.BMI, Indicator.WEIGHT_FOR_LENGTH})
WEIGHT_RELATED = RESTRICTED  # no z for a child with oedema

STANDARD_2006 = "WHO child growth standards 2006"
STANDARD_2007 = "WHO growth reference 2007"


@dataclass(frozen=True)
class GrowthScores:
    """One value a child, in arrays of shape (n,); NaN (or an empty string) where there is none.

    `z` is not rounded. `implausible` is WHO's flag, decided on the z rounded to two decimals, as WHO does.
    `height_cm` is length below 731 days and standing height from there on, whichever way it was measured."""

    age_days: np.ndarray
    age_months: np.ndarray
    standard: np.ndarray
    height_cm: np.ndarray
    bmi_kg_m2: np.ndarray
    z: dict[Indicator, np.ndarray]
    implausible: dict[Indicator, np.ndarray]

    def centile_percent(self, indicator: Indicator) -> np.ndarray:
        return centile_percent(self.z[indicator])


@dataclass(frozen=True)
class Curves:
    """Lines of a growth chart. `values` has one line a centile (percent) or z; every line is as long as `age_months`.

    A NaN in all lines stands between length and height (731 days; height and BMI) and between the standards and the
    reference (60 months), so that a chart shows WHO's steps there rather than joining them."""

    indicator: Indicator
    sex: str
    unit: str
    age_months: np.ndarray
    values: dict[float, np.ndarray]


def growth_scores(
    sex: np.ndarray,
    *,
    age_days: np.ndarray | None = None,
    age_months: np.ndarray | None = None,
    weight_kg: np.ndarray | None = None,
    length_height_cm: np.ndarray | None = None,
    measured: np.ndarray | None = None,
    head_circumference_cm: np.ndarray | None = None,
    oedema: np.ndarray | None = None,
) -> GrowthScores:
    """Z-scores of n children at once.

    Parameters
    ----------
    sex : (n,) of "M" or "F"; any other value gives no z.
    age_days, age_months : (n,); where both are given for a child, the days count. Months are as exact as known,
        never completed months.
    measured : (n,) of "lying" or "standing"; any other value stands for the position WHO's table has at that age.
    oedema : (n,) bool; where true, nothing that depends on weight is scored.
    Measurements are (n,) with NaN where unknown; zero and below count as unknown.
    """
    count = len(sex)
    row_of_sex = _row_of_sex(sex)
    days, months = _ages(count, age_days, age_months)
    day = _whole_day(days)
    weight = _positive(count, weight_kg)
    head = _positive(count, head_circumference_cm)
    height = _standardised_height(_positive(count, length_height_cm), day, months, measured)
    bmi = weight / (height / 100) ** 2
    is_2006 = _in_2006(day, months)

    dry = np.ones(count, bool) if oedema is None else ~np.asarray(oedema, bool)
    measurements = {
        Indicator.HEIGHT: height,
        Indicator.WEIGHT: np.where(dry, weight, np.nan),
        Indicator.BMI: np.where(dry, bmi, np.nan),
        Indicator.HEAD: head,
    }
    z = {}
    for indicator, measurement in measurements.items():
        lms = _lms(indicator, row_of_sex, day, months, is_2006)
        z[indicator] = z_of(measurement, lms, restricted=indicator in RESTRICTED)
    lms = _lms_for_length(row_of_sex, height, day, is_2006)
    z[Indicator.WEIGHT_FOR_LENGTH] = z_of(measurements[Indicator.WEIGHT], lms, restricted=True)

    is_2007 = (months >= FIRST_MONTH) & (months <= LAST_MONTH[Indicator.HEIGHT])
    return GrowthScores(
        age_days=days,
        age_months=months,
        standard=np.where(is_2006, STANDARD_2006, np.where(is_2007, STANDARD_2007, "")),
        height_cm=height,
        bmi_kg_m2=bmi,
        z=z,
        implausible={indicator: outside(values, PLAUSIBLE_Z[indicator]) for indicator, values in z.items()},
    )


def median_for_age(
    indicator: Indicator, sex: np.ndarray, *, age_days: np.ndarray | None = None, age_months: np.ndarray | None = None
) -> np.ndarray:
    """The reference's median, (n,), in the indicator's unit; NaN where there is no table."""
    days, months = _ages(len(sex), age_days, age_months)
    day = _whole_day(days)
    return _lms(indicator, _row_of_sex(sex), day, months, _in_2006(day, months))[:, 1]


def z_of(measurement: np.ndarray, lms: np.ndarray, *, restricted: bool) -> np.ndarray:
    """Z-scores against L, M, S (n, 3): ((y / M) ** L - 1) / (L S), or ln(y / M) / S where L is 0 (Cole & Green 1992).

    `restricted` (WHO 2006, chapter 7): beyond 3 SD, where the skew of weight has no data behind it, z goes on by the
    measured distance between 2 and 3 SD."""
    l, m, s = np.moveaxis(lms, -1, 0)  # noqa: E741 - the method's own letters
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        log_ratio = np.log(measurement / m)
        z = np.where(l == 0, log_ratio / s, np.expm1(l * log_ratio) / (l * s))
        if restricted:
            for sign in (1, -1):
                beyond = np.flatnonzero(sign * z > 3)
                at_3 = _unrestricted_measurement(3.0 * sign, lms[beyond])
                step = np.abs(at_3 - _unrestricted_measurement(2.0 * sign, lms[beyond]))
                z[beyond] = sign * 3 + (measurement[beyond] - at_3) / step
    return z


def measurement_at(z: float, lms: np.ndarray, *, restricted: bool) -> np.ndarray:
    """The measurement with this z: the inverse of `z_of`, for L, M, S (n, 3)."""
    if not restricted or abs(z) <= 3:
        return _unrestricted_measurement(z, lms)
    sign = 1.0 if z > 0 else -1.0
    at_3 = _unrestricted_measurement(3.0 * sign, lms)
    return at_3 + (z - 3 * sign) * np.abs(at_3 - _unrestricted_measurement(2.0 * sign, lms))


def centile_percent(z: np.ndarray | float) -> np.ndarray:
    """The share of the reference below, in percent: 50 for z = 0."""
    return 100 * ndtr(z)


def outside(z: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    rounded = np.round(z, 2)
    return (rounded < limits[0]) | (rounded > limits[1])  # NaN is neither


def centile_curves(
    indicator: Indicator,
    sex: str,
    centiles_percent: tuple[float, ...] = CHART_CENTILES_PERCENT,
    *,
    from_months: float = 0,
    to_months: float = 228,
) -> Curves:
    """The lines of a growth chart, by default WHO's 3rd, 15th, 50th, 85th and 97th centile."""
    z_values = {percent: float(ndtri(percent / 100)) for percent in centiles_percent}
    return _curves(indicator, sex, z_values, from_months, to_months)


def z_curves(
    indicator: Indicator,
    sex: str,
    z_values: tuple[float, ...] = (-3.0, -2.0, 0.0, 2.0, 3.0),
    *,
    from_months: float = 0,
    to_months: float = 228,
) -> Curves:
    return _curves(indicator, sex, {z: z for z in z_values}, from_months, to_months)


def _curves(indicator: Indicator, sex: str, z_values: dict[float, float], start: float, end: float) -> Curves:
    """Raises ValueError for a sex other than M and F, and for weight for length, whose axis is not age."""
    if indicator is Indicator.WEIGHT_FOR_LENGTH:
        raise ValueError("weight for length or height has no curve over age")
    age_months, lms = _curve_lms(indicator, SEXES.index(sex))
    shown = (age_months >= start) & (age_months <= end)
    values = {label: measurement_at(z, lms[shown], restricted=indicator in RESTRICTED) for label, z in z_values.items()}
    return Curves(indicator, sex, UNITS[indicator], age_months[shown], values)


@cache
def _curve_lms(indicator: Indicator, row_of_sex: int) -> tuple[np.ndarray, np.ndarray]:
    """Ages in months and their L, M, S: every seventh day, then every month, NaN where WHO's tables have a step."""
    gap = np.full((1, 3), np.nan)
    daily = who_tables.by_day(indicator)[row_of_sex]
    last = int(np.ceil(FIRST_MONTH * DAYS_PER_MONTH)) - 1  # the last day below 60 months
    lying = np.unique(np.append(np.arange(0, STANDING_FROM_DAYS, 7), STANDING_FROM_DAYS - 1))
    standing = np.unique(np.append(np.arange(STANDING_FROM_DAYS, last, 7), last))
    days = np.concatenate([lying, standing])
    ages, lms = days / DAYS_PER_MONTH, daily[days]
    if indicator in (Indicator.HEIGHT, Indicator.BMI):
        ages = np.insert(ages, len(lying), (STANDING_FROM_DAYS - 0.5) / DAYS_PER_MONTH)
        lms = np.insert(lms, len(lying), gap, axis=0)
    if indicator in LAST_MONTH:
        months = np.arange(FIRST_MONTH, LAST_MONTH[indicator] + 1)
        ages = np.concatenate([ages, [(ages[-1] + FIRST_MONTH) / 2], months])
        lms = np.concatenate([lms, gap, who_tables.by_month(indicator)[row_of_sex]])
    return ages, lms


def _row_of_sex(sex: np.ndarray) -> np.ndarray:
    sex = np.asarray(sex)
    return np.where(sex == SEXES[0], 0, np.where(sex == SEXES[1], 1, -1))


def _whole_day(days: np.ndarray) -> np.ndarray:
    return np.floor(days + 0.5)  # WHO anthro rounds half up


def _in_2006(day: np.ndarray, months: np.ndarray) -> np.ndarray:
    return (day >= 0) & (day <= LAST_DAY) & (months < FIRST_MONTH)


def _ages(count: int, age_days: np.ndarray | None, age_months: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    days = _column(count, age_days)
    months = _column(count, age_months)
    from_days = ~np.isnan(days)
    return np.where(from_days, days, months * DAYS_PER_MONTH), np.where(from_days, days / DAYS_PER_MONTH, months)


def _column(count: int, values: np.ndarray | None) -> np.ndarray:
    if values is None:
        return np.full(count, np.nan)
    column = np.asarray(values, float)
    if column.shape != (count,):
        raise ValueError(f"expected {count} values, found an array of shape {column.shape}")
    return column


def _positive(count: int, values: np.ndarray | None) -> np.ndarray:
    column = _column(count, values)
    return np.where(column > 0, column, np.nan)


def _standardised_height(
    height: np.ndarray, day: np.ndarray, months: np.ndarray, measured: np.ndarray | None
) -> np.ndarray:
    if measured is None:
        return height
    measured = np.asarray(measured)
    stood_early = (measured == "standing") & (day < STANDING_FROM_DAYS) & (months >= NO_STANDING_BELOW_MONTHS)
    lay_late = (measured == "lying") & (day >= STANDING_FROM_DAYS)
    return height + LYING_IS_LONGER_CM * stood_early - LYING_IS_LONGER_CM * lay_late


def _lms(
    indicator: Indicator, row_of_sex: np.ndarray, day: np.ndarray, months: np.ndarray, is_2006: np.ndarray
) -> np.ndarray:
    """(n, 3); NaN where there is no table for the sex and age."""
    lms = np.full((len(day), 3), np.nan)
    known = row_of_sex >= 0
    young = np.flatnonzero(is_2006 & known)
    lms[young] = who_tables.by_day(indicator)[row_of_sex[young], day[young].astype(int)]
    if indicator in LAST_MONTH:
        older = np.flatnonzero((months >= FIRST_MONTH) & (months <= LAST_MONTH[indicator]) & known)
        lms[older] = _interpolated(who_tables.by_month(indicator), row_of_sex[older], months[older] - FIRST_MONTH)
    return lms


def _lms_for_length(row_of_sex: np.ndarray, height: np.ndarray, day: np.ndarray, is_2006: np.ndarray) -> np.ndarray:
    """(n, 3) for weight by length (below 731 days) or height; NaN where there is no table."""
    lms = np.full((len(day), 3), np.nan)
    lying = day < STANDING_FROM_DAYS
    for in_position, table, first, last in (
        (lying, who_tables.by_length(), who_tables.FIRST_LENGTH_CM, who_tables.LAST_LENGTH_CM),
        (~lying, who_tables.by_height(), who_tables.FIRST_HEIGHT_CM, who_tables.LAST_HEIGHT_CM),
    ):
        chosen = np.flatnonzero(in_position & is_2006 & (row_of_sex >= 0) & (height >= first) & (height <= last))
        lms[chosen] = _interpolated(table, row_of_sex[chosen], (height[chosen] - first) * 10)
    return lms


def _interpolated(table: np.ndarray, row_of_sex: np.ndarray, position: np.ndarray) -> np.ndarray:
    """L, M and S each interpolated between the rows around `position`, as WHO's software does."""
    low = np.floor(position).astype(int)
    high = np.minimum(low + 1, table.shape[1] - 1)
    share = (position - low)[:, None]
    return table[row_of_sex, low] * (1 - share) + table[row_of_sex, high] * share


def _unrestricted_measurement(z: float, lms: np.ndarray) -> np.ndarray:
    l, m, s = np.moveaxis(lms, -1, 0)  # noqa: E741 - the method's own letters
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(l == 0, m * np.exp(s * z), m * (1 + l * s * z) ** (1 / l))
