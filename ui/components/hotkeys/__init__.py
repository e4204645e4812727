"""Keys that work anywhere on a page. They act on Streamlit's keyed containers and buttons (`key=...`)."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

_hotkeys = st.components.v2.component("hotkeys", js=(Path(__file__).parent / "hotkeys.js").read_text(encoding="utf-8"))


def bind(
    press: dict[str, str],
    focus: dict[str, str] | None = None,
    doors: dict[str, str] | None = None,
    submit_from: str = "",
) -> None:
    """`press`: key -> container whose button it presses; `focus`: key -> container whose first field it enters;
    `doors`: button -> container whose first field a click on it enters; `submit_from`: Enter in its fields commits
    the field first. A * in a name stands for the image that the viewer shows; before it is drawn the key is dead.

    Keys are as in KeyboardEvent.key, letters in upper case. Call it once a page, ahead of what the keys press: a
    browser that is busy shows a button seconds before a component that comes after it. The keys that work now stand in
    the page's `data-keys-bound`; until then their hints are faint."""
    _hotkeys(
        key="hotkeys",
        data={"press": press, "focus": focus or {}, "doors": doors or {}, "submit_from": submit_from},
    )
