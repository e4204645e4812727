"""The worklist: what is there, what is next, how much is left. Paged, filtered and sorted by the database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Literal

from sqlalchemy import select
from sqlalchemy.orm import InstrumentedAttribute, Session

from db.models import URGENCY_RANK, Prediction, Review, Role, Study, StudyStatus, Urgency, Worker
from db.repositories import studies as repository
from db.repositories.quarantine import count_open
from db.repositories.reads import latest_predictions
from db.repositories.reviews import latest_reviews
from db.repositories.studies import Order, StudyQuery
from db.types import utc_now
from engine.findings.age import months_words
from engine.findings.answers import Task
from engine.findings.urgency import Level, most_urgent
from engine.services import case_state, words
from engine.services.accounts import READERS, Actor, require


class Sort(StrEnum):
    URGENCY = "urgency"  # gravest first, then oldest examination first
    ACQUIRED = "acquired"
    RECEIVED = "received"
    AGE = "age"
    SITE = "site"
    STATUS = "status"
    PATIENT = "patient"


@dataclass(frozen=True)
class WorklistFilter:
    """An empty tuple means any. `search` looks in pseudonym, patient ID, accession number and study UID.
    `age_months_range` includes both ends and leaves out children of unknown age."""

    statuses: tuple[StudyStatus, ...] = ()
    tasks: tuple[Task, ...] = ()
    sites: tuple[str, ...] = ()
    urgencies: tuple[Level, ...] = ()
    search: str = ""
    age_months_range: tuple[float, float] | None = None
    sort: Sort = Sort.URGENCY
    descending: bool = False  # turns the order of `sort` round


@dataclass(frozen=True)
class WorklistRow:
    study_id: int
    pseudonym: str
    task: Task | None
    lateralities: tuple[str, ...]  # "L", "R" of the images, where known
    sex: Literal["M", "F", None]
    age_months: float | None
    age_words: str | None  # "9 y 4 m"
    site: str | None
    acquired_on: date | None
    received_at: datetime
    status: StudyStatus
    urgency: Level
    urgency_reason: str | None
    urgency_unverified: bool
    read_words: str  # "9 y 2 m", "zone II, stage 2, no plus", "buckle fracture", "no read: ...", "awaiting read"
    review_words: str | None  # "confirmed", "corrected: 9 y 6 m", "rejected: poor quality"
    image_count: int
    warning_count: int
    is_phantom: bool


@dataclass(frozen=True)
class WorklistPage:
    rows: list[WorklistRow]
    total: int  # over all pages
    page: int
    page_size: int


@dataclass(frozen=True)
class WorkerState:
    name: str
    at: datetime  # last heartbeat
    alive: bool  # heartbeat within the last 30 s
    model_version: str | None
    detail: str | None


@dataclass(frozen=True)
class Overview:
    total: int
    by_status: dict[StudyStatus, int]
    by_urgency: dict[Level, int]  # of the studies that still await a read or a review
    by_task: dict[Task | None, int]
    quarantine_open: int
    workers: list[WorkerState]


ALIVE_SECONDS = 30

ORDERS = {
    Sort.URGENCY: Order(((Study.urgency_rank, True), (Study.acquired_on, False))),
    Sort.ACQUIRED: Order(((Study.acquired_on, False),)),
    Sort.RECEIVED: Order(((Study.received_at, False),)),
    Sort.AGE: Order(((Study.age_months, False),)),
    Sort.SITE: Order(((Study.site, False), (Study.acquired_on, False))),
    Sort.STATUS: Order(((Study.status, False), (Study.urgency_rank, True), (Study.acquired_on, False))),
    Sort.PATIENT: Order(((Study.patient_fk, False), (Study.acquired_on, False))),
}


def worklist_page(
    session: Session, actor: Actor, filter: WorklistFilter, page: int = 1, page_size: int = 50
) -> WorklistPage:
    """One page, counted from 1. Raises NotAllowed."""
    require(actor, *READERS)
    query, before = _query(filter), (page - 1) * page_size
    studies = repository.studies_page(session, query, _order(filter), before, page_size)
    is_last_page = len(studies) < page_size and (studies or page == 1)
    total = before + len(studies) if is_last_page else repository.count_studies(session, query)
    image_ids = [image.id for study in studies for image in study.images]
    predictions = latest_predictions(session, image_ids)
    decisions = {id: case_state.in_force(review) for id, review in latest_reviews(session, image_ids).items()}
    return WorklistPage([_row(study, predictions, decisions) for study in studies], total, page, page_size)


def _query(filter: WorklistFilter) -> StudyQuery:
    return StudyQuery(
        statuses=filter.statuses,
        tasks=filter.tasks,
        sites=filter.sites,
        urgencies=filter.urgencies,
        search=filter.search,
        age_months_range=filter.age_months_range,
    )


def _order(filter: WorklistFilter) -> Order:
    order = ORDERS[filter.sort]
    return order.reversed() if filter.descending else order


def _row(study: Study, predictions: dict[int, Prediction], decisions: dict[int, Review | None]) -> WorklistRow:
    reads = [(image, words.read_words(image, predictions.get(image.id))) for image in study.images]
    reviews = [
        (image, words.review_words(decision))
        for image in study.images
        if (decision := decisions.get(image.id)) is not None
    ]
    lateralities = {image.laterality.value for image in study.images if image.laterality}
    return WorklistRow(
        study_id=study.id,
        pseudonym=study.patient.pseudonym,
        task=Task(study.task) if study.task else None,
        lateralities=tuple(sorted(lateralities)),
        sex=study.patient.sex.value if study.patient.sex else None,
        age_months=study.age_months,
        age_words=None if study.age_months is None else months_words(study.age_months),
        site=study.site,
        acquired_on=study.acquired_on,
        received_at=study.received_at,
        status=study.status,
        urgency=Level(study.urgency),
        urgency_reason=study.urgency_reason,
        urgency_unverified=study.urgency_unverified,
        read_words=words.of_images(reads),
        review_words=words.of_images(reviews) or None,
        image_count=len(study.images),
        warning_count=len(study.warnings),
        is_phantom=study.is_phantom,
    )


def next_study(session: Session, actor: Actor, filter: WorklistFilter, after_study_id: int | None = None) -> int | None:
    """The study that follows `after_study_id` in the filter's order, starting again at the top after the last one;
    None when the filter holds no other study. Where `after_study_id` does not match the filter any more, as it was
    just decided, its place in the order is the one it had while it awaited review."""
    require(actor, *READERS)
    query, order = _query(filter), _order(filter)
    after = repository.study_with_images(session, after_study_id) if after_study_id is not None else None
    if after is not None:
        place = [getattr(after, column.key) for column, _ in order.with_id]
        if not repository.is_among(session, query, after.id):
            place = [_value_before_decision(session, after, column) for column, _ in order.with_id]
        following = repository.study_after(session, query, order, place, after.id)
        if following is not None:
            return following
    return repository.study_after(session, query, order, None, after_study_id)


def _value_before_decision(session: Session, study: Study, column: InstrumentedAttribute[Any]) -> Any:
    """A decision changes the status and may change the urgency; the reader goes on from where the study stood."""
    if column is Study.status:
        return StudyStatus.AWAITING_REVIEW
    if column is not Study.urgency_rank:
        return getattr(study, column.key)
    predictions = latest_predictions(session, [image.id for image in study.images])
    urgency = most_urgent([case_state.read_urgency(read, study.age_months) for read in predictions.values()])
    return URGENCY_RANK[Urgency(urgency.level)]


def overview(session: Session, actor: Actor) -> Overview:
    require(actor, *READERS, Role.SERVICE)
    by_status = repository.counts_by(session, Study.status)
    open_cases = Study.status.in_([StudyStatus.AWAITING_READ, StudyStatus.AWAITING_REVIEW])
    by_urgency = repository.counts_by(session, Study.urgency, open_cases)
    by_task = repository.counts_by(session, Study.task)
    return Overview(
        total=sum(by_status.values()),
        by_status={status: by_status.get(status, 0) for status in StudyStatus},
        by_urgency={level: by_urgency.get(Urgency(level), 0) for level in Level},
        by_task={None if task is None else Task(task): count for task, count in by_task.items()},
        quarantine_open=count_open(session),
        workers=[
            WorkerState(
                worker.name,
                worker.at,
                (utc_now() - worker.at).total_seconds() < ALIVE_SECONDS,
                worker.model_version,
                worker.detail,
            )
            for worker in session.scalars(select(Worker).order_by(Worker.name))
        ],
    )


def sites(session: Session, actor: Actor) -> list[str]:
    """Every site that has studies, in alphabetical order."""
    require(actor, *READERS)
    return repository.site_names(session)
