"""`pediscreen user`, as somebody at the machine types it."""

from __future__ import annotations

import json

import pytest
from sqlalchemy.orm import Session

from engine import cli
from engine.services.lock_out import SignInRefused
from tests.people import enter, hash_quickly


def say(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0):
    assert cli.main(["user", *arguments, "--json"]) == status
    return json.loads(capsys.readouterr().out)


def test_people_are_added_changed_and_put_out(session: Session, capsys, monkeypatch) -> None:
    hash_quickly(monkeypatch)
    assert say(capsys, "list") == []
    first = say(capsys, "add", "rita", "--display-name", "Rita Reader")["one_time_password"]
    assert enter(session, "rita", first)
    assert say(capsys, "add", "rita", status=1)["error"]["code"] == "Conflict"
    assert say(capsys, "add", "no good", status=1)["error"]["code"] == "username"
    second = say(capsys, "reset", "rita")["one_time_password"]
    with pytest.raises(SignInRefused):
        enter(session, "rita", first)
    assert enter(session, "rita", second)
    say(capsys, "role", "rita", "adjudicator")
    say(capsys, "disable", "rita")
    [row] = say(capsys, "list")
    assert row["display_name"] == "Rita Reader" and row["role"] == "adjudicator" and row["disabled_at"]
    with pytest.raises(SignInRefused):
        enter(session, "rita", second)
    say(capsys, "enable", "rita")
    assert say(capsys, "list")[0]["disabled_at"] is None
    assert say(capsys, "disable", "nobody-here", status=1)["error"]["code"] == "NotFound"
