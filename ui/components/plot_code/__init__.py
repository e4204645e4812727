"""Streamlit's drawing code (plotly: 4.7 MB, half a second of the browser's time) ahead of the first chart.

A page of charts has it run while its figures are still being counted. Other pages only have it fetched and compiled,
which costs them nothing: run there, it would hold up whoever opens a case just then. Pages that show a film do
neither."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

_plot_code = st.components.v2.component(
    "plot_code", js=(Path(__file__).parent / "plot_code.js").read_text(encoding="utf-8")
)
# its name carries a hash that changes with Streamlit's version
_FILES = sorted((Path(st.__file__).parent / "static/static/js").glob("PlotlyChart.*.js"))


def fetch_early(*, run: bool) -> None:
    """`run`: the page is about to draw."""
    if _FILES:  # without it charts come as they always did
        with st.container(key="plot-code"):
            _plot_code(key="plot_code", data={"path": f"/static/js/{_FILES[0].name}", "run": run})
