"""A disk that is full or can only be read, a clock that is set, a database that goes away and comes back: each is said
in words, and work goes on afterwards without anybody's doing."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.orm import Session
from streamlit.testing.v1 import AppTest

from db import types
from db.models import Image, Worker
from db.repositories import reads as reads_repository
from db.session import engine_for, session_scope, writing
from engine import cli, faults
from engine.services import audit, audit_check, claims, images, reading, review, worklist
from engine.settings import settings
from tests import postgresql
from tests.engine.services.conftest import ADMIN, READER, WORKER, grey_film, hand_tags
from tests.ui.reading_pages import everything_said

APP = Path(__file__).parents[3] / "ui" / "app.py"


# ---------------------------------------------------------------- the disk


@pytest.fixture
def small_disk(tmp_path: Path, migrated_database: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A data folder on a disk of its own, of 6 MB, with a migrated database."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "none", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root may mount a disk to be filled")
    shutil.copyfile(migrated_database, folder / "pediscreen.sqlite")
    monkeypatch.setenv("PEDISCREEN_DATA_DIR", str(folder))
    monkeypatch.delenv("PEDISCREEN_DATABASE_URL", raising=False)
    settings.cache_clear()
    yield folder
    engine_for(settings().database_url).dispose()
    settings.cache_clear()
    subprocess.run(["umount", "-l", folder], check=True)


def remount(folder: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", folder], check=True)


def page_says(page: str) -> str:
    at = AppTest.from_file(str(APP), default_timeout=60).run().switch_page(f"pages/{page}.py").run()
    assert not at.exception
    return everything_said(at) + " ".join(error.value for error in at.error)


def test_a_full_disk_takes_nothing_half_and_everything_again_once_there_is_room(
    small_disk: Path, arrive: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEDISCREEN_DATA_DIR", str(small_disk))
    settings.cache_clear()
    url, stored, failure = settings().database_url, 0, None
    with session_scope(url) as session:
        for number in range(100):
            try:
                result = arrive(session, grey_film(hand_tags(number), seed=number))
            except (OSError, DBAPIError) as error:
                failure = error
                break
            assert result.outcome == "accepted"
            stored += 1
    assert stored > 3 and failure is not None and faults.in_words(failure) == faults.FULL
    (small_disk / "fill").write_bytes(b"")
    with session_scope(url) as session:
        kept = list(session.scalars(select(Image.file_sha256)))
        assert len(kept) == stored
        assert all(images.kept_film(sha256).pixels.size for sha256 in kept)  # what is there can be read
    remount(small_disk, "size=40m")
    with session_scope(url) as session:
        assert arrive(session, grey_film(hand_tags(stored), seed=stored)).outcome == "accepted"
        assert audit_check.verify(session, ADMIN).problems == ()
    assert not list((small_disk / "incoming").iterdir())


def test_a_full_disk_is_said_on_the_page_and_in_the_log(
    small_disk: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture
) -> None:
    with (small_disk / "fill").open("wb", buffering=0) as fill, pytest.raises(OSError):
        while True:
            fill.write(b"x" * 4096)
    said = page_says("quarantine")  # even a look cannot be recorded
    assert faults.FULL in said or faults.FAILED in said
    assert "it is full" in caplog.text or faults.FULL in caplog.text
    assert cli.main(["audit", "verify"]) == 1
    assert "full" in capsys.readouterr().err
    (small_disk / "fill").unlink()
    assert "Nothing in quarantine" in page_says("quarantine")


def test_a_disk_that_can_only_be_read_is_said_and_left_when_it_is_over(
    small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine_for(settings().database_url).dispose()
    remount(small_disk, "ro")
    said = page_says("quarantine")
    assert faults.READ_ONLY in said or faults.CANNOT_OPEN in said
    assert "can only be read" in caplog.text
    remount(small_disk, "rw")
    engine_for(settings().database_url).dispose()
    assert "Nothing in quarantine" in page_says("quarantine")


# ---------------------------------------------------------------- the clock


class Clock:
    """Everybody's clock in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ahead = timedelta()
        for module in (claims, reading, worklist, audit, reads_repository):
            monkeypatch.setattr(module, "utc_now", lambda: types.utc_now() + self.ahead)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.mark.parametrize("hours", [-30, 30])
def test_a_claim_does_not_outlive_the_clock_it_was_made_by(
    session: Session, new_case: Callable, clock: Clock, hours: int
) -> None:
    case = new_case().study_id
    assert claims.claim(session, READER, case).is_mine
    clock.ahead = timedelta(hours=hours)
    assert claims.current(session, ADMIN, case) is None
    assert claims.claim(session, ADMIN, case).is_mine
    theirs = claims.claim(session, READER, case)
    assert not theirs.is_mine and 0 < theirs.seconds_left(claims.utc_now()) <= claims.LEASE.total_seconds()


