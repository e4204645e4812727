"""Credentials, web sessions, failed attempts, and who is away at the identity provider."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Select, delete, exists, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, contains_eager

from db.account_tables import Credential, OidcFlow, SignInFailure, WebSession
from db.models import Role, UserAccount


def _credentials() -> Select[tuple[Credential]]:
    return select(Credential).join(Credential.account).options(contains_eager(Credential.account))


def credential_by_username(session: Session, username: str) -> Credential | None:
    return session.scalar(_credentials().where(UserAccount.username == username))


def credential_by_subject(session: Session, issuer: str, subject: str) -> Credential | None:
    return session.scalar(_credentials().where(Credential.issuer == issuer, Credential.oidc_subject == subject))


def credentials(session: Session) -> Sequence[Credential]:
    return session.scalars(_credentials().order_by(UserAccount.username)).all()


def admins_for_update(session: Session) -> Sequence[Credential]:
    """Of the admins who can sign in; nobody else takes one of them away before the transaction ends."""
    query = _credentials().where(UserAccount.role == Role.ADMIN, Credential.disabled_at.is_(None))
    return session.scalars(query.with_for_update()).all()


def is_any_credential(session: Session) -> bool:
    return bool(session.scalar(select(exists().select_from(Credential))))


def is_any_admin(session: Session) -> bool:
    query = _credentials().where(UserAccount.role == Role.ADMIN, Credential.disabled_at.is_(None))
    return session.scalars(query.limit(1)).first() is not None


def web_session(
    session: Session, token_sha256: str, now: datetime
) -> tuple[WebSession, UserAccount, Credential] | None:
    """The session that has not ended, whose account may sign in."""
    query = (
        select(WebSession, UserAccount, Credential)
        .join(UserAccount, WebSession.account_fk == UserAccount.id)
        .join(Credential, Credential.account_fk == UserAccount.id)
        .where(WebSession.token_sha256 == token_sha256, WebSession.ends_at > now, Credential.disabled_at.is_(None))
    )
    row = session.execute(query).first()
    return None if row is None else (row[0], row[1], row[2])


def live_sessions(session: Session, now: datetime, account_id: int | None = None) -> Sequence[WebSession]:
    """The latest used first; of one account, or of all."""
    query = select(WebSession).where(WebSession.ends_at > now).order_by(WebSession.active_at.desc())
    return session.scalars(query if account_id is None else query.where(WebSession.account_fk == account_id)).all()


def end_sessions(session: Session, account_id: int, *, but: int | None = None) -> int:
    """How many ended."""
    statement = delete(WebSession).where(WebSession.account_fk == account_id)
    return session.execute(statement if but is None else statement.where(WebSession.id != but)).rowcount


def end_session(session: Session, session_id: int) -> None:
    session.execute(delete(WebSession).where(WebSession.id == session_id))


def failure_for_update(session: Session, tried: str, now: datetime) -> SignInFailure:
    """The row, added where there is none."""
    query = select(SignInFailure).where(SignInFailure.tried == tried).with_for_update()
    row = session.scalar(query)
    if row is not None:
        return row
    try:
        with session.begin_nested():
            row = SignInFailure(tried=tried, failures=0, last_at=now)
            session.add(row)
            return row
    except IntegrityError:  # another attempt was first
        return session.scalars(query).one()


def forget_failures(session: Session, *, before: datetime) -> None:
    session.execute(delete(SignInFailure).where(SignInFailure.last_at < before))


def take_oidc_flow(session: Session, state_sha256: str) -> OidcFlow | None:
    """The flow, which is gone with this transaction: whoever asks second finds none."""
    flow = session.scalar(select(OidcFlow).where(OidcFlow.state_sha256 == state_sha256).with_for_update())
    if flow is not None:
        session.delete(flow)
        session.flush()
    return flow


def forget_ended(session: Session, now: datetime) -> None:
    session.execute(delete(WebSession).where(WebSession.ends_at < now))
    session.execute(delete(OidcFlow).where(OidcFlow.ends_at < now))
