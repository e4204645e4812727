"""WHO z-scores against WHO's own software, WHO's published field tables, and the formulas written out again."""

import csv
import math
import random
from pathlib import Path

import numpy as np
import pytest

from engine.findings import who_tables
from engine.findings.growth import (
    CHART_CENTILES_PERCENT,
    DAYS_PER_MONTH,
    RESTRICTED,
    STANDARD_2006,
    STANDARD_2007,
    Indicator,
    centile_curves,
    centile_percent,
    growth_scores,
    measurement_at,
    outside,
    z_curves,
    z_of,
)
from engine.settings import PROJECT_DIR

WHO = PROJECT_DIR.parent / "shared" / "reference" / "who"
FIELD_TABLES = Path(__file__).parent / "who_field_tables.csv"
POSITION = {"l": "lying", "h": "standing", "": ""}
needs_who_cases = pytest.mark.skipif(not WHO.exists(), reason="WHO's computed cases are not beside this checkout")


class Cases:
    def __init__(self, name: str) -> None:
        with (WHO / name).open(encoding="utf-8") as file:
            self.rows = list(csv.DictReader(file))

    def text(self, column: str) -> np.ndarray:
        return np.array([row[column] for row in self.rows])

    def numbers(self, column: str) -> np.ndarray:
        return np.array([float(row[column]) if row[column] else math.nan for row in self.rows])


def assert_equal_to_who(cases: Cases, column: str, z: np.ndarray) -> None:
    np.testing.assert_allclose(np.round(z, 2), cases.numbers(column), rtol=0, atol=1e-9, equal_nan=True)


@needs_who_cases
def test_640_cases_below_60_months_equal_who_anthro() -> None:
    cases = Cases("oracle_who2006_0_60m_generated.csv")
    assert len(cases.rows) == 640
    scores = growth_scores(
        cases.text("sex"),
        age_days=cases.numbers("age_days"),
        weight_kg=cases.numbers("weight_kg"),
        length_height_cm=cases.numbers("lenhei_cm"),
        measured=np.array([POSITION[measure] for measure in cases.text("measure")]),
        head_circumference_cm=cases.numbers("headc_cm"),
    )
    np.testing.assert_allclose(scores.height_cm, cases.numbers("clenhei_cm"), rtol=0, atol=1e-9)
    np.testing.assert_allclose(scores.bmi_kg_m2, cases.numbers("cbmi"), rtol=0, atol=1e-6)
    columns = {
        Indicator.HEIGHT: ("z_length_height", "flag_len"),
        Indicator.WEIGHT: ("z_weight", "flag_wei"),
        Indicator.BMI: ("z_bmi", "flag_bmi"),
        Indicator.HEAD: ("z_headc", "flag_hc"),
        Indicator.WEIGHT_FOR_LENGTH: ("z_weight_for_lenhei", None),
    }
    for indicator, (z_column, flag_column) in columns.items():
        assert_equal_to_who(cases, z_column, scores.z[indicator])
        if flag_column:
            np.testing.assert_array_equal(scores.implausible[indicator], cases.numbers(flag_column) == 1)


@needs_who_cases
def test_500_cases_from_60_months_equal_who_anthroplus() -> None:
    cases = Cases("oracle_who2007_60_228m_generated.csv")
    assert len(cases.rows) == 500
    scores = growth_scores(
        cases.text("sex"),
        age_months=cases.numbers("age_months"),
        weight_kg=cases.numbers("weight_kg"),
        length_height_cm=cases.numbers("height_cm"),
    )
    for indicator in (Indicator.HEIGHT, Indicator.WEIGHT, Indicator.BMI):
        name = indicator.removesuffix("_for_age")
        assert_equal_to_who(cases, f"z_{name}", scores.z[indicator])
        np.testing.assert_array_equal(scores.implausible[indicator], cases.numbers(f"flag_{name}") == 1)
    assert np.isnan(scores.z[Indicator.HEAD]).all()


def test_who_field_tables() -> None:
    """The measurement at -3 to +3 SD as WHO prints it, to one decimal (simplified field tables, WHO 2006 and 2007)."""
    with FIELD_TABLES.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["indicator"] for row in rows} == set(Indicator) - {Indicator.WEIGHT_FOR_LENGTH}
    for row in rows:
        printed = [float(value) for value in list(row.values())[3:]]
        months = float(row["age_months"])
        curves = z_curves(Indicator(row["indicator"]), row["sex"], tuple(range(-3, 4)), to_months=228)
        if months in curves.age_months:  # below 60 months the chart has a point every seven days
            at = list(curves.age_months).index(months)
            assert [round(float(curves.values[z][at]), 1) for z in range(-3, 4)] == printed
        back = scores_at(row["indicator"], row["sex"], months, printed)
        step = np.diff(printed).min()
        np.testing.assert_allclose(back, range(-3, 4), atol=0.06 / step)  # what a printed decimal is worth


