"""The model dashboard of bone age: errors in months against the readers' decisions."""

from __future__ import annotations

from sqlalchemy import func
from sqlalchemy.orm import Session

from db.models import AnswerFact
from db.repositories import figures as repository
from db.repositories.figures import Moments, Where, one_if
from engine import clustered_figures as clustered
from engine.dashboard_sheet import Chart, Line, Point, Series, SheetBuilder, Tile, enough, not_enough, point
from engine.evaluation_figures import COVERAGE_LEVELS
from engine.radiology_metrics import Interval
from engine.services.answer_facts import PROBABILITY_STEPS
from engine.services.figure_filters import Choices, FigureFilter, age_band_of, judged_reads
from engine.services.figure_parts import (
    BY_CHILD,
    by_age_and_sex,
    by_month,
    paired_moments,
    sums_of,
    target_lines,
    targets_for,
    versions_of,
)

ERROR = AnswerFact.read_months - AnswerFact.label_months
TERMS = {
    "absolute": func.abs(ERROR),
    "error": ERROR,
    "within_2": one_if(func.abs(ERROR) <= 2),
    "inside": one_if(
        (AnswerFact.interval_low_months <= AnswerFact.label_months)
        & (AnswerFact.label_months <= AnswerFact.interval_high_months)
    ),
    "squared": ERROR * ERROR,
}
BUBBLE_MONTHS = 6  # width of a bubble's place along the mean
MOST_BUBBLES = 600  # beyond, places are twice as wide both ways: a browser takes half a second over 1,500


def add_to(sheet: SheetBuilder, session: Session, filter: FigureFilter, found: Choices) -> int:
    """Returns the number of cases."""
    versions = versions_of(filter, found)
    wheres = {name: judged_reads(filter, version_id) for version_id, name in versions}
    whole = {name: repository.moments(session, where, TERMS).get(()) for name, where in wheres.items()}
    monthly = {
        name: repository.moments(session, where, _some("absolute", "within_2"), [AnswerFact.decided_month])
        for name, where in wheres.items()
    }
    shown = versions[0][1]
    moments = whole[shown]
    n = moments.n if moments else 0
    sheet.missing = enough(n, moments.children if moments else 0)
    _tiles(sheet, moments, filter, found)
    mae_targets = target_lines(targets_for(filter, found, "mae_months"))
    for key, title, label, unit, term, estimate, lines in (
        ("mae_by_month", "Mean absolute error over time", "months", "months", "absolute", clustered.mean_of_sizes,
         mae_targets),
        ("within_2_by_month", "Within 2 months over time", "share of reads", "share", "within_2", clustered.share, ()),
    ):  # fmt: skip
        sheet.chart(
            Chart(
                key, title, "line", n, "month of the decision", label, unit,
                tuple(by_month(name, monthly[name], term, estimate) for name in wheres), lines, note=BY_CHILD,
                y_range=(0, 1) if unit == "share" else None,
            )
        )  # fmt: skip
    sheet.chart(bland_altman(session, wheres[shown], moments, n))
    groups = repository.moments(
        session, wheres[shown], _some("absolute", "error"), [AnswerFact.sex, age_band_of(filter.task)]
    )
    groups = {(sex.value if sex else None, band): group for (sex, band), group in groups.items()}
    for key, title, term, estimate in (
        ("mae_by_age", "Mean absolute error by age and sex", "absolute", clustered.mean_of_sizes),
        ("bias_by_age", "Mean signed error by age and sex", "error", clustered.mean),
    ):
        series = by_age_and_sex(filter.task, groups, term, estimate)
        lines = mae_targets if term == "absolute" else (Line(0, "no bias"),)
        sheet.chart(
            Chart(key, title, "bars", n, "age at examination", "months", "months", series, lines, note=BY_CHILD)
        )
    sheet.chart(_coverage(session, wheres, n))
    if filter.other_version_id:
        _comparison(sheet, session, filter, found)
    return n


def _some(*names: str) -> dict:
    return {name: TERMS[name] for name in names}


