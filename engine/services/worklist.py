"""The worklist: what is there, what is next, how much is left. Paged, filtered and sorted by the database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from enum import StrEnum
from types import SimpleNamespace
from typing import Any, Literal

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from db.models import URGENCY_RANK, Image, Prediction, Role, Study, StudyStatus, Urgency, UserAccount, Worker
from db.repositories import blind, shared_work
from db.repositories import studies as repository
from db.repositories.accounts import account_by_username
from db.repositories.quarantine import count_open
from db.repositories.reads import latest_predictions
from db.repositories.studies import Order, SeenColumns, StudyQuery
from db.types import utc_now
from engine.findings.age import months_words
from engine.findings.answers import Task
from engine.findings.urgency import Level, most_urgent
from engine.services import blind_reading, case_order, case_state, words
from engine.services.accounts import READERS, Actor, require
from engine.services.blind_reading import KnownToReader


class Sort(StrEnum):
    URGENCY = "urgency"  # gravest first, then whose time runs out first, then oldest examination first
    LEARNING = "learning"  # urgent ones first, then what a model could learn most from: engine.services.case_order
    ACQUIRED = "acquired"
    RECEIVED = "received"
    AGE = "age"
    SITE = "site"
    STATUS = "status"
    PATIENT = "patient"


class Whose(StrEnum):
    """Cases by assignment, as the reader who asks sees it."""

    ANYBODYS = "anybodys"
    MINE = "mine"
    NOBODYS = "nobodys"


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
    whose: Whose = Whose.ANYBODYS
    sort: Sort = Sort.URGENCY
    descending: bool = False  # turns the order of `sort` round


@dataclass(frozen=True)
class Holder:
    """A reader, by display name. `until`: while they do nothing more, of an open case."""

    reader: str
    is_me: bool
    until: datetime | None = None


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
    act_by: date | None  # the day on which the rule's time runs out; None: it has none, or no examination date
    read_words: str  # "9 y 2 m", "zone II, stage 2, no plus", "buckle fracture", "no read: ...", "awaiting read"
    review_words: str | None  # "confirmed", "corrected: 9 y 6 m", "rejected: poor quality"
    image_count: int
    warning_count: int
    is_phantom: bool
    open_at: Holder | None  # the reader who has it open now
    assigned_to: Holder | None
    note_count: int  # hand-over notes that nobody has settled
    learn_reason: str | None  # why it stands where it stands, in the order of Sort.LEARNING only


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
READ_HIDDEN = "shown after your answer"


def _orders(seen: SeenColumns) -> dict[Sort, Order]:
    by_urgency = ((seen.urgency_rank, True), (seen.act_by, False), (Study.acquired_on, False))
    return {
        Sort.URGENCY: Order(by_urgency),
        Sort.ACQUIRED: Order(((Study.acquired_on, False),)),
        Sort.RECEIVED: Order(((Study.received_at, False),)),
        Sort.AGE: Order(((Study.age_months, False),)),
        Sort.SITE: Order(((Study.site, False), (Study.acquired_on, False))),
        Sort.STATUS: Order(((seen.status, False), *by_urgency)),
        Sort.PATIENT: Order(((Study.patient_fk, False), (Study.acquired_on, False))),
    }


def worklist_page(
    session: Session, actor: Actor, filter: WorklistFilter, page: int = 1, page_size: int = 50
) -> WorklistPage:
    """One page, counted from 1. Raises NotAllowed."""
    require(actor, *READERS)
    query, before = _query(session, actor, filter), (page - 1) * page_size
    counts = case_order.group_counts(session, query.seen) if filter.sort is Sort.LEARNING else {}
    studies = repository.studies_page(session, query, _order(filter, counts, query.seen), before, page_size)
    is_last_page = len(studies) < page_size and (studies or page == 1)
    total = before + len(studies) if is_last_page else repository.count_studies(session, query)
    rows = _Rows(session, actor, studies)
    return WorklistPage(
        [rows.row(study, counts if filter.sort is Sort.LEARNING else None) for study in studies], total, page, page_size
    )


def count(session: Session, actor: Actor, filter: WorklistFilter) -> int:
    """Studies over all pages. Raises NotAllowed."""
    require(actor, *READERS)
    return repository.count_studies(session, _query(session, actor, filter))


def _queries(session: Session, actor: Actor, filter: WorklistFilter) -> tuple[StudyQuery, StudyQuery]:
    """All that the filter holds, and what of it nobody else has."""
    account = account_by_username(session, actor.username)
    query = _query_of(session, account, actor, filter)
    is_free = shared_work.is_free(account.id if account else None, utc_now())
    return query, replace(query, also=(*query.also, is_free))


def _query(session: Session, actor: Actor, filter: WorklistFilter) -> StudyQuery:
    return _query_of(session, account_by_username(session, actor.username), actor, filter)


def _query_of(session: Session, account: UserAccount | None, actor: Actor, filter: WorklistFilter) -> StudyQuery:
    whose = {
        Whose.ANYBODYS: (),
        Whose.MINE: (shared_work.is_assigned_to([account.id] if account else []),),
        Whose.NOBODYS: (~shared_work.is_assigned(),),
    }
    return StudyQuery(
        statuses=filter.statuses,
        tasks=filter.tasks,
        sites=filter.sites,
        urgencies=filter.urgencies,
        search=filter.search,
        age_months_range=filter.age_months_range,
        also=whose[filter.whose],
        seen=blind.seen_by(session, account.id if account else None, actor.role),
    )


def _order(filter: WorklistFilter, counts: Mapping[str, int], seen: SeenColumns) -> Order:
    if filter.sort is Sort.LEARNING:
        order = Order(case_order.order_columns(counts, seen))
    else:
        order = _orders(seen)[filter.sort]
    return order.reversed() if filter.descending else order


class _Rows:
    """What a page of studies needs besides the studies, fetched for all of them at once."""

    def __init__(self, session: Session, actor: Actor, studies: Sequence[Study]) -> None:
        self.actor, self.session = actor, session
        image_ids = [image.id for study in studies for image in study.images]
        study_ids = [study.id for study in studies]
        self.predictions = latest_predictions(session, image_ids)
        self.known = blind_reading.known_to(session, actor, studies, latest_only=True)
        self.claims = shared_work.claims_of(session, study_ids, utc_now())
        self.assignments = shared_work.assignments_of(session, study_ids)
        self.notes = shared_work.open_note_counts(session, study_ids)

    def row(self, study: Study, counts: Mapping[str, int] | None) -> WorklistRow:
        """`counts` (case_order.group_counts): with the reason for its place in the order of what teaches most."""
        claim, assignment = self.claims.get(study.id), self.assignments.get(study.id)
        is_blind = self.known.is_blind(study)
        return WorklistRow(
            **_columns(study, self.predictions, self.known),
            open_at=self._holder(claim.reader, claim.ends_at) if claim else None,
            assigned_to=self._holder(assignment.reader) if assignment else None,
            note_count=0 if is_blind else self.notes.get(study.id, 0),
            learn_reason=None if counts is None else self._learn_reason(study, counts),
        )

    def _holder(self, reader: UserAccount, until: datetime | None = None) -> Holder:
        return Holder(reader.display_name, reader.username == self.actor.username, until)

    def _learn_reason(self, study: Study, counts: Mapping[str, int]) -> str | None:
        image_ids = [image.id for image in study.images]
        if not self.known.hidden_reads.isdisjoint(image_ids):
            return None
        reads = [self.predictions[image_id] for image_id in image_ids if image_id in self.predictions]
        answers = case_state.answers_given(self.session, image_ids, of_readers=not self.known.is_blind(study))
        value = case_order.learn_value(reads, answers.values())
        return "not read yet" if value is None else case_order.reason(reads, value, study.learn_group, counts)


def _columns(study: Study, predictions: dict[int, Prediction], known: KnownToReader) -> dict[str, Any]:
    reads = [
        (image, READ_HIDDEN if image.id in known.hidden_reads else words.read_words(image, predictions.get(image.id)))
        for image in study.images
    ]
    reviews = [(image, said) for image in study.images if (said := _review_words(image, known)) is not None]
    urgency = known.urgency(study, predictions) if known.is_blind(study) or known.hidden_reads else None
    lateralities = {image.laterality.value for image in study.images if image.laterality}
    return {
        "study_id": study.id,
        "pseudonym": study.patient.pseudonym,
        "task": Task(study.task) if study.task else None,
        "lateralities": tuple(sorted(lateralities)),
        "sex": study.patient.sex.value if study.patient.sex else None,
        "age_months": study.age_months,
        "age_words": None if study.age_months is None else months_words(study.age_months),
        "site": study.site,
        "acquired_on": study.acquired_on,
        "received_at": study.received_at,
        "status": known.status(study),
        "urgency": urgency.level if urgency else Level(study.urgency),
        "urgency_reason": urgency.reason if urgency else study.urgency_reason,
        "urgency_unverified": urgency.unverified if urgency else study.urgency_unverified,
        "act_by": urgency.act_by(study.acquired_on) if urgency else study.act_by,
        "read_words": words.of_images(reads),
        "review_words": words.of_images(reviews) or None,
        "image_count": len(study.images),
        "warning_count": len(study.warnings),
        "is_phantom": study.is_phantom,
    }


def _review_words(image: Image, known: KnownToReader) -> str | None:
    if known.withheld(image.id):
        return "not shown yet"
    decision = known.decision(image.id)
    return words.review_words(decision) if decision is not None else None


def next_study(
    session: Session,
    actor: Actor,
    filter: WorklistFilter,
    after_study_id: int | None = None,
    *,
    backwards: bool = False,
) -> int | None:
    """The study that follows `after_study_id` in the filter's order (`backwards`: the one before it), starting again
    at the other end after the last one; None when there is no other. Cases that another reader has open, or that are
    assigned to another, are passed over. Where `after_study_id` does not match the filter any more, as it was just
    decided, its place in the order is the one it had while it awaited review."""
    require(actor, *READERS)
    query, free = _queries(session, actor, filter)
    counts = case_order.group_counts(session, query.seen) if filter.sort is Sort.LEARNING else {}
    after = repository.study_with_images(session, after_study_id) if after_study_id is not None else None
    order = _order(filter, counts, query.seen)
    if after is not None:
        stood, counts_then = after, counts
        is_blind = blind_reading.blind_lines(session, actor, [image.id for image in after.images])
        if is_blind or not repository.is_among(session, query, after.id):
            stood, counts_then = _before_decision(session, after), case_order.without(counts, after)
        place = [_value(column, stood, counts_then) for column, _ in order.with_id]
        following = repository.study_after(session, free, order, place, after.id, backwards)
        if following is not None:
            return following
    return repository.study_after(session, free, order, None, after_study_id, backwards)


def is_free_in(session: Session, actor: Actor, filter: WorklistFilter, study_id: int) -> bool:
    """Whether the filter holds the study and nobody else has it."""
    require(actor, *READERS, Role.SERVICE)
    _, free = _queries(session, actor, filter)
    return repository.is_among(session, free, study_id)


def _value(column: ColumnElement[Any], study: Study | SimpleNamespace, counts: Mapping[str, int]) -> Any:
    """What the database says of the study in this column of an order."""
    if hasattr(study, column.key):
        return getattr(study, column.key)
    return case_order.value_in(column.key, study, counts)


def _before_decision(session: Session, study: Study) -> SimpleNamespace:
    """A decision changes the status and may change the urgency; the reader goes on from where the study stood."""
    predictions = latest_predictions(session, [image.id for image in study.images])
    urgency = most_urgent([case_state.read_urgency(read, study.age_months) for read in predictions.values()])
    stood = {column.key: getattr(study, column.key) for column in Study.__table__.columns}
    return SimpleNamespace(
        **stood
        | {
            "status": StudyStatus.AWAITING_REVIEW,
            "urgency_rank": URGENCY_RANK[Urgency(urgency.level)],
            "act_by": urgency.act_by(study.acquired_on),
        }
    )


def overview(session: Session, actor: Actor) -> Overview:
    require(actor, *READERS, Role.SERVICE)
    account = account_by_username(session, actor.username)
    seen = blind.seen_by(session, account.id if account else None, actor.role)
    by_status = repository.counts_by(session, seen.status)
    open_cases = seen.status.in_([StudyStatus.AWAITING_READ, StudyStatus.AWAITING_REVIEW])
    by_urgency = repository.counts_by(session, seen.urgency_rank, open_cases)
    by_task = repository.counts_by(session, Study.task)
    return Overview(
        total=sum(by_status.values()),
        by_status={status: by_status.get(status, 0) for status in StudyStatus},
        by_urgency={level: by_urgency.get(URGENCY_RANK[Urgency(level)], 0) for level in Level},
        by_task={None if task is None else Task(task): count for task, count in by_task.items()},
        quarantine_open=count_open(session),
        workers=[
            WorkerState(
                worker.name,
                worker.at,
                abs((utc_now() - worker.at).total_seconds()) < ALIVE_SECONDS,
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
