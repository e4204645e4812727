"""Files that were refused, with the reason; somebody deals with each and says how."""

from __future__ import annotations

import streamlit as st

from db.models import QuarantineState
from engine.services import quarantine
from engine.services.quarantine import QuarantineRow
from ui import database, errors, state, words
from ui.components import case_table, page_parts
from ui.components.case_table import Column, Line

PAGE_SIZE = 20
COLUMNS = [
    Column("file", "File", "24%"),
    Column("reason", "Reason", "44%"),
    Column("size", "Size", "8%", align="right"),
    Column("hash", "SHA-256", "12%"),
    Column("received", "Received", "12%", align="right"),
]


@errors.shown()
def show() -> None:
    page_parts.title("Quarantine", "Refused files. The originals are kept.")
    with st.container(horizontal=True, vertical_alignment="center"):
        search = st.text_input(
            "Search",
            placeholder="Search file name, reason, hash",
            label_visibility="collapsed",
            width=320,
            key="quarantine_search",
            persist_state="session",
        )
        with_dismissed = st.toggle("Show dismissed", key="quarantine_dismissed", persist_state="session")
    states = tuple(QuarantineState) if with_dismissed else (QuarantineState.OPEN,)
    chosen = st.session_state.get("quarantine_page", 1)
    with database.session() as session:
        page = quarantine.quarantine_page(session, state.current_user(), chosen, PAGE_SIZE, search.strip(), states)
    if not page.rows:
        if search:
            page_parts.empty("Nothing matches", "Try a part of the file name, the reason or the hash.")
        else:
            page_parts.empty("Nothing in quarantine", "Files that cannot be read, or may not enter, appear here.")
        return
    clicked = case_table.show(COLUMNS, [line(row) for row in page.rows], label="Quarantine", key="quarantine_table")
    page_parts.pager(page.total, PAGE_SIZE, "quarantine_page")
    if clicked.open is not None:
        detail(next(row for row in page.rows if row.quarantine_id == clicked.open))


def line(row: QuarantineRow) -> Line:
    dismissed = row.state is QuarantineState.DISMISSED
    tone = "urgent" if row.is_alert and not dismissed else ""
    note = f"received {row.times_received} times" if row.times_received > 1 else None
    return Line(
        id=row.quarantine_id,
        label=f"{row.file_name}: {row.reason}",
        done=dismissed,
        cells={
            "file": {"text": row.file_name, "note": note},
            "reason": {"text": row.reason, "tone": tone},
            "size": words.size(row.size_bytes),
            "hash": {"text": row.file_sha256[:12], "tone": "quiet"},
            "received": words.moment(row.received_at),
        },
    )


@st.dialog("Refused file", width="medium")
def detail(row: QuarantineRow) -> None:
    with errors.shown():
        page_parts.facts(
            {
                "File": row.file_name,
                "Reason": row.reason,
                "Code": row.code,
                "SHA-256": row.file_sha256,
                "Size": words.size(row.size_bytes),
                "Received": f"{words.moment(row.received_at)}, from {row.received_from}"
                + (f", {row.times_received} times" if row.times_received > 1 else ""),
            }
        )
        if row.state is QuarantineState.DISMISSED:
            page_parts.notice(f"Dismissed by {row.dismissed_by}, {words.moment(row.dismissed_at)}: {row.note}")
            return
        note = st.text_area(
            "How was it dealt with?", placeholder="For example: sent again by the scanner", max_chars=1000, height=90
        )
        if st.button("Dismiss", type="primary"):
            dismiss(row.quarantine_id, note)
            st.rerun()


def dismiss(quarantine_id: int, note: str) -> None:
    with database.session() as session:
        quarantine.dismiss(session, state.current_user(), quarantine_id, note)


show()
