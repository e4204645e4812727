"""A worker's door (engine.jobs.read_server) with a reader behind it that has no network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from engine.errors import ReaderLost
from engine.jobs.read_server import ReadServer
from engine.settings import settings
from tests.workstation import read_of

TOKEN = "a token of the tests, long enough"


class WordyReader:
    """`error`: what it raises for a read, and after the first words."""

    model_version, is_phantom, knows_triage = "fake 1", False, True

    class image_processor:  # noqa: N801
        size, resample = {"height": 320}, 2

    def __init__(self, pieces=("The physis ", "is open."), error: Exception | None = None) -> None:
        self.pieces, self.error = pieces, error
        self.asked = []

    def read_pixels(self, pixels, task, contexts):
        if self.error:
            raise self.error
        return [replace(read_of(task), model_version=self.model_version) for _ in pixels]

    def words(self, pixels, task, context):
        self.asked.append((pixels.shape, task, context))
        for number, piece in enumerate(self.pieces):
            if self.error and number:
                raise self.error
            yield piece


@contextmanager
def door(reader, **settings_of) -> Iterator[tuple[int, list[ReaderLost]]]:
    """Its port, and with what it asked the worker to end."""
    lost: list[ReaderLost] = []
    here = replace(settings(), **{"reads_port": 0, "reads_token": TOKEN, **settings_of})
    server = ReadServer(here, lambda: reader, lost.append)
    server.start()
    try:
        yield server.port, lost
    finally:
        server.stop()


@contextmanager
def door_of_this_machine(reader, monkeypatch) -> Iterator[None]:
    """The settings of this process lead to it."""
    with door(reader) as (port, _):
        monkeypatch.setenv("PEDISCREEN_READS_PORT", str(port))
        monkeypatch.setenv("PEDISCREEN_READS_TOKEN", TOKEN)
        settings.cache_clear()
        yield
