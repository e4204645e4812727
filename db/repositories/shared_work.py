"""Who has which case open, whose it is, and what readers leave each other."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, and_, delete, exists, func, select
from sqlalchemy.orm import Session, joinedload

from db.models import Study, UserAccount
from db.worklist_tables import Assignment, Claim, Draft, HandOverNote, SavedFilter

# One that ends later than this was made before the clock was set back, and counts as over.
LONGEST_CLAIM = timedelta(minutes=11)


def lock_study(session: Session, study_id: int) -> bool:
    """Whether there is such a study. Until the end of the transaction nobody else claims it or decides about it (the
    row is locked on PostgreSQL; SQLite has one writer)."""
    return session.scalar(select(Study.id).where(Study.id == study_id).with_for_update()) is not None


def claim_of(session: Session, study_id: int) -> Claim | None:
    """The claim on the study, also one whose end has passed, with its reader; as it stands now."""
    query = select(Claim).where(Claim.study_fk == study_id).options(joinedload(Claim.reader))
    return session.scalar(query.execution_options(populate_existing=True))


def runs(claim: Claim, now: datetime) -> bool:
    return now < claim.ends_at <= now + LONGEST_CLAIM


def _running(now: datetime) -> ColumnElement[bool]:
    """As `runs`."""
    return and_(Claim.ends_at > now, Claim.ends_at <= now + LONGEST_CLAIM)


def claims_of(session: Session, study_ids: Sequence[int], now: datetime) -> dict[int, Claim]:
    query = select(Claim).where(Claim.study_fk.in_(study_ids), _running(now))
    return {claim.study_fk: claim for claim in session.scalars(query.options(joinedload(Claim.reader)))}


def end_claim(session: Session, study_id: int, reader_id: int) -> bool:
    """Whether there was a claim of the reader's to end."""
    ended = session.execute(delete(Claim).where(Claim.study_fk == study_id, Claim.reader_fk == reader_id))
    return ended.rowcount > 0


def is_free(reader_id: int | None, now: datetime) -> ColumnElement[bool]:
    """Studies that no other reader has open and that are assigned to no other. `reader_id` None: a reader without an
    account."""
    claimed = exists().where(Claim.study_fk == Study.id, _running(now))
    assigned = exists().where(Assignment.study_fk == Study.id)
    if reader_id is not None:
        claimed = claimed.where(Claim.reader_fk != reader_id)
        assigned = assigned.where(Assignment.reader_fk != reader_id)
    return ~claimed & ~assigned


def is_assigned_to(reader_ids: Sequence[int]) -> ColumnElement[bool]:
    return exists().where(Assignment.study_fk == Study.id, Assignment.reader_fk.in_(reader_ids))


def is_assigned() -> ColumnElement[bool]:
    return exists().where(Assignment.study_fk == Study.id)


def assignment_of(session: Session, study_id: int) -> Assignment | None:
    return session.scalar(
        select(Assignment)
        .where(Assignment.study_fk == study_id)
        .options(joinedload(Assignment.reader))
        .execution_options(populate_existing=True)
    )


def assignments_of(session: Session, study_ids: Sequence[int]) -> dict[int, Assignment]:
    query = select(Assignment).where(Assignment.study_fk.in_(study_ids)).options(joinedload(Assignment.reader))
    return {assignment.study_fk: assignment for assignment in session.scalars(query)}


def open_notes(session: Session, study_id: int | None) -> list[HandOverNote]:
    """Notes that nobody has settled, the latest first; None: those about the whole list."""
    query = (
        select(HandOverNote)
        .where(HandOverNote.study_fk == study_id if study_id is not None else HandOverNote.study_fk.is_(None))
        .where(HandOverNote.settled_at.is_(None))
        .order_by(HandOverNote.id.desc())
        .options(joinedload(HandOverNote.author))
    )
    return list(session.scalars(query))


def open_note_counts(session: Session, study_ids: Sequence[int]) -> dict[int, int]:
    query = (
        select(HandOverNote.study_fk, func.count(HandOverNote.id))
        .where(HandOverNote.study_fk.in_(study_ids), HandOverNote.settled_at.is_(None))
        .group_by(HandOverNote.study_fk)
    )
    return {study_id: count for study_id, count in session.execute(query)}


def accounts_with_role(session: Session, roles: Sequence[str]) -> list[UserAccount]:
    query = select(UserAccount).where(UserAccount.role.in_(roles)).order_by(UserAccount.display_name)
    return list(session.scalars(query))


def filters_for(session: Session, owner_id: int | None) -> list[SavedFilter]:
    """The owner's own and everybody's shared ones, by name."""
    mine = SavedFilter.owner_fk == owner_id
    query = (
        select(SavedFilter)
        .where(mine | SavedFilter.is_shared)
        .order_by(SavedFilter.name, SavedFilter.id)
        .options(joinedload(SavedFilter.owner))
    )
    return list(session.scalars(query))


def filter_by_name(session: Session, owner_id: int, name: str) -> SavedFilter | None:
    return session.scalar(select(SavedFilter).where(SavedFilter.owner_fk == owner_id, SavedFilter.name == name))


def draft_of(session: Session, image_id: int, reader_id: int) -> Draft | None:
    return session.get(Draft, (image_id, reader_id), populate_existing=True)


def forget_draft(session: Session, image_id: int, reader_id: int) -> None:
    session.execute(delete(Draft).where(Draft.image_fk == image_id, Draft.reader_fk == reader_id))
