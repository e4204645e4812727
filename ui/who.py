"""Who a browser is: read from its cookies, for requests and reruns of pages alike. Nothing else in the web process
decides who somebody is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from db.session import session_scope
from engine.services import sessions
from engine.services.accounts import DEMO_USER_COOKIE, demo_user
from engine.services.sessions import SignedIn
from engine.settings import settings
from engine.sign_in_settings import Login

OIDC_COOKIE = "pediscreen_oidc"  # held while the browser is away at the identity provider


def cookie_name(name: str = "pediscreen_session") -> str:
    """With TLS, one that no other host and no page without TLS can set."""
    return f"__Host-{name}" if settings().sign_in.behind_tls else name


def signed_in(cookies: Mapping[str, str], address: str = "") -> SignedIn | None:
    """None: nobody. In the demo: the demo user they chose, the demo reader at first."""
    if settings().sign_in.login is Login.DEMO:
        actor = replace(demo_user(cookies.get(DEMO_USER_COOKIE)), origin=address)
        return SignedIn(0, 0, actor, locked=False, locks_in_s=float("inf"), must_change=False, by_password=False)
    with session_scope(settings().database_url) as session:
        return sessions.signed_in(session, cookies.get(cookie_name()), address)
