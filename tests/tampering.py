"""Somebody who can write to the database, and takes its triggers away first."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text

from db.session import engine_for


def tamper(url: str, *statements: str, **values: Any) -> None:
    """Run statements that the application could not."""
    with engine_for(url).begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SET LOCAL session_replication_role = replica"))
        else:
            for name in connection.scalars(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).all():
                connection.exec_driver_sql(f'DROP TRIGGER "{name}"')
        for statement in statements:
            connection.execute(text(statement), values)
