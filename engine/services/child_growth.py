"""The visits of a child: what was measured, with WHO z-scores; entering one, and taking one back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from db.models import GrowthVisit, Patient, Role, VisitSource
from db.repositories import growth as repository
from db.session import writing
from db.types import utc_now
from engine.errors import Conflict, NotFound, Refused
from engine.findings.growth import Indicator
from engine.findings.growth_visits import ScoredVisit
from engine.services import audit, growth_scores, visit_checks
from engine.services.accounts import READERS, Actor, require
from engine.services.visit_checks import CheckedVisit, EnteredVisit, State

CHANGED_MEANWHILE = "a visit of this day was stored in the meantime: look again"

HEIGHT_WITHIN_MONTHS = 3.0  # of the film; a default of this workstation, unverified


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

    def measurement(self, indicator: Indicator) -> float | None:
        """In the indicator's unit (engine.findings.growth.UNITS)."""
        return {
            Indicator.HEIGHT: self.length_height_cm,
            Indicator.WEIGHT: self.weight_kg,
            Indicator.BMI: self.scored.bmi_kg_m2,
            Indicator.HEAD: self.head_circumference_cm,
        }[indicator]


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
    """Of the child with this database id (`Patient.id`). The view is recorded, and that commits. Raises NotFound,
    NotAllowed."""
    require(actor, *READERS)
    found = growth_of(session, patient_id)
    audit.record_view(session, actor, f"patient:{patient_id}")
    return found


def growth_of(session: Session, patient_id: int) -> ChildGrowth:
    """`visits_of`, for the services that have checked and recorded who looks. Raises NotFound."""
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


def check_visit(
    session: Session, actor: Actor, patient_id: int, cells: Mapping[str, str], *, today: date | None = None
) -> CheckedVisit:
    """What would become of a visit typed into the form; nothing is stored. `cells` as text, by the fields of
    growth_mapping, so that "3,5" is seen as it was typed."""
    require(actor, *READERS, Role.SERVICE)
    if session.get(Patient, patient_id) is None:
        raise NotFound(f"there is no child {patient_id}")
    entered = EnteredVisit({name: text.strip() for name, text in cells.items() if text.strip()}, patient_id)
    return visit_checks.check(session, [entered], today=today or date.today())[0]


def add_visit(
    session: Session,
    actor: Actor,
    patient_id: int,
    cells: Mapping[str, str],
    *,
    seen: Iterable[str] = (),
    is_phantom: bool = False,
    today: date | None = None,
) -> int:
    """Stores one visit and returns its id. Commits. `seen`: the codes of the doubts that the user was shown and does
    not share. Raises Refused for a visit that cannot be right, is here already, or has a doubt that nobody has seen;
    Conflict when somebody else stored a visit of that day just now."""
    try:
        with writing(session):
            checked = check_visit(session, actor, patient_id, cells, today=today)
            unseen = [issue for issue in checked.issues if issue.code in set(checked.doubts) - set(seen)]
            if checked.state is not State.READY and (checked.state is not State.TO_CHECK or unseen):
                code = next((issue.code for issue in checked.issues if issue.withholds), "to_check")
                raise Refused(code, "; ".join(issue.message for issue in unseen or checked.issues))
            [visit] = visit_checks.store(session, actor, [checked], VisitSource.FORM, is_phantom=is_phantom)
            detail = {"visit": visit.id, "doubts": visit.doubts}
            audit.record(session, actor, "growth.entered", f"patient:{patient_id}", detail)
            return visit.id
    except IntegrityError as error:
        raise Conflict(CHANGED_MEANWHILE) from error


def withdraw_visit(session: Session, actor: Actor, visit_id: int, reason: str) -> None:
    """The visit no longer counts; it stays in the database. Commits. Raises NotFound, Conflict when it is withdrawn
    already, Refused("reason_missing")."""
    require(actor, *READERS)
    reason = reason.replace("\0", "").strip()
    if not reason:
        raise Refused("reason_missing", "say in a few words what is wrong with the visit")
    with writing(session):
        visit = session.get(GrowthVisit, visit_id, with_for_update=True)
        if visit is None:
            raise NotFound(f"there is no visit {visit_id}")
        if visit.withdrawn_at is not None:
            raise Conflict(f"{visit.withdrawn_by} has withdrawn this visit already")
        visit.withdrawn_by, visit.withdrawn_at, visit.withdrawn_reason = actor.username, utc_now(), reason
        audit.record(session, actor, "growth.withdrawn", f"patient:{visit.patient_fk}", {"visit": visit.id})


@dataclass(frozen=True)
class ChildRow:
    """A child to choose from. `patient_id` is the database's id."""

    patient_id: int
    pseudonym: str
    sex: Literal["M", "F", None]
    birth_date: date | None
    visits: int


def find_children(session: Session, actor: Actor, search: str = "", limit: int = 50) -> list[ChildRow]:
    """Children whose pseudonym or patient ID has `search` in it, without one those whose visits came last; those with
    the most visits first."""
    require(actor, *READERS)
    return [_child_row(patient, visits) for patient, visits in repository.children(session, search.strip(), limit)]


def child_row(session: Session, actor: Actor, patient_id: int) -> ChildRow:
    """Raises NotFound."""
    require(actor, *READERS)
    patient = session.get(Patient, patient_id)
    if patient is None:
        raise NotFound(f"there is no child {patient_id}")
    return _child_row(patient, len(repository.visits_of_patient(session, patient_id)))


def _child_row(patient: Patient, visits: int) -> ChildRow:
    return ChildRow(
        patient.id, patient.pseudonym, patient.sex.value if patient.sex else None, patient.birth_date, visits
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
