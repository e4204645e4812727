"""What somebody without the right to it might try against a web process that really runs, and what they get."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from sqlalchemy import select
from websockets.exceptions import ConnectionClosed, InvalidStatus

from db.account_tables import WebSession
from db.models import AuditEvent, UserAccount
from db.session import session_scope
from db.types import utc_now
from engine.findings.answers import Task
from engine.services import users
from engine.services.accounts import command_line
from engine.services.sessions import hash_of
from engine.settings import settings
from tests.local_server import ADMIN, NOBODY, READER, LocalServer, local_server
from tests.people import PASSWORD, add_person
from tests.streamlit_socket import ask_for, run_page, socket
from tests.ui.web_process import web_process

EVIL = "http://evil.example"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    with local_server(tmp_path_factory.mktemp("intrusion")) as running:
        yield running


@pytest.fixture
def visitor(server: LocalServer) -> str:
    """A user of this test's own, who may be locked out."""
    with session_scope(server.url) as session:
        name = f"visitor-{len(users.users(session, command_line()))}"
        add_person(session, name)
    return name


def sign_in(server: LocalServer, username: str, password: str, **headers: str):
    return server.ask("POST", "/sign-in", headers=headers, form=urlencode({"username": username, "password": password}))


def token_of(cookie: str) -> str:
    return cookie.partition("=")[2]


def is_signed_in(server: LocalServer, cookie: str) -> bool:
    return server.ask("GET", "/sign-in/state", headers={"Cookie": cookie}).status == 200


# ---------------------------------------------------------------- files


def raw(server: LocalServer, path: str, cookie: str) -> tuple[int, bytes]:
    """The path as it stands: an ordinary client would tidy it."""
    connection = http.client.HTTPConnection(server.address.removeprefix("http://"), timeout=30)
    connection.putrequest("GET", path, skip_accept_encoding=True)
    connection.putheader("Cookie", cookie)
    connection.endheaders()
    answer = connection.getresponse()
    return answer.status, answer.read()


UP = ["../" * 8, "..%2f" * 8, "%2e%2e/" * 8, "%2e%2e%2f" * 8, "..%5c" * 8, "....//" * 8, "..%252f" * 8, "/"]
BELOW = [
    "/",
    "/static/",
    "/static/js/",
    "/media/",
    "/component/",
    "/component/streamlit/",
    "/_stcore/bidi-components/",
    "/app/static/",
    "/sign-in/",
    "/api/",
    "/api/radiology/studies/",
]


@pytest.mark.parametrize("below", BELOW)
def test_no_path_leads_out_of_what_is_served(server: LocalServer, below: str) -> None:
    for up in UP:
        for wanted in ("etc/passwd", "work/x", "pyproject.toml", "engine/settings.py", "data/pediscreen.sqlite"):
            for who in (NOBODY, READER):
                status, body = raw(server, f"{below}{up}{wanted}", server.cookies[who])
                assert b"root:" not in body and b"[project]" not in body and b"SQLite format" not in body
                assert b"PEDISCREEN_DATA_DIR" not in body
                assert status < 500


# ---------------------------------------------------------------- others' things


def test_an_image_is_reached_through_its_own_study_alone(server: LocalServer) -> None:
    other = server.add_case(Task.FRACTURE)
    mine = f"/api/radiology/studies/{server.case.study_id}/pixels"
    assert server.ask("GET", f"{mine}?image={server.case.image_id}", READER).status == 200
    assert server.ask("GET", f"{mine}?image={other.image_id}", READER).status == 404
    assert server.ask("GET", "/api/radiology/studies/9999/pixels", READER).status == 404


def test_nobody_learns_which_studies_there_are(server: LocalServer) -> None:
    there = server.ask("GET", f"/api/radiology/studies/{server.case.study_id}")
    not_there = server.ask("GET", "/api/radiology/studies/9999")
    assert there.status == 401 and (there.status, there.body) == (not_there.status, not_there.body)


def test_an_upload_into_somebody_elses_page_is_refused(server: LocalServer) -> None:
    answer = server.ask("PUT", "/_stcore/upload_file/00000000-0000-0000-0000-000000000000/1", READER)
    assert answer.status == 403  # without the page's own XSRF token


# ---------------------------------------------------------------- cookies


def forgeries(cookie: str) -> list[str]:
    token = token_of(cookie)
    changed = ("A" if token[0] != "A" else "B") + token[1:]
    return ["", "x", token[:-1], token + "A", changed, token.swapcase(), "' OR 1=1 --", "%00", "A" * 5000, "é" * 40]


def test_forged_and_tampered_cookies_open_nothing(server: LocalServer) -> None:
    tokens = forgeries(server.cookies[ADMIN])
    with session_scope(server.url) as session:
        tokens += session.scalars(select(WebSession.token_sha256)).all()  # what a thief of the database would have
    for token in tokens:
        headers = {"Cookie": f"pediscreen_session={quote(token)}"}
        assert server.ask("GET", "/api/radiology/queue", headers=headers).status == 401, token
        assert server.ask("GET", "/", headers=headers).status == 401
    for name in ("pediscreen_demo_user", "__Host-pediscreen_session", "session", "X-Auth-User"):
        token = token_of(server.cookies[ADMIN])
        assert not is_signed_in(server, f"{name}={token}")
    assert is_signed_in(server, server.cookies[ADMIN])


