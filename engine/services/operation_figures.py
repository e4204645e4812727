"""The operations dashboard: what waits and for how long, how fast the model and the readers are, what was refused, and
whether reads or films have begun to look different."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

from sqlalchemy import ColumnElement
from sqlalchemy.orm import Session

from db.models import AnswerFact, AnswerKind, Study, StudyStatus
from db.repositories import figures as repository
from engine import clustered_figures as clustered
from engine.dashboard_sheet import Chart, Line, Point, Series, SheetBuilder, enough, not_enough, point
from engine.radiology_metrics import Interval
from engine.services import drift
from engine.services.answer_facts import NOBODY, hour_of
from engine.services.drift import Drift
from engine.services.figure_filters import Choices, FigureFilter, of_children, of_kind

NOTHING = Interval(None, None, None)
WAITS = (("over 7 days", 168), ("3 to 7 days", 72), ("1 to 3 days", 24), ("4 to 24 hours", 4))  # the oldest first
LEAST_WAIT = "under 4 hours"
STATUS_WORDS = {StudyStatus.AWAITING_READ: "awaiting read", StudyStatus.AWAITING_REVIEW: "to review"}
WEEKS = 26  # of turnaround, where no period is chosen
MONDAY = 72  # hours from the Monday before 1 January 1970, a Thursday
STEP_MINUTES = 15
READ_DAYS, BLOCK_HOURS = 7, 6


def add_to(sheet: SheetBuilder, session: Session, filter: FigureFilter, found: Choices, now: datetime) -> list[str]:
    """Returns the alerts."""
    name = found.version_name(found.versions[0][0]) if found.versions else "no model has read here"
    sheet.tile("model_in_use", "Model in use", NOTHING, 0, words=name, census=True)
    _queue(sheet, session, filter, now)
    _turnaround(sheet, session, filter, now)
    _reads(sheet, session, filter, now)
    _quarantine(sheet, session)
    reads = drift.of_reads(session, filter, hour_of(now))
    films = drift.of_films(session, filter, hour_of(now))
    for key, title, drifts in (
        ("drift_of_reads", "Drift of the model's answers", reads),
        ("drift_of_films", "Drift of the films", films),
    ):
        sheet.chart(_drift_chart(key, title, drifts))
    return [_alert(one) for one in (*reads, *films) if one.is_alert]


# ---------------------------------------------------------------- what waits


def _queue(sheet: SheetBuilder, session: Session, filter: FigureFilter, now: datetime) -> None:
    where: list[ColumnElement[bool]] = [] if filter.all_tasks else [Study.task == filter.task]
    if filter.sites:
        where.append(Study.site.in_(filter.sites))
    bounds = [(name, now - timedelta(hours=hours)) for name, hours in WAITS]
    counts, oldest = repository.waiting(session, where, bounds)
    n = sum(counts.values())
    sheet.tile("open_studies", "Studies open", Interval(float(n), None, None), n, unit="count", census=True)
    hours = NOTHING if oldest is None else Interval((now - oldest).total_seconds() / 3600, None, None)
    sheet.tile("oldest_hours", "The oldest waits", hours, n, unit="hours", census=True)
    names = [LEAST_WAIT, *(name for name, _ in reversed(WAITS))]
    series = tuple(
        Series(
            words,
            tuple(
                Point(name, float(count), count)
                for name in names
                if (count := counts.get(("" if name == LEAST_WAIT else name, status), 0)) is not None
            ),
        )
        for status, words in STATUS_WORDS.items()
    )
    sheet.chart(
        Chart(
            "queue_age", "Open studies by how long they wait", "bars", n, "since received", "studies", "count",
            series if n else (), note="A count of all: no interval.",
        )
    )  # fmt: skip


# ---------------------------------------------------------------- how fast


def _turnaround(sheet: SheetBuilder, session: Session, filter: FigureFilter, now: datetime) -> None:
    """From received to the first decision."""
    where = [*of_kind(filter, AnswerKind.MODEL), AnswerFact.is_in_force, AnswerFact.is_shown]
    if filter.first_day is None:
        where.append(AnswerFact.decided_hour >= hour_of(now) - 168 * WEEKS)
    week = (AnswerFact.decided_hour + MONDAY) // 168
    step = AnswerFact.turnaround_minutes // STEP_MINUTES
    counts = repository.histogram(session, [*where, AnswerFact.turnaround_minutes.is_not(None)], [week, step])
    by_week: dict[int, dict[int, int]] = {}
    whole: dict[int, int] = {}
    for (of_week, steps), count in counts.items():
        by_week.setdefault(of_week, {})[steps] = by_week.setdefault(of_week, {}).get(steps, 0) + count
        whole[steps] = whole.get(steps, 0) + count
    n = sum(whole.values())
    missing = enough(n)
    for key, title, share in (
        ("turnaround_median", "Turnaround, median", 0.5),
        ("turnaround_90", "9 of 10 within", 0.9),
    ):
        figure = NOTHING if missing else _hours(whole, share)
        sheet.tile(key, title, figure, n, unit="hours", missing=missing)
    series = []
    for name, share in (("median", 0.5), ("9 of 10 within", 0.9)):
        points = []
        for of_week in range(min(by_week), max(by_week) + 1) if by_week else ():
            of_this = by_week.get(of_week, {})
            cases = sum(of_this.values())
            monday = date(1970, 1, 1) + timedelta(hours=of_week * 168 - MONDAY)
            x = monday.isoformat()
            points.append(Point(x, None, cases) if enough(cases) else point(x, _hours(of_this, share), cases))
        series.append(Series(name, tuple(points)))
    sheet.chart(
        Chart(
            "turnaround_by_week", "Turnaround: received to decided", "line", n, "week of the decision, from", "hours",
            "hours", tuple(series), missing=missing,
            note=f"In steps of {STEP_MINUTES} minutes; 95 % intervals between order statistics.",
        )
    )  # fmt: skip


def _hours(counts: dict[int, int], share: float) -> Interval:
    """A step counts as its middle."""
    steps = sorted(counts)
    values = [(step + 0.5) * STEP_MINUTES / 60 for step in steps]
    return clustered.quantile(values, [counts[step] for step in steps], share)


def _reads(sheet: SheetBuilder, session: Session, filter: FigureFilter, now: datetime) -> None:
    """Each image's shown read, by when it was made."""
    end = hour_of(now)
    start = end - 24 * READ_DAYS
    where = [
        *of_kind(FigureFilter(task=filter.task, all_tasks=filter.all_tasks), AnswerKind.MODEL),
        *of_children(FigureFilter(sites=filter.sites)),
        AnswerFact.is_shown,
        AnswerFact.is_in_force | (AnswerFact.reader_fk == NOBODY),
        AnswerFact.read_hour >= start,
        AnswerFact.read_hour < end,
    ]
    hours = {hour: count for (hour,), count in repository.histogram(session, where, [AnswerFact.read_hour]).items()}
    n = sum(hours.values())
    last_day = sum(count for hour, count in hours.items() if hour >= end - 24)
    figure = clustered.rate(last_day, 24) if n else NOTHING
    sheet.tile("reads_per_hour", "Reads, last 24 full hours", figure, last_day, unit="per hour")
    points = []
    for block in range(start, end, BLOCK_HOURS) if n else ():
        count = sum(hours.get(hour, 0) for hour in range(block, block + BLOCK_HOURS))
        at = datetime.fromtimestamp(block * 3600, UTC)
        points.append(point(f"{at:%Y-%m-%d %H:%M}", clustered.rate(count, BLOCK_HOURS), count))
    sheet.chart(
        Chart(
            "reads_by_hour", "Reads per hour, last 7 days", "line", n, "time, UTC", "reads per hour", "per hour",
            (Series(f"mean of {BLOCK_HOURS} hours", tuple(points)),),
            note="Exact Poisson 95 % intervals; reads made in bursts scatter more.",
        )
    )  # fmt: skip


