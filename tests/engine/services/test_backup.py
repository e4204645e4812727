"""A backup taken while others work is whole, is checked when it is restored, and a half one never looks whole."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import make_url, select, text
from sqlalchemy.orm import Session

from db.models import Image, Review
from db.session import engine_for, session_scope
from engine.errors import NotAllowed, Refused
from engine.schema_check import SchemaMismatch
from engine.services import audit_check, backup, images, review, stored_files
from engine.services.backup import BackupFailed
from engine.settings import Settings, settings
from tests.engine.services.conftest import ADMIN, READER


@pytest.fixture
def empty(tmp_path: Path, session: Session) -> Iterator[Settings]:
    """Another machine: an empty data folder, and an empty database of the same kind."""
    here = settings()
    elsewhere = tmp_path / "elsewhere"
    if session.get_bind().dialect.name == "sqlite":
        yield replace(here, data_dir=elsewhere, database_url=f"sqlite:///{elsewhere}/pediscreen.sqlite")
        return
    url = make_url(here.database_url)
    with engine_for(here.database_url).connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("DROP DATABASE IF EXISTS restored")
        connection.exec_driver_sql("CREATE DATABASE restored")
    other = url.set(database="restored").render_as_string(hide_password=False)
    yield replace(here, data_dir=elsewhere, database_url=other)
    engine_for(other).dispose()
    with engine_for(here.database_url).connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("DROP DATABASE restored WITH (FORCE)")


def use(here: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEDISCREEN_DATA_DIR", str(here.data_dir))
    monkeypatch.setenv("PEDISCREEN_DATABASE_URL", here.database_url)
    settings.cache_clear()


def decide(session: Session, new_case: Callable) -> int:
    case = new_case()
    [image] = review.load_study(session, READER, case.study_id).images
    decision = review.Decision(review.Verdict.CONFIRMED, prediction_id=image.read.prediction_id)
    return review.record_review(session, READER, image.image_id, decision)


def test_what_is_restored_is_what_was_there(
    session: Session, new_case: Callable, tmp_path: Path, empty: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    decided = [decide(session, new_case) for _ in range(3)]
    session.rollback()
    made = backup.make(settings(), ADMIN, tmp_path / "backup")
    assert made.files > 9
    restored = backup.restore(empty, ADMIN, tmp_path / "backup")
    assert restored == made
    use(empty, monkeypatch)
    with session_scope(empty.database_url) as there:
        assert list(there.scalars(select(Review.id).order_by(Review.id))) == decided
        assert audit_check.verify(there, ADMIN).problems == ()
        monkeypatch.undo()  # the films hold made-up originals, which no decoder reads
        use(empty, monkeypatch)
        assert stored_files.check(there, ADMIN) == (3, [])


def test_writes_go_on_during_the_backup_and_what_is_in_it_is_whole(
    session: Session, new_case: Callable, tmp_path: Path, empty: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide(session, new_case)
    stop, written = threading.Event(), []

    def work() -> None:
        with session_scope(settings().database_url) as own:
            while not stop.is_set():
                written.append(decide(own, new_case))

    worker = threading.Thread(target=work)
    worker.start()
    try:
        while len(written) < 2:
            time.sleep(0.01)
        before = len(written)
        backup.make(settings(), ADMIN, tmp_path / "backup")
        during = len(written) - before
    finally:
        stop.set()
        worker.join()
    assert during > 0
    backup.restore(empty, ADMIN, tmp_path / "backup")
    use(empty, monkeypatch)
    with session_scope(empty.database_url) as there:
        found = there.scalar(select(text("count(*)")).select_from(Review)) or 0
        assert before < found <= len(written) + 1
        for file_sha256 in there.scalars(select(Image.file_sha256)):
            assert images.checked_original(file_sha256).is_file()
            assert images.kept_film(file_sha256).pixels.size
        assert audit_check.verify(there, ADMIN).problems == ()


KILLED = """
import sys, time
from pathlib import Path
from engine.services import backup
from engine.services.accounts import demo_admin
from engine.settings import settings
def slowly(message):
    print(message, flush=True)
    time.sleep(0.3)
