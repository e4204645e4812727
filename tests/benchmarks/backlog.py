"""A backlog with uploads in between: how long a person waits for a read, and what that costs the backlog.

    python -m tests.benchmarks.backlog [--backlog 120] [--every 3] [--distinct 120] [--undisturbed 120]

A worker reads a backlog of hand, fundus and wrist phantoms that came in bulk, first undisturbed, then as many again
while a person uploads one every few seconds. The model is what PEDISCREEN_MODEL names, the phantom model by default.
A wait runs from the end of the upload to the stored read. Prints one JSON document; the promise for a GPU is
`--backlog 5000 --every 1` with a 95 % wait of at most 300 ms and a rate within 10 %.

With `--distinct` only so many films of a backlog are taken in; the others are the same films again, each with a child,
a study and a (linked) decoded film of its own. `--undisturbed 0` leaves the first part out."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import func, inspect, select
from sqlalchemy.orm import selectinload

from db import migrate
from db.models import Image, Prediction, ReadState, Study, Worker
from db.session import session_scope
from db.types import utc_now
from engine.imaging import film_store
from engine.phantoms.write import make_phantoms
from engine.services import images as images_service
from engine.services.accounts import Actor, demo_reader, service_actor
from engine.services.ingest import ingest_file
from engine.services.reading import STOPPED
from engine.settings import PROJECT_DIR, settings

VIEWS = ("hand", "fundus", "wrist")
BULK, PERSON = service_actor("sender"), demo_reader()
GIVE_UP_S = 3600.0
UPLOADS = 180  # a person's, at most


def main(backlog: int, every_s: float, distinct: int | None, undisturbed_count: int | None) -> dict:
    with tempfile.TemporaryDirectory(prefix="pediscreen-backlog-") as scratch:
        os.environ["PEDISCREEN_DATA_DIR"] = str(Path(scratch) / "data")
        settings.cache_clear()
        migrate.upgrade(settings().database_url)
        sizes = (backlog if undisturbed_count is None else undisturbed_count), backlog
        taken_in = [min(size, distinct or size) for size in sizes]
        say(f"making {sum(taken_in) + UPLOADS} films")
        films = films_in(Path(scratch) / "films", sum(taken_in) + UPLOADS)
        alone, beside, uploads = films[: taken_in[0]], films[taken_in[0] : sum(taken_in)], films[sum(taken_in) :]

        undisturbed = all_arrive(alone, sizes[0])
        if undisturbed:
            say(f"reading {sizes[0]} undisturbed")
            with_worker(lambda: wait_for(nothing_waits))
        backlog_ids = all_arrive(beside, sizes[1])
        sent: dict[int, datetime] = {}
        say(f"reading {sizes[1]} beside uploads")
        with_worker(lambda: upload_until_all_is_read(uploads, every_s, backlog_ids, sent))

        read_at = moments()
        waits = sorted((read_at[image] - at).total_seconds() for image, at in sent.items())
        reads = Counter(query(select(Prediction.image_fk).order_by(Prediction.id)))
        all_beside = [*backlog_ids, *sent]
        return {
            "backlog": backlog,
            "model": query(select(Worker.model_version))[0],
            "processors": os.cpu_count(),
            "load_average": round(os.getloadavg()[0], 1),
            "images_per_s_undisturbed": rates_of(undisturbed, read_at),
            "images_per_s_with_uploads": rates_of(all_beside, read_at),
            "uploads": len(waits),
            "wait_s": {
                "median": round(statistics.median(waits), 3),
                "p95": round(waits[int(0.95 * (len(waits) - 1))], 3),
                "longest": round(waits[-1], 2),
            },
            "lost": len({*undisturbed, *all_beside} - set(reads)),
            "read_twice": sum(count > 1 for count in reads.values()),
        }


def say(what: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {what}", file=sys.stderr, flush=True)


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


def all_arrive(films: list[Path], count: int) -> list[int]:
    """`films` come in, and are there as often as it takes to be `count` images, none of which has been read."""
    say(f"taking in {len(films)} films for a backlog of {count}")
    with ThreadPoolExecutor() as pool:
        image_ids = list(pool.map(lambda film: arrive(film, BULK), films))
    return again(image_ids, count)


def again(image_ids: list[int], count: int) -> list[int]:
    """As many images as `count` from those that are there, none of which has been read."""
    with session_scope(settings().database_url) as session:
        loaded = selectinload(Image.study).selectinload(Study.patient)
        images = list(session.scalars(select(Image).where(Image.id.in_(image_ids)).options(loaded).order_by(Image.id)))
        copies = []
        for number in range(count - len(images)):
            image = images[number % len(images)]
            key = secrets.token_hex(32)
            patient = copied(image.study.patient, pseudonym=f"P-{key[:12]}", patient_id=key)
            study = copied(image.study, study_instance_uid=f"2.25.{int(key[:30], 16)}", patient=patient)
            uid = f"2.25.{int(key[30:60], 16)}"
            copies.append(copied(image, sop_instance_uid=uid, file_sha256=key, pixel_sha256=key, study=study))
            kept, folder = (film_store.entry_folder(images_service.films_folder(), h) for h in (image.file_sha256, key))
            shutil.copytree(kept, folder, copy_function=os.link)
        session.add_all(copies)
        session.commit()
        return [*image_ids, *sorted(image.id for image in copies)]


def copied(row, **changed):
    """A new row with the values of another, but for its key, what the database computes, and what is `changed`."""
    columns = inspect(type(row)).columns
    kept = {c.key for c in columns if not c.primary_key and not c.computed and not c.foreign_keys}
    return type(row)(**{key: getattr(row, key) for key in kept - set(changed)}, **changed)


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
            Image.read_state == ReadState.QUEUED, Image.id.between(min(backlog), max(backlog)), ~Image.read_first
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


def rates_of(images: list[int], read_at: dict[int, datetime]) -> dict[str, float] | None:
    """Images a second to the last read, from the first one, and from half a minute after it: that half minute is when a
    GPU records its graphs."""
    if not images:
        return None
    at = sorted(read_at[image] for image in images)
    rates = {}
    for name, after_s in (("from_the_first", 0), ("after_30_s", 30)):
        begun = at[0] + timedelta(seconds=after_s)
        later = [moment for moment in at if moment > begun]
        if later:
            rates[name] = round(len(later) / (at[-1] - begun).total_seconds(), 2)
    return rates


def query(statement) -> list:
    with session_scope(settings().database_url) as session:
        return list(session.scalars(statement))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backlog", type=int, default=120, help="images, read twice over: alone and beside uploads")
    parser.add_argument("--every", type=float, default=3.0, help="seconds between uploads")
    parser.add_argument("--distinct", type=int, help="films of a backlog that are taken in; the others are copies")
    parser.add_argument("--undisturbed", type=int, help="images of the backlog that is read alone, where it differs")
    given = parser.parse_args()
    print(json.dumps(main(given.backlog, given.every, given.distinct, given.undisturbed), indent=2))
