"""The closed answer sets: what a read or a reader may say, in exactly the words the model is trained to write.

A read is scored over these sets, never sampled, so nothing else in the code invents an answer."""

from __future__ import annotations

import json
from enum import StrEnum
from itertools import product

from engine.errors import AnswerRefused


class Task(StrEnum):
    BONE_AGE = "bone_age"
    ROP = "rop"
    FRACTURE = "fracture"


class Zone(StrEnum):
    """ICROP3 zone of the most posterior disease; `none` where vascularisation is complete."""

    I = "I"  # noqa: E741 - the field's own word
    II = "II"
    III = "III"
    NONE = "none"


class Stage(StrEnum):
    """ICROP3 stage; 0 is incomplete vascularisation without ROP (a software convention, unverified)."""

    S0 = "0"
    S1 = "1"
    S2 = "2"
    S3 = "3"
    S4 = "4"
    S5 = "5"


class Plus(StrEnum):
    NONE = "none"
    PREPLUS = "preplus"
    PLUS = "plus"


class Fracture(StrEnum):
    DISTAL_RADIUS = "distal_radius"
    BUCKLE = "buckle"
    NORMAL = "normal"


class View(StrEnum):
    """What an image shows, as triage sees it."""

    HAND = "hand"
    FUNDUS = "fundus"
    WRIST = "wrist"
    OTHER = "other"


TASK_OF_VIEW = {View.HAND: Task.BONE_AGE, View.FUNDUS: Task.ROP, View.WRIST: Task.FRACTURE}

MAX_BONE_AGE_MONTHS = 228  # 19 years, the last plate of the Greulich-Pyle atlas for boys

Answer = dict[str, str | int]


def bone_age_answer(bone_age_months: int) -> Answer:
    return {"task": Task.BONE_AGE.value, "bone_age_months": bone_age_months}


def rop_answer(zone: str, stage: str, plus_disease: str) -> Answer:
    return {"task": Task.ROP.value, "zone": zone, "stage": stage, "plus_disease": plus_disease}


def fracture_answer(fracture: str) -> Answer:
    return {"task": Task.FRACTURE.value, "fracture": fracture}


def triage_answer(view: str) -> Answer:
    return {"task": "triage", "view": view}


# A stage needs a zone: complete vascularisation (zone none) leaves only stage 0 without plus.
ALLOWED: dict[str, list[Answer]] = {
    Task.BONE_AGE: [bone_age_answer(months) for months in range(MAX_BONE_AGE_MONTHS + 1)],
    Task.ROP: [rop_answer(zone, stage, plus) for zone, stage, plus in product(list(Zone)[:3], Stage, Plus)]
    + [rop_answer(Zone.NONE, Stage.S0, Plus.NONE)],
    Task.FRACTURE: [fracture_answer(fracture) for fracture in Fracture],
    "triage": [triage_answer(view) for view in View],
}


def answer_json(answer: Answer) -> str:
    """The answer as the model writes it: no spaces, fields in the contract's order."""
    return json.dumps(answer, separators=(",", ":"))


def check_answer(answer: dict) -> Answer:
    """`answer` as a member of its task's closed set. Raises AnswerRefused otherwise."""
    allowed = ALLOWED.get(answer.get("task", ""))
    if allowed is None:
        raise AnswerRefused("unknown_task", f"task must be one of {', '.join(Task)}, found {answer.get('task')!r}")
    for candidate in allowed:
        if candidate == answer:
            return candidate
    raise AnswerRefused(
        "not_in_answer_set",
        f"{answer_json(answer)} is not an allowed {answer['task']} answer"
        + (" (zone none means stage 0 and no plus disease)" if answer["task"] == Task.ROP else ""),
    )
