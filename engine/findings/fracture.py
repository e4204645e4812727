"""Distal forearm fractures in a child: the classes in words, and how soon each wants action.

A read knows three classes; a reader may say more (`Finding`: which fracture, displaced or not, what is dangerous).

Sources
    tables/fracture_classes.csv: definitions (Randsborg & Sivertsen, Acta Orthop 2009;80:585-589: buckle fractures are
    stable, greenstick and complete ones displace further; Gonzalez et al., Cureus 2022;14(5):e24943) and AO codes
    (AO Pediatric Comprehensive Classification of Long-Bone Fractures), each with its status
    How soon: defaults of this workstation, unverified
What is marked `unverified` is for a clinician to check."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cache

from engine.errors import AnswerRefused
from engine.findings import reference
from engine.findings.answers import Answer, Fracture
from engine.findings.reference import Source, Status
from engine.findings.urgency import NO_URGENCY, Level, Urgency

REVIEW_UNSTABLE_DAYS = 7  # unverified; "prompt" in the urgency scale of this workstation
SAFEGUARDING_AGE_MONTHS = 18  # unverified; a fracture below this age is shown to a human for safeguarding
SAFEGUARDING = "consider non-accidental injury"
WORKSTATION = Source("default of this workstation", Status.UNVERIFIED)

WORDS = {
    Fracture.DISTAL_RADIUS: "distal radius fracture",
    Fracture.BUCKLE: "buckle fracture",
    Fracture.NORMAL: "no fracture",
}


class FractureClass(StrEnum):
    NONE = "none"
    BUCKLE = "buckle"
    GREENSTICK = "greenstick"
    COMPLETE = "complete"
    SH1 = "sh1"
    SH2 = "sh2"
    SH3 = "sh3"
    SH4 = "sh4"
    SH5 = "sh5"


class Speed(StrEnum):
    """How soon, by this workstation's scale. Mildest first."""

    ROUTINE = "routine"
    PROMPT = "prompt"
    URGENT = "urgent"
    EMERGENCY = "emergency"


ACT_WITHIN_HOURS = {Speed.ROUTINE: None, Speed.PROMPT: 168, Speed.URGENT: 24, Speed.EMERGENCY: 1}  # unverified
LEVEL = {
    Speed.ROUTINE: Level.NONE,
    Speed.PROMPT: Level.SOON,
    Speed.URGENT: Level.URGENT,
    Speed.EMERGENCY: Level.IMMEDIATE,
}
# Which answer of the closed set a class belongs to.
ANSWER_OF = {
    FractureClass.NONE: Fracture.NORMAL,
    FractureClass.BUCKLE: Fracture.BUCKLE,
    **dict.fromkeys(list(FractureClass)[2:], Fracture.DISTAL_RADIUS),
}


@dataclass(frozen=True)
class ClassFacts:
    """What is known of a class. `stable` None: nothing was found. An empty text: nothing was found."""

    id: FractureClass
    name: str
    definition: str
    definition_source: Source
    stable: bool | None
    ao_code: str
    ao_source: Source
    undisplaced: Speed
    displaced: Speed
    review_days: int | None
    care: str


@dataclass(frozen=True)
class Finding:
    """What a reader may say beyond the answer; `displaced` None is not said. Raises AnswerRefused where the fields
    contradict each other."""

    fracture_class: FractureClass
    displaced: bool | None = None
    open_fracture: bool = False
    neurovascular_deficit: bool = False
    compartment_syndrome: bool = False
    galeazzi_or_monteggia: bool = False
    corner_fracture: bool = False
    history_inconsistent: bool = False

    def __post_init__(self) -> None:
        of_a_fracture = self.displaced or self.open_fracture or self.galeazzi_or_monteggia or self.corner_fracture
        if self.fracture_class is FractureClass.NONE and of_a_fracture:
            raise AnswerRefused(
                "no_fracture", "something was said of a fracture where there is none: say which fracture"
            )


@dataclass(frozen=True)
class Plan:
    """What follows. `source.unverified` belongs on the screen; `safeguarding` is a flag for a human, not a finding."""

    level: Level
    speed: Speed
    reason: str
    safeguarding: str | None
    review_days: int | None
    care: str
    source: Source = WORKSTATION

    @property
    def act_within_hours(self) -> int | None:
        return ACT_WITHIN_HOURS[self.speed]

    def act_by(self, examined_at: datetime) -> datetime | None:
        hours = self.act_within_hours
        return None if hours is None else examined_at + timedelta(hours=hours)


def words(answer: Answer) -> str:
    return WORDS[Fracture(answer["fracture"])]


