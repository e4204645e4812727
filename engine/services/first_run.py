"""The first admin. Whoever started the workstation is told a one-time secret, and proves by it that they did."""

from __future__ import annotations

import os
import secrets
import time
from pathlib import Path

from sqlalchemy import inspect
from sqlalchemy.orm import Session

from db.models import Role
from db.repositories import sign_in as repository
from db.session import session_scope, writing
from engine.errors import NotAllowed
from engine.services import audit, lock_out, passwords, sessions, users
from engine.services.lock_out import SignInRefused
from engine.services.sign_in import nobody, normal_username
from engine.sign_in_settings import Login, SignInSettings

SECRET_FILE = "first-run-secret"
VALID_FOR_S = 24 * 3600
TRIED_NAME = "first run"  # no user's: it has a space


def is_needed(session: Session) -> bool:
    return not repository.is_any_admin(session)


def people_have_accounts(session: Session) -> bool:
    """Also False on a database that has no tables yet."""
    return inspect(session.connection()).has_table("credential") and repository.is_any_credential(session)


def secret(data_dir: Path) -> str:
    """The one of today, made where there is none; only its owner can read the file."""
    kept = _kept(data_dir)
    if kept is not None:
        return kept
    fresh = passwords.one_time_password()
    path = data_dir / SECRET_FILE
    data_dir.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(fresh)
    return fresh


def announcement(sign_in: SignInSettings, data_dir: Path, database_url: str, address: str) -> list[str]:
    """What whoever starts the workstation has to know, and nobody else: printed, never logged."""
    if sign_in.login is not Login.LOCAL:
        return []
    with session_scope(database_url) as session:
        if not is_needed(session):
            return []
    return [
        f"Nobody can sign in yet. Make the first administrator at {sign_in.public_url or address}/sign-in/first-run",
        f"One-time secret, valid for a day: {secret(data_dir)}",
    ]


def make_first_admin(
    session: Session,
    data_dir: Path,
    given_secret: str,
    username: str,
    display_name: str,
    password: str,
    *,
    address: str,
    browser: str,
) -> str:
    """The token of their session. Commits; the secret is used up. Raises SignInRefused for a wrong or old secret,
    NotAllowed where there is an admin already, Refused for a name or password that is not taken."""
    attempt = lock_out.begin(session, TRIED_NAME, address)
    kept = _kept(data_dir)
    if kept is None or not secrets.compare_digest(_comparable(kept), _comparable(given_secret)):
        with writing(session):
            audit.record(session, nobody(address), "sign_in.refused", "first_run", {"reason": "wrong secret"})
        raise SignInRefused(
            "This is not the secret that the workstation printed when it was started, or it is older than a day: "
            "start the workstation again for a new one."
        )
    passwords.check_rules(password, username)
    new_hash = passwords.hash_of(password)
    with writing(session):
        if not is_needed(session):
            raise NotAllowed("There is an administrator already. Ask them for an account.")
        credential = users.add_account(session, username, display_name, Role.ADMIN, password_hash=new_hash)
        actor = sessions.actor_of(credential.account, address)
        audit.record(session, actor, "account.first_admin", f"account:{normal_username(username)}")
        lock_out.forgive(session, attempt)
        token = sessions.start(session, credential.account, address=address, browser=browser)
    (data_dir / SECRET_FILE).unlink(missing_ok=True)
    return token


def _kept(data_dir: Path) -> str | None:
    path = data_dir / SECRET_FILE
    try:
        if time.time() - path.stat().st_mtime > VALID_FOR_S:
            return None
        return path.read_text()
    except FileNotFoundError:
        return None


def _comparable(text: str) -> bytes:
    return text.strip().casefold().encode()
