"""Growth visits over all children: what the database selects and adds up for the figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import ColumnElement, Select, exists, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased

from db.models import GrowthVisit, Image, Patient, Review, Sex, Study, Task, Verdict


@dataclass(frozen=True)
class VisitQuery:
    """Which visits that stand; None and empty mean any. Ages in months, from the first and below the second."""

    is_phantom: bool
    sex: Sex | None = None
    age_months: tuple[float, float] | None = None
    sites: Sequence[str] = ()
    first_day: date | None = None
    last_day: date | None = None

    def apply(self, query: Select[Any]) -> Select[Any]:
        """`query` selects from GrowthVisit."""
        conditions: list[ColumnElement[bool]] = [
            GrowthVisit.withdrawn_at.is_(None),
            GrowthVisit.is_phantom == self.is_phantom,
        ]
        if self.age_months:
            conditions += [
                GrowthVisit.age_months >= self.age_months[0],
                GrowthVisit.age_months < self.age_months[1],
            ]
        if self.sites:
            conditions.append(GrowthVisit.site.in_(self.sites))
        if self.first_day:
            conditions.append(GrowthVisit.measured_on >= self.first_day)
        if self.last_day:
            conditions.append(GrowthVisit.measured_on <= self.last_day)
        if self.sex:
            query = query.join(Patient, Patient.id == GrowthVisit.patient_fk)
            conditions.append(Patient.sex == self.sex)
        return query.where(*conditions)


def latest_of_each_child(
    session: Session, chosen: VisitQuery, columns: Sequence[InstrumentedAttribute[Any]]
) -> list[tuple[Any, ...]]:
    """These columns of every child's latest visit in the selection."""
    newest_first = func.row_number().over(partition_by=GrowthVisit.patient_fk, order_by=GrowthVisit.measured_on.desc())
    visits = chosen.apply(select(*columns, newest_first.label("place"))).subquery()
    query = select(*(visits.c[column.key] for column in columns)).where(visits.c.place == 1)
    return [tuple(row) for row in session.execute(query)]


def sums_of_pairs(
    session: Session,
    chosen: VisitQuery,
    pairs: Sequence[tuple[InstrumentedAttribute[Any], InstrumentedAttribute[Any]]],
    apart: float,
) -> list[tuple[int, float, float, float, float, float, float | None, int]]:
    """For each pair of columns over the visits that have both: n, the sums of x, y, xx, yy, xy, the largest difference
    and how many differ by more than `apart`."""
    parts: list[ColumnElement[Any]] = []
    for x, y in pairs:
        both = x.is_not(None) & y.is_not(None)
        difference = func.abs(x - y)
        parts += [
            func.count(x - y),
            *(func.coalesce(func.sum(term).filter(both), 0.0) for term in (x, y, x * x, y * y, x * y)),
            func.max(difference),
            func.count().filter(difference > apart),
        ]
    row = tuple(session.execute(chosen.apply(select(*parts))).one())
    size = len(parts) // len(pairs)
    return [row[first : first + size] for first in range(0, len(row), size)]


def furthest_apart(
    session: Session,
    chosen: VisitQuery,
    x: InstrumentedAttribute[Any],
    y: InstrumentedAttribute[Any],
    apart: float,
    limit: int,
) -> list[tuple[GrowthVisit, str]]:
    """Visits whose x and y differ by more than `apart`, with the child's pseudonym; the largest difference first."""
    difference = func.abs(x - y)
    child = aliased(Patient)
    query = (
        chosen.apply(select(GrowthVisit, child.pseudonym).join(child, child.id == GrowthVisit.patient_fk))
        .where(difference > apart)
        .order_by(difference.desc(), GrowthVisit.id)
        .limit(limit)
    )
    return [(visit, pseudonym) for visit, pseudonym in session.execute(query)]


def heights_beside_films(
    session: Session, chosen: VisitQuery, within_months: float
) -> list[tuple[int, int, Sex, float, int, float, float]]:
    """Decided bone-age films of children measured within so many months of the film: patient, film's image, sex, age at
    the film, bone age, age at the visit, height for age z. A film comes once for every such visit."""
    later = aliased(Review)
    child = aliased(Patient)
    query = chosen.apply(
        select(
            GrowthVisit.patient_fk,
            Image.id,
            child.sex,
            Study.age_months,
            Review.answer["bone_age_months"].as_integer(),
            GrowthVisit.age_months,
            GrowthVisit.height_for_age_z,
        )
        .select_from(Review)
        .join(Image, Image.id == Review.image_fk)
        .join(Study, Study.id == Image.study_fk)
        .join(child, child.id == Study.patient_fk)
        .join(GrowthVisit, GrowthVisit.patient_fk == Study.patient_fk)
    ).where(
        Study.task == Task.BONE_AGE,
        Review.verdict.in_([Verdict.CONFIRMED, Verdict.CORRECTED]),
        ~exists().where(later.supersedes_id == Review.id),
        child.sex.is_not(None),
        GrowthVisit.height_for_age_z.is_not(None),
        func.abs(GrowthVisit.age_months - Study.age_months) <= within_months,
    )
    return [tuple(row) for row in session.execute(query)]


def has_visits(session: Session, is_phantom: bool) -> bool:
    of_kind = exists().where(GrowthVisit.withdrawn_at.is_(None), GrowthVisit.is_phantom == is_phantom)
    return bool(session.scalar(select(of_kind)))


def site_names(session: Session, is_phantom: bool) -> list[str]:
    query = (
        select(GrowthVisit.site)
        .where(GrowthVisit.withdrawn_at.is_(None), GrowthVisit.is_phantom == is_phantom)
        .distinct()
    )
    return sorted(site for site in session.scalars(query) if site is not None)
