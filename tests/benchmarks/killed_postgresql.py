"""A PostgreSQL server of a test's own that can be killed and started again. It writes through to the disk, as one in a
hospital does."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

import psutil

from tests.postgresql import programs_folder


class KilledPostgreSQL:
    """Empty; `url` is the same all the time."""

    def __init__(self) -> None:
        found = programs_folder()
        if found is None:
            raise SystemExit("PostgreSQL is not installed (apt-get install postgresql)")
        self.programs = found
        self.folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # short: a socket's path has at most 107 bytes
        self.url = f"postgresql+psycopg://pediscreen@/postgres?host={self.folder}"
        # it refuses to run as root; Debian's package brings a user for it
        self.user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
        if self.user:
            shutil.chown(self.folder, "postgres", "postgres")

    def __enter__(self) -> KilledPostgreSQL:
        data = str(self.folder / "data")
        made = self._run("initdb", "-D", data, "-U", "pediscreen", "--auth=trust", "-E", "UTF8", "--locale=C")
        assert made == 0
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        options = f"-c listen_addresses='' -c shared_buffers=32MB -k {self.folder}"
        data, log = str(self.folder / "data"), str(self.folder / "log")
        for _ in range(60):
            if self._run("pg_ctl", "-D", data, "-w", "-l", log, "-o", options, "start") == 0:
                return
            time.sleep(0.5)  # processes of the killed one are still ending
        raise RuntimeError(f"PostgreSQL did not start again: see {log}")

    def kill(self) -> None:
        """The server and every process of it."""
        pid_file = self.folder / "data" / "postmaster.pid"
        if not pid_file.exists():
            return
        try:
            server = psutil.Process(int(pid_file.read_text().splitlines()[0]))
        except psutil.NoSuchProcess:
            return
        for process in [server, *server.children(recursive=True)]:
            process.kill()
        psutil.wait_procs([server], timeout=10)

    def _run(self, program: str, *arguments: str) -> int:
        command = [str(self.programs / program), *arguments]
        return subprocess.run(
            command, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **self.user
        ).returncode
