"""Bone ages of a child, for its growth chart: what was decided, else what was read, as far as the actor may know it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from sqlalchemy.orm import Session

from db.models import Task
from db.repositories import studies as repository
from db.repositories.reads import latest_predictions
from engine.findings.bone_age import BoneAgeSds, SdTable, bone_age_sds
from engine.findings.reference import Refusal
from engine.services import blind_reading
from engine.services.accounts import READERS, Actor, require
from engine.services.child_growth import HEIGHT_WITHIN_MONTHS, GrowthVisitView


@dataclass(frozen=True)
class BoneAgeOfFilm:
    """`is_decided`: by a reader; else it is the model's read. `height_cm`: measured nearest to the film, None where
    nobody measured within HEIGHT_WITHIN_MONTHS of it."""

    study_id: int
    acquired_on: date | None
    age_months: float
    bone_age_months: int
    is_decided: bool
    sds: BoneAgeSds | Refusal
    height_cm: float | None


def bone_ages_of(
    session: Session,
    actor: Actor,
    patient_id: int,
    visits: Sequence[GrowthVisitView],
    table: SdTable = SdTable.GREULICH_PYLE,
) -> list[BoneAgeOfFilm]:
    """Of films at a known age, the earliest first; what the actor must not know yet is left out. `visits` of the same
    child give the heights."""
    require(actor, *READERS)
    studies = repository.studies_of_patient(session, patient_id)
    studies = [one for one in studies if one.task == Task.BONE_AGE and one.age_months is not None]
    image_ids = [image.id for study in studies for image in study.images]
    if not image_ids:
        return []
    known = blind_reading.known_to(session, actor, studies, latest_only=True)
    reads = latest_predictions(session, image_ids)
    found = []
    for study in studies:
        for image in study.images:
            decision = known.decision(image.id)
            read = None if image.id in known.hidden_reads else reads.get(image.id)
            answer = decision.answer if decision else read.answer if read else None
            if answer is None or "bone_age_months" not in answer:
                continue
            months = int(answer["bone_age_months"])
            sex = study.patient.sex.value if study.patient.sex else None
            found.append(
                BoneAgeOfFilm(
                    study_id=study.id,
                    acquired_on=study.acquired_on,
                    age_months=study.age_months,
                    bone_age_months=months,
                    is_decided=decision is not None,
                    sds=bone_age_sds(months, study.age_months, sex, table),
                    height_cm=_height_near(study.age_months, visits),
                )
            )
    return sorted(found, key=lambda one: (one.age_months, one.study_id))


def _height_near(age_months: float, visits: Sequence[GrowthVisitView]) -> float | None:
    measured = [
        (abs(visit.age_months - age_months), visit.length_height_cm)
        for visit in visits
        if visit.age_months is not None and visit.length_height_cm is not None
    ]
    apart, height = min(measured, default=(HEIGHT_WITHIN_MONTHS + 1, None))
    return height if apart <= HEIGHT_WITHIN_MONTHS else None
