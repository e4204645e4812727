"""The worker's door: reads for other machines, and the model's words for the review page, over HTTP.

    GET  /model    which model reads here, and how large it wants its images
    POST /reads    images of one task      → their reads
    POST /views    images of no known task → what each shows
    POST /words    one image and its task  → the model's own words, line by line as they come

Requests and answers are engine.inference.wire's; each carries the token of PEDISCREEN_READS_TOKEN. Nothing is stored or
logged of them. The model is the worker's own: a request takes its turn between two of the worker's batches. On any
address but this machine's own there is TLS."""

from __future__ import annotations

import json
import logging
import secrets
import socket
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from engine.errors import ModelUnavailable, PediScreenError, ReaderLost, ReaderUnavailable, Refused
from engine.inference import wire
from engine.inference.remote import LOOPBACK
from engine.inference.wire import Asked, Described, NotUnderstood
from engine.jobs.prepare import reason_of
from engine.settings import Settings

if TYPE_CHECKING:
    from engine.inference.checkpoint import Reader

log = logging.getLogger(__name__)

SHORTEST_TOKEN = 16
AT_ONCE = 8  # connections; more are told to come back
STOP_WITHIN_S = 5


class ReadServer:
    """`current_reader` gives the reader, or raises ModelUnavailable with what is missing; `on_lost` is told when the
    worker has to end. Raises PediScreenError where the settings would let anybody in, or the port is taken."""

    def __init__(
        self, here: Settings, current_reader: Callable[[], Reader], on_lost: Callable[[ReaderLost], None]
    ) -> None:
        if len(here.reads_token or "") < SHORTEST_TOKEN:
            raise PediScreenError(
                "PEDISCREEN_READS_PORT is set, but PEDISCREEN_READS_TOKEN has not the "
                f"{SHORTEST_TOKEN} characters that it needs. Make one: openssl rand -hex 32"
            )
        if here.reads_host not in LOOPBACK and (here.reads_certificate is None or here.reads_key is None):
            raise PediScreenError(
                f"PEDISCREEN_READS_HOST={here.reads_host} would let films and token go over the network in the clear. "
                "Set PEDISCREEN_READS_CERTIFICATE and PEDISCREEN_READS_KEY, or leave it at 127.0.0.1 behind a tunnel."
            )
        self.token = here.reads_token
        self.current_reader = current_reader
        self.on_lost = on_lost
        app = Starlette(
            routes=[
                Route("/model", self._answered(self._model), methods=["GET"]),
                Route("/reads", self._answered(self._reads), methods=["POST"]),
                Route("/views", self._answered(self._views), methods=["POST"]),
                Route("/words", self._answered(self._words), methods=["POST"]),
            ]
        )
        try:
            self._socket = socket.create_server((here.reads_host, here.reads_port), reuse_port=False)
        except OSError as taken:
            raise PediScreenError(
                f"PEDISCREEN_READS_PORT={here.reads_port} cannot be listened on: {taken.strerror}"
            ) from taken
        self.port = self._socket.getsockname()[1]
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                limit_concurrency=AT_ONCE,
                timeout_graceful_shutdown=STOP_WITHIN_S,
                ssl_certfile=here.reads_certificate,
                ssl_keyfile=here.reads_key,
            )
        )
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), name="door", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(STOP_WITHIN_S)
        self._socket.close()

    def _answered(self, answer: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """With the token checked first, and every refusal in one shape."""

        async def answered(request: Request) -> Response:
            given = request.headers.get("authorization", "").encode()
            if not secrets.compare_digest(given, f"Bearer {self.token}".encode()):
                return _error(401, "not_allowed", "the token is not this worker's.")
            try:
                return await answer(request)
            except NotUnderstood as wrong:
                return _error(422, "not_understood", str(wrong))
            except Refused as refused:
                return _error(422, refused.code, str(refused))
            except ReaderLost as lost:
                self.on_lost(lost)
                return _error(503, "unavailable", str(lost))
            except (ReaderUnavailable, ModelUnavailable) as away:
                return _error(503, "unavailable", str(away))
            except Exception as error:  # the outermost line of one request's read
                log.exception("a read for another machine failed")
                return _error(422, "read_failed", reason_of(error))

        return answered

    async def _model(self, request: Request) -> Response:
        return JSONResponse(_described(self.current_reader()).as_json())

    async def _reads(self, request: Request) -> Response:
        asked = await _asked(request)
        if asked.task is None:
            raise NotUnderstood("a read needs a task")
        reader = self.current_reader()
        if (changed := _other_size(reader, asked)) is not None:
            return changed
        reads = await run_in_threadpool(reader.read_pixels, asked.pixels, asked.task, asked.contexts)
        return JSONResponse(_described(reader).as_json() | {"reads": [read.as_json() for read in reads]})

    async def _views(self, request: Request) -> Response:
        asked = await _asked(request)
        reader = self.current_reader()
        if (changed := _other_size(reader, asked)) is not None:
            return changed
        views = await run_in_threadpool(reader.triage_pixels, asked.pixels)
        shown = [{"view": view.value, "probabilities": p} for view, p in views]
        return JSONResponse(_described(reader).as_json() | {"views": shown})

    async def _words(self, request: Request) -> Response:
        asked = await _asked(request)
        if asked.task is None or len(asked.contexts) != 1:
            raise NotUnderstood("words need one image and its task")
        reader = self.current_reader()
        if (changed := _other_size(reader, asked)) is not None:
            return changed
        words = reader.words(asked.pixels[0], asked.task, asked.contexts[0])
        first = await run_in_threadpool(next, words, None)  # what it refuses, it refuses here, before the answer begins
        return StreamingResponse(self._lines(first, words), media_type="application/x-ndjson")

    async def _lines(self, first: str | None, words: Iterator[str]) -> AsyncIterator[str]:
        """Without the last line where it breaks off."""
        if first is not None:
            yield _line(text=first)
        try:
            async for text in iterate_in_threadpool(words):
                yield _line(text=text)
        except ReaderUnavailable as away:
            log.error("the model's words broke off: %s", away)
            if isinstance(away, ReaderLost):
                self.on_lost(away)
            return
        yield _line(is_end=True)


async def _asked(request: Request) -> Asked:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > wire.LARGEST_REQUEST_BYTES:
            raise NotUnderstood(f"a request has at most {wire.LARGEST_REQUEST_BYTES} bytes")
    return await run_in_threadpool(wire.unpacked, bytes(body))


def _described(reader: Reader) -> Described:
    shown = reader.image_processor
    return Described(reader.model_version, reader.is_phantom, shown.size["height"], int(shown.resample))


def _other_size(reader: Reader, asked: Asked) -> Response | None:
    """Where the model has changed since the images were prepared: which one it is now."""
    there, side = _described(reader), asked.pixels.shape[-1]
    if side == there.side:
        return None
    message = f"it takes images of {there.side} pixels now, and these have {side}."
    return _error(409, "model_changed", message, **there.as_json())


def _error(status: int, code: str, message: str, **more: Any) -> Response:
    return JSONResponse({**more, "schema": wire.SCHEMA, "error": {"code": code, "message": message}}, status)


def _line(**said: Any) -> str:
    return json.dumps({"schema": wire.SCHEMA, **said}) + "\n"
