"""To a FHIR R4 server: one transaction, all of it or nothing, with conditional updates (http.html#transaction)."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from engine.interop.destinations import Destination
from engine.interop.documents import Document
from engine.interop.sending import DeliveryRefused, NotDelivered
from engine.interop.sending.http import HttpAnswer, post

FHIR_JSON = "application/fhir+json"
LONGEST_REASON = 300


def send(destination: Destination, document: Document, identifying: Collection[str]) -> str:
    """`identifying`: what must not stand in a message, should the server repeat it. Raises NotDelivered,
    DeliveryRefused."""
    answer = post(destination, "", document.content, FHIR_JSON, FHIR_JSON)
    parts = len(json.loads(document.content)["entry"])
    said = _json(answer)
    if answer.status == 409:  # http.html#concurrency
        raise NotDelivered("somebody else changes the same record at this moment (HTTP 409)")
    if answer.status >= 300:
        raise DeliveryRefused(f"it refuses the report (HTTP {answer.status}){_outcome(said, identifying)}")
    if said.get("resourceType") != "Bundle":
        raise NotDelivered("it answers with something else than what a FHIR server says to a transaction")
    entries = [entry.get("response") or {} for entry in said.get("entry") or [] if isinstance(entry, dict)]
    statuses = [str(response.get("status", "")) for response in entries]
    if len(entries) != parts or not all(status.startswith("2") for status in statuses):
        raise DeliveryRefused(f"it acknowledges {_counted(statuses)} of {parts} parts of the report")
    report = next((str(one["location"]) for one in entries if "DiagnosticReport/" in str(one.get("location"))), None)
    return f"{destination.host}{f' ({report[-120:]})' if report else ''}"


def _counted(statuses: list[str]) -> int:
    return sum(status.startswith("2") for status in statuses)


def _json(answer: HttpAnswer) -> dict[str, Any]:
    try:
        said = json.loads(answer.body)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _outcome(said: dict[str, Any], identifying: Collection[str]) -> str:
    """What an OperationOutcome says of its errors, without what names the child."""
    if said.get("resourceType") != "OperationOutcome":
        return ""
    texts = []
    for issue in said.get("issue") or []:
        if isinstance(issue, dict) and issue.get("severity") in ("fatal", "error"):
            details = issue.get("details")
            text = issue.get("diagnostics") or (details.get("text") if isinstance(details, dict) else None)
            texts.append(str(text or issue.get("code") or "no reason given"))
    plain = "".join(character if character.isprintable() else " " for character in "; ".join(texts))
    return f": {without(plain, identifying)[:LONGEST_REASON]}" if plain else ""


def without(text: str, identifying: Collection[str]) -> str:
    """`text` with everything identifying left out, whatever its case."""
    for value in sorted({value for value in identifying if len(value.strip()) > 1}, key=len, reverse=True):
        lower = text.lower()
        while (at := lower.find(value.lower())) >= 0:
            text = text[:at] + "…" + text[at + len(value) :]
            lower = text.lower()
    return text
