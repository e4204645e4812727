"""The growth page on one page: the figures that the page shows, and nothing where there are too few."""

from __future__ import annotations

import io
from datetime import UTC, date, datetime

import numpy as np
import pytest
from pypdf import PdfReader
from scipy import stats
from sqlalchemy.orm import Session

from engine import growth_figures
from engine.dashboard_sheet import Sheet, all_figures
from engine.findings.bone_age import SdTable, bone_age_sds
from engine.findings.growth import PLAUSIBLE_Z, Indicator
from engine.growth_figures import Sums, agreement_of, correlation
from engine.services import child_growth, dashboard_report, growth_sheets
from engine.services.accounts import demo_reader
from engine.services.child_bone_ages import BoneAgeOfFilm
from engine.services.growth_population import BoneAgeAndHeight
from tests.engine.services.test_child_growth import child, visit

AT = datetime(2026, 3, 4, 5, 6, tzinfo=UTC)
ANY = (("Visits", "real"), ("Sex", "any"))
RNG = np.random.default_rng(5)


def distributions(n: int) -> Sheet:
    z = {indicator: RNG.normal(0.2, 1.1, n) for indicator in growth_sheets.NAMES}
    found = {one: growth_figures.distribution(values, PLAUSIBLE_Z[one]) for one, values in z.items()}
    return growth_sheets.distributions_sheet(found, ANY, is_phantom=False)


def bone_age(n: int) -> Sheet:
    x = RNG.normal(0, 1, n)
    y = 0.5 * x + RNG.normal(0, 1, n)
    found = BoneAgeAndHeight(n, correlation(Sums.of(x, y)), SdTable.GREULICH_PYLE, x, y)
    return growth_sheets.bone_age_sheet(found, ANY, is_phantom=False)


def supplied(n: int) -> Sheet:
    ours = RNG.normal(0, 1, n)
    found = {one: agreement_of(np.round(ours, 2), ours) for one in growth_sheets.NAMES}
    return growth_sheets.supplied_sheet(found, ANY, is_phantom=True)


def of_a_child(session: Session) -> Sheet:
    patient = child(session)
    for year, height in ((2023, 96.0), (2024, 103.5), (2025, 110.0)):
        visit(session, patient, measured_on=date(year, 1, 15), length_height_cm=height)
    growth = child_growth.visits_of(session, demo_reader(), patient.id)
    film = BoneAgeOfFilm(1, date(2025, 1, 15), 60.0, 54, True, bone_age_sds(54, 60.0, "M"), 110.0)
    return growth_sheets.child_sheet(growth, [film])


def pdf_text(sheet: Sheet) -> str:
    [page] = PdfReader(io.BytesIO(dashboard_report.as_pdf(sheet, AT, "Demo reader"))).pages
    return " ".join(page.extract_text().split())


@pytest.mark.parametrize("make", [distributions, bone_age, supplied])
@pytest.mark.parametrize("n", [0, 7, 200, 20_000])
def test_every_view_of_all_children_is_one_page(make, n: int) -> None:
    sheet = make(n)
    text, html = pdf_text(sheet), dashboard_report.as_html(sheet, AT, "Demo reader")
    assert f"PediScreen: {sheet.heading}" in text and "Sex: any" in text and html.count("<svg") == len(sheet.charts)
    if n < 10:
        assert all_figures(sheet) == []
        assert f"not enough cases (n = {n})" in text and f"not enough cases (n = {n})" in html.lower()


def test_a_distribution_is_that_of_the_children() -> None:
    z = np.append(RNG.normal(0, 1.2, 500), [-5.5, 5.2])
    found = {Indicator.HEIGHT: growth_figures.distribution(z, PLAUSIBLE_Z[Indicator.HEIGHT])}
    sheet = growth_sheets.distributions_sheet(found, ANY, is_phantom=False)
    children, reference = sheet.charts[0].series
    counts, _ = np.histogram(np.clip(z, -3.9, 3.9), np.arange(-4, 4.1, 0.5))
    assert [p.n for p in children.points] == counts.tolist()
    assert sum(p.y for p in children.points) == pytest.approx(1)
    middle = next(p for p in reference.points if p.x == "+0")
    assert middle.y == pytest.approx(stats.norm.cdf(0.5) - 0.5) and sum(p.y for p in reference.points) == pytest.approx(
        1
    )
    below = next(tile for tile in sheet.tiles if tile.key == "height_for_age_below")
    assert below.figure.value == pytest.approx((z < -2).mean())


def test_bubbles_hold_every_child_and_supplied_z_are_rounding_alone() -> None:
    assert sum(p.n for p in bone_age(300).charts[0].series[0].points) == 300
    sheet = supplied(300)
    assert sheet.tiles[0].figure.value > 0.9999 and sheet.tiles[1].figure.value <= 0.005
    assert all(p.y == 0 for p in sheet.charts[0].series[0].points)


def test_a_childs_chart_carries_the_pseudonym_alone(session: Session) -> None:
    sheet = of_a_child(session)
    text = pdf_text(sheet)
    assert "growth chart of P-AAAAAA" in text and "110.0 cm, z +0.06" in text and "4 y 6 m at 5 y 0 m (decided)" in text
    for line in ("3 %", "15 %", "50 %", "85 %", "97 %", "height at the bone age", "bone age = age"):
        assert line in text, line
    height = sheet.charts[0]
    assert [(p.x, p.y) for s in height.series if s.name == "visits" for p in s.points] == [
        (3, 96.0), (4, 103.5), (5, 110.0)
    ]  # fmt: skip
    [median] = [s for s in height.series if s.name == "50 %"]
    assert next(p.y for p in median.points if p.x == pytest.approx(5.0)) == pytest.approx(109.7, abs=0.3)
    assert sheet.charts[3].missing == "no visit with this measurement at a known age"  # no head circumference


def test_a_child_without_a_visit_or_a_known_sex_has_a_report_too(session: Session) -> None:
    patient = child(session, sex=None)
    session.commit()
    empty = growth_sheets.child_sheet(child_growth.visits_of(session, demo_reader(), patient.id), [])
    assert "no visit with this measurement" in pdf_text(empty).lower() and all_figures(empty) == []
    visit(session, patient)
    unknown = growth_sheets.child_sheet(child_growth.visits_of(session, demo_reader(), patient.id), [])
    assert "sex not known" in pdf_text(unknown)
    assert [s.name for s in unknown.charts[0].series] == ["visits"]
