"""Accounts and pseudonyms."""

from __future__ import annotations

import secrets

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import Role, UserAccount

# no 0/O, 1/I/L: a pseudonym is read aloud and typed
PSEUDONYM_ALPHABET = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"


def random_pseudonym(prefix: str, length: int = 6) -> str:
    """Like "P-7F3K2Q": drawn at random, so that nothing leads back from it to the person. 31^6 are about 900 million;
    the column's uniqueness catches a repeated one."""
    return f"{prefix}-{''.join(secrets.choice(PSEUDONYM_ALPHABET) for _ in range(length))}"


def account_by_username(session: Session, username: str) -> UserAccount | None:
    return session.scalar(select(UserAccount).where(UserAccount.username == username))


def add_account(session: Session, username: str, display_name: str, role: Role) -> UserAccount:
    account = UserAccount(username=username, display_name=display_name, role=role, pseudonym=random_pseudonym("R"))
    session.add(account)
    session.flush()
    return account
