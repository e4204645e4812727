"""Files that were refused, with the reason; the originals are kept."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sqlalchemy.orm import Session

from db.models import QuarantineState
from engine.services.accounts import Actor
from engine.settings import settings


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


def quarantine_page(
    session: Session,
    actor: Actor,
    page: int = 1,
    page_size: int = 50,
    search: str = "",
    states: tuple[QuarantineState, ...] = (QuarantineState.OPEN,),
) -> QuarantinePage:
    """One page, counted from 1, the latest first. `search` looks in file name, code, reason and hash."""
    raise NotImplementedError


def dismiss(session: Session, actor: Actor, quarantine_id: int, note: str) -> None:
    """Somebody has dealt with it, and says how. The file stays. Commits. Raises NotFound, Conflict when dismissed
    already, Refused("note_missing")."""
    raise NotImplementedError
