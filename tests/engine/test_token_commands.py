"""`pediscreen token`."""

from __future__ import annotations

import json

import pytest
from sqlalchemy.orm import Session

from engine import cli
from engine.services import api_tokens
from engine.services.api_tokens import Scope


def run(*arguments: str) -> int:
    return cli.main(["token", *arguments])


def test_a_token_is_added_listed_and_revoked(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("list") == 0
    assert "No token has been made yet" in capsys.readouterr().out
    assert run("add", "RIS", "--role", "reader", "--scope", "read", "--scope", "review", "--days", "30") == 0
    secret = capsys.readouterr().out.splitlines()[0]
    assert api_tokens.caller_of(session, secret).scopes == {Scope.READ, Scope.REVIEW}
    assert run("list") == 0
    listed = capsys.readouterr().out
    assert "RIS  reader: read, review  valid until" in listed and secret not in listed
    assert run("revoke", "RIS") == 0
    session.rollback()
    assert api_tokens.caller_of(session, secret) is None
    assert run("revoke", "nobody") == 1
    assert "pediscreen token list" in capsys.readouterr().err


def test_scripts_get_json(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("add", "PACS", "--json") == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["role"], made["scopes"]) == ("service", ["upload", "analyze", "models"])
    assert api_tokens.caller_of(session, made["secret"]).actor.display_name == "PACS"
    assert run("list", "--json") == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)["tokens"]] == ["PACS"]
    assert run("revoke", "1", "--json") == 0
    assert json.loads(capsys.readouterr().out)["revoked_at"]


def test_a_scope_beyond_the_role_is_refused(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("add", "PACS", "--role", "service", "--scope", "review") == 1
    assert "may upload, analyze, models, not review" in capsys.readouterr().err


def test_the_choices_of_the_command_are_those_of_the_services() -> None:
    assert tuple(api_tokens.Scope) == cli.SCOPES
    assert tuple(api_tokens.SCOPES_OF) == cli.ROLES
