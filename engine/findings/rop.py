"""Retinopathy of prematurity: ICROP3 words, ETROP types, how soon each wants action, and when to look again.

Sources
    ICROP3    Chiang MF et al., Ophthalmology 2021;128(10):e51-e68 (terms in tables/icrop3_terms.csv, each with its
              status)
    ETROP     Early Treatment for ROP Cooperative Group, Arch Ophthalmol 2003;121:1684-94 (types taken from secondary
              pages)
    AAP 2018  Fierson WM et al., Pediatrics 2018;142(6):e20183061 (interval table from general knowledge)
    AAP 2006  Pediatrics 2006;117:572-6 (interval table as transcribed in pediaid, rop_followup.dart)
    Where the two interval tables differ, the shorter interval counts.
What is marked `unverified` must be checked against the primary document by a clinician."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from functools import cache
from math import dist
from typing import Literal

from engine.errors import AnswerRefused
from engine.findings import reference
from engine.findings.answers import Answer, Plus, Stage, Zone
from engine.findings.reference import Source, Status
from engine.findings.urgency import LEVELS, NO_URGENCY, Level, Urgency

ETROP = Source("ETROP 2003", Status.FOUND_SECONDARY)
TREATMENT = Source("ETROP 2003, AAP 2018", Status.FOUND_SECONDARY)
AAP_2018 = Source("AAP 2018", Status.UNVERIFIED)
AAP_BOTH = Source("AAP 2006 and 2018, the shorter interval", Status.UNVERIFIED)
UK_GUIDELINE = Source("UK ROP guideline (48 h for aggressive posterior ROP)", Status.UNVERIFIED)
GENERAL = Source("general knowledge", Status.UNVERIFIED)
WORKSTATION = Source("default of this workstation", Status.UNVERIFIED)

TREAT_AGGRESSIVE_HOURS = 48  # UK_GUIDELINE
REFER_DETACHMENT_HOURS = 72  # a default of this workstation
TREAT_TYPE_1_HOURS = 72  # ETROP 2003, AAP 2018
SEE_REACTIVATION_HOURS = 72  # general knowledge
REEXAMINE_TYPE_2_DAYS = 7  # unverified; AAP2018, "one week or less"
REEXAMINE_PLUS_DAYS = 7  # unverified; a default of this workstation for plus disease outside the ETROP types
REPEAT_UNGRADABLE_DAYS = 7  # unverified; a default of this workstation
ANTI_VEGF_FOLLOW_UP_WEEKS = 65  # postmenstrual age, at least; OMIC ROP anti-VEGF page (found)

PLUS_WORDS = {Plus.NONE: "no plus", Plus.PREPLUS: "pre-plus", Plus.PLUS: "plus"}
STAGES = ("0", "1", "2", "3", "4", "4A", "4B", "5", "5A", "5B", "5C")  # ICROP3; 4 and 5 where no more was said


class Regression(StrEnum):
    NONE = "none"
    INCOMPLETE = "incomplete"
    COMPLETE = "complete"


class Reactivation(StrEnum):
    NO = "no"
    SUSPECTED = "suspected"
    YES = "yes"


class Treatment(StrEnum):
    NONE = "none"
    LASER = "laser"
    ANTI_VEGF = "anti_vegf"


@dataclass(frozen=True)
class Eye:
    """One eye in ICROP3's terms: an answer of the closed set, and what a reader may add to it.

    `notch`: the disease reaches further back in one or two clock hours only; `zone` is then that further zone,
    "secondary to notch". Raises AnswerRefused where the fields contradict each other."""

    zone: Zone
    stage: str
    plus: Plus
    aggressive: bool = False
    notch: bool = False
    posterior_zone_ii: bool = False
    regression: Regression = Regression.NONE
    reactivation: Reactivation = Reactivation.NO
    treatment: Treatment = Treatment.NONE

    def __post_init__(self) -> None:
        if self.stage not in STAGES:
            raise AnswerRefused("not_a_stage", f"stage must be one of {', '.join(STAGES)}, found {self.stage!r}")
        if self.zone == Zone.NONE and (self.stage != "0" or self.plus != Plus.NONE or self.aggressive):
            raise AnswerRefused("stage_without_zone", "a stage, plus disease or A-ROP needs a zone: say which")
        if self.notch and self.zone not in (Zone.I, Zone.II):
            raise AnswerRefused("notch_without_zone", "a notch reaches into zone I or II: say which")
        if self.posterior_zone_ii and self.zone != Zone.II:
            raise AnswerRefused("not_zone_ii", f"posterior zone II was said of an eye in zone {self.zone}")
        if self.reactivation != Reactivation.NO and self.zone == Zone.NONE:
            raise AnswerRefused("reactivation_without_zone", "reactivated ROP needs a zone: say which")

    @property
    def main_stage(self) -> Stage:
        """4A is stage 4."""
        return Stage(self.stage[0])

    @property
    def words(self) -> str:
        """ "zone I (secondary to notch), stage 4A, plus, A-ROP"."""
        if self.zone == Zone.NONE:
            main = "fully vascularised, no ROP"
        else:
            zone = "posterior zone II" if self.posterior_zone_ii else f"zone {self.zone}"
            stage = "no ROP" if self.stage == "0" else f"stage {self.stage}"
            main = f"{zone}{' (secondary to notch)' if self.notch else ''}, {stage}, {PLUS_WORDS[self.plus]}"
        return ", ".join(
            [
                main,
                *(["A-ROP"] if self.aggressive else []),
                *([f"{self.regression} regression"] if self.regression != Regression.NONE else []),
                *({"no": [], "suspected": ["suspected reactivation"], "yes": ["reactivation"]}[self.reactivation]),
                *({"none": [], "laser": ["after laser"], "anti_vegf": ["after anti-VEGF"]}[self.treatment]),
            ]
        )


@dataclass(frozen=True)
class EtropRule:
    """A line of the ETROP definition. `plus`: with plus disease or without; pre-plus counts as without."""

    type: Literal[1, 2]
    zones: tuple[Zone, ...]
    stages: tuple[Stage, ...]
    plus: bool
    text: str
    source: Source = ETROP


ETROP_RULES = (
    EtropRule(1, (Zone.I,), (Stage.S1, Stage.S2, Stage.S3), True, "zone I, any stage of ROP, with plus disease"),
    EtropRule(1, (Zone.I,), (Stage.S3,), False, "zone I, stage 3, without plus disease"),
    EtropRule(1, (Zone.II,), (Stage.S2, Stage.S3), True, "zone II, stage 2 or 3, with plus disease"),
    EtropRule(2, (Zone.I,), (Stage.S1, Stage.S2), False, "zone I, stage 1 or 2, without plus disease"),
    EtropRule(2, (Zone.II,), (Stage.S3,), False, "zone II, stage 3, without plus disease"),
)


@dataclass(frozen=True)
class Plan:
    """What follows for an eye: what was found by which rule, what to do, and by when.

    `act_within_hours` counts from the examination; `reexamine_within_days` is the longest interval that the rule
    allows, None where the eye is to be treated or no rule gives one. `source.unverified` belongs on the screen."""

    level: Level
    finding: str
    rule: str
    action: str
    source: Source
    act_within_hours: int | None = None
    reexamine_within_days: int | None = None
    interval: str | None = None

    def act_by(self, examined_at: datetime) -> datetime | None:
        """The treat-by time."""
        return None if self.act_within_hours is None else examined_at + timedelta(hours=self.act_within_hours)

    def reexamine_by(self, examined_on: date) -> date | None:
        return None if self.reexamine_within_days is None else examined_on + timedelta(days=self.reexamine_within_days)


@dataclass(frozen=True)
class Term:
    text: str
    source: Source


def words(answer: Answer) -> str:
    """ "zone II, stage 2, no plus"; stage 0 is "no ROP", zone none "fully vascularised"."""
    return eye_of(answer).words


def eye_of(answer: Answer, **details: object) -> Eye:
    """The eye of an answer of the closed set, with a reader's `details` (fields of Eye)."""
    given = {"stage": str(answer["stage"]), **details}
    return Eye(Zone(answer["zone"]), plus=Plus(answer["plus_disease"]), **given)


