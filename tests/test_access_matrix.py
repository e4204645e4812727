"""Who gets in where: every page, every route of the API and every other route of the web process, tried by nobody, by
each role, and with a token that nobody gave, on a server that really runs.

The lists of pages and routes are the code's own. One without a rule here fails: whoever adds it says who may use it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import streamlit
from websockets.exceptions import InvalidStatus

from engine.api.app import api
from engine.settings import PROJECT_DIR
from tests.local_server import ADJUDICATOR, ADMIN, NOBODY, READER, SERVICE, SIGNED_IN, Answer, LocalServer, local_server
from tests.streamlit_socket import alerts, run_page, shown_links, socket
from ui.navigation import PLACES

READERS = {READER, ADJUDICATOR, ADMIN}
ADMINS = {ADMIN}
EVERYBODY = {NOBODY, *READERS, SERVICE}  # to the pages a token is nobody's
NO_ONE: set[str] = set()


@dataclass(frozen=True)
class Rule:
    """Who is let in, by a request that is complete enough for the role to matter."""

    who: set[str]
    path: str | None = None  # with parameters filled in; by default the route's own path
    body: Any = None
    status: int | None = None  # that they get, where it matters: 404 says that there is nothing to be had


# ---------------------------------------------------------------- the rules

PAGES = {
    "worklist": READERS,
    "review": READERS,
    "growth": READERS,
    "adjudication": {ADJUDICATOR, ADMIN},
    "upload": READERS,
    "quarantine": READERS,
    "export": ADMINS,
    "dashboards": READERS,
    "quality": ADMINS,
    "retrain": ADMINS,
    "models": ADMINS,
    "users": ADMINS,
    "connections": ADMINS,
    "audit_log": ADMINS,
    "tokens": ADMINS,
    "account": READERS,
}
HIDDEN_PAGES = {"account"}  # opened from the name at the top

API = {
    "GET /api/radiology/queue": Rule(READERS),
    "GET /api/radiology/studies/{study_id}": Rule(READERS, "/api/radiology/studies/1"),
    "GET /api/radiology/studies/{study_id}/pixels": Rule(READERS, "/api/radiology/studies/1/pixels"),
    "POST /api/radiology/studies": Rule({*READERS, SERVICE}),
    "POST /api/radiology/studies/{study_id}/review": Rule(
        READERS, "/api/radiology/studies/99/review", {"verdict": "confirmed"}
    ),
    "POST /api/radiology/studies/{study_id}/blind-answer": Rule(
        READERS, "/api/radiology/studies/99/blind-answer", {"answer": {}}
    ),
    "POST /api/radiology/analyze-bone-age": Rule({*READERS, SERVICE}),
    "POST /api/radiology/analyze-rop": Rule({*READERS, SERVICE}),
    "POST /api/radiology/analyze-fracture": Rule({*READERS, SERVICE}),
    "GET /api/radiology/models": Rule({*READERS, SERVICE}),
    "POST /api/dicom-web/studies": Rule({*READERS, SERVICE}),
    # what the API is and whether it runs, and nothing that is in it
    "GET /api/health": Rule(EVERYBODY),
    "GET /api/docs": Rule(EVERYBODY),
    "GET /api/openapi.json": Rule(EVERYBODY),
}

# What serves pages and their parts. Streamlit's own come first.
ROUTES = {
    "GET /_stcore/health": Rule(EVERYBODY),  # says "ok", to whoever watches over the process
    "OPTIONS /_stcore/health": Rule(EVERYBODY),
    "GET /_stcore/metrics": Rule(READERS),
    "OPTIONS /_stcore/metrics": Rule(READERS),
    "GET /_stcore/host-config": Rule(READERS),
    "GET /media/{file_id:path}": Rule(READERS, "/media/0123.png"),
    "OPTIONS /media/{file_id:path}": Rule(READERS, "/media/0123.png"),
    "PUT /_stcore/upload_file/{session_id}/{file_id}": Rule(NO_ONE, "/_stcore/upload_file/1/1"),  # XSRF: see below
    "DELETE /_stcore/upload_file/{session_id}/{file_id}": Rule(NO_ONE, "/_stcore/upload_file/1/1"),
    "OPTIONS /_stcore/upload_file/{session_id}/{file_id}": Rule(READERS, "/_stcore/upload_file/1/1"),
    "GET /component/{path:path}": Rule(READERS, "/component/x/index.html"),
    "OPTIONS /component/{path:path}": Rule(READERS, "/component/x/index.html"),
    "GET /_stcore/bidi-components/{path:path}": Rule(READERS, "/_stcore/bidi-components/x"),
    "OPTIONS /_stcore/bidi-components/{path:path}": Rule(READERS, "/_stcore/bidi-components/x"),
    "GET /auth/login": Rule(READERS),  # Streamlit's own login, not set up: leads back
    "GET /auth/logout": Rule(READERS),
    "GET /oauth2callback": Rule(READERS),
    "GET /_stcore/agent/interact": Rule(READERS, status=405),  # the agents' API is off, and this is how it says so
    "POST /_stcore/agent/interact": Rule(NO_ONE),
    "GET /_stcore/agent/mcp": Rule(READERS, status=405),
    "POST /_stcore/agent/mcp": Rule(READERS, status=400),
    "GET /_stcore/agent/openapi.json": Rule(READERS),
    "POST /_stcore/agent/openapi.json": Rule(READERS, status=405),
    "GET /": Rule(READERS),  # the page's frame, for whatever address no other route has
    "GET /worklist": Rule(READERS),
    "GET /demo/work-as/{username}": Rule(READERS, "/demo/work-as/demo-admin", status=404),  # no demo here
    "GET /sign-in": Rule(EVERYBODY),
    "POST /sign-in": Rule(READERS, status=303),  # who is in goes on; a form without a password is refused
    "GET /sign-in/first-run": Rule(EVERYBODY),  # leads to /sign-in: there is an admin
    "POST /sign-in/first-run": Rule(EVERYBODY),
    "GET /sign-in/password": Rule(EVERYBODY),  # leads nobody to /sign-in
    "POST /sign-in/password": Rule({NOBODY, SERVICE}),
    "GET /sign-in/unlock": Rule(EVERYBODY),
    "POST /sign-in/unlock": Rule({NOBODY, SERVICE}),
    "GET /sign-in/state": Rule(READERS),
    "POST /sign-in/state": Rule(READERS),
    "GET /sign-in/style.css": Rule(EVERYBODY),
    "GET /sign-in/logo.png": Rule(EVERYBODY),
    "GET /sign-in/icon.png": Rule(EVERYBODY),
    "GET /sign-in/oidc": Rule(EVERYBODY),  # leads back: people sign in by passwords here
    "GET /sign-in/oidc/callback": Rule(EVERYBODY),
    "GET /sign-in/unlocked": Rule(EVERYBODY),
    "POST /sign-out": Rule(EVERYBODY),
}
WEBSOCKETS = {"/_stcore/stream"}  # tried with every page
OTHER_METHODS = {"PUT", "PATCH", "DELETE", "OPTIONS"}  # of the agent's routes, which answer none

NO_TOKEN = {"Authorization": "Bearer 0123456789abcdef"}
LIST_ROUTES = """
import json
from starlette.routing import Mount, WebSocketRoute
from ui.serve import app

