"""The gate on simulated comparisons: it must let a better model through, and hold a worse, an equal and a lucky one."""

from __future__ import annotations

import itertools
import json
from typing import Any

import numpy as np
import pytest

from engine import promotion_gate
from engine.errors import Refused
from engine.findings.answers import Fracture, Plus, Stage, Task, Zone, bone_age_answer, fracture_answer, rop_answer
from engine.promotion_gate import MARGINS, Decision, decide, error_of, missed_finding, paired_interval

FRACTURES = [f.value for f in Fracture]
GRADINGS = [(z.value, s.value, p.value) for z, s, p in itertools.product(list(Zone)[:3], list(Stage)[:4], Plus)]


def quality(months_sd: float = 2.5, fracture_wrong: float = 0.03, rop_wrong: float = 0.03, unread: float = 0.0) -> dict:
    return {"months_sd": months_sd, "fracture_wrong": fracture_wrong, "rop_wrong": rop_wrong, "unread": unread}


def answer_of(rng: np.random.Generator, truth: dict, model: dict) -> dict | None:
    if rng.random() < model["unread"]:
        return None
    if truth["task"] == Task.BONE_AGE:
        return bone_age_answer(
            int(np.clip(round(truth["bone_age_months"] + rng.normal(0, model["months_sd"])), 0, 228))
        )
    if truth["task"] == Task.FRACTURE:
        wrong = [f for f in FRACTURES if f != truth["fracture"]]
        return fracture_answer(str(rng.choice(wrong)) if rng.random() < model["fracture_wrong"] else truth["fracture"])
    return rop_answer(*GRADINGS[rng.integers(len(GRADINGS))]) if rng.random() < model["rop_wrong"] else truth


def comparison(
    rng: np.random.Generator,
    in_use: dict[str, dict],
    candidate: dict[str, dict],
    counts: dict[str, int],
    *,
    shared: float | None = None,
) -> dict[str, Any]:
    """`in_use` and `candidate`: quality by set. `counts`: cases a task by set. `shared`: share of the cases in which
    both models give the same answer; half of those of the reference unless said."""
    cases = []
    for set_, count in counts.items():
        for task in Task:
            for number in range(count):
                if task is Task.BONE_AGE:
                    truth = bone_age_answer(int(rng.integers(10, 220)))
                elif task is Task.FRACTURE:
                    truth = fracture_answer(FRACTURES[number % 3])
                else:
                    truth = rop_answer(*GRADINGS[number % len(GRADINGS)])
                mine = answer_of(rng, truth, in_use[set_])
                alike = (0.5 if set_ == "reference" else 0.0) if shared is None else shared
                other = mine if rng.random() < alike else answer_of(rng, truth, candidate[set_])
                cases.append(
                    {
                        "id": f"{set_}-{task}-{number}",
                        "patient": f"{set_}-{task}-{number}",
                        "task": task.value,
                        "set": set_,
                        "corrected": set_ != "reference",
                        "trained_on": set_ == "replay",
                        "site": "A" if set_ == "reference" else "B",
                        "sex": "MF"[number % 2],
                        "age_months": float(rng.integers(6, 216)),
                        "truth": truth,
                        "in_use": {"answer": mine},
                        "candidate": {"answer": other},
                    }
                )
    return {"tasks": [task.value for task in Task], "cases": cases}


COUNTS = {"locked_test": 30, "reference": 140, "replay": 120}
KNOWN = quality(2.5, 0.005, 0.01)  # the films of site A, which the model in use reads well
OLD = {"locked_test": quality(8, 0.3), "reference": KNOWN, "replay": quality(12, 0.7, 0.7)}
BETTER = {"locked_test": quality(3.5, 0.1), "reference": KNOWN, "replay": quality(2, 0.02, 0.1)}


def everywhere(model: dict) -> dict[str, dict]:
    return {set_: model for set_ in COUNTS}


@pytest.fixture
def fewer_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promotion_gate, "RESAMPLES", 600)


def share_promoted(
    in_use: dict, candidate: dict, tries: int, counts: dict = COUNTS, shared: float | None = None
) -> float:
    rng = np.random.default_rng(11)
    return np.mean(
        [decide(comparison(rng, in_use, candidate, counts, shared=shared)).promote for _ in range(tries)]
    ).item()


def test_a_better_candidate_is_promoted(fewer_resamples: None) -> None:
    """What a retraining on site B gives: better there, alike elsewhere."""
    assert share_promoted(OLD, BETTER, 20) >= 0.9
    decision = decide(comparison(np.random.default_rng(3), OLD, BETTER, COUNTS))
    assert decision.promote and decision.reasons[0].startswith("Better: bone age, locked test: the error fell from")
    assert "interval" in decision.reasons[0] and "30 patients" in decision.reasons[0]


