"""One answer of any task in words, and its urgency."""

from __future__ import annotations

from engine.findings import bone_age, fracture, rop
from engine.findings.answers import Answer, Task
from engine.findings.urgency import NO_URGENCY, Urgency

TASK_WORDS = {Task.BONE_AGE: "bone age", Task.ROP: "ROP", Task.FRACTURE: "fracture"}  # within a sentence


def answer_words(answer: Answer) -> str:
    """ "9 y 2 m", "zone II, stage 2, no plus", "buckle fracture"."""
    match Task(answer["task"]):
        case Task.BONE_AGE:
            return bone_age.words(answer)
        case Task.ROP:
            return rop.words(answer)
        case Task.FRACTURE:
            return fracture.words(answer)


def answer_urgency(answer: Answer, age_months: float | None) -> Urgency:
    match Task(answer["task"]):
        case Task.BONE_AGE:
            return bone_age.urgency(answer)
        case Task.ROP:
            return rop.urgency(answer)
        case Task.FRACTURE:
            return fracture.urgency(answer, age_months)


def no_answer_urgency(task: Task | None) -> Urgency:
    """What follows from an image that nobody could grade."""
    return rop.no_grade_urgency() if task == Task.ROP else NO_URGENCY
