"""To a DICOMweb server, by STOW-RS (PS3.18 10.5)."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Sequence
from typing import Any

from engine.interop.destinations import Destination
from engine.interop.documents import Document
from engine.interop.sending import DUPLICATE, DeliveryRefused, NotDelivered, is_passing
from engine.interop.sending.http import HttpAnswer, post

FAILED_SOP_SEQUENCE, REFERENCED_SOP_SEQUENCE = "00081198", "00081199"
FAILURE_REASON, WARNING_REASON, SOP_INSTANCE_UID = "00081197", "00081196", "00081155"


def send(destination: Destination, documents: Sequence[Document]) -> str:
    """Raises NotDelivered, DeliveryRefused."""
    boundary = f"pediscreen-{secrets.token_hex(16)}"
    body = b"".join(
        f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode() + one.content + b"\r\n" for one in documents
    )
    answer = post(
        destination,
        "/studies",
        body + f"--{boundary}--\r\n".encode(),
        f'multipart/related; type="application/dicom"; boundary={boundary}',
        "application/dicom+json",
    )
    remarks = _checked(answer, [one.uid for one in documents])
    return f"{destination.host} (HTTP {answer.status}){'; ' + '; '.join(remarks) if remarks else ''}"


def _checked(answer: HttpAnswer, uids: Sequence[str]) -> list[str]:
    """Remarks of the server. 200: all stored; 202: some not, or with remarks; 409 and others: none (table 10.5.3-1)."""
    said = _json(answer.body)
    not_taken = dict(_reasons(said, FAILED_SOP_SEQUENCE, FAILURE_REASON))
    failed = {uid: reason for uid, reason in not_taken.items() if reason != DUPLICATE}
    if failed:
        reason = next(iter(failed.values()))
        if is_passing(reason):
            raise NotDelivered(f"it cannot keep the report now (failure reason 0x{reason:04X})")
        raise DeliveryRefused(f"it refuses the report (failure reason 0x{reason:04X})")
    if answer.status >= 300:
        raise DeliveryRefused(f"it refuses the report (HTTP {answer.status})")
    kept = dict(_reasons(said, REFERENCED_SOP_SEQUENCE, WARNING_REASON))
    there = kept.keys() | not_taken.keys()  # of the latter only duplicates are left
    missing = [uid for uid in uids if uid not in there]
    if missing:
        raise NotDelivered(f"it acknowledges {len(uids) - len(missing)} of {len(uids)} objects")
    return sorted({f"kept with the remark 0x{reason:04X}" for reason in kept.values() if reason})


def _json(body: bytes) -> dict[str, Any]:
    """{} where the server answers without a body, or with one that is no DICOM JSON."""
    try:
        said = json.loads(body)
    except ValueError:
        return {}
    if isinstance(said, list) and said:
        said = said[0]
    return said if isinstance(said, dict) else {}


def _reasons(said: dict[str, Any], sequence: str, reason: str) -> Iterator[tuple[str, int]]:
    for item in (said.get(sequence) or {}).get("Value") or []:
        uid, why = _first(item, SOP_INSTANCE_UID), _first(item, reason)
        if isinstance(uid, str):
            yield uid, why if isinstance(why, int) else 0


def _first(item: Any, tag: str) -> Any:
    values = (item.get(tag) or {}).get("Value") if isinstance(item, dict) else None
    return values[0] if values else None
