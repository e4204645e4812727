"""Mutated and hostile files through ingest: does the service live, is every refusal typed, is every limit kept?

    nice -n 15 python -m tests.benchmarks.mutated_files --count 10000 --state mutated.jsonl

A service process of its own takes in one file after the other, as an upload would; this one watches it: its end (a
crash), its silence for a minute (a hang), and the resident memory of it and of its decode processes, every 20 ms. After
every thousand files a new service begins with an empty data folder. Files are drawn by seeds (tests/mutations.py) from
phantoms and, where they are on this machine, the foreign test files. Each result is a line in `--state`; run again
with the same file, it goes on where it stopped. Prints JSON."""

from __future__ import annotations

import argparse
import json
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil

from tests.mutations import Original, mutated, originals

HANG_S = 60.0
FILES_PER_SERVICE = 1000
MB = 2**20
TYPED = {
    # engine.imaging
    "not_a_file", "empty", "too_large", "unknown_format", "truncated", "malformed", "no_pixels", "unsupported_syntax",
    "unsupported_pixels", "too_many_pixels", "too_slow", "too_much_memory", "decoder_crashed",
    # engine.imaging.admission
    "not_a_film", "own_report", "for_processing", "multi_frame", "colour_radiograph", "bad_uid", "no_patient_id",
    "birth_after_study", "size",
    # engine.services.ingest
    "bad_patient_id", "sop_instance_uid_reused", "study_of_another_patient", "mixed_tasks",
}  # fmt: skip


def serve() -> None:
    """One path a line in, one JSON line out. What is not a refusal ends this process."""
    from db import migrate
    from db.session import session_scope
    from engine.services.accounts import service_actor
    from engine.services.ingest import PatientEntry, ingest_file
    from engine.settings import settings

    url = settings().database_url
    migrate.upgrade(url)
    print("ready", flush=True)
    for line in sys.stdin:
        path = Path(line.strip())
        with session_scope(url) as session:
            entry = PatientEntry(patient_id=path.name)
            result = ingest_file(session, service_actor("mutated"), path, path.name, entry=entry)
        print(json.dumps({"outcome": result.outcome, "code": result.reason_code}), flush=True)


class Service:
    """The process under test, and the most memory it and its decoders were seen with."""

    def __init__(self, scratch: Path) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="service-", dir=scratch)
        environment = {**os.environ, "PEDISCREEN_DATA_DIR": self.folder.name}
        environment.pop("PEDISCREEN_DATABASE_URL", None)
        self.errors = open(Path(self.folder.name) / "stderr.txt", "w+")  # noqa: SIM115  closed in `close`
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.mutated_files", "--serve"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, env=environment,
        )  # fmt: skip
        self.peak_mb = {"service": 0.0, "decoder": 0.0}
        self.files = 0
        self.answer(120)
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._watcher.start()

    def take(self, path: Path) -> dict[str, Any]:
        self.files += 1
        self.process.stdin.write(f"{path}\n")
        self.process.stdin.flush()
        return json.loads(self.answer(HANG_S))

    def answer(self, patience_s: float) -> str:
        ready, _, _ = select.select([self.process.stdout], [], [], patience_s)
        if not ready:
            raise TimeoutError
        line = self.process.stdout.readline()
        if not line:
            raise EOFError
        return line

    def last_words(self) -> str:
        self.process.wait()
        self.errors.seek(0)
        return self.errors.read()[-1500:]

    def close(self) -> None:
        self._ended.set()
        self._watcher.join()
        self.process.kill()
        self.process.wait()
        self.errors.close()
        self.folder.cleanup()

    def _watch(self) -> None:
        service = psutil.Process(self.process.pid)
        while not self._ended.wait(0.02):
            try:
                self._seen("service", service)
                for decoder in service.children():
                    self._seen("decoder", decoder)
            except psutil.Error:
                continue

    def _seen(self, kind: str, process: psutil.Process) -> None:
        self.peak_mb[kind] = max(self.peak_mb[kind], process.memory_info().rss / MB)


def run(count: int, first_seed: int, state: Path | None) -> dict[str, Any]:
    rows = [json.loads(line) for line in state.read_text().splitlines()] if state and state.exists() else []
    done = {row["seed"] for row in rows}
    service = None
    with tempfile.TemporaryDirectory(prefix="pediscreen-mutated-") as name:
        scratch = Path(name)
        files: list[Original] = originals(scratch, with_foreign_files=True)
        for seed in range(first_seed, first_seed + count):
            if seed in done:
                continue
            if service is None or service.files >= FILES_PER_SERVICE:
                if service is not None:
                    service.close()
                service = Service(scratch)
            what, data = mutated(files, seed)
            path = scratch / f"{seed:08}"
            path.write_bytes(data)
            row: dict[str, Any] = {"seed": seed, "what": what, "bytes": len(data)}
            started = time.perf_counter()
            try:
                row |= service.take(path)
            except (EOFError, BrokenPipeError):
                row |= {"outcome": "service crashed", "said": service.last_words()}
            except TimeoutError:
                row |= {"outcome": "service hung"}
            row["seconds"] = round(time.perf_counter() - started, 3)
            row["peak_mb"] = {kind: round(mb) for kind, mb in service.peak_mb.items()}
            path.unlink()
            rows.append(row)
            if state:
                with state.open("a") as file:
                    file.write(json.dumps(row) + "\n")
            if row["outcome"].startswith("service"):
                service.close()
                service = None
        if service is not None:
            service.close()
    return figures(rows, len(files))


def figures(rows: list[dict[str, Any]], files: int) -> dict[str, Any]:
    slowest = max(rows, key=lambda row: row["seconds"])
    return {
        "files": len(rows),
        "drawn_from": files,
        "bombs": sum(row["what"].startswith("bomb") for row in rows),
        "outcomes": dict(Counter(row["outcome"] for row in rows)),
        "refusals": dict(Counter(row["code"] for row in rows if row.get("code")).most_common()),
        "refusals_without_a_known_code": sorted({row["code"] for row in rows if row.get("code")} - TYPED),
        "crashed_or_hung": [row for row in rows if row["outcome"].startswith("service")],
        "slowest": {name: slowest[name] for name in ("seed", "what", "outcome", "seconds")},
        "seconds_median": sorted(row["seconds"] for row in rows)[len(rows) // 2],
        "peak_mb_service": max(row["peak_mb"]["service"] for row in rows),
        "peak_mb_decoder": max(row["peak_mb"]["decoder"] for row in rows),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--state", type=Path, help="results are added here; what is here already is not done again")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve()
    else:
        print(json.dumps(run(arguments.count, arguments.first_seed, arguments.state), indent=1))


if __name__ == "__main__":
    main()
