"""Changing the model in use while films keep coming: what is lost, what is repeated, how long each change takes.

    python -m tests.benchmarks.model_swap [--per_second 5]

A worker with the phantom model reads hand, fundus and wrist phantoms that arrive at a fixed rate. A second model is
promoted, rolled back, promoted and rolled back again, and once more after the worker was killed and started again (no
film arrives while it starts). Prints one JSON document. Exit status 1 where a film was lost or read twice, or where a
rollback took 2 s or longer until the worker had changed."""

from __future__ import annotations

import argparse
import atexit
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import torch
from sqlalchemy import func, select

from db import migrate
from db.models import Image, ModelVersion, Prediction, ReadState, Worker
from db.session import session_scope
from db.types import utc_now
from engine.inference.checkpoint import load_reader
from engine.phantoms.write import make_phantoms
from engine.services import registry
from engine.services.accounts import demo_admin, service_actor
from engine.services.ingest import ingest_file
from engine.settings import PHANTOM_MODEL, PROJECT_DIR, settings
from training import radiology_merge

ADMIN, SENDER = demo_admin(), service_actor("sender")
ROLLBACK_WITHIN_S = 2.0
SETTLE_S = 6.0  # of arriving films before and after each change


def main(per_second: float) -> dict:
    with tempfile.TemporaryDirectory(prefix="pediscreen-swap-") as scratch:
        data_dir = Path(scratch) / "data"
        os.environ["PEDISCREEN_DATA_DIR"] = str(data_dir)
        settings.cache_clear()
        migrate.upgrade(settings().database_url)
        films = films_in(Path(scratch) / "films", int(per_second * SETTLE_S * 14) // 3)
        model = second_model(data_dir)
        workers = [worker := start_worker(data_dir)]
        atexit.register(lambda: [one.kill() for one in workers])
        wait_for(lambda: loaded_by_worker() is not None)
        sender = Sender(films, per_second)
        sender.start()
        figures: dict = {"films_per_second": per_second, "load_average": os.getloadavg()[0]}
        time.sleep(SETTLE_S)
        figures["promotion_with_load_s"] = change(lambda: promote(model, data_dir), model.name)
        time.sleep(SETTLE_S)
        for number in (1, 2):
            figures[f"rollback_from_memory_{number}_s"] = change(roll_back, configured())
            time.sleep(SETTLE_S)
            figures[f"promotion_from_memory_{number}_s"] = change(lambda: promote(model, data_dir), model.name)
            time.sleep(SETTLE_S)
        figures["films_per_second_that_arrived"] = round(len(sender.sent) / sender.seconds(), 1)
        sender.pause()
        worker.kill()
        worker.wait()
        killed_at = utc_now()
        workers.append(worker := start_worker(data_dir))
        wait_for(lambda: is_back(model.name, since=killed_at) and nothing_waits())
        sender.go_on()
        time.sleep(SETTLE_S)
        figures["rollback_after_a_restart_s"] = change(roll_back, configured())
        time.sleep(SETTLE_S)
        sender.stop()
        wait_for(nothing_waits)
        worker.terminate()
        worker.wait()
        return figures | what_was_read(sender.sent, {model.name, configured()}, before=killed_at)


def films_in(folder: Path, each: int) -> list[Path]:
    made = [make_phantoms(folder / view, view, each, 4_000_000_000 + n) for n, view in enumerate(VIEWS)]
    return [file.path for group in zip(*made, strict=True) for file in group]


VIEWS = ("hand", "fundus", "wrist")


def second_model(data_dir: Path) -> registry.Deployed:
    """The phantom model with its language layers nudged, as a retraining would leave it: a 4-bit folder."""
    reader = load_reader(PHANTOM_MODEL, None, gated=False, in_four_bits=False)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in reader.network.named_parameters():
            if "language_model.layers" in name:
                weight.mul_(1 + 0.002 * torch.randn(weight.shape, generator=generator))
    folder, bf16 = data_dir / "retrain" / "1" / "merged", data_dir / "retrain" / "1" / "bf16"
    folder.mkdir(parents=True)
    reader.network.to(torch.bfloat16).save_pretrained(bf16)
    radiology_merge.write_beside_weights(bf16, PHANTOM_MODEL, reader, "phantom nudged", with_gate=True)
    radiology_merge.write_four_bit(bf16, folder)
    shutil.rmtree(bf16)
    with session_scope(settings().database_url) as session:
        return registry.add_candidate(session, service_actor("worker"), folder, base_model=PHANTOM_MODEL)


def start_worker(data_dir: Path) -> subprocess.Popen:
    with (data_dir / "worker.log").open("ab") as log:
        return subprocess.Popen([sys.executable, "-m", "engine.cli", "worker"], cwd=PROJECT_DIR, stdout=log, stderr=log)


def promote(model: registry.Deployed, data_dir: Path) -> None:
    record = data_dir / "retrain" / "change-record.md"
    record.write_text("a benchmark")
    with session_scope(settings().database_url) as session:
        registry.promote(session, ADMIN, model.model_version_id, change_record=record)


def roll_back() -> None:
    with session_scope(settings().database_url) as session:
        registry.roll_back(session, ADMIN)


def change(action: Callable[[], None], to: str) -> dict[str, float]:
    """From the click: until the worker says it reads with `to`, and until the first read by it is on the screen."""
    last = latest_prediction()
    start = time.perf_counter()
    action()
    figures = {"click_returns": time.perf_counter() - start}
    while "worker_changed" not in figures or "first_read" not in figures:
        if "worker_changed" not in figures and loaded_by_worker() == to:
            figures["worker_changed"] = time.perf_counter() - start
        if "first_read" not in figures and read_by(to, after=last):
            figures["first_read"] = time.perf_counter() - start
        if time.perf_counter() - start > 120:
            raise SystemExit(f"the worker did not change to {to}")
        time.sleep(0.02)
    return {name: round(value, 2) for name, value in figures.items()}


class Sender(threading.Thread):
    """Films that arrive at a fixed rate."""

    def __init__(self, films: list[Path], per_second: float) -> None:
        super().__init__(daemon=True)
        self.films, self.pause_s, self.sent = films, 1 / per_second, []
        self._stop_now, self._going = threading.Event(), threading.Event()
        self._going.set()
        self.started = time.monotonic()

    def seconds(self) -> float:
        return time.monotonic() - self.started

    def run(self) -> None:
        due = time.monotonic()
        for film in self.films:
            due += self.pause_s
            if self._stop_now.wait(max(0.0, due - time.monotonic())):
                return
            if not self._going.is_set():
                self._going.wait()
                due = time.monotonic()
            with session_scope(settings().database_url) as session:
                self.sent.append(ingest_file(session, SENDER, film, film.name).image_id)
        raise SystemExit("there were too few films")

    def pause(self) -> None:
        self._going.clear()

    def go_on(self) -> None:
        self._going.set()

    def stop(self) -> None:
        self._stop_now.set()
        self.join()


def query(statement):
    with session_scope(settings().database_url) as session:
        return session.execute(statement).all()


def configured() -> str:
    return query(select(ModelVersion.name).where(ModelVersion.folder.is_(None)))[0][0]


def loaded_by_worker() -> str | None:
    found = query(select(Worker.model_version).order_by(Worker.at.desc()))
    return found[0][0] if found else None


def is_back(name: str, *, since: datetime) -> bool:
    return bool(query(select(Worker.name).where(Worker.model_version == name, Worker.at > since)))


def latest_prediction() -> int:
    return query(select(func.max(Prediction.id)))[0][0] or 0


def read_by(name: str, *, after: int) -> bool:
    of_version = select(Prediction.id).join(ModelVersion, Prediction.model_version_fk == ModelVersion.id)
    return bool(query(of_version.where(Prediction.id > after, ModelVersion.name == name).limit(1)))


def nothing_waits(allowed: int = 0) -> bool:
    return query(select(func.count(Image.id)).where(Image.read_state == ReadState.QUEUED))[0][0] <= allowed


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 180
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit("the worker does not answer: see its log")
        time.sleep(0.1)


def what_was_read(sent: list[int], valid: set[str], *, before: datetime) -> dict:
    """`before`: the gaps between reads are those before the worker was killed."""
    rows = query(
        select(Prediction.image_fk, ModelVersion.name, Prediction.created_at).join(
            ModelVersion, Prediction.model_version_fk == ModelVersion.id
        )
    )
    reads = Counter(image for image, *_ in rows)
    moments = sorted(at for *_, at in rows if at < before)
    gaps = [(after - before).total_seconds() for before, after in zip(moments, moments[1:], strict=False)]
    return {
        "films": len(sent),
        "lost": sum(image not in reads for image in sent),
        "repeated": sum(count > 1 for count in reads.values()),
        "reads_by_version": dict(Counter(name for _, name, _ in rows)),
        "versions_all_valid": {name for _, name, _ in rows} <= valid,
        "gap_between_reads_s": {"median": round(statistics.median(gaps), 2), "longest": round(max(gaps), 2)},
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--per_second", type=float, default=5.0)
    found = main(parser.parse_args().per_second)
    print(json.dumps(found, indent=1))
    slowest = max(times["worker_changed"] for name, times in found.items() if name.startswith("rollback"))
    sys.exit(bool(found["lost"] or found["repeated"] or slowest >= ROLLBACK_WITHIN_S))
