"""Hashes of rows that are only ever added, or of their columns that never change: the audit row that says how one came
about carries its hash, so that a change made in the database itself is noticed (`pediscreen audit verify`)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Column, Float, select
from sqlalchemy.orm import Session

from db.audit_chain import as_stored
from db.models import Base, BlindAnswer, BlindRead, DataSet, Deployment, Image, ModelVersion, Prediction, Review

ALL = ()
FIXED_COLUMNS: Mapping[type[Base], tuple[str, ...]] = {
    Prediction: ALL,
    Review: ALL,
    BlindRead: ALL,
    BlindAnswer: ALL,
    Deployment: ALL,
    DataSet: ALL,
    Image: ("id", "file_sha256", "pixel_sha256", "film_sha256", "sop_instance_uid"),
    ModelVersion: ("id", "name", "folder", "folder_sha256", "is_phantom"),
}
TABLES = {model.__tablename__: model for model in FIXED_COLUMNS}


def fixed(row: Base) -> dict[str, Any]:
    """What an audit row says of `row`, which has been flushed."""
    values = {column.key: getattr(row, column.key) for column in _columns(type(row))}
    return {"table": row.__tablename__, "id": row.id, "sha256": _sha256(type(row), values)}  # type: ignore[attr-defined]


def hashes(session: Session, table: str, many: int = 2000) -> Iterator[tuple[int, str]]:
    """The id and the hash of every row of `table`, as it stands now."""
    model = TABLES[table]
    columns, after_id = _columns(model), 0
    identity = model.__table__.c.id
    while True:
        rows = session.execute(select(*columns).where(identity > after_id).order_by(identity).limit(many)).mappings()
        found = [dict(row) for row in rows]
        for values in found:
            yield values["id"], _sha256(model, values)
        if len(found) < many:
            return
        after_id = found[-1]["id"]


def _columns(model: type[Base]) -> list[Column[Any]]:
    names = FIXED_COLUMNS[model] or model.__table__.columns.keys()
    return [model.__table__.columns[name] for name in names]


def _sha256(model: type[Base], values: Mapping[str, Any]) -> str:
    said = {column.key: _plain(column, values[column.key]) for column in _columns(model)}
    text = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _plain(column: Column[Any], value: Any) -> Any:
    """The same before a row is stored and after, on every database."""
    if value is None:
        return None
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(column.type, Float):
        return float(value)
    return as_stored({"value": value})["value"] if isinstance(value, dict | list | tuple) else value
