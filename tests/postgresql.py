"""A PostgreSQL server of a test's own, on a socket in a temporary folder; it needs only the programs.

    python -m tests.postgresql tests/db tests/engine/jobs      the same tests with such a server in SQLite's place

PEDISCREEN_TEST_POSTGRESQL_URL (see conftest.py) names a server that is there already."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from db import migrate
from db.session import engine_for

DEBIANS = Path("/usr/lib/postgresql")
SETTINGS = "-c listen_addresses='' -c shared_buffers=16MB -c fsync=off"  # nothing here outlives the test


@contextmanager
def private_server() -> Iterator[str]:
    """The URL of a migrated, empty database. Skips the test where PostgreSQL is not installed."""
    programs = programs_folder()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    # The server refuses to run as root; Debian's package brings a user for it.
    user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # short: a socket's path has at most 107 bytes
    if user:
        shutil.chown(folder, "postgres", "postgres")

    def run(program: str, *arguments: str) -> None:
        done = subprocess.run(
            [programs / program, *arguments],
            cwd=folder,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            **user,
        )
        assert done.returncode == 0, done.stderr

    data, log = str(folder / "data"), str(folder / "log")
    try:
        run("initdb", "-D", data, "-U", "pediscreen", "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C")
        run("pg_ctl", "-D", data, "-w", "-l", log, "-o", f"{SETTINGS} -k {folder}", "start")
        url = f"postgresql+psycopg://pediscreen@/postgres?host={folder}"
        try:
            migrate.upgrade(url)
            yield url
        finally:
            engine_for(url).dispose()
            run("pg_ctl", "-D", data, "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder)


def programs_folder() -> Path | None:
    found = shutil.which("pg_ctl")
    if found is not None:
        return Path(found).resolve().parent
    return next((folder / "bin" for folder in sorted(DEBIANS.glob("*"), reverse=True)), None)


def main(arguments: list[str]) -> int:
    if programs_folder() is None:
        raise SystemExit("PostgreSQL is not installed (apt-get install postgresql)")
    with private_server() as url:
        environment = os.environ | {"PEDISCREEN_TEST_POSTGRESQL_URL": url}
        return subprocess.run([sys.executable, "-m", "pytest", *arguments], env=environment, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
