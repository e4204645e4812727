"""Who did what, when and from where; whether the log is still what was recorded; the log for others' programs."""

from __future__ import annotations

import json
from datetime import date, datetime, time, timedelta

import streamlit as st

from engine.services import audit, audit_check, audit_export
from engine.services.accounts import Actor
from engine.services.audit import AuditQuery, AuditRow
from engine.services.audit_check import LastVerification
from engine.services.audit_export import Format
from ui import database, errors, state, words
from ui.components import case_table, page_parts
from ui.components.case_table import Column, Line

PAGE_SIZE = 50
PROBLEMS_SHOWN = 5
COLUMNS = [
    Column("row", "Row", "7%", align="right"),
    Column("when", "When", "15%"),
    Column("who", "Who", "15%"),
    Column("what", "What", "18%"),
    Column("subject", "Subject", "14%"),
    Column("origin", "From", "12%"),
    Column("detail", "Detail", "19%"),
]


@errors.shown()
def show() -> None:
    page_parts.title("Audit log", "Who looked at, read, decided and changed what. Rows are only ever added")
    actor = state.current_user()
    with database.session() as session:
        last = audit_check.last_verification(session, actor)
        missing = audit_check.end_is_missing(session, actor)
        who, what = audit.choices(session, actor)
    chain_state(last, missing)
    query = chosen(who, what)
    with database.session() as session:
        page = audit.events_page(session, actor, state.audit_page(), PAGE_SIZE, query)
    if not page.rows:
        if query == audit.EVERYTHING:
            page_parts.empty("Nothing recorded yet", "Every look at a case, decision, read, export and change appears.")
        else:
            page_parts.empty("Nothing matches", "Choose a longer time, or take a choice back.")
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        page_parts.caption(words.counted(page.total, "row"))
        downloads(query)
    clicked = case_table.show(
        COLUMNS, [line(row) for row in page.rows], label="Audit log", key="audit_table", height="calc(100dvh - 24rem)"
    )
    page_parts.pager(page.total, PAGE_SIZE, state.audit_page_key())
    if clicked.open is not None:
        detail(next(row for row in page.rows if row.id == clicked.open))


# ---------------------------------------------------------------- the chain


def chain_state(last: LastVerification | None, missing: str | None) -> None:
    """Whether the log is whole, as far as is known; and the button that finds out."""
    with st.container(horizontal=True, vertical_alignment="center"):
        if missing is not None:
            page_parts.notice(f"Rows are missing or were replaced: {missing}.", "conflict")
        elif last is None:
            page_parts.notice("Not verified yet. Verifying reads every row: about 15 s for 100,000.")
        elif last.problems:
            found = words.counted(last.problems, "problem")
            first = "; ".join(last.messages[:PROBLEMS_SHOWN])
            page_parts.notice(f"{found} found {words.moment(last.at)}: {first}.", "conflict")
        else:
            sealed = "" if audit.key() else " Without a key: see docs/audit.md."
            page_parts.notice(
                f"Whole when last verified, {words.moment(last.at)}: {last.rows:,} rows as recorded.{sealed}"
            )
        if st.button("Verify now", type="primary"):
            with st.spinner("Reading every row"), database.session() as session:
                audit_check.verify(session, state.current_user())
            st.rerun()


# ---------------------------------------------------------------- which rows


def chosen(who: list[str], what: list[str]) -> AuditQuery:
    kinds = sorted({action.split(".")[0] for action in what})
    with st.container(horizontal=True, vertical_alignment="bottom"):
        actor = st.selectbox("Who", who, index=None, placeholder="Anybody", width=200, key="audit_who")
        action = st.selectbox(
            "What",
            [*kinds, *what],
            index=None,
            format_func=lambda one: one if "." in one else f"{one}: all",
            placeholder="Anything",
            width=220,
            key="audit_what",
        )
        subject = st.text_input("Subject", placeholder="study:12", width=180, key="audit_subject")
        since = st.date_input("From", value=None, width=150, key="audit_since")
        until = st.date_input("Until", value=None, width=150, key="audit_until")
    query = AuditQuery(actor, action, subject.strip() or None, _begin(since), _begin(until, days=1))
    state.audit_query_is(query)
    return query


def _begin(day: date | None, *, days: int = 0) -> datetime | None:
    """Of the day in the reader's zone, `days` later."""
    return None if day is None else words.in_zone(datetime.combine(day + timedelta(days=days), time()))


def downloads(query: AuditQuery) -> None:
    """Made when they are asked for, where it is no longer known who asks."""
    actor = state.current_user()
    for format, label, name, mime in (
        (Format.CSV, "Table (CSV)", "audit-log.csv", "text/csv"),
        (Format.FHIR, "FHIR AuditEvents", "audit-log.json", "application/fhir+json"),
    ):
        st.download_button(
            label,
            lambda format=format: exported(actor, query, format),
            name,
            mime,
            on_click="ignore",
            key=f"audit_{format}",
        )


def exported(actor: Actor, query: AuditQuery, format: Format) -> bytes:
    with database.session() as session:
        return audit_export.export(session, actor, query, format).encode()


# ---------------------------------------------------------------- rows


def line(row: AuditRow) -> Line:
    said = "; ".join(f"{name} {value}" for name, value in row.detail.items() if not isinstance(value, list | dict))
    return Line(
        id=row.id,
        label=f"Row {row.id}: {row.actor}, {row.action}, {row.subject}",
        cells={
            "row": {"text": str(row.id), "tone": "quiet"},
            "when": words.moment(row.at),
            "who": row.actor,
            "what": {"text": row.action, "tone": "urgent" if row.action == "access.refused" else ""},
            "subject": row.subject,
            "origin": {"text": row.origin, "tone": "quiet"},
            "detail": {"text": said if len(said) <= 80 else f"{said[:79]}…", "tone": "quiet"},
        },
    )


@st.dialog("Audit row", width="medium")
def detail(row: AuditRow) -> None:
    with errors.shown():
        page_parts.facts(
            {
                "Row": str(row.id),
                "When": f"{row.at:%Y-%m-%d %H:%M:%S} UTC",
                "Who": row.actor,
                "What": row.action,
                "Subject": row.subject,
                "From": row.origin or "not known",
            }
        )
        st.code(json.dumps(row.detail, indent=2, ensure_ascii=False), language="json")


show()