def _tiles(sheet: SheetBuilder, moments: Moments | None, filter: FigureFilter, found: Choices) -> None:
    if moments is None:
        sheet.tile("mae_months", "Mean absolute error", Interval(None, None, None), 0, unit="months")
        return
    n = moments.n
    targets = targets_for(filter, found, "mae_months")
    error = sums_of(moments, "error")
    lower, upper = clustered.limits_of_agreement(error, moments.total["squared"])
    absolute = clustered.mean_of_sizes(sums_of(moments, "absolute"))
    sheet.tile("mae_months", "Mean absolute error", absolute, n, unit="months", targets=targets)
    sheet.tile("within_2_months", "Within 2 months", clustered.share(sums_of(moments, "within_2")), n, unit="share")
    sheet.tile("bias_months", "Bias (read - decision)", clustered.mean(error), n, unit="months")
    sheet.tile("lower_limit_of_agreement_months", "Lower limit of agreement", lower, n, unit="months")
    sheet.tile("upper_limit_of_agreement_months", "Upper limit of agreement", upper, n, unit="months")
    inside = clustered.share(sums_of(moments, "inside"))
    sheet.tile("interval_80_coverage", "Inside the 80 % interval", inside, n, unit="share")


def bland_altman(
    session: Session, where: Where, moments: Moments | None, n: int, said: str = "read", known: str = "decision"
) -> Chart:
    """`moments` with the terms error and squared."""
    place = (AnswerFact.read_months + AnswerFact.label_months) // (2 * BUBBLE_MONTHS)
    counts = repository.histogram(session, where, [place, ERROR]) if moments else {}
    across, along = 1, BUBBLE_MONTHS
    while len(counts) > MOST_BUBBLES:
        counts, across, along = _coarser(counts), 2 * across, 2 * along
    bubbles = tuple(
        Point((place + 0.5) * along, error * across + (across - 1) / 2, count)
        for (place, error), count in sorted(counts.items())
    )
    lines = ()
    if moments:
        error = sums_of(moments, "error")
        limits = clustered.limits_of_agreement(error, moments.total["squared"])
        lines = (
            Line(error.value, f"bias {error.value:+z.1f}"),
            *(Line(limit.value, f"{limit.value:+z.1f}") for limit in limits if limit.value is not None),
        )
    return Chart(
        "bland_altman", "Agreement (Bland-Altman)", "bubbles", n, f"mean of {said} and {known}, months",
        f"{said} - {known}, months", "months", (Series("cases", bubbles),), lines,
        note=f"Each bubble: cases with the same difference{f' to {across} months' if across > 1 else ''} within "
        f"{along} months of the mean.",
    )  # fmt: skip


def _coarser(counts: dict[tuple, int]) -> dict[tuple, int]:
    found: dict[tuple, int] = {}
    for (place, error), count in counts.items():
        found[place // 2, error // 2] = found.get((place // 2, error // 2), 0) + count
    return found


def _coverage(session: Session, wheres: dict[str, Where], n: int) -> Chart:
    """Of central intervals of every width, how many hold the decision."""
    terms = {}
    for level in COVERAGE_LEVELS:
        low, high = ((1 + side * level) / 2 * PROBABILITY_STEPS for side in (-1, 1))
        terms[str(level)] = one_if((AnswerFact.through_label >= low) & (AnswerFact.below_label < high))
    series = []
    for name, where in wheres.items():
        moments = repository.moments(session, [*where, AnswerFact.through_label.is_not(None)], terms).get(())
        if moments and not enough(moments.n, moments.children):
            points = (point(lv, clustered.share(sums_of(moments, str(lv))), moments.n) for lv in COVERAGE_LEVELS)
            series.append(Series(name, tuple(points)))
    return Chart(
        "coverage", "Coverage of the model's intervals", "curve", n, "width of the interval", "decisions inside it",
        "share", tuple(series), diagonal=True, y_range=(0, 1),
        note="On the diagonal the intervals are as wide as they say.",
    )  # fmt: skip


def _comparison(sheet: SheetBuilder, session: Session, filter: FigureFilter, found: Choices) -> None:
    """This version minus the other, on the images that both have read."""
    moments = paired_moments(
        session,
        filter,
        lambda this, other: {
            "absolute": func.abs(this.read_months - this.label_months)
            - func.abs(other.read_months - other.label_months),
            "within_2": one_if(func.abs(this.read_months - this.label_months) <= 2)
            - one_if(func.abs(other.read_months - other.label_months) <= 2),
        },
    )
    n = moments.n if moments else 0
    missing = enough(n, moments.children if moments else 0)
    if missing and not n:
        missing = not_enough(0, "the two versions have read no decided image in common")
    nothing = Interval(None, None, None)
    for key, title, term, unit in (
        ("mae_difference", "Error, difference", "absolute", "months"),
        ("within_2_difference", "Within 2 months, difference", "within_2", "share"),
    ):
        figure = clustered.mean(sums_of(moments, term)) if moments and not missing else nothing
        sheet.tiles.append(Tile(key, title, figure, n, unit, missing=missing))
