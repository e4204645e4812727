"""What was measured is checked before it is scored: nothing doubtful is computed silently."""

import pytest

from engine.findings.growth import Indicator
from engine.findings.growth_visits import AgeBasis, GrowthZ, ScoredVisit, Visit, score_visit, score_visits
from engine.findings.reference import Refusal

BOY_OF_5 = {"sex": "M", "age_months": 60, "weight_kg": 18.5, "length_height_cm": 110.0}
NEWBORN = {"sex": "F", "age_days": 3, "weight_kg": 3.3, "length_height_cm": 49.5, "head_circumference_cm": 34.0}
TEENAGER = {"sex": "M", "age_months": 150, "weight_kg": 45.0, "length_height_cm": 155.0}


def score(base: dict, **changes: object) -> ScoredVisit:
    return score_visit(Visit(**{**base, **changes}))


def codes(scored: ScoredVisit) -> list[str]:
    return list(dict.fromkeys(issue.code for issue in scored.issues))


def scored_indicators(scored: ScoredVisit) -> set[Indicator]:
    return {indicator for indicator, value in scored.values.items() if isinstance(value, GrowthZ)}


def test_a_plausible_visit_is_scored_without_a_word() -> None:
    scored = score(NEWBORN)
    assert not scored.issues
    assert scored_indicators(scored) == set(Indicator)
    height = scored.values[Indicator.HEIGHT]
    assert (height.unit, height.measurement, height.age_basis) == ("cm", 49.5, AgeBasis.CHRONOLOGICAL)
    assert height.standard == "WHO child growth standards 2006" and not height.implausible
    assert height.z == pytest.approx((49.5 / 49.6543 - 1) / 0.0377)  # WHO's girls, day 3
    assert height.centile_percent == pytest.approx(46.7, abs=0.05)


@pytest.mark.parametrize(
    ("base", "changes", "code", "withheld"),
    [
        (BOY_OF_5, {"length_height_cm": 1.1}, "length_height_in_metres", "height"),
        (BOY_OF_5, {"length_height_cm": 43.3}, "length_height_in_inches", "height"),
        (BOY_OF_5, {"length_height_cm": 1100}, "length_height_in_millimetres", "height"),
        (NEWBORN, {"length_height_cm": 19.5}, "length_height_in_inches", "height"),
        (TEENAGER, {"length_height_cm": 61}, "length_height_in_inches", "height"),
        (TEENAGER, {"length_height_cm": 1.55}, "length_height_in_metres", "height"),
        (TEENAGER, {"length_height_cm": 15.5}, "length_height_impossible", "height"),
        (NEWBORN, {"weight_kg": 20}, "weight_impossible", "weight"),
        (NEWBORN, {"age_days": 28, "weight_kg": 20}, "weight_impossible", "weight"),
        (NEWBORN, {"weight_kg": 3300}, "weight_in_grams", "weight"),
        (TEENAGER, {"weight_kg": 45000}, "weight_in_grams", "weight"),
        (NEWBORN, {"head_circumference_cm": 13.4}, "head_circumference_in_inches", "head"),
        (NEWBORN, {"head_circumference_cm": 340}, "head_circumference_in_millimetres", "head"),
        (BOY_OF_5, {"length_height_cm": 18.5, "weight_kg": 110}, "weight_and_height_swapped", "height weight"),
        (TEENAGER, {"length_height_cm": 45, "weight_kg": 155}, "weight_and_height_swapped", "height weight"),
        (NEWBORN, {"length_height_cm": 34, "head_circumference_cm": 49.5}, "head_and_height_swapped", "height head"),
    ],
)
def test_a_value_that_cannot_be_meant_gives_no_z(base: dict, changes: dict, code: str, withheld: str) -> None:
    scored = score(base, **changes)
    assert codes(scored) == [code]
    assert all(issue.withholds for issue in scored.issues)
    lost = {
        "height": {Indicator.HEIGHT, Indicator.BMI, Indicator.WEIGHT_FOR_LENGTH},
        "weight": {Indicator.WEIGHT, Indicator.BMI, Indicator.WEIGHT_FOR_LENGTH},
        "head": {Indicator.HEAD},
    }
    expected = scored_indicators(score(base)) - set().union(*(lost[name] for name in withheld.split()))
    assert scored_indicators(scored) == expected
    for indicator in scored_indicators(score(base)) - expected:
        refusal = scored.values[indicator]
        assert isinstance(refusal, Refusal) and refusal.code == code and "check" in refusal.reason


