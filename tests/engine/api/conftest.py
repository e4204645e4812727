from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session
from starlette.types import Receive, Scope, Send

from db.session import engine_for
from engine.api.app import api
from engine.services.accounts import Actor, demo_reader
from engine.settings import settings
from tests.api_process import new_token
from tests.workstation import AddCase, case_adder


class ActingAs:
    """What ui/serve.py does: puts the user into the scope."""

    def __init__(self, actor: Actor | None) -> None:
        self.actor = actor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await api({**scope, "state": {"actor": self.actor}}, receive, send)


Acting = Callable[[Actor | None], TestClient]
WithToken = Callable[..., TestClient]


@pytest.fixture(autouse=True)
def same_database(request: pytest.FixtureRequest, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The API opens sessions of its own: on the server that PEDISCREEN_TEST_POSTGRESQL_URL names, where there is one.
    Its numbers begin with 1 for each test, as SQLite's do."""
    server = os.environ.get("PEDISCREEN_TEST_POSTGRESQL_URL")
    if server is None:
        return
    request.getfixturevalue("database_url")
    monkeypatch.setenv("PEDISCREEN_DATABASE_URL", server)
    settings.cache_clear()
    with engine_for(server).begin() as connection:
        names = connection.exec_driver_sql("SELECT sequencename FROM pg_sequences WHERE schemaname = 'public'")
        for name in names.scalars().all():
            connection.exec_driver_sql(f'ALTER SEQUENCE "{name}" RESTART')


@pytest.fixture
def add_case(session: Session, tmp_path: Path) -> AddCase:
    return case_adder(session, tmp_path)


@pytest.fixture
def acting(database_url: str) -> Acting:
    """`acting(actor)`: a browser in which they are signed in; None for nobody."""
    return lambda actor: TestClient(ActingAs(actor))


@pytest.fixture
def client(acting: Acting) -> Iterator[TestClient]:
    with acting(demo_reader()) as client:
        yield client


@pytest.fixture
def with_token(acting: Acting) -> WithToken:
    """`with_token(name=, role=, scopes=)`: a program with a token of its own."""

    def program(**made: object) -> TestClient:
        client = acting(None)
        client.headers["Authorization"] = f"Bearer {new_token(**made)}"
        return client

    return program
