from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from db.api_tables import ApiToken
from db.models import AuditEvent, Role
from db.types import utc_now
from engine.errors import Conflict, NotAllowed, NotFound, Refused
from engine.services import api_tokens
from engine.services.accounts import demo_admin, demo_reader, service_actor
from engine.services.api_tokens import SCOPES_OF, Scope

ADMIN = demo_admin()


def made(session: Session, name: str = "ris", role: Role = Role.READER, scopes=(Scope.READ,), **more):
    return api_tokens.make(session, ADMIN, name, role, scopes, **more)


def test_the_secret_is_256_random_bits_shown_once_and_kept_as_a_hash(session: Session) -> None:
    one, two = made(session), made(session, "pacs")
    assert one.secret.startswith("ps_") and len(one.secret) == 3 + 43  # 32 bytes in base64
    assert one.secret != two.secret
    stored = session.execute(text("SELECT * FROM api_token")).all()
    kept = " ".join(str(value) for row in stored for value in row)
    assert one.secret not in kept and one.secret[12:] not in kept
    assert one.row.starts_with == one.secret[:9]
    audited = session.scalars(select(AuditEvent).where(AuditEvent.action == "api_token.made")).all()
    assert one.secret[12:] not in str([event.detail for event in audited])


def test_a_token_is_a_user_of_its_own_with_its_role_and_scopes(session: Session) -> None:
    token = made(session, "Bone age of the RIS", Role.ADJUDICATOR, (Scope.REVIEW, Scope.READ))
    caller = api_tokens.caller_of(session, token.secret)
    assert caller.actor.username == f"token:{token.row.token_id}"
    assert (caller.actor.display_name, caller.actor.role) == ("Bone age of the RIS", Role.ADJUDICATOR)
    assert caller.scopes == {Scope.READ, Scope.REVIEW}


def test_an_unknown_expired_or_revoked_secret_stands_for_nobody(session: Session) -> None:
    token, other = made(session), made(session, "other")
    assert api_tokens.caller_of(session, token.secret[:-1]) is None
    assert api_tokens.caller_of(session, "") is None
    api_tokens.revoke(session, ADMIN, token.row.token_id)
    assert api_tokens.caller_of(session, token.secret) is None
    row = session.get(ApiToken, other.row.token_id)
    row.expires_at = utc_now() - timedelta(seconds=1)
    session.commit()
    assert api_tokens.caller_of(session, other.secret) is None


def test_its_last_use_is_noted_to_the_minute(session: Session) -> None:
    token = made(session)
    assert api_tokens.tokens(session, ADMIN)[0].last_used_at is None
    api_tokens.caller_of(session, token.secret)
    first = api_tokens.tokens(session, ADMIN)[0].last_used_at
    assert utc_now() - first < timedelta(seconds=30)
    api_tokens.caller_of(session, token.secret)
    assert api_tokens.tokens(session, ADMIN)[0].last_used_at == first


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"name": " "}, "token_name"),
        ({"name": "x" * 65}, "token_name"),
        ({"name": "a\nb"}, "token_name"),
        ({"scopes": ()}, "token_scopes"),
        ({"role": Role.SERVICE, "scopes": (Scope.REVIEW,)}, "token_scopes"),
        ({"days": 0}, "token_days"),
        ({"days": 1826}, "token_days"),
    ],
)
def test_what_cannot_be_made(session: Session, changes: dict, code: str) -> None:
    with pytest.raises(Refused) as refused:
        made(session, **changes)
    assert refused.value.code == code


def test_a_scope_beyond_the_role_is_void_even_where_a_row_holds_it(session: Session) -> None:
    token = made(session, role=Role.SERVICE, scopes=SCOPES_OF[Role.SERVICE])
    session.get(ApiToken, token.row.token_id).scopes = ["review", "upload"]
    session.commit()
    assert api_tokens.caller_of(session, token.secret).scopes == {Scope.UPLOAD}


def test_names_are_not_used_twice_and_revoking_is_final(session: Session) -> None:
    token = made(session)
    with pytest.raises(Conflict):
        made(session)
    first = api_tokens.revoke(session, ADMIN, token.row.token_id)
    assert api_tokens.revoke(session, ADMIN, token.row.token_id) == first
    with pytest.raises(Conflict):
        made(session)  # the audit's "ris" stays one token
    with pytest.raises(NotFound):
        api_tokens.revoke(session, ADMIN, 99)


@pytest.mark.parametrize("actor", [demo_reader(), service_actor("x")])
def test_only_an_admin_makes_sees_and_revokes_tokens(session: Session, actor) -> None:
    with pytest.raises(NotAllowed):
        api_tokens.make(session, actor, "x", Role.READER, (Scope.READ,))
    with pytest.raises(NotAllowed):
        api_tokens.tokens(session, actor)
    with pytest.raises(NotAllowed):
        api_tokens.revoke(session, actor, 1)