def scores_at(indicator: str, sex: str, age_months: float, measurements: list[float]) -> np.ndarray:
    count = len(measurements)
    values = np.array(measurements)
    arguments = {
        Indicator.HEIGHT: {"length_height_cm": values},
        Indicator.WEIGHT: {"weight_kg": values},
        Indicator.BMI: {"weight_kg": values, "length_height_cm": np.full(count, 100.0)},  # 1 m tall: BMI is the weight
        Indicator.HEAD: {"head_circumference_cm": values},
    }[Indicator(indicator)]
    scores = growth_scores(np.full(count, sex), age_months=np.full(count, age_months), **arguments)
    return scores.z[Indicator(indicator)]


def one(**values: object) -> dict[Indicator, float]:
    given = {"sex": "M", **values}
    scores = growth_scores(**{name: np.array([value]) for name, value in given.items()})
    return {indicator: float(z[0]) for indicator, z in scores.z.items()}


@pytest.mark.parametrize(
    ("age", "scored"),
    [
        ({"age_days": -1}, set()),
        ({"age_days": 0}, set(Indicator)),
        ({"age_days": 1826.2}, set(Indicator)),  # 59.998 months
        ({"age_days": 1827}, {Indicator.HEIGHT, Indicator.WEIGHT, Indicator.BMI}),
        ({"age_months": 59.99}, set(Indicator)),
        ({"age_months": 60}, {Indicator.HEIGHT, Indicator.WEIGHT, Indicator.BMI}),
        ({"age_months": 120}, {Indicator.HEIGHT, Indicator.WEIGHT, Indicator.BMI}),
        ({"age_months": 120.01}, {Indicator.HEIGHT, Indicator.BMI}),
        ({"age_months": 228}, {Indicator.HEIGHT, Indicator.BMI}),
        ({"age_months": 228.01}, set()),
        ({"age_months": math.nan}, set()),
        ({"age_months": 24, "sex": "O"}, set()),
        ({"age_months": 24, "oedema": True}, {Indicator.HEIGHT, Indicator.HEAD}),
        ({"age_months": 24, "weight_kg": 0.0}, {Indicator.HEIGHT, Indicator.HEAD}),
    ],
)
def test_no_table_no_z(age: dict, scored: set[Indicator]) -> None:
    measured = {"weight_kg": 12.0, "length_height_cm": 86.0, "head_circumference_cm": 48.0}
    z = one(**{**measured, **age})
    assert {indicator for indicator, value in z.items() if not math.isnan(value)} == scored


def test_position_of_measurement() -> None:
    """0.7 cm: added to a height below 731 days, taken from a length from 731 days on; not below nine months."""
    plain = one(age_days=730, length_height_cm=86.7)[Indicator.HEIGHT]
    assert one(age_days=730, length_height_cm=86.0, measured="standing")[Indicator.HEIGHT] == pytest.approx(plain)
    assert one(age_days=730, length_height_cm=86.7, measured="lying")[Indicator.HEIGHT] == plain
    plain = one(age_days=731, length_height_cm=86.0)[Indicator.HEIGHT]
    assert one(age_days=731, length_height_cm=86.7, measured="lying")[Indicator.HEIGHT] == pytest.approx(plain)
    plain = one(age_days=200, length_height_cm=66.0)[Indicator.HEIGHT]
    assert one(age_days=200, length_height_cm=66.0, measured="standing")[Indicator.HEIGHT] == plain


def test_half_a_day_rounds_up_and_days_count_before_months() -> None:
    assert one(age_days=13.5, weight_kg=4.0) == pytest.approx(one(age_days=14, weight_kg=4.0), nan_ok=True)
    both = one(age_days=100, age_months=7.0, weight_kg=6.0)
    assert both == pytest.approx(one(age_days=100, weight_kg=6.0), nan_ok=True)


def test_which_standard() -> None:
    scores = growth_scores(np.full(4, "F"), age_months=np.array([59.9, 60, 228, 229]))
    assert list(scores.standard) == [STANDARD_2006, STANDARD_2007, STANDARD_2007, ""]


def plain_z(y: float, l: float, m: float, s: float, restricted: bool) -> float:  # noqa: E741
    """WHO 2006, chapter 7, for one child."""
    z = ((y / m) ** l - 1) / (s * l)
    if restricted and abs(z) > 3:
        at = {sd: m * (1 + l * s * sd) ** (1 / l) for sd in (-3, -2, 2, 3)}
        return 3 + (y - at[3]) / (at[3] - at[2]) if z > 0 else -3 + (y - at[-3]) / (at[-2] - at[-3])
    return z


