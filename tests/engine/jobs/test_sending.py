"""`pediscreen exchange` sending to real counterparts, and killed while it does."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydicom import dcmread

from db.models import Verdict
from db.repositories import sending as repository
from db.sending_tables import DeliveryState
from db.session import session_scope
from engine.errors import PediScreenError
from engine.findings.answers import bone_age_answer
from engine.jobs import sending
from engine.jobs.loop import Pulse
from engine.services import receiving, review, sent_reports
from engine.services.accounts import demo_admin, demo_reader
from engine.services.review import Decision
from engine.settings import PROJECT_DIR, settings
from tests.engine.interop.sending.counterparts import pacs, web_server
from tests.engine.interop.sending.fhir_double import FhirDouble
from tests.workstation import case_adder, film_pixels

READER, ADMIN = demo_reader(), demo_admin()
PATIENCE_S = 60


class Exchange:
    """The process, on this test's database."""

    def __init__(self, data_dir: Path, destinations: dict[str, str], send_after_s: float = 0) -> None:
        self.log = data_dir.parent / "exchange.log"
        named = {f"PEDISCREEN_SEND_TO_{name}": value for name, value in destinations.items()}
        self.environment = os.environ | named | {"PEDISCREEN_SEND_AFTER_S": str(send_after_s)}
        self.environment["PYTHONPATH"] = str(PROJECT_DIR)
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "engine.cli", "exchange"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, cwd=PROJECT_DIR, env=self.environment, stdout=log, stderr=log)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(30) == 0, self.log.read_text()


@pytest.fixture
def exchange(data_dir, database_url, monkeypatch) -> Iterator[Callable[..., Exchange]]:
    """Makes one; ended with the test."""
    monkeypatch.setenv("PEDISCREEN_DATABASE_URL", database_url)
    made: list[Exchange] = []

    def make(**destinations: str) -> Exchange:
        made.append(Exchange(data_dir, destinations))
        return made[-1]

    yield make
    for one in made:
        if one.process is not None and one.process.poll() is None:
            one.kill()


@pytest.fixture
def case(session, tmp_path):
    return case_adder(session, tmp_path)


def sign(session, study_id: int, months: int = 120) -> None:
    session.rollback()
    image = review.load_study(session, READER, study_id).images[0]
    seen = {"prediction_id": image.read.prediction_id, "seen_review_id": image.seen_review_id}
    review.record_review(session, READER, image.image_id, Decision(Verdict.CORRECTED, bone_age_answer(months), **seen))


def undo(session, study_id: int) -> None:
    session.rollback()
    image = review.load_study(session, READER, study_id).images[0]
    review.undo_review(session, READER, image.image_id, image.decision.review_id)


