"""Growth visits: of one child, and over all children."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from db.models import GrowthVisit, Patient

PORTION = 500
LATEST_VISITS = 600


def visits_of_patient(session: Session, patient_fk: int) -> list[GrowthVisit]:
    """Those that stand, the earliest first."""
    query = (
        select(GrowthVisit)
        .where(GrowthVisit.patient_fk == patient_fk, GrowthVisit.withdrawn_at.is_(None))
        .order_by(GrowthVisit.measured_on)
    )
    return list(session.scalars(query))


def visits_of_patients(session: Session, patient_fks: Sequence[int]) -> dict[int, list[GrowthVisit]]:
    """Those that stand, by child; children without visits are left out."""
    found: dict[int, list[GrowthVisit]] = defaultdict(list)
    for some in _portions(patient_fks):
        query = select(GrowthVisit).where(GrowthVisit.patient_fk.in_(some), GrowthVisit.withdrawn_at.is_(None))
        for visit in session.scalars(query):
            found[visit.patient_fk].append(visit)
    return dict(found)


def patients(session: Session, patient_fks: Iterable[int]) -> list[Patient]:
    found: list[Patient] = []
    for some in _portions(list(patient_fks)):
        found += session.scalars(select(Patient).where(Patient.id.in_(some)))
    return found


def patients_by_name(session: Session, names: Sequence[str]) -> list[Patient]:
    """Children whose patient ID or pseudonym is one of `names`."""
    found: dict[int, Patient] = {}
    for some in _portions(names):
        query = select(Patient).where(or_(Patient.patient_id.in_(some), Patient.pseudonym.in_(some)))
        found |= {patient.id: patient for patient in session.scalars(query)}
    return list(found.values())


def children(session: Session, search: str, limit: int) -> list[tuple[Patient, int]]:
    """Children with how many visits of theirs stand, those with the most first. Without a `search`, those whose visits
    came last, and after them those without."""
    if search:
        named = or_(
            Patient.pseudonym.icontains(search, autoescape=True), Patient.patient_id.icontains(search, autoescape=True)
        )
        found = list(session.scalars(select(Patient).where(named).order_by(Patient.id).limit(limit)))
    else:
        stand = select(GrowthVisit.patient_fk).where(GrowthVisit.withdrawn_at.is_(None))
        latest = session.scalars(stand.order_by(GrowthVisit.id.desc()).limit(LATEST_VISITS))
        found = patients(session, list(dict.fromkeys(latest))[:limit])
        others = select(Patient).where(Patient.id.not_in([patient.id for patient in found])).order_by(Patient.id)
        found += session.scalars(others.limit(limit - len(found)))
    of_them = (
        select(GrowthVisit.patient_fk, func.count())
        .where(GrowthVisit.withdrawn_at.is_(None), GrowthVisit.patient_fk.in_([patient.id for patient in found]))
        .group_by(GrowthVisit.patient_fk)
    )
    counts = {patient_fk: count for patient_fk, count in session.execute(of_them)}
    found.sort(key=lambda patient: (-counts.get(patient.id, 0), patient.id))
    return [(patient, counts.get(patient.id, 0)) for patient in found]


def _portions(values: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """SQLite takes a limited number of values in one statement."""
    for first in range(0, len(values), PORTION):
        yield values[first : first + PORTION]
