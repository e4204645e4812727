"""Distal forearm fractures in a child: the three classes in words, and how soon each wants action.

Sources
    Randsborg & Sivertsen, Acta Orthop 2009;80:585-589 (buckle fractures are stable; greenstick and complete ones
    displace further)
What is marked `unverified` is a default of this workstation that a clinician has to check."""

from __future__ import annotations

from engine.findings.answers import Answer, Fracture
from engine.findings.urgency import NO_URGENCY, Level, Urgency

REVIEW_UNSTABLE_DAYS = 7  # unverified; "prompt" in the urgency scale of this workstation
SAFEGUARDING_AGE_MONTHS = 18  # unverified; a fracture below this age is shown to a human for safeguarding

WORDS = {
    Fracture.DISTAL_RADIUS: "distal radius fracture",
    Fracture.BUCKLE: "buckle fracture",
    Fracture.NORMAL: "no fracture",
}


def words(answer: Answer) -> str:
    return WORDS[Fracture(answer["fracture"])]


def urgency(answer: Answer, age_months: float | None) -> Urgency:
    fracture = Fracture(answer["fracture"])
    if fracture is Fracture.NORMAL:
        return NO_URGENCY
    if age_months is not None and age_months < SAFEGUARDING_AGE_MONTHS:
        return Urgency(
            Level.URGENT,
            f"{WORDS[fracture]} under {SAFEGUARDING_AGE_MONTHS} months of age: consider non-accidental injury",
            "default of this workstation",
            unverified=True,
        )
    if fracture is Fracture.DISTAL_RADIUS:
        return Urgency(
            Level.SOON,
            f"distal radius fracture: unstable, see within {REVIEW_UNSTABLE_DAYS} days",
            "instability Randsborg 2009; interval a default of this workstation",
            unverified=True,
        )
    return NO_URGENCY
