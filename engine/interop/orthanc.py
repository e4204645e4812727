"""Orthanc's REST interface, as much of it as following its changes needs.

Answers are asked for uncompressed (`Accept-Encoding: identity`): Orthanc's gzip makes a film of 15 MB 25 times slower.
Every answer of another system is checked before it is used."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx2

from engine.errors import PediScreenError
from engine.interop.destinations import LOOPBACK
from engine.settings import OrthancSettings

TIMEOUT = httpx2.Timeout(60.0, connect=5.0)
BLOCK_BYTES = 1 << 20
LONGEST_NAME = 64
IDENTIFIER = re.compile(r"[0-9a-f-]{1,64}")


class OrthancUnavailable(PediScreenError):
    """It does not answer, or with something that is no answer."""


class InstanceUnreadable(PediScreenError):
    """Orthanc answers, but cannot give out this one instance."""


@dataclass(frozen=True)
class Change:
    seq: int
    kind: str  # NewInstance, StableStudy, ...
    resource: str  # Orthanc's identifier
    date: str

    @property
    def identity(self) -> str:
        """Tells it from every other change, also from one of another database with the same number."""
        return f"{self.seq} {self.date} {self.kind} {self.resource}"


@dataclass(frozen=True)
class Changes:
    changes: list[Change]
    is_last_page: bool


@dataclass(frozen=True)
class InstanceFacts:
    sop_class_uid: str | None
    remote_ae_title: str | None  # who sent it to Orthanc; None when it came by REST
    remote_address: str | None


class OrthancClient:
    """Raises PediScreenError where the settings cannot be used."""

    def __init__(self, here: OrthancSettings) -> None:
        parts = urlsplit(here.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise PediScreenError("PEDISCREEN_ORTHANC_URL must be like https://orthanc.hospital:8042, without a user.")
        if parts.scheme != "https" and parts.hostname not in LOOPBACK:
            raise PediScreenError(
                f"PEDISCREEN_ORTHANC_URL {here.url} would send films and the password in the clear. Use https://, or a "
                "tunnel to this machine and http://localhost."
            )
        if not here.user or not here.password:
            raise PediScreenError(
                "Set PEDISCREEN_ORTHANC_USER and PEDISCREEN_ORTHANC_PASSWORD (or PEDISCREEN_ORTHANC_PASSWORD_FILE)."
            )
        try:
            verify = ssl.create_default_context(cafile=here.ca) if here.ca else True
        except OSError as error:
            raise PediScreenError(f"PEDISCREEN_ORTHANC_CA cannot be used: {error.strerror or error}") from error
        self.url = here.url.rstrip("/")
        self._client = httpx2.Client(
            base_url=self.url,
            auth=(here.user, here.password),
            headers={"Accept-Encoding": "identity"},
            timeout=TIMEOUT,
            verify=verify,
            trust_env=False,
        )

    def close(self) -> None:
        self._client.close()

    def changes(self, since: int, limit: int) -> Changes:
        """Those after number `since`, the oldest first."""
        answer = self._json("/changes", since=since, limit=limit)
        try:
            found = [
                Change(int(one["Seq"]), str(one["ChangeType"]), _name(one["ID"]), str(one["Date"])[:32])
                for one in answer["Changes"]
            ]
            return Changes(found, bool(answer["Done"]))
        except (KeyError, TypeError, ValueError) as error:
            raise self._no_answer("/changes", "no list of changes") from error

    def study_instances(self, study: str) -> list[str]:
        """Empty where the study has been deleted."""
        answer = self._json(f"/studies/{study}/instances")
        try:
            return [_name(one["ID"]) for one in answer or ()]
        except (KeyError, TypeError, ValueError) as error:
            raise self._no_answer("/studies/.../instances", "no list of instances") from error

    def facts(self, instance: str) -> InstanceFacts | None:
        """None where the instance has been deleted."""
        answer = self._json(f"/instances/{instance}/metadata?expand")
        if answer is None:
            return None
        if not isinstance(answer, dict):
            raise self._no_answer("/instances/.../metadata", "no metadata")
        texts = {name: text.strip()[:LONGEST_NAME] for name, text in answer.items() if isinstance(text, str)}
        return InstanceFacts(
            texts.get("SopClassUid") or None, texts.get("RemoteAET") or None, texts.get("RemoteIP") or None
        )

    def manufacturer(self, instance: str) -> str | None:
        """(0008,0070); None where the instance does not say, or cannot be read, of which `file` says more."""
        path = f"/instances/{instance}/content/0008-0070"
        try:
            answer = self._client.get(path)
        except httpx2.HTTPError as error:
            raise self._no_answer(path, type(error).__name__) from error
        if answer.status_code == 404 or answer.status_code >= 500:
            return None
        self._require_success(path, answer)
        return answer.text.strip(" \0") or None

    @contextmanager
    def file(self, instance: str) -> Iterator[Iterator[bytes]]:
        """The DICOM file in blocks. Raises InstanceUnreadable where Orthanc has none, or an error of its own with it
        (whether it has deleted the instance, `facts` tells); OrthancUnavailable also while the blocks come."""
        path = f"/instances/{instance}/file"
        try:
            with self._client.stream("GET", path) as answer:
                if answer.status_code == 404 or answer.status_code >= 500:
                    raise InstanceUnreadable(f"Orthanc answers {answer.status_code} when asked for a file.")
                self._require_success(path, answer)
                yield answer.iter_bytes(BLOCK_BYTES)
        except httpx2.HTTPError as error:
            raise self._no_answer(path, type(error).__name__) from error

    def _json(self, path: str, **parameters: int) -> Any:
        """None for what is not there (404)."""
        try:
            answer = self._client.get(path, params=parameters or None)
            if answer.status_code == 404:
                return None
            self._require_success(path, answer)
            return answer.json()
        except httpx2.HTTPError as error:
            raise self._no_answer(path, type(error).__name__) from error
        except ValueError as error:
            raise self._no_answer(path, "no JSON") from error

    def _require_success(self, path: str, answer: httpx2.Response) -> None:
        if answer.status_code in (401, 403):
            raise OrthancUnavailable(
                f"Orthanc at {self.url} refuses the user ({answer.status_code}): check PEDISCREEN_ORTHANC_USER and its "
                "password, and in Orthanc RegisteredUsers and RemoteAccessAllowed."
            )
        if answer.status_code != 200:
            raise self._no_answer(path, f"status {answer.status_code}")

    def _no_answer(self, path: str, what: str) -> OrthancUnavailable:
        return OrthancUnavailable(f"Orthanc at {self.url} does not answer {path.partition('?')[0]} ({what}).")


def _name(text: Any) -> str:
    """An identifier of Orthanc's: it becomes part of an address. Raises ValueError for anything else."""
    if not isinstance(text, str) or not IDENTIFIER.fullmatch(text):
        raise ValueError("no identifier of Orthanc's")
    return text
