"""Requests that come again: unchanged answers, writes that are sent twice, the pages of a list."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.api_tables import IdempotentRequest
from db.models import Review
from db.types import utc_now
from engine.api import alone
from engine.findings.answers import Task, bone_age_answer, fracture_answer
from engine.services import idempotency, ingest, quality_rules
from engine.services.accounts import demo_admin, demo_reader, demo_second_reader
from engine.services.quality_rules import Rule
from tests.engine.api.conftest import Acting, WithToken
from tests.workstation import AddCase, write_film

KEY = {"Idempotency-Key": "ris-4711"}


@pytest.mark.parametrize("path", ["/radiology/queue", "/radiology/studies/1"])
def test_what_has_not_changed_is_not_sent_again(client: TestClient, add_case: AddCase, path: str) -> None:
    add_case()
    first = client.get(path)
    etag = first.headers["etag"]
    assert first.headers["cache-control"] == "private, no-cache"
    for said in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        again = client.get(path, headers={"If-None-Match": said})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
    client.post("/radiology/studies/1/review", json={"verdict": "corrected", "answer": bone_age_answer(100)})
    changed = client.get(path, headers={"If-None-Match": etag})
    assert changed.status_code == 200 and changed.headers["etag"] != etag


def test_the_pages_of_the_queue_lead_to_each_other(client: TestClient, add_case: AddCase) -> None:
    added = {add_case().study_id for _ in range(5)}
    seen, url = [], "/radiology/queue?page_size=2&status=awaiting_review"
    while url:
        page = client.get(url)
        seen += [row["study_id"] for row in page.json()["rows"]]
        links = {rel: to for to, rel in re.findall(r'<([^>]+)>; rel="(\w+)"', page.headers["link"])}
        url = links.get("next")
        assert "status=awaiting_review" in links["first"] and "page=3" in links["last"]
    assert sorted(seen) == sorted(added) and len(seen) == 5
    assert "prev" in links and links["prev"].startswith("/radiology/queue?")


def test_the_pages_lead_on_below_the_address_where_the_api_is_mounted(
    database_url: str, add_case: AddCase, with_token: WithToken
) -> None:
    add_case(), add_case()
    mounted = TestClient(alone.app, headers=with_token().headers)
    page = mounted.get("/api/radiology/queue?page_size=1")
    [following] = re.findall(r'<([^>]+)>; rel="next"', page.headers["link"])
    assert following.startswith("/api/radiology/queue?")
    assert mounted.get(following).json()["page"] == 2


def test_a_review_that_is_sent_twice_is_recorded_once(client: TestClient, add_case: AddCase, session: Session) -> None:
    add_case()
    url, body = "/radiology/studies/1/review", {"verdict": "corrected", "answer": bone_age_answer(100)}
    first = client.post(url, json=body, headers=KEY)
    client.post(url, json={**body, "answer": bone_age_answer(90), "seen_review_id": 1})  # somebody went on
    again = client.post(url, json=body, headers=KEY)
    assert (again.status_code, again.json()) == (first.status_code, first.json()) == (201, {"review_id": 1})
    assert "idempotency-replayed" not in first.headers and again.headers["idempotency-replayed"] == "true"
    assert session.scalar(select(func.count()).select_from(Review)) == 2


def test_a_key_belongs_to_one_request_of_one_user(client: TestClient, acting: Acting, add_case: AddCase) -> None:
    add_case(), add_case()
    body = {"verdict": "corrected", "answer": bone_age_answer(100)}
    assert client.post("/radiology/studies/1/review", json=body, headers=KEY).status_code == 201
    for url, other in (
        ("/radiology/studies/1/review", {**body, "comment": "new"}),
        ("/radiology/studies/2/review", body),
    ):
        refused = client.post(url, json=other, headers=KEY)
        assert (refused.status_code, refused.json()["error"]["code"]) == (422, "idempotency_key_reused")
    theirs = acting(demo_second_reader()).post("/radiology/studies/2/review", json=body, headers=KEY)
    assert theirs.status_code == 201


def test_a_refusal_is_kept_too(client: TestClient, add_case: AddCase) -> None:
    add_case()
    url, body = "/radiology/studies/1/review", {"verdict": "rejected", "reject_reason": "other"}
    first, again = (client.post(url, json=body, headers=KEY) for _ in range(2))
    assert first.status_code == again.status_code == 422
    assert first.json() == again.json() and first.json()["error"]["code"] == "comment_missing"
    assert again.headers["idempotency-replayed"] == "true"


def test_an_upload_is_the_same_by_its_files_whatever_its_boundary(client: TestClient, tmp_path: Path) -> None:
    film = write_film(tmp_path / "a.dcm").read_bytes()
    first, again = (client.post("/radiology/studies", files=[("files", ("a.dcm", film))], headers=KEY) for _ in "12")
    assert first.request.headers["content-type"] != again.request.headers["content-type"]
    assert first.json() == again.json() and first.json()["files"][0]["outcome"] == "accepted"
    unlike = client.post("/radiology/studies", files=[("files", ("a.dcm", film + b"\0"))], headers=KEY)
    assert unlike.json()["error"]["code"] == "idempotency_key_reused"
    without = client.post("/radiology/studies", files=[("files", ("a.dcm", film))])
    assert without.json()["files"][0]["outcome"] == "duplicate"


def test_a_blind_answer_that_is_sent_twice_is_answered_with_the_study_as_it_was(
    client: TestClient, add_case: AddCase, session: Session
) -> None:
    add_case(Task.FRACTURE)
    quality_rules.set_rule(session, demo_admin(), Rule(Task.FRACTURE, blind_first=True))
    body = {"answer": fracture_answer("normal")}
    first, again = (client.post("/radiology/studies/1/blind-answer", json=body, headers=KEY) for _ in range(2))
    assert first.status_code == again.status_code == 201
    assert first.json() == again.json() and first.json()["images"][0]["blind_answer"] == body["answer"]


def test_our_own_failure_is_not_kept(
    client: TestClient, tmp_path: Path, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    film = [("files", ("a.dcm", write_film(tmp_path / "a.dcm").read_bytes()))]
    with monkeypatch.context() as broken:
        broken.setattr(ingest, "ingest_file", lambda *_, **__: 1 / 0)
        assert client.post("/radiology/studies", files=film, headers=KEY).status_code == 500
    assert client.post("/radiology/studies", files=film, headers=KEY).status_code == 201


def test_the_same_request_at_the_same_time_waits_or_gets_the_answer(client: TestClient, add_case: AddCase) -> None:
    add_case()
    body = {"verdict": "corrected", "answer": bone_age_answer(100)}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.post("/radiology/studies/1/review", json=body, headers=KEY), range(8)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert {answer.json()["review_id"] for answer in answers if answer.status_code == 201} == {1}


def test_keys_are_forgotten_after_a_day_and_given_up_after_a_crash(session: Session) -> None:
    reader = demo_reader()
    assert idempotency.begin(session, reader, "k", "a") is None
    with pytest.raises(Exception, match="being carried out"):
        idempotency.begin(session, reader, "k", "a")
    _age(session, idempotency.ABANDONED_AFTER)
    assert idempotency.begin(session, reader, "k", "a") is None
    idempotency.keep(session, reader, "k", idempotency.KeptAnswer(201, "{}"))
    assert idempotency.begin(session, reader, "k", "a") == idempotency.KeptAnswer(201, "{}")
    _age(session, idempotency.KEPT_FOR + timedelta(seconds=1))
    assert idempotency.begin(session, reader, "k", "another request") is None


def _age(session: Session, by: timedelta) -> None:
    for row in session.scalars(select(IdempotentRequest)):
        row.begun_at = utc_now() - by
    session.commit()


@pytest.mark.parametrize("key", ["", "a b", "x" * 256])
def test_a_key_is_some_printable_characters(client: TestClient, add_case: AddCase, key: str) -> None:
    add_case()
    answer = client.post("/radiology/studies/1/review", json={"verdict": "confirmed"}, headers={"Idempotency-Key": key})
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "invalid_request")
