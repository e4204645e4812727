"""One example of every request and answer, for the API's description. A test checks them against the shapes."""

from __future__ import annotations

from typing import Any

BONE_AGE = {"task": "bone_age", "bone_age_months": 110}
ERROR = {"error": {"code": "not_found", "message": "there is no study 4711"}}
PROBABILITIES = {"108": 0.21, "109": 0.24, "110": 0.26, "111": 0.17, "112": 0.12}

SCORED_READ: dict[str, Any] = {
    "task": "bone_age",
    "answer": BONE_AGE,
    "probabilities": PROBABILITIES,
    "median_months": 110,
    "interval_months": [103, 117],
    "abstained": False,
    "reason": None,
    "model_version": "phantom 0.3 (5c1f0a2b)",
    "milliseconds": 126.4,
    "is_phantom": True,
}

ANALYSIS: dict[str, Any] = {
    **SCORED_READ,
    "sex": "F",
    "age_months": None,
    "image_is_phantom": True,
    "warnings": [],
}

REVIEW_OUT: dict[str, Any] = {
    "review_id": 12,
    "revision": 1,
    "verdict": "corrected",
    "answer": {"task": "bone_age", "bone_age_months": 114},
    "words": "corrected: 9 y 6 m",
    "reject_reason": None,
    "comment": None,
    "details": {"method": "atlas"},
    "reader": "Demo reader",
    "created_at": "2026-11-30T09:41:07Z",
}

STUDY: dict[str, Any] = {
    "study_id": 7,
    "pseudonym": "P-7F3K2Q",
    "sex": "F",
    "age_months": 112.0,
    "acquired_on": "2026-11-28",
    "received_at": "2026-11-30T09:12:44Z",
    "site": "Site A",
    "task": "bone_age",
    "status": "reviewed",
    "urgency": {"level": "none", "reason": None, "source": None, "unverified": False},
    "warnings": [],
    "is_phantom": True,
    "images": [
        {
            "image_id": 9,
            "laterality": "L",
            "rows": 1280,
            "cols": 1024,
            "is_colour": False,
            "modality": "DX",
            "pixels_url": "/api/radiology/studies/7/pixels?image=9",
            "missing_facts": [],
            "read_state": "done",
            "read_blocked_reason": None,
            "read": {**SCORED_READ, "prediction_id": 31},
            "read_hidden": False,
            "blind_answer": None,
            "blind_comment": None,
            "blind_details": {},
            "withheld": None,
            "reviews": [REVIEW_OUT],
            "seen_review_id": 12,
        }
    ],
}

QUEUE: dict[str, Any] = {
    "rows": [
        {
            "study_id": 8,
            "pseudonym": "P-Q2M8VD",
            "task": "rop",
            "lateralities": ["L", "R"],
            "sex": None,
            "age_months": 2.1,
            "site": "Site A",
            "acquired_on": "2026-11-30",
            "received_at": "2026-11-30T08:02:19Z",
            "status": "awaiting_review",
            "urgency": "urgent",
            "urgency_reason": "zone I with plus disease: type 1",
            "urgency_unverified": True,
            "read_words": "zone I, stage 2, plus",
            "review_words": None,
            "warning_count": 1,
            "is_phantom": True,
        }
    ],
    "total": 1,
    "page": 1,
    "page_size": 50,
}

_FILE: dict[str, Any] = {
    "file_name": "IM0001",
    "file_sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
    "warnings": [],
}
ACCEPTED = {
    **_FILE,
    "outcome": "accepted",
    "study_id": 7,
    "image_id": 9,
    "task": "bone_age",
    "reason_code": None,
    "reason": None,
}
QUARANTINED = {
    **_FILE,
    "outcome": "quarantined",
    "study_id": None,
    "image_id": None,
    "task": None,
    "reason_code": "empty",
    "reason": "The file is empty (0 bytes). Export or send it again.",
}
UPLOAD: dict[str, Any] = {"files": [ACCEPTED]}
UPLOAD_REFUSED: dict[str, Any] = {
    "error": {"code": "none_accepted", "message": "None of the files was accepted; each says why."},
    "files": [QUARANTINED],
}

REVIEWS: list[dict[str, Any]] = [
    {"verdict": "confirmed", "prediction_id": 31, "seen_review_id": None},
    {
        "image_id": 9,
        "verdict": "corrected",
        "answer": {"task": "bone_age", "bone_age_months": 114},
        "details": {"method": "atlas"},
        "prediction_id": 31,
        "seen_review_id": None,
        "seconds": 41.5,
    },
    {"verdict": "rejected", "reject_reason": "other", "comment": "Splint over the carpus."},
]
BLIND_ANSWER: dict[str, Any] = {"answer": BONE_AGE, "seconds": 38.0}
MODEL: dict[str, Any] = {
    "name": "phantom 0.3 (5c1f0a2b)",
    "is_phantom": True,
    "first_used_at": "2026-11-24T07:30:00Z",
    "reads": 412,
    "in_use": True,
}
MODELS: list[dict[str, Any]] = [MODEL]

UPLOAD_FORM: dict[str, Any] = {"files": ["(the file)"], "patient_id": "4711", "sex": "F", "task": "bone_age"}
ANALYZE_FORMS: dict[str, dict[str, Any]] = {
    "bone_age": {"image": "(the file)", "sex": "F"},
    "rop": {"image": "(the file)"},
    "fracture": {"image": "(the file)", "age_months": 96},
}
