"""A file on its way in: written once, hashed while it is written, then renamed to its place and never copied."""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from engine.files import sync_folder
from engine.settings import settings

COPY_BLOCK_BYTES = 1 << 20


class IncomingFile:
    """Lies in the data folder, so that a rename takes it to its place. What is still there at the end of the `with`
    block goes: nobody was told yet that it came in."""

    def __init__(self) -> None:
        self.path = _folder() / uuid.uuid4().hex
        self.size_bytes = 0
        self._digest = hashlib.sha256()
        self._file = self.path.open("xb", buffering=0)

    def write(self, block: bytes | bytearray | memoryview) -> None:
        with memoryview(block) as view:
            written = 0
            while written < view.nbytes:
                written += self._file.write(view[written:])
            self._digest.update(view)
            self.size_bytes += view.nbytes

    def copy(self, source: BinaryIO) -> None:
        while block := source.read(COPY_BLOCK_BYTES):
            self.write(block)

    def close(self) -> None:
        """From here on it is on the disk, whatever happens to this machine."""
        if not self._file.closed:
            os.fsync(self._file.fileno())
            self._file.close()

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def __enter__(self) -> IncomingFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)


def move(source: Path, target: Path) -> None:
    """Rename a file so that its new name is on the disk, too. Missing folders of `target` are made."""
    missing = [folder for folder in target.parents if not folder.exists()]
    target.parent.mkdir(parents=True, exist_ok=True)
    os.replace(source, target)
    for folder in dict.fromkeys([target.parent, *(folder.parent for folder in missing)]):
        sync_folder(folder)


def _folder() -> Path:
    folder = settings().data_dir / "incoming"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def sweep(older_than_s: float) -> int:
    """Remove what a killed process left half-received: nobody was told that it came in. Returns how many files."""
    oldest, removed = time.time() - older_than_s, 0
    for path in _folder().iterdir():
        if path.is_file() and path.stat().st_mtime < oldest:
            path.unlink(missing_ok=True)
            removed += 1
    return removed
