"""A dashboard's tiles and charts on the screen (engine.dashboard_sheet). PNG by the camera in a chart's corner, SVG and
CSV by the buttons beside its title."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from html import escape

import plotly.graph_objects as go
import streamlit as st

from engine.dashboard_sheet import Chart, Series, Sheet, Tile, value_words
from engine.services.chart_drawing import as_svg
from engine.services.dashboard_report import tile_lines
from ui.components.charts import GREY

HEIGHT_PX = 268
BACKGROUND, GRID, TARGET = "#090b0e", "#171c22", "#d5dbe3"
COLOURS = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#0072b2", "#d55e00")  # as .streamlit/config.toml
SHADES = [[0, "#0b1a24"], [0.5, "#2b74a4"], [1, "#93cff2"]]
LONGEST_BUBBLE_PX = 20
LETTERS_BELOW = 84  # that a chart has room for in a line
FEW = 6  # a count below has no ticks between whole numbers


def tiles(shown: Sequence[Tile]) -> None:
    st.html(f'<div class="tiles">{"".join(_tile(tile) for tile in shown)}</div>')


def _tile(tile: Tile) -> str:
    title = f"<dt>{escape(tile.title)}</dt>"
    value, *more = (escape(line) for line in tile_lines(tile))
    if tile.words is not None:
        return f'<dl>{title}<dd class="words">{value}</dd></dl>'
    if tile.missing is not None:
        return f'<dl>{title}<dd class="missing">{_capital(value)}</dd></dl>'
    return f"<dl>{title}<dd>{value}{''.join(f'<small>{line}</small>' for line in more)}</dd></dl>"


def grid(sheet: Sheet) -> None:
    """Two charts a row."""
    for start in range(0, len(sheet.charts), 2):
        for column, chart in zip(st.columns(2, gap="medium"), sheet.charts[start : start + 2], strict=False):
            with column:
                show(chart, sheet.title)


def show(chart: Chart, sheet_title: str) -> None:
    name = f"{sheet_title.lower()}-{chart.key.replace('_', '-')}"
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"head-{name}"):
        n = "" if chart.missing else f"n = {chart.n:,}"
        st.html(f'<div class="chart-title">{escape(chart.title)} <span class="quiet">{n}</span></div>')
        st.space("stretch")
        if chart.missing is None:
            _files(chart, name)
    if chart.missing is not None:
        st.html(f'<div class="empty chart">{escape(_capital(chart.missing))}</div>')
        return
    st.plotly_chart(
        figure_of(chart), key=f"chart-{name}", theme=None, alt=f"{chart.title}, n = {chart.n}",
        config={
            "displayModeBar": True, "modeBarButtons": [["toImage"]], "displaylogo": False, "responsive": True,
            "toImageButtonOptions": {"format": "png", "scale": 2, "filename": name},
        },
    )  # fmt: skip
    if chart.note:
        st.html(f'<div class="chart-note">{escape(chart.note)}</div>')


def _files(chart: Chart, name: str) -> None:
    for label, mime, make in (
        ("SVG", "image/svg+xml", lambda: as_svg(chart).encode()),
        ("CSV", "text/csv", lambda: chart.as_csv().encode()),
    ):
        st.download_button(
            label, make, f"{name}.{label.lower()}", mime, on_click="ignore", type="tertiary",
            key=f"{label}-{name}", help=f"This chart as {label}",
        )  # fmt: skip


# ---------------------------------------------------------------- plotly


def figure_of(chart: Chart) -> go.Figure:
    """Put together as plain dicts: plotly's own objects take four times as long, on every dashboard."""
    if chart.kind == "matrix":
        traces = [_heat(chart)]
    else:
        draw = _TRACES[chart.kind]
        traces = [draw(chart, one, COLOURS[i % len(COLOURS)]) for i, one in enumerate(chart.series)]
    shapes, labels = [], []
    if chart.diagonal:
        shapes.append(_level(x0=0, y0=0, x1=1, y1=1, line={"color": "#5b6673", "width": 1, "dash": "dot"}))
    for line in chart.lines:
        dash = "dash" if line.is_target else "solid"
        shapes.append(
            _level(x0=0, x1=1, xref="x domain", y0=line.value, y1=line.value,
                   line={"color": TARGET, "width": 1.2, "dash": dash})
        )  # fmt: skip
        labels.append(
            {"x": 1, "xref": "x domain", "y": line.value, "text": line.label, "showarrow": False, "xanchor": "right",
             "yanchor": "top" if line.is_labelled_below else "bottom", "font": {"size": 11, "color": TARGET}}
        )  # fmt: skip
    return go.Figure(traces, {**_layout(chart), "shapes": shapes, "annotations": labels})


