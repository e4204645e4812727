"""What the model says about the image: the answer, how sure it is, or why there is none."""

from __future__ import annotations

from html import escape

import streamlit as st

from db.models import ReadState
from engine.findings.answers import Task
from engine.findings.summary import answer_words
from engine.services.review import ImageView, ReadView, StudyView
from ui import words
from ui.components import page_parts, read_chart


def show(study: StudyView, image: ImageView) -> None:
    """The READ block; nothing here can be changed."""
    read = image.read
    if image.read_hidden:
        title = '<div class="block-title"><span>Read</span></div>'
        st.html(f'{title}<div class="answer long quiet">Shown after your answer</div>')
        page_parts.notice("Read blind first: give your own answer. The read is shown then, and you decide.")
        return
    if read is None:
        _no_read_yet(image)
        return
    st.html(_title(read))
    if image.blind_answer is not None:
        page_parts.notice(
            f"You answered {answer_words(image.blind_answer, image.blind_details)} before you saw the read."
        )
    if read.abstained or read.answer is None:
        _refusal(read.reason)
        return
    chronological = study.age_months if read.task is Task.BONE_AGE else None
    st.html(_answer(read) + _facts(read, study) + read_chart.html(read, chronological))


def _title(read: ReadView) -> str:
    caution = f"phantom model · {words.NOT_FOR_DIAGNOSIS}" if read.is_phantom else words.NOT_FOR_DIAGNOSIS
    return (
        f'<div class="block-title"><span title="{escape(read.model_version, quote=True)}">'
        f"Read by {escape(read.model_version)}</span><span>{caution}</span></div>"
    )


def _answer(read: ReadView) -> str:
    text = answer_words(read.answer)
    beside = f"<small>{read.answer['bone_age_months']} months</small>" if read.task is Task.BONE_AGE else ""
    size = "long" if read.task is Task.ROP else ""
    return f'<div class="answer {size}">{escape(words.sentence(text))}{beside}</div>'


def _facts(read: ReadView, study: StudyView) -> str:
    facts: list[tuple[str, str]] = []
    if read.task is Task.BONE_AGE:
        low, high = read.interval_months
        facts.append(("80 % interval", f"{words.age(low)} to {words.age(high)} ({low} to {high} months)"))
        if study.age_months is None:
            facts.append(("Chronological", "not known"))
        else:
            facts.append(("Chronological", f"{words.age(study.age_months)}{_ahead(read, study.age_months)}"))
    elif read.task is Task.FRACTURE:
        facts.append(("Probability", f"{read.probabilities[read.answer['fracture']]:.1%}"))
    else:
        shares = [read.probabilities[field][read.answer[field]] for field in ("zone", "stage", "plus_disease")]
        facts.append(("Probability", "zone {:.0%} · stage {:.0%} · plus {:.0%}".format(*shares)))
    rows = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts)
    return f'<dl class="facts">{rows}</dl>'


def _ahead(read: ReadView, chronological_months: float) -> str:
    difference = round(read.answer["bone_age_months"] - chronological_months)
    if difference == 0:
        return ", equal to the read"
    return f", read {words.counted(abs(difference), 'month')} {'above' if difference > 0 else 'below'}"


def _no_read_yet(image: ImageView) -> None:
    if image.read_state is ReadState.BLOCKED:
        _refusal(image.read_blocked_reason)
    else:
        st.html('<div class="block-title"><span>Read</span></div><div class="answer long quiet">Not read yet</div>')


def _refusal(reason: str | None) -> None:
    """No read is a result of its own, not an empty space."""
    text = words.sentence(reason or "no reason given")
    st.html(f'<div class="refusal"><strong>No read</strong>{escape(text)}</div>')
