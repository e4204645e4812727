"""No key of a fast reader is lost: what is pressed while the page is at work waits its turn (key_queue.js)."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

CASE_KEYS = "Enter C X U J K L E 1 2 3 4 5 6"

_queue = st.components.v2.component(
    "key_queue", js=(Path(__file__).parent / "key_queue.js").read_text(encoding="utf-8")
)


def watch(keys: str) -> None:
    """`keys`: the page's keys, as in KeyboardEvent.key, letters in upper case, a blank between them. Early on a page,
    so that it is there before them."""
    with st.container(key="key_queue"):
        _queue(key="key_queue_state", data={"keys": keys.split()})
