"""Who is who in a de-identified export: encrypted, for its owner alone.

Fernet (AES-128-CBC with HMAC-SHA256), its key from a passphrase or the content of a key file by scrypt (RFC 7914)."""

from __future__ import annotations

import base64
import json
import os
import secrets
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from engine.errors import Refused

SHORTEST_SECRET_BYTES = 12
SCRYPT = {"n": 2**16, "r": 8, "p": 1}  # 64 MB and about a quarter of a second a guess
FORMAT = {"format": "pediscreen-crosswalk", "format_version": 1}


def write(path: Path, rows: list[dict[str, Any]], secret: bytes) -> None:
    """Readable and writable by the owner alone. Raises Refused: weak_secret, file_exists."""
    check_secret(secret)
    salt = secrets.token_bytes(16)
    token = _fernet(secret, salt).encrypt(json.dumps(rows, ensure_ascii=False).encode())
    content = {**FORMAT, "kdf": "scrypt", **SCRYPT, "salt": base64.b64encode(salt).decode(), "token": token.decode()}
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise Refused("file_exists", f"{path} is there already: a crosswalk replaces no other file.") from None
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)


def read(path: Path, secret: bytes) -> list[dict[str, Any]]:
    """Raises Refused: not_a_crosswalk, wrong_secret."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        salt, token = base64.b64decode(content["salt"]), content["token"]
        if {name: content[name] for name in FORMAT} != FORMAT:
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError):
        raise Refused("not_a_crosswalk", f"{path} is not a crosswalk of this workstation.") from None
    try:
        return json.loads(_fernet(secret, salt).decrypt(token))
    except InvalidToken:
        raise Refused(
            "wrong_secret", "The passphrase or key file is not the one that this crosswalk was made with."
        ) from None


def check_secret(secret: bytes) -> None:
    """Raises Refused("weak_secret")."""
    if len(secret) < SHORTEST_SECRET_BYTES:
        raise Refused("weak_secret", f"The passphrase or key file needs at least {SHORTEST_SECRET_BYTES} characters.")


def _fernet(secret: bytes, salt: bytes) -> Fernet:
    return Fernet(base64.urlsafe_b64encode(Scrypt(salt=salt, length=32, **SCRYPT).derive(secret)))
