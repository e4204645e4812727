"""One line above the film: whose it is, what it shows, how urgent it is."""

from __future__ import annotations

from html import escape

import streamlit as st

from engine.findings.urgency import Level
from engine.services.review import ImageView, StudyView
from ui import words


def show(study: StudyView, image: ImageView) -> None:
    facts = [
        ("", f"{words.CHILD.get(study.sex, 'sex not known')}, {study.age_words or 'age not known'}"),
        ("", study.pseudonym),
        ("site", study.site),
        ("", f"acquired {words.day(study.acquired_on)}" if study.acquired_on else "date not known"),
    ]
    spans = "".join(f'<span class="quiet {kind}">{escape(fact)}</span>' for kind, fact in facts if fact)
    phantom = '<span class="tag quiet">phantom film</span>' if study.is_phantom else ""
    st.html(
        f'<div class="case-header"><h1>{escape(examination(study, image))}</h1>{spans}{phantom}{_urgency(study)}</div>'
    )


def examination(study: StudyView, image: ImageView) -> str:
    """As Hand, left."""
    part = words.BODY_PART.get(study.task, "Examination not known")
    return f"{part}, {words.SIDE[image.laterality]}" if image.laterality else part


def _urgency(study: StudyView) -> str:
    urgency = study.urgency
    if urgency.level is Level.NONE:
        return ""
    source = f"; {urgency.source}" if urgency.source else ""
    reason = f"{urgency.reason or ''}{' (rule unverified)' if urgency.unverified else ''}"
    return (
        f'<span class="tag {urgency.level.value}">{words.URGENCY[urgency.level]}</span>'
        f'<span class="reason" title="{escape(reason + source, quote=True)}">{escape(reason)}</span>'
    )