found = []
for route in app._build_starlette_app().routes:
    kind = type(route).__name__
    found.append([kind, route.path, sorted(getattr(route, "methods", None) or [])])
print(json.dumps(found))
"""


# ---------------------------------------------------------------- the server and its visitors


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    with local_server(tmp_path_factory.mktemp("access")) as running:
        yield running


def is_let_in(answer: Answer, path: str) -> bool:
    """Whether the answer was the route's own, good or bad, and no refusal."""
    to_sign_in = answer.leads_to.startswith("/sign-in?next=") and not path.startswith("/sign-in")
    return answer.status not in (401, 403) and not to_sign_in


# ---------------------------------------------------------------- the lists are complete


def test_every_page_has_a_rule() -> None:
    assert {place.name for place in PLACES} == PAGES.keys()
    files = {path.stem for path in (PROJECT_DIR / "ui" / "pages").glob("*.py")} - {"__init__"}
    assert files == PAGES.keys()


def _paths(routes: Iterable[Any], prefix: str = "") -> Iterator[tuple[str, set[str]]]:
    """Also of those that the API's description leaves out."""
    for route in routes:
        if hasattr(route, "original_router"):
            yield from _paths(route.original_router.routes, prefix + route.include_context.prefix)
        else:
            yield prefix + route.path, route.methods


