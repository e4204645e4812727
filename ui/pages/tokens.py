"""Which programs may call the REST API, and as what: make a token, see when it was last used, take it back."""

from __future__ import annotations

import streamlit as st

from db.models import Role
from engine.services import api_tokens
from engine.services.accounts import Actor
from engine.services.api_tokens import DEFAULT_DAYS, LONGEST_DAYS, LONGEST_NAME, SCOPE_WORDS, SCOPES_OF, TokenRow
from ui import database, errors, state, words
from ui.components import case_table, page_parts
from ui.components.case_table import Column, Line

COLUMNS = [
    Column("name", "Token", "26%"),
    Column("may", "May", "34%"),
    Column("used", "Last used", "20%", align="right"),
    Column("valid", "Valid", "20%", align="right"),
]
ROLE_WORDS = {
    Role.SERVICE: "Service: a machine that sends films or asks for reads",
    Role.READER: "Reader: also sees cases and decides",
    Role.ADJUDICATOR: "Adjudicator: also settles disagreements",
    Role.ADMIN: "Admin",
}


def user() -> Actor:
    return state.administrator()


@errors.shown()
def show() -> None:
    page_parts.title("API access", "Which programs may call this workstation, and for what")
    with database.session() as session:
        rows = api_tokens.tokens(session, user())
    left, right = st.columns([1.6, 1], gap="large")
    with left:
        listed(rows)
    with right:
        made = state.new_api_token()
        if made is None:
            make()
        else:
            shown_once(*made)


# ---------------------------------------------------------------- the tokens


def listed(rows: list[TokenRow]) -> None:
    if not rows:
        page_parts.empty(
            "No program may call the API yet",
            "Make a token for each: a PACS, a RIS, a script. What it does is in the audit log under its number. "
            'The API is described at <a href="/api/docs">/api/docs</a>.',
        )
        return
    clicked = case_table.show(COLUMNS, [line(row) for row in rows], label="Tokens", key="token_table")
    page_parts.caption("Times of use are kept to the minute. A line opens the token.")
    if clicked.open is not None:
        detail(next(row for row in rows if row.token_id == clicked.open))


def line(row: TokenRow) -> Line:
    return Line(
        id=row.token_id,
        label=f"{row.name}, {validity(row)}",
        done=not row.is_valid,
        cells={
            "name": {"text": row.name, "note": row.role.value},
            "may": {"text": ", ".join(row.scopes), "tone": "quiet"},
            "used": {"text": words.moment(row.last_used_at) if row.last_used_at else "never", "tone": "quiet"},
            "valid": {"text": validity(row), "tone": "" if row.is_valid else "quiet"},
        },
    )


def validity(row: TokenRow) -> str:
    if row.revoked_at is not None:
        return f"revoked {words.moment(row.revoked_at)}"
    return f"{'until' if row.is_valid else 'expired'} {words.day(row.expires_at.date())}"


@st.dialog("Token", width="medium")
def detail(row: TokenRow) -> None:
    with errors.shown():
        page_parts.facts(
            {
                "Name": row.name,
                "Number": f"{row.token_id}, token:{row.token_id} in the audit log",
                "Begins with": row.starts_with,
                "Role": row.role.value,
                "May": "; ".join(SCOPE_WORDS[scope] for scope in row.scopes),
                "Made": f"{words.moment(row.made_at)} by {row.made_by}",
                "Last used": words.moment(row.last_used_at) if row.last_used_at else "never",
                "Valid": validity(row) + (f" by {row.revoked_by}" if row.revoked_by else ""),
            }
        )
        if not row.is_valid:
            return
        page_parts.notice("A revoked token is refused from its next request on, and cannot be brought back.")
        if st.button("Revoke", type="primary"):
            revoke(row.token_id)
            st.rerun()


def revoke(token_id: int) -> None:
    with database.session() as session:
        api_tokens.revoke(session, user(), token_id)


# ---------------------------------------------------------------- a new one


def make() -> None:
    st.html('<div class="block-title"><span>New token</span></div>')
    name = st.text_input(
        "What is it for?", placeholder="For example: RIS, bone age", max_chars=LONGEST_NAME, key="token_name"
    )
    role = st.selectbox("Works as", list(ROLE_WORDS), format_func=ROLE_WORDS.__getitem__, key="token_role")
    with st.container(gap="xsmall"):
        st.html('<div class="block-title"><span>May</span></div>')
        scopes = [
            scope
            for scope in SCOPES_OF[role]
            if st.checkbox(words.sentence(SCOPE_WORDS[scope]), value=True, key=f"token_{role.value}_{scope.value}")
        ]
    days = st.number_input("Valid for, days", 1, LONGEST_DAYS, DEFAULT_DAYS, key="token_days")
    if st.button("Make token", type="primary", disabled=not name.strip()):
        with database.session() as session:
            made = api_tokens.make(session, user(), name, role, scopes, int(days))
        state.keep_new_api_token(made.row.name, made.secret)
        st.rerun()


def shown_once(name: str, secret: str) -> None:
    st.html('<div class="block-title"><span>New token</span></div>')
    page_parts.notice(f"This is the token {name}. It is shown here once and kept nowhere: copy it now.", "alert")
    st.code(secret, language=None)
    page_parts.caption("A program sends it with each request, for example:")
    st.code(f'curl -H "Authorization: Bearer {secret}" \\\n  {api_address()}/radiology/models', language=None)
    if st.button("Copied"):
        state.forget_new_api_token()
        st.rerun()


def api_address() -> str:
    """As this browser reaches it."""
    page = st.context.url or "http://localhost:8501/"
    return "/".join(page.split("/")[:3]) + "/api"


show()
