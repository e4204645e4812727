"""What a reader may add to an answer: closed sets again, kept beside the answer in the `details` of a review.

The answer stays what the model is trained to say; an addition says more of the same finding (stage 4A, A-ROP, a
displaced greenstick fracture) and counts in its words, its urgency and what follows. What was not added is absent,
never false; only `displaced` knows both, as "not displaced" is a finding.

Sources
    What the additions mean, and which contradict each other: rop.Eye, fracture.Finding
    Where a fracture class lies: its definition and AO code in tables/fracture_classes.csv"""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from engine.errors import AnswerRefused
from engine.findings import bone_age, fracture, rop
from engine.findings.answers import Answer, Fracture, Task
from engine.findings.fracture import ANSWER_OF, Finding, FractureClass
from engine.findings.rop import STAGES, Eye, Reactivation, Regression, Treatment
from engine.findings.urgency import Urgency

Additions = dict[str, bool | str]
MAX_LENGTH = 4000  # characters of a comment, and of the details as JSON


class Method(StrEnum):
    """How the bone age was found; always on the Greulich-Pyle scale, the only one that the answer knows."""

    BY_EYE = "by_eye"
    ATLAS = "atlas"
    ATLAS_BONE_BY_BONE = "atlas_bone_by_bone"


class Substage(StrEnum):
    """The letter of stage 4A, 4B, 5A, 5B or 5C."""

    A = "a"
    B = "b"
    C = "c"


class Bone(StrEnum):
    RADIUS = "radius"
    ULNA = "ulna"
    BOTH = "both"


class Region(StrEnum):
    """AO's segments: epiphysis with the growth plate (E), metaphysis (M), diaphysis (D)."""

    PHYSIS = "physis"
    METAPHYSIS = "metaphysis"
    SHAFT = "shaft"


FIELDS: dict[Task, dict[str, type]] = {
    Task.BONE_AGE: {"method": Method},
    Task.ROP: {
        "aggressive": bool,
        "notch": bool,
        "posterior_zone_ii": bool,
        "substage": Substage,
        "regression": Regression,
        "reactivation": Reactivation,
        "treatment": Treatment,
    },
    Task.FRACTURE: {
        "fracture_class": FractureClass,
        "bone": Bone,
        "region": Region,
        "displaced": bool,
        "open_fracture": bool,
        "neurovascular_deficit": bool,
        "compartment_syndrome": bool,
        "galeazzi_or_monteggia": bool,
        "corner_fracture": bool,
        "history_inconsistent": bool,
    },
}
NOT_SAID = {Regression.NONE, Reactivation.NO, Treatment.NONE, FractureClass.NONE}

METHOD_WORDS = {
    Method.BY_EYE: "by eye",
    Method.ATLAS: "by the atlas",
    Method.ATLAS_BONE_BY_BONE: "by the atlas, bone by bone",
}
BONE_WORDS = {Bone.RADIUS: "radius", Bone.ULNA: "ulna", Bone.BOTH: "radius and ulna"}
REGION_WORDS = {Region.PHYSIS: "growth plate", Region.METAPHYSIS: "metaphysis", Region.SHAFT: "shaft"}
FLAG_WORDS = {
    "open_fracture": "open",
    "neurovascular_deficit": "neurovascular deficit",
    "compartment_syndrome": "suspected compartment syndrome",
    "galeazzi_or_monteggia": "Galeazzi or Monteggia pattern",
    "corner_fracture": "metaphyseal corner fracture",
    "history_inconsistent": "history inconsistent",
}
NEEDS_CLASS = ("displaced", *FLAG_WORDS)  # of a distal radius fracture: how soon goes by the class
REGIONS_OF = {
    FractureClass.BUCKLE: (Region.METAPHYSIS,),
    FractureClass.GREENSTICK: (Region.METAPHYSIS, Region.SHAFT),
    FractureClass.COMPLETE: (Region.METAPHYSIS,),
    **dict.fromkeys(
        (FractureClass.SH1, FractureClass.SH2, FractureClass.SH3, FractureClass.SH4, FractureClass.SH5),
        (Region.PHYSIS,),
    ),
}


def checked(answer: Answer, details: Mapping[str, Any]) -> Additions:
    """The additions among `details`; everything else there is passed over.

    Raises AnswerRefused for a value outside its set, an addition to another task's answer, and one that contradicts
    the answer or another addition."""
    task = Task(answer["task"])
    for other, fields in FIELDS.items():
        for name in fields:
            if other is not task and name in details:
                raise AnswerRefused("addition_of_another_task", f"{name} says nothing about a {_task_words(task)}")
    additions: Additions = {}
    for name, kind in FIELDS[task].items():
        if name in details:
            value = _value(name, kind, details[name])
            if value is not False or name == "displaced":
                additions[name] = value
    if task is Task.ROP:
        eye_of(answer, additions)
    elif task is Task.FRACTURE:
        _check_fracture(Fracture(answer["fracture"]), additions)
    return {name: value for name, value in additions.items() if value not in NOT_SAID}


def checked_details(answer: Answer | None, details: Mapping[str, Any]) -> dict[str, Any]:
    """What is stored beside an answer: the additions checked against it, everything else as it came; of a rejection
    nothing that says more of a finding. Raises AnswerRefused."""
    names = {name for fields in FIELDS.values() for name in fields}
    others = {name: value for name, value in details.items() if name not in names}
    return others if answer is None else others | checked(answer, details)


