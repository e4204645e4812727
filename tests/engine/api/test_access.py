"""Who may call what: tokens, scopes, how many requests, and what the log says of them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts
from fastapi.testclient import TestClient
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from db.models import Role
from engine.api import access, rate_limit
from engine.api.app import api
from engine.services import api_tokens, audit, worklist
from engine.services.accounts import Actor, demo_admin, demo_reader
from engine.services.api_tokens import Scope
from engine.settings import settings
from tests.api_process import new_token
from tests.engine.api.conftest import Acting, WithToken
from tests.workstation import AddCase

QUEUE = "/radiology/queue"


def test_every_route_declares_its_scope() -> None:
    """Each route takes a user with exactly one scope, but for those that anybody may see."""
    seen = 0
    for route in iter_route_contexts(api.routes):
        if route.path in access.PUBLIC:
            continue
        needed = [scope for one in _dependencies(route.dependant) for scope in one.own_oauth_scopes or []]
        assert len(set(needed)) == 1 and needed[0] in list(Scope), f"{route.path} declares {needed}"
        seen += 1
    assert seen >= 10


def _dependencies(dependant: Dependant) -> Iterator[Dependant]:
    yield dependant
    for one in dependant.dependencies:
        yield from _dependencies(one)


def test_every_route_that_takes_a_body_says_how_large_it_may_be() -> None:
    """What is looked at inside the route is looked at after the user."""
    for route in iter_route_contexts(api.routes):
        if getattr(route, "body_field", None) is not None:
            assert route.max_body_size, route.path


def test_the_description_says_the_scope_of_every_route() -> None:
    for path, methods in api.openapi()["paths"].items():
        for method, operation in methods.items():
            needed = [scope for one in operation.get("security", []) for scope in one["token"]]
            assert len(needed) == (0 if path in access.PUBLIC else 1), f"{method} {path}"


REQUESTS = {
    Scope.READ: [("GET", QUEUE), ("GET", "/radiology/studies/1"), ("GET", "/radiology/studies/1/pixels")],
    Scope.UPLOAD: [("POST", "/radiology/studies"), ("POST", "/dicom-web/studies")],
    Scope.REVIEW: [("POST", "/radiology/studies/1/review"), ("POST", "/radiology/studies/1/blind-answer")],
    Scope.ANALYZE: [("POST", f"/radiology/analyze-{task}") for task in ("bone-age", "rop", "fracture")],
    Scope.MODELS: [("GET", "/radiology/models")],
}
FORMS = {
    "/radiology/studies": {"files": [("files", ("x", b"x"))]},
    "/radiology/studies/1/review": {"json": {"verdict": "confirmed"}},
    "/radiology/studies/1/blind-answer": {"json": {"answer": {"task": "fracture", "fracture": "normal"}}},
}


@pytest.mark.parametrize("scope", list(Scope))
def test_a_token_does_what_its_scope_names_and_nothing_else(
    with_token: WithToken, add_case: AddCase, scope: Scope
) -> None:
    add_case()
    program = with_token(name=scope, role=Role.ADMIN, scopes=(scope,))
    for needed, requests in REQUESTS.items():
        for method, path in requests:
            form = FORMS.get(path, {"files": [("image", ("x", b"x"))]} if method == "POST" else {})
            answer = program.request(method, path, **form)
            if needed is scope:
                assert answer.status_code not in (401, 403), (path, answer.text)
            else:
                assert (answer.status_code, answer.json()["error"]["code"]) == (403, "scope_missing"), path
                assert f'scope="{needed}"' in answer.headers["www-authenticate"]


@pytest.mark.parametrize("role", list(Role))
def test_a_token_never_does_more_than_its_role(with_token: WithToken, acting: Acting, add_case: AddCase, role) -> None:
    """What a user of the role is refused, a token of the role with all its scopes is refused too."""
    add_case()
    program = with_token(role=role)
    user = acting(Actor("u", "U", role))
    for method, path in [one for requests in REQUESTS.values() for one in requests]:
        form = FORMS.get(path, {"files": [("image", ("x", b"x"))]} if method == "POST" else {})
        if user.request(method, path, **form).status_code == 403:
            assert program.request(method, path, **form).status_code == 403, path


def test_a_bad_token_is_401_even_beside_a_session(acting: Acting, session: Session) -> None:
    browser = acting(demo_reader())
    assert browser.get(QUEUE).status_code == 200
    for secret in ("ps_wrong", "", "\u00e9"):
        answer = browser.get(QUEUE, headers={"Authorization": f"Bearer {secret}".encode("latin-1")})
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "bad_token")
        assert 'error="invalid_token"' in answer.headers["www-authenticate"]


def test_a_revoked_token_is_refused_from_the_next_request_on(with_token: WithToken, session: Session) -> None:
    program = with_token()
    assert program.get(QUEUE).status_code == 200
    api_tokens.revoke(session, demo_admin(), 1)
    assert program.get(QUEUE).status_code == 401


def test_what_a_token_does_stands_in_the_audit_under_its_name(
    with_token: WithToken, add_case: AddCase, session: Session
) -> None:
    case = add_case()
    with_token(name="RIS").get(f"/radiology/studies/{case.study_id}")
    rows = audit.events_page(session, demo_admin()).rows
    [viewed] = [row for row in rows if row.subject == f"study:{case.study_id}"]
    assert (viewed.actor, viewed.action, viewed.origin) == ("token:1", "study.viewed", "testclient")


def test_what_is_refused_to_a_token_stands_in_the_audit(with_token: WithToken, session: Session) -> None:
    with_token(scopes=(Scope.READ,)).get("/radiology/models")
    with_token(name="pacs", role=Role.SERVICE).post("/radiology/studies/9/review", json={"verdict": "confirmed"})
    refused = [row for row in audit.events_page(session, demo_admin()).rows if row.action == "access.refused"]
    assert [(row.actor, row.subject) for row in refused] == [
        ("token:2", "/studies/{study_id}/review"),
        ("token:1", "/models"),
    ]


def test_without_a_user_not_a_byte_of_the_body_is_read(database_url: str) -> None:
    """Neither for nobody nor for a body that says how large it is and is too large."""
    for headers, status in (({}, 401), ({"Authorization": f"Bearer {new_token()}"}, 413)):
        read, answered = [], []

        async def receive(read=read) -> dict:
            read.append(1)
            return {"type": "http.request", "body": b"x" * 1000, "more_body": True}

        async def send(message: dict, answered=answered) -> None:
            answered.append(message)

        given = {"content-type": "multipart/form-data; boundary=x", "content-length": str(2**31), **headers}
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/radiology/studies",
            "raw_path": b"/radiology/studies",
            "query_string": b"",
            "root_path": "",
            "scheme": "http",
            "server": ("test", 80),
            "client": ("test", 1),
            "headers": [(name.lower().encode(), value.encode()) for name, value in given.items()],
        }
        with ThreadPoolExecutor(1) as other:  # this thread may have a loop already: a browser's
            other.submit(asyncio.run, api(scope, receive, send)).result()
        assert (answered[0]["status"], read) == (status, [])


def test_a_body_that_does_not_say_its_size_is_cut_off(client: TestClient, add_case: AddCase) -> None:
    case = add_case()
    sent = []

    def pieces() -> Iterator[bytes]:
        for number in range(1000):
            sent.append(number)
            yield b" " * 1000

    answer = client.post(
        f"/radiology/studies/{case.study_id}/review", content=pieces(), headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")


def test_more_files_than_are_taken_are_refused(client: TestClient) -> None:
    answer = client.post("/radiology/studies", files=[("files", (str(one), b"x")) for one in range(51)])
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_many_files")


def test_too_many_requests_are_429_and_say_when_to_go_on(
    acting: Acting, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEDISCREEN_API_REQUESTS_PER_MINUTE", "30")
    settings.cache_clear()
    reader, other = acting(demo_reader()), acting(demo_admin())
    statuses = [reader.get(QUEUE).status_code for _ in range(10)]
    assert statuses[:5] == [200] * 5 and 429 in statuses
    refused = reader.get(QUEUE)
    assert refused.status_code == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 2
    assert refused.json()["error"]["code"] == "too_many_requests"
    assert other.get(QUEUE).status_code == 200  # everybody has their own allowance


def test_the_allowance_comes_back_with_time_and_is_shared_by_processes(tmp_path: Path) -> None:
    one, two = rate_limit.Counter(tmp_path / "count"), rate_limit.Counter(tmp_path / "count")
    taken = [counter.wait_s("x", 1.0, 1000.0) for counter in (one, two) * 6]
    assert taken[:10] == [0] * 10 and taken[10] == pytest.approx(1.0)
    assert one.wait_s("x", 1.0, 1001.0) == 0
    assert two.wait_s("x", 1.0, 1001.0) == pytest.approx(1.0)
    assert one.wait_s("y", 1.0, 1001.0) == 0


def test_every_answer_carries_a_request_id(client: TestClient, acting: Acting) -> None:
    assert client.get(QUEUE, headers={"X-Request-Id": "ris-4711"}).headers["x-request-id"] == "ris-4711"
    made = {client.get(QUEUE).headers["x-request-id"] for _ in range(3)}
    assert len(made) == 3
    assert len(client.get(QUEUE, headers={"X-Request-Id": "Doe, Jane"}).headers["x-request-id"]) == 32
    assert acting(None).get(QUEUE).headers["x-request-id"]
    assert client.get("/radiology/nothing").headers["x-request-id"]


def test_our_own_mistakes_are_500_in_the_same_shape_and_the_log_quotes_nobody(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("Doe^Jane has no such row")

    monkeypatch.setattr(worklist, "worklist_page", broken)
    with caplog.at_level(logging.INFO, logger="engine.api"):
        answer = client.get(QUEUE)
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
    assert answer.headers["x-request-id"] in answer.json()["error"]["message"]
    assert "RuntimeError" in caplog.text and "studies.py" in caplog.text
    assert "Doe" not in caplog.text and "Doe" not in answer.text


def test_a_database_that_is_away_is_503(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise OperationalError("SELECT 1", {}, Exception("locked"))

    monkeypatch.setattr(worklist, "worklist_page", away)
    answer = client.get(QUEUE)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "database_unavailable")
    assert answer.headers["retry-after"]


def test_anybody_may_ask_whether_it_runs_and_what_it_is(acting: Acting) -> None:
    nobody = acting(None)
    assert nobody.get("/health").json()["status"] == "ok"
    assert nobody.get("/docs").status_code == nobody.get("/openapi.json").status_code == 200
