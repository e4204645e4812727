"""ROP: every combination of zone, stage and plus against the ETROP definition written out independently."""

import json
from datetime import UTC, date, datetime
from itertools import product

import pytest

from engine.errors import AnswerRefused
from engine.findings.answers import ALLOWED, Plus, Task, Zone
from engine.findings.reference import Status
from engine.findings.rop import (
    STAGES,
    Eye,
    Reactivation,
    Regression,
    Treatment,
    etrop_rule,
    etrop_type,
    eye_of,
    plan,
    terms,
    ungradable_plan,
    urgency,
    worse,
    zone_i_radius,
)
from engine.findings.urgency import Level
from engine.settings import PROJECT_DIR

RULES = PROJECT_DIR.parent / "shared" / "reference" / "rop_rules.json"
needs_rules = pytest.mark.skipif(
    not RULES.exists(), reason="the clinical reference tables are not beside this checkout"
)
ZONES = (Zone.I, Zone.II, Zone.III)
EVERY_EYE = [Eye(zone, stage, plus) for zone, stage, plus in product(ZONES, STAGES, Plus)]


def name(eye: Eye) -> str:
    return f"{eye.zone}-{eye.stage}-{eye.plus}"


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


@pytest.mark.parametrize("eye", EVERY_EYE, ids=name)
def test_every_combination(eye: Eye) -> None:
    expected = etrop_in_prose(eye.zone, eye.stage, eye.plus)
    rule, found = etrop_rule(eye), plan(eye)
    assert (rule.type if rule else None) == expected
    assert found.rule and found.action and found.source.citation
    if eye.stage[0] in "45":
        assert (found.level, found.act_within_hours) == (Level.IMMEDIATE, 72) and found.source.unverified
        assert eye.stage in found.finding
    elif expected == 1:
        assert (found.level, found.act_within_hours, found.finding) == (Level.URGENT, 72, "ETROP type 1")
        assert found.rule == rule.text and not found.source.unverified
    elif expected == 2:
        assert (found.level, found.reexamine_within_days, found.finding) == (Level.SOON, 7, "ETROP type 2")
        assert found.rule == rule.text and found.source.unverified
    elif eye.plus == "plus":
        assert (found.level, found.reexamine_within_days) == (Level.SOON, 7) and found.source.unverified
    else:
        assert found.level == Level.NONE and found.act_within_hours is None and found.source.unverified


@pytest.mark.parametrize("eye", EVERY_EYE, ids=name)
def test_aggressive_rop_comes_first_whatever_the_zone_and_stage(eye: Eye) -> None:
    found = plan(Eye(eye.zone, eye.stage, eye.plus, aggressive=True))
    assert (found.level, found.act_within_hours) == (Level.IMMEDIATE, 48)
    assert "A-ROP" in found.rule and found.source.unverified


@pytest.mark.parametrize("answer", ALLOWED[Task.ROP], ids=lambda a: f"{a['zone']}-{a['stage']}-{a['plus_disease']}")
def test_every_answer_of_a_read(answer: dict) -> None:
    found, derived = urgency(answer), plan(eye_of(answer))
    assert etrop_type(answer) == etrop_in_prose(answer["zone"], answer["stage"], answer["plus_disease"])
    assert found.level == derived.level
    if found.level != Level.NONE:
        assert found.unverified == derived.source.unverified and derived.finding in found.reason


@needs_rules
def test_etrop_types_equal_the_reference_table() -> None:
    table = json.loads(RULES.read_text())["etrop"]
    for eye in EVERY_EYE:
        matching = [
            number
            for number in (1, 2)
            for rule in table[f"type_{number}"]["any_of"]
            if eye.zone in rule["zone"] and eye.stage in rule["stage"] and eye.plus in rule["plus"]
        ]
        rule = etrop_rule(eye)
        assert matching == ([rule.type] if rule else [])


@needs_rules
def test_hours_and_terms_equal_the_reference_table() -> None:
    rules = json.loads(RULES.read_text())
    by_case = {entry["when"]: entry for entry in rules["urgency"]}
    cases = {
        "A_ROP": Eye(Zone.II, "2", Plus.PLUS, aggressive=True),
        "stage 4A/4B/5": Eye(Zone.II, "4A", Plus.PLUS),
        "etrop_type_1": Eye(Zone.I, "3", Plus.NONE),
        "etrop_type_2": Eye(Zone.II, "3", Plus.NONE),
        "reactivation suspected or yes": Eye(Zone.II, "1", Plus.NONE, reactivation=Reactivation.SUSPECTED),
    }
    for case, eye in cases.items():
        found, entry = plan(eye), by_case[case]
        assert found.level == entry["level"]
        assert found.act_within_hours == entry.get("act_within_hours")
        assert found.reexamine_within_days == entry.get("reexam_days_max")
        assert found.source.unverified == entry["status"].startswith("unverified")
    assert ungradable_plan().reexamine_within_days == by_case["ungradable image"]["reexam_days_max"]
    for term, definition in rules["definitions"].items():
        assert terms()[term.lower()].text == definition["text"]
        assert terms()[term.lower()].source.unverified == ("unverified" in definition["status"])


