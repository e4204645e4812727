"""Patients, studies and images, and the worklist over them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, false, func, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session, joinedload, selectinload

from db.models import URGENCY_RANK, Image, Patient, Study, StudyStatus, Task, Urgency


def patient_by_key(session: Session, patient_id: str, issuer: str) -> Patient | None:
    return session.scalar(select(Patient).where(Patient.patient_id == patient_id, Patient.issuer == issuer))


def study_by_uid(session: Session, study_instance_uid: str) -> Study | None:
    return session.scalar(select(Study).where(Study.study_instance_uid == study_instance_uid))


def study_with_images(session: Session, study_id: int) -> Study | None:
    """The study with patient and images loaded."""
    return session.scalar(
        select(Study)
        .where(Study.id == study_id)
        .options(joinedload(Study.patient), selectinload(Study.images))
        .execution_options(populate_existing=True)
    )


def image_ids_of_study(session: Session, study_id: int) -> list[int]:
    return list(session.scalars(select(Image.id).where(Image.study_fk == study_id).order_by(Image.id)))


def locked_image(session: Session, image_id: int) -> tuple[Image, Study] | None:
    """The image and its study, with patient and images loaded. Until the end of the transaction nobody else changes
    what belongs to the study (rows are locked on PostgreSQL; SQLite has one writer, see db.session.begin_write)."""
    return locked_images(session, [image_id]).get(image_id)


def locked_images(session: Session, image_ids: Sequence[int]) -> dict[int, tuple[Image, Study]]:
    """Image id -> image and study, as of `locked_image`; without those that do not exist."""
    study_ids = set(session.scalars(select(Image.study_fk).where(Image.id.in_(image_ids))))
    wanted = set(image_ids)
    studies = _locked_studies(session, study_ids)
    return {image.id: (image, study) for study in studies for image in study.images if image.id in wanted}


def locked_study(session: Session, study_id: int) -> Study | None:
    """The study, locked as by `locked_image`, with patient and images loaded."""
    return next(iter(_locked_studies(session, {study_id})), None)


def _locked_studies(session: Session, study_ids: Collection[int]) -> list[Study]:
    # locked in one order, whoever asks for several
    session.execute(select(Study.id).where(Study.id.in_(study_ids)).order_by(Study.id).with_for_update())
    query = select(Study).where(Study.id.in_(study_ids))
    loaded = query.options(joinedload(Study.patient), selectinload(Study.images))
    return list(session.scalars(loaded.execution_options(populate_existing=True)))


def studies_of_patient(session: Session, patient_fk: int) -> list[Study]:
    """The patient's studies with patient and images loaded."""
    query = (
        select(Study)
        .where(Study.patient_fk == patient_fk)
        .options(joinedload(Study.patient), selectinload(Study.images))
        .order_by(Study.id)
    )
    return list(session.scalars(query))


def image_by_file(session: Session, file_sha256: str) -> Image | None:
    return session.scalar(select(Image).where(Image.file_sha256 == file_sha256))


def files_of_images(session: Session) -> list[tuple[int, str]]:
    """Every image's id and the hash of its file."""
    return [(image_id, sha256) for image_id, sha256 in session.execute(select(Image.id, Image.file_sha256))]


def image_by_sop_instance_uid(session: Session, sop_instance_uid: str) -> Image | None:
    return session.scalar(select(Image).where(Image.sop_instance_uid == sop_instance_uid))


def images_by_pixels(session: Session, pixel_sha256: str) -> list[Image]:
    """Images with the same pixels, whatever their tags, with their study."""
    query = select(Image).where(Image.pixel_sha256 == pixel_sha256).options(joinedload(Image.study))
    return list(session.scalars(query))


@dataclass(frozen=True)
class Order:
    """Columns, or expressions over them, to sort by; the second of each pair True for descending. Unknown values come
    last either way, and the study's id settles what is left, so that the order is total."""

    columns: tuple[tuple[ColumnElement[Any], bool], ...]

    def reversed(self) -> Order:
        return Order(tuple((column, not descending) for column, descending in self.columns))

    @property
    def with_id(self) -> tuple[tuple[ColumnElement[Any], bool], ...]:
        return (*self.columns, (Study.id, False))

    def by(self, backwards: bool = False) -> list[ColumnElement[Any]]:
        if backwards:
            return [
                (column.asc() if descending else column.desc()).nulls_first() for column, descending in self.with_id
            ]
        return [(column.desc() if descending else column.asc()).nulls_last() for column, descending in self.with_id]

    def after(self, values: Sequence[Any], backwards: bool = False) -> ColumnElement[bool]:
        """Everything that comes after (`backwards`: before) the row with these values of the columns and the id."""
        tied: list[ColumnElement[bool]] = []
        alternatives: list[ColumnElement[bool]] = []
        for (column, descending), value in zip(self.with_id, values, strict=True):
            if value is None:
                beyond: ColumnElement[bool] = column.is_not(None) if backwards else false()
            else:
                beyond = column < value if descending != backwards else column > value
                if column is not Study.id and not backwards:
                    beyond = or_(beyond, column.is_(None))
            alternatives.append(and_(*tied, beyond))
            tied.append(column.is_(None) if value is None else column == value)
        return or_(*alternatives)


