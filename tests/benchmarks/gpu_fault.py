"""A GPU that really fails in the midst of reading: a kernel's assertion, after which a process cannot use it again.

    python -m tests.benchmarks.gpu_fault [--films 24]

A worker process reads films with the model that PEDISCREEN_MODEL names until, in its third batch, a kernel is given an
index that does not exist. Then another worker reads on. Prints how the first ended, what its last heartbeat said, and
whether any film was lost, failed, or read twice."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import torch
from sqlalchemy import select

from db import migrate
from db.models import Image, Prediction, ReadState, Worker
from engine.inference.fast_pass import FastPass
from engine.jobs import worker
from engine.settings import PROJECT_DIR, settings
from tests.benchmarks.backlog import BULK, arrive, films_in, nothing_waits, query, wait_for, with_worker

BATCHES_BEFORE = 2
END_WITHIN_S = 240


def main(films: int) -> dict:
    with tempfile.TemporaryDirectory(prefix="pediscreen-fault-") as scratch:
        os.environ["PEDISCREEN_DATA_DIR"] = str(Path(scratch) / "data")
        settings.cache_clear()
        migrate.upgrade(settings().database_url)
        image_ids = [arrive(film, BULK) for film in films_in(Path(scratch) / "films", films)]
        begun = time.monotonic()
        command = [sys.executable, "-m", "tests.benchmarks.gpu_fault", "--be_the_worker"]
        ended = subprocess.run(command, cwd=PROJECT_DIR, timeout=END_WITHIN_S, capture_output=True, text=True)
        seconds = time.monotonic() - begun
        said = query(select(Worker.detail))
        waiting = len(query(select(Image.id).where(Image.read_state == ReadState.QUEUED)))
        with_worker(lambda: wait_for(nothing_waits))
        reads = Counter(query(select(Prediction.image_fk)))
        states = Counter(state.value for state in query(select(Image.read_state)))
        return {
            "card": torch.cuda.get_device_name(),
            "exit_status": ended.returncode,
            "seconds": round(seconds, 1),
            "last_heartbeat": said,
            "queued_then": waiting,
            "films": films,
            "states_after_the_next_worker": states,
            "lost": len(set(image_ids) - set(reads)),
            "read_twice": sum(count > 1 for count in reads.values()),
        }


def be_the_worker() -> None:
    """`pediscreen worker`, whose GPU fails in its third batch."""
    sound, batches = FastPass.image_tokens, 0

    def failing(self, pixels):
        nonlocal batches
        batches += 1
        if batches > BATCHES_BEFORE:
            torch.zeros(4, device="cuda")[torch.full((1,), 99, device="cuda")]
        return sound(self, pixels)

    FastPass.image_tokens = failing
    worker.main(settings())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=int, default=24)
    parser.add_argument("--be_the_worker", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("This lets a GPU fail, and there is none.")
    if given.be_the_worker:
        be_the_worker()
    else:
        print(json.dumps(main(given.films), indent=2))
