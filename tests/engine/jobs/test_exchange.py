"""engine.jobs.exchange: loops that fail are recorded and go on, and all end with the process."""

import os
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta

import pytest
from sqlalchemy import update

from db.exchange_tables import ExchangeLoop
from db.session import session_scope, writing
from db.types import utc_now
from engine.errors import NotAllowed, PediScreenError
from engine.jobs import exchange, loop
from engine.jobs.exchange import Loop
from engine.services import receiving
from engine.services.accounts import demo_admin, demo_reader, service_actor
from engine.settings import PROJECT_DIR, settings


@pytest.fixture
def running(database_url, monkeypatch):
    """Starts loops, and ends them with the test."""
    monkeypatch.setattr(exchange, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(loop, "HEARD_EVERY_S", 0.0)
    stopping, threads = threading.Event(), []

    def start(*loops):
        threads.append(threading.Thread(target=exchange.run, args=(settings(), list(loops), stopping)))
        threads[-1].start()

    def stop():
        stopping.set()
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()

    yield start, stop
    stop()


def rows(database_url):
    with session_scope(database_url) as session:
        return {row.name: row for row in receiving.loops(session, demo_admin())}


def wait_for(condition, within_s=10):
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)


def test_a_loop_that_fails_is_recorded_starts_again_and_disturbs_no_other(running, database_url):
    start, stop = running
    starts = []

    def fails_twice(here, pulse):
        starts.append(1)
        if len(starts) == 1:
            raise PediScreenError("The other side does not answer.")
        if len(starts) == 2:
            raise ZeroDivisionError("patient DOE^JOHN")
        while not pulse.stopping.wait(0.01):
            pulse.succeeded()

    def steady(here, pulse):
        while not pulse.stopping.wait(0.01):
            pulse.succeeded()

    start(Loop("fails", lambda here: True, fails_twice), Loop("steady", lambda here: True, steady))
    wait_for(lambda: len(starts) == 3 and rows(database_url)["fails"].state == "running")
    failed, other = rows(database_url)["fails"], rows(database_url)["steady"]
    assert failed.last_error == "ZeroDivisionError: see the log of the exchange", "no text that may name a child"
    assert failed.last_error_at and failed.last_success_at > failed.last_error_at
    assert other.state == "running" and other.last_error is None
    stop()
    assert {row.state for row in rows(database_url).values()} == {"stopped"}


def test_a_failing_loop_says_so_until_it_succeeds(running, database_url):
    start, _ = running
    may_work = threading.Event()

    def waits(here, pulse):
        if not may_work.is_set():
            raise PediScreenError("The other side does not answer.")
        while not pulse.stopping.wait(0.01):
            pulse.succeeded()

    start(Loop("waits", lambda here: True, waits))
    wait_for(lambda: rows(database_url).get("waits") and rows(database_url)["waits"].failures > 1)
    row = rows(database_url)["waits"]
    assert (row.state, row.last_error) == ("failing", "The other side does not answer.")
    may_work.set()
    wait_for(lambda: rows(database_url)["waits"].state == "running")


def test_a_loop_that_is_not_heard_of_is_silent(database_url):
    with session_scope(database_url) as session:
        receiving.loop_started(session, service_actor("exchange"), "gone")
        with writing(session):
            session.execute(update(ExchangeLoop).values(heard_at=utc_now() - timedelta(minutes=5)))
    assert rows(database_url)["gone"].state == "silent"


def test_only_an_admin_sees_the_connections_and_only_programs_record_them(session):
    for listed in (receiving.loops, receiving.senders, receiving.refusals):
        with pytest.raises(NotAllowed):
            listed(session, demo_reader())
    with pytest.raises(NotAllowed):
        receiving.loop_started(session, demo_reader(), "mine")


def test_nothing_configured_is_said(database_url):
    done = subprocess.run(
        [sys.executable, "-m", "engine.cli", "exchange"], cwd=PROJECT_DIR, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "Nothing is configured" in done.stderr


def test_sigterm_ends_the_process_cleanly(database_url):
    """A process of its own, with a loop that is served until the end."""
    program = (
        "from engine.jobs import exchange\nfrom engine.settings import settings\n"
        "def work(here, pulse):\n    while not pulse.stopping.wait(0.05): pulse.succeeded()\n"
        "exchange.LOOPS[:] = [exchange.Loop('steady', lambda here: True, work)]\nexchange.main(settings())\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], cwd=PROJECT_DIR, env=os.environ)
    wait_for(lambda: rows(database_url).get("steady") and rows(database_url)["steady"].last_success_at, within_s=30)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 0
    assert rows(database_url)["steady"].state == "stopped"


def test_a_loop_that_is_no_longer_configured_is_not_missing(running, database_url):
    start, _ = running
    with session_scope(database_url) as session:
        receiving.loop_started(session, service_actor("exchange"), "of yesterday")
    start(Loop("steady", lambda here: True, lambda here, pulse: pulse.stopping.wait()))
    wait_for(lambda: set(rows(database_url)) == {"steady"})


def test_what_is_configured_is_said_without_a_secret(monkeypatch, data_dir):
    for name, value in {
        "DICOM_PORT": "11112",
        "DICOM_SENDERS": "CR1@10.0.0.5",
        "ORTHANC_URL": "http://localhost:8042",
        "ORTHANC_PASSWORD": "hidden",
        "WATCHED_FOLDER": "/srv/films",
    }.items():
        monkeypatch.setenv(f"PEDISCREEN_{name}", value)
    settings.cache_clear()
    said = {loop.name: receiving.where(settings(), loop.name) for loop in exchange.configured(settings())}
    assert said["storage_scp"] == "PEDISCREEN at 127.0.0.1:11112, for CR1@10.0.0.5"
    assert (said["orthanc"], said["watched_folder"]) == ("http://localhost:8042", "/srv/films")