def etrop_rule(eye: Eye) -> EtropRule | None:
    """The line of ETROP's definition that the eye meets; None where it is neither type 1 nor type 2."""
    for rule in ETROP_RULES:
        if eye.zone in rule.zones and eye.main_stage in rule.stages and (eye.plus == Plus.PLUS) == rule.plus:
            return rule
    return None


def etrop_type(answer: Answer) -> Literal[1, 2, None]:
    rule = etrop_rule(eye_of(answer))
    return rule.type if rule else None


def plan(eye: Eye) -> Plan:
    """What follows for this eye, by the gravest rule it meets. The worse eye decides for the child: `worse`."""
    if eye.aggressive:
        return Plan(
            Level.IMMEDIATE,
            "aggressive ROP",
            "ICROP3: aggressive ROP (A-ROP), whatever the zone and stage",
            "specialist, treatment",
            UK_GUIDELINE,
            act_within_hours=TREAT_AGGRESSIVE_HOURS,
        )
    if eye.main_stage in (Stage.S4, Stage.S5):
        return Plan(
            Level.IMMEDIATE,
            f"retinal detachment (stage {eye.stage})",
            "ICROP3 stage 4 (partial) or 5 (total detachment)",
            "vitreoretinal referral",
            GENERAL,
            act_within_hours=REFER_DETACHMENT_HOURS,
        )
    if eye.reactivation != Reactivation.NO:
        return Plan(
            Level.IMMEDIATE,
            "reactivated ROP" if eye.reactivation == Reactivation.YES else "suspected reactivation of ROP",
            "ICROP3: reactivation, suspected or seen",
            "specialist",
            GENERAL,
            act_within_hours=SEE_REACTIVATION_HOURS,
        )
    rule = etrop_rule(eye)
    if rule is not None and rule.type == 1:
        return Plan(
            Level.URGENT,
            "ETROP type 1",
            rule.text,
            "treatment",
            TREATMENT,
            act_within_hours=TREAT_TYPE_1_HOURS,
        )
    if eye.treatment != Treatment.NONE:
        return _treated(eye, rule)
    if rule is not None:
        return Plan(
            Level.SOON,
            "ETROP type 2",
            rule.text,
            "re-examine; treatment if it becomes type 1",
            Source("ETROP 2003; interval AAP 2018", Status.UNVERIFIED),
            reexamine_within_days=REEXAMINE_TYPE_2_DAYS,
            interval="1 week or less",
        )
    if eye.plus == Plus.PLUS:
        return Plan(
            Level.SOON,
            "plus disease outside the ETROP types",
            f"plus disease in {eye.words}: neither type 1 nor type 2, and not expected on its own",
            "re-examine; look for aggressive ROP",
            WORKSTATION,
            reexamine_within_days=REEXAMINE_PLUS_DAYS,
            interval="1 week or less",
        )
    return _follow_up(eye)


