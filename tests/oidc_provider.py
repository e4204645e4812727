"""A small OpenID provider on a free port: one user, who is signed in there already. It signs with cryptography alone,
and does wrong what a test tells it to."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

CLIENT_ID, CLIENT_SECRET = "pediscreen", "client-secret"


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@cache
def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@dataclass
class Provider:
    issuer: str
    key: rsa.RSAPrivateKey = field(default_factory=_key)
    signing_key: rsa.RSAPrivateKey | None = None  # another than the published one
    algorithm: str = "RS256"
    claims: dict[str, Any] = field(default_factory=dict)  # instead of the honest ones; None leaves one out
    names_itself: str | None = None  # another issuer in what it says of itself
    checks_pkce: bool = True
    asked: list[dict[str, str]] = field(default_factory=list)  # what browsers were sent here with
    codes: dict[str, dict[str, str]] = field(default_factory=dict)

    def id_token(self, asked: dict[str, str]) -> str:
        now = int(time.time())
        claims = {
            "iss": self.issuer,
            "aud": CLIENT_ID,
            "sub": "user-17",
            "iat": now,
            "exp": now + 300,
            "auth_time": now,
            "nonce": asked.get("nonce"),
            "preferred_username": "Rita",
            "name": "Rita Reader",
            "groups": ["staff", "radiology"],
            **self.claims,
        }
        header = {"alg": self.algorithm, "kid": "1", "typ": "JWT"}
        parts = [header, {name: value for name, value in claims.items() if value is not None}]
        signed = ".".join(base64url(json.dumps(part).encode()) for part in parts)
        if self.algorithm == "none":
            return f"{signed}."
        key = self.signing_key or self.key
        return f"{signed}.{base64url(key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256()))}"

    def configuration(self) -> dict[str, Any]:
        return {
            "issuer": self.names_itself or self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
        }

    def keys(self) -> dict[str, Any]:
        numbers = self.key.public_key().public_numbers()
        n, e = (number.to_bytes((number.bit_length() + 7) // 8, "big") for number in (numbers.n, numbers.e))
        return {
            "keys": [{"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "1", "n": base64url(n), "e": base64url(e)}]
        }

    def authorize(self, asked: dict[str, str]) -> str:
        """Where the browser goes back to."""
        self.asked.append(asked)
        code = secrets.token_urlsafe(16)
        self.codes[code] = asked
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"

    def token(self, form: dict[str, str], authorization: str) -> tuple[int, dict[str, Any]]:
        basic = "Basic " + base64.b64encode(f"{CLIENT_ID}:{CLIENT_SECRET}".encode()).decode()
        asked = self.codes.pop(form.get("code", ""), None)
        if authorization != basic or asked is None or form.get("redirect_uri") != asked["redirect_uri"]:
            return 400, {"error": "invalid_grant"}
        challenge = base64url(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if self.checks_pkce and (asked.get("code_challenge_method"), asked.get("code_challenge")) != (
            "S256",
            challenge,
        ):
            return 400, {"error": "invalid_grant"}
        return 200, {"access_token": "unused", "token_type": "Bearer", "id_token": self.id_token(asked)}


@contextmanager
def oidc_provider() -> Iterator[Provider]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            if url.path == "/.well-known/openid-configuration":
                self._send(200, provider.configuration())
            elif url.path == "/keys":
                self._send(200, provider.keys())
            elif url.path == "/authorize":
                self.send_response(302)
                self.send_header("Location", provider.authorize(dict(parse_qsl(url.query))))
                self.end_headers()
            else:
                self._send(404, {})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self._send(*provider.token(dict(parse_qsl(body)), self.headers.get("Authorization", "")))

        def _send(self, status: int, document: dict[str, Any]) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            pass

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    provider = Provider(f"http://127.0.0.1:{listening.server_port}")
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    yield provider
    listening.shutdown()
    listening.server_close()
    thread.join()


def settings_for(provider: Provider, public_url: str) -> dict[str, str]:
    return {
        "PEDISCREEN_LOGIN": "oidc",
        "PEDISCREEN_PUBLIC_URL": public_url,
        "PEDISCREEN_OIDC_ISSUER": provider.issuer,
        "PEDISCREEN_OIDC_CLIENT_ID": CLIENT_ID,
        "PEDISCREEN_OIDC_CLIENT_SECRET": CLIENT_SECRET,
        "PEDISCREEN_OIDC_ROLES": json.dumps({"reader": ["radiology"], "adjudicator": ["seniors"], "admin": ["it"]}),
    }
