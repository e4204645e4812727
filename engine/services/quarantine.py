"""Files that were refused, with the reason; the originals are kept."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from db.models import Quarantine, QuarantineState, Role
from db.repositories import quarantine as repository
from db.session import writing
from db.types import utc_now
from engine.errors import Conflict, NotFound, Refused
from engine.services import audit
from engine.services.accounts import READERS, Actor, require
from engine.services.incoming import move
from engine.settings import settings

# refusals that may mean a mix-up or tampering rather than a bad file
ALERT_CODES = {"sop_instance_uid_reused", "study_of_another_patient"}


@dataclass(frozen=True)
class QuarantineRow:
    quarantine_id: int
    file_name: str
    file_sha256: str
    size_bytes: int
    code: str
    reason: str
    is_alert: bool
    times_received: int
    received_at: datetime
    received_from: str
    state: QuarantineState
    dismissed_by: str | None
    dismissed_at: datetime | None
    note: str | None


@dataclass(frozen=True)
class QuarantinePage:
    rows: list[QuarantineRow]
    total: int
    page: int
    page_size: int


def original_path(file_sha256: str) -> Path:
    """Where the refused file itself is kept."""
    return settings().data_dir / "quarantine" / file_sha256


def keep(
    session: Session,
    actor: Actor,
    incoming: Path,
    file_name: str,
    file_sha256: str,
    size_bytes: int,
    refusal: Refused,
) -> int:
    """Move a refused file to its place, then add its row (or count it on the row it already has), and commit."""
    require(actor, *READERS, Role.SERVICE)
    place = original_path(file_sha256)
    if not place.exists():
        move(incoming, place)
    with writing(session):
        row = repository.quarantined_file(session, file_sha256, refusal.code, file_name)
        if row is None:
            try:
                with session.begin_nested():
                    row = Quarantine(
                        file_name=file_name,
                        file_sha256=file_sha256,
                        size_bytes=size_bytes,
                        code=refusal.code,
                        reason=str(refusal).replace("\0", "")[:2000],
                        is_alert=refusal.code in ALERT_CODES,
                        times_received=0,
                    )
                    _received(row, actor)
                    session.add(row)
            except IntegrityError:  # the same file arrived twice at once
                row = repository.quarantined_file(session, file_sha256, refusal.code, file_name)
                if row is None:
                    raise
                _received(row, actor)
        else:
            _received(row, actor)
        session.flush()
        audit.record(
            session,
            actor,
            "ingest.quarantined",
            f"quarantine:{row.id}",
            {"code": refusal.code, "file_sha256": file_sha256},
        )
        return row.id


def _received(row: Quarantine, actor: Actor) -> None:
    row.times_received += 1
    row.received_at = utc_now()
    row.received_from = actor.username
    row.state = QuarantineState.OPEN
    row.dismissed_by = row.dismissed_at = row.note = None


def quarantine_page(
    session: Session,
    actor: Actor,
    page: int = 1,
    page_size: int = 50,
    search: str = "",
    states: tuple[QuarantineState, ...] = (QuarantineState.OPEN,),
) -> QuarantinePage:
    """One page, counted from 1, the latest first. `search` looks in file name, code, reason and hash. The view
    is recorded (file names may name a child), and that commits."""
    require(actor, *READERS)
    rows, total = repository.quarantine_page(session, states, search, (page - 1) * page_size, page_size)
    found = QuarantinePage([_row(row) for row in rows], total, page, page_size)
    audit.record_view(session, actor, "quarantine:list")
    return found


def _row(row: Quarantine) -> QuarantineRow:
    return QuarantineRow(
        quarantine_id=row.id,
        file_name=row.file_name,
        file_sha256=row.file_sha256,
        size_bytes=row.size_bytes,
        code=row.code,
        reason=row.reason,
        is_alert=row.is_alert,
        times_received=row.times_received,
        received_at=row.received_at,
        received_from=row.received_from,
        state=QuarantineState(row.state),
        dismissed_by=row.dismissed_by,
        dismissed_at=row.dismissed_at,
        note=row.note,
    )


def dismiss(session: Session, actor: Actor, quarantine_id: int, note: str) -> None:
    """Somebody has dealt with it, and says how. The file stays. Commits. Raises NotFound, Conflict when dismissed
    already, Refused("note_missing")."""
    require(actor, *READERS)
    note = note.replace("\0", "").strip()
    if not note:
        raise Refused("note_missing", "say in a few words what was done about the file")
    with writing(session):
        row = session.get(Quarantine, quarantine_id, with_for_update=True)
        if row is None:
            raise NotFound(f"there is no quarantined file {quarantine_id}")
        if row.state == QuarantineState.DISMISSED:
            raise Conflict(f"{row.dismissed_by} has dealt with this file already")
        row.state = QuarantineState.DISMISSED
        row.dismissed_by, row.dismissed_at, row.note = actor.username, utc_now(), note
        audit.record(session, actor, "quarantine.dismissed", f"quarantine:{row.id}", {"code": row.code})
