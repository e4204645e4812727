"""Into a folder, a file at a time: each appears whole, under its own name, or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from contextlib import suppress

from engine.files import sync_folder
from engine.interop.destinations import Destination
from engine.interop.documents import Document
from engine.interop.sending import NotDelivered, Unreachable

WHY = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk is full (quota)",
    errno.EACCES: "this workstation may not write there",
    errno.EROFS: "the folder can only be read",
}


def send(destination: Destination, documents: Sequence[Document]) -> str:
    """Raises NotDelivered.

    The folder is never made: where it is missing, a network drive is not mounted."""
    folder = destination.folder
    assert folder is not None
    if not folder.is_dir():
        raise Unreachable("the folder is not there: make it, or mount the drive it is on")
    for document in documents:
        unfinished = folder / f".{document.file_name}.part"
        try:
            with unfinished.open("wb") as file:
                file.write(document.content)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(folder / document.file_name)
        except OSError as error:
            with suppress(OSError):
                unfinished.unlink(missing_ok=True)
            raise _not_written(error) from error
    try:
        sync_folder(folder)
    except OSError as error:
        raise _not_written(error) from error
    return f"{len(documents)} files in the folder"


def _not_written(error: OSError) -> NotDelivered:
    return NotDelivered(WHY.get(error.errno or 0) or f"it cannot be written ({error.strerror})")
