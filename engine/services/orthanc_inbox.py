"""How far an Orthanc has been followed, and what it has that was not fetched yet."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy.orm import Session

from db.exchange_tables import FetchState, OrthancInstance, OrthancSource
from db.models import Role
from db.repositories import orthanc as repository
from db.session import writing
from db.types import utc_now
from engine.services.accounts import Actor, require

FIRST_PAUSE, LONGEST_PAUSE = timedelta(seconds=10), timedelta(minutes=10)


@dataclass(frozen=True)
class Cursor:
    """`change` is the identity of the change number `seq`; None at the very beginning."""

    source_id: int
    seq: int
    change: str | None


@dataclass(frozen=True)
class OrthancRow:
    """For IT: what one Orthanc has announced. `failing` of `ready` could not be fetched and are tried again."""

    url: str
    waiting: int
    ready: int
    failing: int
    done: int
    other: int
    gone: int


def overview(session: Session, actor: Actor) -> list[OrthancRow]:
    """Every Orthanc that was ever followed. Admins only."""
    require(actor)
    rows = []
    for source in repository.sources(session):
        counts = repository.counts(session, source.id)
        numbers = {state.value: counts.get(state, 0) for state in FetchState}
        rows.append(OrthancRow(url=source.url, failing=repository.failing(session, source.id), **numbers))
    return rows


def cursor(session: Session, actor: Actor, url: str) -> Cursor:
    """How far `url` has been followed. Commits where it is new."""
    require(actor, Role.SERVICE)
    with writing(session):
        source = repository.source(session, url)
        if source is None:
            source = OrthancSource(url=url, last_seq=0)
            session.add(source)
            session.flush()
        return Cursor(source.id, source.last_seq, source.last_change)


def note(
    session: Session,
    actor: Actor,
    url: str,
    announced: Mapping[str, str],
    stable: Collection[str],
    *,
    seq: int,
    change: str | None,
) -> Cursor:
    """Write down what came with some changes, and go on after them: both or neither. Commits.

    `announced`: instance -> identity of the change that announced it; an instance that was announced by the same
    change before is left as it is. `stable`: instances of studies that are complete."""
    require(actor, Role.SERVICE)
    with writing(session):
        source = repository.source(session, url)
        assert source is not None
        known = repository.instances(session, source.id, announced)
        for instance, identity in announced.items():
            row = known.get(instance)
            if row is None:
                session.add(OrthancInstance(source_fk=source.id, instance=instance, change=identity))
            elif row.change != identity:
                row.change, row.state, row.failures = identity, FetchState.WAITING, 0
                row.announced_at = row.try_at = utc_now()
                row.done_at = None
        session.flush()
        repository.make_ready(session, source.id, stable)
        source.last_seq, source.last_change = seq, change
        return Cursor(source.id, seq, change)


def to_fetch(session: Session, actor: Actor, source_id: int, *, waited: timedelta, limit: int) -> Sequence[str]:
    """Instances whose turn it is. One that has waited this long for its study to be complete is fetched anyway:
    Orthanc forgets to announce that when it is restarted meanwhile. Commits."""
    require(actor, Role.SERVICE)
    now = utc_now()
    with writing(session):
        repository.make_ready_announced_before(session, source_id, now - waited)
        return [row.instance for row in repository.ready(session, source_id, now, limit)]


def close(session: Session, actor: Actor, source_id: int, instance: str, state: FetchState) -> None:
    """It is done with. Commits."""
    require(actor, Role.SERVICE)
    with writing(session):
        row = session.get(OrthancInstance, (source_id, instance), populate_existing=True)
        assert row is not None
        row.state, row.done_at = state, utc_now()


def put_off(session: Session, actor: Actor, source_id: int, instance: str) -> None:
    """It could not be fetched; the others go first. Commits."""
    require(actor, Role.SERVICE)
    with writing(session):
        row = session.get(OrthancInstance, (source_id, instance), populate_existing=True)
        assert row is not None
        row.failures += 1
        row.try_at = utc_now() + min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(row.failures - 1, 10))


def number_failing(session: Session, actor: Actor, source_id: int) -> int:
    require(actor, Role.SERVICE)
    return repository.failing(session, source_id)
