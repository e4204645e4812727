"""Retinopathy of prematurity: ICROP3 words, ETROP types, and how soon each wants action.

Sources
    ICROP3  Chiang MF et al., Ophthalmology 2021;128(10):e51-e68
    ETROP   Early Treatment for ROP Cooperative Group, Arch Ophthalmol 2003;121:1684-94 (types taken from secondary
            pages)
    AAP2018 Fierson WM et al., Pediatrics 2018;142(6):e20183061 (interval table from general knowledge)
What is marked `unverified` must be checked against the primary document by a clinician."""

from __future__ import annotations

from typing import Literal

from engine.findings.answers import Answer, Plus, Stage, Zone
from engine.findings.urgency import NO_URGENCY, Level, Urgency

# (zone, stage, plus disease present). Pre-plus counts as no plus; zone III is never type 1 or 2. Source: ETROP.
ETROP_TYPE_1 = {
    (Zone.I, Stage.S1, True),
    (Zone.I, Stage.S2, True),
    (Zone.I, Stage.S3, True),
    (Zone.I, Stage.S3, False),
    (Zone.II, Stage.S2, True),
    (Zone.II, Stage.S3, True),
}
ETROP_TYPE_2 = {
    (Zone.I, Stage.S1, False),
    (Zone.I, Stage.S2, False),
    (Zone.II, Stage.S3, False),
}

REEXAMINE_TYPE_2_DAYS = 7  # unverified; AAP2018, "one week or less"
REPEAT_UNGRADABLE_DAYS = 7  # unverified; a default of this workstation

PLUS_WORDS = {Plus.NONE: "no plus", Plus.PREPLUS: "pre-plus", Plus.PLUS: "plus"}


def words(answer: Answer) -> str:
    """ "zone II, stage 2, no plus"; stage 0 is "no ROP", zone none "fully vascularised"."""
    if answer["zone"] == Zone.NONE:
        return "fully vascularised, no ROP"
    stage = "no ROP" if answer["stage"] == Stage.S0 else f"stage {answer['stage']}"
    return f"zone {answer['zone']}, {stage}, {PLUS_WORDS[Plus(answer['plus_disease'])]}"


def etrop_type(answer: Answer) -> Literal[1, 2, None]:
    eye = (Zone(answer["zone"]), Stage(answer["stage"]), answer["plus_disease"] == Plus.PLUS)
    if eye in ETROP_TYPE_1:
        return 1
    if eye in ETROP_TYPE_2:
        return 2
    return None


def urgency(answer: Answer) -> Urgency:
    if answer["stage"] in (Stage.S4, Stage.S5):
        return Urgency(
            Level.IMMEDIATE,
            f"retinal detachment (stage {answer['stage']}): vitreoretinal referral",
            "general knowledge",
            unverified=True,
        )
    etrop = etrop_type(answer)
    if etrop == 1:
        return Urgency(Level.URGENT, f"ETROP type 1 ({words(answer)}): treatment", "ETROP 2003, AAP 2018")
    if etrop == 2:
        return Urgency(
            Level.SOON,
            f"ETROP type 2 ({words(answer)}): re-examine within {REEXAMINE_TYPE_2_DAYS} days",
            "ETROP 2003; interval AAP 2018",
            unverified=True,
        )
    return NO_URGENCY


def no_grade_urgency() -> Urgency:
    """An eye that could not be graded is never counted as free of disease."""
    return Urgency(
        Level.SOON,
        f"eye not graded: examine or repeat within {REPEAT_UNGRADABLE_DAYS} days, never counts as no ROP",
        "default of this workstation",
        unverified=True,
    )
