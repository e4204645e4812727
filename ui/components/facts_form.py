"""What the file did not say and only a reader can: the examination, the child's sex, the side, the birth date."""

from __future__ import annotations

from datetime import date

import streamlit as st

from engine.findings.answers import Task
from engine.services import review
from engine.services.review import ImageView, StudyView
from ui import database, state, words
from ui.components import page_parts


def show(study: StudyView, image: ImageView) -> None:
    """Asks for the missing facts and stores them. Nothing is shown when nothing is missing."""
    missing = image.missing_facts
    if not missing:
        return
    needed = " and ".join(words.FACT[fact] for fact in missing)
    page_parts.notice(f"The file does not say {needed}. Please enter it; your name is kept with it.")
    with st.form(f"facts_{image.image_id}", border=False):
        task = sex = laterality = birth_date = None
        if "task" in missing:
            task = st.segmented_control("Shows", list(Task), format_func=words.BODY_PART.get, width="stretch")
        if "sex" in missing:
            sex = st.segmented_control("Sex", list(words.CHILD), format_func=words.CHILD.get, width="stretch")
        if "laterality" in missing:
            laterality = st.segmented_control("Side", list(words.SIDE), format_func=words.SIDE.get, width="stretch")
        if study.birth_date is None:
            birth_date = st.date_input(
                "Birth date, if you know it",
                value=None,
                min_value=date(1990, 1, 1),
                max_value=study.acquired_on or date.today(),
                format="DD/MM/YYYY",
            )
        if st.form_submit_button("Save", width="stretch"):
            with database.session() as session:
                review.set_facts(
                    session,
                    state.current_user(),
                    image.image_id,
                    sex=sex,
                    birth_date=birth_date,
                    laterality=laterality,
                    task=task,
                )
            st.rerun(scope="app")
