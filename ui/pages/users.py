"""The people who may sign in: who they are, what they may do, where they are signed in."""

from __future__ import annotations

from html import escape

import streamlit as st

from engine.services import sessions, users
from engine.services.users import UserRow
from engine.settings import settings
from engine.sign_in_settings import Login
from ui import database, errors, state, words
from ui.components import case_table, page_parts, session_table
from ui.components.case_table import Column, Line

COLUMNS = [
    Column("name", "Name", "30%"),
    Column("role", "Role", "16%"),
    Column("state", "State", "28%"),
    Column("seen", "Last seen", "26%", align="right"),
]
WHAT_A_ROLE_MAY = {
    "reader": "reads and decides",
    "adjudicator": "also settles disagreements",
    "admin": "also users, models, quality and export",
}


@errors.shown()
def show() -> None:
    page_parts.title("Users", "Who may sign in, and what they may do")
    if settings().sign_in.login is Login.DEMO:
        page_parts.empty(
            "The demo has no accounts",
            "Everybody on this machine works as one of the demo users. <code>PEDISCREEN_LOGIN=local</code> gives each "
            "person an account with a password, <code>PEDISCREEN_LOGIN=oidc</code> asks your hospital's sign-in.",
        )
        return
    with database.session() as session:
        rows = users.users(session, state.current_user())
    say_one_time_password()
    left, right = st.columns([1.6, 1], gap="large")
    with left:
        names = [row.username for row in rows]
        marked = names.index(state.chosen_user()) if state.chosen_user() in names else None
        lines = [_line(index, row) for index, row in enumerate(rows)]
        clicked = case_table.show(COLUMNS, lines, label="Users", marked=marked)
        if clicked.open is not None:
            state.choose_user(rows[clicked.open].username)
    with right:
        chosen = next((row for row in rows if row.username == state.chosen_user()), None)
        if chosen is not None:
            one_user(chosen)
        elif settings().sign_in.login is Login.LOCAL:
            add_form()
        else:
            page_parts.caption("Your hospital's identity provider says who may come in. Open a user to see more.")


def _line(index: int, row: UserRow) -> Line:
    return Line(
        id=index,
        label=row.display_name,
        done=row.disabled_at is not None,
        cells={
            "name": {"text": row.display_name, "note": row.username},
            "role": row.role.capitalize(),
            "state": _state(row),
            "seen": words.moment(row.last_seen_at) if row.last_seen_at else "never",
        },
    )


def _state(row: UserRow) -> str:
    if row.disabled_at is not None:
        return f"Disabled {words.moment(row.disabled_at)}"
    waits = ["has a one-time password"] if row.must_change else []
    signed_in = [f"signed in {words.counted(row.sessions, 'time', 'times')}"] if row.sessions else []
    return ", ".join([*waits, *signed_in]).capitalize() or "Signed out"


# ---------------------------------------------------------------- a new one


def add_form() -> None:
    st.html('<div class="block-title"><span>Add a user</span></div>')
    with st.form("add_user"):
        username = st.text_input("User name", max_chars=50, help="a-z, 0-9 and . _ @ -; it stays with their decisions")
        display_name = st.text_input("Name", max_chars=128)
        role = _role_choice("add_role")
        if st.form_submit_button("Add", type="primary"):
            with database.session() as session:
                password = users.add_user(session, state.current_user(), username, display_name, role)
            username = username.strip().casefold()
            state.keep_one_time_password(username, password)
            state.choose_user(username)
            st.rerun()


def _role_choice(key: str, index: int = 0):
    return st.selectbox(
        "Role",
        users.ROLES,
        index=index,
        key=key,
        format_func=lambda role: f"{role.capitalize()}: {WHAT_A_ROLE_MAY[role]}",
    )


def say_one_time_password() -> None:
    """Once: it is kept nowhere."""
    username, password = state.take_one_time_password()
    if password is None:
        return
    st.html(
        f'<div class="notice">One-time password of <strong>{escape(username)}</strong>: '
        f"<code>{escape(password)}</code><br>Tell them now, it is not shown again. They choose their own when they "
        "sign in.</div>"
    )


# ---------------------------------------------------------------- one of them


def one_user(row: UserRow) -> None:
    st.html(
        f'<div class="block-title"><span>{escape(row.display_name)}</span><span>{escape(row.username)}</span></div>'
    )
    is_self = row.username == state.current_user().username
    if row.by_password:
        role = _role_choice(f"role_{row.username}", users.ROLES.index(row.role))
        if role is not row.role:
            page_parts.caption("They are signed out, and come back in the new role.")
            st.button("Change the role", type="primary", on_click=_change_role, args=(row.username, role))
    else:
        page_parts.caption(f"{row.role.capitalize()}, as the identity provider says at each sign-in.")
    with st.container(horizontal=True):
        if row.by_password:
            st.button("Reset the password", on_click=_reset, args=(row.username,))
        if row.disabled_at is not None:
            st.button("Enable", on_click=_act, args=(users.enable, row.username))
        else:
            st.button("Disable", on_click=_act, args=(users.disable, row.username), disabled=is_self)
        st.button("Sign out everywhere", on_click=_act, args=(sessions.end_all, row.username))
    with database.session() as session:
        where = sessions.sessions_of(session, state.current_user(), row.username)
    if where:
        st.html('<div class="block-title section"><span>Signed in</span></div>')
        session_table.show(where)
    else:
        page_parts.caption("Signed in nowhere.")
    st.button("Back to adding a user", type="tertiary", on_click=state.choose_user, args=(None,))


@errors.in_callback()
def _act(service, username: str) -> None:
    with database.session() as session:
        service(session, state.current_user(), username)


@errors.in_callback()
def _change_role(username: str, role) -> None:
    with database.session() as session:
        users.set_role(session, state.current_user(), username, role)


@errors.in_callback()
def _reset(username: str) -> None:
    with database.session() as session:
        password = users.reset_password(session, state.current_user(), username)
    state.keep_one_time_password(username, password)


show()
