"""The visits of a child: what was measured, with WHO z-scores; entering one, and taking one back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

from sqlalchemy.orm import Session

from db.models import GrowthVisit, Patient, VisitSource
from db.repositories import growth as repository
from engine.errors import NotFound
from engine.findings.growth_visits import ScoredVisit
from engine.services import growth_scores
from engine.services.accounts import READERS, Actor, require


@dataclass(frozen=True)
class GrowthVisitView:
    """`scored.values` has a z or a Refusal for every indicator; `scored.issues` says what is doubtful now, `doubts`
    (codes) what somebody was shown when it was stored. `age_months` is chronological, in calendar months; the age
    that counted (corrected for preterm birth) is `scored.age_months`."""

    visit_id: int
    measured_on: date
    age_months: float | None
    length_height_cm: float | None
    position: Literal["lying", "standing", None]
    weight_kg: float | None
    head_circumference_cm: float | None
    oedema: bool
    site: str | None
    scored: ScoredVisit
    doubts: tuple[str, ...]
    source: VisitSource
    is_phantom: bool
    entered_by: str
    entered_at: datetime


@dataclass(frozen=True)
class ChildGrowth:
    """`visits` are those that stand, the earliest first."""

    patient_id: int
    pseudonym: str
    sex: Literal["M", "F", None]
    birth_date: date | None
    gestational_age_weeks: float | None
    visits: tuple[GrowthVisitView, ...]


def visits_of(session: Session, actor: Actor, patient_id: int) -> ChildGrowth:
    """Of the child with this database id (`Patient.id`). Raises NotFound, NotAllowed."""
    require(actor, *READERS)
    patient = session.get(Patient, patient_id)
    if patient is None:
        raise NotFound(f"there is no child {patient_id}")
    visits = repository.visits_of_patient(session, patient.id)
    results = growth_scores.scored(patient, visits)
    return ChildGrowth(
        patient_id=patient.id,
        pseudonym=patient.pseudonym,
        sex=patient.sex.value if patient.sex else None,
        birth_date=patient.birth_date,
        gestational_age_weeks=patient.gestational_age_weeks,
        visits=tuple(_view(visit, result) for visit, result in zip(visits, results, strict=True)),
    )


def _view(visit: GrowthVisit, scored: ScoredVisit) -> GrowthVisitView:
    return GrowthVisitView(
        visit_id=visit.id,
        measured_on=visit.measured_on,
        age_months=visit.age_months,
        length_height_cm=visit.length_height_cm,
        position=visit.position.value if visit.position else None,
        weight_kg=visit.weight_kg,
        head_circumference_cm=visit.head_circumference_cm,
        oedema=visit.oedema,
        site=visit.site,
        scored=scored,
        doubts=tuple(visit.doubts),
        source=VisitSource(visit.source),
        is_phantom=visit.is_phantom,
        entered_by=visit.entered_by,
        entered_at=visit.entered_at,
    )