def ungradable_plan() -> Plan:
    """An eye that could not be graded is never counted as free of disease."""
    return Plan(
        Level.SOON,
        "eye not graded",
        "an eye that could not be graded never counts as no ROP",
        "repeat the image or examine",
        WORKSTATION,
        reexamine_within_days=REPEAT_UNGRADABLE_DAYS,
        interval="1 week or less",
    )


def worse(plans: Sequence[Plan]) -> Plan:
    """The plan of the eye that decides for the child: the graver, then the sooner. Raises ValueError for none."""
    never = 10**6
    return min(
        plans,
        key=lambda p: (-LEVELS.index(p.level), p.act_within_hours or never, p.reexamine_within_days or never),
    )


def urgency(answer: Answer, eye: Eye | None = None) -> Urgency:
    """How soon an answer wants action; with `eye`, what the reader added to it counts too."""
    eye = eye or eye_of(answer)
    found = plan(eye)
    if found.level is Level.NONE:
        return NO_URGENCY
    finding = f"{found.finding} ({eye.words})" if found.finding.startswith("ETROP") else found.finding
    action = found.action
    hours = found.act_within_hours
    if found.reexamine_within_days is not None:
        action = f"re-examine within {found.reexamine_within_days} days"
        hours = 24 * found.reexamine_within_days
    return Urgency(found.level, f"{finding}: {action}", found.source.citation, found.source.unverified, hours)


