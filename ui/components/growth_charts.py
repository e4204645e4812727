"""Growth as plots: a child on the curves, children against the reference, bone age against height.

A chart has the background of the page painted in, so that a saved image can be read on white paper too."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

import numpy as np
import plotly.graph_objects as go
import streamlit as st
from plotly.subplots import make_subplots

from engine.csv_cells import harmless
from engine.findings.growth import Curves, Indicator, centile_curves, z_curves
from engine.findings.growth_visits import GrowthZ
from engine.growth_figures import BIN_WIDTH, Distribution
from engine.services.child_bone_ages import BoneAgeOfFilm
from engine.services.child_growth import ChildGrowth
from engine.services.growth_population import BoneAgeAndHeight
from engine.services.growth_sheets import NAMES
from ui import words
from ui.components.charts import GREY

ACCENT, BONE, LINE, BACKGROUND = "#56b4e9", "#e69f00", "#66727f", "#090b0e"
STEP_MONTHS = 12
LATEST = {Indicator.WEIGHT: 120, Indicator.HEAD: 60}  # months; the others end with the reference
ADULT_MONTHS = 228
CURVES = {"centiles": "Centiles", "sd": "SD lines"}
MOST_POINTS = 1500  # beyond, how many children lie where is clearer than their points, and quicker to draw
DENSITY_STEP = 0.25
DENSITY_FROM, DENSITY_TO = -6.0, 6.0


def child_chart(
    growth: ChildGrowth, indicator: Indicator, bone_ages: Sequence[BoneAgeOfFilm], curves: str = "centiles"
) -> go.Figure:
    """The child's visits on WHO's lines, and below on the same axis each film's bone age beside the child's age. On the
    height chart every height near a film stands a second time, at the bone age."""
    first, last = _span(growth, indicator, bone_ages)
    figure = make_subplots(
        rows=2 if bone_ages else 1,
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.03,
        row_heights=[0.84, 0.16] if bone_ages else [1.0],
    )
    _lines(figure, _curves_of(indicator, growth.sex, curves, first, last), curves, last)
    _visits(figure, growth, indicator)
    if bone_ages:
        _bone_ages(figure, bone_ages, with_heights=indicator is Indicator.HEIGHT)
    unit = {Indicator.BMI: "kg/m²", Indicator.WEIGHT: "kg"}.get(indicator, "cm")
    figure.update_yaxes(
        title={"text": f"{NAMES[indicator]} ({unit})", "font": {"size": 12, "color": GREY}}, row=1, col=1
    )
    step = STEP_MONTHS if last - first > 30 else 3
    ticks = [month for month in range(0, ADULT_MONTHS + 1, step) if first <= month <= last]
    figure.update_xaxes(range=[first, last], tickvals=ticks, ticktext=[_tick(month) for month in ticks])
    figure.update_layout(hovermode="closest")
    return _framed(figure, 560)


def _span(growth: ChildGrowth, indicator: Indicator, bone_ages: Sequence[BoneAgeOfFilm]) -> tuple[float, float]:
    months = [visit.age_months for visit in growth.visits if visit.age_months is not None]
    months += [month for film in bone_ages for month in (film.age_months, film.bone_age_months)]
    if not months:
        return 0, LATEST.get(indicator, ADULT_MONTHS)
    first, last = min(months), max(months)
    margin = max(6, (last - first) * 0.12)
    return max(0, first - margin), min(ADULT_MONTHS + 4, last + margin * 1.6)  # room for the lines' names


def _curves_of(indicator: Indicator, sex: str | None, curves: str, first: float, last: float) -> Curves | None:
    if sex is None:
        return None
    make = centile_curves if curves == "centiles" else z_curves
    return make(indicator, sex, from_months=max(0, first - 2), to_months=last + 2)


def _lines(figure: go.Figure, curves: Curves | None, kind: str, last: float) -> None:
    if curves is None:
        return
    middle = sorted(curves.values)[len(curves.values) // 2]
    for label, values in curves.values.items():
        name = f"{label:g} %" if kind == "centiles" else f"{label:+g} SD" if label else "median"
        figure.add_trace(
            go.Scatter(
                x=curves.age_months,
                y=values,
                mode="lines",
                name=name,
                connectgaps=False,
                line={
                    "color": LINE,
                    "width": 1.6 if label == middle else 1,
                    "dash": None if label == middle else "dot",
                },
                hovertemplate=f"{name}: %{{y:.1f}}<extra></extra>",
            ),
            row=1,
            col=1,
        )
        known = np.flatnonzero(~np.isnan(values) & (curves.age_months <= last))
        if len(known):
            figure.add_annotation(
                x=curves.age_months[known[-1]], y=values[known[-1]], text=name, showarrow=False, xanchor="right",
                yanchor="bottom", font={"size": 11, "color": GREY}, row=1, col=1,
            )  # fmt: skip


def _visits(figure: go.Figure, growth: ChildGrowth, indicator: Indicator) -> None:
    """At the chronological age; joined, those that WHO takes as an error as open circles."""
    points = []
    for visit in growth.visits:
        score = visit.scored.values[indicator]
        if visit.age_months is None:
            continue
        value = score.measurement if isinstance(score, GrowthZ) else visit.measurement(indicator)
        if value is None:
            continue
        z = f"z {score.z:+z.2f}, centile {score.centile_percent:.1f}" if isinstance(score, GrowthZ) else "no z"
        doubtful = isinstance(score, GrowthZ) and score.implausible
        points.append((visit.age_months, value, words.age(visit.age_months), words.day(visit.measured_on), z, doubtful))
    if not points:
        return
    months, values, ages, days, z, doubtful = zip(*points, strict=True)
    figure.add_trace(
        go.Scatter(
            x=months,
            y=values,
            mode="lines+markers",
            name="measured",
            customdata=list(zip(ages, days, z, strict=True)),
            line={"color": ACCENT, "width": 2},
            marker={
                "size": 9,
                "color": ACCENT,
                "symbol": ["circle-open" if one else "circle" for one in doubtful],
            },
            hovertemplate="%{customdata[0]}, %{customdata[1]}: %{y:.1f}<br>%{customdata[2]}<extra></extra>",
        ),
        row=1,
        col=1,
    )


def _bone_ages(figure: go.Figure, films: Sequence[BoneAgeOfFilm], *, with_heights: bool) -> None:
    """Below: from the child's age to the bone age, a line a film. Above, on the height chart: the height at both."""
    level = list(range(len(films)))
    for row, film in enumerate(films):
        figure.add_shape(
            type="line", x0=film.age_months, x1=film.bone_age_months, y0=row, y1=row,
            line={"color": BONE, "width": 2}, row=2, col=1,
        )  # fmt: skip
        if with_heights and film.height_cm is not None:
            figure.add_shape(
                type="line", x0=film.age_months, x1=film.bone_age_months, y0=film.height_cm, y1=film.height_cm,
                line={"color": BONE, "width": 1, "dash": "dot"}, row=1, col=1,
            )  # fmt: skip
    symbols = ["diamond" if film.is_decided else "diamond-open" for film in films]
    said = [
        f"bone age {words.age(film.bone_age_months)} at {words.age(film.age_months)}"
        + ("" if film.is_decided else " (read, not decided)")
        for film in films
    ]
    marker = {"size": 11, "color": BONE, "symbol": symbols, "line": {"width": 1.5, "color": BONE}}
    figure.add_trace(
        go.Scatter(
            x=[film.age_months for film in films], y=level, mode="markers", name="age",
            marker={"size": 8, "color": ACCENT}, hovertemplate="%{text}<extra></extra>", text=said,
        ),
        row=2, col=1,
    )  # fmt: skip
    figure.add_trace(
        go.Scatter(
            x=[film.bone_age_months for film in films], y=level, mode="markers", name="bone age", marker=marker,
            hovertemplate="%{text}<extra></extra>", text=said,
        ),
        row=2, col=1,
    )  # fmt: skip
    figure.update_yaxes(
        title={"text": "Bone age", "font": {"size": 12, "color": GREY}}, showticklabels=False, showgrid=False,
        zeroline=False, range=[-0.7, len(films) - 0.3], row=2, col=1,
    )  # fmt: skip
    near = [(film, text, symbol) for film, text, symbol in zip(films, said, symbols, strict=True) if film.height_cm]
    if with_heights and near:
        figure.add_trace(
            go.Scatter(
                x=[film.bone_age_months for film, _, _ in near],
                y=[film.height_cm for film, _, _ in near],
                mode="markers",
                name="height at bone age",
                marker={**marker, "symbol": [symbol for _, _, symbol in near]},
                text=[f"{film.height_cm:g} cm at {text}" for film, text, _ in near],
                hovertemplate="%{text}<extra></extra>",
            ),
            row=1,
            col=1,
        )


