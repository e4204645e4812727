"""One's own account: the password, and where one is signed in."""

from __future__ import annotations

import streamlit as st

from engine.services import sessions
from engine.settings import settings
from engine.sign_in_settings import Login
from ui import database, errors, state
from ui.components import page_parts, session_table


@errors.shown()
def show() -> None:
    page_parts.title("Account", "Your password, and where you are signed in")
    here = state.session_or_stop()
    if settings().sign_in.login is Login.DEMO:
        page_parts.empty(
            "The demo has no accounts", "<code>PEDISCREEN_LOGIN=local</code> gives each person one of their own."
        )
        return
    page_parts.facts(
        {"User name": here.actor.username, "Name": here.actor.display_name, "Role": here.actor.role.capitalize()}
    )
    if here.by_password:
        st.html('<a class="block-link" href="/sign-in/password?next=/account" target="_self">Change the password</a>')
    else:
        page_parts.caption("Your hospital's identity provider keeps your password and your role.")
    with database.session() as session:
        rows = sessions.sessions_of(session, here.actor, here.actor.username)
    st.html('<div class="block-title section"><span>Where you are signed in</span></div>')
    session_table.show(rows, current=here.session_id)
    st.button("Sign out everywhere", on_click=sign_out_everywhere, help="Here, too.")


@errors.in_callback()
def sign_out_everywhere() -> None:
    actor = state.current_user()
    with database.session() as session:
        sessions.end_all(session, actor, actor.username)


show()
