"""Who decided what about the image, the latest first."""

from __future__ import annotations

from html import escape

import streamlit as st

from db.models import Verdict
from engine.findings.summary import answer_words
from engine.services.review import ImageView, ReviewView
from ui import words

SHOWN = 2


def show(image: ImageView) -> None:
    """The latest decisions; earlier ones unfold."""
    if not image.reviews:
        return
    lines = [_line(review, is_past=review is not image.reviews[0]) for review in image.reviews]
    html = f'<ul class="history">{"".join(lines[:SHOWN])}</ul>'
    if rest := lines[SHOWN:]:
        more = words.counted(len(rest), "earlier decision")
        html += f'<details class="more"><summary>{more}</summary><ul class="history">{"".join(rest)}</ul></details>'
    st.html(html)


def conflict(message: str, image: ImageView) -> None:
    """Somebody else decided while this reader was at it."""
    theirs = image.reviews[0] if image.reviews else None
    said = f"{theirs.reader} {_said(theirs)}. " if theirs else ""
    message = words.sentence(message).rstrip(".")
    st.html(
        f'<div class="notice conflict"><strong>Not saved.</strong> {escape(message)}.<br>{escape(said)}'
        "What you entered is still here: save it again to let it stand over theirs, or go on to the next case.</div>"
    )


def _line(review: ReviewView, is_past: bool) -> str:
    comment = f' <span class="quiet">“{escape(review.comment)}”</span>' if review.comment else ""
    return (
        f'<li class="{"past" if is_past else ""}"><span>{escape(review.reader)} {escape(_said(review))}{comment}</span>'
        f"<time>{escape(words.moment(review.created_at))}</time></li>"
    )


def _said(review: ReviewView) -> str:
    if review.verdict is Verdict.CORRECTED:
        return f"corrected to {answer_words(review.answer, review.details)}"
    if review.verdict is Verdict.REJECTED:
        return f"rejected it: {words.REJECT_REASON[review.reject_reason].lower()}"
    if review.verdict is Verdict.WITHDRAWN:
        return "took the decision back"
    return f"confirmed {answer_words(review.answer, review.details)}"
