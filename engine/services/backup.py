"""`pediscreen backup OUT` and `restore IN`: everything that is needed to go on elsewhere, taken while work goes on.

    OUT/manifest.json     what it holds, with the SHA-256 of every file; written last: without it, it is no backup
        database.sqlite   or database.dump (PostgreSQL, custom format); its own snapshot of one moment
        data/             files, films, quarantine, models, ... and the audit anchor: as in the data folder
        settings.json     the settings without secrets, to be read by people

The database is taken first and the files after it: files are only ever added, and a row's file is there before its row,
so that whatever the database speaks of is among the files. What came in during the backup is a stray file at most.
Not in it: secrets (they are no folders of the data folder), logs, what is just coming in, and the queue of jobs (a
retraining under way is dispatched again from its row)."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import sqlite3
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import URL, inspect, make_url

from db import migrate
from db.session import engine_for, session_scope, writing
from db.types import utc_now
from engine.errors import PediScreenError, Refused
from engine.files import sync_folder
from engine.imaging.film_store import LOOSE
from engine.schema_check import SchemaMismatch, require_newest, upgrade
from engine.services import audit, audit_anchor
from engine.services.accounts import Actor, require
from engine.settings import Settings

FORMAT_VERSION = 1
MANIFEST, SETTINGS, DATA = "manifest.json", "settings.json", "data"
SQLITE_FILE, DUMP_FILE = "database.sqlite", "database.dump"
LEFT_OUT = ("logs", "workers", "incoming")  # folders of the data folder
DEBIANS_PROGRAMS = Path("/usr/lib/postgresql")

Say = Callable[[str], None]


class BackupFailed(PediScreenError):
    """There is no backup, or nothing was restored; the message says why."""


@dataclass(frozen=True)
class Backup:
    made_at: str  # UTC
    schema: str
    database: str  # sqlite, postgresql
    files: int
    bytes: int


def make(here: Settings, actor: Actor, out: Path, *, say: Say = lambda message: None) -> Backup:
    """Into the new folder `out`, whole or not at all. Records it in the audit log. Admins only. Raises Refused where
    `out` exists, BackupFailed with the reason, and then leaves nothing."""
    require(actor)
    out = out.absolute()
    if out.exists():
        raise Refused("exists", f"{out} is there already: a backup goes into a folder of its own")
    if out.is_relative_to(here.data_dir):
        raise Refused("inside", f"{out} is in the data folder: a backup belongs on another disk")
    require_newest(here.database_url)
    unfinished = out.with_name(f".{out.name}.unfinished-{uuid.uuid4().hex[:8]}")
    made_at = utc_now().isoformat(timespec="seconds")
    with session_scope(here.database_url) as session:
        with writing(session):
            audit.record(session, actor, "backup.begun", "backup", {"folder": out.name})
        audit.keep_anchor(session, now=True)
    try:
        unfinished.mkdir(parents=True)
        # The anchor first: it must not know of rows that the database's copy does not have.
        _copy_if_there(here.data_dir / audit_anchor.NAME, unfinished / DATA / audit_anchor.NAME)
        say("The database ...")
        name = _dump(here.database_url, unfinished)
        for folder in _folders(here.data_dir):
            say(f"{folder.name} ...")
            for path in _files_below(folder):
                _copy_if_there(path, unfinished / DATA / path.relative_to(here.data_dir))
        _write_json(unfinished / SETTINGS, _without_secrets(here))
        made = _finish(unfinished, made_at, name, here.database_url)
        os.rename(unfinished, out)
        sync_folder(out.parent)
    except OSError as error:
        raise BackupFailed(f"The backup was not made: {error.strerror or error}. {out} is not there.") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    with session_scope(here.database_url) as session, writing(session):
        audit.record(session, actor, "backup.made", "backup", {"folder": out.name, "files": made.files})
    return made


def restore(here: Settings, actor: Actor, folder: Path, *, say: Say = lambda message: None) -> Backup:
    """Into the empty data folder and the empty database that the settings name; every file is checked against its hash
    before anything is written. An older schema is brought to the newest. Records it. Admins only. Raises Refused,
    BackupFailed, SchemaMismatch for a backup of a newer version."""
    require(actor)
    manifest = _manifest(folder)
    made = Backup(**manifest["backup"])
    if made.schema not in migrate.known_revisions():
        raise SchemaMismatch(
            f"The backup has schema {made.schema}, made by a newer version of PediScreen; the newest that this version "
            f"knows is {migrate.newest_revision()}. Restore it with the newer version."
        )
    backend = make_url(here.database_url).get_backend_name()
    if backend != made.database:
        raise Refused(
            "other_database",
            f"The backup holds a {made.database} database, and PEDISCREEN_DATABASE_URL names one of {backend}: "
            "restore it into the same kind.",
        )
    _refuse_used(here)
    say("Checking every file ...")
    _check(folder, manifest["files"])
    try:
        for name in sorted(manifest["files"]):
            if name.startswith(f"{DATA}/"):
                target = here.data_dir / name.removeprefix(f"{DATA}/")
                _copy_if_there(folder / name, target)
        say("The database ...")
        _load(here.database_url, folder)
        upgrade(here.database_url)
    except OSError as error:
        raise BackupFailed(
            f"The backup was not restored: {error.strerror or error}. Empty {here.data_dir} and try again."
        ) from error
    with session_scope(here.database_url) as session, writing(session):
        audit.record(session, actor, "backup.restored", "backup", {"made_at": made.made_at, "files": made.files})
    return made


# ---------------------------------------------------------------- the database


def _dump(url: str, folder: Path) -> str:
    """The database of one moment, into a file; returns its name."""
    if make_url(url).get_backend_name() == "sqlite":
        target = folder / SQLITE_FILE
        with (
            closing(sqlite3.connect(make_url(url).database)) as source,  # type: ignore[arg-type]
            closing(sqlite3.connect(target)) as copy,
        ):
            source.backup(copy, pages=-1)  # one step holds one snapshot: in WAL mode writers go on meanwhile
        return SQLITE_FILE
    _run("pg_dump", make_url(url), "--format=custom", "--no-owner", f"--file={folder / DUMP_FILE}")
    return DUMP_FILE


def _load(url: str, folder: Path) -> None:
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        target = Path(parsed.database)  # type: ignore[arg-type]
        unfinished = target.with_name(f".{target.name}.restoring")
        unfinished.unlink(missing_ok=True)
        _copy_if_there(folder / SQLITE_FILE, unfinished)
        os.replace(unfinished, target)
        return
    _run("pg_restore", parsed, "--no-owner", "--exit-on-error", "--single-transaction", last=str(folder / DUMP_FILE))


def _run(program: str, url: URL, *options: str, last: str | None = None) -> None:
    """PostgreSQL's own program, with the password in its environment rather than where every user of the machine could
    read it. Raises BackupFailed with what it said."""
    found = shutil.which(program) or next(
        (str(path) for path in sorted(DEBIANS_PROGRAMS.glob(f"*/bin/{program}"), reverse=True)), None
    )
    if found is None:
        raise BackupFailed(
            f"{program} is not installed here: apt-get install postgresql-client, of the server's version or newer."
        )
    environment = os.environ | ({"PGPASSWORD": str(url.password)} if url.password else {})
    host = url.host or url.query.get("host")
    arguments = [found, *options, "--no-password", f"--dbname={url.database}"]
    arguments += [f"--host={host}"] if host else []
    arguments += [f"--port={url.port}"] if url.port else []
    arguments += [f"--username={url.username}"] if url.username else []
    arguments += [last] if last else []
    done = subprocess.run(arguments, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise BackupFailed(f"{program} failed: {said[-1] if said else f'exit status {done.returncode}'}")


def _refuse_used(here: Settings) -> None:
    """Raises Refused unless data folder and database are empty."""
    used = [path for path in _folders(here.data_dir) if any(path.iterdir())]
    if used or (here.data_dir / audit_anchor.NAME).exists():
        name = used[0].name if used else audit_anchor.NAME
        raise Refused("not_empty", f"{here.data_dir} holds {name} already: restore into an empty data folder")
    url = make_url(here.database_url)
    if url.get_backend_name() == "sqlite":
        if Path(url.database or "").exists():
            raise Refused("not_empty", f"{url.database} is there already: restore where there is no database yet")
        Path(url.database or "").parent.mkdir(parents=True, exist_ok=True)
        return
    tables = inspect(engine_for(here.database_url)).get_table_names()
    if tables:
        raise Refused("not_empty", f"the database {url.database} has {len(tables)} tables: restore into an empty one")


# ---------------------------------------------------------------- files


def _folders(data_dir: Path) -> list[Path]:
    if not data_dir.is_dir():
        return []
    found = (path for path in data_dir.iterdir() if path.is_dir() and not path.is_symlink())
    return sorted(path for path in found if path.name not in LEFT_OUT and not _is_under_way(path.name))


def _files_below(folder: Path) -> Iterator[Path]:
    """Plain files, without those under way."""
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _is_under_way(name))
        for name in sorted(names):
            path = Path(root) / name
            if not _is_under_way(name) and path.is_file() and not path.is_symlink():
                yield path


def _is_under_way(name: str) -> bool:
    """What is being written is called so, to be renamed when it is whole."""
    return (name.startswith(".") and name != LOOSE) or ".unfinished" in name


def _copy_if_there(source: Path, target: Path) -> None:
    """Copied and on the disk; nothing where it has gone meanwhile (a refused film, an old model)."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with source.open("rb") as reader, target.open("xb") as writer:
            shutil.copyfileobj(reader, writer, 1 << 20)
            writer.flush()
            os.fsync(writer.fileno())
    except FileNotFoundError:
        if source.exists():
            raise


