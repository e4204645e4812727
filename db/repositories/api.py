"""API tokens, and answers kept for requests that may be sent again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from db.api_tables import ApiToken, IdempotentRequest


def token_by_secret(session: Session, secret_sha256: str) -> ApiToken | None:
    return session.scalar(select(ApiToken).where(ApiToken.secret_sha256 == secret_sha256))


def token_by_name(session: Session, name: str) -> ApiToken | None:
    return session.scalar(select(ApiToken).where(ApiToken.name == name))


def tokens(session: Session) -> Sequence[ApiToken]:
    """The latest first."""
    return session.scalars(select(ApiToken).order_by(ApiToken.id.desc())).all()


def kept_request(session: Session, actor: str, key: str) -> IdempotentRequest | None:
    return session.get(IdempotentRequest, (actor, key), populate_existing=True)


def forget_requests(session: Session, begun_before: datetime) -> None:
    session.execute(delete(IdempotentRequest).where(IdempotentRequest.begun_at < begun_before))
