"""Readers share a list: whose a case is, and what one leaves for the next, about a case or about the whole list."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from db.models import Role
from db.repositories import shared_work as repository
from db.repositories.accounts import account_by_username
from db.session import writing
from db.types import utc_now
from db.worklist_tables import Assignment, HandOverNote
from engine.errors import Conflict, NotFound, Refused
from engine.services import audit, blind_reading
from engine.services.accounts import READERS, Actor, account_of, require

MAX_NOTE = 1000  # characters


@dataclass(frozen=True)
class Reader:
    username: str
    display_name: str


@dataclass(frozen=True)
class Note:
    """`study_id` None: about the whole list."""

    note_id: int
    study_id: int | None
    author: str  # display name
    is_mine: bool
    text: str
    created_at: datetime


def readers(session: Session, actor: Actor) -> list[Reader]:
    """Whom a case can be assigned to: everybody who may review and has worked here, by name; the actor among them."""
    require(actor, *READERS)
    accounts = repository.accounts_with_role(session, (*READERS, Role.ADMIN))
    found = [Reader(account.username, account.display_name) for account in accounts]
    me = Reader(actor.username, actor.display_name)
    return found if me in found else [me, *found]


def assign(session: Session, actor: Actor, study_id: int, username: str | None) -> None:
    """Make it that reader's case; None: nobody's. Others are then not led to it, and may still open it. Commits.
    Raises NotFound, NotAllowed."""
    require(actor, *READERS)
    with writing(session):
        if not repository.lock_study(session, study_id):
            raise NotFound(f"there is no study {study_id}")
        before = repository.assignment_of(session, study_id)
        if (before.reader.username if before else None) == username:
            return
        reader = account_of(session, actor) if username == actor.username else None
        if username is not None and reader is None:
            reader = account_by_username(session, username)
            if reader is None or reader.role not in (*READERS, Role.ADMIN):
                raise NotFound(f"there is no reader {username}")
        if reader is None:
            session.delete(before)
        elif before is None:
            session.add(Assignment(study_fk=study_id, reader_fk=reader.id, assigned_by=actor.username))
        else:
            before.reader_fk, before.reader = reader.id, reader
            before.assigned_by, before.assigned_at = actor.username, utc_now()
        audit.record(session, actor, "study.assigned", f"study:{study_id}", {"to": username})


def assigned_to(session: Session, actor: Actor, study_id: int) -> Reader | None:
    require(actor, *READERS)
    assignment = repository.assignment_of(session, study_id)
    return Reader(assignment.reader.username, assignment.reader.display_name) if assignment else None


def leave_note(session: Session, actor: Actor, study_id: int | None, text: str) -> int:
    """Add a note, about the whole list where `study_id` is None, and return its id. Commits. Raises Refused for an
    empty or too long text, NotFound, NotAllowed."""
    require(actor, *READERS)
    text = text.replace("\0", "").strip()
    if not text:
        raise Refused("empty", "the note is empty: write what the next reader should know")
    if len(text) > MAX_NOTE:
        raise Refused("too_long", f"a note may have at most {MAX_NOTE} characters, this one has {len(text)}")
    with writing(session):
        if study_id is not None and not repository.lock_study(session, study_id):
            raise NotFound(f"there is no study {study_id}")
        note = HandOverNote(study_fk=study_id, author_fk=account_of(session, actor).id, text=text)
        session.add(note)
        session.flush()
        subject = "worklist" if study_id is None else f"study:{study_id}"
        audit.record(session, actor, "note.left", subject, {"note": note.id})
        return note.id


def notes(session: Session, actor: Actor, study_id: int | None) -> list[Note]:
    """What is not settled yet, the latest first; None: about the whole list. A blind reader gets only their own."""
    require(actor, *READERS)
    is_blind = study_id is not None and blind_reading.is_blind_to(session, actor, study_id)
    return [
        Note(
            note.id,
            note.study_fk,
            note.author.display_name,
            note.author.username == actor.username,
            note.text,
            note.created_at,
        )
        for note in repository.open_notes(session, study_id)
        if not is_blind or note.author.username == actor.username
    ]


def settle(session: Session, actor: Actor, note_id: int) -> None:
    """The note has been acted on and is shown no more; it stays in the database. Commits. Raises Conflict when
    somebody has settled it already, NotFound, NotAllowed."""
    require(actor, *READERS)
    with writing(session):
        note = session.get(HandOverNote, note_id, populate_existing=True, with_for_update=True)
        if note is None:
            raise NotFound(f"there is no note {note_id}")
        if note.settled_at is not None:
            raise Conflict(f"{note.settled_by} has settled this note already")
        note.settled_by, note.settled_at = actor.username, utc_now()
        subject = "worklist" if note.study_fk is None else f"study:{note.study_fk}"
        audit.record(session, actor, "note.settled", subject, {"note": note_id})
