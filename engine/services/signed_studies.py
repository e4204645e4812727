"""A study that its readers have signed, as what leaves of it: engine.interop.signed_study, filled from the database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy.orm import Session

from engine.errors import DocumentRefused
from engine.interop.signed_study import SignedStudy
from engine.services.accounts import Actor


@dataclass(frozen=True)
class Issued:
    """What has left of a study, or was written to leave."""

    revision: int
    is_withdrawal: bool
    issued_at: datetime


def why_not_signed(session: Session, actor: Actor, study_id: int) -> DocumentRefused | None:
    """Why nothing may leave of the study yet ("undecided", "second_read_pending", "adjudication_pending"), or None.
    One that was issued and whose decision was taken back may: as a withdrawal. Raises NotFound, NotAllowed."""
    raise NotImplementedError


def issue(session: Session, actor: Actor, study_id: int) -> SignedStudy:
    """What leaves of the study now. Commits: what it says for the first time, or anew, is kept as its next revision;
    a repeated call gives the same revision, and so the same documents.

    After a decision that had been issued was taken back, a withdrawal (`is_withdrawn`). Service accounts and admins
    only: a reader may not know yet what others decided. Raises DocumentRefused as `why_not_signed` says, NotFound,
    NotAllowed."""
    raise NotImplementedError


def issued(session: Session, actor: Actor, study_id: int) -> list[Issued]:
    """Every revision, the latest first. Raises NotFound, NotAllowed."""
    raise NotImplementedError
