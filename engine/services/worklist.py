"""The worklist: what is there, what is next, how much is left. Paged, filtered and sorted by the database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Literal

from sqlalchemy.orm import Session

from db.models import StudyStatus
from engine.findings.answers import Task
from engine.findings.urgency import Level
from engine.services.accounts import Actor


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


def worklist_page(
    session: Session, actor: Actor, filter: WorklistFilter, page: int = 1, page_size: int = 50
) -> WorklistPage:
    """One page, counted from 1. Raises NotAllowed."""
    raise NotImplementedError


def next_study(session: Session, actor: Actor, filter: WorklistFilter, after_study_id: int | None = None) -> int | None:
    """The study that follows `after_study_id` in the filter's order, starting again at the top after the last one;
    None when the filter holds no other study. `after_study_id` need not match the filter any more."""
    raise NotImplementedError


def overview(session: Session, actor: Actor) -> Overview:
    raise NotImplementedError


def sites(session: Session, actor: Actor) -> list[str]:
    """Every site that has studies, in alphabetical order."""
    raise NotImplementedError