def plan(finding: Finding, age_months: float | None) -> Plan:
    """How soon, by the gravest rule that is met. A displacement that was not said counts as one."""
    facts = classes()[finding.fracture_class]
    dangers = [
        text
        for present, text in (
            (finding.open_fracture, "open fracture"),
            (finding.neurovascular_deficit, "neurovascular deficit"),
            (finding.compartment_syndrome, "suspected compartment syndrome"),
        )
        if present
    ]
    speed = facts.undisplaced if finding.displaced is False else facts.displaced
    reason = facts.name
    if facts.undisplaced != facts.displaced:
        reason += {True: ", displaced", False: ", not displaced", None: ", displacement not said"}[finding.displaced]
    if dangers:
        speed, reason = Speed.EMERGENCY, f"{reason}: {', '.join(dangers)}"
    elif finding.galeazzi_or_monteggia:
        speed, reason = Speed.URGENT, f"{reason}: Galeazzi or Monteggia pattern"
    safeguarding = _safeguarding(finding, age_months)
    level = LEVEL[speed]
    if safeguarding is not None and level in (Level.NONE, Level.SOON):
        level = Level.URGENT
    return Plan(level, speed, reason, safeguarding, facts.review_days, facts.care)


def urgency(answer: Answer, age_months: float | None, finding: Finding | None = None) -> Urgency:
    """How soon an answer wants action; with `finding`, what the reader added counts. Raises AnswerRefused when the
    finding is of another answer."""
    fracture = Fracture(answer["fracture"])
    if finding is not None:
        return _urgency_of(finding, fracture, age_months)
    if fracture is Fracture.NORMAL:
        return NO_URGENCY
    if age_months is not None and age_months < SAFEGUARDING_AGE_MONTHS:
        return Urgency(
            Level.URGENT,
            f"{WORDS[fracture]} under {SAFEGUARDING_AGE_MONTHS} months of age: {SAFEGUARDING}",
            WORKSTATION.citation,
            unverified=True,
            within_hours=ACT_WITHIN_HOURS[Speed.URGENT],
        )
    if fracture is Fracture.DISTAL_RADIUS:
        return Urgency(
            Level.SOON,
            f"distal radius fracture: unstable, see within {REVIEW_UNSTABLE_DAYS} days",
            "instability Randsborg 2009; interval a default of this workstation",
            unverified=True,
            within_hours=24 * REVIEW_UNSTABLE_DAYS,
        )
    return NO_URGENCY


@cache
def classes() -> dict[FractureClass, ClassFacts]:
    stable = {"yes": True, "no": False, "": None}
    return {
        FractureClass(row["id"]): ClassFacts(
            FractureClass(row["id"]),
            row["name"],
            row["definition"],
            Source(row["definition_source"], Status(row["definition_status"])),
            stable[row["stable"]],
            row["ao_code"],
            Source("AO Pediatric Comprehensive Classification of Long-Bone Fractures", Status(row["ao_status"])),
            Speed(row["undisplaced"]),
            Speed(row["displaced"]),
            int(row["review_days"]) if row["review_days"] else None,
            row["care"],
        )
        for row in reference.rows("fracture_classes")
    }


def _urgency_of(finding: Finding, fracture: Fracture, age_months: float | None) -> Urgency:
    if ANSWER_OF[finding.fracture_class] is not fracture:
        name = classes()[finding.fracture_class].name
        raise AnswerRefused(
            "class_contradicts_answer", f"the class says {name}, the answer {WORDS[fracture]}: change one of the two"
        )
    found = plan(finding, age_months)
    if found.level is Level.NONE:
        return NO_URGENCY
    hours = found.act_within_hours
    within = "" if hours is None else f", act within {hours} h" if hours <= 24 else f", see within {hours // 24} days"
    reason = found.reason + within + (f"; {found.safeguarding}" if found.safeguarding else "")
    return Urgency(found.level, reason, found.source.citation, found.source.unverified, hours)


def _safeguarding(finding: Finding, age_months: float | None) -> str | None:
    if finding.fracture_class is FractureClass.NONE:
        return None
    reasons = [
        text
        for present, text in (
            (
                age_months is not None and age_months < SAFEGUARDING_AGE_MONTHS,
                f"under {SAFEGUARDING_AGE_MONTHS} months",
            ),
            (finding.corner_fracture, "metaphyseal corner fracture"),
            (finding.history_inconsistent, "inconsistent history"),
        )
        if present
    ]
    return f"{SAFEGUARDING} ({', '.join(reasons)})" if reasons else None
