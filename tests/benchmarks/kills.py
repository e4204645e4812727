"""Every process is killed -9 at random moments while people work; nothing that was answered with success may be lost or
doubled.

    python -m tests.benchmarks.kills [--database sqlite|postgresql] [--kills 100] [--seed 1] [--log FILE] [--work_dir D]

Web process, API process, worker (a fake reader, fake training steps: a model would load longer than it lives),
exchange, exports, and with PostgreSQL its postmaster, on free ports and in a data folder of their own; each that was
killed starts again after a random pause. Meanwhile users upload, decide, correct and take back over HTTP, a modality
sends by C-STORE, exports and retrainings go on. At the end, when everything is up and quiet, the database is held
against what was answered (kills_checks.py). --log gets one JSON line a kill: when, what, what was going on. Prints one
JSON document; exit status 1 on any violation."""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy.exc import SQLAlchemyError

from db.models import Role, Worker
from db.session import engine_for, session_scope
from engine import schema_check
from engine.services import api_tokens
from engine.services.accounts import Actor, demo_admin
from engine.services.reading import READY
from engine.settings import PROJECT_DIR, settings
from tests.benchmarks import kills_checks
from tests.benchmarks.exchange_process import CALLING
from tests.benchmarks.kills_checks import rows
from tests.benchmarks.kills_clients import (
    Client,
    Exporter,
    Ledger,
    Modality,
    Reader,
    Retrainer,
    Stock,
    Uploader,
)
from tests.pediscreen_up import free_port
from tests.postgresql import programs_folder

PYTHON = sys.executable
FAKE_WORKER = str(PROJECT_DIR / "tests" / "engine" / "jobs" / "fake_worker.py")
WORKER_NAME, SILENT_AFTER_S = "w1", 6.0
DOWN_FOR_S = 1.5  # at most, before what was killed starts again
NOT_READY_SHARE = 0.15  # of the kills may hit what is still starting
FIRST_START_S, QUIET_WITHIN_S = 120.0, 300.0


@dataclass
class Target:
    """A process that is killed and started again."""

    name: str
    command: list[str]
    log: Path
    answers: Callable[[float], bool]  # since this moment (time.time)
    user: dict[str, Any] = field(default_factory=dict)
    process: subprocess.Popen | None = None
    started_at: float = 0.0
    start_again_at: float | None = None
    is_ready: bool = False

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, cwd=PROJECT_DIR, stdout=log, stderr=log, start_new_session=True, **self.user
            )
        self.started_at, self.start_again_at, self.is_ready = time.time(), None, False

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def look(self) -> bool:
        if not self.is_ready and self.is_running:
            self.is_ready = self.answers(self.started_at)
        return self.is_ready and self.is_running

    def stop(self) -> None:
        if self.is_running:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()


class Postgresql:
    """A server of its own with its defaults (fsync on), on a socket; its postmaster is a Target."""

    def __init__(self, folder: Path) -> None:
        self.programs, self.folder = programs_folder(), folder
        if self.programs is None:
            raise SystemExit("PostgreSQL is not installed (apt-get install postgresql)")
        self.user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
        if self.user:
            shutil.chown(folder, "postgres", "postgres")
        arguments = ["-D", "data", "-U", "pediscreen", "--auth=trust", "-E", "UTF8", "--locale=C"]
        subprocess.run([self.programs / "initdb", *arguments], cwd=folder, stdout=subprocess.DEVNULL, check=True,
                       **self.user)  # fmt: skip
        self.url = f"postgresql+psycopg://pediscreen@/postgres?host={folder}"

    def target(self, log: Path) -> Target:
        command = [str(self.programs / "postgres"), "-D", str(self.folder / "data"), "-k", str(self.folder),
                   "-c", "listen_addresses="]  # fmt: skip
        return Target("database", command, log, lambda _: self._answers(), self.user)

    def _answers(self) -> bool:
        try:
            return bool(rows(self.url, "SELECT 1"))
        except SQLAlchemyError:
            return False

    def amcheck(self) -> str:
        """pg_amcheck over all tables and indexes: "ok", or what it said."""
        command = [self.programs / "pg_amcheck", "-h", self.folder, "-U", "pediscreen", "--install-missing",
                   "--heapallindexed", "postgres"]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return "ok" if done.returncode == 0 else (done.stdout + done.stderr)[-2000:]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1, help="of the moments, the victims, and what users do")
    parser.add_argument("--seconds", type=float, default=3.5, help="between two kills, on average")
    parser.add_argument("--log", type=Path, help="one JSON line a kill")
    parser.add_argument("--work_dir", type=Path, help="new; kept afterwards; default: a temporary folder")
    chosen = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory(prefix="kills-") as temporary,
        tempfile.TemporaryDirectory(prefix="pg-", dir="/tmp") as pg_folder,  # short: a socket's path has 107 bytes
    ):
        work = chosen.work_dir or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        server = Postgresql(Path(pg_folder)) if chosen.database == "postgresql" else None
        found = one_run(work, server, chosen)
    print(json.dumps(found, indent=1))
    return 1 if found["violations"] else 0


