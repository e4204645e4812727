"""A dashboard's chart as vector graphics for paper: into a report's PDF, or an SVG file."""

from __future__ import annotations

import math

from reportlab.graphics import renderSVG
from reportlab.graphics.shapes import Circle, Drawing, Group, Line, PolyLine, Rect, String
from reportlab.lib.colors import Color, HexColor, black, white
from reportlab.pdfbase.pdfmetrics import stringWidth

from engine.dashboard_sheet import Chart, Point, Series
from engine.services.record_layout import BOLD, FONT, load_fonts, printable

SIZE = 6.5
COLOURS = tuple(HexColor(c) for c in ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8a8a00"))
AXIS, GRID, TARGET, REFERENCE = (HexColor(c) for c in ("#666666", "#e4e4e4", "#333333", "#999999"))
LEFT, RIGHT, TOP, BOTTOM = 34, 6, 24, 30
LONGEST_LABEL = 18  # characters, below a bar


def as_svg(chart: Chart, width: float = 420, height: float = 260) -> str:
    text = renderSVG.drawToString(drawing(chart, width, height))
    return text.decode() if isinstance(text, bytes) else text


def drawing(chart: Chart, width: float, height: float) -> Drawing:
    """In points."""
    load_fonts()
    found = Drawing(width, height)
    found.add(Rect(0, 0, width, height, fillColor=white, strokeColor=None))
    n = "" if chart.missing else f"   n = {chart.n:,}"
    found.add(_text(2, height - 8, chart.title, BOLD, 7.5))
    found.add(_text(2 + stringWidth(chart.title, BOLD, 7.5), height - 8, n, colour=AXIS))
    if chart.missing is not None:
        found.add(_text(width / 2, height / 2, chart.missing[:1].upper() + chart.missing[1:], anchor="middle"))
        return found
    if chart.kind == "matrix":
        _matrix(found, chart, width, height)
        return found
    plot = _Plot(chart, width, height)
    plot.draw_axes(found)
    for series in chart.series:
        if series.style == "reference":
            plot.draw_reference(found, series)
    for i, series in enumerate(plot.named):
        plot.draw_series(found, series, i)
    plot.draw_lines(found)
    plot.draw_legend(found)
    return found


class _Plot:
    """Axes of one chart: where a value lies on the paper."""

    def __init__(self, chart: Chart, width: float, height: float) -> None:
        self.chart, self.width, self.height = chart, width, height
        self.named = [series for series in chart.series if series.style != "reference"]
        self.legend_rows = self._legend_rows() if len(self.named) > 1 else []
        self.legend_inside = chart.diagonal and len(self.legend_rows) > 2  # a ROC curve leaves its corner free
        self.top = height - TOP + 10 - 8 * (0 if self.legend_inside else len(self.legend_rows))
        self.is_numeric = chart.kind in ("curve", "bubbles")
        points = [p for series in chart.series for p in series.points]
        self.names = list(dict.fromkeys(str(p.x) for p in points))
        if chart.kind == "line":  # over time: a series may begin before the one that comes first
            self.names.sort()
        values = [v for p in points for v in (p.y, p.low, p.high) if v is not None]
        values += [line.value for line in chart.lines]
        low, high = min(values), max(values)
        if chart.y_range and not (chart.kind == "line" and chart.unit == "share"):
            low, high = chart.y_range
        elif chart.kind in ("line", "bars") and low >= 0:
            low = 0.0 if chart.kind == "bars" or chart.unit != "share" else max(0.0, low - 0.03)
        self.low, self.high, self.y_ticks = _axis(low, high)
        if chart.y_range and chart.y_range[1] < self.high:
            self.high = chart.y_range[1]
        numbers = [float(p.x) for p in points] if self.is_numeric else [0, 1]
        self.x_low, self.x_high, self.x_ticks = (
            (0, 1, _axis(0, 1)[2]) if chart.diagonal else _axis(min(numbers), max(numbers))
        )

    def x(self, value: str | float) -> float:
        room = self.width - LEFT - RIGHT
        if self.is_numeric:
            return LEFT + room * (float(value) - self.x_low) / ((self.x_high - self.x_low) or 1)
        return LEFT + room * (self.names.index(str(value)) + 0.5) / len(self.names)

    def y(self, value: float) -> float:
        share = (min(max(value, self.low), self.high) - self.low) / ((self.high - self.low) or 1)
        return BOTTOM + share * (self.top - BOTTOM)

    def draw_axes(self, found: Drawing) -> None:
        for tick in self.y_ticks:
            if self.low <= tick <= self.high:
                found.add(Line(LEFT, self.y(tick), self.width - RIGHT, self.y(tick), strokeColor=GRID, strokeWidth=0.4))
                words = _tick(tick, self.chart.unit)
                found.add(_text(LEFT - 3, self.y(tick) - 2, words, anchor="end", colour=AXIS))
        found.add(Line(LEFT, BOTTOM, self.width - RIGHT, BOTTOM, strokeColor=AXIS, strokeWidth=0.5))
        if self.is_numeric:
            for tick in self.x_ticks:
                words = _tick(tick, "share" if self.chart.diagonal else "")
                found.add(_text(self.x(tick), BOTTOM - 8, words, anchor="middle", colour=AXIS))
        else:
            self._draw_names(found)
        if self.chart.x_label:
            found.add(_text((LEFT + self.width) / 2, 2, self.chart.x_label, anchor="middle", colour=AXIS))
        label = _text(0, 0, self.chart.y_label, anchor="middle", colour=AXIS)
        turned = Group(label)
        turned.translate(7, (BOTTOM + self.top) / 2)
        turned.rotate(90)
        found.add(turned)
        if self.chart.diagonal:
            found.add(_dashed(self.x(0), self.y(0), self.x(1), self.y(1), AXIS))

    def _draw_names(self, found: Drawing) -> None:
        """Below the axis, on two lines in turn, and only as many as there is room for."""
        room = (self.width - LEFT - RIGHT) / max(1, len(self.names))
        shown = [name if len(name) <= LONGEST_LABEL else name[: LONGEST_LABEL - 1] + "." for name in self.names]
        widest = max(stringWidth(name, FONT, SIZE - 1) for name in shown) + 4
        every = max(1, math.ceil(widest / (2 * room)))
        for i, name in enumerate(shown):
            if i % every == 0:
                down = 7 + (6.5 if widest > room and (i // every) % 2 else 0)
                found.add(_text(self.x(self.names[i]), BOTTOM - down, name, size=SIZE - 1, anchor="middle"))

    def draw_series(self, found: Drawing, series: Series, i: int) -> None:
        colour = COLOURS[i % len(COLOURS)]
        match self.chart.kind:
            case "bars":
                self._draw_bars(found, series, i, colour)
            case "bubbles":
                most = max(p.n for p in series.points)
                pale = Color(colour.red, colour.green, colour.blue, alpha=0.45)
                for p in series.points:
                    radius = max(0.4, 4.5 * math.sqrt(p.n / most))
                    found.add(Circle(self.x(p.x), self.y(p.y), radius, fillColor=pale, strokeColor=None))
            case _:
                self._draw_line(found, series, colour)

    def draw_reference(self, found: Drawing, series: Series) -> None:
        """A thin line, named above its end."""
        run: list[float] = []
        for p in (*series.points, Point("", None, 0)):
            if p.y is not None:
                run += [self.x(p.x), self.y(p.y)]
                continue
            if len(run) > 2:
                found.add(PolyLine(run, strokeColor=REFERENCE, strokeWidth=0.5))
            run = []
        last = next((p for p in reversed(series.points) if p.y is not None), None)
        if last is not None:
            place = (self.x(last.x) - 1, self.y(last.y) + 1.5)
            found.add(_text(*place, series.name, size=SIZE - 1, anchor="end", colour=AXIS))

    def _draw_line(self, found: Drawing, series: Series, colour: Color) -> None:
        is_dense = len(series.points) > 40
        is_joined = series.style != "points"
        run: list[float] = []
        for p in (*series.points, Point("", None, 0)):
            if p.y is None:
                if len(run) > 2 and is_joined:
                    found.add(PolyLine(run, strokeColor=colour, strokeWidth=1))
                run = []
                continue
            run += [self.x(p.x), self.y(p.y)]
            if not is_dense or not is_joined:
                self._draw_interval(found, self.x(p.x), p, colour)
                found.add(
                    Circle(self.x(p.x), self.y(p.y), 1.3 if is_joined else 2.2, fillColor=colour, strokeColor=None)
                )

    def _draw_bars(self, found: Drawing, series: Series, i: int, colour: Color) -> None:
        room = (self.width - LEFT - RIGHT) / len(self.names) * 0.72 / len(self.chart.series)
        for p in series.points:
            left = self.x(p.x) + (i - len(self.chart.series) / 2) * room
            if p.y is None:
                words = f"n = {p.n}"
                if stringWidth(words, FONT, SIZE - 1.5) <= room + 3:
                    found.add(_text(left + room / 2, BOTTOM + 2, words, size=SIZE - 1.5, anchor="middle"))
                continue
            zero = self.y(max(0.0, self.low))
            found.add(Rect(left, min(zero, self.y(p.y)), room * 0.92, abs(self.y(p.y) - zero), fillColor=colour,
                           strokeColor=None))  # fmt: skip
            self._draw_interval(found, left + room * 0.46, p, black)

    def _draw_interval(self, found: Drawing, x: float, p: Point, colour: Color) -> None:
        if p.low is not None and p.high is not None:
            found.add(Line(x, self.y(p.low), x, self.y(p.high), strokeColor=colour, strokeWidth=0.6))

    def draw_lines(self, found: Drawing) -> None:
        for line in self.chart.lines:
            y = self.y(line.value)
            found.add(
                _dashed(LEFT, y, self.width - RIGHT, y, TARGET)
                if line.is_target
                else Line(LEFT, y, self.width - RIGHT, y, strokeColor=TARGET, strokeWidth=0.6)
            )
            label_y = y - SIZE if line.is_labelled_below else y + 1.5
            found.add(_text(self.width - RIGHT - 1, label_y, line.label, size=SIZE - 0.8, anchor="end", colour=TARGET))

    def _legend_rows(self) -> list[list[tuple[int, str]]]:
        rows: list[list[tuple[int, str]]] = [[]]
        used = 0.0
        for i, series in enumerate(self.named):
            needs = stringWidth(series.name, FONT, SIZE) + 18
            if rows[-1] and used + needs > self.width - LEFT:
                rows.append([])
                used = 0.0
            rows[-1].append((i, series.name))
            used += needs
        return rows

    def draw_legend(self, found: Drawing) -> None:
        for row, members in enumerate(self.legend_rows):
            x, y = LEFT, self.height - 18 - 8 * row
            if self.legend_inside:
                x, y = self.x(0.38), BOTTOM + 8 * (len(self.legend_rows) - row) - 2
            for i, name in members:
                found.add(Rect(x, y, 6, 4, fillColor=COLOURS[i % len(COLOURS)], strokeColor=None))
                found.add(_text(x + 8, y, name))
                x += stringWidth(name, FONT, SIZE) + 18


def _matrix(found: Drawing, chart: Chart, width: float, height: float) -> None:
    """Shaded by the share of the row, with counts."""
    columns, rows = [str(p.x) for p in chart.series[0].points], [series.name for series in chart.series]
    left, top, bottom = 62, height - 16, 24
    across, down = (width - left - RIGHT) / len(columns), (top - bottom) / len(rows)
    for j, column in enumerate(columns):
        found.add(_text(left + (j + 0.5) * across, bottom - 8, column, anchor="middle"))
    found.add(_text(left + (width - left) / 2, 4, chart.x_label, anchor="middle", colour=AXIS))
    for i, series in enumerate(chart.series):
        y = top - (i + 1) * down
        found.add(_text(left - 4, y + down / 2 - 2, f"{chart.y_label}: {rows[i]}", anchor="end", size=SIZE - 0.5))
        total = max(1, sum(p.n for p in series.points))
        for j, p in enumerate(series.points):
            share = p.n / total
            shade = Color(1 - 0.9 * share, 1 - 0.5 * share, 1 - 0.25 * share)
            found.add(Rect(left + j * across, y, across - 1, down - 1, fillColor=shade, strokeColor=None))
            ink = white if share > 0.6 else black
            found.add(_text(left + (j + 0.5) * across, y + down / 2 - 2, f"{p.n:,}", anchor="middle", colour=ink))


def _axis(low: float, high: float) -> tuple[float, float, list[float]]:
    """Round ends and ticks around low..high."""
    if high <= low:
        high = low + 1
    rough = (high - low) / 4
    size = 10 ** math.floor(math.log10(rough))
    step = next(s * size for s in (1, 2, 2.5, 5, 10) if s * size >= rough - 1e-12)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return first * step, last * step, [k * step for k in range(first, last + 1)]


def _tick(value: float, unit: str) -> str:
    return f"{100 * value:.0f} %" if unit == "share" else f"{value:,.10g}"


def _text(
    x: float, y: float, words: str, font: str = FONT, size: float = SIZE, *, anchor: str = "start", colour=black
) -> String:
    return String(x, y, printable(words), fontName=font, fontSize=size, textAnchor=anchor, fillColor=colour)


def _dashed(x0: float, y0: float, x1: float, y1: float, colour: Color) -> Line:
    return Line(x0, y0, x1, y1, strokeColor=colour, strokeWidth=0.7, strokeDashArray=(3, 2))