def test_an_equal_candidate_is_rarely_promoted(fewer_resamples: None) -> None:
    """Other answers, equally good: at most 5 % may slip through."""
    poor = everywhere(quality(8, 0.3, 0.3))
    assert share_promoted(poor, poor, 30, shared=0.0) <= 0.05


@pytest.mark.slow
@pytest.mark.parametrize("shared", [0.0, 0.5])
def test_false_promotion_rate(fewer_resamples: None, shared: float) -> None:
    poor = everywhere(quality(8, 0.3, 0.3))
    small_reference = {"locked_test": 40, "reference": 120}
    assert share_promoted(poor, poor, 400, small_reference, shared=shared) <= 0.05


def test_the_same_answers_are_no_better() -> None:
    found = comparison(np.random.default_rng(1), OLD, OLD, COUNTS, shared=1.0)
    decision = decide(found)
    assert not decision.promote and decision.worse_cases == []
    (reason,) = decision.reasons
    assert reason.startswith("No better: both models give the same answer in all")


def test_a_candidate_trained_on_shuffled_labels_is_held(fewer_resamples: None) -> None:
    shuffled = everywhere(quality(50, 0.66, 0.9))
    assert share_promoted(OLD, shuffled, 5) == 0
    decision = decide(comparison(np.random.default_rng(2), OLD, shuffled, COUNTS))
    assert not decision.promote
    words = " ".join(decision.reasons)
    assert "Worse: bone age, reference phantoms: the error rose from" in words
    assert "No better on any task" in words
    assert decision.worse_cases


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        ({"months_sd": 4.5}, "bone age, reference phantoms: the error rose"),
        ({"fracture_wrong": 0.2}, "fracture, reference phantoms: the share of findings missed"),
        ({"rop_wrong": 0.3}, "ROP, reference phantoms: the error rose"),
        ({"unread": 0.2}, "the share left unread rose"),
    ],
)
def test_what_it_forgot_elsewhere_holds_it(harm: dict, words: str) -> None:
    """Better at site B, and worse on the films of site A in one respect."""
    forgetful = BETTER | {"reference": KNOWN | harm}
    decision = decide(comparison(np.random.default_rng(4), OLD, forgetful, COUNTS))
    assert not decision.promote
    assert any(words in reason for reason in decision.reasons)


def test_harm_at_the_margin_is_seldom_let_through(fewer_resamples: None) -> None:
    """A rise of the fracture error by exactly the margin, in the reference: the bound is made to hold 97.5 %."""
    at_margin = BETTER | {"reference": quality(2.5, 0.005 + MARGINS[Task.FRACTURE, "error"].not_worse, 0.01)}
    assert share_promoted(OLD, at_margin, 20, shared=0.0) <= 0.05


def test_a_subgroup_that_suffers_holds_it() -> None:
    found = comparison(np.random.default_rng(5), OLD, BETTER, COUNTS)
    assert decide(found).promote
    for case in found["cases"]:
        if case["task"] == Task.BONE_AGE and case["set"] == "reference" and case["age_months"] < 60:
            case["candidate"] = {"answer": bone_age_answer(case["truth"]["bone_age_months"] - 6)}
    decision = decide(found)
    assert not decision.promote
    assert any(reason.startswith("Worse: bone age, 0-4 y: the error rose") for reason in decision.reasons)


def test_a_model_that_forgot_which_view_it_sees_is_held() -> None:
    found = comparison(np.random.default_rng(5), OLD, BETTER, COUNTS)
    hands = [case for case in found["cases"] if case["task"] == Task.BONE_AGE and case["set"] == "reference"][:20]
    for number, case in enumerate(hands):
        case["in_use"]["view"] = "hand"
        case["candidate"]["view"] = "hand" if number < 16 else "other"
    decision = decide(found)
    assert not decision.promote
    assert decision.reasons[0].startswith(
        "Worse: bone age, reference phantoms: the share whose view was not recognised rose from 0.0% to 20.0%"
    )


def test_silence_does_not_pay() -> None:
    """A model that reads only what it is sure of has no error on what it reads, and is not better for it."""
    rng = np.random.default_rng(6)
    found = comparison(rng, OLD, OLD, COUNTS, shared=1.0)
    for case in found["cases"]:
        if error_of(case["truth"], case["in_use"]["answer"]) > 0:
            case["candidate"] = {"answer": None}
    decision = decide(found)
    assert not decision.promote
    assert any("left unread rose" in reason for reason in decision.reasons)


def test_the_corrected_cases_alone_do_not_make_a_winner() -> None:
    """They were picked because the model in use was wrong there."""
    only_there = OLD | {"replay": quality(1, 0.0)}
    decision = decide(comparison(np.random.default_rng(7), OLD, only_there, COUNTS, shared=0.6))
    assert not decision.promote and decision.reasons[0].startswith("No better")