def one_run(work: Path, server: Postgresql | None, chosen: argparse.Namespace) -> dict[str, Any]:
    began, rng = time.monotonic(), random.Random(chosen.seed)
    data_dir = work / "data"
    data_dir.mkdir()
    ports = {name: free_port() for name in ("web", "api", "exchange")}
    os.environ |= environment(work, data_dir, ports["exchange"], server.url if server else None)
    settings.cache_clear()
    url = settings().database_url
    targets = targets_of(work, url, ports, server)
    ledger = Ledger(work / "answers.jsonl")
    exporter = None
    try:
        if server is not None:
            targets[0].start()
            wait_until(targets[0].look, FIRST_START_S, "PostgreSQL does not answer")
        schema_check.upgrade(url)
        clients = clients_of(work, url, ports, ledger, rng)
        exporter = next(client for client in clients if isinstance(client, Exporter))
        for target in targets:
            if not target.is_running:
                target.start()
        wait_until(lambda: all([one.look() for one in targets]), FIRST_START_S, f"not up: see the logs in {work}")
        for client in clients:
            client.start()
        killed = Killer(targets, exporter, ledger, rng, chosen.log).kill(chosen.kills, chosen.seconds)
        keep_up(targets, lambda: stop(clients), ledger, "the clients do not end")
        keep_up(targets, lambda: is_quiet(targets, url), ledger, "it does not become quiet", hold_s=2)
        exporter.one_thing()  # clears up after the last one that was killed
        if server is not None:
            ledger.problems += [] if (said := server.amcheck()) == "ok" else [f"pg_amcheck: {said}"]
        result = {
            "database": chosen.database,
            "seed": chosen.seed,
            "kills": sum(killed.values()),
            "killed": dict(killed),
            "seconds": round(time.monotonic() - began),
            **figures(url, ledger),
        }
        found = kills_checks.violations(url, data_dir, ledger)
    finally:
        engine_for(url).dispose()
        for target in reversed(targets):
            target.stop()
        if exporter is not None and exporter.process is not None and exporter.process.poll() is None:
            exporter.process.kill()
    checked = kills_checks.integrity(data_dir)
    found += [f"{name}: {said}" for name, said in checked.items() if said != "ok"]
    found += [f"still alive: {line}" for line in left_alive(data_dir)]
    found += [f"left behind: {path.name}" for path in (work / "exports").glob(".*")]
    if server is not None:
        checked["postgresql"] = "pg_amcheck ok" if not any("pg_amcheck" in one for one in found) else "pg_amcheck"
    return {**result, "integrity_check": checked, "violations": found}


def environment(work: Path, data_dir: Path, dicom_port: int, url: str | None) -> dict[str, str]:
    return {
        "PEDISCREEN_DATA_DIR": str(data_dir),
        **({"PEDISCREEN_DATABASE_URL": url} if url else {}),
        "PEDISCREEN_DICOM_PORT": str(dicom_port),
        "PEDISCREEN_DICOM_SENDERS": CALLING,
        "PEDISCREEN_API_REQUESTS_PER_MINUTE": "100000",
        "PEDISCREEN_AUDIT_KEY": "kills" * 10,
        "PYTHONPATH": str(PROJECT_DIR),
        "OMP_WAIT_POLICY": "PASSIVE",
        "FAKE_LOG": str(work / "reads.log"),
        "FAKE_READ_S": "0.1",
        "FAKE_RETRAIN": "1",
        "FAKE_STEP_S": "0.5",
    }


