"""Somebody's columns, units, decimals and dates: read as was said, or flagged."""

from __future__ import annotations

import pytest

from engine.findings.growth_mapping import FIELDS, DateOrder, Mapping, guess, read

COLUMNS = {"child": "ID", "measured_on": "Date", "length_height_cm": "H", "weight_kg": "W"}


def test_the_names_of_columns_are_recognised_and_no_column_twice() -> None:
    found = guess(["Patient ID", "Date of visit", "Height (cm)", "weight_kg", "HAZ", "Remarks"])
    assert found == {
        "child": "Patient ID",
        "measured_on": "Date of visit",
        "length_height_cm": "Height (cm)",
        "weight_kg": "weight_kg",
        "supplied_height_for_age_z": "HAZ",
    }
    assert guess(list(FIELDS)) == {name: name for name in FIELDS}
    assert guess(["Height_m", "kg", "x"]) == {}, "another unit or no name: the user says"


def test_what_a_mapping_lacks() -> None:
    assert Mapping(COLUMNS).missing() == []
    assert Mapping({"sex": "S"}).missing() == [
        "the child",
        "the date",
        "a measurement (height, weight or head circumference)",
    ]
    assert Mapping({**COLUMNS, "sex": "H"}).twice() == ["H"]


@pytest.mark.parametrize(
    ("text", "unit", "expected"),
    [
        ("1.10", "m", "110"),
        ("43.3", "inches", "109.982"),
        ("1100", "mm", "110"),
        ("110", "cm", "110"),
        ("1,1", "m", "1,1"),
    ],
)
def test_a_unit_that_was_said_is_converted(text: str, unit: str, expected: str) -> None:
    cells, issues = read({"ID": "1", "Date": "2025-01-15", "H": text}, Mapping(COLUMNS, {"length_height_cm": unit}))
    assert (cells["length_height_cm"], issues) == (expected, [])


def test_commas_count_where_the_file_is_said_to_write_them() -> None:
    cells, issues = read({"H": "110,5", "W": "18.5"}, Mapping(COLUMNS, decimal=","))
    assert cells == {"length_height_cm": "110.5"}
    assert [(issue.code, issue.field, issue.withholds) for issue in issues] == [("decimal_point", "weight_kg", True)]


@pytest.mark.parametrize(
    ("text", "order", "iso"),
    [
        ("2025-02-01", DateOrder.ISO, "2025-02-01"),
        ("01.02.2025", DateOrder.DOTS, "2025-02-01"),
        ("01/02/2025", DateOrder.DAY_FIRST, "2025-02-01"),
        ("01/02/2025", DateOrder.MONTH_FIRST, "2025-01-02"),
        ("01/02/2025", DateOrder.ISO, None),
        ("13/02/2025", DateOrder.MONTH_FIRST, None),
        ("1.2.2025", DateOrder.DOTS, None),
        ("30.02.2025", DateOrder.DOTS, None),
        ("٠١.٠٢.2025", DateOrder.DOTS, None),
    ],
)
def test_dates_are_read_in_the_order_that_was_said(text: str, order: DateOrder, iso: str | None) -> None:
    cells, issues = read({"Date": text}, Mapping(COLUMNS, dates=order))
    assert cells.get("measured_on") == iso
    assert [issue.code for issue in issues] == ([] if iso else ["not_a_date"])


def test_supplied_z_may_be_negative_and_one_that_is_no_number_is_left_out() -> None:
    columns = {"supplied_bmi_for_age_z": "BAZ", "supplied_weight_for_age_z": "WAZ"}
    cells, issues = read({"BAZ": "-1.25", "WAZ": "high"}, Mapping(columns))
    assert cells == {"supplied_bmi_for_age_z": "-1.25"}
    assert [(issue.code, issue.withholds) for issue in issues] == [("not_a_number", False)]