def test_a_task_without_enough_cases_holds_it() -> None:
    counts = {"locked_test": 25}
    decision = decide(comparison(np.random.default_rng(8), OLD, BETTER, counts))
    assert not decision.promote
    assert any("bone age has 25 patients in the locked test set, and 30 are needed" in r for r in decision.reasons)
    enough = {"locked_test": 150}
    assert decide(comparison(np.random.default_rng(8), OLD, BETTER, enough)).promote


def test_later_tries_must_win_more_clearly() -> None:
    slightly = BETTER | {"locked_test": quality(5.0, 0.2)}
    rng = np.random.default_rng(2)
    found = comparison(rng, OLD, slightly, {"locked_test": 40, "reference": 140})
    limits = [decide(found, earlier_tries=tries).figures[0] for tries in (0, 1, 20)]
    assert [f.rule for f in limits] == ["better"] * 3
    assert limits[0].high < limits[1].high < limits[2].high
    assert decide(found).promote and not decide(found, earlier_tries=20).promote


def test_errors_of_one_case() -> None:
    truth = rop_answer("I", "2", "plus")
    assert error_of(truth, truth) == 0 and error_of(truth, None) == 1
    assert error_of(truth, rop_answer("II", "2", "preplus")) == pytest.approx(2 / 3)
    assert error_of(bone_age_answer(100), bone_age_answer(93)) == 7 and error_of(bone_age_answer(100), None) == 12
    assert missed_finding(truth, rop_answer("I", "3", "plus")) == 0
    assert missed_finding(truth, rop_answer("I", "2", "preplus")) == 1
    assert missed_finding(rop_answer("II", "2", "none"), None) is None
    assert missed_finding(fracture_answer("buckle"), fracture_answer("distal_radius")) == 0
    assert missed_finding(fracture_answer("buckle"), fracture_answer("normal")) == 1
    assert missed_finding(fracture_answer("normal"), None) is None
    assert missed_finding(bone_age_answer(3), None) is None


def test_the_interval_equals_all_resamples_enumerated() -> None:
    """Four patients, one with two films, and the pretended one: 5^5 equally likely draws."""
    difference = np.array([-3.0, 1.0, 0.5, -2.0, 4.0])
    patients = ["a", "a", "b", "c", "d"]
    films = {"a": [-3.0, 1.0], "b": [0.5], "c": [-2.0], "d": [4.0], "pretended": [4.0]}
    means = []
    for drawn in itertools.product(films.values(), repeat=5):
        values = [value for films_of_one in drawn for value in films_of_one]
        means.append(sum(values) / len(values))
    expected = np.quantile(means, (0.025, 0.975))
    np.testing.assert_allclose(paired_interval(difference, patients, worst=4.0), expected, atol=0.1)


def test_no_harm_seen_is_not_no_harm() -> None:
    """The bound without any event is about that of the rule of three, 3 / n."""
    for n in (30, 60, 200):
        low, high = paired_interval(np.zeros(n), [str(i) for i in range(n)], worst=1.0)
        assert low == 0 and 2 / n < high < 4 / n


def test_a_decision_survives_the_database() -> None:
    decision = decide(comparison(np.random.default_rng(9), OLD, BETTER, COUNTS))
    assert Decision.from_json(json.loads(json.dumps(decision.as_json()))) == decision


def test_each_case_that_got_worse_is_listed() -> None:
    found = comparison(np.random.default_rng(10), OLD, OLD, {"locked_test": 5}, shared=1.0)
    case = next(c for c in found["cases"] if c["task"] == Task.FRACTURE and c["truth"]["fracture"] == "buckle")
    case |= {"in_use": {"answer": case["truth"]}, "candidate": {"answer": fracture_answer("normal")}}
    case["picture"] = "worse/a.png"
    hands = [c for c in found["cases"] if c["task"] == Task.BONE_AGE]
    for hand, months in zip(hands, (1, 2, 9), strict=False):  # one month is not worth looking at
        label = hand["truth"]["bone_age_months"]
        hand |= {"in_use": {"answer": bone_age_answer(label)}, "candidate": {"answer": bone_age_answer(label - months)}}
    worse = decide(found).worse_cases
    assert [(c.task, c.candidate_error) for c in worse] == [("bone_age", 9), ("bone_age", 2), ("fracture", 1)]
    assert worse[-1].picture == "worse/a.png" and worse[-1].group == "locked test"


@pytest.mark.parametrize("broken", [{}, {"cases": [{}], "tasks": ["rop"]}, {"cases": [], "tasks": []}])
def test_anything_else_is_refused(broken: dict) -> None:
    with pytest.raises(Refused, match="compar"):
        decide(broken)