def wait_for(condition: Callable[[], bool], exchange: Exchange, within_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert exchange.process.poll() is None, exchange.log.read_text()
        assert time.monotonic() < deadline, exchange.log.read_text()
        time.sleep(0.05)


def states(session, study_id: int, name: str) -> list[str]:
    session.rollback()
    return [DeliveryState(one.state).value for one in repository.deliveries_of_study(session, study_id, name)]


def known(session, *names: str) -> bool:
    """The exchange is up: what is signed from now on is sent."""
    session.rollback()
    return set(names) <= {one.name for one in repository.destinations(session)}


@contextmanager
def running(exchange: Exchange, session, *names: str) -> Iterator[None]:
    exchange.start()
    wait_for(lambda: known(session, *names), exchange)
    yield
    exchange.stop()


def test_report_correction_and_withdrawal_arrive_everywhere(exchange, case, session, tmp_path):
    (tmp_path / "results").mkdir()
    study, fhir = case().study_id, FhirDouble()
    with pacs() as node, web_server() as server:
        server.answer = fhir.answer
        process = exchange(
            PACS=f"dicom://PACS@127.0.0.1:{node.port}",
            EHR=f"fhir+http://localhost:{server.port}/fhir",
            DROP=f"folder://{tmp_path / 'results'}",
            WRONG="dicom://nowhere",
        )
        with running(process, session, "pacs", "ehr", "drop", "wrong"):

            def all_sent(versions: int) -> bool:
                return all(states(session, study, name) == ["sent"] * versions for name in ("pacs", "ehr", "drop"))

            sign(session, study, 120)
            wait_for(lambda: all_sent(1), process)
            first = next(one for one in node.received if one.Modality == "SR")
            assert (first.CompletionFlag, first.VerificationFlag) == ("COMPLETE", "VERIFIED")
            (report,) = fhir.resources["DiagnosticReport"].values()
            assert report["status"] == "final"

            sign(session, study, 96)
            wait_for(lambda: all_sent(2), process)
            second = [one for one in node.received if one.Modality == "SR"][1]
            replaced = second.PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence[0]
            assert replaced.ReferencedSOPInstanceUID == first.SOPInstanceUID
            assert second.StudyInstanceUID == first.StudyInstanceUID
            (report,) = fhir.resources["DiagnosticReport"].values()
            assert report["status"] in ("corrected", "amended")

            waits = states(session, study, "wrong")
            assert waits == ["waiting"], "it follows the readers until its settings are put right"

            undo(session, study)
            wait_for(lambda: all_sent(3), process)
            (report,) = fhir.resources["DiagnosticReport"].values()
            assert report["status"] in ("entered-in-error", "cancelled")
            loops = {row.name: row.state for row in receiving.loops(session, ADMIN)}
            assert loops == {"sending": "running"}
    assert len({*node.uids}) == len(node.received)
    files = sorted((tmp_path / "results").iterdir())
    assert len([dcmread(one) for one in files if one.suffix == ".dcm"]) == len(node.received)
    assert len([one for one in files if one.suffix == ".json"]) == 3
    assert "Doe" not in process.log.read_text() and "ID0" not in process.log.read_text()


def test_killed_between_handing_over_and_the_acknowledgement(exchange, case, session):
    study = case().study_id
    with pacs() as node:
        process = exchange(PACS=f"dicom://PACS@127.0.0.1:{node.port}")
        process.start()
        wait_for(lambda: known(session, "pacs"), process)
        node.answers.clear()
        sign(session, study)
        wait_for(lambda: states(session, study, "pacs") == ["sending"], process)
        time.sleep(0.5)
        process.kill()
        node.answers.set()  # the PACS keeps what it was given, and nobody hears of it
        with running(process, session, "pacs"):
            wait_for(lambda: states(session, study, "pacs") == ["sent"], process)
    assert len(node.uids) == len({*node.uids}) == 2, "a report and its page"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_ten_kills_at_any_moment_lose_and_double_nothing(exchange, case, session, tmp_path, seed):
    chance, fhir = random.Random(seed), FhirDouble()
    (tmp_path / "results").mkdir()
    with pacs() as node, web_server() as server:
        server.answer = fhir.answer
        process = exchange(
            PACS=f"dicom://PACS@127.0.0.1:{node.port}",
            EHR=f"fhir+http://localhost:{server.port}/fhir",
            DROP=f"folder://{tmp_path / 'results'}",
        )
        process.start()
        wait_for(lambda: known(session, "pacs", "ehr", "drop"), process)
        studies = []
        for kill in range(10):
            for number in range(3):
                studies.append(case(pixels=film_pixels() + 3 * kill + number).study_id)
                sign(session, studies[-1])
            time.sleep(chance.uniform(0.0, 6.0))
            process.kill()
            process.start()
        ways = [(one, name) for one in studies for name in ("pacs", "ehr", "drop")]
        wait_for(lambda: all(states(session, one, name) == ["sent"] for one, name in ways), process, 300)
        process.stop()
    assert len(node.uids) == len({*node.uids}) == 2 * len(studies)
    assert len(fhir.resources["DiagnosticReport"]) == len(fhir.resources["Observation"]) == len(studies)
    names = sorted(one.name for one in (tmp_path / "results").iterdir())
    assert len([name for name in names if name.endswith(".dcm")]) == 2 * len(studies)
    assert len([name for name in names if name.endswith(".json")]) == len(studies)
    assert sent_reports.reports_page(session, ADMIN).total == 3 * len(studies)


def test_a_second_process_on_the_machine_does_not_send(data_dir, database_url, monkeypatch):
    monkeypatch.setenv("PEDISCREEN_SEND_TO_DROP", f"folder://{data_dir}")
    settings.cache_clear()
    pulse = Pulse("sending", database_url)
    first = threading.Thread(target=sending.run, args=(settings(), pulse))
    first.start()
    try:
        with session_scope(database_url) as session:
            deadline = time.monotonic() + PATIENCE_S
            while not known(session, "drop"):
                assert time.monotonic() < deadline
                time.sleep(0.02)
        with pytest.raises(PediScreenError, match="another process on this machine sends already"):
            sending.run(settings(), Pulse("sending", database_url))
    finally:
        pulse.stopping.set()
        first.join()
