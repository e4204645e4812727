"""Engines and sessions."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.orm import Session
from sqlalchemy.pool import ConnectionPoolEntry

BUSY_TIMEOUT_MS = 30_000
POOL_SIZE, POOL_OVERFLOW = 20, 80  # a connection is held for one user action; a web process serves many at once

# SQLite has one writer, and those who wait for it poll with growing pauses, so that some never get their turn. Within
# a process they queue up here instead.
_sqlite_writer = threading.RLock()
_AT_COMMIT = "at_commit"
AtCommit = Callable[[Session, list[Any]], None]


@cache
def engine_for(url: str) -> Engine:
    """The process's engine for `url`. SQLite runs in WAL mode with foreign keys on, and waits for a lock. The text of
    an error never quotes the values of its statement: they may identify a child, and errors are logged."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        engine = create_engine(
            parsed, pool_pre_ping=True, pool_size=POOL_SIZE, max_overflow=POOL_OVERFLOW, hide_parameters=True
        )
        event.listen(engine, "connect", _prepare_postgresql)
        return engine
    if parsed.database and parsed.database != ":memory:":
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    in_memory = parsed.database in (None, "", ":memory:")
    pool = {} if in_memory else {"pool_size": POOL_SIZE, "max_overflow": POOL_OVERFLOW}
    engine = create_engine(parsed, hide_parameters=True, **pool)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_postgresql(connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
    """Without PostgreSQL's compiler: it took up to 0.3 s of a dashboard's query, anew each time."""
    cursor = connection.cursor()
    cursor.execute("SET jit = off")
    cursor.close()
    connection.commit()


def _prepare_sqlite(connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # the driver must not begin transactions on its own; `_begin_sqlite` does
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    immediate = connection.get_execution_options().get("begin_immediate", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


@contextmanager
def session_scope(url: str) -> Iterator[Session]:
    """A session that is rolled back on an error and closed at the end. Services commit; nothing else does."""
    with Session(engine_for(url), expire_on_commit=False) as session:
        yield session


@contextmanager
def writing(session: Session) -> Iterator[None]:
    """The transaction of one user action: committed at the end, rolled back on an error.

    What is read inside cannot change before the commit on SQLite, which has one writer; on PostgreSQL rows are locked
    where that matters. SQLite refuses to turn a reading transaction into a writing one once somebody else has written
    ("database is locked", at once, whatever the busy timeout), so this one writes from its first statement. Ends the
    reading transaction the session may be in; refuses when that holds unsaved changes."""
    if session.new or session.dirty or session.deleted:
        raise RuntimeError("the session holds unsaved changes of another action")
    session.rollback()
    with _sqlite_writer if session.get_bind().dialect.name == "sqlite" else nullcontext():
        acts: dict[AtCommit, list[Any]] = {}
        session.info[_AT_COMMIT] = acts
        try:
            session.connection(execution_options={"begin_immediate": True})
            yield
            for act, given in acts.items():
                act(session, given)
            session.commit()
        except BaseException:
            session.rollback()
            raise
        finally:
            del session.info[_AT_COMMIT]


def at_commit(session: Session, act: AtCommit, given: Any) -> None:
    """Within `writing`: `act` runs once, right before the commit, with all that was given for it. For what takes a lock
    that everybody needs."""
    acts = session.info.get(_AT_COMMIT)
    if acts is None:
        raise RuntimeError("at_commit belongs inside writing(session)")
    acts.setdefault(act, []).append(given)
