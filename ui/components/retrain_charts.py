"""Retraining as plots: what is learnt from, how it goes, and what the gate measured."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go
import streamlit as st
from plotly.subplots import make_subplots

from engine.findings.answers import Task
from engine.promotion_gate import Figure
from engine.services.retrain import Curve
from engine.services.training_set import TaskCounts
from ui import words
from ui.components.charts import CONFIG, GREY

ACCENT, GREEN, RED, DIM = "#56b4e9", "#009e73", "#ff6f61", 0.4
LABELS = {
    **{f"zone {zone.value}": f"zone {name}" for zone, name in words.ZONE.items()},
    **{fracture.value: name.lower() for fracture, name in words.FRACTURE.items()},
}
MEASURE = {"error": "error", "missed findings": "findings missed", "unread": "left unread"}


def labels(tasks: Sequence[TaskCounts]) -> None:
    """The answers that readers gave, by task."""
    tasks = [one for one in tasks if one.by_label]
    if not tasks:
        return
    figure = make_subplots(
        cols=len(tasks),
        rows=1,
        subplot_titles=[
            f"{words.TASK[one.task]}: {one.corrected} corrected, {one.confirmed} confirmed" for one in tasks
        ],
        horizontal_spacing=0.09,
    )
    for column, one in enumerate(tasks, start=1):
        ordered = sorted(one.by_label, key=_in_order)
        numbers = [one.by_label[label] for label in ordered]
        figure.add_bar(
            x=[LABELS.get(label, label) for label in ordered], y=numbers, row=1, col=column, text=numbers,
            textposition="outside", cliponaxis=False, marker={"color": ACCENT, "line_width": 0},
            hovertemplate="%{x}: %{y}<extra></extra>",
        )  # fmt: skip
    figure.update_yaxes(visible=False)
    figure.update_xaxes(showgrid=False, tickfont={"size": 12, "color": GREY}, type="category")
    figure.update_layout(bargap=0.3)
    _show(figure, 190, top=34, key="retrain_labels", alt="How often each answer was given")


def _in_order(label: str) -> tuple[int, str]:
    """Age bands by their first year."""
    years = label.partition("-")[0].partition(" ")[0]
    return (int(years) if years.isdecimal() else 0, label)


def curve(found: Curve) -> None:
    """Training loss above, validation loss below, by step."""
    if not found.loss and not found.score:
        st.html('<div class="quiet" style="padding:2.6rem 0">The curve begins with the first training step.</div>')
        return
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.16, row_heights=[0.5, 0.5],
                           subplot_titles=["Training loss", "Validation loss"])  # fmt: skip
    for row, points in enumerate((found.loss, found.score), start=1):
        figure.add_scatter(
            x=[step for step, _ in points], y=[value for _, value in points], row=row, col=1,
            mode="lines" if row == 1 else "lines+markers", line={"color": ACCENT, "width": 2}, marker={"size": 7},
            hovertemplate="step %{x}: %{y:.3f}<extra></extra>",
        )  # fmt: skip
    figure.update_xaxes(showgrid=False, rangemode="tozero")
    figure.update_yaxes(nticks=4, gridcolor="#171c22", rangemode="tozero")
    _show(figure, 300, top=22, key="retrain_curve", alt="Training loss and validation loss by step")


def forest(figures: Sequence[Figure]) -> None:
    """Candidate minus model in use with its interval, and the limit of each: left of zero the candidate is better."""
    units = [unit for unit in ("months", "share") if any(figure.unit == unit for figure in figures)]
    if not units:
        return
    heights = [sum(figure.unit == unit for figure in figures) for unit in units]
    height = 60 + 21 * len(figures) + 50 * (len(units) - 1)
    plot = make_subplots(
        rows=len(units), cols=1, row_heights=heights, vertical_spacing=50 / (height - 48),
        subplot_titles=[{"months": "Change in months", "share": "Change in percentage points"}[unit] for unit in units],
    )  # fmt: skip
    for row, unit in enumerate(units, start=1):
        scale = 100 if unit == "share" else 1
        for figure in [one for one in figures if one.unit == unit]:
            name = f"{words.TASK[Task(figure.task)]} · {figure.group} · {MEASURE[figure.measure]}"
            if figure.rule == "better":
                name += " (better?)"
            colour = RED if figure.passed is False and figure.rule != "better" else GREY
            colour = GREEN if figure.passed and figure.rule == "better" else ACCENT if figure.passed else colour
            plot.add_scatter(
                x=[figure.difference * scale], y=[name], row=row, col=1, mode="markers",
                marker={"color": colour, "size": 9},
                error_x={
                    "type": "data", "symmetric": False, "array": [(figure.high - figure.difference) * scale],
                    "arrayminus": [(figure.difference - figure.low) * scale], "color": colour, "thickness": 2,
                },
                hovertemplate=f"{name}<br>%{{x:+.1f}}<extra></extra>",
            )  # fmt: skip
            if figure.limit is not None:
                plot.add_scatter(
                    x=[figure.limit * scale], y=[name], row=row, col=1, mode="markers", hoverinfo="skip",
                    marker={"symbol": "line-ns", "size": 14, "line": {"color": "#d5dbe3", "width": 2}},
                )  # fmt: skip
        plot.add_vline(0, row=row, col=1, line={"color": "#5b6673", "width": 1})
    plot.update_yaxes(autorange="reversed", showgrid=False, tickfont={"size": 12})
    plot.update_xaxes(gridcolor="#171c22", zeroline=False)
    _show(plot, height, top=24, key="retrain_forest", alt="Differences with intervals and limits")


def _show(figure: go.Figure, height: int, *, top: int, key: str, alt: str) -> None:
    figure.update_layout(
        height=height, margin={"l": 0, "r": 8, "t": top, "b": 24}, showlegend=False, dragmode=False,
        paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)",
    )  # fmt: skip
    figure.update_annotations(font={"size": 13, "color": GREY})
    figure.update_xaxes(fixedrange=True)
    figure.update_yaxes(fixedrange=True)
    st.plotly_chart(figure, config=CONFIG, key=key, alt=alt)
