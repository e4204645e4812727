"""Reads by a PediScreen worker on another machine: engine.inference.reader.Reader's interface, over HTTP.

    PEDISCREEN_MODEL=https://gpu.hospital:8602  PEDISCREEN_READS_TOKEN=...  pediscreen up

The other side is engine.jobs.read_server. While it is away, or says something that cannot be a read, the films stay
queued (ReaderUnavailable). Knows no torch: such a machine needs no model."""

from __future__ import annotations

import ssl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx2
import numpy as np
from PIL import Image

from engine.errors import ModelUnavailable, PediScreenError, ReaderUnavailable, ReadFailed, Refused
from engine.findings.answers import Task, View
from engine.imaging.preprocess import model_pixels
from engine.inference import wire
from engine.inference.read import Read, ReadContext

TIMEOUT = httpx2.Timeout(60.0, connect=5.0)
PAUSES_S = (0.5, 1.5)  # before the second and the third attempt
GIVE_UP_AFTER_S = 90.0  # of all attempts, and of an answer that trickles
AGAIN_LATER = (502, 503, 504)  # a proxy, or the worker, that cannot now
LOOPBACK = ("localhost", "127.0.0.1", "::1")
LONGEST_WORDS = 20_000  # characters


def check_url(url: str) -> None:
    """Raises ModelUnavailable. Pixels and token go in the clear to this machine only (a tunnel ends there)."""
    parts = urlsplit(url)
    if parts.username or parts.password or parts.query or parts.fragment or not parts.hostname:
        raise ModelUnavailable(
            f"PEDISCREEN_MODEL is no address of a worker: {parts.scheme}://{parts.hostname or ''} ..."
        )
    if parts.scheme != "https" and parts.hostname not in LOOPBACK:
        raise ModelUnavailable(
            f"{url} would send films in the clear. Use https://, or a tunnel to this machine (ssh -L) and http://localhost."
        )


