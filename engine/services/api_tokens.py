"""API tokens: a program's way in, made and revoked by an admin.

A token is a reader, adjudicator, admin or service of its own: what it does stands in the audit under "token:" and its
number. It may do what its role may, and of that only what its scopes name."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from db.api_tables import ApiToken
from db.models import Role
from db.repositories import api as repository
from db.session import writing
from db.types import utc_now
from engine.errors import Conflict, NotFound, Refused
from engine.services import audit
from engine.services.accounts import Actor, require

PREFIX = "ps_"
SECRET_BYTES = 32
SHOWN_CHARACTERS = len(PREFIX) + 6
LONGEST_NAME = 64
LONGEST_DAYS = 5 * 365
DEFAULT_DAYS = 365
USE_NOTED_EVERY = timedelta(minutes=1)  # more often would write to the database for every request


class Scope(StrEnum):
    """What a token may be used for. Each route of the API needs one of them."""

    READ = "read"  # the queue, studies, pixels
    UPLOAD = "upload"
    REVIEW = "review"  # decide, answer blind
    ANALYZE = "analyze"  # read an image without storing it
    MODELS = "models"


SCOPE_WORDS = {
    Scope.READ: "see the queue, studies and films",
    Scope.UPLOAD: "send films in",
    Scope.REVIEW: "decide about films, as a reader of its own",
    Scope.ANALYZE: "have a film read without storing it",
    Scope.MODELS: "see which models read",
}

# What the services behind the routes let each role do: a scope beyond that would be refused there anyway.
SCOPES_OF = {
    Role.READER: tuple(Scope),
    Role.ADJUDICATOR: tuple(Scope),
    Role.ADMIN: tuple(Scope),
    Role.SERVICE: (Scope.UPLOAD, Scope.ANALYZE, Scope.MODELS),
}


@dataclass(frozen=True)
class Caller:
    """Who calls the API, and what they may use it for: a person signed in may use all that their role allows."""

    actor: Actor
    scopes: frozenset[Scope] = frozenset(Scope)


@dataclass(frozen=True)
class TokenRow:
    token_id: int
    name: str
    starts_with: str
    role: Role
    scopes: tuple[Scope, ...]
    made_by: str
    made_at: datetime
    expires_at: datetime
    last_used_at: datetime | None
    revoked_by: str | None
    revoked_at: datetime | None

    @property
    def is_valid(self) -> bool:
        return self.revoked_at is None and self.expires_at > utc_now()


@dataclass(frozen=True)
class NewToken:
    """`secret` is what the program sends; it is kept nowhere."""

    row: TokenRow
    secret: str


def make(
    session: Session, actor: Actor, name: str, role: Role, scopes: Iterable[Scope], days: int = DEFAULT_DAYS
) -> NewToken:
    """A token that expires after `days`. Commits. Admins only.

    Raises Refused for a scope beyond the role, Conflict for a name that another token has or had, NotAllowed."""
    require(actor)
    name = name.strip()
    chosen = tuple(scope for scope in Scope if scope in set(scopes))
    _check(name, role, chosen, days)
    secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    token = ApiToken(
        name=name,
        starts_with=secret[:SHOWN_CHARACTERS],
        secret_sha256=_sha256(secret),
        role=role,
        scopes=list(chosen),
        made_by=actor.username,
        expires_at=utc_now() + timedelta(days=days),
    )
    with writing(session):
        if repository.token_by_name(session, name) is not None:
            raise _name_taken(name)
        try:
            session.add(token)
            session.flush()
        except IntegrityError:  # somebody else made it at the same moment
            raise _name_taken(name) from None
        detail = {"role": role.value, "scopes": list(chosen), "expires_on": token.expires_at.date().isoformat()}
        audit.record(session, actor, "api_token.made", f"token:{token.id}", detail)
    return NewToken(_row(token), secret)


def revoke(session: Session, actor: Actor, token_id: int) -> TokenRow:
    """It is refused from the next request on; revoking it again changes nothing. Commits. Admins only. Raises NotFound,
    NotAllowed."""
    require(actor)
    with writing(session):
        token = session.get(ApiToken, token_id)
        if token is None:
            raise NotFound(f"there is no token {token_id}")
        if token.revoked_at is None:
            token.revoked_at, token.revoked_by = utc_now(), actor.username
            audit.record(session, actor, "api_token.revoked", f"token:{token_id}")
    return _row(token)


def tokens(session: Session, actor: Actor) -> list[TokenRow]:
    """Every token there was, the latest first. Admins only."""
    require(actor)
    return [_row(token) for token in repository.tokens(session)]


def caller_of(session: Session, secret: str) -> Caller | None:
    """Whom the secret stands for; None where it is unknown, revoked or has expired. Notes the use, and commits.

    Has no actor, as it is how one is found."""
    sha256 = _sha256(secret)
    token = repository.token_by_secret(session, sha256)
    if token is None or not hmac.compare_digest(token.secret_sha256, sha256) or not _row(token).is_valid:
        return None
    now = utc_now()
    if token.last_used_at is None or now - token.last_used_at >= USE_NOTED_EVERY:
        with writing(session):
            session.get(ApiToken, token.id, populate_existing=True).last_used_at = now
    scopes = frozenset(map(Scope, token.scopes)) & frozenset(SCOPES_OF[token.role])
    return Caller(Actor(f"token:{token.id}", token.name, token.role), scopes)


def _check(name: str, role: Role, scopes: tuple[Scope, ...], days: int) -> None:
    """Raises Refused."""
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        raise Refused("token_name", f"a token needs a name of 1 to {LONGEST_NAME} printable characters")
    if not scopes:
        raise Refused("token_scopes", f"choose what the token may do: {', '.join(SCOPES_OF[role])}")
    beyond = [scope for scope in scopes if scope not in SCOPES_OF[role]]
    if beyond:
        allowed = ", ".join(SCOPES_OF[role])
        raise Refused("token_scopes", f"a token of the role {role} may {allowed}, not {', '.join(beyond)}")
    if not 1 <= days <= LONGEST_DAYS:
        raise Refused("token_days", f"a token is valid for 1 to {LONGEST_DAYS} days, found {days}")


def _name_taken(name: str) -> Conflict:
    return Conflict(f'there is a token "{name}" already, perhaps a revoked one: choose another name')


def _row(token: ApiToken) -> TokenRow:
    return TokenRow(
        token.id,
        token.name,
        token.starts_with,
        token.role,
        tuple(map(Scope, token.scopes)),
        token.made_by,
        token.made_at,
        token.expires_at,
        token.last_used_at,
        token.revoked_by,
        token.revoked_at,
    )


def _sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
