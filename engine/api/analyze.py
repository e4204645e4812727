"""Reads by REST of images that are not stored: one route a task, one image a request."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, File, Form, UploadFile

from engine.api import examples
from engine.api.access import AnalyzingUser, DatabaseSession
from engine.api.errors import documented
from engine.api.limits import LARGEST_FILE_BYTES, copy_to
from engine.api.schemas import AnalysisOut
from engine.findings.answers import Task
from engine.services import analysis
from engine.services.accounts import Actor

router = APIRouter(tags=["analyze"], responses=documented(400, 401, 403, 413, 422, 429, 500, 503))

Image = Annotated[UploadFile, File(description="DICOM, PNG or JPEG")]


def _as_form(task: Task) -> dict[str, Any]:
    form = {"multipart/form-data": {"example": examples.ANALYZE_FORMS[task]}}
    return {
        "max_body_size": LARGEST_FILE_BYTES,
        "form_limits": {"max_files": 1, "max_fields": 5},
        "openapi_extra": {"requestBody": {"content": form}},
    }


@router.post("/analyze-bone-age", **_as_form(Task.BONE_AGE))
def analyze_bone_age(
    session: DatabaseSession,
    actor: AnalyzingUser,
    image: Image,
    sex: Annotated[
        Literal["M", "F"] | None, Form(description="needed where the file does not say it; the model abstains without")
    ] = None,
) -> AnalysisOut:
    """The bone age of a left hand, on the Greulich-Pyle scale. Nothing is stored but that it was asked."""
    return _analyzed(session, actor, image, Task.BONE_AGE, sex=sex)


@router.post("/analyze-rop", **_as_form(Task.ROP))
def analyze_rop(session: DatabaseSession, actor: AnalyzingUser, image: Image) -> AnalysisOut:
    """Zone, stage and plus disease of one eye's fundus. Nothing is stored but that it was asked."""
    return _analyzed(session, actor, image, Task.ROP)


@router.post("/analyze-fracture", **_as_form(Task.FRACTURE))
def analyze_fracture(
    session: DatabaseSession,
    actor: AnalyzingUser,
    image: Image,
    age_months: Annotated[
        float | None,
        Form(ge=0, le=12 * 130, allow_inf_nan=False, description="where the file does not say it"),
    ] = None,
) -> AnalysisOut:
    """Distal radius fracture, buckle fracture or neither on a wrist. Nothing is stored but that it was asked."""
    return _analyzed(session, actor, image, Task.FRACTURE, age_months=age_months)


def _analyzed(session: DatabaseSession, actor: Actor, image: UploadFile, task: Task, **known: Any) -> AnalysisOut:
    with tempfile.TemporaryDirectory(prefix="pediscreen-analyze-") as folder:
        found = analysis.analyze(session, actor, copy_to(Path(folder) / "image", image), task, **known)
    return AnalysisOut(
        **found.read.as_json(),
        is_phantom=found.is_phantom,
        sex=found.context.sex,
        age_months=found.context.age_months,
        image_is_phantom=found.image_is_phantom,
        warnings=found.warnings,
    )
