"""What cannot be true of one child, on days and sides written out."""

from __future__ import annotations

from datetime import date

import pytest

from engine.findings.answers import Task, bone_age_answer, fracture_answer, rop_answer
from engine.findings.contradictions import Seen, names_differ, of_answer, side_changed


def hand(day: str, months: int | None, side: str | None = "L") -> Seen:
    answer = None if months is None else bone_age_answer(months)
    return Seen(date.fromisoformat(day), Task.BONE_AGE, side, answer)  # type: ignore[arg-type]


def eye(day: str, zone: str, side: str | None = "R", **added: bool | str) -> Seen:
    stage = "0" if zone == "none" else "2"
    return Seen(date.fromisoformat(day), Task.ROP, side, rop_answer(zone, stage, "none"), added)  # type: ignore[arg-type]


def wrist(day: str, side: str) -> Seen:
    return Seen(date.fromisoformat(day), Task.FRACTURE, side, fracture_answer("normal"))  # type: ignore[arg-type]


def test_a_bone_age_that_fell() -> None:
    now = hand("2025-03-10", 100)
    [found] = of_answer(now, [hand("2024-01-10", 112), hand("2023-01-10", 96)])
    assert (found.code, found.is_minor) == ("bone_age_fell", False)
    assert found.text == (
        "Bone age fell by 12 months in 14 months: 9 y 4 m on 10 Jan 2024, 8 y 4 m on this film;"
        " check child, side and both readings."
    )
    [found] = of_answer(now, [hand("2025-02-28", 108)])  # 8 months: as two readings of one film differ
    assert found.is_minor and "in 10 days" in found.text
    [found] = of_answer(now, [hand("2025-02-28", 109)])
    assert not found.is_minor


def test_a_bone_age_that_falls_on_a_later_day_is_said_too() -> None:
    [found] = of_answer(hand("2024-01-10", 120), [hand("2025-01-10", 100)])
    assert found.text.startswith("Bone age fell by 20 months in 12 months: 10 y 0 m on this film, 8 y 4 m on 10 Jan")


@pytest.mark.parametrize(
    "others",
    [
        [],
        [hand("2024-01-10", 100)],  # standing still is no contradiction
        [hand("2024-01-10", None)],  # not graded
        [hand("2025-03-10", 130)],  # the same day: two readings, not a course
        [wrist("2024-01-10", "L")],
        [hand("2026-01-10", 130)],  # rises later
    ],
)
def test_no_fall(others: list[Seen]) -> None:
    assert of_answer(hand("2025-03-10", 100), others) == []
    assert of_answer(hand("2025-03-10", None), others) == []


@pytest.mark.parametrize(
    ("before", "now", "code"),
    [
        (eye("2026-01-01", "III"), eye("2026-01-15", "II"), "zone_went_back"),
        (eye("2026-01-01", "none"), eye("2026-06-15", "III"), "zone_went_back"),
        (eye("2026-01-01", "I"), eye("2026-01-29", "III"), "zone_jumped"),
        (eye("2026-01-01", "II"), eye("2026-01-15", "none"), "zone_jumped"),
        (eye("2026-01-01", "I"), eye("2026-01-30", "III"), None),  # 29 days
        (eye("2026-01-01", "I"), eye("2026-01-08", "II"), None),
        (eye("2026-01-01", "II"), eye("2026-01-15", "II"), None),
        (eye("2026-01-01", "III", "L"), eye("2026-01-15", "II", "R"), None),  # the other eye
        (eye("2026-01-01", "III", None), eye("2026-01-15", "II", None), None),  # which eye is not known
        (eye("2026-01-01", "III"), eye("2026-01-15", "II", notch=True), None),
        (eye("2026-01-01", "III"), eye("2026-01-15", "II", reactivation="suspected"), None),
    ],
)
def test_a_zone_that_jumped(before: Seen, now: Seen, code: str | None) -> None:
    assert [found.code for found in of_answer(now, [before])] == ([code] if code else [])


def test_the_zones_are_compared_with_the_nearest_days_on_both_sides() -> None:
    course = [eye("2026-01-01", "I"), eye("2026-02-01", "II"), eye("2026-03-15", "II")]
    assert of_answer(eye("2026-03-01", "II"), course) == []
    [found] = of_answer(eye("2026-03-01", "III"), course)
    assert found.text.startswith("Zone went back: zone III on this film, zone II on 15 Mar 2026.")


def test_a_side_that_changed() -> None:
    found = side_changed(hand("2025-03-10", 100, "R"), [hand("2024-01-10", 90), hand("2023-01-10", 80)])
    assert found is not None and found.text.startswith("Side changed: left on 10 Jan 2024, right on this film.")
    assert side_changed(hand("2025-03-10", 100, "R"), [hand("2024-01-10", 90), hand("2023-01-10", 80, "R")]) is None
    assert side_changed(hand("2025-03-10", 100, None), [hand("2024-01-10", 90)]) is None
    assert side_changed(hand("2023-03-10", 100, "R"), [hand("2024-01-10", 90)]) is None  # later: said there
    assert side_changed(wrist("2026-01-29", "R"), [wrist("2026-01-01", "L")]) is not None
    assert side_changed(wrist("2026-12-29", "R"), [wrist("2026-01-01", "L")]) is None  # another injury
    assert side_changed(eye("2026-01-29", "II", "R"), [eye("2026-01-01", "II", "L")]) is None  # both eyes are seen


@pytest.mark.parametrize(
    ("one", "other", "differ"),
    [
        ("Doe^Jane", "DOE^JANE^^^", False),
        ("Doe^Jane", "Doe^Jane Marie", False),
        ("Doe^J", "Doe^Jane", False),
        ("Doe  ^Jane", "doe^jane^A", False),
        ("Yamada^Tarou=山田^太郎", "Yamada^Tarou", False),
        (None, "Doe^Jane", False),
        ("Doe^Jane", "", False),
        ("Doe", "Doe^Jane", False),  # a given name that is not given differs from none
        ("Doe^Jane", "Roe^Jane", True),
        ("Doe^Jane", "Doe^John", True),
    ],
)
def test_names(one: str | None, other: str | None, differ: bool) -> None:
    assert names_differ(one, other) is names_differ(other, one) is differ
