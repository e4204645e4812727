"""`pediscreen audit verify`: is the audit log still what was recorded, and are the rows that it speaks of?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from db import audit_chain, row_hash
from db.audit_chain import BEFORE_THE_FIRST, PLAIN, Link
from db.repositories import audit as repository
from db.session import session_scope, writing
from engine.services import audit, audit_anchor
from engine.services.accounts import Actor, require, service_actor

SUBJECT, ACTION, FIXED = "audit:log", "audit.verified", "rows.fixed"
MOST_KEPT = 100  # problems in the audit row of a verification
MOST_PLACES = 200
AT_A_TIME = 500  # rows fixed by one audit row


@dataclass(frozen=True)
class Problem:
    """`kind`: changed, removed, inserted, reordered, cut, unsealed, unknown_key, anchor; of the rows that the log
    speaks of row_changed, row_removed, row_inserted. `row`: of the audit log; `table_row`: of another `table`."""

    kind: str
    message: str
    row: int | None = None
    table: str | None = None
    table_row: int | None = None


@dataclass(frozen=True)
class Verification:
    rows: int
    last_id: int
    is_keyed: bool  # the whole of it, from `keyed_from` on
    keyed_from: int | None
    rows_checked: int  # of other tables
    is_anchored: bool
    problems: tuple[Problem, ...]

    def in_words(self) -> str:
        if self.problems:
            count = len(self.problems)
            return f"{count} {'problem' if count == 1 else 'problems'} in {self.rows:,} rows."
        seal = (
            f"sealed with the audit key from row {self.keyed_from} on"
            if self.keyed_from is not None
            else "without a key: whoever can write to the database could make the whole chain anew, and only the "
            "anchor outside it would tell"
        )
        anchored = "the anchor agrees" if self.is_anchored else "there is no anchor yet"
        return (
            f"All {self.rows:,} rows are as they were recorded, {seal}; {anchored}. "
            f"{self.rows_checked:,} reads, reviews and other rows that it speaks of are unchanged."
        )


@dataclass(frozen=True)
class LastVerification:
    at: datetime
    by: str
    rows: int
    problems: int
    messages: tuple[str, ...]


@dataclass
class _Walk:
    key: bytes | None
    count: int = 0
    keyed_from: int | None = None
    previous: Link | None = None
    problems: list[Problem] = field(default_factory=list)
    broken: list[tuple[Link | None, Link]] = field(default_factory=list)  # a row and the one that does not follow it
    odd: list[Link] = field(default_factory=list)  # rows whose hash is not that of what they say
    fixed: dict[tuple[str, int], tuple[str, int]] = field(default_factory=dict)  # the hash that counts, and who says so


def verify(session: Session, actor: Actor) -> Verification:
    """Reads all of the audit log and all rows it has fixed. Records that it did. Commits. Admins only."""
    require(actor)
    walk = _walk(session)
    _explain(session, walk)
    wrong = audit_anchor.trouble(session, walk.key)
    is_anchored = audit_anchor.path().is_file()
    last_id = walk.previous.id if walk.previous else 0
    if wrong is not None:
        message, row = wrong
        walk.problems.append(Problem("cut" if row is not None and row > last_id else "anchor", message, row))
    elif not is_anchored and walk.count > 1:
        walk.problems.append(Problem("anchor", f"the anchor {audit_anchor.path()} is missing: was it taken away?"))
    rows_checked = _check_rows(session, walk)
    found = Verification(
        rows=walk.count,
        last_id=last_id,
        is_keyed=walk.keyed_from == 1,
        keyed_from=walk.keyed_from,
        rows_checked=rows_checked,
        is_anchored=is_anchored,
        problems=tuple(walk.problems),
    )
    with writing(session):
        kept = [vars(problem) for problem in found.problems[:MOST_KEPT]]
        detail = {"checked": found.rows, "problems": len(found.problems), "first": kept}
        audit.record(session, actor, ACTION, SUBJECT, detail)
    audit.keep_anchor(session, now=True)
    return found


def last_verification(session: Session, actor: Actor) -> LastVerification | None:
    """None: never. Admins only."""
    require(actor)
    event = repository.last_event(session, ACTION, SUBJECT)
    if event is None:
        return None
    said = event.detail
    messages = tuple(problem["message"] for problem in said["first"])
    return LastVerification(event.at, event.actor, said["checked"], said["problems"], messages)


def end_is_missing(session: Session, actor: Actor) -> str | None:
    """What the anchor says at once, without reading the log; None: nothing is missing. Admins only."""
    require(actor)
    wrong = audit_anchor.trouble(session, audit.key())
    return None if wrong is None else wrong[0]


def fix_earlier_rows(database_url: str) -> int:
    """Reads, reviews and the like from before audit rows carried their hashes: fixed as they are now, once. After every
    upgrade of the database. Returns how many."""
    with session_scope(database_url) as session:
        if repository.last_event(session, FIXED, SUBJECT) is not None:
            return 0
        parts: list[list[dict[str, Any]]] = [[]]
        for table in row_hash.TABLES:
            for row_id, sha256 in row_hash.hashes(session, table):
                if len(parts[-1]) == AT_A_TIME:
                    parts.append([])
                parts[-1].append({"table": table, "id": row_id, "sha256": sha256})
        with writing(session):
            for part in parts:
                audit.record(session, service_actor("upgrade"), FIXED, SUBJECT, {"hashes": part})
        return sum(map(len, parts))


# ---------------------------------------------------------------- the chain


def _walk(session: Session) -> _Walk:
    walk = _Walk(audit.key())
    ours = audit_chain.seal_name(walk.key)
    unknown: set[str] = set()
    for link in audit_chain.links(session):
        walk.count += 1
        before = walk.previous
        if link.seal != PLAIN and walk.keyed_from is None:
            walk.keyed_from = link.id
        if link.seal == PLAIN and walk.keyed_from is not None:
            message = f"row {link.id} is not sealed with the audit key, as those before it are: it was made elsewhere"
            walk.problems.append(Problem("unsealed", message, link.id))
        if link.seal not in (PLAIN, ours):
            if link.seal not in unknown:
                unknown.add(link.seal)
                message = f"rows from {link.id} on are sealed with {link.seal}, which is not PEDISCREEN_AUDIT_KEY"
                walk.problems.append(Problem("unknown_key", message, link.id))
        elif audit_chain.hash_of(link, None if link.seal == PLAIN else walk.key) != link.hash:
            walk.odd.append(link)
        if link.previous_hash != (before.hash if before else BEFORE_THE_FIRST):
            walk.broken.append((before, link))
        for one in link.detail.get("hashes", ()):
            walk.fixed[one["table"], one["id"]] = (one["sha256"], link.id)
        walk.previous = link
    return walk


def _explain(session: Session, walk: _Walk) -> None:
    """From what does not fit to what somebody did."""
    if not walk.odd and not walk.broken:
        return
    row_of_hash = {BEFORE_THE_FIRST: 0} | {link.hash: link.id for link in audit_chain.links(session)}
    places = [link.id for link in walk.odd[:MOST_PLACES]]  # where a row that stands at a wrong place may belong
    blamed: set[int] = set()

    def add(kind: str, message: str, row: int) -> None:
        if row not in blamed:
            blamed.add(row)
            walk.problems.append(Problem(kind, message, row))

    for link in walk.odd:
        key = None if link.seal == PLAIN else walk.key
        others = [row for row in places if row != link.id]
        place = next((row for row in others if audit_chain.hash_of(replace(link, id=row), key) == link.hash), None)
        if place is not None:
            add("reordered", f"row {link.id} was recorded as row {place}: the order was changed", link.id)
        else:
            add("changed", f"row {link.id} does not say what was recorded: it was changed", link.id)
    for before, link in walk.broken:
        before_id = before.id if before else 0
        follows = row_of_hash.get(link.previous_hash)
        if link.id in blamed:
            continue  # said already
        if link.id > before_id + 1 and follows is None:
            first, last = before_id + 1, link.id - 1
            rows = f"row {first} was" if first == last else f"rows {first} to {last} were"
            add("removed", f"{rows} removed, before row {link.id}", first)
        elif follows is not None and follows < before_id:
            between = [row for row in range(follows + 1, before_id + 1) if row not in blamed]
            for row in between:
                add("inserted", f"row {row} was put in: row {link.id} was recorded right after row {follows}", row)
        elif follows is not None:
            add("reordered", f"row {link.id} was recorded after row {follows}: the order was changed", link.id)
        elif before_id not in blamed and before is not None and before not in walk.odd:
            message = (
                f"row {before_id} is not the one that row {link.id} was recorded after: it was changed or replaced"
            )
            add("changed", message, before_id)
        elif before is None:
            add("changed", f"row {link.id} is not the first row that was recorded: it was changed or replaced", link.id)
    walk.problems.sort(key=lambda problem: problem.row or 0)


# ---------------------------------------------------------------- the rows it speaks of


def _check_rows(session: Session, walk: _Walk) -> int:
    """Adds the problems; returns how many rows were looked at."""
    count, is_complete = 0, repository.last_event(session, FIXED, SUBJECT) is not None
    for table in row_hash.TABLES:
        here = set()
        for row_id, sha256 in row_hash.hashes(session, table):
            count += 1
            here.add(row_id)
            said = walk.fixed.get((table, row_id))
            if said is not None and said[0] != sha256:
                message = f"{table} {row_id} is not what audit row {said[1]} recorded: it was changed in the database"
                walk.problems.append(Problem("row_changed", message, said[1], table, row_id))
            elif said is None and is_complete:
                message = f"{table} {row_id} was never recorded: it was put into the database from outside"
                walk.problems.append(Problem("row_inserted", message, None, table, row_id))
        walk.problems.extend(_removed(walk, table, here))
    return count


def _removed(walk: _Walk, table: str, here: set[int]) -> Iterator[Problem]:
    for (of, row_id), (_, audit_row) in walk.fixed.items():
        if of == table and row_id not in here:
            message = f"{table} {row_id}, which audit row {audit_row} recorded, was removed from the database"
            yield Problem("row_removed", message, audit_row, table, row_id)
