"""The tables of the REST API: who may call it as what, and what was answered to a request that may be sent again."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from db.models import Base, Role
from db.types import utc_now


class ApiToken(Base):
    """A program's way in. The secret is shown once and kept as its SHA-256: it is 256 random bits, which nobody finds
    by trying. Rows are never deleted: reviews and audit rows name the token that made them."""

    __tablename__ = "api_token"
    __table_args__ = (CheckConstraint("(revoked_at IS NULL) = (revoked_by IS NULL)", name="revoked_by_somebody"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    starts_with: Mapped[str] = mapped_column(String(12))  # of the secret, to tell tokens apart in a configuration file
    secret_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    role: Mapped[Role]
    scopes: Mapped[list[str]]  # engine.services.api_tokens.Scope
    made_by: Mapped[str] = mapped_column(String(64))  # username
    made_at: Mapped[datetime] = mapped_column(default=utc_now)
    expires_at: Mapped[datetime]
    last_used_at: Mapped[datetime | None]  # to the minute
    revoked_by: Mapped[str | None] = mapped_column(String(64))
    revoked_at: Mapped[datetime | None]


class IdempotentRequest(Base):
    """A writing request that its sender gave a key, and what was answered. The same key brings the same answer again;
    rows are dropped after a day."""

    __tablename__ = "idempotent_request"

    actor: Mapped[str] = mapped_column(String(64), primary_key=True)  # username
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    request_sha256: Mapped[str] = mapped_column(String(64))
    begun_at: Mapped[datetime] = mapped_column(default=utc_now, index=True)
    status: Mapped[int | None]  # NULL while it is being carried out
    body: Mapped[str | None] = mapped_column(Text)  # identifying: file names and comments may name a child
