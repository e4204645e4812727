"""Growth visits of the demo's children: on the days of their films and once a year before. Made up, and marked so."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date, timedelta

import numpy as np
from sqlalchemy.orm import Session

from db.models import Role, Study, VisitSource
from db.session import writing
from engine.findings.answers import Task
from engine.findings.bone_age import BoneAgeSds, bone_age_sds
from engine.findings.growth import DAYS_PER_MONTH, Indicator, z_curves
from engine.findings.growth_visits import GrowthZ
from engine.services import audit, growth_scores, visit_checks
from engine.services.accounts import READERS, Actor, require
from engine.services.demo_files import SEED, Child, Examination
from engine.services.visit_checks import WAITS, CheckedVisit, EnteredVisit, State

YEARS_BEFORE = 5
MEASURED_BEFORE_FILM_DAYS = 21
DAYS_A_YEAR = 365
PRETERM_WEEKS = (24, 32)  # the infants whose eyes are looked at
ANOTHER_REFERENCE, ANOTHER_REFERENCE_EVERY = 0.3, 60
KG_AT_TERM, KG_A_WEEK = 3.0, 0.18


def add_visits(
    session: Session,
    actor: Actor,
    examinations: Sequence[Examination],
    study_ids: Sequence[int],
    years_before: int = YEARS_BEFORE,
) -> int:
    """`study_ids`: of the examinations, in their order. Returns how many were added; those here already are left.
    Commits."""
    require(actor, *READERS, Role.SERVICE)
    films: dict[int, list[tuple[Examination, int]]] = {}
    for examination, study_id in zip(examinations, study_ids, strict=True):
        films.setdefault(examination.child.number, []).append((examination, study_id))
    entered = []
    for number, of_child in films.items():
        rng = np.random.default_rng([SEED, number])
        patient_id = session.get_one(Study, of_child[0][1]).patient_fk
        site = f"Site {of_child[0][0].files[0].site}"
        for cells in _visits(rng, [examination for examination, _ in of_child], years_before):
            entered.append(EnteredVisit(cells | {"site": site}, patient_id))
    with writing(session):
        checked = visit_checks.check(session, entered, today=date.today())
        # the demo leaves sex or birth date of a few children out; what else is doubtful would not be a good demo
        added = [
            _with_supplied_z(visit, place)
            for place, visit in enumerate(checked)
            if visit.state is State.READY or (visit.state is State.TO_CHECK and set(visit.doubts) <= WAITS)
        ]
        visit_checks.store(session, actor, added, VisitSource.FORM, is_phantom=True)
        audit.record(session, actor, "growth.entered", "demo", {"visits": len(added)})
    return len(added)


def _with_supplied_z(visit: CheckedVisit, place: int) -> CheckedVisit:
    """Every second visit came with its sender's z-scores, some of them from another reference."""
    if place % 2:
        return visit
    off = ANOTHER_REFERENCE if place % ANOTHER_REFERENCE_EVERY == 0 else 0.0
    supplied = {
        indicator: round(score.z + off, 2)
        for indicator, score in visit.scored.values.items()
        if indicator in growth_scores.STORED and isinstance(score, GrowthZ)
    }
    return replace(visit, supplied=supplied)


def _visits(rng: np.random.Generator, examinations: list[Examination], years_before: int) -> Iterator[dict[str, str]]:
    child, days = examinations[0].child, [examination.acquired_on for examination in examinations]
    if examinations[0].files[0].answer["task"] == Task.ROP:
        yield from _preterm_infant(rng, child, days)
        return
    measured_on = [max(day - timedelta(int(rng.integers(MEASURED_BEFORE_FILM_DAYS))), child.birth_date) for day in days]
    first = min(measured_on)
    measured_on += [
        first - timedelta(DAYS_A_YEAR * years + int(rng.integers(-40, 40))) for years in range(1, 1 + years_before)
    ]
    height_z = _height_z(rng, examinations)
    bmi_z = rng.normal(0.2, 0.9)
    for day in sorted(day for day in set(measured_on) if (day - child.birth_date).days > 14):
        months = (day - child.birth_date).days / DAYS_PER_MONTH
        height = round(_at(Indicator.HEIGHT, child.sex, months, height_z + rng.normal(0, 0.08)), 1)
        bmi = _at(Indicator.BMI, child.sex, months, bmi_z + rng.normal(0, 0.2))
        cells = {
            "measured_on": day.isoformat(),
            "length_height_cm": f"{height:.1f}",
            "measured": "lying" if months < 24 else "standing",
            "weight_kg": f"{bmi * (height / 100) ** 2:.1f}",
        }
        if months < 36:
            cells["head_circumference_cm"] = f"{_at(Indicator.HEAD, child.sex, months, rng.normal(0, 0.6)):.1f}"
        yield cells


def _height_z(rng: np.random.Generator, examinations: list[Examination]) -> float:
    """Children whose bone age is behind are shorter, on the whole."""
    sds = 0.0
    for examination in examinations:
        answer = examination.files[0].answer
        if answer["task"] == Task.BONE_AGE:
            months = (examination.acquired_on - examination.child.birth_date).days / DAYS_PER_MONTH
            found = bone_age_sds(answer["bone_age_months"], months, examination.child.sex)
            sds = found.sds if isinstance(found, BoneAgeSds) else 0.0
    return float(np.clip(0.4 * sds + rng.normal(-0.1, 0.8), -3, 3))


def _preterm_infant(rng: np.random.Generator, child: Child, days: list[date]) -> Iterator[dict[str, str]]:
    """Weight and head circumference; before term WHO has no table for them."""
    weeks, extra_days = int(rng.integers(*PRETERM_WEEKS)), int(rng.integers(7))
    for day in days:
        weeks_to_term = 40 - weeks - ((day - child.birth_date).days + extra_days) / 7
        yield {
            "measured_on": day.isoformat(),
            "weight_kg": f"{max(0.5, KG_AT_TERM - KG_A_WEEK * weeks_to_term + rng.normal(0, 0.15)):.2f}",
            "head_circumference_cm": f"{34.5 - 0.75 * weeks_to_term + rng.normal(0, 0.4):.1f}",
            "gestational_age_weeks": f"{weeks}+{extra_days}",
        }


def _at(indicator: Indicator, sex: str, months: float, z: float) -> float:
    """The measurement with this z, read off the curve."""
    curves = z_curves(indicator, sex, (z,))
    line = curves.values[z]
    known = ~np.isnan(line)
    return float(np.interp(months, curves.age_months[known], line[known]))
