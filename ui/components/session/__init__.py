"""The lock over the page while nobody is there, and the way out."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

_session = st.components.v2.component("session", js=(Path(__file__).parent / "session.js").read_text(encoding="utf-8"))


def watch(name: str, *, by_password: bool) -> None:
    """Once a page, ahead of everything that may stop the run. `name`: whose session it is."""
    with st.container(key="session"):
        _session(key="session_state", data={"name": name, "by_password": by_password})


def sign_out_button() -> None:
    """Its click never reaches the server's page: session.js sends the browser to /sign-out."""
    with st.container(key="sign_out"):
        st.button("Sign out", width="stretch")
