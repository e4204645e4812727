"""Images that wait, workers as real processes, and a look at what they recorded."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sqlalchemy import select

from db import models
from db.session import session_scope
from engine.findings.answers import Task
from engine.services.accounts import Actor, service_actor
from engine.services.ingest import PatientEntry, ingest_file
from engine.settings import PROJECT_DIR
from tests.fake_images import SMALLEST_SIDE

SENDER = service_actor("test")


class Waiting:
    """Images in the database, and how far they have come. Image number i is a square of SMALLEST_SIDE + i pixels, which
    is how a reader tells them apart."""

    def __init__(self, database_url: str, folder: Path) -> None:
        self.database_url = database_url
        self.folder = folder

    def add(
        self, count: int, *, first: int = 0, task: Task | None = Task.FRACTURE, sender: Actor = SENDER
    ) -> list[int]:
        ids = []
        for number in range(first, first + count):
            side = SMALLEST_SIDE + number
            path = self.folder / f"{number}.png"
            ramp = np.add.outer(np.arange(side), np.arange(side)) % 256
            Image.fromarray(ramp.astype(np.uint8)).save(path)
            with session_scope(self.database_url) as session:
                result = ingest_file(
                    session,
                    sender,
                    path,
                    path.name,
                    entry=PatientEntry(patient_id=f"P{number}"),
                    task=task,
                )
            assert result.outcome == "accepted", result
            ids.append(result.image_id)
        return ids

    def reads_by_image(self) -> Counter:
        with session_scope(self.database_url) as session:
            return Counter(session.scalars(select(models.Prediction.image_fk)))

    def states(self) -> dict[int, tuple[str, str | None]]:
        """Image id to its read state and the reason where it is blocked."""
        with session_scope(self.database_url) as session:
            rows = session.execute(select(models.Image.id, models.Image.read_state, models.Image.read_blocked_reason))
            return {image_id: (str(state), reason) for image_id, state, reason in rows}

    @staticmethod
    def until(condition, *, within_s: float = 60) -> None:
        deadline = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < deadline, "did not happen in time"
            time.sleep(0.1)

    @staticmethod
    def side(number: int) -> int:
        return SMALLEST_SIDE + number

    def all_done(self) -> bool:
        return all(state != "queued" for state, _ in self.states().values())


@pytest.fixture
def waiting(database_url, tmp_path) -> Waiting:
    folder = tmp_path / "sent"
    folder.mkdir()
    return Waiting(database_url, folder)


@pytest.fixture
def start_worker(database_url, data_dir, tmp_path):
    """start_worker(name, silent_after_s=..., FAKE_...=...) -> the process; all are killed at the end."""
    started = []

    def start(name: str = "w1", *, silent_after_s: float = 60, **fake: str) -> subprocess.Popen:
        environment = {
            **os.environ,
            "FAKE_LOG": str(tmp_path / "reads.log"),
            "PEDISCREEN_DATABASE_URL": database_url,
            "PYTHONPATH": str(PROJECT_DIR),
            **fake,
        }
        script = Path(__file__).with_name("fake_worker.py")
        with (tmp_path / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, str(script), name, str(silent_after_s)], env=environment, stdout=log, stderr=log
            )
        started.append(process)
        return process

    start.log = tmp_path / "reads.log"
    yield start
    for process in started:
        process.kill()
        process.wait()
