"""Browsers that are signed in. The cookie holds a random token; the database knows its hash, so that any web process
can say who asks, and that a session ends for all of them at once when its row goes."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from db.account_tables import WebSession
from db.models import Role, UserAccount
from db.repositories import accounts
from db.repositories import sign_in as repository
from db.session import writing
from db.types import utc_now
from engine.errors import NotFound, PediScreenError
from engine.services import audit
from engine.services.accounts import Actor, require
from engine.settings import settings


class SignedOut(PediScreenError):
    """The session of whoever acts has ended, or is locked."""


EVERYONE = (Role.READER, Role.ADJUDICATOR)


@dataclass(frozen=True)
class SignedIn:
    """Whose the session is. `locked`: nobody has touched it for long, and the password is asked for again;
    `must_change`: the password is somebody else's choice, and nothing else is open before it is changed."""

    session_id: int
    account_id: int
    actor: Actor
    locked: bool
    locks_in_s: float
    must_change: bool
    by_password: bool

    @property
    def may_work(self) -> bool:
        return not (self.locked or self.must_change)


@dataclass(frozen=True)
class SessionRow:
    session_id: int
    started_at: datetime
    active_at: datetime
    address: str
    browser: str
    locked: bool


def signed_in(session: Session, token: str | None, address: str = "") -> SignedIn | None:
    """One query by a unique index, at every request and every rerun of a page: nothing is cached, so that who was
    disabled a moment ago is out. `address`: where the request came from, by default where the session did."""
    if not token:
        return None
    now = utc_now()
    found = repository.web_session(session, hash_of(token), now)
    if found is None:
        return None
    row, account, credential = found
    locks_in = row.active_at + settings().sign_in.idle_after - now
    return SignedIn(
        session_id=row.id,
        account_id=account.id,
        actor=actor_of(account, address or row.address),
        locked=locks_in <= timedelta(0),
        locks_in_s=max(0.0, locks_in.total_seconds()),
        must_change=credential.must_change,
        by_password=credential.password_hash is not None,
    )


def actor_of(account: UserAccount, address: str) -> Actor:
    return Actor(account.username, account.display_name, account.role, address)


def start(session: Session, account: UserAccount, *, address: str, browser: str) -> str:
    """The new session's token. Part of the caller's transaction."""
    now = utc_now()
    repository.forget_ended(session, now)
    token = secrets.token_urlsafe(32)
    session.add(
        WebSession(
            token_sha256=hash_of(token),
            account_fk=account.id,
            started_at=now,
            active_at=now,
            ends_at=now + settings().sign_in.session_lasts,
            address=address[:64],
            browser=browser[:200],
        )
    )
    return token


def touch(session: Session, who: SignedIn) -> None:
    """The person is there. Commits. A locked session stays locked."""
    if who.locked:
        return
    with writing(session):
        now = utc_now()
        row = session.get(WebSession, who.session_id)
        if row is not None:
            row.active_at = now
            credential = repository.credential_by_username(session, who.actor.username)
            if credential is not None:
                credential.last_seen_at = now


def end(session: Session, who: SignedIn) -> None:
    """Sign-out. Commits."""
    with writing(session):
        repository.end_session(session, who.session_id)
        audit.record(session, who.actor, "sign_in.ended", f"account:{who.actor.username}")


def end_all(session: Session, actor: Actor, username: str) -> int:
    """Sign out everywhere; how many sessions ended. One's own, or as an admin anybody's. Commits."""
    require(actor, *EVERYONE) if actor.username == username else require(actor)
    with writing(session):
        account = accounts.account_by_username(session, username)
        if account is None:
            raise NotFound(f"there is no user {username}")
        ended = repository.end_sessions(session, account.id)
        audit.record(session, actor, "sign_in.ended_everywhere", f"account:{username}", {"sessions": ended})
    return ended


def sessions_of(session: Session, actor: Actor, username: str) -> list[SessionRow]:
    """Those of a user that have not ended, the latest used first. One's own, or as an admin anybody's."""
    require(actor, *EVERYONE) if actor.username == username else require(actor)
    account = accounts.account_by_username(session, username)
    if account is None:
        return []
    now = utc_now()
    idle_since = now - settings().sign_in.idle_after
    return [
        SessionRow(row.id, row.started_at, row.active_at, row.address, row.browser, row.active_at <= idle_since)
        for row in repository.live_sessions(session, now, account.id)
    ]


def hash_of(token: str) -> str:
    """A random token of 256 bits needs no salt and no slow hash."""
    return hashlib.sha256(token.encode()).hexdigest()