@dataclass(frozen=True)
class SeenColumns:
    """A study as one reader may know it (db.repositories.blind.seen_by); `EVERYTHING`: as it stands."""

    status: ColumnElement[Any]
    urgency_rank: ColumnElement[Any]
    act_by: ColumnElement[Any]


EVERYTHING = SeenColumns(Study.status, Study.urgency_rank, Study.act_by)


@dataclass(frozen=True)
class StudyQuery:
    """Which studies; an empty sequence means any."""

    statuses: Sequence[StudyStatus] = ()
    tasks: Sequence[Task] = ()
    sites: Sequence[str] = ()
    urgencies: Sequence[Urgency] = ()
    search: str = ""
    age_months_range: tuple[float, float] | None = None
    also: tuple[ColumnElement[bool], ...] = ()  # further conditions on Study
    seen: SeenColumns = EVERYTHING

    def conditions(self) -> list[ColumnElement[bool]]:
        conditions: list[ColumnElement[bool]] = []
        for column, values in (
            (self.seen.status, self.statuses),
            (Study.task, self.tasks),
            (Study.site, self.sites),
            (self.seen.urgency_rank, [URGENCY_RANK[Urgency(urgency)] for urgency in self.urgencies]),
        ):
            if values:
                conditions.append(column.in_(values))
        if self.age_months_range:
            conditions.append(Study.age_months.between(*self.age_months_range))
        if term := self.search.strip():
            patients = select(Patient.id).where(_contains(term, Patient.pseudonym, Patient.patient_id))
            of_study = _contains(term, Study.accession_number, Study.study_instance_uid)
            conditions.append(or_(Study.patient_fk.in_(patients), of_study))
        return [*conditions, *self.also]

    def apply(self, query: Select[Any]) -> Select[Any]:
        """`query` selects from Study."""
        return query.where(*self.conditions())


def _contains(term: str, *columns: InstrumentedAttribute[Any]) -> ColumnElement[bool]:
    return or_(*(column.icontains(term, autoescape=True) for column in columns))


def count_studies(session: Session, query: StudyQuery) -> int:
    return session.scalar(query.apply(select(func.count(Study.id)))) or 0


def studies_page(session: Session, query: StudyQuery, order: Order, offset: int, limit: int) -> list[Study]:
    """One page with patient and images loaded."""
    ids = list(session.scalars(query.apply(select(Study.id)).order_by(*order.by()).offset(offset).limit(limit)))
    loaded = {
        study.id: study
        for study in session.scalars(
            select(Study).where(Study.id.in_(ids)).options(joinedload(Study.patient), selectinload(Study.images))
        )
    }
    return [loaded[study_id] for study_id in ids]


def is_among(session: Session, query: StudyQuery, study_id: int) -> bool:
    return session.scalar(query.apply(select(Study.id)).where(Study.id == study_id)) is not None


def study_after(
    session: Session,
    query: StudyQuery,
    order: Order,
    values: Sequence[Any] | None,
    without_id: int | None,
    backwards: bool = False,
) -> int | None:
    """The first study after `values` (from the top when None), leaving out `without_id`; `backwards`: the last one
    before them (from the end when None)."""
    statement = query.apply(select(Study.id)).order_by(*order.by(backwards)).limit(1)
    if values is not None:
        statement = statement.where(order.after(values, backwards))
    if without_id is not None:
        statement = statement.where(Study.id != without_id)
    return session.scalar(statement)


def counts_by(session: Session, column: ColumnElement[Any], *conditions: ColumnElement[bool]) -> dict[Any, int]:
    rows = session.execute(select(column, func.count(Study.id)).where(*conditions).group_by(column))
    return {value: count for value, count in rows}


def tasks_present(session: Session) -> list[Task]:
    """The tasks that any study is for."""
    return sorted(session.scalars(select(Study.task).where(Study.task.is_not(None)).distinct()))


def site_names(session: Session) -> list[str]:
    """In order."""
    return different(session, Study.site)


def different(session: Session, column: InstrumentedAttribute[str]) -> list[str]:
    """From each value to the next along the column's index, in order, as there are few of them and many rows."""
    value = select(func.min(column).label("value")).cte(recursive=True)
    following = select(func.min(column)).where(column > value.c.value).scalar_subquery()
    value = value.union_all(select(following).where(value.c.value.is_not(None)))
    return list(session.scalars(select(value.c.value).where(value.c.value.is_not(None))))
