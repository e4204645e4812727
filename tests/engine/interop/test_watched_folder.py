"""engine.jobs.watched_folder: never half a file, never two of one, whatever is killed and when."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time

import pytest
from pydicom import dcmread
from sqlalchemy import func, select
from sqlalchemy.exc import OperationalError

from db.models import AuditEvent, Image, Quarantine
from db.session import session_scope
from engine.errors import PediScreenError
from engine.jobs import watched_folder as job
from engine.services import incoming, ingest, receiving
from engine.services.accounts import demo_admin
from engine.settings import PROJECT_DIR, settings
from tests.engine.interop.waiting import wait_for
from tests.pediscreen_up import pediscreen_up


@pytest.fixture
def folder(tmp_path, database_url, monkeypatch):
    folder = tmp_path / "watched"
    folder.mkdir()
    monkeypatch.setattr(job, "STILL_FOR_S", 0.0)
    return folder


@pytest.fixture
def watched(folder, database_url):
    return job.WatchedFolder(folder, database_url)


def look_twice(watched):
    """Once to see the files, once to see that they stood still."""
    return watched.look() + watched.look()


def count(of=Image):
    with session_scope(settings().database_url) as session:
        return session.scalar(select(func.count(of.id)))


def left(folder):
    """Every file there is, by its path in the folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_films_go_to_done_with_their_subfolders(folder, watched, films, session):
    (folder / "ward 3" / "monday").mkdir(parents=True)
    shutil.copy(films[0], folder / "hand.dcm")
    shutil.copy(films[1], folder / "ward 3" / "monday" / "hand.dcm")
    assert look_twice(watched) == 2
    assert count() == 2
    assert left(folder) == ["done/hand.dcm", "done/ward 3/monday/hand.dcm"]
    assert not any((folder / ".taking").iterdir())
    assert session.scalars(select(AuditEvent.actor).where(AuditEvent.action == "ingest.accepted")).first() == (
        "watched-folder"
    )


def test_a_refused_file_has_its_reason_beside_it(folder, watched, films):
    (folder / "notes.txt").write_text("no film")
    shutil.copy(films[0], folder / "a.dcm")
    look_twice(watched)
    assert left(folder) == ["done/a.dcm", "refused/notes.txt", "refused/notes.txt.reason.txt"]
    assert (folder / "refused" / "notes.txt.reason.txt").read_text().startswith("unknown_format: ")
    with session_scope(settings().database_url) as session:
        (row,) = session.scalars(select(Quarantine))
    assert (row.file_name, row.received_from) == ("notes.txt", "watched-folder")


