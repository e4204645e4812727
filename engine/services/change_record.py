"""The record of a change of model: what changed, how it was judged, who signed. Markdown and PDF."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from engine.promotion_gate import Decision

FILE_NAME = "change-record.md"
PDF_NAME = "change-record.pdf"


@dataclass(frozen=True)
class Signature:
    username: str
    display_name: str
    at: datetime
    comment: str | None


@dataclass(frozen=True)
class ChangeFacts:
    run_id: int
    outcome: Literal["promoted", "declined", "held"]
    decision: Decision
    model_in_use: str  # version names, as reads carry them
    candidate: str
    base_model: str
    candidate_sha256: str | None
    data_set_sha256: str
    data_set_counts: dict[str, Any]
    left_out: dict[str, int]
    code_version: str
    settings: dict[str, Any]
    started_by: str
    started_at: datetime
    signature: Signature | None  # None while held by the gate
    is_phantom: bool


def markdown(facts: ChangeFacts) -> str:
    raise NotImplementedError


def write(facts: ChangeFacts, folder: Path) -> Path:
    """Writes FILE_NAME and PDF_NAME to `folder`; returns the markdown's path. The same facts give the same files."""
    raise NotImplementedError
