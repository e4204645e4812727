"""Who gets in and from where: the part of the settings that `settings().sign_in` holds."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from engine.errors import PediScreenError

EVERY_ADDRESS = ("0.0.0.0", "::")
LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")


class WrongSetting(PediScreenError):
    """A setting of the environment that cannot be meant; the message names it."""


class Login(StrEnum):
    """How people get in. `demo`: everybody on this machine, as one of the demo users."""

    DEMO = "demo"
    LOCAL = "local"
    OIDC = "oidc"


@dataclass(frozen=True)
class OidcSettings:
    issuer: str
    client_id: str
    client_secret: str | None = field(repr=False)
    role_claim: str  # a name, or a path such as realm_access.roles
    roles: Mapping[str, tuple[str, ...]]  # which of the claim's values give which role


@dataclass(frozen=True)
class SignInSettings:
    login: Login = Login.DEMO
    host: str = "127.0.0.1"  # the address to listen on
    public_url: str | None = None  # as people type it; https means that a proxy in front speaks TLS
    allowed_hosts: tuple[str, ...] = ()  # further names of this server
    proxies: str = ""  # addresses and networks whose X-Forwarded-For counts, separated by commas
    idle_after: timedelta = timedelta(minutes=15)
    session_lasts: timedelta = timedelta(hours=12)
    oidc: OidcSettings | None = None

    @property
    def behind_tls(self) -> bool:
        return self.public_url is not None and self.public_url.startswith("https://")

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names this server answers to, in lower case, without ports."""
        public = (urlsplit(self.public_url).hostname or "",) if self.public_url else ()
        listening = () if self.host in EVERY_ADDRESS else (self.host,)
        return tuple(dict.fromkeys((*LOOPBACK_HOSTS, *listening, *public, *self.allowed_hosts)))

    def address(self, port: int) -> str:
        """As a browser on this machine reaches the web process."""
        host = "localhost" if self.host in ("127.0.0.1", *EVERY_ADDRESS) else self.host
        return f"http://{host}:{port}"


def read_sign_in_settings(env: Mapping[str, str]) -> SignInSettings:
    """Raises WrongSetting for one that cannot be meant."""
    try:
        login = Login(env.get("PEDISCREEN_LOGIN") or Login.DEMO)
    except ValueError:
        known = ", ".join(Login)
        raise WrongSetting(f"PEDISCREEN_LOGIN must be one of {known}, found {env['PEDISCREEN_LOGIN']!r}") from None
    found = SignInSettings(
        login=login,
        host=env.get("PEDISCREEN_HOST") or "127.0.0.1",
        public_url=_url(env, "PEDISCREEN_PUBLIC_URL"),
        allowed_hosts=tuple(_listed(env.get("PEDISCREEN_ALLOWED_HOSTS", "").lower())),
        proxies=_proxies(env),
        idle_after=timedelta(minutes=_positive(env, "PEDISCREEN_IDLE_MINUTES", 15)),
        session_lasts=timedelta(hours=_positive(env, "PEDISCREEN_SESSION_HOURS", 12)),
        oidc=_oidc(env) if login is Login.OIDC else None,
    )
    if login is Login.DEMO:
        _refuse_open_demo(found)
    return found


def is_loopback(address: str) -> bool:
    """Whether an address to listen on, or a client's, is this machine alone."""
    try:
        return ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return address == "localhost"


def _refuse_open_demo(found: SignInSettings) -> None:
    opened = {
        "PEDISCREEN_HOST": found.host if not is_loopback(found.host) else None,
        "PEDISCREEN_PUBLIC_URL": found.public_url,
        "PEDISCREEN_ALLOWED_HOSTS": ", ".join(found.allowed_hosts),
        "PEDISCREEN_PROXIES": found.proxies,
    }
    for name, value in opened.items():
        if value:
            raise WrongSetting(
                f"The demo has no passwords and answers to this machine alone, but {name} is {value}. "
                "For others to reach it, set PEDISCREEN_LOGIN=local or oidc."
            )


def _oidc(env: Mapping[str, str]) -> OidcSettings:
    needed = ("PEDISCREEN_OIDC_ISSUER", "PEDISCREEN_OIDC_CLIENT_ID", "PEDISCREEN_OIDC_ROLES", "PEDISCREEN_PUBLIC_URL")
    missing = [name for name in needed if not env.get(name)]
    if missing:
        raise WrongSetting(f"PEDISCREEN_LOGIN=oidc also needs {', '.join(missing)}")
    _url(env, "PEDISCREEN_OIDC_ISSUER")
    issuer = env["PEDISCREEN_OIDC_ISSUER"]  # as the provider writes it, with or without a slash at the end
    if issuer.startswith("http://") and not is_loopback(urlsplit(issuer).hostname or ""):
        raise WrongSetting(f"PEDISCREEN_OIDC_ISSUER must be https, found {issuer}")
    secret_file = env.get("PEDISCREEN_OIDC_CLIENT_SECRET_FILE")
    secret = Path(secret_file).read_text().strip() if secret_file else env.get("PEDISCREEN_OIDC_CLIENT_SECRET")
    return OidcSettings(
        issuer=issuer,
        client_id=env["PEDISCREEN_OIDC_CLIENT_ID"],
        client_secret=secret or None,
        role_claim=env.get("PEDISCREEN_OIDC_ROLE_CLAIM") or "groups",
        roles=_roles(env["PEDISCREEN_OIDC_ROLES"]),
    )


def _roles(text: str) -> dict[str, tuple[str, ...]]:
    example = '{"reader": ["radiology"], "admin": ["it"]}'
    try:
        given = json.loads(text)
    except json.JSONDecodeError as error:
        raise WrongSetting(f"PEDISCREEN_OIDC_ROLES must be JSON such as {example}: {error}") from error
    known = {"reader", "adjudicator", "admin"}
    if not isinstance(given, dict) or not given.keys() <= known:
        raise WrongSetting(f"PEDISCREEN_OIDC_ROLES must map {', '.join(sorted(known))}, as in {example}; found {text}")
    if not all(isinstance(values, list) and all(isinstance(v, str) for v in values) for values in given.values()):
        raise WrongSetting(f"PEDISCREEN_OIDC_ROLES must give lists of words, as in {example}; found {text}")
    return {role: tuple(values) for role, values in given.items()}


def _url(env: Mapping[str, str], name: str) -> str | None:
    value = env.get(name, "").rstrip("/")
    if not value:
        return None
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise WrongSetting(f"{name} must be an address such as https://pediscreen.example, found {value!r}")
    return value


def _proxies(env: Mapping[str, str]) -> str:
    given = _listed(env.get("PEDISCREEN_PROXIES", ""))
    for one in given:
        try:
            ipaddress.ip_network(one)
        except ValueError as error:
            raise WrongSetting(f"PEDISCREEN_PROXIES must list addresses or networks, found {one!r}: {error}") from error
    return ",".join(given)


def _positive(env: Mapping[str, str], name: str, default: float) -> float:
    text = env.get(name)
    try:
        number = float(text) if text else default
    except ValueError:
        number = 0
    if not 0 < number < 24 * 366:
        raise WrongSetting(f"{name} must be a positive number, found {text!r}")
    return number


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
