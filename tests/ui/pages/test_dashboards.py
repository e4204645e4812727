"""The dashboards page: choosing, filtering, empty states, exports."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from streamlit.testing.v1 import AppTest

from engine.dashboard_sheet import Chart
from tests.benchmarks.reviewed_studies import generate
from tests.engine.services.test_dashboard_report import CHARTS
from tests.ui.conftest import OpenPage
from ui.components import dashboard_charts


def html_of(at: AppTest) -> str:
    return " ".join(element.proto.body for element in at.get("html"))


def choose(at: AppTest, key: str, value: str) -> AppTest:
    return at.button_group(key=key).set_value(value).run()


def test_without_a_decision_every_chart_says_so(open_page: OpenPage) -> None:
    at = open_page("dashboards")
    for kind in ("Readers", "Operations", "Model"):
        assert not at.exception
        assert not at.get("plotly_chart")
        assert "Not enough cases (n = 0)" in html_of(at)
        assert "the figures come with the decisions" in html_of(at) or "add films on the upload page" in html_of(at)
        at = choose(at, "dash_kind", kind)


def test_every_dashboard_has_its_charts_and_its_reports(database_url: str, open_page: OpenPage) -> None:
    generate(database_url, 260)
    at = open_page("dashboards")
    seen = {}
    for kind in ("Model", "Readers", "Operations"):
        at = choose(at, "dash_kind", kind)
        assert not at.exception, at.exception
        seen[kind] = len(at.get("plotly_chart"))
        assert len(at.get("download_button")) >= 2 + 2 * seen[kind]
    assert min(seen.values()) >= 3
    html = html_of(at)
    assert "decided for this yet" not in html and "received for this yet" not in html
    assert "Studies open" in html and "Model in use" in html and "generated 2.0" in html


@pytest.mark.parametrize("chart", [chart for chart in CHARTS if not chart.missing], ids=lambda chart: chart.key)
def test_what_is_drawn_is_what_the_sheet_holds(chart: Chart) -> None:
    drawn = json.loads(dashboard_charts.figure_of(chart).to_json())
    traces = drawn["data"]
    if chart.kind == "matrix":
        assert traces[0]["text"] == [["4", "0"], ["1", "2"]]
        return
    assert [trace["name"] for trace in traces] == [series.name for series in chart.series]
    for trace, series in zip(traces, chart.series, strict=True):
        none = 0 if chart.kind == "bars" else None
        assert list(trace["y"]) == [none if p.y is None else p.y for p in series.points]
    assert len([s for s in drawn["layout"].get("shapes", [])]) == len(chart.lines) + chart.diagonal


@pytest.mark.slow
def test_a_chart_can_be_taken_as_png_svg_and_csv(database_url: str, server: str, page: Page, tmp_path: Path) -> None:
    generate(database_url, 260)
    page.goto(f"{server}/dashboards")
    expect(page.locator(".js-plotly-plot .main-svg").first).to_be_visible()
    starts = {
        "SVG": b"<?xml",
        "CSV": b"chart,series",
        "png": b"\x89PNG",
        "Report (PDF)": b"%PDF",
        "Report (HTML)": b"<!doc",
    }
    for name, start in starts.items():
        with page.expect_download() as download:
            if name == "png":
                page.locator(".modebar-btn").first.click()
            else:
                page.get_by_role("button", name=name, exact=True).first.click()
        assert Path(download.value.path()).read_bytes().startswith(start), name