def _level(**place) -> dict:
    return {"type": "line", **place}


def _layout(chart: Chart) -> dict:
    legend = len(chart.series) > 1 and chart.kind != "matrix"
    inside = chart.kind == "curve" and chart.key == "roc"
    return {
        "template": "none", "height": HEIGHT_PX,
        "margin": {"l": 4, "r": 6, "t": 28, "b": 4}, "dragmode": False,  # the camera stands above the plot
        "paper_bgcolor": BACKGROUND, "plot_bgcolor": BACKGROUND, "font": {"color": "#d5dbe3", "size": 12},
        "bargap": 0.28, "showlegend": legend or inside, "hoverlabel": {"bgcolor": "#12161b"},
        "legend": (
            {"x": 0.99, "y": 0.02, "xanchor": "right", "yanchor": "bottom", "bgcolor": "rgba(9,11,14,0.7)"}
            if inside else {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"}
        ),
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "#5b6673", "activecolor": "#d5dbe3"},
        "xaxis": _axis(chart.x_label) | _of_x(chart),
        "yaxis": _axis(chart.y_label) | _of_y(chart),
    }  # fmt: skip


def _axis(label: str) -> dict:
    return {
        "title": {"text": label, "font": {"size": 12, "color": GREY}, "standoff": 6}, "fixedrange": True,
        "automargin": True, "zeroline": False, "gridcolor": GRID,
    }  # fmt: skip


