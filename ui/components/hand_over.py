"""What readers leave each other: notes about a case or the whole list, and whose a case is."""

from __future__ import annotations

from contextlib import nullcontext
from html import escape

import streamlit as st

from engine.services import handover
from engine.services.handover import MAX_NOTE, Note
from ui import database, errors, state, words

NOBODY, NOBODY_WORDS = "", "Nobody in particular"


@st.fragment
@errors.shown()
def notes(study_id: int | None) -> int:
    """The notes that nobody has settled, and how many there are; nothing is drawn where there is none."""
    with database.session() as session:
        found = handover.notes(session, state.current_user(), study_id)
    with st.container(key="notes", gap="xsmall") if found else nullcontext():
        for note in found:
            _line(note)
    return len(found)


def _line(note: Note) -> None:
    with st.container(horizontal=True, vertical_alignment="center", wrap=False, key=f"note_{note.note_id}"):
        st.html(_note(note))
        st.button(
            "Mark as settled", key=f"settle_{note.note_id}", type="tertiary", on_click=_settle, args=(note.note_id,)
        )


def _note(note: Note) -> str:
    by = "You" if note.is_mine else note.author
    return (
        f'<div class="notice kept"><span class="quiet">{escape(by)}, {escape(words.moment(note.created_at))}</span>'
        f"<br>{escape(note.text)}</div>"
    )


@errors.in_callback()
def _settle(note_id: int) -> None:
    with database.session() as session:
        handover.settle(session, state.current_user(), note_id)


def popover(study_id: int | None) -> None:
    """A note to the next reader; of a case also whose it is."""
    about = "list" if study_id is None else study_id
    with st.container(key="hand_over", width="content"), st.popover("Hand over `E`", type="tertiary"):
        if study_id is not None:
            _assign(study_id)
        with st.form(f"note_about_{about}", border=False, clear_on_submit=True):
            text = st.text_area(
                "Note to the next reader",
                max_chars=MAX_NOTE,
                placeholder="About this case" if study_id is not None else "About the whole list",
            )
            if st.form_submit_button("Leave the note", width="stretch") and text.strip():
                with database.session() as session:
                    handover.leave_note(session, state.current_user(), study_id, text)
                st.rerun(scope="app")


def _assign(study_id: int) -> None:
    with database.session() as session:
        readers = handover.readers(session, state.current_user())
        now = handover.assigned_to(session, state.current_user(), study_id)
    names = {NOBODY: NOBODY_WORDS} | {reader.username: reader.display_name for reader in readers}
    key = f"assigned_{study_id}"
    st.session_state[key] = now.username if now else NOBODY
    st.selectbox("Whose case", list(names), format_func=names.get, key=key, on_change=_reassign, args=(study_id, key))
    st.caption("Others are not led to a case that is somebody's; they may open it.")


@errors.in_callback()
def _reassign(study_id: int, key: str) -> None:
    with database.session() as session:
        handover.assign(session, state.current_user(), study_id, st.session_state[key] or None)
