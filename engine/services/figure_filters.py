"""Which cases a dashboard's figures are of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from sqlalchemy import ColumnElement, and_, case, or_, select
from sqlalchemy.orm import Session

from db.models import AnswerFact, AnswerKind, ModelState, ModelVersion, Role, UserAccount, Verdict
from db.repositories import studies as studies_repository
from engine.findings.answers import Task
from engine.findings.summary import TASK_WORDS
from engine.services.accounts import READERS, Actor, require
from engine.services.answer_facts import NO_READ, NOBODY, hour_of
from engine.subgroups import SEX_NAMES, UNKNOWN, age_bands


@dataclass(frozen=True)
class FigureFilter:
    """An empty tuple means any. `sexes`: M, F, unknown; `age_bands`: names of engine.subgroups, or unknown. The period
    is of the decisions, both days included, in UTC. `other_version_id` is the version to compare with."""

    task: Task = Task.BONE_AGE
    version_id: int | None = None
    other_version_id: int | None = None
    sites: tuple[str, ...] = ()
    sexes: tuple[str, ...] = ()
    age_bands: tuple[str, ...] = ()
    reader_ids: tuple[int, ...] = ()
    first_day: date | None = None
    last_day: date | None = None
    all_tasks: bool = False  # for what is counted across tasks


@dataclass(frozen=True)
class Choices:
    """What can be chosen: (id, name) each, the model in use first."""

    versions: tuple[tuple[int, str], ...]
    sites: tuple[str, ...]
    readers: tuple[tuple[int, str], ...]
    phantom_version_ids: frozenset[int]

    def version_name(self, version_id: int | None) -> str:
        return dict(self.versions).get(version_id or NO_READ, "no model has read here")

    def reader_name(self, reader_id: int) -> str:
        return dict(self.readers).get(reader_id, UNKNOWN)


def choices(session: Session, actor: Actor) -> Choices:
    """Readers are named to an admin, and to themselves; others see pseudonyms. Raises NotAllowed."""
    require(actor, *READERS)
    versions = list(session.scalars(select(ModelVersion).order_by(ModelVersion.id.desc())))
    versions.sort(key=lambda version: version.state != ModelState.IN_USE)
    accounts = session.scalars(select(UserAccount).where(UserAccount.role != Role.SERVICE).order_by(UserAccount.id))
    return Choices(
        versions=tuple((version.id, version.name) for version in versions),
        sites=tuple(studies_repository.site_names(session)),
        readers=tuple((account.id, _name(actor, account)) for account in accounts),
        phantom_version_ids=frozenset(version.id for version in versions if version.is_phantom),
    )


def _name(actor: Actor, account: UserAccount) -> str:
    is_known = actor.role is Role.ADMIN or account.username == actor.username
    return account.display_name if is_known else account.pseudonym


def with_default_version(filter: FigureFilter, found: Choices) -> FigureFilter:
    """The model in use where none is chosen."""
    if filter.version_id is not None or not found.versions:
        return filter
    return FigureFilter(**{**filter.__dict__, "version_id": found.versions[0][0]})


# ---------------------------------------------------------------- as conditions


def judged_reads(filter: FigureFilter, version_id: int | None = None) -> list[ColumnElement[bool]]:
    """Reads of one version that gave an answer, on images whose decision in force has one."""
    return [
        *of_kind(filter, AnswerKind.MODEL),
        AnswerFact.is_in_force,
        AnswerFact.is_answered,
        AnswerFact.verdict != Verdict.REJECTED,
        AnswerFact.model_version_fk == (version_id or filter.version_id or NO_READ),
    ]


def decisions(filter: FigureFilter) -> list[ColumnElement[bool]]:
    """Each reader's standing decision about an image, once; of any model where none is chosen."""
    where = [*of_kind(filter, AnswerKind.MODEL), AnswerFact.is_shown, AnswerFact.reader_fk != NOBODY]
    return where if filter.version_id is None else [*where, AnswerFact.model_version_fk == filter.version_id]


def of_kind(filter: FigureFilter, kind: AnswerKind) -> list[ColumnElement[bool]]:
    """By child, site, reader and period; not by model."""
    tasks = list(Task) if filter.all_tasks else [filter.task]
    where: list[ColumnElement[bool]] = [AnswerFact.task.in_(tasks), AnswerFact.kind == kind]
    if filter.reader_ids:
        where.append(AnswerFact.reader_fk.in_(filter.reader_ids))
    return [*where, *of_children(filter), *in_period(filter)]


def of_children(filter: FigureFilter) -> list[ColumnElement[bool]]:
    where: list[ColumnElement[bool]] = []
    if filter.sites:
        where.append(AnswerFact.site.in_(filter.sites))
    if filter.sexes:
        known = [sex for sex in filter.sexes if sex != UNKNOWN]
        where.append(_or_unknown(AnswerFact.sex.in_(known), AnswerFact.sex, UNKNOWN in filter.sexes))
    if filter.age_bands and not filter.all_tasks:
        in_bands = or_(False, *(_in_band(filter.task, band) for band in filter.age_bands if band != UNKNOWN))
        where.append(_or_unknown(in_bands, AnswerFact.age_months, UNKNOWN in filter.age_bands))
    return where


def in_period(filter: FigureFilter) -> list[ColumnElement[bool]]:
    where: list[ColumnElement[bool]] = []
    if filter.first_day is not None:
        where.append(AnswerFact.decided_hour >= hour_of(_midnight(filter.first_day)))
    if filter.last_day is not None:
        where.append(AnswerFact.decided_hour < hour_of(_midnight(filter.last_day + timedelta(days=1))))
    return where


def age_band_of(task: Task) -> ColumnElement[str]:
    """The name of the child's age band, as a column."""
    bands = age_bands(task)
    starts = [(AnswerFact.age_months >= start, name) for start, name in reversed(bands)]
    return case((AnswerFact.age_months.is_(None), UNKNOWN), *starts, else_=bands[0][1])


def _in_band(task: Task, name: str) -> ColumnElement[bool]:
    bands = age_bands(task)
    place = [band for _, band in bands].index(name)
    above = AnswerFact.age_months >= bands[place][0]
    return above if place == len(bands) - 1 else and_(above, AnswerFact.age_months < bands[place + 1][0])


def _or_unknown(known: ColumnElement[bool], column: ColumnElement, with_unknown: bool) -> ColumnElement[bool]:
    return or_(known, column.is_(None)) if with_unknown else known


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


# ---------------------------------------------------------------- in words


def in_words(filter: FigureFilter, found: Choices, *, with_model: bool = True) -> tuple[tuple[str, str], ...]:
    said = [("Task", "all" if filter.all_tasks else TASK_WORDS[filter.task])]
    if with_model:
        any_model = "any" if filter.version_id is None else found.version_name(filter.version_id)
        said.append(("Model", any_model))
    if filter.other_version_id:
        said.append(("Compared with", found.version_name(filter.other_version_id)))
    said += [
        (name, _listed(chosen))
        for name, chosen in (
            ("Site", filter.sites),
            ("Sex", [SEX_NAMES.get(sex, sex) for sex in filter.sexes]),
            ("Age", filter.age_bands),
            ("Reader", [found.reader_name(reader) for reader in filter.reader_ids]),
        )
        if chosen
    ]
    if filter.first_day or filter.last_day:
        first, last = (day.isoformat() if day else "" for day in (filter.first_day, filter.last_day))
        said.append(("Decided", f"{first or 'the beginning'} to {last or 'today'}"))
    return tuple(said)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
