"""Guessing passwords made slow: for each name and each address, ever longer pauses after some failures.

An attempt counts as failed before the password is looked at, and is forgiven when it was right: a hundred attempts at
the same moment are a hundred, too. Names that no account has count alike, so that a pause tells nothing."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from db.account_tables import SignInFailure
from db.repositories import sign_in as repository
from db.session import writing
from db.types import utc_now
from engine.errors import PediScreenError


@dataclass(frozen=True)
class Patience:
    """How many failures are free, and the pauses after them: the first one, doubling up to the longest."""

    free: int
    first_pause: timedelta = timedelta(seconds=15)
    longest_pause: timedelta = timedelta(minutes=15)

    def pause(self, failures: int) -> timedelta | None:
        over = failures - self.free
        return None if over < 0 else min(self.longest_pause, self.first_pause * 2 ** min(over, 16))


OF_NAME = Patience(free=5)
OF_ADDRESS = Patience(free=30)  # a hospital's users may all come from one
FORGET_AFTER = timedelta(hours=24)


class SignInRefused(PediScreenError):
    """Nobody gets in by this; the message says no more than that."""


class TooManyAttempts(SignInRefused):
    """The name or the address has to wait."""


@dataclass(frozen=True)
class Attempt:
    """Counted as failed. `locks_out`: the name or the address has to wait from now on."""

    username: str
    address: str
    locks_out: bool


def begin(session: Session, username: str, address: str, *, now: datetime | None = None) -> Attempt:
    """Commits. Raises TooManyAttempts, and counts nothing, while the name or the address has to wait."""
    now = now or utc_now()
    with writing(session):
        repository.forget_failures(session, before=now - FORGET_AFTER)
        rows = [
            (repository.failure_for_update(session, tried, now), patience)
            for tried, patience in ((_address(address), OF_ADDRESS), (_name(username), OF_NAME))
        ]
        waits = [
            row.blocked_until - now for row, _ in rows if row.blocked_until is not None and row.blocked_until > now
        ]
        if waits:
            seconds = max(1, round(max(waits).total_seconds()))
            raise TooManyAttempts(f"Too many attempts. Try again in {seconds} s.")
        locks_out = False
        for row, patience in rows:
            locks_out |= _count(row, patience, now)
    return Attempt(username, address, locks_out)


def forgive(session: Session, attempt: Attempt) -> None:
    """It was right: part of the caller's transaction. The address keeps its other failures, or one good password
    would pay for guessing all the others."""
    now = utc_now()
    name = repository.failure_for_update(session, _name(attempt.username), now)
    address = repository.failure_for_update(session, _address(attempt.address), now)
    name.failures, name.blocked_until = 0, None
    address.failures, address.blocked_until = max(0, address.failures - 1), None


def _count(row: SignInFailure, patience: Patience, now: datetime) -> bool:
    row.failures += 1
    row.last_at = now
    pause = patience.pause(row.failures)
    row.blocked_until = None if pause is None else now + pause
    return pause is not None


def _name(username: str) -> str:
    return f"name:{hashlib.sha256(username.encode()).hexdigest()}"


def _address(address: str) -> str:
    return f"address:{address}"[:80]
