"""The growth page as sheets (engine.dashboard_sheet), for the one-page report of whatever it shows: a child's chart,
the distributions of all children, bone age beside height, supplied z-scores beside WHO's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import ndtr

from engine.dashboard_sheet import Chart, Line, Point, Series, Sheet, SheetBuilder, Tile, point
from engine.findings.age import months_words
from engine.findings.bone_age import TABLE_NAMES, BoneAgeSds
from engine.findings.growth import UNITS, Indicator, centile_curves
from engine.findings.growth_visits import GrowthZ
from engine.growth_figures import BEYOND_SD, MIN_CASES, Agreement, Distribution, not_enough, share_interval
from engine.radiology_metrics import Interval
from engine.services.child_bone_ages import BoneAgeOfFilm
from engine.services.child_growth import HEIGHT_WITHIN_MONTHS, ChildGrowth
from engine.services.growth_population import BoneAgeAndHeight

NAMES = {
    Indicator.HEIGHT: "Height",
    Indicator.WEIGHT: "Weight",
    Indicator.BMI: "BMI",
    Indicator.HEAD: "Head circumference",
}
NOTHING = Interval(None, None, None)
FLOOR_R = 0.97  # what the project's first description asks of supplied z-scores
BIN_SD, BINS_FROM, BINS_TO = 0.5, -4.0, 4.0  # of the report; what lies beyond is in the outermost bins
STEP_SD = 0.25  # of a bubble's place
AROUND_MONTHS = 12  # that a child's chart shows before the first and after the last visit
MONTHS_A_YEAR = 12
WHO_NOTE = "WHO 2006 standards below 60 months, WHO 2007 reference from there on."

Words = tuple[tuple[str, str], ...]


def child_sheet(growth: ChildGrowth, bone_ages: Sequence[BoneAgeOfFilm]) -> Sheet:
    """It carries the child's pseudonym, and no other name."""
    builder = SheetBuilder()
    latest = growth.visits[-1] if growth.visits else None
    for indicator, name in NAMES.items():
        score = latest.scored.values[indicator] if latest else None
        if isinstance(score, GrowthZ):
            said = f"{score.measurement:.1f} {score.unit}, z {score.z:+z.2f}, centile {score.centile_percent:.1f}"
            builder.tiles.append(Tile(f"{indicator}_latest", f"{name}, latest visit", NOTHING, 1, words=said))
    if bone_ages:
        film = bone_ages[-1]
        by = "decided" if film.is_decided else "read, not decided"
        said = f"{months_words(film.bone_age_months)} at {months_words(film.age_months)} ({by})"
        builder.tiles.append(Tile("bone_age_latest", "Bone age, latest film", NOTHING, 1, words=said))
        sds = film.sds
        said = f"{sds.sds:+z.1f} ({sds.table_name})" if isinstance(sds, BoneAgeSds) else sds.reason
        builder.tiles.append(Tile("bone_age_sds", "Bone-age SDS", NOTHING, 1, words=said))
    for indicator in NAMES:
        builder.chart(_child_chart(growth, indicator, bone_ages))
    if bone_ages:
        builder.chart(_bone_age_of_child(bone_ages))
    born = growth.birth_date.isoformat() if growth.birth_date else "not known"
    sex = {"F": "girl", "M": "boy"}.get(growth.sex or "", "sex not known")
    return Sheet(
        "Growth chart",
        (("Child", growth.pseudonym), ("Sex", sex), ("Born", born), ("Visits", str(len(growth.visits)))),
        tuple(builder.tiles),
        tuple(builder.charts),
        notes=(WHO_NOTE, "Lines: WHO's 3rd, 15th, 50th, 85th and 97th centile."),
        is_phantom=any(visit.is_phantom for visit in growth.visits),
        heading=f"growth chart of {growth.pseudonym}",
    )


