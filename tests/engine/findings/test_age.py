import calendar
import random
from datetime import date, timedelta

import pytest

from engine.findings.age import age_months_at, months_words


def test_the_worked_example() -> None:
    assert age_months_at(date(2018, 1, 15), date(2026, 1, 10)) == pytest.approx(95 + 26 / 31)


@pytest.mark.parametrize(
    ("birth", "on", "months"),
    [
        (date(2020, 1, 31), date(2020, 2, 29), 1),  # completes the month on the last day of a shorter one
        (date(2020, 1, 31), date(2021, 2, 28), 13),
        (date(2020, 2, 29), date(2021, 2, 28), 12),
        (date(2020, 5, 5), date(2020, 5, 5), 0),
        (date(2010, 5, 5), date(2020, 5, 5), 120),
    ],
)
def test_full_months(birth: date, on: date, months: int) -> None:
    assert age_months_at(birth, on) == months


def test_age_rises_every_day_and_is_whole_on_the_day_of_the_month() -> None:
    rng = random.Random(7)
    for _ in range(50):
        birth = date(2000, 1, 1) + timedelta(days=rng.randrange(6000))
        day, last = birth, -1.0
        for _ in range(400):
            age = age_months_at(birth, day)
            assert age > last
            completes = day.day == min(birth.day, calendar.monthrange(day.year, day.month)[1])
            assert (age == int(age)) == completes
            last, day = age, day + timedelta(days=1)


def test_birth_after_the_date_is_refused() -> None:
    with pytest.raises(ValueError, match="before the birth"):
        age_months_at(date(2020, 1, 2), date(2020, 1, 1))


@pytest.mark.parametrize(("months", "words"), [(110, "9 y 2 m"), (7.9, "7 m"), (12, "1 y 0 m"), (0, "0 m")])
def test_words(months: float, words: str) -> None:
    assert months_words(months) == words
