"""Decoded films on disk, so that a file is decoded once.

    root/ab/abcdef.../film.json   everything but the pixels, and the SHA-256 of these
                      pixels.gz   the pixels, little endian, row by row, gzip level 1: what the viewer downloads
    root/.loose/abcdef...         (empty) pixels.gz is not compressed yet: what came in bulk waits for idle time

An entry is named by the SHA-256 of its file and appears whole or not at all: it is written beside its place and
renamed into it. The SHA-256 of its film.json, which stands for the entry, is kept in the database: what is opened is
checked against it."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import math
import os
import re
import shutil
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np

from engine.errors import Damaged, NotFound
from engine.imaging.film import Film, FilmTags, Voi

FORMAT_VERSION = 2
HEADER, PIXELS = "film.json", "pixels.gz"
LOOSE = ".loose"
NO_GZIP = (imagecodecs.DeflateError, ValueError)  # by what is wrong with it
HASH = re.compile(r"[0-9a-f]{64}")


def save(root: Path, file_sha256: str, film: Film, *, compress_later: bool = False) -> str:
    """Keep `film` under the hash of its file, and return the entry's hash. Another entry that is there is replaced.

    Compressing takes longer than all else that is done with a film at ingest: with `compress_later` it is left to
    `compress_loose`. The entry is whole at once either way."""
    pixels = pixel_bytes(film)
    said = film_header(film) | {"pixels_sha256": hashlib.sha256(pixels).hexdigest()}
    header = json.dumps(said, ensure_ascii=False).encode()
    entry_sha256 = hashlib.sha256(header).hexdigest()
    folder = entry_folder(root, file_sha256)
    if _is_whole(root, file_sha256, entry_sha256):
        return entry_sha256
    if compress_later:
        (root / LOOSE).mkdir(parents=True, exist_ok=True)
        (root / LOOSE / file_sha256).touch()
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=folder.parent))
    try:
        (unfinished / HEADER).write_bytes(header)
        (unfinished / PIXELS).write_bytes(imagecodecs.gzip_encode(pixels, level=0 if compress_later else 1))
        unfinished.chmod(0o755)
        _put(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return entry_sha256


def _is_whole(root: Path, file_sha256: str, entry_sha256: str) -> bool:
    try:
        load(root, file_sha256, entry_sha256)
    except (NotFound, Damaged):
        return False
    return True


def _put(new: Path, folder: Path) -> None:
    """`new` in the place of `folder`, whatever is there."""
    while True:
        try:
            os.rename(new, folder)
            return
        except OSError:
            if not folder.exists():
                raise
        old = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=folder.parent))
        try:
            os.rename(folder, old)
        except FileNotFoundError:
            continue  # somebody else has just taken it away, to put the same entry there
        finally:
            shutil.rmtree(old, ignore_errors=True)


def loose(root: Path) -> list[str]:
    """Films whose pixels are not compressed yet."""
    return sorted(path.name for path in (root / LOOSE).iterdir()) if (root / LOOSE).is_dir() else []


def compress_loose(root: Path, file_sha256: str) -> None:
    """Compress what `save` left loose. Whoever reads the entry meanwhile gets one or the other, and equal pixels."""
    target = pixels_gzip_path(root, file_sha256)
    unfinished = target.with_name(f"{target.name}.unfinished-{os.getpid()}")
    try:
        data = imagecodecs.gzip_decode(target.read_bytes())
        unfinished.write_bytes(imagecodecs.gzip_encode(data, level=1))
        os.replace(unfinished, target)
    except (FileNotFoundError, *NO_GZIP):  # refused after all, or damaged: whoever opens it is told
        pass
    finally:
        unfinished.unlink(missing_ok=True)
    (root / LOOSE / file_sha256).unlink(missing_ok=True)


def load(root: Path, file_sha256: str, entry_sha256: str | None = None) -> Film:
    """The film kept under this hash. Raises NotFound where there is none, Damaged where it is not `entry_sha256`."""
    header = read_header(root, file_sha256, entry_sha256)
    return film_from(header, _checked_pixels(header, _read_gzip(root, file_sha256)))


def load_without_pixels(root: Path, file_sha256: str, entry_sha256: str | None = None) -> Film:
    """The film with its pixels all zero and taking no memory: for pages that need the facts only. Raises as `load`."""
    header = read_header(root, file_sha256, entry_sha256)
    blank = np.broadcast_to(np.zeros((), header["dtype"]), header["shape"])
    return _film(header, blank)


def load_gzip(root: Path, file_sha256: str, entry_sha256: str | None = None) -> bytes:
    """What a viewer downloads: the pixels, compressed. Raises as `load`."""
    compressed = _read_gzip(root, file_sha256)
    _checked_pixels(read_header(root, file_sha256, entry_sha256), compressed)
    return compressed


def _read_gzip(root: Path, file_sha256: str) -> bytes:
    try:
        return pixels_gzip_path(root, file_sha256).read_bytes()
    except FileNotFoundError:
        if exists(root, file_sha256):
            raise Damaged(f"{PIXELS} is missing") from None
        raise NotFound(f"no decoded film for the file {file_sha256[:12]}...") from None


def _checked_pixels(header: dict[str, Any], compressed: bytes) -> bytes | bytearray:
    size = math.prod(header["shape"]) * np.dtype(header["dtype"]).itemsize
    try:
        data = imagecodecs.gzip_decode(compressed, out=size)  # libdeflate: twice as fast as the standard library
    except NO_GZIP:
        raise Damaged(f"{PIXELS} cannot be unpacked") from None
    if hashlib.sha256(data).hexdigest() != header["pixels_sha256"]:
        raise Damaged(f"{PIXELS} is not what was stored")
    return data


def exists(root: Path, file_sha256: str) -> bool:
    return entry_folder(root, file_sha256).exists()


def pixels_gzip_path(root: Path, file_sha256: str) -> Path:
    """The file a viewer downloads. It need not exist."""
    return entry_folder(root, file_sha256) / PIXELS


def entry_folder(root: Path, file_sha256: str) -> Path:
    if not HASH.fullmatch(file_sha256):
        raise ValueError("a film is kept under the SHA-256 of its file: 64 hexadecimal digits")
    return root / file_sha256[:2] / file_sha256


def read_header(root: Path, file_sha256: str, entry_sha256: str | None = None) -> dict[str, Any]:
    try:
        text = (entry_folder(root, file_sha256) / HEADER).read_bytes()
    except FileNotFoundError:
        if exists(root, file_sha256):
            raise Damaged(f"{HEADER} is missing") from None
        raise NotFound(f"no decoded film for the file {file_sha256[:12]}...") from None
    if entry_sha256 is not None and hashlib.sha256(text).hexdigest() != entry_sha256:
        raise Damaged(f"{HEADER} is not what was stored")
    header = json.loads(text)
    if header["format_version"] != FORMAT_VERSION:
        raise NotFound(f"the decoded film of the file {file_sha256[:12]}... is of another version: decode it again")
    return header


def film_header(film: Film) -> dict[str, Any]:
    """Everything but the pixels, as JSON can say it."""
    header = {
        field.name: getattr(film, field.name)
        for field in dataclasses.fields(Film)
        if field.name not in ("pixels", "vois", "tags")
    }
    tags = dataclasses.asdict(film.tags)
    for name, value in tags.items():
        if isinstance(value, date):
            tags[name] = value.isoformat()
    return header | {
        "format_version": FORMAT_VERSION,
        "shape": list(film.pixels.shape),
        "dtype": stored_dtype(film).str,
        "vois": [_voi_json(voi) for voi in film.vois],
        "tags": tags,
    }


def pixel_bytes(film: Film) -> bytes:
    return np.ascontiguousarray(film.pixels, stored_dtype(film)).tobytes()


def stored_dtype(film: Film) -> np.dtype:
    return np.dtype("u1" if film.is_colour else "<u2")


def film_from(header: dict[str, Any], data: bytes | bytearray) -> Film:
    """The film of a header and its pixels' bytes. Raises ValueError where they do not fit each other."""
    return _film(header, np.frombuffer(data, header["dtype"]).reshape(header["shape"]))


def _film(header: dict[str, Any], pixels: np.ndarray) -> Film:
    tags = dict(header["tags"])
    for name in ("patient_birth_date", "acquired_on"):
        tags[name] = date.fromisoformat(tags[name]) if tags[name] else None
    tags["image_type"] = tuple(tags["image_type"])
    spacing = header["spacing_mm"]
    return Film(
        pixels=pixels,
        source_format=header["source_format"],
        vois=tuple(_voi_from(voi) for voi in header["vois"]),
        inverted=header["inverted"],
        background=header["background"],
        slope=header["slope"],
        intercept=header["intercept"],
        spacing_mm=(spacing[0], spacing[1]) if spacing else None,
        spacing_source=header["spacing_source"],
        warnings=tuple(header["warnings"]),
        tags=FilmTags(**tags),
    )


def _voi_json(voi: Voi) -> dict[str, Any]:
    out = dataclasses.asdict(voi)
    if voi.lut is not None:
        out["lut"] = base64.b64encode(voi.lut.tobytes()).decode("ascii")
    return out


def _voi_from(voi: dict[str, Any]) -> Voi:
    lut = voi["lut"]
    return Voi(**voi | {"lut": np.frombuffer(base64.b64decode(lut), np.uint8) if lut is not None else None})
