"""Urgency of every answer there is, against the ETROP definition written out independently."""

import json

import pytest

from engine.findings.answers import ALLOWED, Task, bone_age_answer, fracture_answer, rop_answer
from engine.findings.rop import etrop_type
from engine.findings.summary import answer_urgency, answer_words, no_answer_urgency
from engine.findings.urgency import NO_URGENCY, Level, Urgency, most_urgent
from engine.settings import PROJECT_DIR

RULES = PROJECT_DIR.parent / "shared" / "reference" / "rop_rules.json"


def etrop_in_prose(zone: str, stage: str, plus: str) -> int | None:
    """ETROP 2003. Type 1: zone I any stage with plus, zone I stage 3, zone II stage 2 or 3 with plus. Type 2: zone I
    stage 1 or 2 without plus, zone II stage 3 without plus. Stages 1 to 3 only."""
    if stage not in ("1", "2", "3"):
        return None
    if zone == "I":
        return 1 if plus == "plus" or stage == "3" else 2
    if zone == "II" and plus == "plus":
        return 1 if stage in ("2", "3") else None
    return 2 if zone == "II" and stage == "3" else None


@pytest.mark.parametrize("answer", ALLOWED[Task.ROP], ids=lambda a: f"{a['zone']}-{a['stage']}-{a['plus_disease']}")
def test_every_rop_answer(answer: dict) -> None:
    expected = etrop_in_prose(answer["zone"], answer["stage"], answer["plus_disease"])
    assert etrop_type(answer) == expected
    urgency = answer_urgency(answer, None)
    if answer["stage"] in ("4", "5"):
        assert urgency.level == Level.IMMEDIATE and urgency.unverified
    else:
        assert urgency.level == {1: Level.URGENT, 2: Level.SOON, None: Level.NONE}[expected]
        assert (urgency.reason is None) == (expected is None)
        if expected:
            assert f"ETROP type {expected}" in (urgency.reason or "")


@pytest.mark.skipif(not RULES.exists(), reason="the clinical reference tables are not beside this checkout")
def test_etrop_types_equal_the_reference_table() -> None:
    table = json.loads(RULES.read_text())["etrop"]
    for answer in ALLOWED[Task.ROP]:
        matching = [
            number
            for number in (1, 2)
            for rule in table[f"type_{number}"]["any_of"]
            if answer["zone"] in rule["zone"]
            and answer["stage"] in rule["stage"]
            and answer["plus_disease"] in rule["plus"]
        ]
        assert matching == ([etrop_type(answer)] if etrop_type(answer) else [])


def test_an_eye_without_a_grade_is_never_counted_as_healthy() -> None:
    urgency = no_answer_urgency(Task.ROP)
    assert urgency.level == Level.SOON and urgency.unverified
    assert no_answer_urgency(Task.BONE_AGE) == NO_URGENCY


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
def test_fracture(fracture: str, age_months: float | None, level: Level) -> None:
    urgency = answer_urgency(fracture_answer(fracture), age_months)
    assert urgency.level == level
    assert urgency.unverified == (level != Level.NONE)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (bone_age_answer(110), "9 y 2 m"),
        (rop_answer("II", "2", "none"), "zone II, stage 2, no plus"),
        (rop_answer("III", "0", "preplus"), "zone III, no ROP, pre-plus"),
        (rop_answer("none", "0", "none"), "fully vascularised, no ROP"),
        (fracture_answer("buckle"), "buckle fracture"),
    ],
)
def test_words(answer: dict, words: str) -> None:
    assert answer_words(answer) == words


def test_the_gravest_counts() -> None:
    soon, urgent = Urgency(Level.SOON, "a"), Urgency(Level.URGENT, "b")
    assert most_urgent([NO_URGENCY, soon, urgent, soon]) == urgent
    assert most_urgent([]) == NO_URGENCY