def distribution_chart(indicator: Indicator, found: Distribution) -> go.Figure:
    """Shares of children by z, in per cent of those counted, over the reference's normal distribution."""
    middles = [(low + high) / 2 for low, high in zip(found.edges, found.edges[1:], strict=False)]
    figure = go.Figure(
        go.Bar(
            x=middles,
            y=[100 * count / found.n for count in found.counts],
            customdata=found.counts,
            width=BIN_WIDTH * 0.92,
            name="children",
            marker={"color": ACCENT, "line_width": 0},
            hovertemplate="z about %{x:.2f}: %{y:.1f} %, %{customdata:,} children<extra></extra>",
        )
    )
    z = np.linspace(found.edges[0], found.edges[-1], 241)
    figure.add_scatter(
        x=z,
        y=100 * BIN_WIDTH * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi),
        mode="lines",
        name="reference",
        line={"color": "#d5dbe3", "width": 1.5},
        hoverinfo="skip",
    )
    figure.update_xaxes(title=_axis(f"{NAMES[indicator]} for age z"), range=[-5, 5], dtick=1)
    figure.update_yaxes(title=_axis("children (%)"), rangemode="tozero")
    figure.update_layout(showlegend=True, legend={"x": 0.99, "xanchor": "right", "y": 0.99, "bgcolor": "rgba(0,0,0,0)"})
    return _framed(figure, 430)


