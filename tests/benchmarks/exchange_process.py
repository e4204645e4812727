"""`pediscreen exchange` as a process of its own with a data folder of its own, receiving by C-STORE on a free port."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from db import migrate
from engine.settings import PROJECT_DIR, settings
from tests.pediscreen_up import free_port

CALLING, CALLED = "XRAY", "PEDISCREEN"


class Exchange:
    """`environment` comes on top of this process's, whose settings become the same."""

    def __init__(self, data_dir: Path, **environment: str) -> None:
        self.port = free_port()
        os.environ |= {
            "PEDISCREEN_DATA_DIR": str(data_dir),
            "PEDISCREEN_DICOM_PORT": str(self.port),
            "PEDISCREEN_DICOM_SENDERS": CALLING,
            **environment,
        }
        settings.cache_clear()
        migrate.upgrade(settings().database_url)
        self.log = data_dir / "exchange.log"
        self.process: subprocess.Popen | None = None

    def start(self, *, wait: bool = True) -> None:
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "engine.cli", "exchange"]
            self.process = subprocess.Popen(command, cwd=PROJECT_DIR, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 60
        while wait and not self.listens():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise RuntimeError(f"the exchange does not listen:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.05)

    def listens(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(0.5)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        """As kill -9 does: this process and those that it started."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(30)


def storescu(port: int, films: list[Path], *more: str) -> subprocess.Popen:
    """dcmtk's sender, with one association for all of `films`."""
    command = ["storescu", *more, "-aet", CALLING, "-aec", CALLED, "127.0.0.1", str(port), *map(str, films)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
