"""Requests made from the API's own description: none may end in a 5xx, and no answer may differ from what is described.
`python -m tests.benchmarks.api_requests` sends more."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.orm import Session

from tests.engine.api.generated_requests import send


def test_no_generated_request_breaks_the_api_or_its_description(session: Session, tmp_path: Path) -> None:
    sent = send(session, tmp_path, examples=3)
    assert not sent.failed, sent.said
    assert not [status for status in sent.answers if status >= 500], sent.answers
    assert sent.requests >= 1000
    assert {200, 201, 401, 404, 409, 422} <= set(sent.answers)  # they came as far as the services