backup.make(settings(), demo_admin(), Path(sys.argv[1]), say=slowly)
"""


@pytest.mark.parametrize("lines", [1, 2, 3])
def test_a_killed_backup_does_not_look_whole(
    session: Session, new_case: Callable, tmp_path: Path, empty: Settings, lines: int
) -> None:
    decide(session, new_case)
    session.rollback()
    out = tmp_path / "disk" / "backup"
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(out)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(lines):
        assert process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    for left in out.parent.iterdir():
        with pytest.raises(Refused, match="no backup, or one that was cut short"):
            backup.restore(empty, ADMIN, left)
    backup.make(settings(), ADMIN, out)
    backup.restore(empty, ADMIN, out)


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda folder, file: file.write_bytes(file.read_bytes() + b"x"), "changed_file"),
        (lambda folder, file: file.unlink(), "missing_file"),
        (lambda folder, file: (folder / "data" / "files" / "more").write_text("x"), "foreign_file"),
        (lambda folder, file: (folder / "manifest.json").unlink(), "no_backup"),
        (lambda folder, file: (folder / "manifest.json").write_text("{"), "damaged"),
    ],
)
def test_a_spoilt_backup_is_refused_before_anything_is_written(
    session: Session, new_case: Callable, tmp_path: Path, empty: Settings, spoil: Callable, code: str
) -> None:
    decide(session, new_case)
    session.rollback()
    backup.make(settings(), ADMIN, tmp_path / "backup")
    [file, *_] = (path for path in (tmp_path / "backup" / "data" / "files").rglob("*") if path.is_file())
    spoil(tmp_path / "backup", file)
    with pytest.raises(Refused) as refused:
        backup.restore(empty, ADMIN, tmp_path / "backup")
    assert refused.value.code == code
    assert not empty.data_dir.exists() or not list(empty.data_dir.iterdir())


def test_nothing_is_restored_over_what_is_there(
    session: Session, new_case: Callable, tmp_path: Path, empty: Settings
) -> None:
    decide(session, new_case)
    session.rollback()
    backup.make(settings(), ADMIN, tmp_path / "backup")
    for target in (settings(), replace(empty, data_dir=settings().data_dir),
                   replace(empty, database_url=settings().database_url)):  # fmt: skip
        with pytest.raises(Refused) as refused:
            backup.restore(target, ADMIN, tmp_path / "backup")
        assert refused.value.code == "not_empty"
    with pytest.raises(Refused, match="there already"):
        backup.make(settings(), ADMIN, tmp_path / "backup")
    with pytest.raises(Refused, match="another disk"):
        backup.make(settings(), ADMIN, settings().data_dir / "backup")


def test_a_backup_of_a_newer_version_is_refused_with_both_named(
    session: Session, tmp_path: Path, empty: Settings
) -> None:
    session.rollback()
    backup.make(settings(), ADMIN, tmp_path / "backup")
    manifest = tmp_path / "backup" / "manifest.json"
    said = json.loads(manifest.read_text())
    current = said["backup"]["schema"]
    manifest.write_text(json.dumps(said | {"backup": said["backup"] | {"schema": "9999"}}))
    with pytest.raises(SchemaMismatch, match=f"9999.*{current}"):
        backup.restore(empty, ADMIN, tmp_path / "backup")


def test_no_secret_is_in_it(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session.rollback()
    for name in ("PEDISCREEN_READS_TOKEN", "PEDISCREEN_AUDIT_KEY", "PEDISCREEN_DEIDENTIFICATION_KEY"):
        monkeypatch.setenv(name, "planted-secret-" + "x" * 40)
    settings.cache_clear()
    here = replace(settings(), jobs_url="postgresql://user:planted-secret@host/jobs")
    backup.make(here, ADMIN, tmp_path / "backup")
    assert "jobs" in (tmp_path / "backup" / "settings.json").read_text()
    for path in (tmp_path / "backup").rglob("*"):
        assert path.is_dir() or b"planted-secret" not in path.read_bytes(), path


def test_a_full_disk_leaves_no_backup(
    session: Session, new_case: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decide(session, new_case)
    session.rollback()

    def full(source, target, length):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(BackupFailed, match="No space left"):
        backup.make(settings(), ADMIN, tmp_path / "disk" / "backup")
    assert os.listdir(tmp_path / "disk") == []


def test_missing_programs_are_named(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda program: None)
    monkeypatch.setattr(backup, "DEBIANS_PROGRAMS", tmp_path)
    with pytest.raises(BackupFailed, match="pg_dump is not installed here"):
        backup._dump("postgresql+psycopg://u@localhost/x", tmp_path)


def test_only_an_admin_may(session: Session, tmp_path: Path, empty: Settings) -> None:
    with pytest.raises(NotAllowed):
        backup.make(settings(), READER, tmp_path / "backup")
    with pytest.raises(NotAllowed):
        backup.restore(empty, READER, tmp_path / "backup")