# ---------------------------------------------------------------- what was refused, what has changed


def _quarantine(sheet: SheetBuilder, session: Session) -> None:
    codes = sorted(repository.quarantine_codes(session).items(), key=lambda item: -item[1])
    n = sum(count for _, count in codes)
    sheet.tile("in_quarantine", "Files in quarantine", Interval(float(n), None, None), n, unit="count", census=True)
    bars = tuple(Point(code.replace("_", " "), float(count), count) for code, count in codes)
    sheet.chart(
        Chart("quarantine_reasons", "In quarantine now, by reason", "bars", n, "reason", "files", "count",
              (Series("files", bars),), note="A count of all, whatever the filters: no interval.")
    )  # fmt: skip


def _drift_chart(key: str, title: str, drifts: list[Drift]) -> Chart:
    n = sum(one.n for one in drifts)
    points = tuple(point(one.of, one.found.bits, one.n) if one.found else Point(one.of, None, one.n) for one in drifts)
    least = min((min(one.n_recent, one.n_before) for one in drifts), default=0)
    nothing = not any(one.found for one in drifts)
    return Chart(
        key, title, "bars", n, "", "Jensen-Shannon divergence, bits", "bits", (Series("last 14 days", points),),
        (Line(drift.ALERT_BITS, f"alert from {drift.ALERT_BITS} (a convention, unverified)"),),
        note=f"The last {drift.RECENT_DAYS} days against the {drift.BEFORE_DAYS} before: 0 is alike, 1 nothing alike. "
        "Few cases differ by chance, so an alert needs the G-test as well.",
        missing=not_enough(least, "in the smaller of the two periods") if nothing else None,
    )  # fmt: skip


def _alert(one: Drift) -> str:
    bits = one.found.bits.value
    return (
        f"{one.of}: the last {drift.RECENT_DAYS} days differ from the {drift.BEFORE_DAYS} before "
        f"({bits:.2f} bits, n = {one.n_recent:,} and {one.n_before:,}). Look at recent cases and at what has changed."
    )
