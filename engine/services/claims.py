"""Claims: opening a case for review takes it for a while, so that two people never read the same one.

A claim ends with the decision, when its reader leaves the case, or LEASE after they last did something. Then the case
is free for the next; what the reader had typed is kept (engine.services.drafts) and may still be saved as long as
nobody else has taken or decided the case."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from db.models import Study, StudyStatus, UserAccount
from db.repositories import shared_work as repository
from db.session import writing
from db.types import utc_now
from db.worklist_tables import Claim as ClaimRow
from engine.errors import Conflict, NotFound
from engine.services import audit, worklist
from engine.services.accounts import READERS, Actor, account_of, require
from engine.services.worklist import WorklistFilter

LEASE = timedelta(minutes=10)  # without a key, a click or a move of the mouse
RENEW_AFTER = LEASE / 10  # of activity; asking oftener would only write oftener


@dataclass(frozen=True)
class Claim:
    """Who has the case. `is_mine` False: another reader (`reader` by display name), who keeps it until `ends_at`
    unless they go on working at it."""

    study_id: int
    reader: str
    is_mine: bool
    taken_at: datetime
    ends_at: datetime

    def seconds_left(self, now: datetime | None = None) -> float:
        return max(0.0, (self.ends_at - (now or utc_now())).total_seconds())


def claim(session: Session, actor: Actor, study_id: int) -> Claim:
    """Take the case, or keep it for another LEASE. Where another reader has it, theirs comes back. Commits.
    Raises NotFound, NotAllowed."""
    require(actor, *READERS)
    now = utc_now()
    held = repository.claim_of(session, study_id)
    is_mine = held is not None and held.reader.username == actor.username and repository.runs(held, now)
    if is_mine and held.ends_at - now > LEASE - RENEW_AFTER:
        return _view(held, actor)
    with writing(session):
        return _view(_take(session, actor, study_id), actor)


def claim_next(
    session: Session,
    actor: Actor,
    filter: WorklistFilter,
    after_study_id: int | None = None,
    *,
    backwards: bool = False,
) -> int | None:
    """The next free case in the filter's order after `after_study_id` (`backwards`: the one before it), taken; None
    when no other is free. Commits. Raises NotAllowed."""
    require(actor, *READERS)
    while True:
        # One attempt a transaction: on PostgreSQL, locks of several studies taken in any order could meet crosswise.
        with writing(session):
            study_id = worklist.next_study(session, actor, filter, after_study_id, backwards=backwards)
            if study_id is None:
                return None
            if not repository.lock_study(session, study_id):
                continue
            # Whoever held the lock until now may have taken or decided it.
            if worklist.is_free_in(session, actor, filter, study_id):
                _take(session, actor, study_id)
                return study_id


def release(session: Session, actor: Actor, study_id: int) -> None:
    """Give the case back, so that others get it at once; nothing happens where it is not the actor's. Commits."""
    require(actor, *READERS)
    held = repository.claim_of(session, study_id)
    if held is None or held.reader.username != actor.username:
        return
    with writing(session):
        repository.lock_study(session, study_id)
        if repository.end_claim(session, study_id, held.reader_fk):
            audit.record(session, actor, "claim.released", f"study:{study_id}")


def current(session: Session, actor: Actor, study_id: int) -> Claim | None:
    """Who has the case now; None: nobody."""
    require(actor, *READERS)
    held = repository.claim_of(session, study_id)
    return _view(held, actor) if held is not None and repository.runs(held, utc_now()) else None


def refuse_if_taken(session: Session, study_id: int, reader: UserAccount) -> None:
    """Raise Conflict while another reader has the case. Within the transaction of a decision, the study locked."""
    held = repository.claim_of(session, study_id)
    if held is not None and held.reader_fk != reader.id and repository.runs(held, utc_now()):
        raise Conflict(f"{held.reader.display_name} has this case open now: only one reader decides about it at a time")


def decided(session: Session, image_id: int, study: Study, reader: UserAccount) -> None:
    """Within the transaction of a decision: nothing typed is left to keep, and a case without undecided images is
    nobody's any more."""
    repository.forget_draft(session, image_id, reader.id)
    if study.status in (StudyStatus.REVIEWED, StudyStatus.REJECTED):
        repository.end_claim(session, study.id, reader.id)


def _take(session: Session, actor: Actor, study_id: int) -> ClaimRow:
    """Within a transaction. The row of whoever has the case after it."""
    if not repository.lock_study(session, study_id):
        raise NotFound(f"there is no study {study_id}")
    reader = account_of(session, actor)
    now = utc_now()
    held = repository.claim_of(session, study_id)
    is_over = held is None or not repository.runs(held, now)
    if held is not None and held.reader_fk != reader.id and not is_over:
        return held
    if held is None:
        held = ClaimRow(study_fk=study_id, reader_fk=reader.id, reader=reader, taken_at=now, ends_at=now + LEASE)
        session.add(held)
    elif held.reader_fk == reader.id:
        held.ends_at = now + LEASE
    else:
        before = held.reader.username
        held.reader_fk, held.reader, held.taken_at, held.ends_at = reader.id, reader, now, now + LEASE
        audit.record(session, actor, "claim.ran_out", f"study:{study_id}", {"of": before})
    if is_over:
        held.taken_at = now
        audit.record(session, actor, "claim.taken", f"study:{study_id}")
    session.flush()
    return held


def _view(held: ClaimRow, actor: Actor) -> Claim:
    is_mine = held.reader.username == actor.username
    return Claim(held.study_fk, held.reader.display_name, is_mine, held.taken_at, held.ends_at)
