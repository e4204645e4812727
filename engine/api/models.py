"""Models by REST."""

from __future__ import annotations

from fastapi import APIRouter

from engine.api import examples
from engine.api.access import DatabaseSession, ModelsUser
from engine.api.errors import documented
from engine.api.schemas import ModelOut
from engine.services import lineage

router = APIRouter(tags=["models"], responses=documented(401, 403, 429, 500, 503))


@router.get("/models", responses={200: {"content": {"application/json": {"example": examples.MODELS}}}})
def models(session: DatabaseSession, actor: ModelsUser) -> list[ModelOut]:
    """The models that have read so far, the latest first."""
    return [ModelOut.model_validate(row) for row in lineage.models_that_read(session, actor)]