class RemoteReader:
    """Threads may share it. Raises ModelUnavailable where the other side cannot be asked what reads there."""

    is_on_gpu = False  # of this machine

    def __init__(self, url: str, token: str | None) -> None:
        check_url(url)
        if not token:
            raise ModelUnavailable(f"Set PEDISCREEN_READS_TOKEN to the token of the worker at {url}.")
        self.url = url.rstrip("/")
        try:
            self._client = httpx2.Client(
                base_url=self.url,
                headers={"Authorization": f"Bearer {token}", "Accept-Encoding": "identity"},
                timeout=TIMEOUT,
                verify=ssl.create_default_context(),  # the system's authorities, or those of SSL_CERT_FILE
                trust_env=urlsplit(url).hostname not in LOOPBACK,  # loopback never goes by a proxy
            )
        except httpx2.InvalidURL as wrong:
            raise ModelUnavailable(f"{url} is no address of a worker: {wrong}") from wrong
        try:
            self._there = self._describe()
        except ReaderUnavailable as away:
            raise ModelUnavailable(str(away)) from away

    @property
    def model_version(self) -> str:
        return self._there.model_version

    @property
    def is_phantom(self) -> bool:
        return self._there.is_phantom

    @property
    def image_processor(self) -> Resize:
        return Resize(self._there.side, self._there.resample)

    def read(self, images: Sequence[Image.Image], task: Task, contexts: Sequence[ReadContext]) -> list[Read]:
        """As engine.inference.reader.Reader.read."""
        return self.read_pixels(model_pixels(images, self.image_processor), task, contexts)

    def read_pixels(self, pixels: np.ndarray, task: Task, contexts: Sequence[ReadContext]) -> list[Read]:
        """As engine.inference.reader.Reader.read_pixels."""
        reads: list[Read] = []
        for start in range(0, len(pixels), wire.MOST_IMAGES):
            part = slice(start, start + wire.MOST_IMAGES)
            said = self._ask("/reads", wire.packed(Task(task), contexts[part], pixels[part]))
            with self._understood():
                there = wire.described(said)
                found = [wire.read_from(one, Task(task), there.model_version) for one in _list(said, "reads")]
                _as_many(found, pixels[part])
            self._there = there
            reads += found
        return reads

    def triage_pixels(self, pixels: np.ndarray) -> list[tuple[View, dict[str, float]]]:
        """As engine.inference.reader.Reader.triage_pixels."""
        views: list[tuple[View, dict[str, float]]] = []
        for start in range(0, len(pixels), wire.MOST_IMAGES):
            part = pixels[start : start + wire.MOST_IMAGES]
            said = self._ask("/views", wire.packed(None, [ReadContext()] * len(part), part))
            with self._understood():
                found = [wire.view_from(one) for one in _list(said, "views")]
                _as_many(found, part)
            views += found
        return views

    def words(self, pixels: np.ndarray, task: Task, context: ReadContext) -> Iterator[str]:
        """As engine.inference.reader.Reader.words; `pixels` (3, side, side) uint8."""
        body, length, is_whole = wire.packed(Task(task), [context], pixels[None]), 0, False
        try:
            with self._client.stream("POST", "/words", content=body) as response:
                if response.status_code != 200:
                    raise self._refusal(response.status_code, _limited(response, time.monotonic() + GIVE_UP_AFTER_S))
                for line in response.iter_lines():
                    with self._understood():
                        said = wire.parsed(line.encode())
                    text, is_whole = str(said.get("text", "")), said.get("is_end") is True
                    length += len(text)
                    if is_whole or length > LONGEST_WORDS:
                        break
                    yield text
        except httpx2.HTTPError as error:
            raise ReaderUnavailable(f"{self.url} does not answer ({_what(error)}).") from error
        if not is_whole:
            raise ReaderUnavailable(f"{self.url} ended in the middle of what it said.")

    def _describe(self) -> wire.Described:
        with self._understood():
            return wire.described(self._ask("/model"))

    def _ask(self, path: str, body: bytes | None = None) -> dict[str, Any]:
        """Raises ReaderUnavailable, ReadFailed, Refused."""
        gives_up_at = time.monotonic() + GIVE_UP_AFTER_S
        for pause in (*PAUSES_S, None):
            try:
                with self._client.stream("GET" if body is None else "POST", path, content=body) as response:
                    status, content = response.status_code, _limited(response, gives_up_at)
            except httpx2.HTTPError as error:
                trouble = ReaderUnavailable(f"{self.url} does not answer ({_what(error)}).")
            except wire.NotUnderstood as too_much:
                raise ReaderUnavailable(f"{self.url}: {too_much}.") from too_much
            else:
                if status == 200:
                    with self._understood():
                        return wire.parsed(content)
                trouble = self._refusal(status, content)
                if status not in AGAIN_LATER:
                    raise trouble
            if pause is None or time.monotonic() + pause > gives_up_at:
                break
            time.sleep(pause)
        raise trouble

    def _refusal(self, status: int, content: bytes) -> PediScreenError:
        """What the other side's error means here."""
        try:
            said = wire.parsed(content)
            code, message = str(said["error"]["code"]), str(said["error"]["message"])[:500]
            if code == "model_changed":
                self._there = wire.described(said)
        except (wire.NotUnderstood, KeyError, TypeError):
            code, message = "", f"status {status}, and no word of a PediScreen worker"
        if code == "read_failed":
            return ReadFailed(message)
        if code == "no_words":
            return Refused(code, message)
        if status == 401:
            message += " Set PEDISCREEN_READS_TOKEN to the same on both machines."
        return ReaderUnavailable(f"{self.url} does not read: {message}")

    @contextmanager
    def _understood(self) -> Iterator[None]:
        try:
            yield
        except wire.NotUnderstood as wrong:
            raise ReaderUnavailable(f"The answer of {self.url} is not used: {wrong}.") from wrong


class Resize:
    """What Gemma 3's image processor does before it normalises: so large a square, RGB, channels first."""

    def __init__(self, side: int, resample: int) -> None:
        self.size, self.resample = {"height": side, "width": side}, resample

    def __call__(self, images: Sequence[Image.Image], **how: Any) -> dict[str, np.ndarray]:
        side = self.size["height"]
        squares = [image.convert("RGB").resize((side, side), self.resample) for image in images]
        return {"pixel_values": np.stack([np.asarray(square).transpose(2, 0, 1) for square in squares])}


def _limited(response: httpx2.Response, gives_up_at: float) -> bytes:
    content = bytearray()
    for chunk in response.iter_bytes():
        content += chunk
        if len(content) > wire.LARGEST_ANSWER_BYTES:
            raise wire.NotUnderstood(f"an answer of more than {wire.LARGEST_ANSWER_BYTES} bytes is not read")
        if time.monotonic() > gives_up_at:
            raise httpx2.ReadTimeout("the answer trickles")
    return bytes(content)


def _list(said: dict[str, Any], name: str) -> list[Any]:
    if not isinstance(said.get(name), list):
        raise wire.NotUnderstood(f"it holds no {name}")
    return said[name]


def _as_many(found: Sequence[Any], asked: Sequence[Any]) -> None:
    if len(found) != len(asked):
        raise wire.NotUnderstood(f"{len(asked)} images were sent and {len(found)} answered")


def _what(error: httpx2.HTTPError) -> str:
    return f"{type(error).__name__}: {error}".removesuffix(": ")
