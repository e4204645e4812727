"""A receiver of a test's own, and films to send to it with dcmtk."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from db.models import Image, Quarantine
from db.session import session_scope
from engine.jobs import exchange, loop
from engine.jobs.loop import Loop
from engine.phantoms.write import make_phantoms
from engine.services import receiving
from engine.services.accounts import demo_admin
from engine.settings import PROJECT_DIR, settings
from tests.engine.interop.waiting import wait_for
from tests.pediscreen_up import free_port

ADMIN = demo_admin()


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Four hands of four children."""
    return [file.path for file in make_phantoms(tmp_path_factory.mktemp("films"), "hand", 4, 7)]


@pytest.fixture
def testdata() -> Path:
    """DICOM files that others wrote; they are beside the project, not in it."""
    folder = PROJECT_DIR.parent / "shared" / "testdata" / "dicom"
    if not folder.is_dir():
        pytest.skip("../shared/testdata is not here")
    return folder


@pytest.fixture
def running(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Loop], None]]:
    """Runs loops of the exchange in threads of this process, with short pauses, and ends them with the test."""
    monkeypatch.setattr(exchange, "FIRST_PAUSE_S", 0.05)
    monkeypatch.setattr(loop, "HEARD_EVERY_S", 0.05)
    stopping, threads = threading.Event(), []

    def start(*loops: Loop) -> None:
        settings.cache_clear()
        threads.append(threading.Thread(target=exchange.run, args=(settings(), list(loops), stopping)))
        threads[-1].start()

    yield start
    stopping.set()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive(), "the exchange did not end"


class Receiver:
    """The storage SCP, and what became of what was sent to it."""

    def __init__(self, port: int, database_url: str) -> None:
        self.port = port
        self.database_url = database_url

    def send(self, *files: Path, calling: str = "CR1", called: str = "PEDISCREEN", more: tuple[str, ...] = ()):
        command = [dcmtk("storescu"), "-v", *more, "-aet", calling, "-aec", called, "127.0.0.1", str(self.port)]
        return subprocess.run([*command, *map(str, files)], capture_output=True, text=True, errors="replace")

    def images(self) -> int:
        with session_scope(self.database_url) as session:
            return session.scalar(select(func.count(Image.id)))

    def quarantined(self) -> list[Quarantine]:
        with session_scope(self.database_url) as session:
            return list(session.scalars(select(Quarantine).order_by(Quarantine.id)))

    def senders(self) -> list[tuple[str, str | None, int]]:
        """Name, address, accepted."""
        with session_scope(self.database_url) as session:
            return [(row.name, row.address, row.accepted) for row in receiving.senders(session, ADMIN)]

    def refusals(self) -> dict[str, receiving.RefusalRow]:
        with session_scope(self.database_url) as session:
            return {row.code: row for row in receiving.refusals(session, ADMIN, in_part=True)}

    def refused_as(self, code: str, times: int = 1) -> receiving.RefusalRow:
        """The row of a refusal, once it was written so often, which takes seconds."""
        wait_for(lambda: code in self.refusals() and self.refusals()[code].times >= times)
        return self.refusals()[code]

    def loop(self) -> receiving.LoopRow:
        with session_scope(self.database_url) as session:
            return next(row for row in receiving.loops(session, ADMIN) if row.name == "storage_scp")


@pytest.fixture
def receiver(
    running: Callable[[Loop], None], database_url: str, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Receiver]:
    """Starts the storage SCP; settings of PEDISCREEN_DICOM_ by name."""
    from engine.jobs import storage_scp

    monkeypatch.setattr(storage_scp, "LOOK_EVERY_S", 0.1)

    def start(**more: str) -> Receiver:
        port = free_port()
        for name, value in {"port": str(port), "senders": "CR1, DX2@127.0.0.1", **more}.items():
            monkeypatch.setenv(f"PEDISCREEN_DICOM_{name.upper()}", value)
        running(storage_scp.LOOP)
        here = Receiver(port, database_url)
        with session_scope(database_url) as session:
            wait_for(lambda: any(row.last_success_at for row in receiving.loops(session, ADMIN)) or session.rollback())
        return here

    return start


def dcmtk(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        missing = f"{program} is not installed (apt-get install dcmtk)"
        pytest.fail(missing) if os.environ.get("CI") else pytest.skip(missing)
    return found
