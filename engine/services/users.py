"""The people who may sign in, as an admin sees and changes them."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from db.account_tables import Credential
from db.models import Role
from db.repositories import accounts
from db.repositories import sign_in as repository
from db.session import writing
from db.types import utc_now
from engine.errors import Conflict, NotFound, Refused
from engine.services import audit, passwords
from engine.services.accounts import Actor, require
from engine.services.sign_in import USERNAME, normal_username

ROLES = (Role.READER, Role.ADJUDICATOR, Role.ADMIN)  # a program's role signs nobody in


@dataclass(frozen=True)
class UserRow:
    username: str
    display_name: str
    role: Role
    by_password: bool
    must_change: bool
    disabled_at: datetime | None
    last_seen_at: datetime | None
    sessions: int

    def as_json(self) -> dict[str, Any]:
        return {
            "username": self.username,
            "display_name": self.display_name,
            "role": self.role,
            "signs_in_by": "password" if self.by_password else "OIDC",
            "must_change_password": self.must_change,
            "disabled_at": self.disabled_at,
            "last_seen_at": self.last_seen_at,
            "sessions": self.sessions,
        }


def users(session: Session, actor: Actor) -> list[UserRow]:
    """By name. Admins only."""
    require(actor)
    live = [row.account_fk for row in repository.live_sessions(session, utc_now())]
    return [
        UserRow(
            one.account.username,
            one.account.display_name,
            one.account.role,
            one.password_hash is not None,
            one.must_change,
            one.disabled_at,
            one.last_seen_at,
            live.count(one.account_fk),
        )
        for one in repository.credentials(session)
    ]


def add_user(session: Session, actor: Actor, username: str, display_name: str, role: Role) -> str:
    """The one-time password that they change at their first sign-in. Commits. Raises Refused, Conflict."""
    require(actor)
    password = passwords.one_time_password()
    new_hash = passwords.hash_of(password)
    with writing(session):
        add_account(session, username, display_name, role, password_hash=new_hash, must_change=True)
        audit.record(session, actor, "account.added", f"account:{normal_username(username)}", {"role": role})
    return password


def add_account(session: Session, username: str, display_name: str, role: Role, **credential: Any) -> Credential:
    """Part of the caller's transaction, which has checked who acts. Raises Refused, Conflict."""
    username, display_name = normal_username(username), display_name.strip()
    if not USERNAME.fullmatch(username):
        raise Refused(
            "username",
            f"A user name is 2 to 50 of a-z, 0-9 and . _ @ -, beginning with a letter or digit; found {username!r}",
        )
    if not 1 <= len(display_name) <= 128 or any(unicodedata.category(one).startswith("C") for one in display_name):
        raise Refused("display_name", f"A name has 1 to 128 printable characters; found {display_name!r}")
    if role not in ROLES:
        raise Refused("role", f"A person is one of {', '.join(ROLES)}; found {role}")
    try:
        with session.begin_nested():
            account = accounts.add_account(session, username, display_name, role)
    except IntegrityError:
        raise Conflict(f"There is a user {username} already.") from None
    row = Credential(account_fk=account.id, **credential)
    row.account = account
    session.add(row)
    session.flush()
    return row


def reset_password(session: Session, actor: Actor, username: str) -> str:
    """A one-time password in place of the user's own; all their sessions end. Commits."""
    require(actor)
    password = passwords.one_time_password()
    new_hash = passwords.hash_of(password)
    with writing(session):
        credential = _credential(session, username)
        if credential.password_hash is None:
            raise Refused("oidc", f"{username} signs in by OIDC and has no password here.")
        credential.password_hash, credential.must_change = new_hash, True
        ended = repository.end_sessions(session, credential.account_fk)
        audit.record(session, actor, "account.password_reset", f"account:{username}", {"sessions_ended": ended})
    return password


def set_role(session: Session, actor: Actor, username: str, role: Role) -> None:
    """All their sessions end: what is open on a screen was opened under the old role. Commits."""
    require(actor)
    if role not in ROLES:
        raise Refused("role", f"A person is one of {', '.join(ROLES)}; found {role}")
    with writing(session):
        credential = _credential(session, username)
        if credential.password_hash is None:
            raise Refused("oidc", f"{username}'s role comes from the identity provider. Change it there.")
        before = credential.account.role
        if before is role:
            return
        if before is Role.ADMIN:
            _keep_an_admin(session, credential)
        credential.account.role = role
        ended = repository.end_sessions(session, credential.account_fk)
        detail = {"before": before, "role": role, "sessions_ended": ended}
        audit.record(session, actor, "account.role_changed", f"account:{username}", detail)


def disable(session: Session, actor: Actor, username: str) -> None:
    """They are out at once and do not get in again; what they did stays theirs. Commits."""
    require(actor)
    with writing(session):
        credential = _credential(session, username)
        if credential.disabled_at is not None:
            return
        if credential.account.role is Role.ADMIN:
            _keep_an_admin(session, credential)
        credential.disabled_at = utc_now()
        ended = repository.end_sessions(session, credential.account_fk)
        audit.record(session, actor, "account.disabled", f"account:{username}", {"sessions_ended": ended})


def enable(session: Session, actor: Actor, username: str) -> None:
    """Commits."""
    require(actor)
    with writing(session):
        credential = _credential(session, username)
        if credential.disabled_at is not None:
            credential.disabled_at = None
            audit.record(session, actor, "account.enabled", f"account:{username}")


def _credential(session: Session, username: str) -> Credential:
    credential = repository.credential_by_username(session, username)
    if credential is None:
        raise NotFound(f"there is no user {username}")
    return credential


def _keep_an_admin(session: Session, credential: Credential) -> None:
    if all(one.account_fk == credential.account_fk for one in repository.admins_for_update(session)):
        raise Refused("last_admin", "This is the last admin who can sign in. Make another one first.")
