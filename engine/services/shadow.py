"""A shadow: a model that reads the same images as the one in use, unseen by readers, for the admin to compare.

What it says goes to a table of its own (db.models.ShadowRead), which only this module reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from db.models import ModelState, Prediction, Review, Role, ShadowRead
from db.repositories import registry as models_repository
from db.repositories import shadow as repository
from db.repositories.reviews import latest_reviews
from db.session import writing
from db.types import utc_now
from engine.errors import Conflict, Refused
from engine.findings.answers import Answer, Task, check_answer
from engine.findings.summary import answer_words
from engine.inference import model_folder
from engine.inference.read import Read
from engine.services import answer_facts, audit, case_state, registry, words
from engine.services.accounts import Actor, require
from engine.services.reading import AwaitingImage, awaiting, columns_of
from engine.services.registry import Deployed

LOOK_BACK = 100  # reads made before the shadow started that it reads too, so that there is something to compare at once
# Two bone ages further apart are shown. Human readers of one film differ by as much (unverified: set it with a reader).
DISAGREEMENT_MONTHS = 6


@dataclass(frozen=True)
class ShadowImage:
    image: AwaitingImage
    prediction_id: int


@dataclass(frozen=True)
class Disagreement:
    """`decided_words`: what the reader decided, who has seen the answer in use and not the shadow's."""

    image_id: int
    study_id: int
    task: Task
    age_months: float | None
    in_use_model: str
    in_use_words: str
    shadow_words: str
    months_apart: int | None
    decided_words: str | None
    nearer: Literal["in_use", "shadow", "equal", None]  # to what the reader decided; None: not decided
    read_at: datetime


@dataclass(frozen=True)
class TaskComparison:
    task: Task
    compared: int
    disagree: int
    mean_months_apart: float | None  # bone age only
    decided: int  # of those that disagree, by a reader
    shadow_nearer: int
    in_use_nearer: int


@dataclass(frozen=True)
class ShadowReport:
    name: str
    since: datetime | None
    tasks: list[TaskComparison]
    disagreements: list[Disagreement]  # the widest apart first
    still_to_read: int

    @property
    def compared(self) -> int:
        return sum(task.compared for task in self.tasks)


# ---------------------------------------------------------------- the admin


def start(session: Session, actor: Actor, version_id: int) -> None:
    """Lets a version read alongside from now on, and the latest reads once more. One at a time. Commits. Admins only.

    Raises Conflict where another reads alongside, Refused for the model in use, NotFound, NotAllowed, and
    ModelUnavailable for a folder that is missing or was changed."""
    require(actor)
    version = registry.version_of(session, version_id)
    if version.folder is None:
        raise Refused("not_registered", f"{version.name} is not kept in the registry, so that no worker can load it")
    model_folder.verify(registry.folder_of(version), version.folder_sha256 or "")
    with writing(session):
        version = registry.version_of(session, version_id)
        other = models_repository.version_in_state(session, ModelState.SHADOW)
        if other is not None and other.id != version_id:
            raise Conflict(f"{other.name} reads alongside already: stop it first")
        if version.state == ModelState.IN_USE:
            raise Refused("in_use", f"{version.name} is in use: it cannot read alongside itself")
        if other is not None:
            return
        version.state, version.shadow_since = ModelState.SHADOW, utc_now()
        version.shadow_from_prediction = repository.prediction_so_far_back(session, LOOK_BACK)
        audit.record(session, actor, "model.shadow_started", f"model:{version_id}", {"name": version.name})


def stop(session: Session, actor: Actor, version_id: int) -> None:
    """What it has read stays. Nothing happens when it does not read alongside. Commits. Admins only."""
    require(actor)
    with writing(session):
        version = registry.version_of(session, version_id)
        if version.state != ModelState.SHADOW:
            return
        was_in_use = models_repository.was_in_use(session, version_id)
        version.state = ModelState.RETIRED if was_in_use else ModelState.CANDIDATE
        version.shadow_since = version.shadow_from_prediction = None
        audit.record(session, actor, "model.shadow_stopped", f"model:{version_id}", {"name": version.name})


def report(session: Session, actor: Actor, version_id: int) -> ShadowReport:
    """How the shadow's reads compare with those that readers saw. Admins only. Raises NotFound, NotAllowed."""
    require(actor)
    version = registry.version_of(session, version_id)
    pairs = repository.pairs_of_reads(session, version_id)
    reviews = latest_reviews(session, [pair.shadow.image_fk for pair in pairs])
    tasks: dict[Task, list[Disagreement | int | None]] = {}
    disagreements = []
    for pair in pairs:
        task, apart = Task(pair.shadow.task), months_apart(pair.prediction, pair.shadow)
        found: Disagreement | int | None = apart
        if disagree(pair.prediction, pair.shadow):
            decision = case_state.in_force(reviews.get(pair.shadow.image_fk))
            found = Disagreement(
                image_id=pair.shadow.image_fk,
                study_id=pair.study_id,
                task=task,
                age_months=pair.age_months,
                in_use_model=pair.prediction.model_version.name,
                in_use_words=words.prediction_words(pair.prediction),
                shadow_words=words.prediction_words(pair.shadow),
                months_apart=apart,
                decided_words=_decided_words(decision),
                nearer=_nearer(pair.prediction, pair.shadow, decision),
                read_at=pair.shadow.created_at,
            )
            disagreements.append(found)
        tasks.setdefault(task, []).append(found)
    disagreements.sort(key=lambda one: (-(one.months_apart or 0), -one.image_id))
    return ShadowReport(
        name=version.name,
        since=version.shadow_since,
        tasks=[_comparison(task, tasks[task]) for task in Task if task in tasks],
        disagreements=disagreements,
        still_to_read=repository.count_to_read(session, version) if version.state == ModelState.SHADOW else 0,
    )


