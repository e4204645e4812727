"""The pages' frame: navigation, the top bar, and the one place where errors become words on the screen."""

from __future__ import annotations

from html import escape
from pathlib import Path

import streamlit as st

from engine.services.accounts import DEMO_USERS
from engine.services.sessions import SignedIn
from engine.settings import settings
from engine.sign_in_settings import Login
from ui import errors, navigation, state
from ui.components import connection, plot_code, session

CURRENT = ' aria-current="true"'
PAGES_OF_CHARTS = ("dashboards", "growth", "retrain")
PAGES_OF_FILMS = ("review", "adjudication")
HERE = Path(__file__).parent
ICON = str(HERE / "icon.png")
IN_DEMO = settings().sign_in.login is Login.DEMO


def who_works_here(here: SignedIn) -> None:
    with st.popover(here.actor.display_name, type="tertiary"):
        if IN_DEMO:
            work_as(here.actor.username)
            return
        st.html(f'<span class="quiet">{escape(here.actor.username)} · {here.actor.role}</span>')
        st.page_link("pages/account.py", label="Account")
        session.sign_out_button()


def work_as(username: str) -> None:
    """Links, not a widget: another user is another session, which knows nothing of what the one before has typed."""
    links = "".join(
        f'<a href="/demo/work-as/{user.username}" target="_self"{CURRENT if user.username == username else ""}>'
        f"{user.display_name}</a>"
        for user in DEMO_USERS.values()
    )
    st.html(f'<nav class="work-as" aria-label="Work as"><span class="quiet">Work as</span>{links}</nav>')
    st.caption("Everyone on this machine may choose: this is the demo, without passwords.")


st.set_page_config(page_title="PediScreen", page_icon=ICON, layout="wide", initial_sidebar_state="collapsed")
st.html(HERE / "style.css")
st.logo(str(HERE / "logo.png"), size="large")

here = state.session_or_stop()
page = navigation.navigation(here.actor)

with st.container(key="whoami"):
    connection.watch()
    if not IN_DEMO:
        session.watch(here.actor.display_name, by_password=here.by_password)
    if page.url_path not in PAGES_OF_FILMS:
        plot_code.fetch_early(run=page.url_path in PAGES_OF_CHARTS)
    st.html(f'<span class="tag">{"Demo · not" if IN_DEMO else "Not"} for diagnostic use</span>')
    who_works_here(here)

with errors.shown():
    navigation.require_place(page, here.actor)
    page.run()
