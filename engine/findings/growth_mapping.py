"""Which column of somebody's file is which measurement, and how the file writes units, decimals and dates.

The user says so and sees it; nothing is guessed from the values. A cell that is not written in the way that was said
is flagged on its row and not read."""

from __future__ import annotations

import re
from collections.abc import Mapping as Cells
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from engine.findings.growth import Indicator
from engine.findings.growth_table import NUMBER, UNKNOWN
from engine.findings.growth_visits import HEAD, HEIGHT, WEIGHT, Issue

CHILD, DAY = "child", "measured_on"
SUPPLIED = {
    f"supplied_{indicator}_z": indicator
    for indicator in (Indicator.HEIGHT, Indicator.WEIGHT, Indicator.BMI, Indicator.HEAD)
}
SIGNED_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")

# Every field with the names by which files call it, spelled without anything but letters and digits.
FIELDS: dict[str, tuple[str, ...]] = {
    CHILD: ("patientid", "child", "childid", "pseudonym", "id", "patient", "pid", "mrn"),
    DAY: ("measuredon", "dateofvisit", "visitdate", "date", "dateofmeasurement", "visit", "datum"),
    HEIGHT: ("lengthheightcm", "lengthheight", "lenhei", "heightcm", "height", "length", "lengthcm", "stature"),
    WEIGHT: ("weightkg", "weight", "wt"),
    HEAD: ("headcircumferencecm", "headcircumference", "headc", "headccm", "hc", "ofc"),
    "measured": ("measured", "measure", "position", "lyingstanding"),
    "oedema": ("oedema", "edema"),
    "sex": ("sex", "gender"),
    "birth_date": ("birthdate", "dateofbirth", "dob", "born"),
    "age_days": ("agedays", "ageindays"),
    "age_months": ("agemonths", "ageinmonths"),
    "gestational_age_weeks": ("gestationalageweeks", "gestationalage", "ga", "gestation"),
    "site": ("site", "clinic", "hospital"),
    "supplied_height_for_age_z": ("heightforagez", "haz", "zlengthheight", "zheight", "lhfaz", "zlen", "hfaz"),
    "supplied_weight_for_age_z": ("weightforagez", "waz", "zweight", "wfaz", "zwei"),
    "supplied_bmi_for_age_z": ("bmiforagez", "baz", "zbmi", "bmifaz", "bmiz"),
    "supplied_head_circumference_for_age_z": ("headcircumferenceforagez", "hcz", "zheadc", "hcfaz", "zhc"),
}
NUMBERS = (HEIGHT, WEIGHT, HEAD, "age_days", "age_months", *SUPPLIED)
DATES = (DAY, "birth_date")

# How a file may write a measurement, and what one of it is in ours. The first is ours.
UNITS: dict[str, dict[str, float]] = {
    HEIGHT: {"cm": 1.0, "m": 100.0, "mm": 0.1, "inches": 2.54},
    WEIGHT: {"kg": 1.0, "g": 0.001, "pounds": 0.45359237},
    HEAD: {"cm": 1.0, "mm": 0.1, "inches": 2.54},
}


class DateOrder(StrEnum):
    ISO = "YYYY-MM-DD"
    DOTS = "DD.MM.YYYY"
    DAY_FIRST = "DD/MM/YYYY"
    MONTH_FIRST = "MM/DD/YYYY"


DATE_CODES = {
    DateOrder.ISO: "%Y-%m-%d",
    DateOrder.DOTS: "%d.%m.%Y",
    DateOrder.DAY_FIRST: "%d/%m/%Y",
    DateOrder.MONTH_FIRST: "%m/%d/%Y",
}


@dataclass(frozen=True)
class Mapping:
    """`columns`: field of FIELDS to the file's column; `units`: HEIGHT, WEIGHT, HEAD to a unit of UNITS."""

    columns: dict[str, str]
    units: dict[str, str] = field(default_factory=dict)
    decimal: str = "."
    dates: DateOrder = DateOrder.ISO

    def missing(self) -> list[str]:
        """What has to be mapped before rows can be read, in words."""
        missing = [words for name, words in ((CHILD, "the child"), (DAY, "the date")) if name not in self.columns]
        if not {HEIGHT, WEIGHT, HEAD} & self.columns.keys():
            missing.append("a measurement (height, weight or head circumference)")
        return missing

    def twice(self) -> list[str]:
        """Columns of the file that are mapped to more than one field."""
        chosen = list(self.columns.values())
        return sorted({column for column in chosen if chosen.count(column) > 1})


def guess(columns: Sequence[str]) -> dict[str, str]:
    """The columns whose names are unmistakable; units and the way of writing are never guessed."""
    found: dict[str, str] = {}
    for name, known in FIELDS.items():
        for spelling in (re.sub(r"[^a-z0-9]", "", name), *known):
            column = next(
                (c for c in columns if _plain(c) == spelling and c not in found.values()),
                None,
            )
            if column is not None:
                found[name] = column
                break
    return found


def read(cells: Cells[str, str], mapping: Mapping) -> tuple[dict[str, str], list[Issue]]:
    """The cells by our fields, in our units, decimals and dates; and what is not written as was said."""
    read: dict[str, str] = {}
    issues: list[Issue] = []
    for name, column in mapping.columns.items():
        text = (cells.get(column) or "").strip()
        if text.lower() in UNKNOWN:
            continue
        if name in NUMBERS:
            text, issue = _number(name, text, mapping)
        elif name in DATES:
            text, issue = _date(name, text, mapping.dates)
        else:
            issue = None
        if issue is not None:
            issues.append(issue)
        elif text:
            read[name] = text
    return read, issues


def _number(name: str, text: str, mapping: Mapping) -> tuple[str, Issue | None]:
    about = "age" if name.startswith("age_") else name
    if mapping.decimal == ",":
        if "." in text:
            return text, Issue(
                "decimal_point", about, f"{name} {text!r} has a point, and the file is said to write commas"
            )
        text = text.replace(",", ".")
    if name in SUPPLIED and not SIGNED_NUMBER.fullmatch(text):
        code = "decimal_comma" if "," in text else "not_a_number"
        return text, Issue(code, name, f"{name} {text!r} is not a plain number: left out", withholds=False)
    factor = UNITS.get(name, {}).get(mapping.units.get(name, ""), 1.0)
    if factor != 1.0 and NUMBER.fullmatch(text):
        text = f"{float(text) * factor:.6f}".rstrip("0").rstrip(".")
    return text, None


def _date(name: str, text: str, order: DateOrder) -> tuple[str, Issue | None]:
    try:
        if len(text) != 10:  # strptime also takes 1.2.2020
            raise ValueError(text)
        return datetime.strptime(text, DATE_CODES[order]).date().isoformat(), None
    except ValueError:
        about = "age" if name == DAY else name
        return text, Issue("not_a_date", about, f"{name} {text!r} is not a date as {order}")


def _plain(column: str) -> str:
    return re.sub(r"[^a-z0-9]", "", column.lower())
