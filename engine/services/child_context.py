"""What is known of the child besides the film under review: other films, growth, and what contradicts what.

Nothing here comes from the examination under review, neither its read nor its reviews; of the others only what the
actor may know (engine.services.blind_reading). What follows from an answer is calculated from the answer given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Literal

from sqlalchemy.orm import Session

from db.models import Image, Prediction, Study
from db.repositories import studies as repository
from db.repositories.reads import latest_predictions
from engine.errors import NotFound
from engine.findings import additions, adult_height, bone_age, contradictions, fracture, rop
from engine.findings.additions import Additions
from engine.findings.adult_height import AdultHeight
from engine.findings.age import age_months_at
from engine.findings.answers import Answer, Task
from engine.findings.bone_age import BoneAgeSds, NearestPlates
from engine.findings.contradictions import Contradiction, Seen
from engine.findings.growth import DAYS_PER_MONTH, Indicator
from engine.findings.growth_visits import GrowthZ
from engine.findings.reference import Refusal
from engine.findings.summary import answer_words
from engine.findings.urgency import Urgency
from engine.imaging.film import FilmTags
from engine.services import blind_reading, child_growth, images
from engine.services.accounts import READERS, Actor, require
from engine.services.blind_reading import Shown
from engine.services.child_growth import HEIGHT_WITHIN_MONTHS, ChildGrowth, GrowthVisitView

MOST_FILMS = 24  # of a child; older ones are on the worklist


@dataclass(frozen=True)
class OtherFilm:
    """A film of the child from another examination. `answer` is that of the decision in force, else that of the read
    (`is_decided` tells which); None where it was rejected, not read yet or may not be known yet, or the model gave no
    read."""

    study_id: int
    image_id: int
    task: Task | None
    acquired_on: date
    age_months: float | None
    laterality: Literal["L", "R", None]
    answer: Answer | None
    additions: Additions
    is_decided: bool

    @property
    def words(self) -> str | None:
        return None if self.answer is None else answer_words(self.answer, self.additions)


@dataclass(frozen=True)
class MeasuredNear:
    """The visit nearest to the film; `days` from the film to it, negative when it came first, None without a date."""

    visit: GrowthVisitView
    days: int | None


@dataclass(frozen=True)
class ChildContext:
    """`patient_id` as in child_growth. `films` of other examinations, the latest first; `undated` more have no date.
    `contradictions` are those that hold whatever this film shows."""

    patient_id: int
    sex: Literal["M", "F", None]
    age_months: float | None
    acquired_on: date | None
    task: Task | None
    laterality: Literal["L", "R", None]
    films: tuple[OtherFilm, ...]
    undated: int
    gestational_age_weeks: float | None  # at birth
    postmenstrual_age_days: int | None  # at the film
    measured: MeasuredNear | None
    visits: tuple[GrowthVisitView, ...]
    contradictions: tuple[Contradiction, ...]


def child_context(session: Session, actor: Actor, image_id: int) -> ChildContext:
    """Of the child on this image. Raises NotFound, NotAllowed."""
    require(actor, *READERS)
    image = session.get(Image, image_id)
    if image is None:
        raise NotFound(f"there is no image {image_id}")
    studies = repository.studies_of_patient(session, session.get_one(Study, image.study_fk).patient_fk)
    study = next(one for one in studies if one.id == image.study_fk)
    others = [one for one in studies if one.id != study.id]
    dated = sorted((one for one in others if one.acquired_on), key=lambda one: (one.acquired_on, one.id), reverse=True)
    shown = [(other, film) for other in dated for film in other.images][:MOST_FILMS]
    films = _films(session, actor, shown)
    growth = child_growth.growth_of(session, study.patient_fk)
    return ChildContext(
        patient_id=study.patient_fk,
        sex=study.patient.sex.value if study.patient.sex else None,
        age_months=study.age_months,
        acquired_on=study.acquired_on,
        task=Task(study.task) if study.task else None,
        laterality=image.laterality.value if image.laterality else None,
        films=films,
        undated=sum(len(one.images) for one in others if one.acquired_on is None),
        gestational_age_weeks=growth.gestational_age_weeks,
        postmenstrual_age_days=_postmenstrual_age_days(growth, study.acquired_on),
        measured=_nearest(growth.visits, study.acquired_on),
        visits=growth.visits,
        contradictions=(*_other_side(study, image, films), *_other_child(study, image, shown)),
    )


def _films(session: Session, actor: Actor, shown: list[tuple[Study, Image]]) -> tuple[OtherFilm, ...]:
    """Without what the actor must not know of them yet (engine.services.blind_reading)."""
    if not shown:
        return ()
    reads = latest_predictions(session, [image.id for _, image in shown])
    studies = {study.id: study for study, _ in shown}
    known = blind_reading.known_to(session, actor, list(studies.values()), latest_only=True)
    return tuple(
        _film(
            study,
            image,
            None if image.id in known.hidden_reads else reads.get(image.id),
            known.decision(image.id),
        )
        for study, image in shown
    )


def _film(study: Study, image: Image, read: Prediction | None, decision: Shown | None) -> OtherFilm:
    answer = decision.answer if decision else read.answer if read else None
    return OtherFilm(
        study_id=study.id,
        image_id=image.id,
        task=Task(study.task) if study.task else None,
        acquired_on=study.acquired_on,
        age_months=study.age_months,
        laterality=image.laterality.value if image.laterality else None,
        answer=answer,
        additions=additions.stored(answer, decision.details) if decision else {},
        is_decided=decision is not None,
    )


def _nearest(visits: Sequence[GrowthVisitView], on: date | None) -> MeasuredNear | None:
    if not visits:
        return None
    if on is None:
        return MeasuredNear(visits[-1], None)
    nearest = min(visits, key=lambda visit: abs((visit.measured_on - on).days))
    return MeasuredNear(nearest, (nearest.measured_on - on).days)


def _postmenstrual_age_days(growth: ChildGrowth, on: date | None) -> int | None:
    """Gestational age at birth plus age (AAP, Pediatrics 2004;114:1362-4); None where one of them is unknown."""
    if growth.gestational_age_weeks is None or growth.birth_date is None or on is None or on < growth.birth_date:
        return None
    return round(growth.gestational_age_weeks * 7) + (on - growth.birth_date).days


# ---------------------------------------------------------------- contradictions that hold whatever the film shows


def _other_side(study: Study, image: Image, films: tuple[OtherFilm, ...]) -> list[Contradiction]:
    if study.acquired_on is None or study.task is None:
        return []
    now = Seen(study.acquired_on, Task(study.task), image.laterality.value if image.laterality else None)
    found = contradictions.side_changed(now, _seen(films))
    return [found] if found else []


def _other_child(study: Study, image: Image, shown: list[tuple[Study, Image]]) -> list[Contradiction]:
    """Who the files say the child is. The names themselves are shown nowhere."""
    ours = images.tags_if_kept(image.file_sha256)
    if ours is None:
        return []
    found: dict[str, Contradiction] = {}
    for other, film in shown:
        theirs = images.tags_if_kept(film.file_sha256)
        for what in _identity_differs(ours, theirs) if theirs else ():
            if what not in found and not _is_warned_of(study, what):
                day = f"{other.acquired_on.day} {other.acquired_on:%b %Y}"
                text = f"Another {what} than on the film of {day}, under the same patient ID. Is it the same child?"
                found[what] = Contradiction(f"{what.replace(' ', '_')}_differs", text)
    return list(found.values())


def _identity_differs(ours: FilmTags, theirs: FilmTags) -> list[str]:
    found = []
    if contradictions.names_differ(ours.patient_name, theirs.patient_name):
        found.append("name")
    if ours.patient_sex and theirs.patient_sex and ours.patient_sex != theirs.patient_sex:
        found.append("sex")
    births = (ours.patient_birth_date, theirs.patient_birth_date)
    if all(births) and births[0] != births[1]:
        found.append("birth date")
    return found


def _is_warned_of(study: Study, what: str) -> bool:
    """Whether ingest has said so on this study: of the film that came second (engine.services.ingest)."""
    tag = {"sex": "(0010,0040)", "birth date": "(0010,0030)"}.get(what)
    return tag is not None and any(text.startswith(tag) and "the earlier is kept" in text for text in study.warnings)


# ---------------------------------------------------------------- what follows from an answer


@dataclass(frozen=True)
class Pace:
    """Bone age since the last film that has one, against the time that went by."""

    since: date
    gained_months: int
    elapsed_months: float


@dataclass(frozen=True)
class BoneAgeMeaning:
    sds: BoneAgeSds | Refusal
    plates: NearestPlates | Refusal
    adult_height: AdultHeight | Refusal
    pace: Pace | None


@dataclass(frozen=True)
class EyeMeaning:
    """`act_by` is the day on which the time to act ends, at the hour of the examination, whose time is not kept."""

    etrop: rop.EtropRule | None
    plan: rop.Plan
    act_by: date | None
    look_again_by: date | None


@dataclass(frozen=True)
class FractureMeaning:
    """`plan` and `facts` are None while the class is not known; `urgency` is always what the worklist will say."""

    urgency: Urgency
    plan: fracture.Plan | None
    facts: fracture.ClassFacts | None
    act_by: date | None


Meaning = BoneAgeMeaning | EyeMeaning | FractureMeaning


def meaning(context: ChildContext, answer: Answer, added: Additions) -> Meaning:
    """What follows for this child. Raises AnswerRefused where `added` contradicts the answer."""
    match Task(answer["task"]):
        case Task.BONE_AGE:
            return bone_age_meaning(context, int(answer["bone_age_months"]))
        case Task.ROP:
            eye = additions.eye_of(answer, added)
            plan = rop.plan(eye)
            on = context.acquired_on
            again = plan.reexamine_by(on) if on else None
            return EyeMeaning(rop.etrop_rule(eye), plan, _act_by(on, plan.act_within_hours), again)
        case Task.FRACTURE:
            urgency = additions.urgency(answer, added, context.age_months)
            finding = additions.finding_of(answer, added)
            if finding is None:
                return FractureMeaning(urgency, None, None, None)
            plan = fracture.plan(finding, context.age_months)
            facts = fracture.classes()[finding.fracture_class]
            return FractureMeaning(urgency, plan, facts, _act_by(context.acquired_on, plan.act_within_hours))


def bone_age_meaning(context: ChildContext, bone_age_months: int) -> BoneAgeMeaning:
    return BoneAgeMeaning(
        sds=bone_age.bone_age_sds(bone_age_months, context.age_months, context.sex),
        plates=bone_age.nearest_plates(bone_age_months, context.sex),
        adult_height=_adult_height(context, bone_age_months),
        pace=_pace(context, bone_age_months),
    )


def contradictions_of(context: ChildContext, answer: Answer, added: Additions) -> list[Contradiction]:
    """What the answer contradicts in the child's other films."""
    if context.acquired_on is None:
        return []
    now = Seen(context.acquired_on, Task(answer["task"]), context.laterality, answer, added)
    return contradictions.of_answer(now, _seen(context.films))


