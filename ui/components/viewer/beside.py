"""Which films of the same child may be laid beside the one under review, and what they are called."""

from __future__ import annotations

from engine.findings.age import age_months_at
from engine.findings.answers import Task
from engine.services.prior_films import PriorFilm
from engine.services.review import ImageView, StudyView
from engine.services.shown_film import ShownFilm
from ui import words


def films_beside(study: StudyView, image: ImageView, priors: list[PriorFilm]) -> list[tuple[str, ShownFilm]]:
    """(caption, film): the earlier films first, then the examination's other images."""
    others = [other for other in study.images if other.image_id != image.image_id]
    return [(_earlier(study, prior), prior) for prior in priors] + [
        (_same_day(study, other), other) for other in others
    ]


def _earlier(study: StudyView, prior: PriorFilm) -> str:
    """As 12 Mar 2022, 14 months earlier, 8 y 0 m, left."""
    months = int(age_months_at(prior.acquired_on, study.acquired_on))
    ago = f"{words.counted(months, 'month')} earlier" if months else "earlier"
    parts = [words.day(prior.acquired_on), ago, words.age(prior.age_months), words.SIDE.get(prior.laterality)]
    return ", ".join(part for part in parts if part and part != words.MISSING)


def _same_day(study: StudyView, other: ImageView) -> str:
    side = words.SIDE.get(other.laterality)
    part = " eye" if study.task is Task.ROP else ""
    return f"Same examination, {side}{part}" if side else "Same examination, side not known"
