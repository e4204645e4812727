"""Fractures of the distal forearm: classes, urgency, and what a reader adds to a read."""

import json
from datetime import UTC, datetime

import pytest

from engine.errors import AnswerRefused
from engine.findings.answers import fracture_answer
from engine.findings.fracture import ANSWER_OF, Finding, FractureClass, Speed, classes, plan, urgency
from engine.findings.summary import answer_urgency
from engine.findings.urgency import Level
from engine.settings import PROJECT_DIR

RULES = PROJECT_DIR.parent / "shared" / "reference" / "fracture_rules.json"


@pytest.mark.parametrize(
    ("fracture", "age_months", "level"),
    [
        ("normal", 6, Level.NONE),
        ("buckle", 6, Level.URGENT),
        ("buckle", 18, Level.NONE),
        ("buckle", None, Level.NONE),
        ("distal_radius", 17.9, Level.URGENT),
        ("distal_radius", 90, Level.SOON),
        ("distal_radius", None, Level.SOON),
    ],
)
def test_an_answer_alone(fracture: str, age_months: float | None, level: Level) -> None:
    found = answer_urgency(fracture_answer(fracture), age_months)
    assert found.level == level
    assert found.unverified == (level != Level.NONE)


SPEEDS = {  # class: not displaced, displaced
    "none": ("routine", None),
    "buckle": ("routine", "routine"),
    "greenstick": ("prompt", "prompt"),
    "complete": ("prompt", "urgent"),
    "sh1": ("prompt", "urgent"),
    "sh2": ("prompt", "urgent"),
    "sh3": ("urgent", "urgent"),
    "sh4": ("urgent", "urgent"),
    "sh5": ("urgent", "urgent"),
}


@pytest.mark.parametrize(("kind", "speeds"), SPEEDS.items())
def test_every_class(kind: str, speeds: tuple[str, str | None]) -> None:
    fracture = FractureClass(kind)
    assert plan(Finding(fracture, displaced=False), 100).speed == speeds[0]
    if fracture is not FractureClass.NONE:
        assert plan(Finding(fracture, displaced=True), 100).speed == speeds[1]
        unsaid = plan(Finding(fracture), 100)
        assert unsaid.speed == speeds[1]  # what was not said is not taken as harmless
        assert ("displacement not said" in unsaid.reason) == (speeds[0] != speeds[1])
    for dangerous in ("neurovascular_deficit", "compartment_syndrome"):
        found = plan(Finding(fracture, displaced=False, **{dangerous: True}), 100)
        assert (found.speed, found.level, found.act_within_hours) == (Speed.EMERGENCY, Level.IMMEDIATE, 1)


@pytest.mark.skipif(not RULES.exists(), reason="the clinical reference tables are not beside this checkout")
def test_classes_equal_the_reference() -> None:
    rules = json.loads(RULES.read_text())
    assert len(rules["classes"]) == len(FractureClass)
    for entry in rules["classes"]:
        facts = classes()[FractureClass(entry["id"].lower())]
        ao = entry["ao"] if entry["ao"] and entry["ao"].startswith("2") else ""
        assert facts.ao_code.replace(" or ", " / ") == ao.replace(" or ", " / ")
        assert facts.stable == entry.get("stable")
        assert facts.review_days == entry.get("review_days")
        assert facts.undisplaced == ("prompt" if "else prompt" in entry["urgency"] else entry["urgency"].split(";")[0])
        assert facts.displaced == entry["urgency"].split()[0].strip(";")
        assert bool(facts.care) == ("care" in entry or entry["id"] == "SH5")
    scale = rules["urgency_scale"]
    for speed in (Speed.EMERGENCY, Speed.URGENT, Speed.PROMPT):
        hours = {plan(finding, 100).act_within_hours for finding in EXAMPLES[speed]}
        assert hours == {scale[speed]["act_within_hours"]}


EXAMPLES = {
    Speed.EMERGENCY: [Finding(FractureClass.BUCKLE, open_fracture=True)],
    Speed.URGENT: [
        Finding(FractureClass.SH1, displaced=True),
        Finding(FractureClass.SH3, displaced=False),
        Finding(FractureClass.COMPLETE, displaced=True),
        Finding(FractureClass.COMPLETE, displaced=False, galeazzi_or_monteggia=True),
    ],
    Speed.PROMPT: [
        Finding(FractureClass.GREENSTICK),
        Finding(FractureClass.COMPLETE, displaced=False),
        Finding(FractureClass.SH2, displaced=False),
    ],
}


@pytest.mark.parametrize(
    ("age_months", "said", "raised"),
    [
        (17.9, {}, True),
        (18, {}, False),
        (None, {}, False),
        (60, {"corner_fracture": True}, True),
        (60, {"history_inconsistent": True}, True),
    ],
)
def test_safeguarding_is_raised_for_a_human(age_months, said, raised) -> None:
    found = plan(Finding(FractureClass.BUCKLE, displaced=False, **said), age_months)
    assert (found.safeguarding is not None) == raised
    assert found.level == (Level.URGENT if raised else Level.NONE)
    assert found.source.unverified
    assert plan(Finding(FractureClass.NONE, history_inconsistent=True), 6).safeguarding is None


def test_what_a_reader_adds_changes_the_urgency() -> None:
    answer = fracture_answer("distal_radius")
    displaced = urgency(answer, 100, Finding(FractureClass.COMPLETE, displaced=True))
    assert displaced.level == Level.URGENT and displaced.unverified
    assert displaced.reason == "complete metaphyseal fracture, displaced, act within 24 h"
    greenstick = urgency(answer, 100, Finding(FractureClass.GREENSTICK))
    assert greenstick.reason == "greenstick fracture, see within 7 days"
    assert urgency(fracture_answer("buckle"), 100, Finding(FractureClass.BUCKLE)).level == Level.NONE


def test_act_by() -> None:
    examined = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
    assert plan(Finding(FractureClass.SH4), 100).act_by(examined) == datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
    assert plan(Finding(FractureClass.BUCKLE), 100).act_by(examined) is None


def test_contradictions_are_refused() -> None:
    for fracture, answer in ANSWER_OF.items():
        urgency(fracture_answer(answer), 100, Finding(fracture))
    with pytest.raises(AnswerRefused, match="says buckle .*, the answer no fracture"):
        urgency(fracture_answer("normal"), 100, Finding(FractureClass.BUCKLE))
    with pytest.raises(AnswerRefused, match="where there is none"):
        Finding(FractureClass.NONE, displaced=True)