def _seen(films: tuple[OtherFilm, ...]) -> list[Seen]:
    return [
        Seen(film.acquired_on, film.task, film.laterality, film.answer, film.additions, film.is_decided)
        for film in films
        if film.task is not None
    ]


def _act_by(examined_on: date | None, hours: int | None) -> date | None:
    if examined_on is None or hours is None:
        return None
    return (datetime.combine(examined_on, time()) + timedelta(hours=hours)).date()


def _adult_height(context: ChildContext, bone_age_months: int) -> AdultHeight | Refusal:
    near = _nearest([visit for visit in context.visits if visit.length_height_cm is not None], context.acquired_on)
    if near is None:
        return adult_height.adult_height(None, bone_age_months, context.age_months, context.sex)
    if near.days is None or abs(near.days) > HEIGHT_WITHIN_MONTHS * DAYS_PER_MONTH:
        return Refusal("height_too_old", f"no height within {HEIGHT_WITHIN_MONTHS:g} months of the film")
    height = near.visit.scored.values[Indicator.HEIGHT]
    if not isinstance(height, GrowthZ):
        return height
    return adult_height.adult_height(height.measurement, bone_age_months, context.age_months, context.sex)


def _pace(context: ChildContext, bone_age_months: int) -> Pace | None:
    for film in context.films:
        if film.answer is None or film.answer["task"] != Task.BONE_AGE or context.acquired_on is None:
            continue
        if film.acquired_on < context.acquired_on:
            elapsed = age_months_at(film.acquired_on, context.acquired_on)
            return Pace(film.acquired_on, bone_age_months - int(film.answer["bone_age_months"]), elapsed)
    return None
