"""The web process on a database and data folder of the test's own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.settings import PROJECT_DIR
from tests.pediscreen_up import free_port

STARTS_WITHIN_S = 120


@contextmanager
def web_process(
    database_url: str, data_dir: Path, folder: Path, port: int | None = None, **settings: str
) -> Iterator[str]:
    """Its address. It is started from `folder`, which is not the project's, and leaves its log there. `settings`: more
    of the environment."""
    port = port or free_port()
    environment = os.environ | {
        "PEDISCREEN_DATA_DIR": str(data_dir),
        "PEDISCREEN_DATABASE_URL": database_url,
        "PEDISCREEN_PORT": str(port),
        "PYTHONPATH": str(PROJECT_DIR),
        **settings,
    }
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ui.serve"], cwd=folder, env=environment, stdout=log, stderr=log
        )
        address = f"http://127.0.0.1:{port}"
        try:
            _wait_for(f"{address}/_stcore/health", process)
            yield address
        finally:
            process.terminate()
            process.wait(15)


def _wait_for(url: str, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=1)
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the server did not start")
