"""The job that reads what waits: images in batches through the model, each read recorded with its batch.

Idempotent: an image that no longer waits is skipped, and a read of the same image, round and model is stored once. An
image that cannot be read is recorded as such with the reason; the others of its batch go on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, TypeVar

from PIL.Image import Image
from sqlalchemy.orm import Session

from db.session import session_scope
from engine.errors import PediScreenError
from engine.imaging.display import display_pixels
from engine.imaging.preprocess import model_image
from engine.inference.read import Read
from engine.jobs import queue
from engine.services import images, reading
from engine.services.accounts import service_actor
from engine.services.reading import AwaitingImage

if TYPE_CHECKING:
    from engine.inference.checkpoint import Reader

log = logging.getLogger(__name__)
T = TypeVar("T")

JOB = "read_images"
BATCH_SIZE = 32
BATCH_PIXELS = 80_000_000  # 240 MB as RGB: large films go through in smaller batches, so that memory stays bounded
BATCHES_AHEAD = 4  # in the queue beyond those that run; the rest waits in the database
ONE_BY_ONE_AFTER = 3  # starts of a job whose worker died each time; from then on the culprit stands alone ...
GIVE_UP_AFTER = 5  # ... and after this many it is recorded as unreadable, so that the others get their turn
NOT_AGAIN_WITHIN_S = 10  # an image whose job failed as a whole is not put back at once

ACTOR = service_actor("worker")


def register(database_url: str, current_reader: Callable[[], Reader]) -> None:
    """Makes the job known to the queue; before `queue.launch`. Each batch is read by what `current_reader` gives."""

    @queue.step("read_and_record", attempts=3)
    def read_and_record(image_ids: list[int]) -> int:
        job = queue.this_job()
        return read_images(database_url, current_reader, image_ids, starts=job.attempts if job else 1)

    @queue.job(JOB)
    def read_images_job(image_ids: list[int]) -> int:
        return read_and_record(image_ids)


class Dispatcher:
    """Puts the images that wait into the queue, each once. Any number of workers may do so at the same time: two that
    pick the same image cost one wasted pass, not a second read."""

    def __init__(self, database_url: str) -> None:
        self.database_url = database_url
        self._dispatched: dict[tuple[int, int], float] = {}  # (image, round) -> when

    def dispatch(self) -> int:
        """Returns how many images it put into the queue."""
        in_flight = {image_id for job in queue.unfinished() if job.name == JOB for image_id in job.arguments[0]}
        room = BATCHES_AHEAD * BATCH_SIZE - len(in_flight)
        if room <= 0:
            return 0
        with session_scope(self.database_url) as session:
            waiting = reading.images_awaiting_read(session, ACTOR, limit=len(in_flight) + room)
        now = time.monotonic()
        self._dispatched = {key: at for key, at in self._dispatched.items() if now - at < NOT_AGAIN_WITHIN_S}
        fresh = [
            image
            for image in waiting
            if image.image_id not in in_flight and (image.image_id, image.read_round) not in self._dispatched
        ]
        for batch in _batches(fresh, BATCH_SIZE):
            queue.enqueue(JOB, [image.image_id for image in batch], once=f"image-{batch[0].image_id}")
            self._dispatched.update({(image.image_id, image.read_round): now for image in batch})
        return len(fresh)


def read_images(
    database_url: str, current_reader: Callable[[], Reader], image_ids: Sequence[int], *, starts: int = 1
) -> int:
    """Reads those of `image_ids` that still wait and records the reads. Returns how many were read.

    `current_reader` is asked at the beginning of each batch, which it then reads to its end.

    `starts` says how often this work was begun: when workers keep dying over it, the images go one by one."""
    with session_scope(database_url) as session:
        waiting = reading.images_awaiting_read(session, ACTOR, limit=len(image_ids), image_ids=image_ids)
        if starts >= GIVE_UP_AFTER and waiting:
            culprit = waiting.pop(0)
            reading.record_read_failure(
                session, ACTOR, culprit.image_id, "The worker stopped every time it tried to read this image."
            )
        batch_size = 1 if starts >= ONE_BY_ONE_AFTER else BATCH_SIZE
        return sum(_read_batch(session, current_reader(), batch) for batch in _load(session, waiting, batch_size))


def _load(
    session: Session, waiting: list[AwaitingImage], batch_size: int
) -> Iterator[list[tuple[AwaitingImage, Image]]]:
    """What the model is shown of each image, in batches of bounded size."""
    batch: list[tuple[AwaitingImage, Image]] = []
    pixels = 0
    for image in waiting:
        picture = _or_failure(session, image, lambda image=image: _model_image(session, image))
        if picture is None:
            continue
        batch.append((image, picture))
        pixels += picture.width * picture.height
        if len(batch) == batch_size or pixels >= BATCH_PIXELS:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch


def _model_image(session: Session, image: AwaitingImage) -> Image:
    return model_image(display_pixels(images.film(session, ACTOR, image.image_id)))


def _read_batch(session: Session, reader: Reader, batch: list[tuple[AwaitingImage, Image]]) -> int:
    routed = _triaged(session, reader, batch)
    read_count = 0
    for task in {image.task for image, _ in routed}:
        group = [(image, picture) for image, picture in routed if image.task == task]
        reads = _each_or_all(session, group, lambda part, task=task: _scored(reader, task, part))
        done = [(image, read) for (image, _), read in zip(group, reads, strict=True) if read is not None]
        if done:
            reading.record_reads(
                session,
                ACTOR,
                [image.image_id for image, _ in done],
                [read for _, read in done],
                is_phantom=reader.is_phantom,
                read_rounds=[image.read_round for image, _ in done],
            )
        read_count += len(done)
    return read_count


def _scored(reader: Reader, task: str, part: list[tuple[AwaitingImage, Image]]) -> list[Read]:
    return reader.read([picture for _, picture in part], task, [image.context for image, _ in part])


def _triaged(
    session: Session, reader: Reader, batch: list[tuple[AwaitingImage, Image]]
) -> list[tuple[AwaitingImage, Image]]:
    """The batch with a task on every image; those that triage cannot route are recorded and left out."""
    routed = [(image, picture) for image, picture in batch if image.task is not None]
    unknown = [(image, picture) for image, picture in batch if image.task is None]
    views = _each_or_all(session, unknown, lambda part: reader.triage([picture for _, picture in part]))
    for (image, picture), view in zip(unknown, views, strict=True):
        if view is None:
            continue
        known = reading.record_triage(session, ACTOR, image.image_id, view[0], view[1])
        if known is not None:
            routed.append((known, picture))
    return routed


def _each_or_all(
    session: Session,
    batch: list[tuple[AwaitingImage, Image]],
    work: Callable[[list[tuple[AwaitingImage, Image]]], list[T]],
) -> list[T | None]:
    """`work` on the whole batch; should that fail, on each image alone, so that one bad image costs only itself.
    None stands for an image that failed, which is then recorded."""
    if not batch:
        return []
    try:
        return list(work(batch))
    except Exception:
        log.exception("a batch of %d failed and is read one by one", len(batch))
    return [_or_failure(session, item[0], lambda item=item: work([item])[0]) for item in batch]


def _or_failure(session: Session, image: AwaitingImage, work: Callable[[], T]) -> T | None:
    """The outermost line of one image's read: whatever fails is recorded with the image and ends there."""
    try:
        return work()
    except Exception as error:
        log.exception("image %d cannot be read", image.image_id)
        reason = str(error) if isinstance(error, PediScreenError) else f"{type(error).__name__}: {error}"
        session.rollback()
        reading.record_read_failure(session, ACTOR, image.image_id, f"The read failed: {reason}")
        return None


def _batches(items: list[AwaitingImage], size: int) -> Iterator[list[AwaitingImage]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
