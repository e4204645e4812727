"""The worker's other thread: a shadow model reads what has been read, image by image, while nothing waits."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from db.session import session_scope
from engine.errors import ModelUnavailable, PediScreenError, ReaderLost, ReaderUnavailable
from engine.imaging.display import display_pixels
from engine.imaging.preprocess import model_image
from engine.inference.read import Read
from engine.jobs.model_in_use import ACTOR, RETRY_S, Key, Loaded, key_of
from engine.services import images, shadow
from engine.services.shadow import ShadowImage

if TYPE_CHECKING:
    from engine.inference.checkpoint import Reader

log = logging.getLogger(__name__)

TICK_S = 1.0
AT_ONCE = 1  # so that a film that arrives shares the processor with one shadow read at most


class ShadowReading:
    """`key` names the model that it holds in memory, if any; `on_lost` is told when the worker has to end."""

    def __init__(
        self,
        database_url: str,
        loaded: Loaded,
        stopping: threading.Event,
        *,
        on_lost: Callable[[ReaderLost], None],
    ) -> None:
        self.database_url = database_url
        self.loaded = loaded
        self.stopping = stopping
        self.on_lost = on_lost
        self.key: Key | None = None
        self.trouble: str | None = None  # a sentence, while the shadow cannot read
        self._failed: tuple[Key, float] | None = None

    def run(self) -> None:
        """Until `stopping` is set."""
        while not self.stopping.wait(TICK_S):
            try:
                while self.read_some() and not self.stopping.is_set():
                    pass
            except ReaderLost as lost:
                self.on_lost(lost)
                return
            except Exception:  # the outermost line of this thread: the real reads never end because of it
                log.exception("the shadow model could not read")

    def read_some(self) -> int:
        """Returns how many images it read; 0 when there is no shadow, or nothing for it to do now."""
        try:
            with session_scope(self.database_url) as session:
                deployed = shadow.reading_along(session, ACTOR)
                self.key = key_of(deployed) if deployed else None
                waiting = shadow.images_to_read(session, ACTOR, deployed.model_version_id, AT_ONCE) if deployed else []
            if deployed is None or not waiting:
                self.trouble = None if deployed is None else self.trouble
                return 0
            if self._failed and self._failed[0] == self.key and time.monotonic() - self._failed[1] < RETRY_S:
                return 0
            reader = self.loaded.load(deployed)
            self.trouble = self._failed = None
            return self._read(deployed.model_version_id, reader, waiting)
        except ReaderLost:
            raise
        except (ModelUnavailable, ReaderUnavailable) as refused:
            self.trouble = f"The shadow model cannot read. {refused}"
            self._failed = (self.key, time.monotonic())
            return 0
        except SQLAlchemyError:
            log.exception("the database did not answer")
            return 0

    def _read(self, version_id: int, reader: Reader, waiting: list[ShadowImage]) -> int:
        reads = [self._read_one(reader, one) for one in waiting]
        with session_scope(self.database_url) as session:
            shadow.record_reads(session, ACTOR, version_id, waiting, reads)
        return len(reads)

    def _read_one(self, reader: Reader, one: ShadowImage) -> Read:
        """What fails is recorded with the image as no answer, so that the shadow goes on with the next, unless it would
        have failed for any image."""
        assert one.image.task is not None, "an image that was read has a task"
        try:
            with session_scope(self.database_url) as session:
                picture = model_image(display_pixels(images.film(session, ACTOR, one.image.image_id)))
            return reader.read([picture], one.image.task, [one.image.context])[0]
        except ReaderUnavailable:
            raise
        except Exception as error:  # the outermost line of one image's read
            log.exception("image %d cannot be read by the shadow model", one.image.image_id)
            reason = str(error) if isinstance(error, PediScreenError) else f"{type(error).__name__}: {error}"
            return Read(
                one.image.task, None, {}, None, None, True, f"The read failed: {reason}", reader.model_version, 0.0
            )
