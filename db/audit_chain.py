"""The audit rows as a chain: each carries a hash over the one before it and over all that it says, so that no row can
be changed, taken out, put in or moved without breaking what follows.

Rows are added last in their transaction, one transaction at a time (SQLite has one writer; PostgreSQL: an advisory
lock that ends with the commit), so that `id` counts 1, 2, 3 ... without a gap, in the order of the chain. With a key
the hash is an HMAC, and whoever has the database but not the key cannot make a chain of their own; without it they can.

What `content` gives is kept for ever: rows made once must verify later."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import insert, select, text
from sqlalchemy.orm import Session

from db.models import AuditEvent

BEFORE_THE_FIRST = "0" * 64
PLAIN = "sha256"
_LOCK = 0x5045_4449_4155_4449  # any number that nothing else in the database locks


@dataclass(frozen=True)
class Link:
    """A row of the chain as values. `seal` names how `hash` was made: "sha256", or "hmac:" and the key's id."""

    id: int
    at: datetime
    actor: str
    action: str
    subject: str
    detail: Mapping[str, Any]
    origin: str
    seal: str = ""
    previous_hash: str = ""
    hash: str = ""


class WrongKey(Exception):
    """The chain is sealed with a key that is not the one at hand."""


def seal_name(key: bytes | None) -> str:
    """Says which key without giving it away."""
    return PLAIN if key is None else f"hmac:{hmac.digest(key, b'key id', 'sha256').hex()[:8]}"


def content(link: Link) -> bytes:
    """All that a row says, as the one JSON text that says it: keys in order, no spaces, ASCII, times in UTC."""
    said = {
        "id": link.id,
        "at": link.at.astimezone(UTC).isoformat(timespec="microseconds"),
        "who": link.actor,
        "what": link.action,
        "subject": link.subject,
        "detail": link.detail,
        "from": link.origin,
        "seal": link.seal,
    }
    return json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")


def hash_of(link: Link, key: bytes | None) -> str:
    message = link.previous_hash.encode("ascii") + content(link)
    return hashlib.sha256(message).hexdigest() if key is None else hmac.digest(key, message, "sha256").hex()


def sealed(link: Link, previous_hash: str, key: bytes | None) -> Link:
    link = replace(link, seal=seal_name(key), previous_hash=previous_hash)
    return replace(link, hash=hash_of(link, key))


def as_stored(detail: Mapping[str, Any]) -> dict[str, Any]:
    """What the database gives back of it: the hash is taken over that."""
    return json.loads(json.dumps(detail, allow_nan=False))


class End(NamedTuple):
    """The last row of a chain, as far as the next one needs it."""

    id: int
    seal: str
    hash: str


def last(session: Session) -> End | None:
    columns = (AuditEvent.id, AuditEvent.seal, AuditEvent.hash)
    row = session.execute(select(*columns).order_by(AuditEvent.id.desc()).limit(1)).first()
    return End(*row) if row else None


def append(session: Session, rows: Sequence[Link], key: bytes | None) -> End | None:
    """Add `rows` to the end of the chain and return the row that was the last one. To be called right before the
    commit: others wait from here on. Raises WrongKey where the chain is sealed with another key, or with one at all
    and none is given."""
    session.flush()
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    before = last(session)
    if before is not None and before.seal not in (PLAIN, seal_name(key)):
        raise WrongKey(before.seal)
    number, previous_hash = (before.id, before.hash) if before else (0, BEFORE_THE_FIRST)
    links = []
    for row in rows:
        number += 1
        links.append(sealed(replace(row, id=number), previous_hash, key))
        previous_hash = links[-1].hash
    # past the ORM, whose bookkeeping for a row that nobody changes any more costs as much as all of this
    session.connection().execute(insert(AuditEvent.__table__), [vars(link) for link in links])
    return before


def links(session: Session, after_id: int = 0, many: int = 5000) -> Iterator[Link]:
    """The chain from the row after `after_id`, in order, without holding it in memory."""
    columns = [getattr(AuditEvent, name) for name in Link.__dataclass_fields__]
    while True:
        rows = session.execute(select(*columns).where(AuditEvent.id > after_id).order_by(AuditEvent.id).limit(many))
        found = [Link(*row) for row in rows]
        yield from found
        if len(found) < many:
            return
        after_id = found[-1].id


# ---------------------------------------------------------------- what the database itself refuses

REFUSE_CHANGES = {
    "sqlite": (
        "CREATE TRIGGER audit_event_update BEFORE UPDATE ON audit_event "
        "BEGIN SELECT RAISE(ABORT, 'audit rows are only ever added'); END",
        "CREATE TRIGGER audit_event_delete BEFORE DELETE ON audit_event "
        "BEGIN SELECT RAISE(ABORT, 'audit rows are only ever added'); END",
        # an INSERT OR REPLACE deletes without asking the trigger above
        "CREATE TRIGGER audit_event_insert BEFORE INSERT ON audit_event "
        "WHEN EXISTS (SELECT 1 FROM audit_event WHERE id >= NEW.id) "
        "BEGIN SELECT RAISE(ABORT, 'audit rows are only ever added, at the end'); END",
    ),
    "postgresql": (
        "CREATE FUNCTION audit_event_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'audit rows are only ever added'; END $$",
        "CREATE TRIGGER audit_event_change BEFORE UPDATE OR DELETE ON audit_event "
        "FOR EACH ROW EXECUTE FUNCTION audit_event_refuse()",
        "CREATE TRIGGER audit_event_truncate BEFORE TRUNCATE ON audit_event "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_event_refuse()",
    ),
}