def test_a_file_that_still_grows_is_left_alone(folder, database_url, films, monkeypatch):
    monkeypatch.setattr(job, "STILL_FOR_S", 0.3)
    watched = job.WatchedFolder(folder, database_url)
    content = films[0].read_bytes()
    with (folder / "growing.dcm").open("wb") as file:
        for start in range(0, len(content), len(content) // 8):
            file.write(content[start : start + len(content) // 8])
            file.flush()
            assert watched.look() == 0
            time.sleep(0.1)
    time.sleep(0.35)
    wait_for(lambda: watched.look() == 1 or time.sleep(0.2))
    assert count() == 1 and count(Quarantine) == 0


def test_names_of_unfinished_copies_and_hidden_files_are_left_alone(folder, watched, films):
    for name in ("a.dcm.part", "b.tmp", ".hidden.dcm", "c.dcm.filepart"):
        shutil.copy(films[0], folder / name)
    (folder / "link.dcm").symlink_to(films[1])
    assert look_twice(watched) == 0
    assert count() == 0


def test_a_file_of_the_same_name_again_replaces_none(folder, watched, films):
    for film in (films[0], films[1], films[0]):
        shutil.copy(film, folder / "hand.dcm")
        look_twice(watched)
    assert left(folder) == ["done/hand-2.dcm", "done/hand-3.dcm", "done/hand.dcm"]
    assert count() == 2
    watched.door.write_down()
    with session_scope(settings().database_url) as session:
        (row,) = receiving.senders(session, demo_admin())
    assert (row.accepted, row.duplicates) == (2, 1)


@pytest.mark.parametrize("moment", ["_take_in", "_put_away", "ingest_incoming"])
def test_a_process_that_ends_at_any_moment_loses_and_doubles_nothing(
    folder, watched, database_url, films, moment, monkeypatch
):
    def end(*arguments, **keywords):
        raise KeyboardInterrupt

    shutil.copy(films[0], folder / "hand.dcm")
    with monkeypatch.context() as patch:
        patch.setattr(job if moment == "ingest_incoming" else job.WatchedFolder, moment, end)
        with pytest.raises(KeyboardInterrupt):
            look_twice(watched)
    assert len(left(folder)) == 1
    look_twice(job.WatchedFolder(folder, database_url))
    assert count() == 1 and left(folder) == ["done/hand.dcm"]


def test_a_full_disk_and_a_database_that_is_away_leave_the_file_for_later(folder, watched, films, monkeypatch):
    def full(self, block):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def locked(*arguments, **keywords):
        raise OperationalError("INSERT", {}, Exception("database is locked"))

    shutil.copy(films[0], folder / "hand.dcm")
    for target, name, fault in ((incoming.IncomingFile, "write", full), (job, "ingest_incoming", locked)):
        with monkeypatch.context() as patch:
            patch.setattr(target, name, fault)
            with pytest.raises((OSError, OperationalError)):
                look_twice(watched)
        assert left(folder) == [".taking/hand.dcm"]
    watched.look()
    assert count() == 1 and left(folder) == ["done/hand.dcm"]


def test_a_file_that_we_stumble_over_holds_up_no_other(folder, watched, films, monkeypatch):
    def stumble(session, actor, file, name, **keywords):
        if name == "a.dcm":
            raise ZeroDivisionError
        return ingest.ingest_incoming(session, actor, file, name, **keywords)

    monkeypatch.setattr(job, "ingest_incoming", stumble)
    for name, film in (("a.dcm", films[0]), ("b.dcm", films[1])):
        shutil.copy(film, folder / name)
    look_twice(watched)
    assert left(folder) == [".taking/a.dcm", "done/b.dcm"] and len(watched.stuck) == 1


def test_a_folder_that_is_not_there_is_said(tmp_path, database_url):
    with pytest.raises(PediScreenError, match="is no folder"):
        job.WatchedFolder(tmp_path / "missing", database_url)


@pytest.mark.slow
def test_twelve_kills_among_forty_files(folder, database_url, films):
    """A process of its own is killed again and again while files come; each ends up in one place, once."""
    made = []
    for number in range(40):
        data = dcmread(films[number % len(films)])
        data.PatientID, data.AccessionNumber = f"KILL-{number}", f"K{number}"
        for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
            setattr(data, keyword, f"2.25.{number + 1}")
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
        made.append(folder / f"{number:02}.dcm")
        data.save_as(made[-1])
    program = (
        "from engine.jobs import exchange, watched_folder as w\nfrom engine.settings import settings\n"
        "w.STILL_FOR_S, w.LOOK_EVERY_S = 0.2, 0.1\nexchange.main(settings())"
    )
    environment = os.environ | {"PEDISCREEN_WATCHED_FOLDER": str(folder)}
    for kill in range(12):
        process = subprocess.Popen([sys.executable, "-c", program], cwd=PROJECT_DIR, env=environment)
        time.sleep(1.6 + 0.1 * kill)
        process.send_signal(signal.SIGKILL)
        process.wait()
    process = subprocess.Popen([sys.executable, "-c", program], cwd=PROJECT_DIR, env=environment)
    wait_for(lambda: len(left(folder / "done")) == 40, within_s=60)
    process.terminate()
    process.wait(20)
    assert count() == 40 and count(Quarantine) == 0
    assert left(folder) == [f"done/{number:02}.dcm" for number in range(40)]


@pytest.mark.slow
def test_the_workstation_starts_the_exchange_where_something_is_configured(folder, database_url, films):
    environment = os.environ | {"PEDISCREEN_WATCHED_FOLDER": str(folder)}
    with pediscreen_up(environment):
        shutil.copy(films[0], folder / "hand.dcm")
        wait_for(lambda: left(folder) == ["done/hand.dcm"], within_s=60)
    assert count() == 1
