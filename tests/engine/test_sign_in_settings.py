"""Settings that let people in: the demo stays on this machine, and what cannot be meant is refused with its name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine.settings import PROJECT_DIR, settings
from engine.sign_in_settings import Login, WrongSetting, read_sign_in_settings
from tests.pediscreen_up import free_port
from tests.people import add_person

OIDC = {
    "PEDISCREEN_LOGIN": "oidc",
    "PEDISCREEN_PUBLIC_URL": "https://pediscreen.example",
    "PEDISCREEN_OIDC_ISSUER": "https://id.example/realms/x",
    "PEDISCREEN_OIDC_CLIENT_ID": "pediscreen",
    "PEDISCREEN_OIDC_ROLES": '{"reader": ["radiology"], "admin": ["it"]}',
}


def test_by_default_there_is_the_demo_on_this_machine_alone() -> None:
    found = read_sign_in_settings({})
    assert (
        found.login is Login.DEMO and found.host == "127.0.0.1" and found.hosts == ("localhost", "127.0.0.1", "[::1]")
    )
    assert not found.behind_tls


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PEDISCREEN_HOST", "0.0.0.0"),
        ("PEDISCREEN_HOST", "::"),
        ("PEDISCREEN_HOST", "10.0.0.5"),
        ("PEDISCREEN_HOST", "workstation.example"),
        ("PEDISCREEN_PUBLIC_URL", "https://pediscreen.example"),
        ("PEDISCREEN_ALLOWED_HOSTS", "pediscreen.example"),
        ("PEDISCREEN_PROXIES", "10.0.0.1"),
    ],
)
def test_the_demo_is_not_opened_to_others(name: str, value: str) -> None:
    with pytest.raises(WrongSetting, match=f"{name} is {value}"):
        read_sign_in_settings({name: value})
    assert read_sign_in_settings({name: value, "PEDISCREEN_LOGIN": "local"}).login is Login.LOCAL


@pytest.mark.parametrize("loopback", ["localhost", "127.0.0.1", "::1", "127.0.0.2"])
def test_the_demo_may_listen_on_any_address_of_this_machine(loopback: str) -> None:
    assert read_sign_in_settings({"PEDISCREEN_HOST": loopback}).host == loopback


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"PEDISCREEN_LOGIN": "none"}, "one of demo, local, oidc, found 'none'"),
        ({"PEDISCREEN_LOGIN": "local", "PEDISCREEN_PROXIES": "proxy.example"}, "PEDISCREEN_PROXIES"),
        ({"PEDISCREEN_LOGIN": "local", "PEDISCREEN_PROXIES": "*"}, "PEDISCREEN_PROXIES"),
        ({"PEDISCREEN_LOGIN": "local", "PEDISCREEN_PUBLIC_URL": "pediscreen.example"}, "PEDISCREEN_PUBLIC_URL"),
        ({"PEDISCREEN_LOGIN": "local", "PEDISCREEN_IDLE_MINUTES": "0"}, "PEDISCREEN_IDLE_MINUTES"),
        ({"PEDISCREEN_LOGIN": "local", "PEDISCREEN_SESSION_HOURS": "never"}, "PEDISCREEN_SESSION_HOURS"),
        ({"PEDISCREEN_LOGIN": "oidc"}, "also needs PEDISCREEN_OIDC_ISSUER"),
        (OIDC | {"PEDISCREEN_OIDC_ISSUER": "http://id.example"}, "must be https"),
        (OIDC | {"PEDISCREEN_OIDC_ROLES": "reader=radiology"}, "must be JSON"),
        (OIDC | {"PEDISCREEN_OIDC_ROLES": '{"owner": ["it"]}'}, "must map"),
        (OIDC | {"PEDISCREEN_OIDC_ROLES": '{"admin": "it"}'}, "lists of words"),
    ],
)
def test_what_cannot_be_meant_is_refused(env: dict[str, str], said: str) -> None:
    with pytest.raises(WrongSetting, match=said):
        read_sign_in_settings(env)


def test_the_secret_comes_from_a_file_and_is_not_shown(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    found = read_sign_in_settings(OIDC | {"PEDISCREEN_OIDC_CLIENT_SECRET_FILE": str(secret)}).oidc
    assert found.client_secret == "s3cret" and "s3cret" not in repr(found)


def serve(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ui.serve"],
        cwd=PROJECT_DIR,
        env=os.environ | {"PEDISCREEN_PORT": str(free_port())} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_web_process_does_not_start_as_an_open_demo(data_dir: Path) -> None:
    ended = serve(PEDISCREEN_HOST="0.0.0.0")
    assert ended.returncode == 1 and "answers to this machine alone" in ended.stderr


def test_the_demo_does_not_start_over_peoples_accounts(session, database_url: str, data_dir: Path) -> None:
    add_person(session, "rita")
    ended = serve(PEDISCREEN_DATABASE_URL=database_url)
    assert ended.returncode == 1 and "the demo would let everybody in" in ended.stderr
    assert settings().sign_in.login is Login.DEMO