def bone_age_chart(found: BoneAgeAndHeight) -> go.Figure:
    """A point a child; with many children a map of how many lie where. The line is that of least squares."""
    x, y = found.height_z, found.sds
    figure = go.Figure()
    if found.n <= MOST_POINTS:
        figure.add_scatter(
            x=x, y=y, mode="markers", name="children", marker={"color": ACCENT, "size": 7, "opacity": 0.7},
            hovertemplate="height z %{x:.2f}, bone-age SDS %{y:.2f}<extra></extra>",
        )  # fmt: skip
    else:
        edges = np.arange(DENSITY_FROM, DENSITY_TO + DENSITY_STEP / 2, DENSITY_STEP)
        counts, _, _ = np.histogram2d(y, x, bins=(edges, edges))
        middles = edges[:-1] + DENSITY_STEP / 2
        figure.add_heatmap(
            x=middles, y=middles, z=np.where(counts > 0, counts, np.nan), name="children",
            colorscale=[[0, "#153a52"], [0.4, "#3a8bc0"], [1, "#d3ecfb"]],
            colorbar={"title": {"text": "children"}, "thickness": 10, "outlinewidth": 0},
            hovertemplate="height z about %{x:.2f}, bone-age SDS about %{y:.2f}: %{z:,} children<extra></extra>",
        )  # fmt: skip
    slope, intercept = np.polyfit(x, y, 1)
    ends = np.array([x.min(), x.max()])
    figure.add_scatter(
        x=ends, y=slope * ends + intercept, mode="lines", name="least squares", line={"color": BONE, "width": 2},
        hoverinfo="skip",
    )  # fmt: skip
    figure.update_xaxes(title=_axis("Height for age z (WHO)"), zeroline=True, zerolinecolor="#2c3640")
    figure.update_yaxes(title=_axis("Bone-age SDS"), zeroline=True, zerolinecolor="#2c3640")
    return _framed(figure, 430)


def show(figure: go.Figure, *, key: str, alt: str, rows: Iterable[Sequence[object]], image: str = "png") -> None:
    """The chart; its camera saves it as `image` ("png" or "svg"), the button below its numbers as CSV. `rows`: header
    first."""
    st.plotly_chart(
        figure,
        key=key,
        alt=alt,
        config={
            "displaylogo": False,
            "displayModeBar": True,
            "modeBarButtons": [["toImage", "zoom2d", "resetScale2d"]],
            "toImageButtonOptions": {"format": image, "filename": key, "scale": 2 if image == "png" else 1},
            "responsive": True,
        },
    )
    numbers_button(key, rows)


def numbers_button(key: str, rows: Iterable[Sequence[object]]) -> None:
    st.download_button(
        "Numbers as CSV",
        data=csv_text(rows),
        file_name=f"{key}.csv",
        mime="text/csv",
        key=f"{key}_csv",
        type="tertiary",
        on_click="ignore",
    )


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(map(harmless, row) for row in rows)
    return out.getvalue()


def _axis(text: str) -> dict:
    return {"text": text, "font": {"size": 12, "color": GREY}}


def _tick(months: int) -> str:
    return f"{months // 12} y" if months % 12 == 0 and months else words.age(months)


def _framed(figure: go.Figure, height: int) -> go.Figure:
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 12, "t": 30, "b": 8},
        showlegend=figure.layout.showlegend or False,
        paper_bgcolor=BACKGROUND,
        plot_bgcolor=BACKGROUND,
    )
    figure.update_xaxes(gridcolor="#151a20")
    figure.update_yaxes(gridcolor="#151a20")
    return figure
