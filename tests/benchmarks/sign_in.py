"""What signing in costs: the look at the session that every request and every rerun takes, and one attempt to sign in.

python -m tests.benchmarks.sign_in
python -m tests.benchmarks.sign_in --postgresql"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from sqlalchemy import delete

from db import migrate
from db.account_tables import SignInFailure
from db.repositories.accounts import account_by_username
from db.session import session_scope
from engine.services import sessions, sign_in
from engine.services.lock_out import SignInRefused
from engine.settings import settings
from tests.people import PASSWORD, add_person, enter
from tests.postgresql import private_server
from tests.ui.web_process import web_process

LOOKS, REQUESTS, ATTEMPTS, OTHER_SESSIONS = 2000, 400, 40, 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--postgresql", action="store_true", help="on a PostgreSQL of its own instead of SQLite")
    with tempfile.TemporaryDirectory() as folder, _database(Path(folder), parser.parse_args().postgresql) as url:
        os.environ |= {"PEDISCREEN_DATA_DIR": f"{folder}/data", "PEDISCREEN_LOGIN": "local"}
        settings.cache_clear()
        with session_scope(url) as session:
            add_person(session, "rita")
            token = enter(session, "rita")
            account = account_by_username(session, "rita")
            for _ in range(OTHER_SESSIONS):
                sessions.start(session, account, address="10.0.0.3", browser="test")
            session.commit()
        _say("a look at the session", _timed(lambda: _look(url, token), LOOKS))
        _attempts(url)
        _requests(url, Path(folder), token)


def _look(url: str, token: str) -> None:
    with session_scope(url) as session:
        assert sessions.signed_in(session, token) is not None


def _attempts(url: str) -> None:
    def attempt(name: str, password: str) -> None:
        with session_scope(url) as session:
            session.execute(delete(SignInFailure))
            session.commit()
            with contextlib.suppress(SignInRefused):
                sign_in.sign_in(session, name, password, address="10.0.0.3", browser="test")

    tried = {
        "right password": ("rita", PASSWORD),
        "wrong password": ("rita", "not the password"),
        "no such user": ("nobody-here", "not the password"),
    }
    taken_ms: dict[str, list[float]] = {what: [] for what in tried}
    for _ in range(ATTEMPTS):  # in turn, so that whatever else the machine does falls on all alike
        for what, given in tried.items():
            taken_ms[what] += _timed(partial(attempt, *given), 1, warm=False)
    for what, times in taken_ms.items():
        _say(f"sign-in, {what}", times)


def _requests(url: str, folder: Path, token: str) -> None:
    """A small answer of Streamlit's, in local mode and in the demo, each on a connection of its own."""
    with web_process(url, folder / "data", folder, PEDISCREEN_LOGIN="local") as address:
        _say("request, signed in", _timed(_request(address, f"pediscreen_session={token}"), REQUESTS))
    demo = f"sqlite:///{folder}/demo.sqlite"
    migrate.upgrade(demo)
    with web_process(demo, folder / "demo", folder, PEDISCREEN_LOGIN="demo") as address:
        _say("request, demo", _timed(_request(address, ""), REQUESTS))


def _request(address: str, cookie: str) -> Callable[[], None]:
    def ask() -> None:
        connection = http.client.HTTPConnection(address.removeprefix("http://"))
        connection.request("GET", "/_stcore/host-config", headers={"Cookie": cookie})
        answer = connection.getresponse()
        assert answer.status == 200 and answer.read()
        connection.close()

    return ask


def _timed(action: Callable[[], None], times: int, *, warm: bool = True) -> list[float]:
    if warm:
        action()
    taken_ms = []
    for _ in range(times):
        begun = time.perf_counter()
        action()
        taken_ms.append((time.perf_counter() - begun) * 1000)
    return taken_ms


def _say(what: str, taken_ms: list[float]) -> None:
    nineties = statistics.quantiles(taken_ms, n=20)[-1]
    print(f"{what:26} median {statistics.median(taken_ms):8.2f} ms   95 % below {nineties:8.2f} ms   n {len(taken_ms)}")


@contextlib.contextmanager
def _database(folder: Path, postgresql: bool) -> Iterator[str]:
    if postgresql:
        with private_server() as url:
            yield url
        return
    (folder / "data").mkdir()
    url = f"sqlite:///{folder}/data/pediscreen.sqlite"
    migrate.upgrade(url)
    yield url


if __name__ == "__main__":
    main()
