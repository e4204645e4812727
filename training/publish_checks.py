"""What may leave with a model: weights in safetensors or GGUF, JSON, a tokenizer. Everything else is a reason to stop.

The rules say what is allowed, so that what nobody thought of is refused. JSON and the weights' own metadata are
searched for what would tell of a patient or of this machine."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from engine.errors import PediScreenError

NEEDED = ("config.json", "reading.json", "parity.json")
ALLOWED_SUFFIXES = {".safetensors", ".json", ".jinja", ".gguf"}
ALLOWED_NAMES = {"tokenizer.model"}
FOLDERS = {"gguf"}
LEFT_OUT = {"bf16"}  # the merged weights in full precision, kept for converting, not for deploying
WRITTEN_ANEW = {"README.md", "NOTICE"}
VOCABULARY = {"tokenizer.json", "vocab.json", "added_tokens.json", "special_tokens_map.json"}  # any word may be in it

PATIENT_KEYS = {
    *("patient", "patients", "patient_id", "patient_name", "patient_key", "patient_sex", "patient_birth_date"),
    *("birth_date", "date_of_birth", "dob", "mrn", "accession", "accession_number", "reader", "reviewed_at"),
    *("study_instance_uid", "series_instance_uid", "sop_instance_uid", "study_uid", "sop_uid"),
    *("image_path", "image_sha256", "pixel_sha256"),
}
SECRET_KEYS = {"token", "hf_token", "password", "api_key", "secret"}
DICOM_UID = re.compile(r"(?<![\d.])[0-2](?:\.(?:0|[1-9]\d*)){5,}(?![\d.])")
ABSOLUTE_PATH = re.compile(r"(?:^|[\s'\"=(:])(?:/[\w.@-]+(?:/[\w.@-]+)+|[A-Za-z]:\\|\\\\\w|file://|~/)")
EMAIL = re.compile(r"\b[\w.+-]+@[\w-]+\.[\w.]{2,}\b")
HUB_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{20,}\b")
PICKLE_MAGIC = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")
GGUF_STRINGS = 8  # gguf.GGUFValueType.STRING


class PublishRefused(PediScreenError):
    """Why nothing was published."""


def files_to_publish(folder: Path) -> dict[str, Path]:
    """Every file that goes, by its name in the repository. Raises PublishRefused with all reasons not to."""
    if not folder.is_dir():
        raise PublishRefused(f"There is no folder {folder}.")
    missing = [name for name in NEEDED if not (folder / name).is_file()]
    if missing:
        raise PublishRefused(f"{folder} holds no {', '.join(missing)}: pass a folder that radiology_merge made.")
    files: dict[str, Path] = {}
    problems: list[str] = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name.split("/")[0] in LEFT_OUT or name in WRITTEN_ANEW:
            continue
        found = list(_problems(path, name))
        problems += [f"{name}: {problem}" for problem in found]
        if path.is_file():
            files[name] = path
    if not any(name.endswith(".safetensors") for name in files):
        problems.append("there are no weights in safetensors")
    if problems:
        more = f"; and {len(problems) - 10} more" if len(problems) > 10 else ""
        raise PublishRefused(f"{folder} may not be published: {'; '.join(problems[:10])}{more}")
    return files


def _problems(path: Path, name: str) -> Iterator[str]:
    if path.is_symlink():
        yield "a link; copy the file itself"
        return
    if path.is_dir():
        if name not in FOLDERS:
            yield "a folder that does not belong to a model"
        return
    if path.name not in ALLOWED_NAMES and path.suffix not in ALLOWED_SUFFIXES:
        yield "not a kind of file a model is made of"
        return
    with path.open("rb") as file:
        start = file.read(132)
    if start.startswith(PICKLE_MAGIC):
        yield "a pickle or archive"
    elif start[128:132] == b"DICM":
        yield "a DICOM file"
    elif path.suffix == ".safetensors":
        yield from _in_safetensors(path)
    elif path.suffix == ".gguf":
        yield from _in_gguf(path, start)
    elif path.suffix == ".json":
        yield from _in_json(path)
    elif path.suffix == ".jinja":
        yield from _in_text("", path.read_text(encoding="utf-8", errors="replace"))


def _in_safetensors(path: Path) -> Iterator[str]:
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
    except SafetensorError as error:
        yield f"not safetensors: {error}"
        return
    yield from _in_value("", metadata)


def _in_gguf(path: Path, start: bytes) -> Iterator[str]:
    if not start.startswith(b"GGUF"):
        yield "not GGUF"
        return
    try:
        import gguf
    except ImportError:
        yield "cannot be checked without the extra: pip install 'pediscreen[gguf]'"
        return
    for key, entry in gguf.GGUFReader(path).fields.items():
        if not key.startswith("tokenizer.") and GGUF_STRINGS in entry.types:
            yield from _in_value(key, entry.contents())


def _in_json(path: Path) -> Iterator[str]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        yield f"not JSON: {error}"
        return
    if path.name not in VOCABULARY:
        yield from _in_value("", value)


def _in_value(key: str, value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, item in value.items():
            lower = str(name).lower()
            if lower in PATIENT_KEYS and item not in (None, "", [], {}):
                yield f"field {name} tells of a patient, an image or a reader"
            elif lower in SECRET_KEYS and isinstance(item, str) and item:
                yield f"field {name} may be a secret"
            elif lower in ("auto_map", "custom_pipelines"):
                yield f"field {name} makes loading run code"
            else:
                yield from _in_text(str(name), str(name))
                yield from _in_value(str(name), item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _in_value(key, item)
    elif isinstance(value, str):
        yield from _in_text(key, value)


def _in_text(key: str, text: str) -> Iterator[str]:
    where = f"field {key}: " if key else ""
    for pattern, what in (
        (ABSOLUTE_PATH, "a path of this machine"),
        (DICOM_UID, "a DICOM UID"),
        (EMAIL, "an e-mail address"),
        (HUB_TOKEN, "a hub token"),
    ):
        if pattern.search(text):
            yield f"{where}{what}"
