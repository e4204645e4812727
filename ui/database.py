"""The pages' way to the database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.orm import Session

from db.session import session_scope
from engine.settings import settings


@contextmanager
def session() -> Iterator[Session]:
    """One session for one run of a page, or one action. Services commit."""
    with session_scope(settings().database_url) as open_session:
        yield open_session
