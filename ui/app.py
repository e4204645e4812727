"""The pages' frame: navigation, the top bar, and the one place where errors become words on the screen."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from db.models import Role
from engine.services.accounts import DEMO_USERS
from ui import errors, state
from ui.components import connection, plot_code

CURRENT = ' aria-current="true"'
PAGES_OF_CHARTS = ("dashboards", "growth", "retrain")
PAGES_OF_FILMS = ("review", "adjudication")
HERE = Path(__file__).parent
ICON = str(HERE / "icon.png")

st.set_page_config(page_title="PediScreen", page_icon=ICON, layout="wide", initial_sidebar_state="collapsed")
st.html(HERE / "style.css")
st.logo(str(HERE / "logo.png"), size="large")

may_settle = state.current_user().role in (Role.ADJUDICATOR, Role.ADMIN)
page = st.navigation(
    {
        "": [
            st.Page("pages/worklist.py", title="Worklist", url_path="worklist", default=True),
            st.Page("pages/review.py", title="Review", url_path="review"),
            st.Page("pages/growth.py", title="Growth", url_path="growth"),
            st.Page(
                "pages/adjudication.py",
                title="Adjudication",
                url_path="adjudication",
                visibility="visible" if may_settle else "hidden",
            ),
            st.Page("pages/upload.py", title="Upload", url_path="upload"),
            st.Page("pages/quarantine.py", title="Quarantine", url_path="quarantine"),
            st.Page("pages/export.py", title="Export", url_path="export"),
            st.Page("pages/dashboards.py", title="Dashboards", url_path="dashboards"),
        ],
        "Administration": [
            st.Page("pages/quality.py", title="Quality", url_path="quality"),
            st.Page("pages/retrain.py", title="Retrain", url_path="retrain"),
            st.Page("pages/models.py", title="Models", url_path="models"),
            st.Page("pages/connections.py", title="Connections", url_path="connections"),
            st.Page(
                "pages/audit_log.py",
                title="Audit log",
                url_path="audit_log",
                visibility="visible" if state.current_user().role is Role.ADMIN else "hidden",
            ),
            st.Page("pages/tokens.py", title="API access", url_path="tokens"),
        ],
    },
    position="top",
)

with st.container(key="whoami"):
    connection.watch()
    if page.url_path not in PAGES_OF_FILMS:
        plot_code.fetch_early(run=page.url_path in PAGES_OF_CHARTS)
    st.html('<span class="tag">Demo · not for diagnostic use</span>')
    with st.popover(state.current_user().display_name, type="tertiary"):
        # Links, not a widget: another user is another session, which knows nothing of what the one before has typed.
        links = "".join(
            f'<a href="/demo/work-as/{user.username}" target="_self"{CURRENT if user == state.current_user() else ""}>'
            f"{user.display_name}</a>"
            for user in DEMO_USERS.values()
        )
        st.html(f'<nav class="work-as" aria-label="Work as"><span class="quiet">Work as</span>{links}</nav>')
        st.caption("Everyone on this machine may choose. Signing in comes with a later version.")

with errors.shown():
    page.run()
