"""What the reader is told while the browser cannot reach the workstation. Streamlit's own words for it are for whoever
started it from a terminal; ui/style.css hides them."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

_connection = st.components.v2.component(
    "connection", js=(Path(__file__).parent / "connection.js").read_text(encoding="utf-8")
)


def watch() -> None:
    """Once a page, ahead of everything that may stop the run."""
    with st.container(key="connection"):
        _connection(key="connection_state", data={})
