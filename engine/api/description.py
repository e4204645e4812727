"""The API's OpenAPI description: FastAPI's, with examples as they are."""

from __future__ import annotations

from functools import cache
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from engine.api import schemas

TEXT = """\
Reads of paediatric images by a vision-language model, and what the radiologists decided about them. Not for \
diagnostic use.

Children appear by pseudonym and age: names, patient IDs and birth dates go in and never come out.

Every refusal has one shape, {"error": {"code": ..., "message": ...}}; the code is stable. Every answer carries \
X-Request-Id, which the log has too; a client may send its own. GET answers with an ETag are answered 304 to \
If-None-Match. A write with an Idempotency-Key may be sent again within 24 hours and is done once. Whoever sends too \
many requests is answered 429 with Retry-After."""


@cache
def description(api: FastAPI) -> dict[str, Any]:
    """FastAPI leaves every null out of an example, which then lacks fields that the shape requires: they are put back
    from the shapes themselves."""
    made = get_openapi(title=api.title, version=api.version, description=api.description, routes=api.routes)
    for name, shape in made["components"]["schemas"].items():
        model = getattr(schemas, name, None)
        if isinstance(model, type) and issubclass(model, BaseModel) and "examples" in shape:
            shape["examples"] = model.model_config["json_schema_extra"]["examples"]
    return made