def test_formula_and_its_inverse() -> None:
    rng = random.Random(5)
    for _ in range(300):
        indicator = rng.choice([Indicator.HEIGHT, Indicator.WEIGHT, Indicator.BMI])
        table = rng.choice([who_tables.by_day, who_tables.by_month])(indicator)
        lms = table[rng.randrange(2), rng.randrange(table.shape[1])][None]
        z, restricted = rng.uniform(-6, 6), indicator in RESTRICTED
        if not restricted:
            z = z / 2
        measurement = measurement_at(z, lms, restricted=restricted)
        assert z_of(measurement, lms, restricted=restricted)[0] == pytest.approx(z, abs=1e-9)
        assert plain_z(float(measurement[0]), *lms[0], restricted) == pytest.approx(z, abs=1e-9)


def test_between_two_months_and_two_tenths_of_a_centimetre() -> None:
    """L, M and S of WHO's boys: 60 and 61 months; 65.0 and 65.1 cm of length."""
    m, s = (109.7265 + 110.2647) / 2, (0.04156 + 0.04164) / 2
    assert one(age_months=60.5, length_height_cm=112.0)[Indicator.HEIGHT] == pytest.approx((112 / m - 1) / s)
    low, high = who_tables.by_length()[0, 200], who_tables.by_length()[0, 201]
    printed = {who_tables.by_length: (200, 7.3), who_tables.by_height: (0, 7.4)}  # WHO's medians at 65.0 cm, in kg
    for table, (row, median) in printed.items():
        assert round(float(table()[0, row, 1]), 1) == median
    expected = plain_z(8.0, *(0.5 * low + 0.5 * high), True)
    found = one(age_days=200, weight_kg=8.0, length_height_cm=65.05)[Indicator.WEIGHT_FOR_LENGTH]
    assert found == pytest.approx(expected, abs=1e-9)


def test_flags_are_decided_on_two_decimals() -> None:
    assert list(outside(np.array([6.004, 6.006, -6.004, -6.006, np.nan]), (-6, 6))) == [False, True, False, True, False]


def test_l_of_zero_is_the_logarithm() -> None:
    lms = np.array([[0.0, 10.0, 0.1]])
    assert z_of(np.array([11.0]), lms, restricted=False)[0] == pytest.approx(math.log(1.1) / 0.1)
    assert measurement_at(2.0, lms, restricted=True)[0] == pytest.approx(10 * math.exp(0.2))


@pytest.mark.parametrize(("z", "percent"), [(0, 50), (-1.880794, 3), (1.880794, 97), (1.959964, 97.5), (-1, 15.8655)])
def test_centile(z: float, percent: float) -> None:
    assert centile_percent(z) == pytest.approx(percent, abs=1e-4)


@pytest.mark.parametrize("sex", ["M", "F"])
@pytest.mark.parametrize("indicator", list(Indicator)[:4])
def test_curves_are_ordered_lines_with_gaps_where_the_standard_changes(indicator: Indicator, sex: str) -> None:
    curves = centile_curves(indicator, sex)
    assert tuple(curves.values) == CHART_CENTILES_PERCENT
    assert (np.diff(curves.age_months) > 0).all()
    lines = np.array(list(curves.values.values()))
    gaps = np.isnan(lines).all(axis=0)
    assert (np.isnan(lines).any(axis=0) == gaps).all()
    assert (np.diff(lines[:, ~gaps], axis=0) > 0).all()
    at = curves.age_months[gaps]
    has_2007 = indicator is not Indicator.HEAD
    two_years = [730.5 / DAYS_PER_MONTH] if indicator in (Indicator.HEIGHT, Indicator.BMI) else []
    assert list(at[: len(two_years)]) == pytest.approx(two_years)
    assert len(at) == len(two_years) + has_2007
    assert curves.age_months[-1] == {Indicator.HEAD: 1826 / DAYS_PER_MONTH, Indicator.WEIGHT: 120}.get(indicator, 228)


def test_a_curve_scores_as_its_centile() -> None:
    curves = centile_curves(Indicator.WEIGHT, "F", (3.0, 97.0), from_months=10, to_months=110)
    for percent, line in curves.values.items():
        known = ~np.isnan(line)
        scores = growth_scores(np.full(known.sum(), "F"), age_months=curves.age_months[known], weight_kg=line[known])
        assert scores.centile_percent(Indicator.WEIGHT) == pytest.approx(percent, abs=1e-6)
    assert curves.age_months.min() >= 10 and curves.age_months.max() <= 110


def test_weight_for_length_has_no_curve_over_age() -> None:
    with pytest.raises(ValueError, match="over age"):
        centile_curves(Indicator.WEIGHT_FOR_LENGTH, "M")
