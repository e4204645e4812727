"""Bone age: months on the Greulich-Pyle scale. No urgency follows from a bone age by itself."""

from __future__ import annotations

from engine.findings.age import months_words
from engine.findings.answers import Answer
from engine.findings.urgency import NO_URGENCY, Urgency

# Chronological ages the atlas can speak about; outside, no read is offered.
# Source: dicom-ingest rules of this project ("0-19 y for bone age"); the atlas' last plate for boys is 19 y.
MAX_CHRONOLOGICAL_AGE_MONTHS = 19 * 12


def words(answer: Answer) -> str:
    return months_words(int(answer["bone_age_months"]))


def urgency(answer: Answer) -> Urgency:
    return NO_URGENCY


def why_not_readable(sex: str | None, age_months: float | None) -> str | None:
    """Why a bone age cannot be read for this child, or None. The scale differs by sex, so sex must be known."""
    if sex is None:
        return "the child's sex is unknown and bone age depends on it: enter it on the case"
    if age_months is not None and age_months > MAX_CHRONOLOGICAL_AGE_MONTHS:
        return f"at {months_words(age_months)} the child is older than the bone-age scale reaches (19 y)"
    return None
