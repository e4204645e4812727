"""The reader's hold on the open case: taken when it is opened, kept while they do something, and what is shown instead
of the form while it is another's."""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from sqlalchemy.orm import Session

from engine.services import claims, drafts
from engine.services.claims import LEASE, RENEW_AFTER, Claim
from engine.services.review import ImageView, StudyView
from ui import database, errors, state, words
from ui.components import hotkeys, page_parts

FOLDER = Path(__file__).parent
WARN_BEFORE_S = 120
LOOK_EVERY = "5s"  # whether the other reader is done

_lease = st.components.v2.component("lease", js=(FOLDER / "lease.js").read_text(encoding="utf-8"))


def open_case(session: Session, study: StudyView) -> Claim | None:
    """Take the case while it has something to decide; None: it is decided, and nobody needs to have it."""
    if all(image.decision is not None for image in study.images):
        return None
    return claims.claim(session, state.current_user(), study.study_id)


@st.fragment
@errors.shown()
def keep(held: Claim) -> None:
    """Tells the server of activity, and the reader of a hold that is about to end or did. Draws nothing else."""
    with database.session() as session:
        now = claims.current(session, state.current_user(), held.study_id)
    if now is None or not now.is_mine:
        now = held
    with st.container(key="lease"):
        result = _lease(
            key="lease_clock",
            data={
                "study": now.study_id,
                "at": now.ends_at.isoformat(),
                "seconds_left": now.seconds_left(),
                "renew_after_s": RENEW_AFTER.total_seconds(),
                "warn_s": min(WARN_BEFORE_S, LEASE.total_seconds() / 5),
            },
            on_active_change=lambda: _renew(held.study_id),
        )
    if result.active and state.take_claim_lost():
        st.rerun(scope="app")


@errors.in_callback()
def _renew(study_id: int) -> None:
    with database.session() as session:
        now = claims.claim(session, state.current_user(), study_id)
    if not now.is_mine:
        state.note_claim_lost()


def another_has_it(held: Claim, image: ImageView, go_on) -> None:
    """In place of the form. `go_on()` opens the next free case."""
    hotkeys.bind(press={"Enter": "next_free_*", "J": "next", "K": "previous", "L": "to_worklist", "E": "hand_over"})
    with database.session() as session:
        fields = drafts.kept(session, state.current_user(), image.image_id)
    since = words.moment(held.taken_at)
    st.html('<div class="block-title"><span>Review</span></div>')
    page_parts.notice(
        f"{held.reader} has had this case open since {since}. Only one reader decides about it at a time."
    )
    if fields:
        page_parts.notice("What you entered is kept for you and comes back when the case is free again.", "kept")
    with st.container(key="primary"):
        # with the film in its key, it is pressed only once that is in view, as all that Enter presses
        key = f"next_free_{image.image_id}"
        if st.button("Next free case `Enter`", key=key, type="primary", width="stretch"):
            go_on()
    st.fragment(_look_again, run_every=LOOK_EVERY)(held)


@errors.shown()
def _look_again(held: Claim) -> None:
    """Whether the other reader is done with it."""
    with database.session() as session:
        now = claims.current(session, state.current_user(), held.study_id)
    if now is None or now.is_mine:
        st.rerun(scope="app")
    st.caption(f"If they do nothing more, it is free at {words.moment(now.ends_at)}. This page looks again.")
