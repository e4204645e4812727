"""Getting in by a password: sign-in, unlocking, changing it. Nobody has a role before they are in; who is refused is
never told why."""

from __future__ import annotations

import re

from sqlalchemy.orm import Session

from db.account_tables import Credential, WebSession
from db.models import Role
from db.repositories import accounts
from db.repositories import sign_in as repository
from db.session import writing
from db.types import utc_now
from engine.errors import Refused
from engine.services import audit, lock_out, passwords, sessions
from engine.services.accounts import Actor, require
from engine.services.lock_out import SignInRefused
from engine.services.sessions import SignedIn

WRONG = "The user name or the password is wrong."
USERNAME = re.compile(r"[a-z0-9][a-z0-9._@-]{1,49}")


def sign_in(
    session: Session, username: str, password: str, *, address: str, browser: str, before: SignedIn | None = None
) -> str:
    """The token of a new session; `before`, the one this browser had, ends. Commits. Raises SignInRefused, with the
    same words and after the same time whether the name, the password or the account is at fault."""
    username = normal_username(username)
    _prove(session, username, password, address)
    with writing(session):
        account = accounts.account_by_username(session, username)
        assert account is not None  # it has just proved itself
        if before is not None:
            repository.end_session(session, before.session_id)
        token = sessions.start(session, account, address=address, browser=browser)
        audit.record(session, sessions.actor_of(account, address), "sign_in.done", f"account:{username}")
    return token


def unlock(session: Session, who: SignedIn, password: str, *, address: str) -> None:
    """The same session goes on, with all that was open in it. Commits. Raises SignInRefused."""
    _prove(session, who.actor.username, password, address)
    with writing(session):
        row = session.get(WebSession, who.session_id)
        if row is None:
            raise SignInRefused("This session has ended. Sign in again.")
        row.active_at = utc_now()
        audit.record(session, who.actor, "sign_in.unlocked", f"account:{who.actor.username}")


def change_password(session: Session, who: SignedIn, old: str, new: str, *, address: str, browser: str) -> str:
    """The token of the only session that is left. Commits. Raises SignInRefused where `old` is wrong, Refused where
    `new` is too easily guessed."""
    require(who.actor, Role.READER, Role.ADJUDICATOR)
    username = who.actor.username
    _prove(session, username, old, address)
    passwords.check_rules(new, username)
    if old == new:
        raise Refused("password", "The new password is the old one. Choose another.")
    new_hash = passwords.hash_of(new)
    with writing(session):
        credential = repository.credential_by_username(session, username)
        assert credential is not None  # it has just proved itself
        credential.password_hash, credential.must_change = new_hash, False
        ended = repository.end_sessions(session, credential.account_fk)
        audit.record(session, who.actor, "account.password_changed", f"account:{username}", {"sessions_ended": ended})
        return sessions.start(session, credential.account, address=address, browser=browser)


def nobody(address: str) -> Actor:
    """Whom the audit log names while it is not known who asks; never let in as such."""
    return Actor("nobody", "Nobody", Role.SERVICE, address)


def normal_username(text: str) -> str:
    return text.strip().casefold()[:200]


def _prove(session: Session, username: str, password: str, address: str) -> None:
    """Commits what was counted. Raises SignInRefused."""
    attempt = lock_out.begin(session, username, address)
    credential = repository.credential_by_username(session, username)
    can_be_right = credential is not None and len(password) <= passwords.LONGEST
    is_right = passwords.is_right(credential.password_hash if can_be_right else None, password[: passwords.LONGEST])
    reason = _reason_to_refuse(credential, is_right)
    with writing(session):
        if reason is None:
            lock_out.forgive(session, attempt)
        else:
            subject = f"account:{username}" if credential else "account:unknown"
            audit.record(session, nobody(address), "sign_in.refused", subject, {"reason": reason})
            if attempt.locks_out:
                audit.record(session, nobody(address), "sign_in.locked_out", subject)
    if reason is not None:
        raise SignInRefused(WRONG)


def _reason_to_refuse(credential: Credential | None, is_right: bool) -> str | None:
    """For the audit log alone."""
    if credential is None:
        return "unknown user"
    if credential.password_hash is None:
        return "signs in by OIDC"
    if not is_right:
        return "wrong password"
    if credential.disabled_at is not None:
        return "disabled"
    return "a program's account" if credential.account.role is Role.SERVICE else None
