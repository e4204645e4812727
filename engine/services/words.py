"""Reads and decisions in the words a list or a heading shows."""

from __future__ import annotations

from collections.abc import Sequence

from db.models import Image, Prediction, ReadState, Review, Verdict
from engine.findings import additions
from engine.findings.summary import answer_words


def prediction_words(prediction: Prediction) -> str:
    """ "9 y 2 m", or "no read: " and why."""
    if prediction.answer is None:
        return f"no read: {prediction.reason or 'no reason given'}"
    return answer_words(prediction.answer)


def read_words(image: Image, prediction: Prediction | None) -> str:
    if image.read_state == ReadState.BLOCKED:
        return f"no read: {image.read_blocked_reason}"
    if image.read_state == ReadState.QUEUED or prediction is None:
        return "awaiting read"
    return prediction_words(prediction)


def review_words(review: Review) -> str:
    """ "confirmed", "corrected: 9 y 6 m", "rejected: poor quality"; with something added also what was confirmed."""
    if review.verdict == Verdict.CORRECTED and review.answer is not None:
        return f"corrected: {answer_words(review.answer, review.details)}"
    if review.verdict == Verdict.CONFIRMED and additions.stored(review.answer, review.details):
        return f"confirmed: {answer_words(review.answer, review.details)}"
    if review.verdict == Verdict.REJECTED and review.reject_reason is not None:
        return f"rejected: {review.reject_reason.replace('_', ' ')}"
    return review.verdict.value


def of_images(texts: Sequence[tuple[Image, str]]) -> str:
    """One text; with several images each is led by its side, "L: ...; R: ...", and repetition is left out."""
    if len({text for _, text in texts}) <= 1:
        return texts[0][1] if texts else ""
    sides = [(image.laterality.value if image.laterality else "?", text) for image, text in texts]
    return "; ".join(dict.fromkeys(f"{side}: {text}" for side, text in sides))
