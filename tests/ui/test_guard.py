"""What the web process refuses before any page or route sees it, and whom it passes on."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import OperationalError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from ui import who
from ui.guard import Guard

BEARER = {"Authorization": "Bearer pds_0123456789"}
EVIL = {"Origin": "http://evil.example"}


async def acts(request: Request) -> PlainTextResponse:
    actor = request.state.actor
    return PlainTextResponse("nobody" if actor is None else actor.username)


@pytest.fixture
def client() -> TestClient:
    both = ["GET", "POST"]
    behind = Starlette(
        routes=[Mount("/api", routes=[Route("/x", acts, methods=both)]), Route("/page", acts, methods=both)]
    )
    return TestClient(Guard(behind), base_url="http://localhost", client=("127.0.0.1", 50000))


@pytest.fixture
def nobody_signed_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(who, "signed_in", lambda cookies, address: None)


def test_without_an_actor_only_the_api_is_asked(client: TestClient, nobody_signed_in: None) -> None:
    assert client.get("/page").status_code == 401
    assert client.get("/apiary").status_code == 401
    assert client.get("//api/x").status_code == 401
    assert client.get("/api/x").text == "nobody"


def test_while_the_database_is_away_nobody_is_let_in_and_the_answer_says_why(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(cookies: object, address: str) -> None:
        raise OperationalError("SELECT", {}, Exception("away"))

    monkeypatch.setattr(who, "signed_in", away)
    for path in ("/page", "/api/x"):
        answer = client.get(path)
        assert answer.status_code == 503 and "database does not answer" in answer.text


def test_a_token_counts_alone_and_may_come_from_anywhere(client: TestClient) -> None:
    assert client.get("/api/x").text == "demo-reader"
    assert client.get("/api/x", headers=BEARER).text == "nobody"
    assert client.post("/api/x", headers=BEARER | EVIL).status_code == 200
    assert client.post("/page", headers=BEARER | EVIL).status_code == 403


def test_strange_hosts_and_other_sites_are_refused_on_the_api_too(client: TestClient) -> None:
    assert client.post("/api/x", headers=EVIL).status_code == 403
    assert client.post("/api/x", headers={"Origin": "http://localhost"}).status_code == 200
    assert client.get("/api/x", headers={"Host": "evil.example"}).status_code == 403
    assert client.get("/api/x", headers=BEARER | {"Host": "evil.example"}).status_code == 403
