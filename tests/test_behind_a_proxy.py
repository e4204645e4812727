"""The web process behind a proxy that speaks TLS: whose word it takes for where a request comes from, and what it asks
of the browser."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlencode

import pytest
from sqlalchemy import select
from websockets.exceptions import InvalidStatus

from db.account_tables import WebSession
from db.session import session_scope
from tests.local_server import READER, LocalServer, local_server
from tests.people import PASSWORD
from tests.streamlit_socket import socket

HOST = "pediscreen.example"
BY_PROXY = {"Host": HOST, "X-Forwarded-Proto": "https"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    settings = {"PEDISCREEN_PUBLIC_URL": f"https://{HOST}", "PEDISCREEN_PROXIES": "127.0.0.1,10.9.0.0/16"}
    with local_server(tmp_path_factory.mktemp("proxy"), **settings) as running:
        yield running


def sign_in(server: LocalServer, **headers: str):
    form = urlencode({"username": READER, "password": PASSWORD})
    return server.ask("POST", "/sign-in", headers=BY_PROXY | headers, form=form)


def test_the_cookie_is_for_this_host_and_for_tls_alone(server: LocalServer) -> None:
    answer = sign_in(server, Origin=f"https://{HOST}")
    cookie, *attributes = answer.headers["set-cookie"].split("; ")
    assert cookie.startswith("__Host-pediscreen_session=") and "Path=/" in attributes
    assert {"secure", "httponly"} <= {one.lower() for one in attributes}
    assert not any(one.lower().startswith("domain") for one in attributes)
    assert answer.headers["strict-transport-security"] == "max-age=31536000"
    page = server.ask("GET", "/", headers=BY_PROXY | {"Cookie": cookie})
    assert page.status == 200 and "max-age" in page.headers["strict-transport-security"]
    without_prefix = cookie.removeprefix("__Host-")
    assert server.ask("GET", "/", headers=BY_PROXY | {"Cookie": without_prefix}).status == 401


def test_the_proxy_says_where_a_request_comes_from_and_the_client_does_not(server: LocalServer) -> None:
    for claimed, found in (
        ("203.0.113.7", "203.0.113.7"),
        ("198.51.100.1, 203.0.113.8", "203.0.113.8"),  # the client's own claim stands first
        ("203.0.113.9, 10.9.1.1", "203.0.113.9"),  # one proxy behind another
    ):
        assert sign_in(server, **{"X-Forwarded-For": claimed}).status == 303
        with session_scope(server.url) as session:
            assert session.scalars(select(WebSession.address).order_by(WebSession.id.desc())).first() == found


@pytest.mark.parametrize("origin", [f"http://{HOST}", f"https://{HOST}.evil.example", f"https://{HOST}:444"])
def test_a_page_without_tls_or_of_another_host_is_another_site(server: LocalServer, origin: str) -> None:
    assert sign_in(server, Origin=origin).status == 403


def test_the_websocket_goes_through_the_proxy_too(server: LocalServer) -> None:
    cookie = sign_in(server, Origin=f"https://{HOST}").headers["set-cookie"].split(";")[0]
    with socket(server.address, cookie, f"https://{HOST}", host=HOST):
        pass
    with pytest.raises(InvalidStatus), socket(server.address, cookie, "https://evil.example", host=HOST):
        pass
