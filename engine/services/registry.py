"""The model versions that have read here."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.orm import Session

from db.models import Role
from db.repositories import reads as repository
from db.types import utc_now
from engine.services.accounts import READERS, Actor, require
from engine.services.worklist import ALIVE_SECONDS


@dataclass(frozen=True)
class ModelRow:
    name: str
    is_phantom: bool
    first_used_at: datetime
    reads: int
    in_use: bool  # a live worker has it loaded


def models(session: Session, actor: Actor) -> list[ModelRow]:
    """The latest first. Raises NotAllowed."""
    require(actor, *READERS, Role.SERVICE)
    loaded = repository.models_of_workers(session, since=utc_now() - timedelta(seconds=ALIVE_SECONDS))
    return [
        ModelRow(version.name, version.is_phantom, version.created_at, reads, version.name in loaded)
        for version, reads in repository.model_versions_with_counts(session)
    ]
