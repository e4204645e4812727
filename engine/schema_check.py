"""Whether this version of the program and the database fit each other, asked before anything is done with it."""

from __future__ import annotations

from contextlib import suppress

from sqlalchemy.exc import OperationalError

from db import migrate
from engine.errors import PediScreenError
from engine.services import answer_facts, audit_check


class SchemaMismatch(PediScreenError):
    """The database is of another version; the message names both, and says what to do."""


def require_known(database_url: str) -> str | None:
    """The database's schema; None: it has none yet. Raises SchemaMismatch for one that a newer version made: what this
    one does not know it could only damage."""
    current, newest = migrate.revisions(database_url)
    if current is not None and current not in migrate.known_revisions():
        raise SchemaMismatch(
            f"The database has schema {current}, made by a newer version of PediScreen; the newest that this version "
            f"knows is {newest}. Start the newer version, or restore a backup that this version made."
        )
    return current


def refuse_newer(database_url: str) -> None:
    """Raises SchemaMismatch as `require_known`; a database that does not answer yet is waited for by the pages."""
    with suppress(OperationalError):
        require_known(database_url)


def require_newest(database_url: str) -> None:
    """Raises SchemaMismatch unless the database has the schema that this version needs."""
    current = require_known(database_url)
    newest = migrate.revisions(database_url)[1]
    if current != newest:
        state = "is empty" if current is None else f"has schema {current}, this version needs {newest}"
        raise SchemaMismatch(f"The database {state}. Run: pediscreen db upgrade")


def upgrade(database_url: str) -> None:
    """Create the schema, or bring it to the newest, and fill in what follows from the rows that are there. Raises
    SchemaMismatch for a newer one."""
    require_known(database_url)
    migrate.upgrade(database_url)
    answer_facts.fill_missing(database_url)
    audit_check.fix_earlier_rows(database_url)
