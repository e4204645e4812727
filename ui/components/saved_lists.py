"""Lists by name: those everybody has, one's own, and those that somebody shares."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from db.models import StudyStatus
from engine.services import saved_filters
from engine.services.saved_filters import MAX_NAME, SavedFilter
from engine.services.worklist import Sort, Whose, WorklistFilter
from ui import database, errors, state

TO_REVIEW = (StudyStatus.AWAITING_REVIEW,)
STANDARD = {
    "Most urgent first": WorklistFilter(statuses=TO_REVIEW),
    "Most to learn from first": WorklistFilter(statuses=TO_REVIEW, sort=Sort.LEARNING),
    "My cases": WorklistFilter(statuses=TO_REVIEW, whose=Whose.MINE),
}


def popover(current: WorklistFilter, choose: Callable[[WorklistFilter], None]) -> None:
    """`choose(filter)` is called ahead of the page's next run."""
    with database.session() as session:
        mine_and_shared = saved_filters.saved(session, state.current_user())
    with st.popover(_name_of(current, mine_and_shared) or "Lists"):
        for name, filter in STANDARD.items():
            st.button(name, key=f"list_{name}", type="tertiary", on_click=choose, args=(filter,))
        if mine_and_shared:
            st.divider()
        for one in mine_and_shared:
            _line(one, choose)
        st.divider()
        with st.form("save_list", border=False, clear_on_submit=True):
            name = st.text_input("Keep what is chosen now as", max_chars=MAX_NAME, placeholder="Name of the list")
            share = st.checkbox("For everybody")
            if st.form_submit_button("Keep the list", width="stretch") and name.strip():
                with errors.shown(), database.session() as session:
                    saved_filters.save(session, state.current_user(), name, current, share=share)
                    st.rerun()


def _name_of(current: WorklistFilter, lists: list[SavedFilter]) -> str | None:
    """The list that is chosen now, if it has a name."""
    named = [*STANDARD.items(), *((one.name, one.filter) for one in lists)]
    return next((name for name, filter in named if filter == current), None)


def _line(one: SavedFilter, choose: Callable[[WorklistFilter], None]) -> None:
    owner = "" if one.is_mine else f" · {one.owner}"
    shared = " · for everybody" if one.is_mine and one.is_shared else ""
    with st.container(horizontal=True, vertical_alignment="center", wrap=False, key=f"list_line_{one.filter_id}"):
        st.button(
            f"{_plain(one.name)}{_plain(owner)}{shared}",
            key=f"list_{one.filter_id}",
            type="tertiary",
            on_click=choose,
            args=(one.filter,),
        )
        if one.is_mine:
            st.space("stretch")
            st.button("Remove", key=f"remove_list_{one.filter_id}", type="tertiary", on_click=_remove, args=(one,))


def _plain(text: str) -> str:
    """A button's label is markdown; what somebody typed is not."""
    return "".join(f"\\{sign}" if sign in r"\`*_{}[]()#+-.!|~$:<>" else sign for sign in text)


@errors.in_callback()
def _remove(one: SavedFilter) -> None:
    with database.session() as session:
        saved_filters.remove(session, state.current_user(), one.filter_id)
