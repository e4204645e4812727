"""Choices of cases and their order, kept by name: each reader's own, and those that somebody shares with everybody."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy.orm import Session

from db.models import StudyStatus
from db.repositories import shared_work as repository
from db.repositories.accounts import account_by_username
from db.session import writing
from db.worklist_tables import SavedFilter as SavedFilterRow
from engine.errors import NotAllowed, NotFound, Refused
from engine.findings.answers import Task
from engine.findings.urgency import Level
from engine.services import audit
from engine.services.accounts import READERS, Actor, account_of, require
from engine.services.worklist import Sort, Whose, WorklistFilter

MAX_NAME, MAX_FILTERS = 60, 50  # characters; of one reader


@dataclass(frozen=True)
class SavedFilter:
    filter_id: int
    name: str
    filter: WorklistFilter
    owner: str  # display name
    is_mine: bool
    is_shared: bool


def saved(session: Session, actor: Actor) -> list[SavedFilter]:
    """The actor's own and everybody's shared ones, by name."""
    require(actor, *READERS)
    account = account_by_username(session, actor.username)
    return [
        SavedFilter(
            row.id,
            row.name,
            from_json(row.filter),
            row.owner.display_name,
            row.owner.username == actor.username,
            row.is_shared,
        )
        for row in repository.filters_for(session, account.id if account else None)
    ]


def save(session: Session, actor: Actor, name: str, filter: WorklistFilter, *, share: bool = False) -> int:
    """Keep it under `name`, in place of one's own of that name; returns its id. What was searched for is not kept: it
    may be a child's ID. Commits. Raises Refused for a name that is empty or too long, or one filter too many,
    NotAllowed."""
    require(actor, *READERS)
    name = " ".join(name.replace("\0", "").split())
    if not name:
        raise Refused("empty", "the filter needs a name")
    if len(name) > MAX_NAME:
        raise Refused("too_long", f"a name may have at most {MAX_NAME} characters, this one has {len(name)}")
    with writing(session):
        owner = account_of(session, actor)
        row = repository.filter_by_name(session, owner.id, name)
        if row is None:
            mine = [one for one in repository.filters_for(session, owner.id) if one.owner_fk == owner.id]
            if len(mine) >= MAX_FILTERS:
                raise Refused("too_many", f"{MAX_FILTERS} filters are kept already: remove one first")
            row = SavedFilterRow(owner_fk=owner.id, name=name)
            session.add(row)
        row.filter, row.is_shared = to_json(filter), share
        session.flush()
        audit.record(session, actor, "filter.saved", f"filter:{row.id}", {"shared": share})
        return row.id


def remove(session: Session, actor: Actor, filter_id: int) -> None:
    """One's own; an admin any. Commits. Raises NotFound, NotAllowed."""
    require(actor, *READERS)
    with writing(session):
        row = session.get(SavedFilterRow, filter_id)
        if row is None:
            raise NotFound(f"there is no filter {filter_id}")
        owner = account_of(session, actor)
        if row.owner_fk != owner.id and actor.role != "admin":
            raise NotAllowed("a filter is removed by who saved it, or by an admin")
        session.delete(row)
        audit.record(session, actor, "filter.removed", f"filter:{filter_id}")


def to_json(filter: WorklistFilter) -> dict[str, Any]:
    """Without what was searched for."""
    return {name: value for name, value in asdict(filter).items() if name != "search"}


def from_json(stored: dict[str, Any]) -> WorklistFilter:
    """What an earlier version stored and this one does not know is left out."""
    ages = stored.get("age_months_range")
    return WorklistFilter(
        statuses=_known(StudyStatus, stored.get("statuses")),
        tasks=_known(Task, stored.get("tasks")),
        urgencies=_known(Level, stored.get("urgencies")),
        sites=tuple(str(site) for site in stored.get("sites") or ()),
        age_months_range=(float(ages[0]), float(ages[1])) if ages else None,
        whose=(_known(Whose, [stored.get("whose")]) or (Whose.ANYBODYS,))[0],
        sort=(_known(Sort, [stored.get("sort")]) or (Sort.URGENCY,))[0],
        descending=bool(stored.get("descending")),
    )


def _known(members: type, values: Any) -> tuple:
    return tuple(members(value) for value in values or () if value in list(members))
