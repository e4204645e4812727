"""Getting in by a provider that really answers, and every way in which its answer can be wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import rsa
from sqlalchemy import select
from sqlalchemy.orm import Session

from db.account_tables import OidcFlow, WebSession
from db.models import AuditEvent, Role, UserAccount
from engine.services import oidc, sessions, users
from engine.services.accounts import command_line
from engine.services.lock_out import SignInRefused
from engine.services.sessions import SignedIn
from engine.settings import settings
from tests.oidc_provider import Provider, oidc_provider, settings_for
from tests.people import add_person

PUBLIC_URL = "http://localhost:8501"


@pytest.fixture
def provider(data_dir, monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    with oidc_provider() as running:
        for name, value in settings_for(running, PUBLIC_URL).items():
            monkeypatch.setenv(name, value)
        settings.cache_clear()
        yield running


@dataclass
class Browser:
    """Goes to the provider and comes back with what it says."""

    session: Session

    def leave(self, before: SignedIn | None = None, next_path: str = "/") -> tuple[dict[str, str], str]:
        departure = oidc.depart(self.session, next_path, before)
        back = requests.get(departure.url, allow_redirects=False, timeout=10).headers["Location"]
        assert back.startswith(f"{PUBLIC_URL}/sign-in/oidc/callback?")
        return dict(parse_qsl(urlsplit(back).query)), departure.browser_key

    def come_back(self, answer: dict[str, str], key: str | None, before: SignedIn | None = None) -> oidc.Arrival:
        return oidc.arrive(self.session, answer, key, address="10.0.0.3", browser="test", before=before)

    def enter(self, before: SignedIn | None = None) -> oidc.Arrival:
        return self.come_back(*self.leave(before), before)


@pytest.fixture
def browser(session: Session, provider: Provider) -> Browser:
    return Browser(session)


def test_somebody_with_a_role_comes_in_and_is_the_same_next_time(
    session: Session, provider: Provider, browser: Browser
) -> None:
    arrival = browser.come_back(*browser.leave(next_path="/review?study=3"))
    who = sessions.signed_in(session, arrival.token)
    assert arrival.next_path == "/review?study=3" and who.may_work and not who.by_password
    assert (who.actor.username, who.actor.display_name, who.actor.role) == ("rita", "Rita Reader", Role.READER)
    provider.claims = {"preferred_username": "rita.married"}  # the provider's own identifier counts
    assert sessions.signed_in(session, browser.enter().token).account_id == who.account_id
    [asked, _] = provider.asked
    assert asked["response_type"] == "code" and asked["code_challenge_method"] == "S256"
    assert asked["scope"].split()[0] == "openid" and len(asked["state"]) >= 43 and len(asked["nonce"]) >= 43


@pytest.mark.parametrize(
    ("groups", "role"),
    [(["radiology"], Role.READER), (["radiology", "it"], Role.ADMIN), ("seniors", Role.ADJUDICATOR)],
)
def test_the_highest_of_the_mapped_roles_counts(
    session: Session, provider: Provider, browser: Browser, groups: Any, role: Role
) -> None:
    provider.claims = {"groups": groups}
    assert sessions.signed_in(session, browser.enter().token).actor.role is role


def test_a_claim_may_lie_deeper(session: Session, provider: Provider, browser: Browser, monkeypatch) -> None:
    monkeypatch.setenv("PEDISCREEN_OIDC_ROLE_CLAIM", "realm_access.roles")
    settings.cache_clear()
    provider.claims = {"realm_access": {"roles": ["it"]}}
    assert sessions.signed_in(session, browser.enter().token).actor.role is Role.ADMIN


@pytest.mark.parametrize("groups", [[], ["staff"], None, "radio", {"radiology": True}, 7, [["radiology"]]])
def test_somebody_without_a_role_is_refused_and_told_so(
    session: Session, provider: Provider, browser: Browser, groups: Any
) -> None:
    provider.claims = {"groups": groups}
    with pytest.raises(SignInRefused, match="gives you no role here"):
        browser.enter()
    assert session.scalars(select(WebSession)).all() == [] and session.scalars(select(UserAccount)).all() == []


NOT_VALID = "is not valid"


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "http://evil.example"},
        {"iss": None},
        {"aud": "another-application"},
        {"aud": ["another-application"]},
        {"aud": None},
        {"aud": ["another-application", "pediscreen"], "azp": "another-application"},
        {"nonce": "another"},
        {"nonce": None},
        {"exp": -120},
        {"exp": None},
        {"iat": None},
        {"iat": 3600},
        {"nbf": 3600},
        {"sub": None},
    ],
    ids=str,
)
def test_a_token_that_is_not_for_us_and_now_is_refused(
    session: Session, provider: Provider, browser: Browser, claims: dict[str, Any]
) -> None:
    """Times are seconds from now."""
    now = int(time.time())
    provider.claims = {name: now + value if isinstance(value, int) else value for name, value in claims.items()}
    with pytest.raises(SignInRefused, match=NOT_VALID):
        browser.enter()
    assert session.scalars(select(WebSession)).all() == []
    refusals = session.scalars(select(AuditEvent).where(AuditEvent.action == "sign_in.refused")).all()
    assert len(refusals) == 1 and refusals[0].origin == "10.0.0.3"


def test_a_token_that_another_signed_or_nobody_is_refused(provider: Provider, browser: Browser) -> None:
    provider.signing_key = rsa.generate_private_key(65537, 2048)
    with pytest.raises(SignInRefused, match=NOT_VALID):
        browser.enter()
    provider.signing_key = None
    for algorithm in ("none", "HS256"):
        provider.algorithm = algorithm
        with pytest.raises(SignInRefused, match=NOT_VALID):
            browser.enter()


def test_an_answer_counts_once(session: Session, browser: Browser) -> None:
    answer, key = browser.leave()
    assert browser.come_back(answer, key).token
    with pytest.raises(SignInRefused, match="was not asked for"):
        browser.come_back(answer, key)


def test_a_code_of_another_answer_is_refused(provider: Provider, browser: Browser) -> None:
    """Somebody who got hold of another's code brings it with a state of their own: PKCE at the provider, and where the
    provider does not look, the nonce."""
    stolen, _ = browser.leave()
    for checks_pkce in (True, False):
        provider.checks_pkce = checks_pkce
        own, key = browser.leave()
        with pytest.raises(SignInRefused, match=NOT_VALID):
            browser.come_back(own | {"code": stolen["code"]}, key)
        stolen, _ = browser.leave()


@pytest.mark.parametrize("changed", [{"state": "another"}, {"state": ""}, {"code": ""}, {"error": "access_denied"}])
def test_an_answer_that_was_not_asked_for_is_refused(browser: Browser, changed: dict[str, str]) -> None:
    answer, key = browser.leave()
    with pytest.raises(SignInRefused):
        browser.come_back(answer | changed, key)


@pytest.mark.parametrize("key", [None, "", "another"])
def test_only_the_browser_that_left_comes_back(browser: Browser, key: str | None) -> None:
    """Or somebody could be signed in as another without noticing."""
    answer, _ = browser.leave()
    with pytest.raises(SignInRefused, match="was not asked for"):
        browser.come_back(answer, key)


def test_who_comes_back_too_late_starts_again(session: Session, browser: Browser) -> None:
    answer, key = browser.leave()
    for flow in session.scalars(select(OidcFlow)):
        flow.ends_at -= oidc.BACK_WITHIN
    session.commit()
    with pytest.raises(SignInRefused, match="too late"):
        browser.come_back(answer, key)


def test_a_provider_that_names_another_issuer_or_is_away_is_not_asked(provider: Provider, browser: Browser) -> None:
    provider.names_itself = "http://evil.example"
    with pytest.raises(SignInRefused, match="another issuer"):
        browser.leave()
    provider.names_itself = None
    provider.configuration = lambda: {"issuer": provider.issuer}  # type: ignore[method-assign]
    with pytest.raises(SignInRefused, match="does not answer as it should"):
        browser.leave()


def test_a_role_taken_away_there_is_gone_here_with_every_session(
    session: Session, provider: Provider, browser: Browser
) -> None:
    provider.claims = {"groups": ["it"]}
    as_admin = browser.enter().token
    provider.claims = {"groups": ["radiology"]}
    as_reader = browser.enter().token
    assert sessions.signed_in(session, as_admin) is None
    assert sessions.signed_in(session, as_reader).actor.role is Role.READER


def test_a_disabled_account_stays_out(session: Session, browser: Browser) -> None:
    token = browser.enter().token
    users.disable(session, command_line(), "rita")
    assert sessions.signed_in(session, token) is None
    with pytest.raises(SignInRefused, match="disabled"):
        browser.enter()


def test_the_name_of_another_account_is_not_taken_over(session: Session, browser: Browser) -> None:
    add_person(session, "rita", Role.ADMIN)
    with pytest.raises(SignInRefused, match="another user rita"):
        browser.enter()


def test_a_locked_session_is_opened_by_asking_the_provider_for_the_password_again(
    session: Session, provider: Provider, browser: Browser
) -> None:
    token = browser.enter().token
    for row in session.scalars(select(WebSession)):
        row.active_at -= settings().sign_in.idle_after
    session.commit()
    locked = sessions.signed_in(session, token)
    assert locked.locked
    provider.claims = {"auth_time": int(time.time()) - oidc.FRESH_S - 60}
    with pytest.raises(SignInRefused, match="stays locked"):
        browser.enter(locked)
    provider.claims = {"auth_time": None}
    with pytest.raises(SignInRefused, match=NOT_VALID):
        browser.enter(locked)
    provider.claims = {}
    assert browser.enter(locked).token is None
    assert provider.asked[-1]["prompt"] == "login" and sessions.signed_in(session, token).may_work
    assert timedelta(0) < timedelta(seconds=sessions.signed_in(session, token).locks_in_s)