def test_every_route_has_a_rule() -> None:
    in_description = {
        f"{method.upper()} /api{path}" for path, methods in api.openapi()["paths"].items() for method in methods
    }
    outside_it = {f"{method} /api{path}" for path, methods in _paths(api.routes) for method in methods - {"HEAD"}}
    assert in_description | outside_it == API.keys()

    listed = subprocess.run(
        [sys.executable, "-c", LIST_ROUTES], cwd=PROJECT_DIR, capture_output=True, text=True, check=True
    )
    found, sockets, mounted = set(), set(), set()
    for kind, path, methods in json.loads(listed.stdout.splitlines()[-1]):
        if kind == "WebSocketRoute":
            sockets.add(path)
        elif kind == "Mount":
            mounted.add(path)
        else:
            found |= {f"{method} {path}" for method in methods if method != "HEAD"}
    agent = {f"{method} {path}" for method, path in (one.split() for one in found) if "/agent/" in path}
    without_others = {one for one in agent if one.split()[0] in OTHER_METHODS}
    assert found - without_others == ROUTES.keys() - {"GET /"}
    assert sockets == WEBSOCKETS
    assert mounted == {"/api", ""}  # the API's own routes are above; the other serves Streamlit's files


# ---------------------------------------------------------------- every one of them, by everybody


@pytest.mark.parametrize("route", [*API, *(one for one in ROUTES if one != "POST /sign-out")])
def test_a_route_lets_in_whom_it_should(server: LocalServer, route: str) -> None:
    method, path = route.split()
    rule = (API | ROUTES)[route]
    path = rule.path or path
    answers = {
        who: server.ask(method, path, who, headers={"Accept": "text/html"}, body=rule.body)
        for who in (*server.cookies, SERVICE)
    }
    assert {who for who, answer in answers.items() if is_let_in(answer, path)} == rule.who
    assert max(answer.status for answer in answers.values()) < 500
    if rule.status is not None:
        assert {answers[who].status for who in rule.who} == {rule.status}


@pytest.mark.parametrize("route", API)
def test_a_token_that_nobody_gave_opens_nothing(server: LocalServer, route: str) -> None:
    """Nor does it gain by the cookie of an admin beside it."""
    method, path = route.split()
    rule = API[route]
    answer = server.ask(method, rule.path or path, ADMIN, headers=NO_TOKEN, body=rule.body)
    assert answer.status == (200 if NOBODY in rule.who else 401)


def test_a_token_is_nothing_to_the_pages(server: LocalServer) -> None:
    for path in ("/", "/review", "/_stcore/host-config", "/media/0123.png"):
        assert server.ask("GET", path, headers=NO_TOKEN).status == 401


def test_files_of_the_page_are_closed_to_nobody(server: LocalServer) -> None:
    static = Path(streamlit.__file__).parent / "static"
    script = next((static / "static" / "js").glob("index.*.js")).relative_to(static)
    for path in (f"/{script}", "/favicon.png"):
        assert server.ask("GET", path).status == 401
        assert server.ask("GET", path, READER).status == 200


@pytest.mark.parametrize("who", SIGNED_IN)
def test_pages_are_shown_and_opened_by_their_roles_alone(server: LocalServer, who: str) -> None:
    opened, linked = set(), set()
    with socket(server.address, server.cookies[who]) as connection:
        for name in PAGES:
            sent = run_page(connection, name)
            linked = shown_links(sent)
            refused = alerts(sent)
            if "needs the role" in refused:
                assert f"works here as {who}" in refused
            else:
                assert refused == ""
                opened.add(name)
    assert opened == {name for name, roles in PAGES.items() if who in roles}
    assert linked == opened - HIDDEN_PAGES


def test_nobody_gets_a_page_by_websocket(server: LocalServer) -> None:
    for cookie in ("", "pediscreen_session=", "pediscreen_session=0123456789abcdef", "pediscreen_demo_user=demo-admin"):
        with pytest.raises(InvalidStatus) as refused, socket(server.address, cookie):
            pass
        assert refused.value.response.status_code == 403