def test_its_own_reader_keeps_a_claim_when_the_clock_is_set_back(
    session: Session, new_case: Callable, clock: Clock
) -> None:
    case = new_case().study_id
    claims.claim(session, READER, case)
    clock.ahead = timedelta(hours=-5)
    mine = claims.claim(session, READER, case)
    assert mine.is_mine and mine.seconds_left(claims.utc_now()) > 60
    assert not claims.claim(session, ADMIN, case).is_mine


def test_a_dead_worker_is_not_alive_because_the_clock_was_set_back(
    session: Session, arrive: Callable, clock: Clock
) -> None:
    arrive(session, grey_film(hand_tags(1)))
    take = {"held": (), "silent_after_s": 30.0}
    reading.heartbeat(session, WORKER, "dead", "m")
    assert len(reading.take_in_hand(session, WORKER, "dead", 8, **take)) == 1
    assert reading.take_in_hand(session, WORKER, "other", 8, **take) == []
    clock.ahead = timedelta(hours=-3)
    reading.heartbeat(session, WORKER, "other", "m")
    alive = {worker.name: worker.alive for worker in worklist.overview(session, READER).workers}
    assert alive == {"dead": False, "other": True}
    assert len(reading.take_in_hand(session, WORKER, "other", 8, **take)) == 1
    assert session.get_one(Worker, "other").at < session.get_one(Worker, "dead").at


def test_the_audit_log_keeps_its_order_whatever_the_clock_says(session: Session, clock: Clock) -> None:
    for hours in (0, -40, 7, -1):
        clock.ahead = timedelta(hours=hours)
        with writing(session):
            audit.record(session, READER, "study.viewed", f"study:{hours}")
    rows = audit.events_page(session, ADMIN).rows
    assert [row.subject for row in rows] == ["study:-1", "study:7", "study:-40", "study:0"]
    assert audit_check.verify(session, ADMIN).problems == ()


# ---------------------------------------------------------------- a database that goes away


def test_a_database_that_goes_away_and_comes_back(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with postgresql.private_server() as url:
        monkeypatch.setenv("PEDISCREEN_DATABASE_URL", url)
        settings.cache_clear()
        folder = url.partition("?host=")[2]
        assert "Nothing in quarantine" in page_says("quarantine")
        with session_scope(url) as session:
            reading.heartbeat(session, WORKER, "worker-1", "m")
        switch(folder, "stop")
        try:
            assert faults.AWAY in page_says("quarantine")
            assert faults.AWAY in caplog.text
            with pytest.raises(OperationalError) as away, session_scope(url) as session:
                reading.heartbeat(session, WORKER, "worker-1", "m")
            assert faults.in_words(away.value) == faults.AWAY
        finally:
            switch(folder, "start")
        assert "Nothing in quarantine" in page_says("quarantine")
        with session_scope(url) as session:  # the same engine, its connections of before are gone
            reading.heartbeat(session, WORKER, "worker-1", "m")
            assert audit_check.verify(session, ADMIN).problems == ()


def switch(folder: str, how: str) -> None:
    """Start or stop the server in this folder."""
    programs, user = postgresql.programs_folder(), {}
    if Path(folder).owner() == "postgres":
        user = {"user": "postgres", "group": "postgres", "extra_groups": []}
    server = f"-c listen_addresses='' -k {folder}"
    options = ["-m", "immediate"] if how == "stop" else ["-l", f"{folder}/log", "-o", server]
    command = [f"{programs}/pg_ctl", "-D", f"{folder}/data", "-w", *options, how]
    subprocess.run(command, check=True, cwd=folder, stdout=subprocess.DEVNULL, **user)


def test_a_decision_in_the_midst_of_which_the_database_goes_is_not_half_there(
    session: Session, new_case: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = new_case()
    [image] = review.load_study(session, READER, case.study_id).images

    def gone(session: Session) -> None:
        raise OperationalError("", {}, Exception("server closed the connection"))

    decision = review.Decision(review.Verdict.CONFIRMED, prediction_id=image.read.prediction_id)
    with monkeypatch.context() as patch:
        patch.setattr(audit.audit_chain, "last", gone)  # at the commit
        with pytest.raises(OperationalError):
            review.record_review(session, READER, image.image_id, decision)
    assert session.scalar(text("SELECT count(*) FROM review")) == 0
    session.rollback()
    assert review.record_review(session, READER, image.image_id, decision) > 0
