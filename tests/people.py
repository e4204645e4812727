"""People with accounts, for tests of signing in."""

from __future__ import annotations

import pytest
from argon2 import PasswordHasher
from sqlalchemy.orm import Session

from db.models import Role
from engine.services import passwords, sign_in, users
from engine.services.accounts import command_line

PASSWORD = "four small green lamps"
ADDRESS = "10.0.0.3"


def hash_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passwords of this process take no time, for tests of something else."""
    monkeypatch.setattr(passwords, "_hasher", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))


def add_person(session: Session, username: str, role: Role = Role.READER, password: str | None = PASSWORD) -> str:
    """Their one-time password, which they have changed to `password` unless that is None."""
    one_time = users.add_user(session, command_line(), username, username.capitalize(), role)
    if password is not None:
        token = enter(session, username, one_time)
        who = sign_in.sessions.signed_in(session, token)
        token = sign_in.change_password(session, who, one_time, password, address=ADDRESS, browser="test")
        sign_in.sessions.end(session, sign_in.sessions.signed_in(session, token))
    return one_time


def enter(session: Session, username: str, password: str = PASSWORD, address: str = ADDRESS) -> str:
    """The token of a new session."""
    return sign_in.sign_in(session, username, password, address=address, browser="test")
