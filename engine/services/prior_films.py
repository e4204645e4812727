"""Earlier films of the same child, to lay beside the one under review: pixels and dates, never what was read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from sqlalchemy.orm import Session

from db.models import Image, Study
from db.repositories import studies as repository
from engine.errors import Damaged, NotFound
from engine.services.accounts import READERS, Actor, require
from engine.services.shown_film import ShownFilm, film_fields

MOST = 8  # films; older ones are on the worklist


@dataclass(frozen=True, kw_only=True)
class PriorFilm(ShownFilm):
    study_id: int
    acquired_on: date
    age_months: float | None


def prior_films(session: Session, actor: Actor, image_id: int) -> list[PriorFilm]:
    """Films of the same child and task from earlier days, the latest first, on one day the same side first.

    Left out: films without a date, and those gone from the data folder or damaged there. Raises NotFound,
    NotAllowed."""
    require(actor, *READERS)
    image = session.get(Image, image_id)
    if image is None:
        raise NotFound(f"there is no image {image_id}")
    study = session.get_one(Study, image.study_fk)
    if study.acquired_on is None:
        return []
    earlier = [
        (prior, film)
        for prior in repository.studies_of_patient(session, study.patient_fk)
        if prior.acquired_on is not None and prior.acquired_on < study.acquired_on and prior.task == study.task
        for film in prior.images
    ]
    earlier.sort(key=lambda one: (-one[0].acquired_on.toordinal(), one[1].laterality != image.laterality, one[1].id))
    found = (_prior_film(prior, film) for prior, film in earlier[:MOST])
    return [film for film in found if film is not None]


def _prior_film(study: Study, image: Image) -> PriorFilm | None:
    try:
        fields = film_fields(study, image)
    except (NotFound, Damaged):
        return None
    return PriorFilm(**fields, study_id=study.id, acquired_on=study.acquired_on, age_months=study.age_months)
