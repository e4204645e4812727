"""The form for a task's answer: exactly the closed set, nothing filled in that nobody said; and what a reader may add.

What was typed about an image stays with it: while the reason of a rejection is chosen, while other cases are looked at,
and where it is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import streamlit as st

from engine.errors import AnswerRefused
from engine.findings import additions
from engine.findings.additions import Additions
from engine.findings.answers import (
    MAX_BONE_AGE_MONTHS,
    Answer,
    Fracture,
    Plus,
    Stage,
    Task,
    Zone,
    bone_age_answer,
    check_answer,
    fracture_answer,
    rop_answer,
)
from engine.services.review import ImageView
from ui import state, words

DANGERS_WIDTH_PX = 360
SELDOM_OF_EYES = ("substage", "regression", "reactivation", "treatment")
KEPT = "session"  # see persist_state: what is typed survives while its field is not drawn


@dataclass(frozen=True)
class Entered:
    """The form as it stands. Without an `answer` either `missing` names what is still to be said, or `problem` says why
    it cannot be what was said."""

    answer: Answer | None
    additions: Additions
    missing: tuple[str, ...] = ()
    problem: str | None = None


def show(task: Task, image: ImageView) -> Entered:
    """Opens with the decision in force, else with what the reader answered before they saw the read, else with the
    read."""
    known, added = _known(task, image)
    draw = {Task.BONE_AGE: _draw_bone_age, Task.ROP: _draw_rop, Task.FRACTURE: _draw_fracture}[task]
    with st.container(key="answer", gap="xsmall"):
        draw(image.image_id, known, added)
    return entered(task, image.image_id)


def entered(task: Task, image_id: int) -> Entered:
    """What stands in the form, once it was drawn; in a callback as the reader has just left it."""
    said = {Task.BONE_AGE: _bone_age, Task.ROP: _rop, Task.FRACTURE: _fracture}[task]
    return said(lambda name: st.session_state.get(state.field_key(name, image_id)))


def show_more(task: Task, image: ImageView) -> None:
    """What is added seldom; drawn apart, in a popover, and part of the next `show`."""
    _, added = _known(task, image)
    if task is Task.ROP:
        for name in SELDOM_OF_EYES:
            _choice(words.ADDITION[name], words.CHOICES[name], _field(name, image.image_id, added.get(name)))
    elif task is Task.FRACTURE:
        with st.container(width=DANGERS_WIDTH_PX):
            st.pills(
                "Also",
                list(words.DANGERS),
                format_func=words.DANGERS.get,
                selection_mode="multi",
                key=_field("dangers", image.image_id, _flags_in(words.DANGERS, added)),
                persist_state=KEPT,
            )


def _known(task: Task, image: ImageView) -> tuple[Answer | None, Additions]:
    """What the form opens with. A read made before the examination was known to be another one counts as none."""
    decision = image.decision
    if decision is not None and decision.answer is not None and decision.answer["task"] == task:
        return decision.answer, additions.stored(decision.answer, decision.details)
    said = [(image.blind_answer, image.blind_details), (image.read.answer if image.read else None, {})]
    for answer, details in said:
        if answer is not None and answer["task"] == task:
            return answer, additions.stored(answer, details)
    return None, {}


def fill(image_id: int, answer: Answer) -> None:
    """Put the answer into the form, in a callback: before its fields are drawn."""
    values = dict(answer)
    if "bone_age_months" in values:
        values["years"], values["months"] = divmod(int(values.pop("bone_age_months")), 12)
    if "plus_disease" in values:
        values["plus"] = values.pop("plus_disease")
    for name, value in values.items():
        if name != "task":
            st.session_state[state.field_key(name, image_id)] = value


# ---------------------------------------------------------------- the tasks


Field = Callable[[str], Any]  # what stands in the field of that name


def _draw_bone_age(image_id: int, known: Answer | None, added: Additions) -> None:
    years_known, months_known = divmod(known["bone_age_months"], 12) if known else (None, None)
    left, right, beside = st.columns([1.5, 1.3, 0.7], vertical_alignment="center", gap="xsmall")
    with left:
        years = _number("Years", MAX_BONE_AGE_MONTHS // 12, _field("years", image_id, years_known))
    with right:
        months = _number("Months", 11, _field("months", image_id, months_known))
    _choice("Method", words.CHOICES["method"], _field("method", image_id, added.get("method")))
    if years is not None and months is not None:
        with beside:
            st.html(f'<span class="total quiet">{years * 12 + months} months</span>')


def _bone_age(field: Field) -> Entered:
    years, months = field("years"), field("months")
    if years is None or months is None:
        missing = [name for name, value in (("years", years), ("months", months)) if value is None]
        return Entered(None, {}, tuple(missing))
    total = years * 12 + months
    if total > MAX_BONE_AGE_MONTHS:
        return Entered(None, {}, problem=f"The atlas ends at {words.age(MAX_BONE_AGE_MONTHS)}.")
    return _checked(bone_age_answer(total), {"method": field("method")})


def _draw_rop(image_id: int, known: Answer | None, added: Additions) -> None:
    known = known or {}
    opened = known.get("stage"), known.get("plus_disease")
    for name, value in (("stage", opened[0]), ("plus", opened[1])):
        _field(name, image_id, value)
    zone_key = _field("zone", image_id, known.get("zone"))
    _choice("Zone", words.ZONE, zone_key, on_change=_zone_chosen, args=(image_id, opened))
    _choice("Stage", words.STAGE, state.field_key("stage", image_id))
    _choice("Plus", words.PLUS, state.field_key("plus", image_id))
    _flags(words.EYE_FLAGS, _field("flags", image_id, _flags_in(words.EYE_FLAGS, added)), "Also")
    for name in SELDOM_OF_EYES:
        _field(name, image_id, added.get(name))


def _rop(field: Field) -> Entered:
    zone, stage, plus = field("zone"), field("stage"), field("plus")
    missing = [name for name, value in (("zone", zone), ("stage", stage), ("plus disease", plus)) if not value]
    if missing:
        return Entered(None, {}, tuple(missing))
    said = dict.fromkeys(field("flags") or (), True) | {name: field(name) for name in SELDOM_OF_EYES}
    return _checked(rop_answer(zone, stage, plus), said)


def _zone_chosen(image_id: int, opened: tuple[str | None, str | None]) -> None:
    """Complete vascularisation leaves only stage 0 without plus disease: what the form opened with follows, and comes
    back with another zone. What the reader chose stays, and the contradiction is shown."""
    zone, stage, plus, followed = (
        state.field_key(name, image_id) for name in ("zone", "stage", "plus", "stage_followed")
    )
    no_disease = Stage.S0.value, Plus.NONE.value
    now = st.session_state[stage], st.session_state[plus]
    if st.session_state[zone] == Zone.NONE and now == opened:
        st.session_state[stage], st.session_state[plus] = no_disease
        st.session_state[followed] = True
    elif st.session_state.pop(followed, False) and now == no_disease:
        st.session_state[stage], st.session_state[plus] = opened


def _draw_fracture(image_id: int, known: Answer | None, added: Additions) -> None:
    opens_with = (known or {}).get("fracture")
    chosen = _choice("Fracture", words.FRACTURE, _field("fracture", image_id, opens_with))
    keys = {name: _field(name, image_id, added.get(name)) for name in ("fracture_class", "bone", "region", "displaced")}
    _field("dangers", image_id, _flags_in(words.DANGERS, added))
    for name in _parts_of(chosen):
        _choice(words.ADDITION[name], words.CHOICES[name], keys[name])


def _fracture(field: Field) -> Entered:
    chosen = field("fracture")
    if not chosen:
        return Entered(None, {}, ("fracture",))
    said = {name: field(name) for name in _parts_of(chosen)} | dict.fromkeys(field("dangers") or (), True)
    return _checked(fracture_answer(chosen), said)


def _parts_of(chosen: str | None) -> tuple[str, ...]:
    """What is asked of such a fracture besides."""
    if not chosen or chosen == Fracture.NORMAL:
        return ()
    parts = ("bone", "region", "displaced")
    return ("fracture_class", *parts) if chosen == Fracture.DISTAL_RADIUS else parts


def _checked(answer: Answer, said: Mapping[str, Any]) -> Entered:
    """`said`: None is what was not said."""
    given = {name: value for name, value in said.items() if value is not None}
    try:
        added = additions.checked(answer, given)
        return Entered(check_answer(answer), added)
    except AnswerRefused as refused:
        return Entered(None, {}, problem=words.sentence(f"{refused}."))


# ---------------------------------------------------------------- fields


def _number(label: str, highest: int, key: str) -> int | None:
    return st.number_input(label, 0, highest, step=1, key=key, value=None, persist_state=KEPT)


def _choice(label: str, names: Mapping[Any, str], key: str, **more: Any) -> Any:
    options = [getattr(name, "value", name) for name in names]  # plain values, as they are stored
    if more.get("selection_mode") != "multi" and st.session_state[key] not in options:
        st.session_state[key] = None  # kept from a time when the form offered something else
    return st.segmented_control(
        label, options, format_func=names.get, key=key, width="stretch", persist_state=KEPT, **more
    )


def _flags(names: Mapping[str, str], key: str, label: str) -> None:
    _choice(label, names, key, selection_mode="multi")


def _flags_in(names: Mapping[str, str], added: Additions) -> list[str]:
    return [name for name in names if added.get(name)]


def _field(name: str, image_id: int, opens_with: object) -> str:
    """The widget's key, its first value set. What is typed later stays, whatever happens to the read."""
    key = state.field_key(name, image_id)
    if key not in st.session_state:
        st.session_state[key] = opens_with
    return key
