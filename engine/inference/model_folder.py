"""A model's folder, before anything of it is loaded: what it may hold, its hash, and the name its reads carry.

Knows no torch, so that pages and services may ask."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from engine.errors import ModelUnavailable
from engine.settings import model_dir

# Data only. A pickle or a Python file is a program that loading could run, a template is one that reading could.
SUFFIXES = (".safetensors", ".json")
NAMES = ("tokenizer.model",)
CONFIG_FILE, CARD_FILE = "config.json", "reading.json"
GGUF_FILE = "model-Q4_K_M.gguf"  # its folder is read through llama.cpp: engine.inference.gguf
FINGERPRINT_BYTES = 1 << 25  # of each weight file; the phantom model's whole


@dataclass(frozen=True)
class ReadingCard:
    """reading.json beside the weights: what this model may be used for. A model without one gets the defaults."""

    name: str
    is_phantom: bool = False
    knows_triage: bool = False  # trained to say which view an image shows

    @classmethod
    def of(cls, folder: Path, model: str) -> ReadingCard:
        """`model`: the name where the folder is not one, or has no card."""
        file = folder / CARD_FILE
        if not file.is_file():
            return cls(name=folder.name if folder.is_dir() else model)
        return cls(**json.loads(file.read_text(encoding="utf-8")))


def version_name(folder: Path) -> str:
    """What the reads of the model in `folder` carry: stable, and another for other weights."""
    name = ReadingCard.of(folder, folder.name).name
    return f"{name} gguf ({fingerprint(folder, '*.gguf')})" if is_gguf(folder) else f"{name} ({fingerprint(folder)})"


def is_gguf(folder: Path) -> bool:
    return (folder / GGUF_FILE).is_file()


def adapted_name(version: str, adapter: Path) -> str:
    return f"{version} + {adapter.parent.name or adapter.name} ({fingerprint(adapter)})"


def configured_name(model: str, adapter: Path | None) -> str:
    """What the reads of PEDISCREEN_MODEL with LORA_ADAPTER_PATH will carry, found without loading it."""
    folder = model_dir(model)
    version = version_name(folder) if folder.is_dir() else model
    return adapted_name(version, adapter) if adapter is not None and adapter.is_dir() else version


def configured_is_phantom(model: str) -> bool | None:
    """Of PEDISCREEN_MODEL; None for a name on the hub, whose card is read when it is loaded."""
    folder = model_dir(model)
    return ReadingCard.of(folder, model).is_phantom if folder.is_dir() else None


def fingerprint(folder: Path, files: str = "*.safetensors") -> str:
    """Eight hex digits that change with the weights: names, sizes and beginnings of the `files` in `folder`."""
    found = [(file, file.stat()) for file in sorted(folder.glob(files))]
    return _fingerprint(tuple((file, of.st_size, of.st_mtime_ns) for file, of in found))


@lru_cache(maxsize=16)  # pages name the configured model on every run
def _fingerprint(files: tuple[tuple[Path, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for file, size, _ in files:
        digest.update(f"{file.name} {size}".encode())
        with file.open("rb") as weights:
            digest.update(weights.read(FINGERPRINT_BYTES))
    return digest.hexdigest()[:8]


def sha256_of(folder: Path, *, without: str | None = None) -> str:
    """Over the names and contents of all files below `folder` but `without`, in the order of their names."""
    digest = hashlib.sha256()
    for file in sorted(path for path in folder.rglob("*") if not path.is_dir() and path != folder / (without or "")):
        with file.open("rb") as content:
            of_file = hashlib.file_digest(content, "sha256").hexdigest()
        digest.update(f"{file.relative_to(folder).as_posix()}\0{of_file}\n".encode())
    return digest.hexdigest()


def check(folder: Path) -> None:
    """Raises ModelUnavailable unless `folder` is a flat folder of safetensors and JSON files with a config.json."""
    if folder.is_symlink() or not folder.is_dir():
        raise ModelUnavailable(f"The model folder {folder.name} is missing.")
    for path in sorted(folder.iterdir()):
        if path.is_symlink() or not path.is_file():
            raise ModelUnavailable(f"The model folder {folder.name} holds {path.name}, which is not a plain file.")
        if path.suffix not in SUFFIXES and path.name not in NAMES:
            raise ModelUnavailable(
                f"The model folder {folder.name} holds {path.name}; only safetensors and JSON files are loaded, as "
                "others could run a program."
            )
        if path.name.endswith(CONFIG_FILE) and b'"auto_map"' in path.read_bytes():
            raise ModelUnavailable(
                f"{path.name} in the model folder {folder.name} names code to be run (auto_map), and none is."
            )
    if not (folder / CONFIG_FILE).is_file():
        raise ModelUnavailable(f"The model folder {folder.name} holds no {CONFIG_FILE}.")


def verify(folder: Path, sha256: str) -> None:
    """Raises ModelUnavailable unless `folder` may be loaded and still is what it was when its hash was taken."""
    check(folder)
    try:
        found = sha256_of(folder)
    except OSError as error:
        raise ModelUnavailable(f"The model folder {folder.name} cannot be read: {error}") from error
    if found != sha256:
        raise ModelUnavailable(
            f"The files in the model folder {folder.name} are not the ones that were registered (hash {found[:12]} "
            f"instead of {sha256[:12]}): they were changed or damaged. Restore the folder from a backup, or use "
            "another model."
        )