def _of_x(chart: Chart) -> dict:
    if chart.kind == "matrix":
        return {"type": "category", "showgrid": False}
    if chart.unit == "share" and chart.kind == "curve":
        return {"tickformat": ".0%", "range": [-0.02, 1.02]}
    if chart.kind == "line" and not chart.x_label.startswith("time"):  # months and weeks are names, not instants
        names = sorted({str(p.x) for series in chart.series for p in series.points})
        step = 1 + sum(len(name) + 1 for name in names) // LETTERS_BELOW  # the rest of them would stand on end
        return {"type": "category", "categoryorder": "array", "categoryarray": names, "tickvals": names[::step]}
    if chart.kind == "bars":
        names = list(dict.fromkeys(str(p.x) for series in chart.series for p in series.points))
        width = max(8, LETTERS_BELOW // max(1, len(names)))
        lines = ["<br>".join(textwrap.wrap(name, width)) for name in names]
        return {"type": "category", "tickvals": names, "ticktext": lines, "tickangle": 0}
    return {}


def _of_y(chart: Chart) -> dict:
    if chart.kind == "matrix":
        return {"type": "category", "showgrid": False, "autorange": "reversed"}
    found: dict = {"share": {"tickformat": ".0%"}, "count": {"tickformat": ",d"}}.get(chart.unit, {})
    if chart.unit == "count" and max((p.y or 0) for s in chart.series for p in s.points) < FEW:
        found = found | {"dtick": 1}
    if chart.y_range is not None:
        low, high = chart.y_range
        if chart.kind == "line" and chart.unit == "share":  # near its top a line would be flat
            seen = [p.low if p.low is not None else p.y for s in chart.series for p in s.points if p.y is not None]
            low = max(0.0, min([*seen, *(line.value for line in chart.lines)]) - 0.03)
        found["range"] = [low - (0.02 if chart.kind == "curve" else 0), high + 0.02 * (high - low)]
    elif chart.kind in ("line", "bars") and not any((p.y or 0) < 0 for s in chart.series for p in s.points):
        found["rangemode"] = "tozero"
    return found


def _errors(series: Series, colour: str, thickness: float = 1.4) -> dict:
    if all(p.low is None for p in series.points):
        return {"visible": False}
    return {
        "type": "data", "symmetric": False, "thickness": thickness, "width": 3, "color": colour,
        "array": [None if p.y is None or p.high is None else p.high - p.y for p in series.points],
        "arrayminus": [None if p.y is None or p.low is None else p.y - p.low for p in series.points],
    }  # fmt: skip


def _hover(chart: Chart, series: Series) -> list[str]:
    said = []
    for p in series.points:
        if p.y is None:
            said.append(f"not enough cases (n = {p.n:,})")
            continue
        between = "" if p.low is None else f" ({value_words(p.low, chart.unit)} to {value_words(p.high, chart.unit)})"
        said.append(f"{value_words(p.y, chart.unit)}{between}, n = {p.n:,}")
    return said


def _points(series: Series) -> dict:
    return {"x": [p.x for p in series.points], "y": [p.y for p in series.points], "name": series.name}


def _line(chart: Chart, series: Series, colour: str) -> dict:
    return _points(series) | {
        "type": "scatter", "mode": "lines+markers", "line": {"color": colour, "width": 2}, "marker": {"size": 6},
        "error_y": _errors(series, colour, 1), "customdata": _hover(chart, series),
        "hovertemplate": "%{x}: %{customdata}<extra></extra>", "connectgaps": False,
    }  # fmt: skip


def _bars(chart: Chart, series: Series, colour: str) -> dict:
    few = ["" if p.y is not None else f"n = {p.n}" for p in series.points]
    return _points(series) | {
        "type": "bar", "y": [0 if p.y is None else p.y for p in series.points],
        "marker": {"color": colour, "line": {"width": 0}, "opacity": 0.75}, "error_y": _errors(series, "#f3f6f9"),
        "text": few, "textposition": "outside", "textfont": {"color": GREY, "size": 11}, "textangle": 0,
        "cliponaxis": False, "customdata": _hover(chart, series),
        "hovertemplate": f"%{{x}}, {series.name}: %{{customdata}}<extra></extra>",
    }  # fmt: skip


def _curve(chart: Chart, series: Series, colour: str) -> dict:
    is_dense = len(series.points) > 30
    return _points(series) | {
        "type": "scatter", "mode": "lines" if is_dense else "lines+markers", "line": {"color": colour, "width": 2},
        "marker": {"size": 6}, "error_y": {"visible": False} if is_dense else _errors(series, colour, 1),
        "customdata": _hover(chart, series),
        "hovertemplate": "%{x:.1%}: %{y:.1%}<extra></extra>" if is_dense else "%{x:.1%}: %{customdata}<extra></extra>",
    }  # fmt: skip


def _bubbles(chart: Chart, series: Series, colour: str) -> dict:
    most = max((p.n for p in series.points), default=1)
    return _points(series) | {
        "type": "scatter", "mode": "markers",
        "marker": {
            "color": colour, "opacity": 0.55, "line": {"width": 0}, "sizemode": "area", "sizemin": 1.5,
            "size": [p.n for p in series.points], "sizeref": 2 * most / LONGEST_BUBBLE_PX**2,
        },
        "customdata": [p.n for p in series.points],
        "hovertemplate": "mean about %{x:.0f} months, difference %{y:+.0f}: n = %{customdata:,}<extra></extra>",
    }  # fmt: skip


def _heat(chart: Chart) -> dict:
    """Shaded by the share of the row, labelled with counts."""
    rows = [[p.n for p in series.points] for series in chart.series]
    return {
        "type": "heatmap", "z": [[n / max(1, sum(row)) for n in row] for row in rows], "zmin": 0, "zmax": 1,
        "x": [p.x for p in chart.series[0].points], "y": [series.name for series in chart.series],
        "text": [[f"{n:,}" for n in row] for row in rows], "texttemplate": "%{text}", "colorscale": SHADES,
        "showscale": False, "xgap": 2, "ygap": 2,
        "hovertemplate": "%{y}, %{x}: n = %{text}, %{z:.1%} of the row<extra></extra>",
    }  # fmt: skip


_TRACES = {"line": _line, "bars": _bars, "curve": _curve, "bubbles": _bubbles}


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
