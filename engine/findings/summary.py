"""One answer of any task in words, and its urgency; with the `details` of a review, what was added counts too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine.findings import additions, rop
from engine.findings.answers import Answer, Task
from engine.findings.urgency import NO_URGENCY, Urgency

TASK_WORDS = {Task.BONE_AGE: "bone age", Task.ROP: "ROP", Task.FRACTURE: "fracture"}  # within a sentence


NO_DETAILS: Mapping[str, Any] = {}


def answer_words(answer: Answer, details: Mapping[str, Any] = NO_DETAILS) -> str:
    """ "9 y 2 m", "zone II, stage 2, no plus", "buckle fracture"."""
    return additions.words(answer, additions.stored(answer, details))


def answer_urgency(answer: Answer, age_months: float | None, details: Mapping[str, Any] = NO_DETAILS) -> Urgency:
    return additions.urgency(answer, additions.stored(answer, details), age_months)


def no_answer_urgency(task: Task | None) -> Urgency:
    """What follows from an image that nobody could grade."""
    return rop.no_grade_urgency() if task == Task.ROP else NO_URGENCY
