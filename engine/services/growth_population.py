"""Growth of all children at once: distributions of z, bone age beside height, supplied z beside WHO's.

Every child counts once: with the latest visit of the selection, and for bone age with the latest film that has a height
beside it. Phantom visits and real ones are never counted together."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Literal

import numpy as np
from sqlalchemy.orm import Session

from db.models import GrowthVisit, Sex
from db.repositories import growth_population as repository
from db.repositories.growth_population import VisitQuery
from engine import growth_figures
from engine.findings import bone_age
from engine.findings.bone_age import SdTable
from engine.findings.growth import PLAUSIBLE_Z, Indicator
from engine.growth_figures import ROUNDING, Agreement, Distribution, Sums
from engine.radiology_metrics import Interval
from engine.services.accounts import READERS, Actor, require
from engine.services.child_growth import HEIGHT_WITHIN_MONTHS
from engine.services.growth_scores import STORED

WORST = 20


@dataclass(frozen=True)
class PopulationFilter:
    """None and empty mean any. `age_months`: from the first, below the second, at the visit."""

    sex: Literal["M", "F", None] = None
    age_months: tuple[float, float] | None = None
    sites: tuple[str, ...] = ()
    first_day: date | None = None
    last_day: date | None = None
    is_phantom: bool = False

    def query(self) -> VisitQuery:
        return VisitQuery(
            is_phantom=self.is_phantom,
            sex=Sex(self.sex) if self.sex else None,
            age_months=self.age_months,
            sites=self.sites,
            first_day=self.first_day,
            last_day=self.last_day,
        )


@dataclass(frozen=True)
class Here:
    """What there is to choose from: the sites of real visits and of phantoms. No key, no visits of that kind."""

    sites: dict[bool, list[str]]  # by is_phantom


@dataclass(frozen=True)
class BoneAgeAndHeight:
    """`height_z` and `sds` (children,): one point a child; `r` their correlation."""

    n: int
    r: Interval
    table: SdTable
    height_z: np.ndarray
    sds: np.ndarray


@dataclass(frozen=True)
class Difference:
    """A supplied z that is not WHO's."""

    pseudonym: str
    measured_on: date
    supplied: float
    ours: float


def what_is_here(session: Session, actor: Actor) -> Here:
    require(actor, *READERS)
    kinds = [is_phantom for is_phantom in (False, True) if repository.has_visits(session, is_phantom)]
    return Here({is_phantom: repository.site_names(session, is_phantom) for is_phantom in kinds})


def distributions(session: Session, actor: Actor, chosen: PopulationFilter) -> dict[Indicator, Distribution]:
    require(actor, *READERS)
    columns = [_z(indicator) for indicator in STORED]
    rows = repository.latest_of_each_child(session, chosen.query(), columns)
    z = np.array(rows, float).reshape(-1, len(STORED))  # (children, indicators), None becomes NaN
    return {
        indicator: growth_figures.distribution(z[:, i], PLAUSIBLE_Z[indicator]) for i, indicator in enumerate(STORED)
    }


def bone_age_and_height(
    session: Session, actor: Actor, chosen: PopulationFilter, table: SdTable = SdTable.GREULICH_PYLE
) -> BoneAgeAndHeight:
    """Bone-age SDS of decided films against the height for age z measured nearest to the film. The filter is about the
    visit; a z that WHO flags as an error is left out, and so is a film outside the SD table."""
    require(actor, *READERS)
    rows = repository.heights_beside_films(session, chosen.query(), HEIGHT_WITHIN_MONTHS)
    if not rows:
        empty = np.array([])
        return BoneAgeAndHeight(0, growth_figures.not_enough(0), table, empty, empty)
    patient, image, sex, film_age, months, visit_age, z = (np.array(column) for column in zip(*rows, strict=True))
    low, high = PLAUSIBLE_Z[Indicator.HEIGHT]
    sds = bone_age.bone_age_sds_values(months.astype(float), film_age.astype(float), sex, table)
    counts = ~np.isnan(sds) & (np.round(z, 2) >= low) & (np.round(z, 2) <= high)
    # of each child the latest film, of that the nearest visit
    order = np.lexsort((-visit_age, np.abs(visit_age - film_age), -image, -film_age, patient))
    order = order[counts[order]]
    _, first = np.unique(patient[order], return_index=True)
    kept = order[first]
    return BoneAgeAndHeight(
        len(kept), growth_figures.correlation(Sums.of(z[kept], sds[kept])), table, z[kept], sds[kept]
    )


def supplied_agreement(session: Session, actor: Actor, chosen: PopulationFilter) -> dict[Indicator, Agreement]:
    """Every visit of the selection that came with a z of its sender's."""
    require(actor, *READERS)
    pairs = [(_supplied(indicator), _z(indicator)) for indicator in STORED]
    rows = repository.sums_of_pairs(session, chosen.query(), pairs, ROUNDING)
    return {
        indicator: growth_figures.agreement(Sums(*row[:6]), row[6], row[7])
        for indicator, row in zip(STORED, rows, strict=True)
    }


def differences(session: Session, actor: Actor, chosen: PopulationFilter, indicator: Indicator) -> list[Difference]:
    """The visits whose supplied z is furthest from WHO's."""
    require(actor, *READERS)
    supplied, ours = _supplied(indicator), _z(indicator)
    found = repository.furthest_apart(session, chosen.query(), supplied, ours, ROUNDING, WORST)
    return [
        Difference(pseudonym, visit.measured_on, getattr(visit, supplied.key), getattr(visit, ours.key))
        for visit, pseudonym in found
    ]


def _z(indicator: Indicator):
    return getattr(GrowthVisit, f"{indicator}_z")


def _supplied(indicator: Indicator):
    return getattr(GrowthVisit, f"supplied_{indicator}_z")
