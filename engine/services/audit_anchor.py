"""The anchor: the end of the audit chain as it was a moment ago, in a file outside the database.

A chain from which the last rows are cut is whole in itself; only something that remembers how far it went can tell.
The file lies in the data folder (`audit.anchor`) and is written anew about once a minute. It is never moved on over an
end that is not there any more: it then stays as it is, as the evidence."""

from __future__ import annotations

import hmac
import json
import logging
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.orm import Session

from db.audit_chain import End
from db.models import AuditEvent
from db.types import utc_now
from engine.settings import settings

log = logging.getLogger(__name__)

NAME = "audit.anchor"
WRITE_EVERY_S = 60.0
_written: dict[Path, float] = {}  # when this process last wrote it, by the clock that never jumps


@dataclass(frozen=True)
class Anchor:
    id: int
    hash: str
    at: str  # when it was written
    mac: str | None = None  # of the above, with the audit key where there is one


def path() -> Path:
    return settings().data_dir / NAME


def read(key: bytes | None) -> Anchor | None:
    """None: there is no such file. Raises ValueError for one that was changed."""
    try:
        anchor = Anchor(**json.loads(path().read_text(encoding="ascii")))
    except FileNotFoundError:
        return None
    except (TypeError, UnicodeDecodeError) as error:
        raise ValueError("it is not what this program writes") from error
    if key is not None and anchor.mac is not None and not hmac.compare_digest(anchor.mac, _mac(anchor, key)):
        raise ValueError("it does not carry the seal of the audit key")
    return anchor


def trouble(session: Session, key: bytes | None) -> tuple[str, int | None] | None:
    """What is wrong between the anchor and the chain, and at which row; None: the row it names is still there."""
    try:
        anchor = read(key)
    except ValueError as error:
        return f"the anchor {path().name} was changed: {error}", None
    if anchor is None:
        return None
    row = session.get(AuditEvent, anchor.id, populate_existing=True)
    if row is None:
        return f"the end was cut off: on {anchor.at[:16]} UTC there was a row {anchor.id}, and it is gone", anchor.id
    if row.hash != anchor.hash:
        return f"row {anchor.id} is another one than on {anchor.at[:16]} UTC: the chain was made anew", anchor.id
    return None


def write_if_due(
    session: Session, find_last: Callable[[], End | None], key: bytes | None, *, now: bool = False
) -> None:
    """Write down with which row the chain, as committed, ends. `now`: whether it is due or not. Of another database
    than this workstation's, nothing."""
    file, clock = path(), time.monotonic()
    if not now and clock - _written.get(file, -WRITE_EVERY_S) < WRITE_EVERY_S:
        return
    if session.get_bind().url != make_url(settings().database_url):
        return
    last = find_last()
    if last is None:
        return
    _written[file] = clock
    wrong = trouble(session, key)
    if wrong is not None:
        log.error("audit log: %s. `pediscreen audit verify` says more; the anchor is kept as it is", wrong[0])
        return
    before = read(key)
    if before is not None and before.id >= last.id:
        return
    anchor = Anchor(last.id, last.hash, utc_now().isoformat(timespec="seconds"))
    if key is not None:
        anchor = Anchor(anchor.id, anchor.hash, anchor.at, _mac(anchor, key))
    unfinished = file.with_name(f".{file.name}-{uuid.uuid4().hex[:8]}")
    try:
        with unfinished.open("x", encoding="ascii") as out:
            json.dump(asdict(anchor), out)
            out.flush()
            os.fsync(out.fileno())
        os.replace(unfinished, file)
    except OSError as error:  # a full disk: what is being recorded counts for more than the anchor
        log.error("audit log: the anchor could not be written: %s", error.strerror)
        unfinished.unlink(missing_ok=True)


def _mac(anchor: Anchor, key: bytes) -> str:
    return hmac.digest(key, f"{anchor.id} {anchor.hash} {anchor.at}".encode("ascii"), "sha256").hex()
