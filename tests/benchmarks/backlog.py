"""A backlog with uploads in between: how long a person waits for a read, and what that costs the backlog.

    python -m tests.benchmarks.backlog [--backlog 120] [--every 3]

A worker reads a backlog of hand, fundus and wrist phantoms that came in bulk, first undisturbed, then as many again
while a person uploads one every few seconds. The model is what PEDISCREEN_MODEL names, the phantom model by default.
A wait runs from the end of the upload to the stored read. Prints one JSON document; the promise for a GPU is
`--backlog 5000 --every 1` with a 95 % wait of at most 300 ms and a rate within 10 %."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import datetime
from pathlib import Path

from sqlalchemy import func, select

from db import migrate
from db.models import Image, Prediction, ReadState, Worker
from db.session import session_scope
from db.types import utc_now
from engine.phantoms.write import make_phantoms
from engine.services.accounts import Actor, demo_reader, service_actor
from engine.services.ingest import ingest_file
from engine.services.reading import STOPPED
from engine.settings import PROJECT_DIR, settings

VIEWS = ("hand", "fundus", "wrist")
BULK, PERSON = service_actor("sender"), demo_reader()
GIVE_UP_S = 3600.0


def main(backlog: int, every_s: float) -> dict:
    with tempfile.TemporaryDirectory(prefix="pediscreen-backlog-") as scratch:
        os.environ["PEDISCREEN_DATA_DIR"] = str(Path(scratch) / "data")
        settings.cache_clear()
        migrate.upgrade(settings().database_url)
        films = films_in(Path(scratch) / "films", 2 * backlog + max(60, backlog // 4))
        alone, beside, uploads = films[:backlog], films[backlog : 2 * backlog], films[2 * backlog :]

        undisturbed = [arrive(film, BULK) for film in alone]
        with_worker(lambda: wait_for(nothing_waits))
        backlog_ids = [arrive(film, BULK) for film in beside]
        sent: dict[int, datetime] = {}
        with_worker(lambda: upload_until_all_is_read(uploads, every_s, backlog_ids, sent))

        read_at = moments()
        waits = sorted((read_at[image] - at).total_seconds() for image, at in sent.items())
        reads = Counter(query(select(Prediction.image_fk).order_by(Prediction.id)))
        rate, rate_beside = rate_of(undisturbed, read_at), rate_of([*backlog_ids, *sent], read_at)
        return {
            "backlog": backlog,
            "model": query(select(Worker.model_version))[0],
            "processors": os.cpu_count(),
            "load_average": round(os.getloadavg()[0], 1),
            "images_per_s_undisturbed": round(rate, 2),
            "images_per_s_with_uploads": round(rate_beside, 2),
            "rate_kept": round(rate_beside / rate, 2),
            "uploads": len(waits),
            "wait_s": {
                "median": round(statistics.median(waits), 2),
                "p95": round(waits[int(0.95 * (len(waits) - 1))], 2),
                "longest": round(waits[-1], 2),
            },
            "lost": len({*undisturbed, *backlog_ids, *sent} - set(reads)),
            "read_twice": sum(count > 1 for count in reads.values()),
        }


def films_in(folder: Path, count: int) -> list[Path]:
    """The three views in turn."""
    each = -(-count // len(VIEWS))
    made = [make_phantoms(folder / view, view, each, 4_100_000_000 + n) for n, view in enumerate(VIEWS)]
    return [file.path for group in zip(*made, strict=True) for file in group][:count]


def arrive(film: Path, actor: Actor) -> int:
    with session_scope(settings().database_url) as session:
        result = ingest_file(session, actor, film, film.name)
    if result.image_id is None:
        raise SystemExit(f"{film.name} was not accepted: {result.reason}")
    return result.image_id


def with_worker(work) -> None:
    """`work` while a worker process runs, which is then stopped."""
    log_path = settings().data_dir / "worker.log"
    with log_path.open("ab") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "engine.cli", "worker"], cwd=PROJECT_DIR, stdout=log, stderr=log
        )
    try:
        work()
        worker.terminate()
        if worker.wait() != 0 or query(select(Worker.detail)) != [STOPPED]:
            raise SystemExit(f"the worker did not stop as it should:\n{log_path.read_text()[-2000:]}")
    finally:
        worker.kill()
        worker.wait()


def upload_until_all_is_read(films: list[Path], every_s: float, backlog: list[int], sent: dict[int, datetime]) -> None:
    """From the first read of the backlog to its last; notes in `sent` when each upload had ended."""
    wait_for(lambda: backlog_left(backlog) < len(backlog))
    due = time.monotonic()
    for film in films:
        due = max(due + every_s, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))
        if backlog_left(backlog) == 0:
            break
        image_id = arrive(film, PERSON)
        sent[image_id] = utc_now()
    wait_for(nothing_waits)


def backlog_left(backlog: list[int]) -> int:
    return query(
        select(func.count(Image.id)).where(
            Image.read_state == ReadState.QUEUED, Image.id.between(backlog[0], backlog[-1]), ~Image.read_first
        )
    )[0]


def nothing_waits() -> bool:
    return query(select(func.count(Image.id)).where(Image.read_state == ReadState.QUEUED)) == [0]


def wait_for(condition) -> None:
    deadline = time.monotonic() + GIVE_UP_S
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit("the worker does not read: see worker.log in the data folder")
        time.sleep(0.2)


def moments() -> dict[int, datetime]:
    """Image id to when its read was stored."""
    with session_scope(settings().database_url) as session:
        return dict(session.execute(select(Prediction.image_fk, Prediction.created_at)).all())


def rate_of(images: list[int], read_at: dict[int, datetime]) -> float:
    """Images a second between the first read and the last, without the start of the process."""
    at = sorted(read_at[image] for image in images)
    after_first = [moment for moment in at if moment > at[0]]
    return len(after_first) / (at[-1] - at[0]).total_seconds()


def query(statement) -> list:
    with session_scope(settings().database_url) as session:
        return list(session.scalars(statement))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backlog", type=int, default=120, help="images, read twice over: alone and beside uploads")
    parser.add_argument("--every", type=float, default=3.0, help="seconds between uploads")
    given = parser.parse_args()
    print(json.dumps(main(given.backlog, given.every), indent=2))
