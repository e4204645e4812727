"""What a reader has typed about an image outlives this browser: kept as it changes, put back when the case is opened
again, gone with the decision."""

from __future__ import annotations

import streamlit as st

from engine.services import drafts
from engine.services.review import ImageView
from ui import database, state
from ui.components import page_parts
from ui.state import Sitting


def put_back(image: ImageView, sitting: Sitting) -> None:
    """Ahead of the form's widgets, once a sitting."""
    if sitting.fields is None and image.decision is None:
        with database.session() as session:
            kept = drafts.kept(session, state.current_user(), image.image_id)
        sitting.has_draft = state.fill_fields(image.image_id, kept)
    place = st.container()  # always there: a field that moves on the page loses the word that is half typed in it
    if sitting.has_draft:
        with place, st.container(horizontal=True, vertical_alignment="center", wrap=False, key="draft"):
            page_parts.notice("What you had entered before is back.", "kept")
            st.button("Discard", key="discard_draft", type="tertiary", on_click=_discard, args=(image, sitting))


def keep(image: ImageView, sitting: Sitting) -> None:
    """After the form's widgets, ahead of anything that ends the run."""
    fields = state.fields(image.image_id)
    if sitting.fields is not None and fields != sitting.fields:
        with database.session() as session:
            drafts.keep(session, state.current_user(), image.image_id, fields)
    sitting.fields = fields


def _discard(image: ImageView, sitting: Sitting) -> None:
    with database.session() as session:
        drafts.keep(session, state.current_user(), image.image_id, {})
    state.forget_fields(image.image_id)
    sitting.fields, sitting.has_draft = None, False