def test_headers_name_nobody(server: LocalServer) -> None:
    for name in ("X-Auth-User", "X-Forwarded-User", "Remote-User", "X-Remote-User"):
        assert server.ask("GET", "/api/radiology/queue", headers={name: "admin"}).status == 401


def test_a_session_that_was_signed_out_is_not_opened_again(server: LocalServer) -> None:
    cookie = server.cookie_of(READER)
    assert is_signed_in(server, cookie)
    answer = server.ask("POST", "/sign-out", headers={"Cookie": cookie})
    assert answer.status == 303 and "Max-Age=0" in answer.headers["set-cookie"]
    assert answer.headers["clear-site-data"] == '"cache"'
    assert not is_signed_in(server, cookie)
    assert server.ask("GET", "/api/radiology/queue", headers={"Cookie": cookie}).status == 401


def test_a_session_ends_when_its_time_is_over(server: LocalServer) -> None:
    cookie = server.cookie_of(READER)
    change_session(server, cookie, ends_at=utc_now() - timedelta(seconds=1))
    assert not is_signed_in(server, cookie)


def test_a_cookie_that_somebody_planted_is_not_taken_over(server: LocalServer, visitor: str) -> None:
    planted = "pediscreen_session=planted-by-somebody-else-000000000000000000"
    answer = sign_in(server, visitor, PASSWORD, Cookie=planted)
    assert answer.status == 303
    given = answer.headers["set-cookie"].split(";")[0]
    assert given != planted and is_signed_in(server, given) and not is_signed_in(server, planted)
    again = sign_in(server, visitor, PASSWORD, Cookie=given)
    assert again.status == 303 and again.leads_to == "/"  # who is in stays in, in the same session


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(server: LocalServer, visitor: str) -> None:
    attributes = sign_in(server, visitor, PASSWORD).headers["set-cookie"].lower().split("; ")
    assert {"httponly", "samesite=lax", "path=/"} <= set(attributes)
    assert not any(one.startswith(("domain", "max-age", "expires")) for one in attributes)


def test_a_session_holds_in_another_process_and_ends_there_too(
    server: LocalServer, visitor: str, tmp_path: Path
) -> None:
    cookie = server.cookie_of(visitor)
    with web_process(server.url, settings().data_dir, tmp_path, PEDISCREEN_LOGIN="local") as address:
        other = replace(server, address=address)
        assert is_signed_in(other, cookie)
        server.ask("POST", "/sign-out", headers={"Cookie": cookie})
        assert not is_signed_in(other, cookie)


# ---------------------------------------------------------------- signing in


def test_nothing_tells_whether_a_user_exists(server: LocalServer, visitor: str) -> None:
    here, nobody = sign_in(server, visitor, "not the password"), sign_in(server, "v" * len(visitor), "not the password")
    assert here.status == nobody.status == 403
    assert here.text.replace(visitor, "?") == nobody.text.replace("v" * len(visitor), "?")


def test_guessing_is_locked_out_and_the_right_password_with_it(server: LocalServer, visitor: str) -> None:
    statuses = [sign_in(server, visitor, f"guess number {number}").status for number in range(7)]
    assert statuses == [403] * 5 + [429] * 2
    answer = sign_in(server, visitor, PASSWORD)
    assert answer.status == 429 and "Try again in" in answer.text


def test_many_guesses_at_once_are_as_many_guesses(server: LocalServer, visitor: str) -> None:
    with ThreadPoolExecutor(12) as threads:
        statuses = list(
            threads.map(lambda number: sign_in(server, visitor, f"guess number {number}").status, range(12))
        )
    assert sorted(statuses) == [403] * 5 + [429] * 7


ELSEWHERE = ["//evil.example", EVIL, "/\\evil.example", "\\\\evil.example", "javascript:alert(1)", "/\t/evil.example"]


@pytest.mark.parametrize("elsewhere", ELSEWHERE)
def test_signing_in_leads_to_no_other_site(server: LocalServer, elsewhere: str) -> None:
    cookie = {"Cookie": server.cookies[READER]}
    assert server.ask("GET", f"/sign-in?next={quote(elsewhere)}", headers=cookie).leads_to == "/"
    assert server.ask("GET", "/sign-in?next=/review%3Fstudy%3D3", headers=cookie).leads_to == "/review?study=3"
    shown = server.ask("GET", f"/sign-in?next={quote(elsewhere)}").text
    assert 'name="next" value="/"' in shown


def test_what_is_typed_at_sign_in_comes_back_as_text(server: LocalServer) -> None:
    answer = sign_in(server, '"><script>alert(1)</script>', "x")
    assert "<script" not in answer.text and "&lt;script&gt;" in answer.text
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; style-src 'self'")


