"""Streamlit's drawing code (plotly: 4.7 MB, half a second of the browser's time) fetched and run ahead of the first
chart: while a reader looks at a page without any, or while a page of charts is still being counted."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

_plot_code = st.components.v2.component(
    "plot_code", js=(Path(__file__).parent / "plot_code.js").read_text(encoding="utf-8")
)
# its name carries a hash that changes with Streamlit's version
_FILES = sorted((Path(st.__file__).parent / "static/static/js").glob("PlotlyChart.*.js"))


def fetch_early(*, soon: bool) -> None:
    """`soon`: the page is about to draw. Otherwise once the browser has had nothing to do for a while."""
    if _FILES:  # without it charts come as they always did
        with st.container(key="plot-code"):
            _plot_code(key="plot_code", data={"path": f"/static/js/{_FILES[0].name}", "soon": soon})
