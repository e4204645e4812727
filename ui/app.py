"""The pages' frame: navigation, the top bar, and the one place where errors become words on the screen."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from ui import errors, state
from ui.components import connection

HERE = Path(__file__).parent
ICON = str(HERE / "icon.png")

st.set_page_config(page_title="PediScreen", page_icon=ICON, layout="wide", initial_sidebar_state="collapsed")
st.html(HERE / "style.css")
st.logo(str(HERE / "logo.png"), size="large")

page = st.navigation(
    {
        "": [
            st.Page("pages/worklist.py", title="Worklist", url_path="worklist", default=True),
            st.Page("pages/review.py", title="Review", url_path="review"),
            st.Page("pages/growth.py", title="Growth", url_path="growth"),
            st.Page("pages/upload.py", title="Upload", url_path="upload"),
            st.Page("pages/quarantine.py", title="Quarantine", url_path="quarantine"),
            st.Page("pages/export.py", title="Export", url_path="export"),
            st.Page("pages/dashboards.py", title="Dashboards", url_path="dashboards"),
        ],
        "Administration": [
            st.Page("pages/retrain.py", title="Retrain", url_path="retrain"),
            st.Page("pages/models.py", title="Models", url_path="models"),
        ],
    },
    position="top",
)

with st.container(key="whoami"):
    connection.watch()
    st.html('<span class="tag">Demo · not for diagnostic use</span>')
    with st.popover(state.current_user().display_name, type="tertiary"):
        st.radio(
            "Work as",
            list(state.DEMO_USERS),
            format_func=lambda username: state.DEMO_USERS[username].display_name,
            key=state.demo_user_key(),
            persist_state="session",
        )
        st.caption("Everyone on this machine may choose. Signing in comes with a later version.")

with errors.shown():
    page.run()
