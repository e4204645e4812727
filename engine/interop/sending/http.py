"""One request to a DICOMweb or FHIR server of the settings: no redirects, no cookies, a limit on time and size."""

from __future__ import annotations

import time
from dataclasses import dataclass

import httpx2

from engine.interop.destinations import LOOPBACK, Destination, SecretMissing
from engine.interop.sending import NotDelivered, Unreachable
from engine.interop.sending.tls import tls_context

TIMEOUT = httpx2.Timeout(30.0, connect=10.0)
GIVE_UP_AFTER_S = 120.0  # of an answer that trickles
LARGEST_ANSWER_BYTES = 2_000_000
ASKS_WHO_WE_ARE = {401: "the user, password or token is not accepted", 403: "our user may not store results there"}
WRONG_PLACE = {404: "there is no such service at this address", 405: "there is no such service at this address"}
AGAIN = {408, 423, 425, 429} | set(ASKS_WHO_WE_ARE) | set(WRONG_PLACE)  # of 4xx; the others are about the content


@dataclass(frozen=True)
class HttpAnswer:
    status: int
    body: bytes


def post(destination: Destination, path: str, content: bytes, content_type: str, accept: str) -> HttpAnswer:
    """An answer of 2xx, or a 4xx about the content (409 too, which each protocol means in its own way). Raises
    NotDelivered for everything else."""
    headers = {"Content-Type": content_type, "Accept": accept, "Accept-Encoding": "identity"}
    try:
        token, password = destination.token, destination.password
    except SecretMissing as missing:
        raise Unreachable(str(missing)) from missing
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    auth = httpx2.BasicAuth(destination.user, password or "") if destination.user and token is None else None
    try:
        with httpx2.Client(
            timeout=TIMEOUT,
            verify=tls_context(destination) if destination.uses_tls else True,
            follow_redirects=False,
            trust_env=destination.host not in LOOPBACK,  # loopback never goes by a proxy
        ) as client:
            answer = _ask(client, f"{destination.url}{path}", content, headers, auth)
    except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
        raise Unreachable(_why_not_connected(error)) from error
    except httpx2.TimeoutException as error:
        raise NotDelivered("it gives no answer in time") from error
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
        raise NotDelivered(f"the connection broke off ({type(error).__name__})") from error
    if 200 <= answer.status < 300 or (400 <= answer.status < 500 and answer.status not in AGAIN):
        return answer
    raise NotDelivered(f"{_meaning(answer.status)} (HTTP {answer.status})")


def _ask(
    client: httpx2.Client, url: str, content: bytes, headers: dict[str, str], auth: httpx2.BasicAuth | None
) -> HttpAnswer:
    deadline, body = time.monotonic() + GIVE_UP_AFTER_S, b""
    with client.stream("POST", url, content=content, headers=headers, auth=auth) as response:
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > LARGEST_ANSWER_BYTES:
                raise NotDelivered("its answer is larger than an answer can be")
            if time.monotonic() > deadline:
                raise NotDelivered("it gives no answer in time")
        return HttpAnswer(response.status_code, body)


def _meaning(status: int) -> str:
    if status >= 500:
        return "the server has an error, or is being serviced"
    if status < 400:
        return "it answers with a redirect, which is not followed: correct the address in the settings"
    return ASKS_WHO_WE_ARE.get(status) or WRONG_PLACE.get(status) or "it cannot take the report now"


def _why_not_connected(error: httpx2.TransportError) -> str:
    """The cause is kept only as text."""
    if isinstance(error, httpx2.TimeoutException):
        return "it gives no answer"
    text = str(error)
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return (
            f"its certificate is not accepted: {text.partition('certificate verify failed: ')[2][:120] or text[:120]}"
        )
    if "SSL" in text or "TLS" in text:
        return "no TLS connection comes about"
    if "Name or service not known" in text or "name resolution" in text or "No address associated" in text:
        return "its name is not known to the network (DNS)"
    if "refused" in text:
        return "nothing answers at this address and port (connection refused)"
    return "no connection"
