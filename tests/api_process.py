"""`pediscreen api` on the database and data folder of a test, with a token for it and a worker's door behind it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from db.models import Role
from db.session import session_scope
from engine.services import api_tokens
from engine.services.accounts import demo_admin
from engine.services.api_tokens import Scope
from engine.settings import PROJECT_DIR, settings
from tests.fake_door import TOKEN, WordyReader, door
from tests.pediscreen_up import free_port

STARTS_WITHIN_S = 120


@contextmanager
def api_process(folder: Path, *arguments: str, **environment: str) -> Iterator[str]:
    """Its address, on the data folder and database of this process's settings; its log is api.log in `folder`."""
    port = free_port()
    here = settings()
    variables = os.environ | {
        "PEDISCREEN_DATA_DIR": str(here.data_dir),
        "PEDISCREEN_DATABASE_URL": here.database_url,
        "PYTHONPATH": str(PROJECT_DIR),
        **environment,
    }
    command = [sys.executable, "-m", "engine.cli", "api", "--port", str(port), *arguments]
    with (folder / "api.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=PROJECT_DIR, env=variables, stdout=log, stderr=log)
        try:
            address = f"http://127.0.0.1:{port}/api"
            _wait_for(f"{address}/health", process, folder / "api.log")
            yield address
        finally:
            process.terminate()
            process.wait(15)


@contextmanager
def reads_behind_it(reader: object | None = None) -> Iterator[dict[str, str]]:
    """The environment that leads to a worker's door with `reader`, a fake one unless given."""
    with door(reader or WordyReader()) as (port, _):
        yield {"PEDISCREEN_READS_PORT": str(port), "PEDISCREEN_READS_TOKEN": TOKEN}


def new_token(name: str = "integrator", role: Role = Role.READER, scopes: Iterable[Scope] | None = None) -> str:
    """Its secret."""
    with session_scope(settings().database_url) as session:
        chosen = api_tokens.SCOPES_OF[role] if scopes is None else scopes
        return api_tokens.make(session, demo_admin(), name, role, chosen).secret


def _wait_for(url: str, process: subprocess.Popen, log: Path) -> None:
    deadline = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=1)
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"the API did not start:\n{log.read_text()}")
