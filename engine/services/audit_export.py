"""The audit log, or a part of it, as a table and as FHIR. Each export is a row of the log."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from enum import StrEnum
from typing import Any

from sqlalchemy.orm import Session

from db.models import AuditEvent
from db.repositories import audit as repository
from db.repositories.audit import AuditQuery
from db.session import writing
from db.types import utc_now
from engine.csv_cells import harmless
from engine.errors import Refused
from engine.interop import audit_event
from engine.services import audit
from engine.services.accounts import Actor, require

MOST_ROWS = 100_000
COLUMNS = ("row", "time_utc", "who", "what", "subject", "from", "detail", "seal", "previous_hash", "hash")


class Format(StrEnum):
    CSV = "csv"
    FHIR = "fhir"


def export(session: Session, actor: Actor, query: AuditQuery, format: Format) -> str:
    """The rows that `query` asks for, the earliest first. Records the export; commits. Admins only. Raises Refused for
    more than MOST_ROWS rows."""
    require(actor)
    _, total = repository.events_page(session, query, 0, 1)
    if total > MOST_ROWS:
        raise Refused("too_many", f"{total:,} rows are too many for one export of {MOST_ROWS:,}: choose a shorter time")
    text = _AS[format](repository.events(session, query))
    with writing(session):
        detail = {"format": format.value, "rows": total, "filter": query.as_json()}
        audit.record(session, actor, "audit.exported", "audit:log", detail)
    return text


def _as_csv(rows: Iterable[AuditEvent]) -> str:
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n").writerow
    write(COLUMNS)
    for row in rows:
        said = json.dumps(row.detail, ensure_ascii=False, sort_keys=True)
        values = (row.at.isoformat(), row.actor, row.action, row.subject, row.origin, said)
        write([row.id, *map(harmless, values), row.seal, row.previous_hash, row.hash])
    return out.getvalue()


def _as_fhir(rows: Iterable[AuditEvent]) -> str:
    found: dict[str, Any] = audit_event.bundle(rows, made_at=utc_now())
    return json.dumps(found, ensure_ascii=False, indent=1)


_AS = {Format.CSV: _as_csv, Format.FHIR: _as_fhir}
