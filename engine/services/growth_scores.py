"""What follows from a visit: the age and WHO z-scores, kept beside what was measured so that the database can count.

Whatever changes what is known of the child (sex, birth date, gestational age) calls `refresh` in its transaction."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy.orm import Session

from db.models import GrowthVisit, Patient
from db.repositories import growth as repository
from engine.findings.age import age_months_at
from engine.findings.growth import Indicator
from engine.findings.growth_visits import GrowthZ, ScoredVisit, Visit, score_visits

STORED = (Indicator.HEIGHT, Indicator.WEIGHT, Indicator.BMI, Indicator.HEAD)  # columns: the indicator's name + "_z"


def measured(patient: Patient, visit: GrowthVisit) -> Visit:
    """The stored visit as the growth module takes it. Without a birth date there is no age."""
    days = None if patient.birth_date is None else (visit.measured_on - patient.birth_date).days
    return Visit(
        sex=patient.sex.value if patient.sex else None,
        age_days=days,
        weight_kg=visit.weight_kg,
        length_height_cm=visit.length_height_cm,
        measured=visit.position.value if visit.position else None,
        head_circumference_cm=visit.head_circumference_cm,
        oedema=visit.oedema,
        gestational_age_weeks=patient.gestational_age_weeks,
    )


def scored(patient: Patient, visits: Sequence[GrowthVisit]) -> list[ScoredVisit]:
    return score_visits([measured(patient, visit) for visit in visits])


def keep(patient: Patient, visit: GrowthVisit, result: ScoredVisit) -> None:
    """Age and z of `result` into the visit's columns; NULL where there is none."""
    born = patient.birth_date
    known = born is not None and born <= visit.measured_on
    visit.age_months = age_months_at(born, visit.measured_on) if known else None
    for indicator in STORED:
        score = result.values[indicator]
        setattr(visit, f"{indicator}_z", score.z if isinstance(score, GrowthZ) else None)


def refresh(session: Session, patient: Patient) -> None:
    visits = repository.visits_of_patient(session, patient.id)
    for visit, result in zip(visits, scored(patient, visits), strict=True):
        keep(patient, visit, result)
