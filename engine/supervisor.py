"""`pediscreen up`: database, demo worklist, web and worker as one command that Ctrl-C ends.

Web and worker are processes of their own, each in a session of its own, so that only the supervisor hears Ctrl-C and
stops them in order. One that dies is started again, at once the first time and then ever more slowly; what it wrote
is in `logs/` under the data folder."""

from __future__ import annotations

import ctypes
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from engine.errors import PediScreenError
from engine.sign_in_settings import SignInSettings

STOP_WITHIN_S = 10
STEADY_AFTER_S = 30  # a child that lived this long starts again at once when it dies
SLOWEST_RESTART_S = 30
LARGEST_LOG_BYTES = 10_000_000
SUPERVISOR_PID = "PEDISCREEN_SUPERVISOR_PID"


class CannotStart(PediScreenError):
    """The workstation does not come up; the message says why and what to do."""


@dataclass
class Child:
    """One supervised process. `command` is an argument list; no shell is involved."""

    name: str
    command: list[str]
    log_path: Path
    process: subprocess.Popen | None = None
    started_at: float = 0.0
    start_again_at: float | None = None
    quick_deaths: int = 0

    def start(self) -> None:
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        if self.log_path.exists() and self.log_path.stat().st_size > LARGEST_LOG_BYTES:
            self.log_path.replace(self.log_path.with_suffix(".old.log"))
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, SUPERVISOR_PID: str(os.getpid()), "PYTHONUNBUFFERED": "1"},
            )
        self.started_at = time.monotonic()
        self.start_again_at = None

    def signal(self, number: int) -> None:
        """To the process and all that it started (a decoder, say)."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, number)

    def last_lines(self, count: int = 15) -> str:
        if not self.log_path.exists():
            return ""
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-count:])


@dataclass
class Supervisor:
    children: list[Child] = field(default_factory=list)
    out: TextIO = sys.stdout

    def say(self, message: str) -> None:
        print(message, file=self.out, flush=True)

    def add(self, name: str, command: list[str], log_path: Path) -> Child:
        child = Child(name, command, log_path)
        self.children.append(child)
        child.start()
        return child

    def tend(self) -> None:
        """Starts again what has died and whose turn it is. Called a few times a second."""
        now = time.monotonic()
        for child in self.children:
            if child.process is None or child.process.poll() is None:
                continue
            if child.start_again_at is None:
                lived_s = now - child.started_at
                child.quick_deaths = 0 if lived_s > STEADY_AFTER_S else child.quick_deaths + 1
                pause_s = min(SLOWEST_RESTART_S, 2.0 ** (child.quick_deaths - 1)) if child.quick_deaths > 1 else 0.0
                child.start_again_at = now + pause_s
                self.say(
                    f"The {child.name} stopped ({_how(child.process.returncode)}) and starts again"
                    + (f" in {pause_s:.0f} s." if pause_s else ".")
                    + f" Its log: {child.log_path}"
                )
            if now >= child.start_again_at:
                child.start()

    def stop(self) -> None:
        for child in self.children:
            child.signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_WITHIN_S
        for child in self.children:
            if child.process is None:
                continue
            try:
                child.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.signal(signal.SIGKILL)
                child.process.wait()


def up(
    *,
    data_dir: Path,
    database_url: str,
    port: int,
    sign_in: SignInSettings,
    with_demo: bool = True,
    with_exchange: bool = False,
) -> None:
    """Brings everything up, prints the one address and returns after Ctrl-C or SIGTERM. `with_exchange`: something of
    the hospital's systems is configured.

    Raises CannotStart when the port is taken or the web process does not answer."""
    from engine import schema_check
    from engine.services import first_run

    started = time.monotonic()
    _require_free_port(port)
    _open_door()
    for number in (signal.SIGTERM, signal.SIGINT):  # a shell's background jobs start with SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    logs = data_dir / "logs"
    address = sign_in.address(port)
    supervisor = Supervisor()
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        schema_check.upgrade(database_url)
        web = supervisor.add("web", cli_command("serve", "--port", str(port)), logs / "web.log")
        if with_demo and subprocess.run(cli_command("demo"), stdin=subprocess.DEVNULL, check=False).returncode:
            supervisor.say("The demo worklist could not be filled; see above. The workstation starts without it.")
        supervisor.add("worker", cli_command("worker"), logs / "worker.log")
        if with_exchange:
            supervisor.add("exchange", cli_command("exchange"), logs / "exchange.log")
        _wait_for(web, f"{address}/_stcore/health")
        supervisor.say(f"Ready after {time.monotonic() - started:.0f} s. Logs: {logs}. Ctrl-C stops everything.")
        for line in first_run.announcement(sign_in, data_dir, database_url, address):
            supervisor.say(line)
        supervisor.say(f"PediScreen: {sign_in.public_url or address}")
        while True:
            time.sleep(0.3)
            supervisor.tend()
    except KeyboardInterrupt:
        supervisor.say("Stopping ...")
    finally:
        supervisor.stop()


def cli_command(*arguments: str) -> list[str]:
    """A pediscreen command as a process of its own."""
    return [sys.executable, "-m", "engine.cli", *arguments]


def end_with_supervisor() -> None:
    """Called by the children: a SIGTERM when the supervisor is gone, even if it was killed (Linux only)."""
    supervisor_pid = os.environ.get(SUPERVISOR_PID)
    if supervisor_pid is None or sys.platform != "linux":
        return
    PR_SET_PDEATHSIG = 1  # noqa: N806 - prctl(2)'s name
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(supervisor_pid):
        raise SystemExit("the supervisor is gone")


def _require_free_port(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise CannotStart(
                f"Port {port} is not free ({error.strerror}). Stop what uses it, or choose another port: "
                f"PEDISCREEN_PORT={port + 1}"
            ) from error


def _open_door() -> None:
    """Web and worker find each other for the model's words: where the environment names no port, on a free one of this
    machine alone, behind a token of this run."""
    if os.environ.get("PEDISCREEN_READS_PORT"):
        return
    with socket.create_server(("127.0.0.1", 0)) as probe:
        os.environ["PEDISCREEN_READS_PORT"] = str(probe.getsockname()[1])
    os.environ.setdefault("PEDISCREEN_READS_TOKEN", secrets.token_hex(32))


def _wait_for(web: Child, url: str, *, within_s: float = 120) -> None:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        if web.process is not None and web.process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise CannotStart(f"The web process does not answer at {url}. Its log ends with:\n{web.last_lines()}")


def _how(returncode: int) -> str:
    return f"killed by {signal.Signals(-returncode).name}" if returncode < 0 else f"exit status {returncode}"
