"""Films are sent while the receiver, the worker or the database is killed (kill -9) again and again: none is lost, none
doubled, and every one that was answered with success is on the worklist or in quarantine.

    python -m tests.benchmarks.receive_kills [--films 200] [--kills 12] [--seed 1] [--work_dir DIR] [--small]
        [--run sqlite:receiver] [--run postgresql:receiver,worker,database]

Each run has a data folder and a database of its own; its kills go round the targets named. Two senders send one film at
a time by dcmtk's storescu, and each again until it is answered with success. With the worker among the targets, every
film is read in the end, too, and once. `--small` sends phantoms of 1280 rows instead of 5 MB. Prints one JSON document;
exit status 1 when anything was lost, doubled or left behind."""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from pydicom import dcmread
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError

from db.models import AuditEvent, Image, Prediction, Quarantine
from db.session import engine_for, session_scope
from engine.imaging import film_store
from engine.phantoms.write import make_phantoms
from engine.services import images, incoming
from engine.settings import PROJECT_DIR, settings
from tests.benchmarks.dx_films import make_films
from tests.benchmarks.exchange_process import Exchange, storescu
from tests.benchmarks.killed_postgresql import KilledPostgreSQL

RUNS = ("sqlite:receiver,worker", "postgresql:receiver,worker,database")
SENDERS = 2
DOWN_S = (0.0, 1.5)  # how long what was killed stays away
GIVE_UP_S = 900.0


@dataclass
class Sending:
    """What the senders know: how often each film was sent, and which were answered with success."""

    waiting: list[Path]
    attempts: Counter = field(default_factory=Counter)
    answered: set[Path] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def work(self, port: int) -> None:
        deadline = time.monotonic() + GIVE_UP_S
        while time.monotonic() < deadline:
            with self.lock:
                if not self.waiting:
                    return
                film = self.waiting.pop(0)
                self.attempts[film] += 1
            sender = storescu(port, [film], "-v", "--acse-timeout", "30", "--dimse-timeout", "60", "-to", "5")
            said = sender.communicate()[0]
            if sender.returncode == 0 and b"Store Response (Success)" in said:
                with self.lock:
                    self.answered.add(film)
            else:
                with self.lock:
                    self.waiting.append(film)
                time.sleep(0.2)


def main(films: list[Path], kills: int, seed: int, work_dir: Path, runs: list[str]) -> dict:
    done = [one_run(films, run, kills, random.Random(seed), work_dir / "data") for run in runs]
    problems = [f"{run['run']}: {problem}" for run in done for problem in run["problems"]]
    return {"films": len(films), "runs": done, "problems": problems}


def one_run(films: list[Path], run: str, kills: int, rng: random.Random, data_dir: Path) -> dict:
    database, _, names = run.partition(":")
    targets = names.split(",")
    shutil.rmtree(data_dir, ignore_errors=True)
    data_dir.mkdir(parents=True)
    with ExitStack() as stack:
        environment = {}
        server = None
        if database == "postgresql":
            server = stack.enter_context(KilledPostgreSQL())
            environment["PEDISCREEN_DATABASE_URL"] = server.url
        else:
            os.environ.pop("PEDISCREEN_DATABASE_URL", None)
        exchange = Exchange(data_dir, **environment)
        exchange.start()
        stack.callback(exchange.kill)
        worker = WorkerProcess(data_dir) if "worker" in targets else None
        if worker is not None:
            worker.start()
            stack.callback(worker.kill)
        processes = {"receiver": exchange, "worker": worker, "database": server}

        began, sending = time.monotonic(), Sending(list(films))
        senders = [threading.Thread(target=sending.work, args=(exchange.port,)) for _ in range(SENDERS)]
        for sender in senders:
            sender.start()
        killed = kill_on_the_way([(name, processes[name]) for name in targets], kills, len(films), sending, rng)
        for sender in senders:
            sender.join()
        seconds = time.monotonic() - began
        url = settings().database_url
        if worker is not None:
            wait_until_read(url, len(films), worker)
        problems = compare(url, sending, films, is_read=worker is not None)
        receiver_stops = exchange.stop()
        if worker is not None:
            worker.kill()
        incoming.sweep(0)
        if list((data_dir / "incoming").iterdir()):
            problems.append("files are left in the incoming folder")
        engine_for(url).dispose()
    if receiver_stops != 0:
        problems.append(f"the receiver ended with status {receiver_stops}")
    return {
        "run": run,
        "kills": killed,
        "seconds": round(seconds, 1),
        "sent_more_than_once": sum(count > 1 for count in sending.attempts.values()),
        "attempts": sum(sending.attempts.values()),
        "problems": problems,
    }


