"""Audit rows as FHIR R4B AuditEvent (https://hl7.org/fhir/R4B/auditevent.html), for a hospital's audit repository.

What happened is said in the codes of DICOM's audit messages (PS3.16 CID 400, as PS3.15 A.5 uses them); which of ours is
which of theirs is this project's own choice, unverified. Who and what keep the names they have here."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping
from datetime import datetime
from ipaddress import ip_address
from typing import Any, Protocol

DCM = "http://dicom.nema.org/resources/ontology/DCM"
USER, SUBJECT, ACTION = "urn:pediscreen:user", "urn:pediscreen:subject", "urn:pediscreen:audit-action"
NAMESPACE = uuid.UUID("6f0c8e0e-58f5-4d0c-a8c2-7f1f0c1e9a11")  # of the ids of entries, made from a row's hash

# PS3.16 CID 400
AUDIT_LOG_USED = ("110101", "Audit Log Used")
INSTANCES_ACCESSED = ("110103", "DICOM Instances Accessed")
EXPORT = ("110106", "Export")
IMPORT = ("110107", "Import")
PATIENT_RECORD = ("110110", "Patient Record")
SECURITY_ALERT = ("110113", "Security Alert")
USER_AUTHENTICATION = ("110114", "User Authentication")
APPLICATION_ACTIVITY = ("110100", "Application Activity")

TYPE_OF_KIND = {
    "audit": AUDIT_LOG_USED,
    "study": INSTANCES_ACCESSED,
    "image": INSTANCES_ACCESSED,
    "adjudication": INSTANCES_ACCESSED,
    "export": EXPORT,
    "report": EXPORT,
    "ingest": IMPORT,
    "review": PATIENT_RECORD,
    "read": PATIENT_RECORD,
    "blind_read": PATIENT_RECORD,
    "blind_answer": PATIENT_RECORD,
    "facts": PATIENT_RECORD,
    "growth": PATIENT_RECORD,
    "patient": PATIENT_RECORD,
    "access": SECURITY_ALERT,
    "login": USER_AUTHENTICATION,
    "sign_in": USER_AUTHENTICATION,
}
READ, CREATED, EXECUTED = "R", "C", "E"  # http://hl7.org/fhir/audit-event-action
CREATES = {"recorded", "entered", "accepted", "made", "given", "imported", "written", "left", "added"}
SUCCESS, MINOR_FAILURE = "0", "4"  # http://hl7.org/fhir/audit-event-outcome
FAILED = {"refused", "failed"}


class Row(Protocol):
    id: int
    at: datetime
    actor: str
    action: str
    subject: str
    detail: Mapping[str, Any]
    origin: str
    hash: str


def bundle(rows: Iterable[Row], *, made_at: datetime) -> dict[str, Any]:
    """A collection with one AuditEvent a row, in the rows' order."""
    entries = [{"fullUrl": f"urn:uuid:{_uuid(row)}", "resource": audit_event(row)} for row in rows]
    whole = {"resourceType": "Bundle", "type": "collection", "timestamp": made_at.isoformat(timespec="seconds")}
    return whole | ({"entry": entries} if entries else {})


def audit_event(row: Row) -> dict[str, Any]:
    kind, _, verb = row.action.partition(".")
    code, display = TYPE_OF_KIND.get(kind, APPLICATION_ACTIVITY)
    said = {**row.detail, "audit_row": row.id, "audit_hash": row.hash}
    agent: dict[str, Any] = {"who": {"identifier": {"system": USER, "value": row.actor}}, "requestor": True}
    if row.origin:
        agent["network"] = {"address": row.origin, "type": "2" if _is_address(row.origin) else "1"}
    return {
        "resourceType": "AuditEvent",
        "id": _uuid(row),
        "type": {"system": DCM, "code": code, "display": display},
        "subtype": [{"system": ACTION, "code": row.action}],
        "action": READ if verb in ("viewed", "exported") else CREATED if verb in CREATES else EXECUTED,
        "recorded": row.at.isoformat(timespec="milliseconds"),
        "outcome": MINOR_FAILURE if verb in FAILED else SUCCESS,
        "agent": [agent],
        "source": {"observer": {"display": "PediScreen"}},
        "entity": [
            {
                "what": {"identifier": {"system": SUBJECT, "value": row.subject}},
                "detail": [{"type": name, "valueString": _text(value)} for name, value in said.items()],
            }
        ],
    }


def _uuid(row: Row) -> str:
    return str(uuid.uuid5(NAMESPACE, row.hash))


def _text(value: Any) -> str:
    return value if isinstance(value, str) and value else json.dumps(value, sort_keys=True)


def _is_address(origin: str) -> bool:
    try:
        ip_address(origin)
    except ValueError:
        return False
    return True