def _child_chart(growth: ChildGrowth, indicator: Indicator, bone_ages: Sequence[BoneAgeOfFilm]) -> Chart:
    visits = [
        Point(visit.age_months / MONTHS_A_YEAR, value, 1)
        for visit in growth.visits
        if (value := visit.measurement(indicator)) is not None and visit.age_months is not None
    ]
    series = []
    if visits and growth.sex:
        first, last = (visits[end].x * MONTHS_A_YEAR for end in (0, -1))
        lines = centile_curves(
            indicator, growth.sex, from_months=max(0, first - AROUND_MONTHS), to_months=last + AROUND_MONTHS
        )
        for percent, values in lines.values.items():
            drawn = tuple(
                Point(float(months) / MONTHS_A_YEAR, None if np.isnan(value) else float(value), 0)
                for months, value in zip(lines.age_months, values, strict=True)
            )
            series.append(Series(f"{percent:g} %", drawn, "reference"))
    series.append(Series("visits", tuple(visits)))
    if indicator is Indicator.HEIGHT and visits:
        at_bone_age = [
            Point(film.bone_age_months / MONTHS_A_YEAR, film.height_cm, 1) for film in bone_ages if film.height_cm
        ]
        if at_bone_age:
            series.append(Series("height at the bone age", tuple(at_bone_age), "points"))
    n = len(visits)
    return Chart(
        f"{indicator}_of_child", NAMES[indicator], "curve", n, "age, years",
        f"{NAMES[indicator].lower()}, {UNITS[indicator]}", "", tuple(series),
        missing=None if visits else "no visit with this measurement at a known age",
    )  # fmt: skip


def _bone_age_of_child(bone_ages: Sequence[BoneAgeOfFilm]) -> Chart:
    series = []
    for name, is_decided in (("decided", True), ("read, not decided", False)):
        points = [
            Point(film.age_months / MONTHS_A_YEAR, film.bone_age_months / MONTHS_A_YEAR, 1)
            for film in bone_ages
            if film.is_decided == is_decided
        ]
        if points:
            series.append(Series(name, tuple(points), "points"))
    ages = [p.x for one in series for p in one.points] + [p.y for one in series for p in one.points]
    ends = tuple(Point(float(end), float(end), 0) for end in (min(ages) - 0.5, max(ages) + 0.5))
    series.append(Series("bone age = age", ends, "reference"))
    return Chart(
        "bone_age_of_child", "Bone age", "curve", len(bone_ages), "age, years", "bone age, years", "", tuple(series)
    )


def distributions_sheet(found: Mapping[Indicator, Distribution], selection: Words, *, is_phantom: bool) -> Sheet:
    builder = SheetBuilder()
    for indicator, figures in found.items():
        name = NAMES[indicator]
        for key, title, figure in (
            ("mean", "mean z", figures.mean),
            ("sd", "SD of z", figures.sd),
            ("below", f"below -{BEYOND_SD:g} SD", _as_share(figures.below_percent)),
            ("above", f"above {BEYOND_SD:g} SD", _as_share(figures.above_percent)),
        ):
            unit = "share" if key in ("below", "above") else ""
            missing = figure.reason if figure.value is None else None
            builder.tile(f"{indicator}_{key}", f"{name}, {title}", figure, figures.n, unit=unit, missing=missing)
        builder.chart(_distribution_chart(name, indicator, figures))
    left_out = sum(figures.left_out for figures in found.values())
    notes = [
        WHO_NOTE,
        "Each child once, with the latest visit of the selection. In the reference the mean is 0, the SD 1, and 2.3 % "
        "lie below -2 SD. Intervals: Student's t, chi-squared, Wilson.",
    ]
    if left_out:
        notes.append(f"Left out: {left_out:,} z-scores that WHO takes as most likely an error.")
    return Sheet(
        "Growth of all children", selection, tuple(builder.tiles), tuple(builder.charts), notes=tuple(notes),
        is_phantom=is_phantom, heading="growth of all children",
    )  # fmt: skip


