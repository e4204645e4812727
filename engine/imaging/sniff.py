"""What a file is, told from its first bytes; its name is not asked."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Literal

from engine.errors import FileRefused

Format = Literal["dicom", "png", "jpeg"]

MAX_FILE_BYTES = 512 * 2**20  # a 64-megapixel 16-bit film is 128 MB

# Formats people do hand in, so that the refusal can name them. (offset, bytes, name)
OTHER_FORMATS = (
    (0, b"%PDF", "a PDF document"),
    (0, b"PK\x03\x04", "a ZIP archive or an Office document"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"GIF8", "a GIF image"),
    (0, b"II*\x00", "a TIFF image"),
    (0, b"MM\x00*", "a TIFF image"),
    (0, b"BM", "a BMP image"),
    (8, b"WEBP", "a WebP image"),
    (4, b"ftyp", "a video or a HEIC photo"),
    (4, b"jP  \r\n\x87\n", "a JPEG 2000 image"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (0, b"\xff\x0a", "a JPEG XL image"),
    (0, b"\x7fELF", "a program"),
    (0, b"MZ", "a program"),
    (0, b"<", "a web page or an XML document"),
    (0, b"{", "a JSON document"),
)


def sniff(path: Path) -> Format:
    """The format of `path`. Raises FileRefused: not_a_file, empty, too_large or unknown_format."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise FileRefused("not_a_file", "This is not a file but a folder or a device.")
        with open(path, "rb") as file:
            head = file.read(132)
    except OSError as error:
        raise FileRefused("not_a_file", f"The file cannot be opened: {error.strerror}.") from error
    if status.st_size == 0:
        raise FileRefused("empty", "The file is empty (0 bytes). Export or send it again.")
    if status.st_size > MAX_FILE_BYTES:
        raise FileRefused(
            "too_large", f"The file has {status.st_size / 2**20:.0f} MB; the limit is {MAX_FILE_BYTES / 2**20:.0f} MB."
        )
    return sniff_bytes(head)


def sniff_bytes(head: bytes) -> Format:
    """The format told from the first 132 bytes of a file. Raises FileRefused("unknown_format")."""
    if head[128:132] == b"DICM":
        return "dicom"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if _starts_like_a_data_set(head):
        return "dicom"
    looks_like = next((name for offset, magic, name in OTHER_FORMATS if head[offset:].startswith(magic)), None)
    raise FileRefused(
        "unknown_format",
        "This is not a DICOM, PNG or JPEG file" + (f" (it looks like {looks_like})." if looks_like else "."),
    )


def _starts_like_a_data_set(head: bytes) -> bool:
    """Whether a file without preamble begins with a low element of group 0002 or 0008, in either byte order."""
    if len(head) < 8:
        return False
    for order in ("little", "big"):
        group, element = int.from_bytes(head[0:2], order), int.from_bytes(head[2:4], order)
        if group in (0x0002, 0x0008) and element <= 0x0100:
            return True
    return False
