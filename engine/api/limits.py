"""How much one request may hold, and how a file of it comes to lie on disk."""

from __future__ import annotations

import shutil
from pathlib import Path

from fastapi import UploadFile

from engine.imaging.sniff import MAX_FILE_BYTES

LARGEST_JSON_BYTES = 100_000
LARGEST_FILE_BYTES = MAX_FILE_BYTES + 2**20  # what is decoded at most, and the form around it
LARGEST_UPLOAD_BYTES = 2**30
MOST_FILES = 50


def copy_to(path: Path, file: UploadFile) -> Path:
    """The file that was sent, at `path`."""
    file.file.seek(0)
    with path.open("wb") as target:
        shutil.copyfileobj(file.file, target)
    return path