def kill_on_the_way(
    targets: list[tuple[str, object]], kills: int, films: int, sending: Sending, rng: random.Random
) -> list[str]:
    """At moments spread over the films: each once so many are answered, and a random while after that."""
    killed = []
    for number in range(kills):
        due = films * (number + 0.5) / kills
        while len(sending.answered) < due and (sending.waiting or len(sending.answered) < films):
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.3))
        name, process = targets[number % len(targets)]
        process.kill()
        killed.append(f"{name} after {len(sending.answered)}")
        time.sleep(rng.uniform(*DOWN_S))
        process.start()
    return killed


class WorkerProcess:
    def __init__(self, data_dir: Path) -> None:
        self.log = data_dir / "worker.log"
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        with self.log.open("ab") as log:
            command = [sys.executable, "-m", "engine.cli", "worker"]
            self.process = subprocess.Popen(command, cwd=PROJECT_DIR, stdout=log, stderr=log, start_new_session=True)

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def wait_until_read(url: str, films: int, worker: WorkerProcess) -> None:
    """One that was started while the database was away has ended, and is started again, as `pediscreen up` does."""
    deadline = time.monotonic() + GIVE_UP_S
    while time.monotonic() < deadline:
        if worker.process.poll() is not None:
            worker.start()
        try:
            with session_scope(url) as session:
                if (session.scalar(select(func.count(func.distinct(Prediction.image_fk)))) or 0) >= films:
                    return
        except OperationalError:
            pass
        time.sleep(0.5)


def compare(url: str, sending: Sending, films: list[Path], *, is_read: bool) -> list[str]:
    """What is wrong; nothing, if all is well."""
    problems = []
    if missing := len(films) - len(sending.answered):
        problems.append(f"{missing} films were never answered with success")
    with session_scope(url) as session:
        stored = list(session.scalars(select(Image)))
        quarantined = list(session.scalars(select(Quarantine)))
        accepted = session.scalar(select(func.count(AuditEvent.id)).where(AuditEvent.action == "ingest.accepted"))
        reads = Counter(session.scalars(select(Prediction.image_fk)))
    by_uid = {image.sop_instance_uid: image for image in stored}
    for film in sending.answered:
        data = dcmread(film)
        image = by_uid.get(data.SOPInstanceUID)
        if image is None:
            problems.append(f"{film.name} was answered with success and is nowhere")
            continue
        kept = dcmread(images.checked_original(image.file_sha256))
        if kept.PixelData != data.PixelData or kept.PatientID != data.PatientID:
            problems.append(f"{film.name} is not what was sent")
        film_store.load(images.films_folder(), image.file_sha256, image.film_sha256)
    if len(stored) != len(films):
        problems.append(f"{len(stored)} images of {len(films)} films")
    if accepted != len(stored):
        problems.append(f"{accepted} films were taken in, {len(stored)} are there")
    if quarantined:
        problems.append(f"{len(quarantined)} in quarantine: {Counter(row.code for row in quarantined)}")
    if is_read and (len(reads) != len(films) or set(reads.values()) != {1}):
        problems.append(f"{len(reads)} films were read, some of them {max(reads.values(), default=0)} times")
    return problems


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=int, default=200)
    parser.add_argument("--kills", type=int, default=12, help="of each run")
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    parser.add_argument("--work_dir", type=Path)
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--run", action="append")
    return parser.parse_args()


def small_films(folder: Path, count: int) -> list[Path]:
    return [file.path for file in make_phantoms(folder, "hand", count, 3)]


if __name__ == "__main__":
    arguments = parsed()
    with tempfile.TemporaryDirectory(prefix="pediscreen-kills-") as temporary:
        work = arguments.work_dir or Path(temporary)
        made = (small_films if arguments.small else make_films)(work / "films", arguments.films)
        found = main(made, arguments.kills, arguments.seed, work, arguments.run or list(RUNS))
    found |= {"processors": os.cpu_count(), "memory_gb": round(psutil.virtual_memory().total / 1e9)}
    print(json.dumps(found, indent=1))
    sys.exit(1 if found["problems"] else 0)
