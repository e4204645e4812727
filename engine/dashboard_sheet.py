"""What a dashboard shows, before anything draws it: tiles and charts with their n, intervals and targets.

The page, the CSV files and the report are made from the same sheet, so that they cannot differ. A tile or a chart that
has too little to stand on holds no number at all, only why."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from engine.csv_cells import harmless
from engine.radiology_metrics import Interval
from engine.targets import Target

LEAST_CASES = 10  # and children; with fewer, an interval says hardly more than that the figure lies on its scale


def not_enough(n: int, why: str = "") -> str:
    return f"not enough cases (n = {n:,})" + (f": {why}" if why else "")


@dataclass(frozen=True)
class Point:
    """`y` None: too few cases for a figure; `n` says how many."""

    x: str | float
    y: float | None
    n: int
    low: float | None = None
    high: float | None = None


def point(x: str | float, found: Interval, n: int) -> Point:
    return Point(x, found.value, n, found.low, found.high)


@dataclass(frozen=True)
class Series:
    """`reference`: a thin line behind the others, named at its end. `points`: not joined."""

    name: str
    points: tuple[Point, ...]
    style: Literal["", "reference", "points"] = ""


@dataclass(frozen=True)
class Line:
    """Level, at `value`; its label stands above it, or below."""

    value: float
    label: str
    is_target: bool = False
    is_labelled_below: bool = False


Unit = Literal["months", "share", "seconds", "hours", "count", "per hour", "bits", ""]
Kind = Literal["line", "bars", "curve", "bubbles", "matrix"]


@dataclass(frozen=True)
class Chart:
    """`line`: over time. `bars`: by group. `curve`: both axes are numbers. `bubbles`: n is the size. `matrix`: a series
    is a row, and y counts. `lines` are level ones. Axis labels carry their unit; of shares 1 is 100 %."""

    key: str
    title: str
    kind: Kind
    n: int
    x_label: str = ""
    y_label: str = ""
    unit: Unit = ""
    series: tuple[Series, ...] = ()
    lines: tuple[Line, ...] = ()
    diagonal: bool = False
    note: str = ""
    missing: str | None = None  # "not enough cases (n = 3)"
    y_range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.missing is None and not any(p.y is not None for s in self.series for p in s.points):
            object.__setattr__(self, "missing", not_enough(self.n))
        if self.missing is not None:
            object.__setattr__(self, "series", ())
            object.__setattr__(self, "lines", ())

    def as_csv(self) -> str:
        """One line a point, with n and interval; the reason where there is none."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")

        def write(cells: list[object]) -> None:
            writer.writerow(map(harmless, cells))

        write(["chart", "series", self.x_label or "x", self.y_label or "y", "low_95", "high_95", "n"])
        for series in self.series:
            for p in series.points:
                write([self.title, series.name, p.x, *("" if v is None else v for v in (p.y, p.low, p.high)), p.n])
        for line in self.lines:
            write([self.title, line.label, "", line.value, "", "", ""])
        if self.missing:
            write([self.title, self.missing, "", "", "", "", self.n])
        return out.getvalue()


@dataclass(frozen=True)
class Tile:
    """`missing` as of a chart. A `census` is counted whole: it has no interval."""

    key: str
    title: str
    figure: Interval
    n: int
    unit: Unit = ""
    targets: tuple[Target, ...] = ()
    missing: str | None = None
    census: bool = False
    words: str | None = None  # instead of a number: a model's name

    def __post_init__(self) -> None:
        if self.missing is None and self.figure.value is None and self.words is None:
            object.__setattr__(self, "missing", not_enough(self.n, self.figure.reason or ""))
        if self.missing is not None:
            object.__setattr__(self, "figure", Interval(None, None, None, self.missing))


@dataclass(frozen=True)
class Sheet:
    """`filter_words`: what the figures are of. `alerts`: what somebody should look at. `notes`: how to read it.
    `heading`: of a report, where it is not "<title> dashboard"."""

    title: str
    filter_words: tuple[tuple[str, str], ...]
    tiles: tuple[Tile, ...] = ()
    charts: tuple[Chart, ...] = ()
    alerts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    is_phantom: bool = False
    heading: str | None = None


@dataclass
class SheetBuilder:
    """Collects tiles and charts; `missing` empties everything added after it is set."""

    missing: str | None = None
    tiles: list[Tile] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)

    def tile(self, key: str, title: str, figure: Interval, n: int, **more) -> None:
        self.tiles.append(Tile(key, title, figure, n, **{"missing": self.missing, **more}))

    def chart(self, chart: Chart) -> None:
        self.charts.append(replace(chart, missing=self.missing or chart.missing))


def enough(n: int, children: int | None = None) -> str | None:
    """None where there is something to stand on, else what to say instead."""
    if n < LEAST_CASES:
        return not_enough(n)
    if children is not None and children < LEAST_CASES:
        return not_enough(n, f"of {children} children, at least {LEAST_CASES} are needed")
    return None


def value_words(value: float | None, unit: Unit) -> str:
    """1.96 months, 71.3 %, 0.998."""
    if value is None:
        return "-"
    match unit:
        case "share":
            return f"{100 * value:.1f} %"
        case "months":
            return f"{value:.2f} months"
        case "seconds":
            return f"{value:.1f} s"
        case "hours":
            return f"{value:.1f} h"
        case "count":
            return f"{value:,.0f}"
        case "per hour":
            return f"{value:.1f} / h"
        case "bits":
            return f"{value:.3f} bits"
    return f"{value:.3f}"


def interval_words(figure: Interval, unit: Unit) -> str:
    """ "1.83 to 2.09", or why there is none."""
    if figure.low is None or figure.high is None:
        return f"no interval: {figure.reason}" if figure.reason else "no interval"
    low, high = value_words(figure.low, unit), value_words(figure.high, unit)
    return f"{low.split()[0]} to {high}" if unit != "count" else f"{low} to {high}"


def all_figures(sheet: Sheet) -> Sequence[str]:
    """Every number that the sheet would show, for a test that looks for numbers where none belongs."""
    shown = [f"{tile.key}: {tile.figure.value}" for tile in sheet.tiles if tile.figure.value is not None]
    for chart in sheet.charts:
        shown += [f"{chart.key}: {p.y}" for series in chart.series for p in series.points if p.y is not None]
    return shown
