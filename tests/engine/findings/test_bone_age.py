"""Bone-age SDS, plates and adult height against every row of the reference tables and the source's own examples."""

import csv
from math import nan
from pathlib import Path

import numpy as np
import pytest

from engine.findings import adult_height as bayley_pinneau
from engine.findings import reference
from engine.findings.adult_height import AdultHeight, Maturity, adult_height, maturity
from engine.findings.bone_age import BoneAgeSds, SdTable, atlas, bone_age_sds, bone_age_sds_values, nearest_plates
from engine.findings.reference import Refusal, Status
from engine.settings import PROJECT_DIR

SHARED = PROJECT_DIR.parent / "shared" / "reference"
needs_reference = pytest.mark.skipif(
    not SHARED.exists(), reason="the clinical reference tables are not beside this checkout"
)
INCH_CM = 2.54


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@needs_reference
def test_every_row_of_the_sd_tables() -> None:
    names = {"GP1959_TableV_VI": SdTable.GREULICH_PYLE, "Brush_Foundation": SdTable.BRUSH}
    table_rows = rows(SHARED / "bone_age_sd_by_age_sex.csv")
    assert len(table_rows) == 89
    for row in table_rows:
        age, sd = float(row["chronological_age_months"]), float(row["sd_months"])
        found = bone_age_sds(age - 1.5 * sd, age, row["sex"], names[row["table"]])
        assert isinstance(found, BoneAgeSds) and not found.interpolated
        assert found.sds == pytest.approx(-1.5) and found.sd_months == sd
        assert found.source.status == Status.FOUND
        mean = row["mean_skeletal_age_months_unverified"]
        assert (found.about_mean is not None) == bool(mean)
        if found.about_mean:
            assert found.about_mean.sds == pytest.approx((age - 1.5 * sd - float(mean)) / sd)
            assert found.about_mean.source.unverified


@needs_reference
def test_every_plate() -> None:
    table_rows = rows(SHARED / "gp_atlas_plate_ages.csv")
    assert len(table_rows) == len(atlas("M")) + len(atlas("F"))
    for row in table_rows:
        found = nearest_plates(float(row["bone_age_months"]), row["sex"])
        (plate,) = found.nearest
        assert (plate.number, plate.bone_age_months) == (int(row["plate_order"]), int(row["bone_age_months"]))
        assert found.below == found.above == plate
        years, months = row["label_years_months"].split("-")
        assert plate.words == (f"{years} y {months} m" if years != "0" else f"{months} m")


@needs_reference
def test_every_row_of_bayley_pinneau() -> None:
    ahead = {"average": 0, "accelerated": 12, "retarded": -12}
    table_rows = rows(SHARED / "bayley_pinneau_percent_mature_height.csv")
    assert len(table_rows) == 251
    for row in table_rows:
        bone_age, percent = float(row["skeletal_age_months"]), float(row["percent_of_mature_height"])
        age = bone_age - ahead[row["maturity_group"]]
        height = {True: 112.0, False: 150.0}[age < 108]
        found = adult_height(height, bone_age, age, row["sex"])
        assert isinstance(found, AdultHeight) and not found.interpolated
        assert (found.maturity, found.percent_of_mature_height) == (row["maturity_group"], percent)
        assert found.adult_height_cm == pytest.approx(height / (percent / 100))
        assert found.source.status == row["status"] and "healthy" in found.limits


def test_rows_that_a_fresh_checkout_can_test() -> None:
    """Figures of the printed tables, written here a second time."""
    for sex, age, sd in (("M", 12, 2.1), ("M", 120, 11.4), ("M", 204, 15.4), ("F", 72, 9.0), ("F", 156, 14.6)):
        assert bone_age_sds(age + sd, age, sex).sds == pytest.approx(1)
    for sex, age, sd in (("M", 3, 0.69), ("F", 60, 11.65)):
        assert bone_age_sds(age + sd, age, sex, SdTable.BRUSH).sds == pytest.approx(1)
    girls = [plate.bone_age_months for plate in atlas("F")]
    assert girls[8:18] == [30, 36, 42, 50, 60, 69, 82, 94, 106, 120] and len(girls) == 27
    assert len(atlas("M")) == 31 and atlas("M")[-1].words == "19 y 0 m"


@pytest.mark.parametrize(
    ("sex", "age", "bone_age", "inches", "predicted_inches", "group"),
    [
        # the worked examples that Greulich & Pyle 1959 print with the tables (pages 234-235)
        ("M", 156, 159, 60, 67.4, Maturity.AVERAGE),
        ("M", 156, 159, 51.5, 57.9, Maturity.AVERAGE),
        ("M", 168, 186, 67.5, 69.5, Maturity.ACCELERATED),
        ("F", 144, 123, 55, 62.2, Maturity.RETARDED),
    ],
)
def test_the_books_own_predictions(sex, age, bone_age, inches, predicted_inches, group) -> None:
    found = adult_height(inches * INCH_CM, bone_age, age, sex)
    assert round(found.adult_height_cm / INCH_CM, 1) == predicted_inches
    assert found.maturity == group