@pytest.mark.parametrize(
    ("zone", "stage", "details", "days_2018", "days_2006"),
    [
        # AAP 2018 and 2006; the shorter one counts
        ("I", "0", {}, 7, 14),
        ("II", "0", {"posterior_zone_ii": True}, 7, None),
        ("II", "0", {}, 14, 21),
        ("II", "1", {}, 14, 14),
        ("II", "2", {}, 14, 14),
        ("III", "1", {}, 21, 21),
        ("III", "2", {}, 21, 21),
        ("I", "0", {"regression": Regression.COMPLETE}, 14, 14),
        ("II", "2", {"regression": Regression.INCOMPLETE}, 14, 14),
        ("III", "1", {"regression": Regression.INCOMPLETE}, 21, 21),
        ("III", "0", {}, None, None),
        ("III", "3", {}, None, None),
    ],
)
def test_when_to_look_again(zone, stage, details, days_2018, days_2006) -> None:
    for plus in (Plus.NONE, Plus.PREPLUS):
        found = plan(Eye(Zone(zone), stage, plus, **details))
        known = [days for days in (days_2018, days_2006) if days is not None]
        assert found.reexamine_within_days == (min(known) if known else None)
        assert found.level == Level.NONE and found.source.status is Status.UNVERIFIED
        assert found.reexamine_by(date(2026, 1, 1)) == (date(2026, 1, 1 + min(known)) if known else None)
        if not known:
            assert "never ends screening" in found.action


def test_treated_eyes_never_use_the_intervals_of_untreated_ones() -> None:
    for treatment, zone, stage in product((Treatment.LASER, Treatment.ANTI_VEGF), ZONES, ("0", "1", "2", "3")):
        found = plan(Eye(zone, stage, Plus.NONE, treatment=treatment))
        if found.act_within_hours is None:
            assert found.reexamine_within_days is None and "ophthalmologist decides" in found.action
            assert ("65 weeks" in found.action) == (treatment == Treatment.ANTI_VEGF)
    assert plan(Eye(Zone.I, "3", Plus.PLUS, treatment=Treatment.LASER)).act_within_hours == 72


def test_full_vascularisation_ends_nothing_by_itself() -> None:
    found = plan(Eye(Zone.NONE, "0", Plus.NONE))
    assert found.level == Level.NONE and found.reexamine_within_days is None
    assert "once this is confirmed" in found.action


def test_treat_by() -> None:
    examined = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
    assert plan(Eye(Zone.I, "3", Plus.PLUS)).act_by(examined) == datetime(2026, 3, 4, 9, 30, tzinfo=UTC)
    assert plan(Eye(Zone.II, "1", Plus.NONE)).act_by(examined) is None
    assert plan(Eye(Zone.II, "3", Plus.NONE)).reexamine_by(examined.date()) == date(2026, 3, 8)


def test_the_worse_eye_decides() -> None:
    type_1, type_2 = plan(Eye(Zone.I, "3", Plus.NONE)), plan(Eye(Zone.II, "3", Plus.NONE))
    one_week, three_weeks = plan(Eye(Zone.I, "0", Plus.NONE)), plan(Eye(Zone.III, "1", Plus.NONE))
    nothing = plan(Eye(Zone.NONE, "0", Plus.NONE))
    assert worse([type_2, type_1]) == type_1
    assert worse([three_weeks, one_week]) == one_week
    assert worse([nothing, three_weeks]) == three_weeks
    assert worse([nothing, ungradable_plan()]) == ungradable_plan()
    with pytest.raises(ValueError):
        worse([])


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        (("none", "1", "none", {}), "stage_without_zone"),
        (("none", "0", "plus", {}), "stage_without_zone"),
        (("none", "0", "none", {"aggressive": True}), "stage_without_zone"),
        (("none", "0", "none", {"reactivation": Reactivation.YES}), "reactivation_without_zone"),
        (("III", "1", "none", {"notch": True}), "notch_without_zone"),
        (("I", "1", "none", {"posterior_zone_ii": True}), "not_zone_ii"),
        (("I", "6", "none", {}), "not_a_stage"),
        (("I", "3A", "none", {}), "not_a_stage"),
    ],
)
def test_contradictions_are_refused(fields, code) -> None:
    zone, stage, plus, details = fields
    with pytest.raises(AnswerRefused) as refused:
        Eye(Zone(zone), stage, Plus(plus), **details)
    assert refused.value.code == code


def test_words() -> None:
    eye = Eye(Zone.I, "4A", Plus.PLUS, aggressive=True, notch=True)
    assert eye.words == "zone I (secondary to notch), stage 4A, plus, A-ROP"
    eye = Eye(Zone.II, "2", Plus.PREPLUS, posterior_zone_ii=True, reactivation=Reactivation.SUSPECTED,
              treatment=Treatment.ANTI_VEGF)  # fmt: skip
    assert eye.words == "posterior zone II, stage 2, pre-plus, suspected reactivation, after anti-VEGF"
    answer = {"task": "rop", "zone": "I", "stage": "2", "plus_disease": "none"}
    assert eye_of(answer, notch=True).words == "zone I (secondary to notch), stage 2, no plus"
    assert urgency(answer, eye_of(answer, aggressive=True)).reason == "aggressive ROP: specialist, treatment"


def test_zone_i_is_twice_the_distance_from_disc_to_fovea() -> None:
    assert zone_i_radius((100, 100), (130, 140)) == 100
