"""What every route needs: who is asking, and a database session."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.orm import Session

from db.session import session_scope
from engine.errors import PediScreenError
from engine.services.accounts import Actor
from engine.settings import settings


class NotSignedIn(PediScreenError):
    """The request carries no user."""


def acting_user(request: Request) -> Actor:
    actor = getattr(request.state, "actor", None)
    if actor is None:
        raise NotSignedIn("Sign in to use the API.")
    return actor


def database_session() -> Iterator[Session]:
    with session_scope(settings().database_url) as session:
        yield session


ActingUser = Annotated[Actor, Depends(acting_user)]
DatabaseSession = Annotated[Session, Depends(database_session)]