def _finish(folder: Path, made_at: str, database_file: str, url: str) -> Backup:
    """Hashes everything and writes the manifest."""
    hashes = {path.relative_to(folder).as_posix(): _sha256(path) for path in _files_below(folder)}
    size = sum(path.stat().st_size for path in _files_below(folder))
    made = Backup(made_at, _schema_of(url), make_url(url).get_backend_name(), len(hashes), size)
    said = {"format_version": FORMAT_VERSION, "backup": dataclasses.asdict(made), "database": database_file}
    _write_json(folder / MANIFEST, said | {"files": hashes})
    return made


def _schema_of(url: str) -> str:
    current, _ = migrate.revisions(url)
    assert current is not None
    return current


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        said = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        version = said["format_version"]
    except FileNotFoundError:
        raise Refused(
            "no_backup", f"{folder} holds no {MANIFEST}: it is no backup, or one that was cut short"
        ) from None
    except (ValueError, KeyError, TypeError):
        raise Refused("damaged", f"{folder / MANIFEST} was changed or damaged") from None
    if version != FORMAT_VERSION:
        raise Refused("newer", f"the backup has format {version}, this version reads format {FORMAT_VERSION}")
    return said


def _check(folder: Path, hashes: dict[str, str]) -> None:
    """Raises Refused for the first file that is missing, was changed, or does not belong to the backup."""
    found = {path.relative_to(folder).as_posix() for path in _files_below(folder)} - {MANIFEST}
    for name in sorted(hashes.keys() | found):
        if name not in hashes:
            raise Refused("foreign_file", f"{name} does not belong to the backup: nothing was restored")
        if name not in found:
            raise Refused("missing_file", f"{name} is missing from the backup: nothing was restored")
        if _sha256(folder / name) != hashes[name]:
            raise Refused("changed_file", f"{name} was changed or damaged since the backup: nothing was restored")


def _sha256(path: Path) -> str:
    with path.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _without_secrets(here: Settings) -> dict[str, Any]:
    """Secrets are the settings that are not to be printed (`field(repr=False)`)."""
    said = {one.name: getattr(here, one.name) for one in dataclasses.fields(here) if one.repr}
    for name in ("database_url", "jobs_url"):
        said[name] = make_url(str(said[name])).render_as_string(hide_password=True)
    return {name: str(value) if value is not None else None for name, value in said.items()}


def _write_json(path: Path, said: dict[str, Any]) -> None:
    with path.open("x", encoding="utf-8") as out:
        json.dump(said, out, indent=1)
        out.flush()
        os.fsync(out.fileno())