# ---------------------------------------------------------------- the worker


def reading_along(session: Session, actor: Actor) -> Deployed | None:
    """The model that reads alongside, if any. Raises ModelUnavailable as registry.in_use, NotAllowed."""
    require(actor, Role.SERVICE)
    version = models_repository.version_in_state(session, ModelState.SHADOW)
    return registry.deployed(version) if version else None


def images_to_read(session: Session, actor: Actor, version_id: int, limit: int) -> list[ShadowImage]:
    """What the shadow reads next, the latest reads first; nothing while an image waits for its real read."""
    require(actor, Role.SERVICE)
    version = registry.version_of(session, version_id)
    if version.state != ModelState.SHADOW or repository.is_anything_waiting(session):
        return []
    return [
        ShadowImage(awaiting(image, study, patient), prediction_id)
        for image, study, patient, prediction_id in repository.images_to_read(session, version, limit)
    ]


def record_reads(
    session: Session, actor: Actor, version_id: int, images: Sequence[ShadowImage], reads: Sequence[Read]
) -> int:
    """Stores what the shadow says, once an image and round, and returns how many are new. Commits. Services only."""
    require(actor, Role.SERVICE)
    new: list[int] = []
    with writing(session):
        for item, read in zip(images, reads, strict=True):
            if read.answer is not None:
                check_answer(read.answer)
            row = ShadowRead(
                image_fk=item.image.image_id,
                model_version_fk=version_id,
                read_round=item.image.read_round,
                prediction_fk=item.prediction_id,
                **columns_of(read),
            )
            try:
                with session.begin_nested():
                    session.add(row)
            except IntegrityError:  # another worker was first
                continue
            new.append(item.image.image_id)
        answer_facts.refresh(session, [item.image.image_id for item in images])
        if new:
            audit.record(session, actor, "shadow_read.recorded", f"model:{version_id}", {"images": new})
    return len(new)


# ---------------------------------------------------------------- what counts as a disagreement


def disagree(prediction: Prediction, shadow: ShadowRead) -> bool:
    """A bone age more than DISAGREEMENT_MONTHS apart, another class, zone, stage or plus, or one that gave no answer
    where the other did."""
    if prediction.answer is None or shadow.answer is None:
        return (prediction.answer is None) != (shadow.answer is None)
    apart = months_apart(prediction, shadow)
    return apart > DISAGREEMENT_MONTHS if apart is not None else prediction.answer != shadow.answer


def months_apart(prediction: Prediction, shadow: ShadowRead) -> int | None:
    if prediction.answer is None or shadow.answer is None:
        return None
    if not {"bone_age_months"} <= prediction.answer.keys() & shadow.answer.keys():
        return None
    return abs(prediction.answer["bone_age_months"] - shadow.answer["bone_age_months"])


def _nearer(
    prediction: Prediction, shadow: ShadowRead, decision: Review | None
) -> Literal["in_use", "shadow", "equal", None]:
    if decision is None or decision.answer is None:
        return None
    of_prediction, of_shadow = (_distance(read.answer, decision.answer) for read in (prediction, shadow))
    if of_prediction == of_shadow:
        return "equal"
    return "in_use" if of_prediction < of_shadow else "shadow"


def _distance(answer: Answer | None, decided: Answer) -> float:
    """From what the reader decided: months, or how many of the fields differ; no answer is the furthest."""
    if answer is None or answer["task"] != decided["task"]:
        return float("inf")
    if "bone_age_months" in decided:
        return abs(int(answer["bone_age_months"]) - int(decided["bone_age_months"]))
    return sum(answer[field] != value for field, value in decided.items())


def _decided_words(decision: Review | None) -> str | None:
    if decision is None:
        return None
    return answer_words(decision.answer) if decision.answer is not None else words.review_words(decision)


def _comparison(task: Task, found: Sequence[Disagreement | int | None]) -> TaskComparison:
    apart = [one.months_apart if isinstance(one, Disagreement) else one for one in found]
    known = [months for months in apart if months is not None]
    wide = [one for one in found if isinstance(one, Disagreement)]
    return TaskComparison(
        task=task,
        compared=len(found),
        disagree=len(wide),
        mean_months_apart=sum(known) / len(known) if known else None,
        decided=sum(one.nearer is not None for one in wide),
        shadow_nearer=sum(one.nearer == "shadow" for one in wide),
        in_use_nearer=sum(one.nearer == "in_use" for one in wide),
    )