def targets_of(work: Path, url: str, ports: dict[str, int], server: Postgresql | None) -> list[Target]:
    def cli(name: str, *more: str) -> list[str]:
        return [PYTHON, "-m", "engine.cli", name, *more]

    def worker_answers(since: float) -> bool:
        try:
            with session_scope(url) as session:
                found = session.get(Worker, WORKER_NAME)
            return found is not None and found.detail == READY and found.at.timestamp() > since
        except SQLAlchemyError:
            return False

    web, api, exchange = (ports[name] for name in ("web", "api", "exchange"))
    found = [server.target(work / "database.log")] if server else []
    return [
        *found,
        Target("web", cli("serve", "--port", str(web)), work / "web.log", lambda _: serves(web, "_stcore/health")),
        Target("api", cli("api", "--port", str(api)), work / "api.log", lambda _: serves(api, "api/health")),
        Target("worker", [PYTHON, FAKE_WORKER, WORKER_NAME, str(SILENT_AFTER_S)], work / "worker.log", worker_answers),
        Target("exchange", cli("exchange"), work / "exchange.log", lambda _: listens(exchange)),
    ]


def clients_of(work: Path, url: str, ports: dict[str, int], ledger: Ledger, rng: random.Random) -> list[Client]:
    addresses = [f"http://127.0.0.1:{ports[name]}/api/radiology" for name in ("web", "api")]
    (work / "films").mkdir()
    stock = Stock(work / "films", rng.randrange(1000))

    def own() -> random.Random:
        return random.Random(rng.random())

    def token(name: str, role: Role) -> tuple[str, str]:
        with session_scope(url) as session:
            made = api_tokens.make(session, demo_admin(), name, role, api_tokens.SCOPES_OF[role])
        return made.secret, f"token:{made.row.token_id}"

    clients: list[Client] = []
    for name in ("uploader 1", "uploader 2"):
        secret, _ = token(name, Role.SERVICE)
        clients.append(Uploader(name, ledger, own(), addresses, secret, stock=stock))
    for name in ("reader 1", "reader 2", "reader 3"):
        secret, username = token(name, Role.READER)
        actor = Actor(username, name, Role.READER)
        clients.append(Reader(name, ledger, own(), addresses, secret, url=url, actor=actor))
    clients.append(Modality("modality", ledger, own(), ports["exchange"], stock))
    clients.append(Exporter("exporter", ledger, own(), work / "exports"))
    clients.append(Retrainer("retrainer", ledger, own(), url))
    return clients


class Killer:
    def __init__(
        self, targets: list[Target], exporter: Exporter, ledger: Ledger, rng: random.Random, log: Path | None
    ) -> None:
        self.targets, self.exporter, self.ledger, self.rng, self.log = targets, exporter, ledger, rng, log

    def kill(self, times: int, every_s: float) -> Counter[str]:
        killed: Counter[str] = Counter()
        due = time.monotonic() + self.rng.uniform(0.3, 1.7) * every_s
        while sum(killed.values()) < times:
            time.sleep(0.05)
            tend(self.targets, self.rng, self.ledger)
            if time.monotonic() < due or (victim := self._victim()) is None:
                continue
            name, process, was_ready = victim
            line = {
                "at": time.time(),
                "kill": sum(killed.values()) + 1,
                "what": name,
                "pid": process.pid,
                "was_ready": was_ready,
                "going_on": dict(self.ledger.going_on),
                "up": [one.name for one in self.targets if one.is_ready and one.is_running],
            }
            os.kill(process.pid, signal.SIGKILL)
            if self.log is not None:
                with self.log.open("a", encoding="utf-8") as log:
                    print(json.dumps(line), file=log)
            self.ledger.note("killed", **line)
            killed[name] += 1
            due = time.monotonic() + self.rng.uniform(0.3, 1.7) * every_s
        return killed

    def _victim(self) -> tuple[str, subprocess.Popen, bool] | None:
        also_starting = self.rng.random() < NOT_READY_SHARE
        found = [
            (one.name, one.process, one.is_ready)
            for one in self.targets
            if one.is_running and (one.look() or also_starting)
        ]
        export = self.exporter.process
        if export is not None and export.poll() is None:
            found.append(("export", export, True))
        return self.rng.choice(found) if found else None