def no_grade_urgency() -> Urgency:
    """An eye that could not be graded is never counted as free of disease."""
    return Urgency(
        Level.SOON,
        f"eye not graded: examine or repeat within {REPEAT_UNGRADABLE_DAYS} days, never counts as no ROP",
        WORKSTATION.citation,
        unverified=True,
        within_hours=24 * REPEAT_UNGRADABLE_DAYS,
    )


@cache
def terms() -> dict[str, Term]:
    """ICROP3's terms in words: zone_i, stage_3, plus, a_rop, notch ..."""
    return {
        row["term"]: Term(row["text"], Source(row["source"], Status(row["status"])))
        for row in reference.rows("icrop3_terms")
    }


def zone_i_radius(disc: tuple[float, float], fovea: tuple[float, float]) -> float:
    """Radius of zone I around the disc's centre, in the unit of the two centres: twice their distance (ICROP3)."""
    return 2 * dist(disc, fovea)


def _treated(eye: Eye, rule: EtropRule | None) -> Plan:
    """Intervals of untreated eyes are never used for treated ones."""
    until = (
        f"; after anti-VEGF not ended before {ANTI_VEGF_FOLLOW_UP_WEEKS} weeks postmenstrual age"
        if eye.treatment == Treatment.ANTI_VEGF
        else ""
    )
    return Plan(
        Level.SOON if rule or eye.plus == Plus.PLUS else Level.NONE,
        f"ETROP type {rule.type} in a treated eye" if rule else "treated eye",
        "the interval tables are for untreated eyes",
        f"follow-up as the treating ophthalmologist decides{until}",
        Source("OMIC ROP anti-VEGF page", Status.FOUND) if until else GENERAL,
    )


# Untreated eyes without plus disease that are neither type 1 nor 2: (zone, stages or "regressing") to the longest
# interval. Zone I stages 1 and 2 and zone II stage 3 are ETROP type 2.
FOLLOW_UP: dict[tuple[Zone, str], tuple[int, str]] = {
    (Zone.I, "0"): (7, "1 week or less"),  # 2006: 1 to 2 weeks
    (Zone.I, "regressing"): (14, "1 to 2 weeks"),
    (Zone.II, "0"): (14, "2 weeks"),  # 2006: 2 to 3 weeks
    (Zone.II, "1"): (14, "2 weeks"),
    (Zone.II, "2"): (14, "1 to 2 weeks"),
    (Zone.II, "regressing"): (14, "2 weeks"),
    (Zone.III, "1"): (21, "2 to 3 weeks"),
    (Zone.III, "2"): (21, "2 to 3 weeks"),
    (Zone.III, "regressing"): (21, "2 to 3 weeks"),
}
POSTERIOR_IMMATURE = (7, "1 week or less")  # "immature retina extending into posterior zone II near zone I"


def _follow_up(eye: Eye) -> Plan:
    if eye.zone == Zone.NONE:
        return Plan(
            Level.NONE,
            "fully vascularised",
            "full vascularisation near the ora for 360 degrees",
            "screening may end once this is confirmed; 'no ROP today' alone never ends it",
            AAP_2018,
        )
    regressing = eye.regression != Regression.NONE
    row = (eye.zone, "regressing" if regressing else eye.main_stage.value)
    interval = FOLLOW_UP.get(row)
    if eye.posterior_zone_ii and eye.stage == "0" and not regressing:
        interval = POSTERIOR_IMMATURE
    finding = "regressing ROP" if regressing else "immature retina" if eye.stage == "0" else "ROP below ETROP type 2"
    if interval is None:
        return Plan(
            Level.NONE,
            finding,
            f"no interval is tabled for {eye.words}",
            "the examiner decides when to look again; 'no ROP today' alone never ends screening",
            AAP_BOTH,
        )
    days, in_words = interval
    return Plan(
        Level.NONE,
        finding,
        f"{eye.words}: {in_words}",
        "re-examine",
        AAP_BOTH,
        reexamine_within_days=days,
        interval=in_words,
    )
