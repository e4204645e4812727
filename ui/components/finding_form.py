"""The form for a task's answer: exactly the closed set, nothing filled in that nobody said."""

from __future__ import annotations

import streamlit as st

from engine.findings.answers import (
    MAX_BONE_AGE_MONTHS,
    Answer,
    Fracture,
    Plus,
    Stage,
    Task,
    Zone,
    bone_age_answer,
    fracture_answer,
    rop_answer,
)
from engine.services.review import ImageView
from ui import state, words


def show(task: Task, image: ImageView) -> Answer | None:
    """The answer as it stands in the form, None while it is incomplete.

    Opens with the decision in force, else with the read."""
    known = (image.decision and image.decision.answer) or (image.read and image.read.answer)
    if known is not None and known["task"] != task:
        known = None  # a read made before the examination was known to be another one
    with st.container(key="answer"):
        return {Task.BONE_AGE: _bone_age, Task.ROP: _rop, Task.FRACTURE: _fracture}[task](image.image_id, known)


def _bone_age(image_id: int, known: Answer | None) -> Answer | None:
    years_known, months_known = divmod(known["bone_age_months"], 12) if known else (None, None)
    left, right, beside = st.columns([1, 1, 1.1], vertical_alignment="bottom")
    with left:
        years = st.number_input(
            "Years", 0, MAX_BONE_AGE_MONTHS // 12, step=1, key=_field("years", image_id, years_known), value=None
        )
    with right:
        months = st.number_input("Months", 0, 11, step=1, key=_field("months", image_id, months_known), value=None)
    if years is None or months is None:
        return None
    total = years * 12 + months
    with beside:
        st.html(f'<p class="quiet" style="margin:0 0 .55rem">{total} months</p>')
    if total > MAX_BONE_AGE_MONTHS:
        st.caption(f"The atlas ends at {words.age(MAX_BONE_AGE_MONTHS)}.")
        return None
    return bone_age_answer(total)


def _rop(image_id: int, known: Answer | None) -> Answer | None:
    known = known or {}
    zone = _choice("Zone", Zone, words.ZONE, _field("zone", image_id, known.get("zone")))
    if zone == Zone.NONE:
        st.caption("Fully vascularised: stage 0, no plus disease.")
        return rop_answer(Zone.NONE.value, Stage.S0.value, Plus.NONE.value)
    stage = _choice("Stage", Stage, words.STAGE, _field("stage", image_id, known.get("stage")))
    plus = _choice("Plus disease", Plus, words.PLUS, _field("plus", image_id, known.get("plus_disease")))
    return rop_answer(zone, stage, plus) if zone and stage and plus else None


def _fracture(image_id: int, known: Answer | None) -> Answer | None:
    chosen = _choice("Fracture", Fracture, words.FRACTURE, _field("fracture", image_id, (known or {}).get("fracture")))
    return fracture_answer(chosen) if chosen else None


def _choice(label: str, members: type, names: dict, key: str) -> str | None:
    return st.segmented_control(
        label, [member.value for member in members], format_func=names.get, key=key, width="stretch"
    )


def _field(name: str, image_id: int, opens_with: object) -> str:
    """The widget's key, its first value set. What is typed later stays, whatever happens to the read."""
    key = state.field_key(name, image_id)
    if key not in st.session_state:
        st.session_state[key] = opens_with
    return key
