from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import AuditEvent, Role
from engine.errors import Conflict, NotAllowed, Refused
from engine.services import first_run, sessions
from engine.services.lock_out import SignInRefused, TooManyAttempts
from engine.sign_in_settings import Login, SignInSettings
from tests.people import ADDRESS, PASSWORD, add_person, hash_quickly

make = partial(
    first_run.make_first_admin,
    username="ada",
    display_name="Ada Admin",
    password=PASSWORD,
    address=ADDRESS,
    browser="test",
)


@pytest.fixture(autouse=True)
def quick_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    hash_quickly(monkeypatch)


def test_the_secret_is_its_owners_alone_and_works_once(session: Session, data_dir: Path) -> None:
    secret = first_run.secret(data_dir)
    path = data_dir / first_run.SECRET_FILE
    assert path.stat().st_mode & 0o777 == 0o600 and first_run.secret(data_dir) == secret
    with pytest.raises(SignInRefused):
        make(session, data_dir, secret[:-1])
    with pytest.raises(Refused, match="12 to 256"):
        make(session, data_dir, secret, password="short")
    who = sessions.signed_in(session, make(session, data_dir, f" {secret.upper()} "))
    assert who.actor.role is Role.ADMIN and who.may_work
    assert not path.exists() and not first_run.is_needed(session)
    with pytest.raises(SignInRefused):
        make(session, data_dir, secret, username="eve")
    with pytest.raises(NotAllowed):
        make(session, data_dir, first_run.secret(data_dir), username="eve")


def test_a_secret_of_yesterday_is_none(session: Session, data_dir: Path) -> None:
    secret = first_run.secret(data_dir)
    yesterday = time.time() - first_run.VALID_FOR_S - 1
    os.utime(data_dir / first_run.SECRET_FILE, (yesterday, yesterday))
    with pytest.raises(SignInRefused):
        make(session, data_dir, secret)
    assert first_run.secret(data_dir) != secret


def test_guessing_the_secret_is_made_slow(session: Session, data_dir: Path) -> None:
    first_run.secret(data_dir)
    for _ in range(5):
        with pytest.raises(SignInRefused):
            make(session, data_dir, "aaaa-aaaa-aaaa-aaaa")
    with pytest.raises(TooManyAttempts):
        make(session, data_dir, first_run.secret(data_dir))
    refused = session.scalars(select(AuditEvent).where(AuditEvent.action == "sign_in.refused")).all()
    assert [(row.subject, row.origin) for row in refused] == [("first_run", ADDRESS)] * 5


def test_the_name_of_somebody_who_is_known_already_is_not_taken_over(session: Session, data_dir: Path) -> None:
    add_person(session, "rita")
    with pytest.raises(Conflict):
        make(session, data_dir, first_run.secret(data_dir), username="rita")


def test_it_is_announced_only_where_it_is_needed(session: Session, database_url: str, data_dir: Path) -> None:
    local = SignInSettings(Login.LOCAL)
    lines = first_run.announcement(local, data_dir, database_url, "http://localhost:8501")
    assert "http://localhost:8501/sign-in/first-run" in lines[0] and first_run.secret(data_dir) in lines[1]
    assert first_run.announcement(SignInSettings(), data_dir, database_url, "") == []
    add_person(session, "ada", Role.ADMIN)
    assert first_run.announcement(local, data_dir, database_url, "") == []
