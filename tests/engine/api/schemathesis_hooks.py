"""What the generator of requests cannot know: which studies there are, what they are read for, and what an image is.

A part of what it makes up is replaced by the real thing, chosen by what it made up, so that a failure can be found
again; the routes then get past "not found", "not an image" and "another task"."""

from __future__ import annotations

import io
import zlib
from typing import Any

import schemathesis
from PIL import Image
from schemathesis.core import NotSet
from schemathesis.core.parameters import ParameterLocation
from schemathesis.transport.serialization import Binary, contains_binary

ANSWERS = (  # of the studies 1, 2 and 3, and again of 4, 5 and 6, that the workstation under test holds
    {"task": "bone_age", "bone_age_months": 120},
    {"task": "rop", "zone": "II", "stage": "1", "plus_disease": "none"},
    {"task": "fracture", "fracture": "normal"},
)
STUDIES = 2 * len(ANSWERS)


def png() -> Binary:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((320, 256)).save(buffer, "PNG")
    return Binary(buffer.getvalue())


@schemathesis.hook
def map_case(context: Any, case: Any) -> Any:
    if case.meta is not None:
        modes = [case.meta.generation.mode, *(part.mode for part in case.meta.components.values())]
        if any(mode.is_negative for mode in modes):
            return case
    if not isinstance(case.body, dict | type(None) | NotSet):
        return case
    chance = zlib.crc32(repr((case.path_parameters, case.query, case.body)).encode())
    if isinstance((case.path_parameters or {}).get("study_id"), int) and chance % 4:
        study_id = chance % STUDIES + 1
        case.path_parameters["study_id"] = study_id
        if isinstance(case.body, dict) and chance % 3:
            case.body = decision(case.body, study_id, chance)
    if isinstance(case.body, dict) and "image" in case.body and chance % 2:
        case.body = {**case.body, "image": png()}
    if isinstance(case.body, dict) and "files" in case.body and chance % 2:
        case.body = {**case.body, "files": [png()], "patient_id": f"P{chance % 5}"}
    if case._meta is not None and contains_binary(case.body):
        # schemathesis takes every body that was changed and holds bytes for one that breaks the schema; this does not
        case._meta.update_validated_hash(ParameterLocation.BODY, case._hash_container(case.body))
        case._meta.clear_dirty(ParameterLocation.BODY)
    return case


def decision(body: dict[str, Any], study_id: int, chance: int) -> dict[str, Any]:
    """What a reader could say of that study: of a review each verdict, or an answer."""
    answer = ANSWERS[(study_id - 1) % len(ANSWERS)]
    rest = {name: body[name] for name in ("comment", "seconds", "seen_review_id") if name in body}
    if "verdict" not in body:
        return {**rest, "answer": answer}
    said = (
        {"verdict": "confirmed", "prediction_id": study_id},
        {"verdict": "corrected", "answer": answer},
        {"verdict": "rejected", "reject_reason": "poor_quality"},
    )
    return {**rest, **said[chance // 12 % len(said)]}