@pytest.mark.parametrize(
    ("base", "changes", "flags"),
    [
        # real children look like this: the z is there, marked
        (BOY_OF_5, {"weight_kg": 40}, ["weight_in_pounds", "weight_for_age_implausible", "bmi_for_age_implausible"]),
        (NEWBORN, {"length_height_cm": 32, "weight_kg": 0.8, "head_circumference_cm": 23}, None),  # preterm, not said
        (BOY_OF_5, {"length_height_cm": 78}, ["height_for_age_implausible", "bmi_for_age_implausible"]),
    ],
)
def test_an_extreme_value_is_scored_and_marked(base: dict, changes: dict, flags: list[str] | None) -> None:
    scored = score(base, **changes)
    assert not any(issue.withholds for issue in scored.issues)
    assert {Indicator.HEIGHT, Indicator.WEIGHT} <= scored_indicators(scored)
    implausible = [f"{i}_implausible" for i, value in scored.values.items() if getattr(value, "implausible", False)]
    assert implausible and set(implausible) <= set(codes(scored))
    assert flags is None or codes(scored) == flags


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"sex": None}, "no_sex"),
        ({"sex": "O"}, "no_sex"),
        ({"age_months": None}, "no_age"),
        ({"age_days": -4, "age_months": None}, "age_negative"),
        ({"age_days": 60}, "ages_disagree"),
    ],
)
def test_without_sex_or_age_nothing_is_scored(changes: dict, code: str) -> None:
    scored = score(BOY_OF_5, **changes)
    assert codes(scored) == [code]
    assert {value.code for value in scored.values.values()} == {code}


def test_completed_months_beside_days_agree() -> None:
    assert not score(BOY_OF_5, age_days=1850).issues


def test_preterm_is_scored_at_the_corrected_age_and_says_so() -> None:
    # the AAP's example: two years old, born at 28 weeks: corrected age 21 months
    scored = score_visit(Visit("F", age_months=24, weight_kg=9.0, gestational_age_weeks=28))
    assert codes(scored) == ["corrected_age"]
    weight = scored.values[Indicator.WEIGHT]
    assert weight.age_basis is AgeBasis.CORRECTED and round(weight.age_months) == 21
    assert weight.z == score_visit(Visit("F", age_days=24 * 30.4375 - 84, weight_kg=9.0)).values[Indicator.WEIGHT].z
    assert "corrected age of 646 days" in scored.issues[0].message


@pytest.mark.parametrize(
    ("weeks", "age_months", "basis"),
    [
        (36.9, 6, AgeBasis.CORRECTED),
        (37, 6, AgeBasis.CHRONOLOGICAL),
        (41, 6, AgeBasis.CHRONOLOGICAL),
        (28, 35.9, AgeBasis.CORRECTED),
        (28, 36, AgeBasis.CHRONOLOGICAL),
    ],
)
def test_who_is_corrected(weeks: float, age_months: float, basis: AgeBasis) -> None:
    scored = score_visit(Visit("M", age_months=age_months, weight_kg=9.0, gestational_age_weeks=weeks))
    assert scored.age_basis is basis


def test_before_term_there_is_no_table() -> None:
    scored = score_visit(Visit("F", age_days=30, weight_kg=1.6, gestational_age_weeks=28))
    assert codes(scored) == ["before_term"] and not scored_indicators(scored)


def test_what_has_no_table_says_why() -> None:
    scored = score(TEENAGER, head_circumference_cm=54)
    assert not scored.issues
    assert scored.values[Indicator.WEIGHT] == Refusal("no_table", "WHO has no weight for age at 12 y 6 m")
    assert scored.values[Indicator.HEAD].code == "no_table"
    assert score(TEENAGER).values[Indicator.HEAD] == Refusal("not_measured", "head_circumference_cm was not measured")
    adult = score(TEENAGER, age_months=240, length_height_cm=175, weight_kg=70)
    assert codes(adult) == ["too_old"] and not scored_indicators(adult)


def test_oedema_position_and_nothing_measured() -> None:
    scored = score(NEWBORN, oedema=True, measured="standing")
    assert set(codes(scored)) == {"oedema", "standing_below_9_months"}
    assert scored_indicators(scored) == {Indicator.HEIGHT, Indicator.HEAD}
    assert scored.values[Indicator.WEIGHT].code == "oedema"
    assert codes(score_visit(Visit("M", age_months=9))) == ["nothing_measured"]


def test_many_visits_are_scored_as_each_alone() -> None:
    visits = [
        Visit(**{**base, **changes})
        for base in (BOY_OF_5, NEWBORN, TEENAGER)
        for changes in (
            {},
            {"length_height_cm": 1.2},
            {"weight_kg": 30.0},
            {"sex": None},
            {"gestational_age_weeks": 30},
        )
    ]
    assert score_visits(visits) == [score_visit(visit) for visit in visits]
    assert score_visits([]) == []
