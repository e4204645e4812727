"""The model's own words about a film, on demand: in a dialog, as they come, marked as no finding."""

from __future__ import annotations

from html import escape

import streamlit as st

from engine.errors import Refused
from engine.services import explanation
from engine.services.review import ImageView
from ui import database, errors, state
from ui.components import page_parts

CAUTION = (
    "The model's words, not a finding. Nobody has checked them, they may contradict the read, and they are not stored "
    "as a label or anywhere else."
)


@st.fragment
@errors.shown()
def offer(image: ImageView) -> None:
    """A button beside the read, where there is one that this reader may see."""
    if image.read is None or image.read_hidden or image.read.abstained:
        return
    with st.container(key="model_words"):
        if st.button("In words", type="tertiary", help="The model's own words about this film, not a finding"):
            _dialog(image)


@st.dialog("In the model's own words", width="medium")
@errors.shown()
def _dialog(image: ImageView) -> None:
    page_parts.notice(CAUTION, "alert")
    with database.session() as session:
        said = explanation.words(session, state.current_user(), image.image_id)
    other = "" if said.is_the_readers else ", which is not the model that made the read"
    page_parts.caption(f"By {said.model_version}{other}")
    place, text = st.empty(), ""
    try:
        for piece in said.pieces:
            text += piece
            place.html(_words(text))
    except Refused as none:
        page_parts.notice(str(none))
    else:
        if not text.strip():
            page_parts.notice("The model said nothing.")


def _words(text: str) -> str:
    """As plain text: what a model writes is no markup of ours."""
    return f'<p class="model-words" aria-live="polite">{escape(text)}</p>'
