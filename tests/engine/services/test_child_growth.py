"""engine.services.child_growth: the visits of a child, and z-scores that follow what is known of the child."""

from __future__ import annotations

from datetime import date

import pytest
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from db.models import GrowthVisit, Patient, Sex, VisitSource
from db.types import utc_now
from engine.errors import NotAllowed, NotFound
from engine.findings.growth import Indicator
from engine.findings.growth_visits import GrowthZ
from engine.findings.reference import Refusal
from engine.services import case_state, child_growth, growth_scores
from engine.services.accounts import demo_reader, service_actor

READER = demo_reader()


def child(session: Session, **facts: object) -> Patient:
    values = {"pseudonym": "P-AAAAAA", "patient_id": "1", "sex": Sex.MALE, "birth_date": date(2020, 1, 15), **facts}
    patient = Patient(**values)
    session.add(patient)
    session.flush()
    return patient


def visit(session: Session, patient: Patient, **values: object) -> GrowthVisit:
    row = GrowthVisit(
        **{
            "patient_fk": patient.id,
            "measured_on": date(2025, 1, 15),
            "length_height_cm": 110.0,
            "weight_kg": 18.5,
            "source": VisitSource.FORM,
            "entered_by": "a",
            **values,
        }
    )
    session.add(row)
    session.flush()
    growth_scores.refresh(session, patient)
    return row


def test_visits_come_with_z_scores_the_earliest_first(session: Session) -> None:
    patient = child(session)
    later = visit(session, patient)
    earlier = visit(session, patient, measured_on=date(2023, 1, 15), length_height_cm=None, weight_kg=14.3)
    growth = child_growth.visits_of(session, READER, patient.id)
    assert [one.visit_id for one in growth.visits] == [earlier.id, later.id]
    height = growth.visits[1].scored.values[Indicator.HEIGHT]
    assert isinstance(height, GrowthZ) and round(height.z, 2) == 0.06  # WHO prints 109.7 +- 4.6 for a boy of 5
    assert height.z == later.height_for_age_z
    assert later.age_months == 60
    missing = growth.visits[0].scored.values[Indicator.HEIGHT]
    assert isinstance(missing, Refusal) and missing.code == "not_measured"
    assert earlier.height_for_age_z is None


def test_a_fact_that_becomes_known_gives_the_scores(session: Session) -> None:
    patient = child(session, sex=None)
    row = visit(session, patient)
    assert (row.height_for_age_z, row.age_months) == (None, 60)
    patient.sex = Sex.FEMALE
    case_state.learn_about_patient(session, patient)
    girl = row.height_for_age_z
    patient.sex = Sex.MALE
    case_state.learn_about_patient(session, patient)
    assert girl is not None and row.height_for_age_z is not None and girl > row.height_for_age_z


def test_a_child_born_early_is_scored_at_the_corrected_age(session: Session) -> None:
    patient = child(session, birth_date=date(2024, 1, 15))
    row = visit(session, patient, measured_on=date(2024, 7, 15), length_height_cm=64.0, weight_kg=None)
    at_age = row.height_for_age_z
    patient.gestational_age_weeks = 30.0
    growth_scores.refresh(session, patient)
    assert row.height_for_age_z > at_age
    [view] = child_growth.visits_of(session, READER, patient.id).visits
    assert view.scored.age_basis == "corrected age"
    assert view.age_months == 6


def test_one_visit_a_day_stands(session: Session) -> None:
    patient = child(session)
    first = visit(session, patient)
    first.withdrawn_at, first.withdrawn_by = utc_now(), "a"
    session.flush()
    visit(session, patient)
    assert len(child_growth.visits_of(session, READER, patient.id).visits) == 1
    with pytest.raises(IntegrityError):
        visit(session, patient)


@pytest.mark.parametrize(
    "values",
    [{"length_height_cm": None, "weight_kg": None}, {"withdrawn_by": "a"}],
    ids=["nothing measured", "withdrawn at no time"],
)
def test_the_database_refuses_what_is_no_visit(session: Session, values: dict) -> None:
    with pytest.raises(IntegrityError):
        visit(session, child(session), **values)


def test_who_may_look(session: Session) -> None:
    with pytest.raises(NotFound):
        child_growth.visits_of(session, READER, 99)
    with pytest.raises(NotAllowed):
        child_growth.visits_of(session, service_actor("worker"), 99)