@pytest.mark.parametrize(
    ("ahead", "group"), [(11.9, "average"), (12, "accelerated"), (-11.9, "average"), (-12, "retarded")]
)
def test_which_table(ahead: float, group: str) -> None:
    assert maturity(120 + ahead, 120) == group
    assert set(bayley_pinneau.MATURITY_WORDS) == set(Maturity)


def test_between_two_rows() -> None:
    found = bone_age_sds(104, 102, "M")  # 96: 10.8, 108: 11.0
    assert found.interpolated and found.sd_months == pytest.approx(10.9)
    assert found.sds == pytest.approx(2 / 10.9) and found.difference_months == 2
    height = adult_height(140, 121.5, 121.5, "M")  # 120: 78.4, 123: 79.1
    assert height.interpolated and height.percent_of_mature_height == pytest.approx(78.75)


@pytest.mark.parametrize(
    ("sds", "meaning"), [(-2.1, "delayed"), (-2, "within 2 SD"), (2, "within 2 SD"), (2.1, "advanced")]
)
def test_meaning(sds: float, meaning: str) -> None:
    assert bone_age_sds(120 + sds * 11.4, 120, "M").meaning == meaning


@pytest.mark.parametrize(
    ("bone_age", "age", "sex", "table", "code"),
    [
        (100, 100, None, SdTable.GREULICH_PYLE, "no_sex"),
        (100, 100, "O", SdTable.GREULICH_PYLE, "no_sex"),
        (100, None, "M", SdTable.GREULICH_PYLE, "no_age"),
        (100, nan, "M", SdTable.GREULICH_PYLE, "no_age"),
        (nan, 100, "M", SdTable.GREULICH_PYLE, "no_bone_age"),
        (-1, 100, "M", SdTable.GREULICH_PYLE, "no_bone_age"),
        (10, 11.9, "M", SdTable.GREULICH_PYLE, "outside_table"),
        (190, 180.1, "F", SdTable.GREULICH_PYLE, "outside_table"),
        (200, 204.1, "M", SdTable.BRUSH, "outside_table"),
        (2, 2.9, "F", SdTable.BRUSH, "outside_table"),
    ],
)
def test_no_sds(bone_age, age, sex, table, code) -> None:
    refusal = bone_age_sds(bone_age, age, sex, table)
    assert isinstance(refusal, Refusal) and refusal.code == code and refusal.reason


@pytest.mark.parametrize(
    ("height", "bone_age", "age", "sex", "code"),
    [
        (140, 120, 120, None, "no_sex"),
        (140, 120, None, "M", "no_age"),
        (None, 120, 120, "M", "not_measured"),
        (1.4, 120, 120, "M", "length_height_in_metres"),
        (55, 120, 120, "M", "length_height_in_inches"),
        (115, 83.9, 83.9, "M", "outside_table"),
        (105, 60, 60, "F", "outside_table"),
        (160, 157, 170, "M", "outside_table"),  # boys a year behind: the tables end at 13 years
        (170, 205, 190, "M", "outside_table"),
        (160, 217, 217, "F", "outside_table"),
        (140, nan, 120, "M", "outside_table"),
    ],
)
def test_no_adult_height(height, bone_age, age, sex, code) -> None:
    refusal = adult_height(height, bone_age, age, sex)
    assert isinstance(refusal, Refusal) and refusal.code == code and refusal.reason


def test_girls_a_year_behind_have_a_table_beyond_13_years() -> None:
    assert adult_height(152.4, 168, 186, "F").percent_of_mature_height == 98.3


def test_between_two_plates() -> None:
    found = nearest_plates(110, "M")
    assert [plate.bone_age_months for plate in (*found.nearest, found.below, found.above)] == [108, 108, 120]
    assert [plate.bone_age_months for plate in nearest_plates(114, "M").nearest] == [108, 120]
    beyond = nearest_plates(220, "F")
    assert (beyond.nearest[0].words, beyond.above) == ("18 y 0 m", None)
    assert nearest_plates(110, None).code == "no_sex"
    assert nearest_plates(229, "M").code == nearest_plates(nan, "M").code == "outside_table"


def test_every_row_names_a_source() -> None:
    for table in ("bone_age_sd", "greulich_pyle_plates", "bayley_pinneau", "who2007_month_60"):
        for row in reference.rows(table):
            assert reference.source(row["source"]).citation
            if row.get("mean_source"):
                assert reference.source(row["mean_source"]).unverified


def test_the_sds_of_many_films_are_those_of_each() -> None:
    rng = np.random.default_rng(2)
    n = 2000
    bone_age, age = rng.uniform(-5, 230, n), rng.choice([*rng.uniform(0, 230, 1500), *range(0, 230, 6), np.nan], n)
    sex = rng.choice(["M", "F", ""], n)
    for table in SdTable:
        values = bone_age_sds_values(bone_age, age, sex, table)
        for one, months, years, of in zip(values, bone_age, age, sex, strict=True):
            single = bone_age_sds(months, years, of or None, table)
            expected = single.sds if isinstance(single, BoneAgeSds) else np.nan
            np.testing.assert_allclose(one, expected, rtol=1e-12)
