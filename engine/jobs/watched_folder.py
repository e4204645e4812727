"""The loop that takes in the files that somebody puts into a folder.

    FOLDER/...                 what is to be taken in, in subfolders of any depth
    FOLDER/.taking/...         what is in hand at this moment
    FOLDER/done/...            on the worklist, under the name it had
    FOLDER/refused/...         in quarantine, under the name it had, with a NAME.reason.txt beside it

A file is taken once it has stopped changing, and by renaming it into .taking: whoever still writes to it, or a process
that was killed at any moment, leaves it either where it was or there, and both are looked at again. What was taken in
already and comes again is a duplicate, which is no error."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from sqlalchemy.exc import SQLAlchemyError

from db.exchange_tables import Channel
from db.session import session_scope
from engine.errors import PediScreenError
from engine.jobs.loop import Door, Loop, Pulse, log_failure
from engine.services.accounts import service_actor
from engine.services.incoming import IncomingFile
from engine.services.ingest import IngestResult, ingest_incoming
from engine.settings import Settings

LOOK_EVERY_S = 2.0
STILL_FOR_S = 5.0  # neither size nor time have changed for so long
TAKING, DONE, REFUSED = ".taking", "done", "refused"
REASON_SUFFIX = ".reason.txt"
MOST_FILES = 1000  # at one look
UNFINISHED = (".part", ".partial", ".tmp", ".filepart", ".crdownload")  # what copying programs call what they write
ACTOR_NAME = "watched-folder"

Seen = tuple[int, int, int]  # inode, size, time of the last change


class WatchedFolder:
    """Raises PediScreenError where the folder cannot be used."""

    def __init__(self, folder: Path, database_url: str) -> None:
        self.folder = folder
        self.database_url = database_url
        self.door = Door(Channel.WATCHED_FOLDER, database_url)
        self.stuck: set[Path] = set()  # left alone until the next start: the others must not wait for them
        self._seen: dict[Path, tuple[Seen, float]] = {}  # and since when it is so
        if not folder.is_dir():
            raise PediScreenError(f"PEDISCREEN_WATCHED_FOLDER {folder} is no folder: make it, or mount what it is in.")
        try:
            for name in (TAKING, DONE, REFUSED):
                (folder / name).mkdir(exist_ok=True)
        except OSError as error:
            raise PediScreenError(
                f"PEDISCREEN_WATCHED_FOLDER {folder} cannot be written to ({error.strerror}): files are moved to "
                f"{DONE} and {REFUSED} in it."
            ) from error

    def look(self) -> int:
        """Takes in what is due; returns how many files. Raises OSError and SQLAlchemyError: it is all tried again."""
        taken = sum(self._take_in(path) for path in sorted(_files(self.folder / TAKING)))  # left by a killed process
        for path in self._due():
            in_hand = self._take(path)
            if in_hand is not None:
                taken += self._take_in(in_hand)
        return taken

    def _due(self) -> list[Path]:
        now, seen, due = time.monotonic(), {}, []
        skipped = {self.folder / name for name in (TAKING, DONE, REFUSED)}
        for path in _files(self.folder, skipped):
            if len(seen) >= MOST_FILES:
                break
            if path.name.startswith(".") or path.name.endswith(UNFINISHED) or path in self.stuck:
                continue
            state = _state(path)
            if state is None:
                continue
            before = self._seen.get(path)
            since = before[1] if before is not None and before[0] == state else now
            seen[path] = state, since
            if now - since >= STILL_FOR_S:
                due.append(path)
        self._seen = seen
        return sorted(due)

    def _take(self, path: Path) -> Path | None:
        """Out of the reach of those who know its name; None where it has changed or gone after all."""
        in_hand = self.folder / TAKING / path.relative_to(self.folder)
        if in_hand.exists() or _state(path) != self._seen[path][0]:
            return None
        try:
            in_hand.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, in_hand)
        except FileNotFoundError:
            return None
        except PermissionError as error:
            self._leave(path, error)
            return None
        return in_hand

    def _take_in(self, in_hand: Path) -> bool:
        """Raises OSError and SQLAlchemyError, which concern all files."""
        if in_hand in self.stuck:
            return False
        try:
            with in_hand.open("rb") as source:
                result = self._ingest(in_hand.name, source)
        except (OSError, SQLAlchemyError) as error:
            if not isinstance(error, PermissionError):
                raise
            self._leave(in_hand, error)
            return False
        except Exception as error:  # the outermost line of one file
            self._leave(in_hand, error)
            return False
        self.door.came(ACTOR_NAME, str(self.folder)[-64:], result.outcome)
        self._put_away(in_hand, result)
        return True

    def _leave(self, path: Path, error: Exception) -> None:
        log_failure("a file in the watched folder cannot be taken in", error)
        self.stuck.add(path)

    def _ingest(self, name: str, source: BinaryIO) -> IngestResult:
        with IncomingFile() as file:
            file.copy(source)
            with session_scope(self.database_url) as session:
                actor = service_actor(ACTOR_NAME)
                return ingest_incoming(session, actor, file, name, compress_later=True)

    def _put_away(self, in_hand: Path, result: IngestResult) -> None:
        """The reason is written first: a refused file never lies there without one."""
        name = in_hand.relative_to(self.folder / TAKING)
        target = _free(self.folder / (REFUSED if result.outcome == "quarantined" else DONE) / name)
        target.parent.mkdir(parents=True, exist_ok=True)
        if result.outcome == "quarantined":
            reason = target.with_name(target.name + REASON_SUFFIX)
            reason.write_text(f"{result.reason_code}: {result.reason}\nsha256 {result.file_sha256}\n", encoding="utf-8")
        os.replace(in_hand, target)
        for parent in in_hand.relative_to(self.folder / TAKING).parents:
            folder = self.folder / TAKING / parent
            if parent != Path(".") and not any(folder.iterdir()):
                folder.rmdir()


def _files(folder: Path, skipped: set[Path] = frozenset()) -> Iterator[Path]:
    """Regular files below `folder`, not those in `skipped` folders; links are not followed."""
    for parent, folders, names in os.walk(folder):
        here = Path(parent)
        folders[:] = sorted(name for name in folders if here / name not in skipped)
        for name in sorted(names):
            yield here / name


def _state(path: Path) -> Seen | None:
    """None for what has gone, and for what is no regular file."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return None
    return (status.st_ino, status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None


def _free(path: Path) -> Path:
    """`path`, or with a number where a file of that name was put away before."""
    number, candidate = 1, path
    while candidate.exists():
        number += 1
        candidate = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return candidate


def run(here: Settings, pulse: Pulse) -> None:
    watched = WatchedFolder(here.watched_folder, here.database_url)
    while not pulse.stopping.is_set():
        watched.look()
        watched.door.write_down()
        if watched.stuck:
            pulse.in_trouble(f"{len(watched.stuck)} files in the watched folder cannot be taken in: see the log.")
        else:
            pulse.succeeded()
        pulse.stopping.wait(LOOK_EVERY_S)


LOOP = Loop("watched_folder", lambda here: here.watched_folder is not None, run)