def test_a_form_without_end_is_not_read_to_its_end(server: LocalServer) -> None:
    assert sign_in(server, "x" * 1_000_000, "x").status == 422


def test_the_first_run_is_over(server: LocalServer) -> None:
    form = urlencode({"secret": "x", "username": "eve", "display_name": "Eve", "password": PASSWORD, "again": PASSWORD})
    answer = server.ask("POST", "/sign-in/first-run", form=form)
    assert answer.status == 303 and answer.leads_to == "/sign-in"
    with session_scope(server.url) as session:
        assert session.scalar(select(UserAccount).where(UserAccount.username == "eve")) is None


# ---------------------------------------------------------------- other sites


@pytest.mark.parametrize(
    "sent",
    [
        {"Origin": EVIL},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "http://localhost:1"},
    ],
)
def test_another_sites_page_changes_nothing(server: LocalServer, sent: dict[str, str]) -> None:
    for path in ("/sign-out", "/sign-in", "/sign-in/password", "/sign-in/unlock", "/sign-in/state"):
        assert server.ask("POST", path, READER, headers=sent).status == 403
    for path in ("/api/radiology/studies", f"/api/radiology/studies/{server.case.study_id}/review"):
        assert server.ask("POST", path, READER, headers=sent, body={}).status == 403
    assert is_signed_in(server, server.cookies[READER])


@pytest.mark.parametrize("origin", [EVIL, "null", "http://localhost:1"])
def test_another_sites_page_opens_no_websocket(server: LocalServer, origin: str) -> None:
    with pytest.raises(InvalidStatus) as refused, socket(server.address, server.cookies[READER], origin):
        pass
    assert refused.value.response.status_code == 403


def test_under_another_name_the_server_does_not_answer(server: LocalServer) -> None:
    for host in ("evil.example", "localhost.evil.example", "127.0.0.1@evil.example", ""):
        assert server.ask("GET", "/sign-in", headers={"Host": host}).status in (400, 403)


def test_an_address_that_a_client_claims_is_not_believed(server: LocalServer, visitor: str) -> None:
    claimed = {"X-Forwarded-For": "203.0.113.7", "Forwarded": "for=203.0.113.7", "X-Real-IP": "203.0.113.7"}
    assert sign_in(server, visitor, PASSWORD, **claimed).status == 303
    with session_scope(server.url) as session:
        done = AuditEvent.action == "sign_in.done"
        mine = select(AuditEvent.origin).where(done, AuditEvent.subject == f"account:{visitor}")
        assert session.scalars(mine.order_by(AuditEvent.id.desc())).first() == "127.0.0.1"


# ---------------------------------------------------------------- an open page


def change_session(server: LocalServer, cookie: str, **values: object) -> None:
    with session_scope(server.url) as session:
        row = session.scalars(select(WebSession).where(WebSession.token_sha256 == hash_of(token_of(cookie)))).one()
        for name, value in values.items():
            setattr(row, name, value)
        session.commit()


@pytest.mark.parametrize("how", ["sign-out", "disable"])
def test_an_open_page_ends_with_its_session(server: LocalServer, visitor: str, how: str) -> None:
    cookie = server.cookie_of(visitor)
    ending: dict[str, Callable[[], object]] = {
        "sign-out": lambda: server.ask("POST", "/sign-out", headers={"Cookie": cookie}),
        "disable": lambda: disable(server, visitor),
    }
    with socket(server.address, cookie) as connection:
        run_page(connection, "worklist")
        ending[how]()
        ask_for(connection, "worklist")
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                connection.recv(timeout=30)
    assert closed.value.rcvd.code == 4401


def disable(server: LocalServer, username: str) -> None:
    with session_scope(server.url) as session:
        users.disable(session, command_line(), username)


def test_a_locked_page_hears_nothing_until_it_is_unlocked(server: LocalServer, visitor: str) -> None:
    cookie = server.cookie_of(visitor)
    with socket(server.address, cookie) as connection:
        run_page(connection, "worklist")
        change_session(server, cookie, active_at=utc_now() - settings().sign_in.idle_after)
        ask_for(connection, "worklist")
        with pytest.raises(TimeoutError):
            while True:
                connection.recv(timeout=2)
        locked = server.ask("GET", "/api/radiology/queue", headers={"Cookie": cookie})
        assert locked.status == 401 and '"locked"' in locked.text
        to_unlock = server.ask("GET", "/review", headers={"Cookie": cookie, "Accept": "text/html"})
        assert to_unlock.leads_to == "/sign-in/unlock?next=%2Freview"
        with pytest.raises(InvalidStatus), socket(server.address, cookie):
            pass
        wrong = server.ask("POST", "/sign-in/unlock", headers={"Cookie": cookie}, form="password=wrong+wrong+wrong")
        assert wrong.status == 403
        right = urlencode({"password": PASSWORD})
        assert server.ask("POST", "/sign-in/unlock", headers={"Cookie": cookie}, form=right).status == 303
        assert run_page(connection, "worklist")
