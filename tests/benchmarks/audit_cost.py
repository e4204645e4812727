"""What the audit chain costs those who work: one confirm alone, 50 at the same moment, films coming in beside readers.

    python -m tests.benchmarks.audit_cost [DATABASE_URL]

Prints one JSON line a figure. Without a URL on a fresh SQLite file; a database that is named must be empty, and a
PostgreSQL whose figures are to mean anything keeps its fsync on."""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

READERS, ROUNDS, ALONE, FILMS = 50, 4, 100, 60


def main(url: str | None, folder: Path) -> None:
    os.environ["PEDISCREEN_DATA_DIR"] = str(folder)
    if url:
        os.environ["PEDISCREEN_DATABASE_URL"] = url
    from db import migrate
    from db.models import Role, Verdict
    from db.session import session_scope
    from engine.imaging.load import load_film
    from engine.phantoms.write import make_phantoms
    from engine.services import ingest, reading, review
    from engine.services.accounts import Actor
    from engine.settings import settings
    from tests.engine.services.conftest import WORKER, grey_film, hand_tags, read_of

    url = settings().database_url
    migrate.upgrade(url)
    readers = [Actor(f"reader-{number}", f"Reader {number}", Role.READER) for number in range(READERS)]

    def say(figure: str, **values: float) -> None:
        print(json.dumps({"figure": figure, **{name: round(value, 1) for name, value in values.items()}}), flush=True)

    waiting: list[tuple[int, int]] = []
    with session_scope(url) as session:
        for number in range(ALONE + READERS * ROUNDS + 200):
            film = grey_film(hand_tags(number), seed=number)
            ingest.load_film = lambda path, film=film: film  # type: ignore[assignment]
            file = folder / "film"
            file.write_text(str(number))
            image_id = ingest.ingest_file(session, WORKER, file, "film.dcm").image_id
            [read] = reading.record_reads(
                session, WORKER, [image_id], [read_of(reading.Task.BONE_AGE)], is_phantom=True
            )
            waiting.append((image_id, read))

    def confirm(actor: Actor, image_id: int, prediction_id: int) -> float:
        start = time.perf_counter()
        with session_scope(url) as session:
            decision = review.Decision(Verdict.CONFIRMED, prediction_id=prediction_id, seconds=9.0)
            review.record_review(session, actor, image_id, decision)
        return (time.perf_counter() - start) * 1000

    cpu = time.process_time()
    alone = [confirm(readers[0], *waiting.pop()) for _ in range(ALONE)]
    cpu_ms = (time.process_time() - cpu) / ALONE * 1000
    say("one confirm, ms", median=statistics.median(alone), p95=sorted(alone)[int(ALONE * 0.95)], of_cpu=cpu_ms)

    together: list[float] = []
    for _ in range(ROUNDS):
        barrier = threading.Barrier(READERS)

        def at_once(actor: Actor, case: tuple[int, int], barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            together.append(confirm(actor, *case))

        threads = [threading.Thread(target=at_once, args=(reader, waiting.pop())) for reader in readers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    ordered = sorted(together)
    say("50 confirms at once, ms", median=statistics.median(ordered), p95=ordered[int(len(ordered) * 0.95)],
        max=ordered[-1])  # fmt: skip

    ingest.load_film = load_film  # type: ignore[assignment]
    files = [file.path for file in make_phantoms(folder / "phantoms", "hand", FILMS, 7)]
    for name, working in (("films a second, nobody else", 0), ("films a second, 4 readers confirming", 4)):
        part, files = files[: FILMS // 2], files[FILMS // 2 :]
        stop = threading.Event()
        beside: list[float] = []

        def work(actor: Actor, stop: threading.Event = stop, beside: list[float] = beside) -> None:
            while not stop.wait(0.25):
                beside.append(confirm(actor, *waiting.pop()))

        threads = [threading.Thread(target=work, args=(reader,)) for reader in readers[:working]]
        for thread in threads:
            thread.start()
        start = time.perf_counter()
        with session_scope(url) as session:
            for path in part:
                ingest.ingest_file(session, WORKER, path, path.name)
        seconds = time.perf_counter() - start
        stop.set()
        for thread in threads:
            thread.join()
        say(name, films_a_second=len(part) / seconds, confirm_median_ms=statistics.median(beside) if beside else 0)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(sys.argv[1] if len(sys.argv) > 1 else None, Path(temporary))