def check_length(comment: str | None, details: Mapping[str, Any]) -> None:
    """Raises AnswerRefused."""
    if len(comment or "") > MAX_LENGTH or len(json.dumps(details)) > MAX_LENGTH:
        raise AnswerRefused("too_long", f"comment and details may have at most {MAX_LENGTH} characters each")


def stored(answer: Answer | None, details: Mapping[str, Any]) -> Additions:
    """The additions of a review as it was stored; none where its details were never checked."""
    if answer is None:
        return {}
    try:
        return checked(answer, details)
    except AnswerRefused:
        return {}


def eye_of(answer: Answer, additions: Additions) -> Eye:
    """The eye with everything that was said of it. Raises AnswerRefused for a contradiction."""
    given = dict(additions)
    stage = f"{answer['stage']}{str(given.pop('substage', '')).upper()}"
    if stage not in STAGES:
        raise AnswerRefused("not_a_stage", f"there is no stage {stage}: only 4A, 4B, 5A, 5B and 5C have a letter")
    kinds = FIELDS[Task.ROP]
    eye = rop.eye_of(answer, stage=stage, **{name: kinds[name](value) for name, value in given.items()})
    if eye.aggressive and eye.stage == "0":
        raise AnswerRefused("aggressive_without_stage", "aggressive ROP contradicts stage 0, no ROP: say which")
    return eye


def finding_of(answer: Answer, additions: Additions) -> Finding | None:
    """The fracture with everything that was said of it; None while its class is not known."""
    answered = Fracture(answer["fracture"])
    known = {Fracture.NORMAL: FractureClass.NONE, Fracture.BUCKLE: FractureClass.BUCKLE}.get(answered)
    said = additions.get("fracture_class", known)
    if said is None:
        return None
    flags = {name: additions[name] for name in NEEDS_CLASS if name in additions}
    return Finding(FractureClass(said), **flags)


def words(answer: Answer, additions: Additions) -> str:
    """ "zone I, stage 4A, plus, A-ROP", "distal radius fracture: greenstick fracture, radius, displaced"."""
    match Task(answer["task"]):
        case Task.BONE_AGE:
            method = additions.get("method")
            return bone_age.words(answer) + (f", {METHOD_WORDS[Method(method)]}" if method else "")
        case Task.ROP:
            return eye_of(answer, additions).words
        case Task.FRACTURE:
            more = ", ".join(_fracture_words(additions))
            return fracture.words(answer) + (f": {more}" if more else "")


def urgency(answer: Answer, additions: Additions, age_months: float | None) -> Urgency:
    """How soon the answer wants action with what was added."""
    match Task(answer["task"]):
        case Task.BONE_AGE:
            return bone_age.urgency(answer)
        case Task.ROP:
            return rop.urgency(answer, eye_of(answer, additions))
        case Task.FRACTURE:
            finding = finding_of(answer, additions)
            only_answer = finding is None or not any(name in additions for name in ("fracture_class", *NEEDS_CLASS))
            return fracture.urgency(answer, age_months, None if only_answer else finding)


def _check_fracture(answered: Fracture, additions: Additions) -> None:
    said = additions.get("fracture_class")
    if said is not None and ANSWER_OF[FractureClass(said)] is not answered:
        name = fracture.classes()[FractureClass(said)].name
        raise AnswerRefused(
            "class_contradicts_answer",
            f"the class says {name}, the answer {fracture.WORDS[answered]}: change one of the two",
        )
    if answered is Fracture.NORMAL and ("bone" in additions or "region" in additions):
        raise AnswerRefused("no_fracture", "a bone or region was given, but no fracture: say which fracture")
    if answered is Fracture.DISTAL_RADIUS:
        if said is None and any(name in additions for name in NEEDS_CLASS):
            raise AnswerRefused("class_missing", "say which fracture it is: how soon it wants action goes by its class")
        if additions.get("bone") == Bone.ULNA:
            raise AnswerRefused("bone_contradicts_answer", "a distal radius fracture is not one of the ulna alone")
    finding = finding_of({"task": Task.FRACTURE.value, "fracture": answered.value}, additions)
    region = additions.get("region")
    if finding is not None and region is not None and region not in REGIONS_OF[finding.fracture_class]:
        allowed = " or ".join(REGION_WORDS[one] for one in REGIONS_OF[finding.fracture_class])
        name = fracture.classes()[finding.fracture_class].name
        raise AnswerRefused("region_contradicts_class", f"a {name} lies in the {allowed}: change one of the two")


def _fracture_words(additions: Additions) -> list[str]:
    found = []
    if said := additions.get("fracture_class"):
        found.append(fracture.classes()[FractureClass(said)].name)
    if bone := additions.get("bone"):
        found.append(BONE_WORDS[Bone(bone)])
    if region := additions.get("region"):
        found.append(REGION_WORDS[Region(region)])
    if "displaced" in additions:
        found.append("displaced" if additions["displaced"] else "not displaced")
    return found + [text for name, text in FLAG_WORDS.items() if additions.get(name)]


def _value(name: str, kind: type, value: Any) -> bool | str:
    if kind is bool:
        if not isinstance(value, bool):
            raise AnswerRefused("not_an_addition", f"{name} must be true or false, found {value!r}")
        return value
    members = [member.value for member in kind]
    if not isinstance(value, str) or value not in members:
        raise AnswerRefused("not_an_addition", f"{name} must be one of {', '.join(members)}, found {value!r}")
    return str(value)


def _task_words(task: Task) -> str:
    return {Task.BONE_AGE: "bone age", Task.ROP: "ROP grading", Task.FRACTURE: "fracture grading"}[task]
