"""How numbers, dates and closed sets read on the screen."""

from __future__ import annotations

from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import streamlit as st

from db.models import RejectReason, StudyStatus, Verdict
from engine.findings.additions import Bone, Method, Region, Substage
from engine.findings.age import months_words
from engine.findings.answers import Fracture, Plus, Stage, Task, Zone
from engine.findings.fracture import FractureClass
from engine.findings.rop import Reactivation, Regression, Treatment
from engine.findings.urgency import Level
from engine.services.worklist import Whose

NOT_FOR_DIAGNOSIS = "not for diagnostic use"

TASK = {Task.BONE_AGE: "Bone age", Task.ROP: "ROP", Task.FRACTURE: "Fracture"}
BODY_PART = {Task.BONE_AGE: "Hand", Task.ROP: "Fundus", Task.FRACTURE: "Wrist"}
SIDE = {"L": "left", "R": "right"}
CHILD = {"M": "boy", "F": "girl"}
STATUS = {
    StudyStatus.AWAITING_READ: "Awaiting read",
    StudyStatus.AWAITING_REVIEW: "To review",
    StudyStatus.REVIEWED: "Reviewed",
    StudyStatus.REJECTED: "Rejected",
}
URGENCY = {Level.NONE: "", Level.SOON: "Soon", Level.URGENT: "Urgent", Level.IMMEDIATE: "Immediate"}
WHOSE = {Whose.ANYBODYS: "Anybody's", Whose.MINE: "Mine", Whose.NOBODYS: "Nobody's"}
VERDICT = {
    Verdict.CONFIRMED: "confirmed",
    Verdict.CORRECTED: "corrected to",
    Verdict.REJECTED: "rejected",
    Verdict.WITHDRAWN: "withdrawn",
}
REJECT_REASON = {
    RejectReason.WRONG_SIDE: "Wrong side",
    RejectReason.POOR_QUALITY: "Poor quality",
    RejectReason.WRONG_CHILD: "Wrong child",
    RejectReason.WRONG_VIEW: "Wrong view",
    RejectReason.NOT_READABLE: "Not readable",
    RejectReason.OTHER: "Other",
}
ZONE = {Zone.I: "I", Zone.II: "II", Zone.III: "III", Zone.NONE: "none"}
STAGE = {stage: stage.value for stage in Stage}
PLUS = {Plus.NONE: "none", Plus.PREPLUS: "pre-plus", Plus.PLUS: "plus"}
FRACTURE = {Fracture.DISTAL_RADIUS: "Distal radius", Fracture.BUCKLE: "Buckle", Fracture.NORMAL: "Normal"}
ADDITION = {
    "method": "Method",
    "substage": "Letter of stage 4 or 5",
    "regression": "Regression",
    "reactivation": "Reactivation",
    "treatment": "Treated",
    "fracture_class": "Class",
    "bone": "Bone",
    "region": "Region",
    "displaced": "Position",
}
EYE_FLAGS = {"aggressive": "A-ROP", "notch": "Notch", "posterior_zone_ii": "Posterior zone II"}
DANGERS = {
    "open_fracture": "Open",
    "neurovascular_deficit": "Neurovascular deficit",
    "compartment_syndrome": "Compartment syndrome",
    "galeazzi_or_monteggia": "Galeazzi, Monteggia",
    "corner_fracture": "Corner fracture",
    "history_inconsistent": "History inconsistent",
}
CHOICES = {  # what is said by choosing nothing is not among them
    "method": {Method.BY_EYE: "By eye", Method.ATLAS: "Atlas", Method.ATLAS_BONE_BY_BONE: "Bone by bone"},
    "substage": {letter: letter.upper() for letter in Substage},
    "regression": {Regression.INCOMPLETE: "Incomplete", Regression.COMPLETE: "Complete"},
    "reactivation": {Reactivation.SUSPECTED: "Suspected", Reactivation.YES: "Seen"},
    "treatment": {Treatment.LASER: "Laser", Treatment.ANTI_VEGF: "Anti-VEGF"},
    "fracture_class": {
        FractureClass.GREENSTICK: "Greenstick",
        FractureClass.COMPLETE: "Complete",
        FractureClass.SH1: "SH I",
        FractureClass.SH2: "II",
        FractureClass.SH3: "III",
        FractureClass.SH4: "IV",
        FractureClass.SH5: "V",
    },
    "bone": {Bone.RADIUS: "Radius", Bone.ULNA: "Ulna", Bone.BOTH: "Both"},
    "region": {Region.PHYSIS: "Growth plate", Region.METAPHYSIS: "Metaphysis", Region.SHAFT: "Shaft"},
    "displaced": {False: "Not displaced", True: "Displaced"},
}
FACT = {
    "task": "what it shows",
    "sex": "the child's sex",
    "laterality": "the side",
    "birth_date": "the birth date",
}
MISSING = "not known"


def age(months: float | None) -> str:
    """Whole years and months, as 9 y 4 m."""
    return MISSING if months is None else months_words(months)


def day(value: date | None) -> str:
    return f"{value.day} {value:%b %Y}" if value else MISSING


def deadline(by: date) -> str:
    """As by 12 Jul, 2 days left. The day is the reader's."""
    left = (by - datetime.now(_reader_zone()).date()).days
    when = "today" if left == 0 else f"{counted(left, 'day')} left" if left > 0 else f"{counted(-left, 'day')} over"
    return f"by {by.day} {by:%b}, {when}"


def moment(value: datetime) -> str:
    """In the reader's own time zone; today's without the date."""
    local = value.astimezone(_reader_zone())
    if local.date() == datetime.now(local.tzinfo).date():
        return f"{local:%H:%M}"
    return f"{day(local.date())}, {local:%H:%M}"


def in_zone(local: datetime) -> datetime:
    """A time on the reader's own clock."""
    return local.replace(tzinfo=_reader_zone())


def sentence(text: str) -> str:
    """With a capital at its start."""
    return text[:1].upper() + text[1:]


def counted(count: int, singular: str, plural: str | None = None) -> str:
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def size(bytes_: int) -> str:
    if bytes_ < 1000:
        return f"{bytes_} B"
    return f"{bytes_ / 1000:.0f} kB" if bytes_ < 1_000_000 else f"{bytes_ / 1_000_000:.1f} MB"


def _reader_zone() -> ZoneInfo | type[UTC]:
    try:
        return ZoneInfo(st.context.timezone) if st.context.timezone else UTC
    except (ZoneInfoNotFoundError, ValueError):
        return UTC


# Columns of a growth table, as they stand in the remarks about a visit.
GROWTH_COLUMN = {
    "length_height_cm": "length or height",
    "weight_kg": "weight",
    "head_circumference_cm": "head circumference",
    "gestational_age_weeks": "gestational age",
    "measured_on": "date of the visit",
    "birth_date": "birth date",
    "age_days": "age in days",
    "age_months": "age in months",
}


def growth_remark(message: str) -> str:
    """A remark about a visit without the names of columns."""
    for column, plain in GROWTH_COLUMN.items():
        message = message.replace(column, plain)
    return message.replace("supplied_", "supplied ").replace("_for_age_z", " z").replace("head_circ", "head circ")
