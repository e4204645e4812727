"""A web process of people with accounts, one of each role, each signed in."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from db import migrate
from db.models import Role
from db.session import engine_for, session_scope
from engine.findings.answers import Task
from engine.services import api_tokens
from engine.services.accounts import command_line
from engine.services.ingest import IngestResult
from engine.settings import settings
from tests.people import add_person, enter, hash_quickly
from tests.ui.web_process import web_process
from tests.workstation import AddCase, case_adder

NOBODY, READER, ADJUDICATOR, ADMIN, SERVICE = "nobody", "reader", "adjudicator", "admin", "service"
SIGNED_IN = (READER, ADJUDICATOR, ADMIN)


@dataclass
class LocalServer:
    """`who` asks: a role by its cookie, SERVICE by its token."""

    address: str
    url: str  # of its database
    cookies: dict[str, str]  # by role, as a header
    token: str  # of a program
    case: IngestResult
    add_case: AddCase = field(repr=False)

    def cookie_of(self, username: str) -> str:
        """A new session's."""
        with session_scope(self.url) as session:
            return f"pediscreen_session={enter(session, username)}"

    def ask(
        self,
        method: str,
        path: str,
        who: str = NOBODY,
        *,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        form: str | None = None,
    ) -> Answer:
        shown = {"Authorization": f"Bearer {self.token}"} if who == SERVICE else {"Cookie": self.cookies[who]}
        sent = {**shown, **(headers or {})}
        data = None if form is None else form.encode()
        if body is not None:
            data, sent["Content-Type"] = json.dumps(body).encode(), "application/json"
        if method in ("POST", "PUT") and data is None:
            data = b""
        try:
            with _opener.open(
                urllib.request.Request(self.address + path, data, sent, method=method), timeout=60
            ) as got:
                return Answer(got.status, dict(got.headers.items()), got.read())
        except urllib.error.HTTPError as error:
            return Answer(error.code, dict(error.headers.items()), error.read())


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def leads_to(self) -> str:
        return self.headers.get("location", self.headers.get("Location", ""))

    @property
    def text(self) -> str:
        return self.body.decode()


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirect)


@contextmanager
def local_server(folder: Path, **more_settings: str) -> Iterator[LocalServer]:
    """With one case on its worklist."""
    data_dir = folder / "data"
    environment = {"PEDISCREEN_LOGIN": "local", "PEDISCREEN_API_REQUESTS_PER_MINUTE": "100000", **more_settings}
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PEDISCREEN_DATABASE_URL", raising=False)
        patch.setenv("PEDISCREEN_DATA_DIR", str(data_dir))
        for name, value in environment.items():
            patch.setenv(name, value)
        settings.cache_clear()
        hash_quickly(patch)
        url = settings().database_url
        migrate.upgrade(url)
        cookies = {NOBODY: ""}
        with session_scope(url) as session:
            add_case = case_adder(session, folder)
            case = add_case(Task.BONE_AGE)
            for name in SIGNED_IN:
                add_person(session, name, Role(name))
                cookies[name] = f"pediscreen_session={enter(session, name)}"
            scopes = api_tokens.SCOPES_OF[Role.SERVICE]
            token = api_tokens.make(session, command_line(), "pacs", Role.SERVICE, scopes, 1).secret
            with web_process(url, data_dir, folder, **environment) as address:
                yield LocalServer(address, url, cookies, token, case, add_case)
        engine_for(url).dispose()
    settings.cache_clear()
