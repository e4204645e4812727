"""One page, whatever was on the screen; and nothing on it that a filter's text could smuggle in."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import UTC, datetime
from xml.etree import ElementTree

import pytest
from pypdf import PdfReader

from engine.dashboard_sheet import Chart, Line, Point, Series, Sheet, Tile
from engine.findings.answers import Task
from engine.radiology_metrics import Interval
from engine.services import dashboard_report
from engine.services.chart_drawing import as_svg
from engine.targets import targets_of

AT = datetime(2026, 3, 4, 5, 6, tzinfo=UTC)
MONTHS = Series("model 1", (Point("2026-01", 2.0, 40, 1.5, 2.5), Point("2026-02", None, 3), Point("2026-03", 3.0, 50)))
CURVE = Series("I: AUC 0.9", tuple(Point(i / 50, min(1, i / 25), 60) for i in range(51)))
CHARTS = (
    Chart("mae", "Mean absolute error", "line", 93, "month", "months", "months", (MONTHS,),
          (Line(2.8, "target", is_target=True),)),
    Chart("by_age", "Error by age", "bars", 93, "age", "months", "months", (MONTHS, replace(MONTHS, name="boys"))),
    Chart("roc", "ROC", "curve", 60, "1 - specificity", "sensitivity", "share", (CURVE,), diagonal=True,
          y_range=(0, 1)),
    Chart("bland", "Bland-Altman", "bubbles", 9, "mean", "difference", "months",
          (Series("cases", (Point(100, -3, 5), Point(120, 4, 4))),), (Line(0, "bias"),)),
    Chart("confusion", "Confusion", "matrix", 7, "read", "decision", "count",
          (Series("a", (Point("a", 4, 4), Point("b", 0, 0))), Series("b", (Point("a", 1, 1), Point("b", 2, 2))))),
    Chart("nothing", "Reliability", "curve", 4),
)  # fmt: skip
SHEET = Sheet(
    "Model",
    (("Task", "bone age"), ("Site", "<script>alert(1)</script>")),
    (
        Tile("mae_months", "Mean absolute error", Interval(1.96, 1.83, 2.09), 600, "months",
             tuple(targets_of(Task.BONE_AGE, "mae_months", phantom=True))),
        Tile("auc", "AUC", Interval(None, None, None), 4, missing="not enough cases (n = 4)"),
        Tile("open", "Open studies", Interval(12.0, None, None), 12, "count", census=True),
        Tile("in_use", "Model in use", Interval(None, None, None), 0, words="phantom 0.3"),
    ),
    CHARTS,
    alerts=("bone age: the last 14 days differ",),
    notes=("Months are those of UTC.",),
    is_phantom=True,
)  # fmt: skip


def pdf_text(sheet: Sheet) -> tuple[str, int]:
    pages = PdfReader(io.BytesIO(dashboard_report.as_pdf(sheet, AT, "Demo reader"))).pages
    return " ".join(" ".join(page.extract_text() for page in pages).split()), len(pages)


def test_the_pdf_has_one_page_with_figures_filter_and_warnings() -> None:
    text, pages = pdf_text(SHEET)
    assert pages == 1
    for words in (
        "model dashboard", "Task: bone age", "<script>alert(1)</script>", "1.96 months", "1.83 to 2.09 months; n = 600",
        "target at most 2.8", "not enough cases (n = 4)", "phantom 0.3", "Alert: bone age", "Phantoms or a",
        "2026-03-04 05:06 UTC by Demo reader", "Mean absolute error", "n = 93", "not for diagnostic use",
    ):  # fmt: skip
        assert words in text, words


@pytest.mark.parametrize("count", [0, 1, 12])
def test_it_stays_one_page_whatever_there_is(count: int) -> None:
    long = Tile("a", "A title that goes on for longer than a tile is wide", Interval(0.5, 0.4, 0.6), 10, "share")
    sheet = replace(SHEET, charts=CHARTS[:1] * count, tiles=(long,) * count, filter_words=(("Site", "long " * 60),))
    assert pdf_text(sheet)[1] == 1


def test_the_same_state_gives_the_same_file() -> None:
    assert dashboard_report.as_pdf(SHEET, AT, "x") == dashboard_report.as_pdf(SHEET, AT, "x")


def test_the_html_stands_alone_and_escapes_what_was_typed() -> None:
    html = dashboard_report.as_html(SHEET, AT, "Demo reader")
    assert html.count("<svg") == len(CHARTS)
    assert "<script" not in html and "&lt;script&gt;alert(1)" in html
    assert "src=" not in html and 'href="http' not in html.replace("http://www.w3.org", "")
    assert "1.83 to 2.09 months; n = 600" in html and "Not enough cases (n = 4)" in html


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.key)
def test_every_chart_is_valid_svg_with_its_title(chart: Chart) -> None:
    text = as_svg(chart)
    ElementTree.fromstring(text[text.index("<svg") :])
    assert chart.title in text
    if chart.missing:
        assert "Not enough cases (n = 4)" in text


def test_a_letter_that_the_font_lacks_does_not_stop_the_report() -> None:
    assert "Site: ?" in pdf_text(replace(SHEET, filter_words=(("Site", "小児"),)))[0]


def test_csv_has_every_point_with_n_and_interval() -> None:
    assert CHARTS[0].as_csv().splitlines() == [
        "chart,series,month,months,low_95,high_95,n",
        "Mean absolute error,model 1,2026-01,2.0,1.5,2.5,40",
        "Mean absolute error,model 1,2026-02,,,,3",
        "Mean absolute error,model 1,2026-03,3.0,,,50",
        "Mean absolute error,target,,2.8,,,",
    ]
    assert "not enough cases (n = 4)" in CHARTS[-1].as_csv()
