"""What the file did not say and only a reader can: the examination, the child's sex, the side, the birth date."""

from __future__ import annotations

from datetime import date

import streamlit as st

from db.models import TaskSource
from engine.findings.answers import Task
from engine.services import review
from engine.services.review import ImageView, StudyView
from ui import database, state, words
from ui.components import page_parts


def show(study: StudyView, image: ImageView) -> None:
    """Asks for what a decision or a read waits for; what else is not known may be added from a popover."""
    missing = image.missing_facts
    also = tuple(fact for fact in _unknown(study, image) if fact not in missing)
    if missing:
        needed = " and ".join(words.FACT[fact] for fact in missing)
        page_parts.notice(f"The file does not say {needed}. Please enter it; your name is kept with it.")
        _form(study, image, (*missing, *also))
    elif also:
        with st.popover(f"Add {' or '.join(words.FACT[fact] for fact in also)}", type="tertiary"):
            _form(study, image, also)


def _unknown(study: StudyView, image: ImageView) -> tuple[str, ...]:
    """Facts that a reader may supply. What triage guessed from the image is not known yet."""
    facts = {
        "task": None if study.task_source is TaskSource.TRIAGE else study.task,
        "sex": study.sex,
        "laterality": image.laterality,
        "birth_date": study.birth_date,
    }
    return tuple(fact for fact, value in facts.items() if value is None)


def _form(study: StudyView, image: ImageView, facts: tuple[str, ...]) -> None:
    given: dict[str, object] = {}
    with st.form(f"facts_{image.image_id}", border=False):
        if "task" in facts:
            given["task"] = st.segmented_control(
                "Shows", list(Task), format_func=words.BODY_PART.get, default=study.task, width="stretch"
            )
        if "sex" in facts:
            given["sex"] = st.segmented_control("Sex", list(words.CHILD), format_func=words.CHILD.get, width="stretch")
        if "laterality" in facts:
            given["laterality"] = st.segmented_control(
                "Side", list(words.SIDE), format_func=words.SIDE.get, width="stretch"
            )
        if "birth_date" in facts:
            given["birth_date"] = st.date_input(
                "Birth date",
                value=None,
                min_value=date(1990, 1, 1),
                max_value=study.acquired_on or date.today(),
                format="DD/MM/YYYY",
            )
        if st.form_submit_button("Save", width="stretch") and any(given.values()):
            with database.session() as session:
                review.set_facts(session, state.current_user(), image.image_id, **given)
            st.rerun(scope="app")
