"""Growth visits: of one child, and over all children."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import GrowthVisit, Patient


def visits_of_patient(session: Session, patient_fk: int) -> list[GrowthVisit]:
    """Those that stand, the earliest first."""
    query = (
        select(GrowthVisit)
        .where(GrowthVisit.patient_fk == patient_fk, GrowthVisit.withdrawn_at.is_(None))
        .order_by(GrowthVisit.measured_on)
    )
    return list(session.scalars(query))


def visit_on(session: Session, patient_fk: int, day: date) -> GrowthVisit | None:
    return session.scalar(
        select(GrowthVisit).where(
            GrowthVisit.patient_fk == patient_fk, GrowthVisit.measured_on == day, GrowthVisit.withdrawn_at.is_(None)
        )
    )


def locked_patient(session: Session, patient_fk: int) -> Patient | None:
    """Until the end of the transaction nobody else adds to the child's visits (the row is locked on PostgreSQL)."""
    return session.scalar(
        select(Patient).where(Patient.id == patient_fk).with_for_update().execution_options(populate_existing=True)
    )


def patients_by_name(session: Session, names: Sequence[str]) -> list[Patient]:
    """Children whose patient ID or pseudonym is one of `names`."""
    found: dict[int, Patient] = {}
    for first in range(0, len(names), 500):  # SQLite takes a limited number of values in one statement
        some = names[first : first + 500]
        query = select(Patient).where(Patient.patient_id.in_(some) | Patient.pseudonym.in_(some))
        found |= {patient.id: patient for patient in session.scalars(query)}
    return list(found.values())
