"""Models by REST."""

from __future__ import annotations

from fastapi import APIRouter

from engine.api.access import ActingUser, DatabaseSession
from engine.api.schemas import ModelOut
from engine.services import lineage

router = APIRouter(tags=["models"])


@router.get("/models")
def models(session: DatabaseSession, actor: ActingUser) -> list[ModelOut]:
    """The models that have read so far, the latest first."""
    return [ModelOut.model_validate(row) for row in lineage.models_that_read(session, actor)]
