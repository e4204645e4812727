"""The tables of who may sign in, who is signed in, and who has tried to.

user_account ─┬─ credential (one; a demo user and a program have none)
              └─ web_session          sign_in_failure · oidc_flow (nobody's yet)"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from db.models import Base, UserAccount
from db.types import utc_now


class Credential(Base):
    """How a person proves who they are: by a password, or (`issuer` and `oidc_subject`) by what a provider says."""

    __tablename__ = "credential"
    __table_args__ = (UniqueConstraint("issuer", "oidc_subject"),)

    account_fk: Mapped[int] = mapped_column(ForeignKey("user_account.id"), primary_key=True, autoincrement=False)
    password_hash: Mapped[str | None] = mapped_column(String(200))  # argon2id, with its parameters
    must_change: Mapped[bool] = mapped_column(default=False)  # the password is somebody else's choice
    issuer: Mapped[str | None] = mapped_column(String(500))
    oidc_subject: Mapped[str | None] = mapped_column(String(255))
    disabled_at: Mapped[datetime | None]
    last_seen_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(default=utc_now)

    account: Mapped[UserAccount] = relationship(lazy="raise")


class WebSession(Base):
    """A browser that is signed in. The row goes when the session ends; the audit log keeps that there was one."""

    __tablename__ = "web_session"

    id: Mapped[int] = mapped_column(primary_key=True)
    token_sha256: Mapped[str] = mapped_column(String(64), unique=True)  # of what the cookie holds
    account_fk: Mapped[int] = mapped_column(ForeignKey("user_account.id"), index=True)
    started_at: Mapped[datetime] = mapped_column(default=utc_now)
    active_at: Mapped[datetime] = mapped_column(default=utc_now)  # the person, not the page's own requests
    ends_at: Mapped[datetime] = mapped_column(index=True)
    address: Mapped[str] = mapped_column(String(64))
    browser: Mapped[str] = mapped_column(String(200))  # User-Agent, as sent

    account: Mapped[UserAccount] = relationship(lazy="raise")


class SignInFailure(Base):
    """How often an account's name, or an address, was tried in vain. Names are kept as a hash: people type passwords
    into the wrong field."""

    __tablename__ = "sign_in_failure"

    tried: Mapped[str] = mapped_column(String(80), primary_key=True)  # "name:<sha256>" or "address:10.0.0.3"
    failures: Mapped[int]
    last_at: Mapped[datetime] = mapped_column(index=True)
    blocked_until: Mapped[datetime | None]


class OidcFlow(Base):
    """Somebody was sent to the provider and has not come back. The row goes when they do, so that nobody comes back
    twice."""

    __tablename__ = "oidc_flow"

    state_sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    browser_sha256: Mapped[str] = mapped_column(String(64))  # of a cookie: only the browser that left may come back
    nonce: Mapped[str] = mapped_column(String(64))
    code_verifier: Mapped[str] = mapped_column(String(128))  # PKCE
    next_path: Mapped[str] = mapped_column(String(2000))
    must_be_fresh: Mapped[bool]  # the provider is to ask for the password again: a session is locked
    ends_at: Mapped[datetime] = mapped_column(index=True)
