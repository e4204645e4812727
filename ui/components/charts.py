"""A read's distribution as a small plot. Colours come from the theme: the accent, brighter where it matters."""

from __future__ import annotations

import plotly.graph_objects as go
import streamlit as st
from plotly.subplots import make_subplots

from engine.findings.answers import Fracture, Plus, Stage, Task, Zone
from engine.services.review import ReadView
from ui import words

HEIGHT_PX = 100
DIM, BRIGHT = 0.33, 1.0
CONFIG = {"displayModeBar": False, "responsive": True}
GREY = "#8b96a5"


def read_chart(read: ReadView, chronological_months: float | None) -> go.Figure:
    """The figure for a read that has an answer."""
    if read.task is Task.BONE_AGE:
        return bone_age_chart(read, chronological_months)
    if read.task is Task.ROP:
        return rop_chart(read)
    return fracture_chart(read)


def bone_age_chart(read: ReadView, chronological_months: float | None) -> go.Figure:
    """Probability of each month; the 80 % interval bright, the median and the chronological age as lines."""
    low, high = read.interval_months
    marks = [low, high] + ([] if chronological_months is None else [chronological_months])
    margin = max(6, (high - low) * 0.6)
    first, last = max(0, min(marks) - margin), max(marks) + margin
    months = [month for month in sorted(map(int, read.probabilities)) if first <= month <= last]
    figure = go.Figure(
        go.Bar(
            x=months,
            y=[read.probabilities[str(month)] for month in months],
            customdata=[words.age(month) for month in months],
            marker={"opacity": [BRIGHT if low <= month <= high else DIM for month in months], "line_width": 0},
            hovertemplate="%{customdata} (%{x} months): %{y:.1%}<extra></extra>",
        )
    )
    figure.add_vline(read.median_months, line={"color": "#ffffff", "width": 1.5})
    if chronological_months is not None:
        figure.add_vline(
            chronological_months,
            line={"color": "#dfe5ec", "width": 1.5, "dash": "dot"},
            annotation={"text": "chronological", "font": {"size": 11, "color": GREY}, "yanchor": "bottom"},
            annotation_position="top",
        )
    step = 12 if last - first > 40 else 6
    ticks = [month for month in range(0, 240, step) if first <= month <= last]
    figure.update_xaxes(
        range=[first - 0.5, last + 0.5], tickvals=ticks, ticktext=[words.age(tick) for tick in ticks], showgrid=False
    )
    figure.update_yaxes(visible=False)
    figure.update_layout(bargap=0.12)
    return _small(figure, top=18)


def rop_chart(read: ReadView) -> go.Figure:
    """Three small bar charts side by side: zone, stage, plus disease."""
    parts = [
        ("zone", "Zone", {zone.value: words.ZONE[zone] for zone in Zone}),
        ("stage", "Stage", {stage.value: words.STAGE[stage] for stage in Stage}),
        ("plus_disease", "Plus", {plus.value: words.PLUS[plus] for plus in Plus}),
    ]
    figure = make_subplots(1, 3, column_widths=[4, 6, 4.4], horizontal_spacing=0.07)
    for column, (name, title, labels) in enumerate(parts, start=1):
        shares = [read.probabilities[name].get(value, 0.0) for value in labels]
        figure.add_trace(
            go.Bar(
                x=list(labels.values()),
                y=shares,
                marker={"opacity": _bright_top(shares), "line_width": 0},
                hovertemplate=f"{title} %{{x}}: %{{y:.1%}}<extra></extra>",
            ),
            1,
            column,
        )
        figure.update_xaxes(title={"text": title, "font": {"size": 12, "color": GREY}}, type="category", col=column)
    figure.update_yaxes(visible=False, range=[0, 1.02])
    return _small(figure, bottom=40)


def fracture_chart(read: ReadView) -> go.Figure:
    labels = {fracture.value: words.FRACTURE[fracture] for fracture in reversed(Fracture)}
    shares = [read.probabilities.get(value, 0.0) for value in labels]
    figure = go.Figure(
        go.Bar(
            x=shares,
            y=list(labels.values()),
            orientation="h",
            text=[f"{share:.1%}" for share in shares],
            textposition="outside",
            cliponaxis=False,
            marker={"opacity": _bright_top(shares), "line_width": 0},
            hovertemplate="%{y}: %{x:.1%}<extra></extra>",
        )
    )
    figure.update_xaxes(visible=False, range=[0, 1.18])
    figure.update_yaxes(showgrid=False)
    figure.update_layout(bargap=0.35)
    return _small(figure)


def _bright_top(shares: list[float]) -> list[float]:
    return [BRIGHT if share == max(shares) else DIM for share in shares]


def _small(figure: go.Figure, top: int = 6, bottom: int = 24) -> go.Figure:
    figure.update_layout(
        height=HEIGHT_PX,
        margin={"l": 0, "r": 6, "t": top, "b": bottom},
        showlegend=False,
        dragmode=False,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
    )
    figure.update_traces(marker_color=st.get_option("theme.primaryColor"))  # one read, one colour
    figure.update_xaxes(fixedrange=True)
    figure.update_yaxes(fixedrange=True)
    return figure
