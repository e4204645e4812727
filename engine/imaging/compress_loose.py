"""Compresses the films that came in bulk: python -m engine.imaging.compress_loose FILMS_FOLDER

A process of its own, of the least priority: it takes what nobody else wants. (A thread of the least priority would hold
up its whole process, waiting for the processor with the interpreter's lock in hand.)"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from engine.imaging import film_store

LEAST_PRIORITY = 19


def main(root: Path) -> None:
    os.nice(LEAST_PRIORITY)
    for file_sha256 in film_store.loose(root):
        film_store.compress_loose(root, file_sha256)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
