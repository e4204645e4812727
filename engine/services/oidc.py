"""Getting in by what an identity provider says: OpenID Connect's code flow with PKCE. What comes of it is a session
like any other; the provider's tokens are looked at once and not kept."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from sqlalchemy.orm import Session

from db.account_tables import Credential, OidcFlow, WebSession
from db.models import Role
from db.repositories import sign_in as repository
from db.session import writing
from db.types import utc_now
from engine.errors import Conflict, Refused
from engine.services import audit, sessions, users
from engine.services.lock_out import SignInRefused
from engine.services.sessions import SignedIn, hash_of
from engine.services.sign_in import USERNAME, nobody, normal_username
from engine.settings import settings
from engine.sign_in_settings import OidcSettings, is_loopback

CALLBACK_PATH = "/sign-in/oidc/callback"
BACK_WITHIN = timedelta(minutes=10)
FRESH_S = 300  # how long ago the provider may have asked for the password, where it was to ask again
CLOCKS_DIFFER_BY_S = 60
TIMEOUT_S = 10
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
HIGHEST_FIRST = (Role.ADMIN, Role.ADJUDICATOR, Role.READER)
START_AGAIN = "Start again at the sign-in page."


@dataclass(frozen=True)
class Departure:
    """Where the browser is sent, and what it has to bring back in a cookie."""

    url: str
    browser_key: str


@dataclass(frozen=True)
class Arrival:
    """`token` of the new session; None: the locked one goes on."""

    token: str | None
    next_path: str


def depart(session: Session, next_path: str, before: SignedIn | None) -> Departure:
    """Commits. Raises SignInRefused where the provider does not answer."""
    here = _settings()
    provider = _provider(here)
    state, browser_key, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(4))
    fresh = before is not None and before.locked
    with writing(session):
        repository.forget_ended(session, utc_now())
        session.add(
            OidcFlow(
                state_sha256=hash_of(state),
                browser_sha256=hash_of(browser_key),
                nonce=nonce,
                code_verifier=verifier,
                next_path=next_path,
                must_be_fresh=fresh,
                ends_at=utc_now() + BACK_WITHIN,
            )
        )
    asked_again = {"prompt": "login", "max_age": "0"} if fresh else {}
    url, _ = _client(here).create_authorization_url(
        provider["authorization_endpoint"], state=state, code_verifier=verifier, nonce=nonce, **asked_again
    )
    return Departure(url, browser_key)


def arrive(
    session: Session,
    answer: Mapping[str, str],
    browser_key: str | None,
    *,
    address: str,
    browser: str,
    before: SignedIn | None,
) -> Arrival:
    """Commits. Raises SignInRefused, and records why, for whatever is not exactly what was asked for."""
    try:
        flow = _flow(session, answer, browser_key)
        claims = _claims(answer, flow)
        return _let_in(session, claims, flow, address=address, browser=browser, before=before)
    except SignInRefused as refused:
        with writing(session):
            audit.record(session, nobody(address), "sign_in.refused", "account:unknown", {"reason": str(refused)})
        raise


@dataclass(frozen=True)
class _Flow:
    nonce: str
    code_verifier: str
    next_path: str
    must_be_fresh: bool


def _flow(session: Session, answer: Mapping[str, str], browser_key: str | None) -> _Flow:
    with writing(session):
        row = repository.take_oidc_flow(session, hash_of(answer.get("state", "")))
        flow = None if row is None else _Flow(row.nonce, row.code_verifier, row.next_path, row.must_be_fresh)
        belongs = row is not None and row.browser_sha256 == hash_of(browser_key or "") and row.ends_at > utc_now()
    if flow is None or not belongs:
        raise SignInRefused(f"This answer of the identity provider was not asked for, or came too late. {START_AGAIN}")
    if "error" in answer or not answer.get("code"):
        raise SignInRefused(f"The identity provider did not let you in. {START_AGAIN}")
    return flow


def _claims(answer: Mapping[str, str], flow: _Flow) -> CodeIDToken:
    here = _settings()
    provider = _provider(here)
    try:
        token = _client(here).fetch_token(
            provider["token_endpoint"], code=answer["code"], code_verifier=flow.code_verifier
        )
        keys = KeySet.import_key_set(_get_json(provider["jwks_uri"]))
        decoded = jwt.decode(token["id_token"], keys, algorithms=ALGORITHMS)
        claims = CodeIDToken(
            decoded.claims,
            decoded.header,
            options={
                "iss": {"essential": True, "value": here.issuer},
                "aud": {"essential": True, "value": here.client_id},
            },
            params={
                "nonce": flow.nonce,
                "client_id": here.client_id,
                "access_token": token.get("access_token"),
                "max_age": FRESH_S if flow.must_be_fresh else None,
            },
        )
        claims.validate(leeway=CLOCKS_DIFFER_BY_S)
    except (OAuthError, JoseError, requests.RequestException, KeyError, ValueError) as error:
        reason = type(error).__name__
        raise SignInRefused(f"The identity provider's answer is not valid ({reason}). {START_AGAIN}") from error
    if flow.must_be_fresh and claims["auth_time"] < time.time() - FRESH_S:
        raise SignInRefused("The identity provider did not ask for the password again, and the session stays locked.")
    return claims


def _let_in(
    session: Session,
    claims: Mapping[str, Any],
    flow: _Flow,
    *,
    address: str,
    browser: str,
    before: SignedIn | None,
) -> Arrival:
    here = _settings()
    role = role_of(claims, here)
    if role is None:
        raise SignInRefused(
            "You are known to the identity provider, but it gives you no role here. "
            f"Ask your IT department for one (claim {here.role_claim})."
        )
    with writing(session):
        credential = _account(session, claims, here, role, address)
        account = credential.account
        actor = sessions.actor_of(account, address)
        if credential.disabled_at is not None:
            raise SignInRefused("This account is disabled. Ask an administrator.")
        if account.role is not role:
            detail = {"before": account.role, "role": role}
            account.role = role
            repository.end_sessions(session, account.id)
            audit.record(session, actor, "account.role_changed", f"account:{account.username}", detail)
        elif before is not None and before.account_id == account.id and before.locked:
            row = session.get(WebSession, before.session_id)
            if row is not None:
                row.active_at = utc_now()
                audit.record(session, actor, "sign_in.unlocked", f"account:{account.username}")
                return Arrival(None, flow.next_path)
        if before is not None:
            repository.end_session(session, before.session_id)
        token = sessions.start(session, account, address=address, browser=browser)
        audit.record(session, actor, "sign_in.done", f"account:{account.username}", {"by": "OIDC"})
        return Arrival(token, flow.next_path)


def role_of(claims: Mapping[str, Any], here: OidcSettings) -> Role | None:
    """The highest that one of the claim's values gives."""
    found: Any = claims
    for part in here.role_claim.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    values = {value for value in (found if isinstance(found, list) else [found]) if isinstance(value, str)}
    return next((role for role in HIGHEST_FIRST if values & set(here.roles.get(role, ()))), None)


