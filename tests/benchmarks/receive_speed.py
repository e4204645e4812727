"""How many films of 5 MB the receiver takes in, from the sender's first byte to the worklist.

    python -m tests.benchmarks.receive_speed [--films 200] [--associations 1 2 4] [--work_dir DIR]

Films of DX size (dx_films.py), each another one, are sent by dcmtk's storescu over so many associations at once to
`pediscreen exchange`, with a fresh data folder and database each time; PEDISCREEN_DATABASE_URL stands for SQLite.
Sender and receiver share the machine. Prints one JSON document."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from pathlib import Path

import psutil
from sqlalchemy import func, select

from db.models import Image, Quarantine
from db.session import engine_for, session_scope
from engine.settings import settings
from tests.benchmarks.dx_films import make_films
from tests.benchmarks.exchange_process import Exchange, storescu

LARGEST_PDU = ("--max-send-pdu", "131072")  # dcmtk's largest; 16 kB is its default


def main(count: int, associations: list[int], work_dir: Path) -> dict:
    films = make_films(work_dir / "films", count)
    runs = [receive(films, number, work_dir / "data") for number in associations]
    return {
        "films": count,
        "megabytes_each": round(films[0].stat().st_size / 1e6, 2),
        "processors": os.cpu_count(),
        "runs": runs,
        "films_per_s": max(run["films_per_s"] for run in runs),
    }


def receive(films: list[Path], associations: int, data_dir: Path) -> dict:
    shutil.rmtree(data_dir, ignore_errors=True)
    data_dir.mkdir(parents=True)
    exchange = Exchange(data_dir)
    exchange.start()
    time.sleep(1.0)  # its decode processes start
    try:
        began = time.monotonic()
        load = os.getloadavg()[0]
        senders = [storescu(exchange.port, films[first::associations], *LARGEST_PDU) for first in range(associations)]
        for sender in senders:
            said = sender.communicate()[0]
            if sender.returncode:
                raise RuntimeError(said.decode(errors="replace")[-2000:])
        seconds = time.monotonic() - began
        process = psutil.Process(exchange.process.pid)
        cpu_s = sum(sum(one.cpu_times()[:2]) for one in [process, *process.children(recursive=True)])
        memory_mb = process.memory_info().rss / 1e6
        with session_scope(settings().database_url) as session:
            on_worklist = session.scalar(select(func.count(Image.id)))
            quarantined = session.scalar(select(func.count(Quarantine.id)))
    finally:
        exchange.stop()
        engine_for(settings().database_url).dispose()
    if on_worklist != len(films) or quarantined:
        raise RuntimeError(f"{on_worklist} of {len(films)} films are on the worklist, {quarantined} in quarantine")
    return {
        "associations": associations,
        "films_per_s": round(len(films) / seconds, 2),
        "seconds": round(seconds, 1),
        "receiver_cpu_ms_per_film": round(1000 * cpu_s / len(films), 1),
        "receiver_rss_mb": round(memory_mb),
        "load_average_before": round(load, 1),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=int, default=200)
    parser.add_argument("--associations", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--work_dir", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pediscreen-receive-") as temporary:
        print(
            json.dumps(main(arguments.films, arguments.associations, arguments.work_dir or Path(temporary)), indent=1)
        )