def _distribution_chart(name: str, indicator: Indicator, found: Distribution) -> Chart:
    places = np.arange(BINS_FROM, BINS_TO, BIN_SD)
    middles = (np.array(found.edges[:-1]) + np.array(found.edges[1:])) / 2
    bins = np.clip(((middles - BINS_FROM) // BIN_SD).astype(int), 0, len(places) - 1)
    counts = np.bincount(bins, found.counts, minlength=len(places)).astype(int)
    ends = np.append(places, BINS_TO)
    ends[0], ends[-1] = -np.inf, np.inf
    expected = np.diff(ndtr(ends))
    names = [f"{place:+g}" for place in places]
    has_enough = found.mean.value is not None
    children = tuple(
        Point(x, int(count) / found.n if has_enough else None, int(count))
        for x, count in zip(names, counts, strict=True)
    )
    reference = tuple(Point(x, float(share), 0) for x, share in zip(names, expected, strict=True))
    return Chart(
        f"{indicator}_distribution", f"{name} for age", "bars", found.n, f"z, from (steps of {BIN_SD:g})",
        "share of children", "share", (Series("children", children), Series("WHO's reference", reference)),
        missing=None if has_enough else found.mean.reason,
    )  # fmt: skip


def bone_age_sheet(found: BoneAgeAndHeight, selection: Words, *, is_phantom: bool) -> Sheet:
    counts: dict[tuple[float, float], int] = {}
    for x, y in zip(found.height_z, found.sds, strict=True):
        place = (float(np.floor(x / STEP_SD) + 0.5) * STEP_SD, float(np.floor(y / STEP_SD) + 0.5) * STEP_SD)
        counts[place] = counts.get(place, 0) + 1
    bubbles = tuple(Point(x, y, n) for (x, y), n in sorted(counts.items()))
    missing = found.r.reason if found.r.value is None else None
    chart = Chart(
        "bone_age_and_height", "Bone-age SDS and height", "bubbles", found.n, "height for age z (WHO)", "bone-age SDS",
        "", (Series("children", bubbles),), (Line(0, ""),), missing=missing,
        note=f"Each bubble: children within the same {STEP_SD:g} SD of both.",
    )  # fmt: skip
    return Sheet(
        "Bone age and height", (*selection, ("SD table", TABLE_NAMES[found.table])),
        (Tile("r", "Pearson's r", found.r, found.n, missing=missing),), (chart,),
        notes=(
            WHO_NOTE,
            "Each child once, with the latest decided film that has a height within "
            f"{HEIGHT_WITHIN_MONTHS:g} months of it (unverified default). Interval: Fisher. An association says "
            "nothing about a single child.",
        ),
        is_phantom=is_phantom, heading="bone age and height",
    )  # fmt: skip


def supplied_sheet(found: Mapping[Indicator, Agreement], selection: Words, *, is_phantom: bool) -> Sheet:
    builder = SheetBuilder()
    bars = []
    for indicator, agreement in found.items():
        name, n = NAMES[indicator], agreement.n
        missing = agreement.r.reason if agreement.r.value is None else None
        builder.tile(f"{indicator}_r", f"{name}, r (floor {FLOOR_R})", agreement.r, n, missing=missing)
        largest = Interval(agreement.largest_difference, None, None)
        title = f"{name}, largest difference, SD"
        builder.tile(f"{indicator}_largest", title, largest, n, missing=missing, census=True)
        enough = n >= MIN_CASES
        bars.append(point(name, share_interval(agreement.beyond_rounding, n), n) if enough else Point(name, None, n))
    total = sum(agreement.n for agreement in found.values())
    builder.chart(
        Chart(
            "beyond_rounding", "Supplied z that differ by more than rounding", "bars", total, "measurement",
            "share of visits", "share", (Series("visits", tuple(bars)),), note="95 % intervals: Wilson.",
            missing=None if total else not_enough(0).reason,
        )
    )  # fmt: skip
    return Sheet(
        "Supplied z-scores", selection, tuple(builder.tiles), tuple(builder.charts),
        notes=(WHO_NOTE, "Supplied z-scores less those computed here, every visit of the selection that came with one. "
               f"Interval of r: Fisher. {FLOOR_R} is the floor of the project's first description."),
        is_phantom=is_phantom, heading="supplied z-scores beside WHO's",
    )  # fmt: skip


def _as_share(percent: Interval) -> Interval:
    if percent.value is None:
        return percent
    return Interval(percent.value / 100, percent.low / 100, percent.high / 100)