def _account(session: Session, claims: Mapping[str, Any], here: OidcSettings, role: Role, address: str) -> Credential:
    """By the provider's own identifier; a name may change and come to somebody else."""
    credential = repository.credential_by_subject(session, here.issuer, claims["sub"])
    if credential is not None:
        return credential
    username = normal_username(str(claims.get("preferred_username") or claims.get("email") or claims["sub"]))
    if not USERNAME.fullmatch(username):
        raise SignInRefused(f"The identity provider's user name {username!r} cannot be one here.")
    name = str(claims.get("name") or username)[:128]
    try:
        credential = users.add_account(session, username, name, role, issuer=here.issuer, oidc_subject=claims["sub"])
    except Conflict:
        raise SignInRefused(f"There is another user {username} here. Ask an administrator.") from None
    except Refused as refused:
        raise SignInRefused(str(refused)) from refused
    actor = sessions.actor_of(credential.account, address)
    audit.record(session, actor, "account.added", f"account:{username}", {"role": role, "by": "OIDC"})
    return credential


def _settings() -> OidcSettings:
    here = settings().sign_in.oidc
    if here is None:
        raise SignInRefused("This workstation does not sign in by OIDC.")
    return here


def _client(here: OidcSettings) -> OAuth2Session:
    return OAuth2Session(
        here.client_id,
        here.client_secret,
        scope="openid profile email",
        redirect_uri=f"{settings().sign_in.public_url}{CALLBACK_PATH}",
        code_challenge_method="S256",
        token_endpoint_auth_method="client_secret_basic" if here.client_secret else "none",
        default_timeout=TIMEOUT_S,
    )


def _provider(here: OidcSettings) -> dict[str, str]:
    """What the provider says of itself, asked anew each time: it is one request a sign-in, and keys change."""
    try:
        found = _get_json(f"{here.issuer.rstrip('/')}/.well-known/openid-configuration")
        if found["issuer"] != here.issuer:
            raise ValueError("it names another issuer")
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            parts = urlsplit(found[name])
            if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
                raise ValueError(f"its {name} is not https")
        return found
    except (requests.RequestException, KeyError, ValueError) as error:
        raise SignInRefused(f"The identity provider at {here.issuer} does not answer as it should: {error}") from error


def _get_json(url: str) -> Any:
    answer = requests.get(url, timeout=TIMEOUT_S, allow_redirects=False)
    answer.raise_for_status()
    return answer.json()