def tend(targets: list[Target], rng: random.Random, ledger: Ledger) -> None:
    """Starts again what has ended, after a random pause. What finds no database when it starts ends by itself, and so
    does a new postmaster while the children of the killed one still hold its memory."""
    database = next((one for one in targets if one.name == "database"), None)
    for target in targets:
        if target.is_running:
            target.look()
            continue
        if target.start_again_at is None:
            status = target.process.returncode
            was_there = database is None or (database.look() and database.started_at < target.started_at)
            if status != -signal.SIGKILL and target is not database and not was_there:
                ledger.count(ledger.answers, f"{target.name} started without a database")
            elif status != -signal.SIGKILL and target is not database:
                ledger.problems.append(f"the {target.name} ended by itself, exit status {status}: see {target.log}")
            target.start_again_at = time.time() + rng.uniform(0, DOWN_FOR_S)
        elif time.time() >= target.start_again_at:
            target.start()


def keep_up(
    targets: list[Target], condition: Callable[[], bool], ledger: Ledger, trouble: str, *, hold_s: float = 0
) -> None:
    """Until `condition` has held for `hold_s`, while everything is kept running."""
    deadline, since, rng = time.monotonic() + QUIET_WITHIN_S, None, random.Random(0)
    while since is None or time.monotonic() - since < hold_s:
        tend(targets, rng, ledger)
        held = condition()
        since = (since or time.monotonic()) if held else None
        if time.monotonic() > deadline:
            ledger.problems.append(f"{trouble} within {QUIET_WITHIN_S:.0f} s: {dict(ledger.going_on)}")
            return
        if held and not hold_s:
            return
        time.sleep(0.2)


def stop(clients: list[Client]) -> bool:
    for client in clients:
        client.stopping.set()
    return not any(client.is_alive() for client in clients)


def is_quiet(targets: list[Target], url: str) -> bool:
    if not all([one.look() for one in targets]):
        return False
    try:
        waiting = rows(url, "SELECT count(*) FROM image WHERE read_state = 'queued'")[0][0]
        on = rows(url, "SELECT count(*) FROM retrain_run WHERE state IN ('queued', 'running')")[0][0]
    except SQLAlchemyError:
        return False
    return waiting == 0 and on == 0


def figures(url: str, ledger: Ledger) -> dict[str, Any]:
    def count(sql: str) -> int:
        return rows(url, f"SELECT count(*) FROM {sql}")[0][0]  # noqa: S608 - ours, from below

    return {
        "films_sent": len(ledger.films),
        "films_answered": sum(bool(film.answers or film.by_storescu) for film in ledger.films),
        "on_the_worklist": count("image"),
        "in_quarantine": count("quarantine"),
        "reads": count("prediction"),
        "decisions_answered": sum(one.review_id is not None for one in ledger.decisions),
        "decisions_sent_again": sum(one.unanswered > 0 for one in ledger.decisions),
        "decisions_refused": sum(one.refused is not None for one in ledger.decisions),
        "withdrawals": sum(one.withdrawn_by is not None for one in ledger.withdrawals),
        "reviews": count("review"),
        "exports": dict(ledger.exports),
        "retrainings": {str(run): state for run, state in rows(url, "SELECT id, state FROM retrain_run ORDER BY id")},
        "retrain_step_starts": count("audit_event WHERE subject LIKE 'retrain:%'"),
        "audit_rows": count("audit_event"),
        "answers": dict(sorted(ledger.answers.items())),
    }


def serves(port: int, path: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=1):
            return True
    except OSError:
        return False


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_until(condition: Callable[[], bool], within_s: float, trouble: str) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(trouble)
        time.sleep(0.1)


def left_alive(data_dir: Path) -> list[str]:
    """Processes of ours that outlived those that started them: their environment names the data folder."""
    time.sleep(2)
    found = []
    for process in psutil.process_iter(["pid", "cmdline"]):
        try:
            is_ours = process.environ().get("PEDISCREEN_DATA_DIR") == str(data_dir)
        except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        if is_ours and process.pid != os.getpid():
            found.append(" ".join(process.info["cmdline"] or [])[:200])
    return found


if __name__ == "__main__":
    sys.exit(main())
