"""Who gets in by a password, who does not, and what ends a session."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from db.account_tables import Credential, SignInFailure, WebSession
from db.models import AuditEvent, Role
from db.repositories import sign_in as repository
from db.session import session_scope
from db.types import utc_now
from engine.errors import NotAllowed, Refused
from engine.services import lock_out, passwords, sessions, sign_in, users
from engine.services.accounts import Actor, command_line
from engine.services.lock_out import SignInRefused, TooManyAttempts
from engine.settings import settings
from tests.people import ADDRESS, PASSWORD, add_person, enter, hash_quickly

ADMIN = command_line()


@pytest.fixture(autouse=True)
def quick_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    hash_quickly(monkeypatch)


def actions(session: Session) -> list[tuple[str, str, str]]:
    session.rollback()
    return [
        (row.action, row.subject, row.origin) for row in session.scalars(select(AuditEvent).order_by(AuditEvent.id))
    ]


def age(session: Session, **changed: timedelta) -> None:
    """Moves the times of every session into the past."""
    session.rollback()
    for row in session.scalars(select(WebSession)):
        for name, by in changed.items():
            setattr(row, name, getattr(row, name) - by)
    session.commit()


def test_a_new_user_changes_the_one_time_password_before_anything_else(session: Session) -> None:
    one_time = users.add_user(session, ADMIN, " Rita ", "Rita Reader", Role.READER)
    who = sessions.signed_in(session, enter(session, "RITA", one_time))
    assert who.must_change and not who.may_work
    with pytest.raises(Refused, match="12 to 256"):
        sign_in.change_password(session, who, one_time, "short", address=ADDRESS, browser="test")
    with pytest.raises(SignInRefused):
        sign_in.change_password(session, who, "not it", PASSWORD, address=ADDRESS, browser="test")
    token = sign_in.change_password(session, who, one_time, PASSWORD, address=ADDRESS, browser="test")
    after = sessions.signed_in(session, token)
    assert after.may_work and after.actor == Actor("rita", "Rita Reader", Role.READER, ADDRESS)
    with pytest.raises(SignInRefused):
        enter(session, "rita", one_time)


def test_nobody_learns_whether_it_was_the_name_or_the_password(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_person(session, "rita")
    add_person(session, "gone")
    users.disable(session, ADMIN, "gone")
    asked: list[bool] = []
    really = passwords.is_right
    monkeypatch.setattr(passwords, "is_right", lambda kept, given: asked.append(kept is None) or really(kept, given))
    said = set()
    for username, password in (("rita", "wrong wrong wrong"), ("nobody-here", PASSWORD), ("gone", PASSWORD), ("", "")):
        with pytest.raises(SignInRefused) as refused:
            enter(session, username, password)
        said.add(str(refused.value))
    assert said == {"The user name or the password is wrong."}
    assert asked == [False, True, False, True]  # each time one password was computed
    subjects = [subject for action, subject, _ in actions(session) if action == "sign_in.refused"]
    assert subjects == ["account:rita", "account:unknown", "account:gone", "account:unknown"]


def test_a_password_typed_as_the_name_is_kept_nowhere(session: Session) -> None:
    with pytest.raises(SignInRefused):
        enter(session, "hunter2 hunter2 hunter2", "x")
    session.rollback()
    kept = [row.tried for row in session.scalars(select(SignInFailure))]
    kept += [f"{row.subject} {row.detail}" for row in session.scalars(select(AuditEvent))]
    assert kept and not any("hunter2" in text for text in kept)


def test_a_name_is_locked_out_after_five_failures_ever_longer_whether_it_exists_or_not(session: Session) -> None:
    now = utc_now()
    for name in ("rita", "nobody-here"):
        for _ in range(4):
            assert lock_out.begin(session, name, "10.0.0.9", now=now).locks_out is False
        pauses = []
        moment = now
        for _ in range(9):
            assert lock_out.begin(session, name, "10.0.0.9", now=moment).locks_out
            with pytest.raises(TooManyAttempts) as waits:
                lock_out.begin(session, name, "10.0.0.9", now=moment)
            pauses.append(int(str(waits.value).split()[-2]))
            moment += timedelta(seconds=pauses[-1])
        assert pauses == [15, 30, 60, 120, 240, 480, 900, 900, 900]


def test_an_address_is_locked_out_whatever_names_it_tries(session: Session) -> None:
    for number in range(30):
        lock_out.begin(session, f"name-{number}", "10.0.0.9")
    with pytest.raises(TooManyAttempts):
        lock_out.begin(session, "another", "10.0.0.9")
    lock_out.begin(session, "another", "10.0.0.10")


def test_the_right_password_is_refused_during_a_lock_out_and_forgives_after_it(session: Session) -> None:
    add_person(session, "rita")
    for _ in range(5):
        with pytest.raises(SignInRefused):
            enter(session, "rita", "wrong wrong wrong")
    with pytest.raises(TooManyAttempts):
        enter(session, "rita")
    assert [action for action, *_ in actions(session)].count("sign_in.locked_out") == 1
    for row in session.scalars(select(SignInFailure)):
        row.blocked_until = None
    session.commit()
    enter(session, "rita")
    failures = {row.tried.split(":")[0]: row.failures for row in session.scalars(select(SignInFailure))}
    assert failures == {"name": 0, "address": 5}


def test_the_database_holds_no_token_and_no_password(session: Session) -> None:
    add_person(session, "rita")
    token = enter(session, "rita")
    [row] = session.scalars(select(WebSession)).all()
    [credential] = session.scalars(select(Credential)).all()
    assert token not in vars(row).values() and len(token) >= 43
    assert PASSWORD not in credential.password_hash
    assert sessions.signed_in(session, row.token_sha256) is None


def test_signing_in_again_takes_a_new_token_and_ends_the_old_one(session: Session) -> None:
    add_person(session, "rita")
    first = enter(session, "rita")
    before = sessions.signed_in(session, first)
    second = sign_in.sign_in(session, "rita", PASSWORD, address=ADDRESS, browser="test", before=before)
    assert sessions.signed_in(session, first) is None and sessions.signed_in(session, second).may_work
    for forged in ("", "x", first[:-1] + ("A" if first[-1] != "A" else "B"), second.upper()):
        assert sessions.signed_in(session, forged) is None


def test_a_session_locks_when_nobody_is_there_and_ends_at_the_end_of_the_day(session: Session) -> None:
    add_person(session, "rita")
    token = enter(session, "rita")
    age(session, active_at=settings().sign_in.idle_after)
    locked = sessions.signed_in(session, token)
    assert locked.locked and not locked.may_work
    sessions.touch(session, locked)
    assert sessions.signed_in(session, token).locked
    with pytest.raises(SignInRefused):
        sign_in.unlock(session, locked, "wrong wrong wrong", address=ADDRESS)
    sign_in.unlock(session, locked, PASSWORD, address=ADDRESS)
    assert sessions.signed_in(session, token).may_work  # the same session, and what was open in it
    age(session, ends_at=settings().sign_in.session_lasts)
    assert sessions.signed_in(session, token) is None


@pytest.mark.parametrize("what", ["sign-out", "password", "reset", "role", "disable", "everywhere"])
def test_what_ends_a_session_ends_it_at_once_for_every_process(session: Session, database_url: str, what: str) -> None:
    add_person(session, "rita")
    token, other = enter(session, "rita"), enter(session, "rita")
    who = sessions.signed_in(session, token)
    {
        "sign-out": lambda: sessions.end(session, who),
        "password": lambda: sign_in.change_password(
            session, who, PASSWORD, "another long sentence", address=ADDRESS, browser="test"
        ),
        "reset": lambda: users.reset_password(session, ADMIN, "rita"),
        "role": lambda: users.set_role(session, ADMIN, "rita", Role.ADJUDICATOR),
        "disable": lambda: users.disable(session, ADMIN, "rita"),
        "everywhere": lambda: sessions.end_all(session, who.actor, "rita"),
    }[what]()
    with session_scope(database_url) as another_process:
        assert sessions.signed_in(another_process, token) is None
        assert (sessions.signed_in(another_process, other) is not None) == (what == "sign-out")


def test_only_an_admin_sees_and_changes_people(session: Session) -> None:
    add_person(session, "rita")
    reader = sessions.signed_in(session, enter(session, "rita")).actor
    for refused in (
        lambda: users.users(session, reader),
        lambda: users.add_user(session, reader, "eve", "Eve", Role.ADMIN),
        lambda: users.set_role(session, reader, "rita", Role.ADMIN),
        lambda: users.reset_password(session, reader, "rita"),
        lambda: users.disable(session, reader, "rita"),
        lambda: users.enable(session, reader, "rita"),
        lambda: sessions.sessions_of(session, reader, "command-line"),
        lambda: sessions.end_all(session, reader, "command-line"),
    ):
        with pytest.raises(NotAllowed):
            refused()
    assert [row.address for row in sessions.sessions_of(session, reader, "rita")] == [ADDRESS]


def test_the_last_admin_cannot_be_taken_away(session: Session) -> None:
    add_person(session, "ada", Role.ADMIN)
    for take_away in (users.disable, lambda *a: users.set_role(*a, Role.READER)):
        with pytest.raises(Refused, match="last admin"):
            take_away(session, ADMIN, "ada")
    add_person(session, "bob", Role.ADMIN)
    users.disable(session, ADMIN, "ada")
    with pytest.raises(Refused, match="last admin"):
        users.disable(session, ADMIN, "bob")
    session.rollback()
    assert len(repository.admins_for_update(session)) == 1


@pytest.mark.parametrize("username", ["", "x", "a b", "<script>", "rita;drop", "r" * 51, "../rita", "-rita"])
def test_names_that_cannot_be_user_names_are_refused(session: Session, username: str) -> None:
    with pytest.raises(Refused, match="user name"):
        users.add_user(session, ADMIN, username, "Rita", Role.READER)


def test_programs_do_not_sign_in(session: Session) -> None:
    with pytest.raises(Refused, match="A person is one of"):
        users.add_user(session, ADMIN, "pacs", "PACS", Role.SERVICE)


def test_every_step_is_in_the_audit_log_with_its_address(session: Session) -> None:
    add_person(session, "rita")
    who = sessions.signed_in(session, enter(session, "rita"))
    sessions.end(session, who)
    users.disable(session, ADMIN, "rita")
    users.enable(session, ADMIN, "rita")
    assert actions(session) == [
        ("account.added", "account:rita", "cli"),
        ("sign_in.done", "account:rita", ADDRESS),
        ("account.password_changed", "account:rita", ADDRESS),
        ("sign_in.ended", "account:rita", ADDRESS),
        ("sign_in.done", "account:rita", ADDRESS),
        ("sign_in.ended", "account:rita", ADDRESS),
        ("account.disabled", "account:rita", "cli"),
        ("account.enabled", "account:rita", "cli"),
    ]
