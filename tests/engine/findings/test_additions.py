"""What a reader may add to an answer: what is stored, what is refused, and what follows."""

from __future__ import annotations

from itertools import product

import pytest

from engine.errors import AnswerRefused
from engine.findings import additions
from engine.findings.additions import FIELDS
from engine.findings.answers import ALLOWED, Task, bone_age_answer, fracture_answer, rop_answer
from engine.findings.summary import answer_urgency, answer_words
from engine.findings.urgency import Level

EYE, WRIST, BUCKLE = rop_answer("II", "4", "none"), fracture_answer("distal_radius"), fracture_answer("buckle")
NORMAL, HAND = fracture_answer("normal"), bone_age_answer(110)


@pytest.mark.parametrize("answer", [answer for task in Task for answer in ALLOWED[task]][::7], ids=str)
def test_without_additions_words_and_urgency_are_those_of_the_answer(answer: dict) -> None:
    assert additions.checked(answer, {"quality": "good", "regions": [{"x0": 1}]}) == {}
    assert answer_words(answer) == answer_words(answer, {"quality": "good"})
    assert answer_urgency(answer, 100) == answer_urgency(answer, 100, {"quality": "good"})


def test_what_says_nothing_is_not_stored() -> None:
    assert additions.checked(EYE, {"notch": False, "regression": "none", "reactivation": "no", "aggressive": True}) == {
        "aggressive": True
    }
    assert additions.checked(WRIST, {"fracture_class": "greenstick", "displaced": False}) == {
        "fracture_class": "greenstick",
        "displaced": False,  # a finding of its own
    }


@pytest.mark.parametrize(
    ("answer", "details", "code"),
    [
        (EYE, {"aggressive": "yes"}, "not_an_addition"),
        (EYE, {"substage": "d"}, "not_an_addition"),
        (EYE, {"substage": "c"}, "not_a_stage"),  # there is no 4C
        (rop_answer("II", "3", "plus"), {"substage": "a"}, "not_a_stage"),
        (rop_answer("II", "0", "none"), {"aggressive": True}, "aggressive_without_stage"),
        (rop_answer("none", "0", "none"), {"aggressive": True}, "stage_without_zone"),
        (rop_answer("III", "1", "none"), {"notch": True}, "notch_without_zone"),
        (rop_answer("I", "1", "none"), {"posterior_zone_ii": True}, "not_zone_ii"),
        (rop_answer("none", "0", "none"), {"reactivation": "yes"}, "reactivation_without_zone"),
        (EYE, {"method": "atlas"}, "addition_of_another_task"),
        (HAND, {"displaced": True}, "addition_of_another_task"),
        (HAND, {"method": "tanner_whitehouse"}, "not_an_addition"),
        (HAND, {"method": 3}, "not_an_addition"),
        (NORMAL, {"displaced": True}, "no_fracture"),
        (NORMAL, {"region": "shaft"}, "no_fracture"),
        (NORMAL, {"fracture_class": "sh2"}, "class_contradicts_answer"),
        (WRIST, {"fracture_class": "buckle"}, "class_contradicts_answer"),
        (WRIST, {"fracture_class": "none"}, "class_contradicts_answer"),
        (WRIST, {"displaced": True}, "class_missing"),
        (WRIST, {"open_fracture": True}, "class_missing"),
        (WRIST, {"fracture_class": "greenstick", "bone": "ulna"}, "bone_contradicts_answer"),
        (WRIST, {"fracture_class": "sh2", "region": "metaphysis"}, "region_contradicts_class"),
        (WRIST, {"fracture_class": "complete", "region": "shaft"}, "region_contradicts_class"),
        (BUCKLE, {"region": "physis"}, "region_contradicts_class"),
    ],
)
def test_what_contradicts_is_refused(answer: dict, details: dict, code: str) -> None:
    with pytest.raises(AnswerRefused) as refused:
        additions.checked(answer, details)
    assert refused.value.code == code


def test_a_class_lies_where_its_ao_code_says() -> None:
    """The letter after "23r-" or "22r-" is AO's segment: E epiphysis, M metaphysis, D diaphysis."""
    segments = {"E": "physis", "M": "metaphysis", "D": "shaft"}
    for name, facts in additions.fracture.classes().items():
        in_code = {segments[part[4]] for part in facts.ao_code.split() if part[:2] in ("22", "23")}
        if in_code:
            assert set(additions.REGIONS_OF[name]) == in_code, name


def test_additions_are_said_in_words() -> None:
    eye = {"aggressive": True, "substage": "b", "notch": True, "treatment": "laser", "regression": "incomplete"}
    said = "zone II (secondary to notch), stage 4B, no plus, A-ROP, incomplete regression, after laser"
    assert answer_words(EYE, eye) == said
    wrist = {"fracture_class": "sh2", "bone": "both", "region": "physis", "displaced": True, "open_fracture": True}
    said = "distal radius fracture: Salter-Harris II, radius and ulna, growth plate, displaced, open"
    assert answer_words(WRIST, wrist) == said
    assert answer_words(HAND, {"method": "atlas"}) == "9 y 2 m, by the atlas"


def test_additions_count_in_the_urgency() -> None:
    quiet = rop_answer("II", "2", "none")
    assert answer_urgency(quiet, 2).level is Level.NONE
    assert answer_urgency(quiet, 2, {"aggressive": True}).level is Level.IMMEDIATE
    assert answer_urgency(WRIST, 90, {"bone": "radius"}) == answer_urgency(WRIST, 90)
    displaced = answer_urgency(WRIST, 90, {"fracture_class": "complete", "displaced": True})
    assert displaced.level is Level.URGENT and displaced.unverified
    assert answer_urgency(BUCKLE, 90, {"open_fracture": True}).level is Level.IMMEDIATE
    assert answer_urgency(BUCKLE, 90, {"region": "metaphysis"}) == answer_urgency(BUCKLE, 90)


def test_what_was_stored_unchecked_before_is_passed_over() -> None:
    assert additions.stored(EYE, {"aggressive": "very"}) == {}
    assert additions.stored(None, {"aggressive": True}) == {}
    assert answer_words(EYE, {"aggressive": "very"}) == answer_words(EYE)


@pytest.mark.parametrize("task", Task)
def test_every_value_of_every_addition_can_be_said_of_some_answer(task: Task) -> None:
    """No choice of the form leads nowhere."""
    helpers = [{}, *({"fracture_class": name} for name in ("buckle", "greenstick", "sh1") if task is Task.FRACTURE)]
    for name, kind in FIELDS[task].items():
        values = [True] if kind is bool else [member.value for member in kind]
        for value in values:
            said = []
            for answer, helper in product(ALLOWED[task], helpers):
                try:
                    said.append(additions.checked(answer, helper | {name: value}))
                except AnswerRefused:
                    continue
            assert said, (name, value)
