"""Ages in calendar months, and in words."""

from __future__ import annotations

import calendar
from datetime import date


def age_months_at(birth_date: date, on: date) -> float:
    """Age in calendar months with decimals: full months, plus the days since the last full month as a share of that
    month's length. A child born on the 31st completes a month on the last day of a shorter one.

    Born 2018-01-15, seen 2026-01-10: 95 full months and 26 of 31 days, 95.84. Raises ValueError when `on` is before
    the birth."""
    if on < birth_date:
        raise ValueError(f"the date {on} lies before the birth {birth_date}")
    full_months = (on.year - birth_date.year) * 12 + on.month - birth_date.month
    if _month_day(birth_date, full_months) > on:
        full_months -= 1
    last = _month_day(birth_date, full_months)
    upcoming = _month_day(birth_date, full_months + 1)
    return full_months + (on - last).days / (upcoming - last).days


def _month_day(birth_date: date, months: int) -> date:
    """The day on which the child completes `months` months."""
    years, month0 = divmod(birth_date.month - 1 + months, 12)
    year = birth_date.year + years
    return date(year, month0 + 1, min(birth_date.day, calendar.monthrange(year, month0 + 1)[1]))


def months_words(months: float) -> str:
    """Completed years and months: 110 is "9 y 2 m", 7.9 is "7 m"."""
    years, months = divmod(int(months), 12)
    return f"{years} y {months} m" if years else f"{months} m"
