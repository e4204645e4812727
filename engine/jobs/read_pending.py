"""Reads what waits: images in batches through the model, those that a person waits for before those that came in bulk.

The queue is the database. A worker takes images in hand (`Image.read_worker`), and no other takes them while it is
heard of; an image leaves the queue when its read, or why there is none, is recorded. So a worker that dies leaves its
images queued, and one that stops gives them back. A read of the same image and round is stored once, whoever makes it.

Three kinds of thread share one line of at most AHEAD images and as many again that a person waits for:

- the worker's tick fills it (`PendingReads.fill`);
- others prepare what stands first: one thread on a CPU, several processes beside a GPU;
- one takes what is prepared, in batches of one task that last about BUDGET_S, through the network, and records it.

An image that cannot be prepared or read is recorded as such with the reason; the others of its batch go on. When the
model reads nothing at all (ReaderUnavailable) nothing is recorded: what is in hand is given back, as if it had never
been taken, and asked for again after AWAY_S. When its GPU is gone (ReaderLost) the worker has to end."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session

from db.session import session_scope
from engine.errors import ReaderLost, ReaderUnavailable
from engine.inference.read import Read
from engine.jobs.prepare import PreparingProcess, prepared, reason_of
from engine.services import reading
from engine.services.accounts import service_actor
from engine.services.reading import AwaitingImage

if TYPE_CHECKING:
    from engine.inference.checkpoint import Reader

log = logging.getLogger(__name__)
T = TypeVar("T")

AHEAD = 64  # images in the line; the rest waits in the database
LARGEST_BATCH = 16
FIRST_BATCH = 4  # before it is known how long a batch takes
BUDGET_S = 0.2  # of a batch: what a person's image waits for at most, once it is prepared
MEANWHILE = 2  # images that a GPU reads in about the time that preparing one takes
PROCESSES = max(1, min(6, (os.cpu_count() or 2) - 2))  # that prepare, beside a GPU
IDLE_S = 0.5  # threads look up after this long though nothing has changed
ONE_BY_ONE_AFTER = 3  # times in hand without a read, as the worker died: from then on an image stands alone ...
AWAY_S = 15.0  # after the model could read nothing, until it is asked again
HUNG_S = 180.0  # a GPU that has not come back from a batch by then never will; the longest compilation takes a minute
GIVE_UP_AFTER = 5  # ... and after this many it is recorded as unreadable

ACTOR = service_actor("worker")

Batch = list[tuple[AwaitingImage, np.ndarray]]  # with what the network is shown, (3, side, side) uint8


@dataclass(eq=False)
class _Held:
    """An image in the line. `pixels` are for the model of `reader`; `failure` says why there are none."""

    image: AwaitingImage
    reader: Reader | None = None
    pixels: np.ndarray | None = None
    failure: str | None = None
    is_in_preparation: bool = False
    since: float = field(default_factory=time.monotonic)


class PendingReads:
    """What one worker has in hand. Each batch is read to its end by what `current_reader` gives at its beginning."""

    def __init__(
        self,
        database_url: str,
        worker: str,
        current_reader: Callable[[], Reader],
        stopping: threading.Event,
        *,
        silent_after_s: float,
        on_lost: Callable[[ReaderLost], None],
    ) -> None:
        """`on_lost` is told when the worker has to end: called by any thread, more than once."""
        self.database_url = database_url
        self.worker = worker
        self.current_reader = current_reader
        self.stopping = stopping
        self.silent_after_s = silent_after_s
        self.on_lost = on_lost
        self.trouble: str | None = None  # a sentence, while nothing can be read
        self._network = threading.Lock()  # held from the choice of a batch to its last read
        self._changed = threading.Condition()  # guards what follows
        self._line: list[_Held] = []
        self._in_hand: list[_Held] = []
        self._batch_size = FIRST_BATCH
        self._begun: float | None = None  # of the batch in the network
        self._ask_again_at = 0.0
        self._processes: list[PreparingProcess] = []
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Once there is a model to read with."""
        if self.current_reader().is_on_gpu:
            self._processes = [PreparingProcess() for _ in range(PROCESSES)]
        readers = 2 if self._processes else 1
        self._threads = [threading.Thread(target=self._read_on, name="read", daemon=True) for _ in range(readers)]
        for work in self._processes or [prepared]:
            self._threads.append(threading.Thread(target=self._prepare_on, args=(work,), name="prepare", daemon=True))
        for thread in self._threads:
            thread.start()

    def stop(self, *, within_s: float, is_lost: bool = False) -> None:
        """After `stopping` is set: the batch in the network is finished, the rest is given back. What takes longer than
        `within_s` stays this worker's until it starts again or is missed. `is_lost`: no batch will be finished."""
        deadline = time.monotonic() + within_s
        with self._changed:
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        for process in self._processes:
            process.close()
        try:
            self._give_back(self._line + (self._in_hand if is_lost else []))
        except SQLAlchemyError:
            log.exception("the images in hand could not be given back; other workers take them when this one is missed")

    def _give_back(self, held: Sequence[_Held]) -> None:
        with session_scope(self.database_url) as session:
            reading.give_back(session, ACTOR, self.worker, [one.image.image_id for one in held])

    def fill(self) -> None:
        """Takes images in hand while there is room, and records those that could not be prepared."""
        if self._processes and self._begun is not None and time.monotonic() - self._begun > HUNG_S:
            self.on_lost(ReaderLost(f"The GPU has not come back from a batch for {HUNG_S:.0f} s."))
        if time.monotonic() < self._ask_again_at:
            return
        with self._changed:
            held = self._line + self._in_hand
            failed = [one for one in self._line if one.failure is not None]
        with session_scope(self.database_url) as session:
            for one in failed:
                reading.record_read_failure(session, ACTOR, one.image.image_id, f"The read failed: {one.failure}")
                self._remove([one])
            if any(one.image.starts > ONE_BY_ONE_AFTER for one in held):
                return
            for image in self._take(session, {one.image.image_id for one in held}):
                if image.starts > GIVE_UP_AFTER:
                    reason = "The worker stopped or failed every time it tried to read this image."
                    reading.record_read_failure(session, ACTOR, image.image_id, reason)
                    continue
                with self._changed:
                    self._line.append(_Held(image))
                    self._changed.notify_all()

    def _take(self, session: Session, held: set[int]) -> list[AwaitingImage]:
        def take(limit: int, **which) -> list[AwaitingImage]:
            return reading.take_in_hand(
                session, ACTOR, self.worker, limit, held=held, silent_after_s=self.silent_after_s, **which
            )

        harmless, suspect = (0, ONE_BY_ONE_AFTER), (ONE_BY_ONE_AFTER, None)
        if len(held) >= 2 * AHEAD:
            return []
        if len(held) > AHEAD // 2:  # the line is refilled by many at once, not image by image
            return take(2 * AHEAD - len(held), starts=harmless, first_only=True)
        taken = take(AHEAD - len(held), starts=harmless)
        return taken if taken or held else take(1, starts=suspect)

    def _in_order(self) -> list[_Held]:
        return sorted(self._line, key=lambda held: not held.image.is_waited_for)

    def _remove(self, gone: Sequence[_Held]) -> None:
        with self._changed:
            self._line = [held for held in self._line if held not in gone]

    def _prepare_on(self, work: Callable[..., np.ndarray]) -> None:
        while not self.stopping.is_set():
            with self._changed:
                idle = (h for h in self._in_order() if h.pixels is None and not h.failure and not h.is_in_preparation)
                held = next(idle, None)
                if held is None:
                    self._changed.wait(IDLE_S)
                    continue
                held.is_in_preparation = True
            reader, pixels, failure = self.current_reader(), None, None
            try:
                pixels = work(held.image.file_sha256, reader.image_processor)
            except Exception as error:  # the outermost line of one image's preparation
                log.exception("image %d cannot be prepared", held.image.image_id)
                failure = reason_of(error)
            with self._changed:
                held.reader, held.pixels, held.failure, held.is_in_preparation = reader, pixels, failure, False
                self._changed.notify_all()

    def _read_on(self) -> None:
        """Of two threads beside a GPU one has the network, and the other records what it has just read."""
        while not self.stopping.is_set():
            batch: list[_Held] = []
            try:
                with session_scope(self.database_url) as session:
                    with self._network:
                        reader = self.current_reader()
                        batch = self._next_batch(reader)
                        reads = self._in_network(session, reader, batch)
                    if batch:
                        record_batch(session, reader, reads)
                        self.trouble = None
            except ReaderLost as lost:
                self.on_lost(lost)
                return
            except ReaderUnavailable as away:
                self._wait_for_reader(away, batch)
            except Exception:  # the outermost line of this thread; `fill` takes the images again
                log.exception("a batch of %d was not recorded and will be read again", len(batch))
                self.stopping.wait(2.0)
            with self._changed:
                self._in_hand = [held for held in self._in_hand if held not in batch]

    def _in_network(self, session: Session, reader: Reader, batch: list[_Held]) -> list[tuple[AwaitingImage, Read]]:
        begun = self._begun = time.monotonic()
        try:
            return score_batch(session, reader, [(held.image, held.pixels) for held in batch])
        finally:
            self._begun = None
            if len(batch) == self._batch_size:
                self._fit_to_budget(time.monotonic() - begun)

    def _wait_for_reader(self, away: ReaderUnavailable, batch: list[_Held]) -> None:
        """Meanwhile other workers, which may be able to, read what this one had in hand."""
        log.error("nothing can be read: %s", away)
        self.trouble = f"Nothing is read at present; it is tried again every {AWAY_S:.0f} s. {away}"
        with self._changed:
            held, self._line = self._line + batch, []
            self._in_hand = [one for one in self._in_hand if one not in batch]
            self._ask_again_at = time.monotonic() + AWAY_S
        try:
            self._give_back(held)
        except SQLAlchemyError:
            log.exception("the images in hand could not be given back; they are taken again by name")

    def _next_batch(self, reader: Reader) -> list[_Held]:
        """The next prepared images of one task; empty after a while without any. What a person waits for stands alone,
        and is waited for while it is being prepared; a GPU reads a few others in that time."""
        with self._changed:
            for held in self._line:
                if held.reader is not reader:  # the model in use has changed, and the size of its images may have
                    held.pixels = None
            line = self._in_order()
            ready = [held for held in line if held.pixels is not None]
            is_expected = bool(line) and line[0].image.is_waited_for and time.monotonic() - line[0].since < BUDGET_S
            limit = self._batch_size
            if is_expected and ready[:1] != line[:1]:
                limit = MEANWHILE if self._processes else 0
            if not ready or not limit:
                self._changed.wait(BUDGET_S if is_expected else IDLE_S)
                return []
            first = ready[0].image
            same = [h for h in ready if (h.image.task, h.image.is_waited_for) == (first.task, first.is_waited_for)]
            batch = same[:limit]
            self._in_hand = self._in_hand + batch
            self._remove(batch)
            return batch

    def _fit_to_budget(self, seconds: float) -> None:
        """In powers of two, which a GPU has its graphs for."""
        if seconds > BUDGET_S:
            self._batch_size = max(1, self._batch_size // 2)
        elif seconds < BUDGET_S / 2:
            self._batch_size = min(LARGEST_BATCH, self._batch_size * 2)


def read_images(database_url: str, current_reader: Callable[[], Reader], image_ids: Sequence[int]) -> int:
    """Reads those of `image_ids` that still wait, here and now, without a worker. Returns how many were read."""
    with session_scope(database_url) as session:
        waiting = reading.images_awaiting_read(session, ACTOR, limit=len(image_ids), image_ids=image_ids)
        count = 0
        for part in _parts(waiting, LARGEST_BATCH):
            reader, batch = current_reader(), []
            for image in part:
                pixels = _or_failure(session, image, partial(prepared, image.file_sha256, reader.image_processor))
                if pixels is not None:
                    batch.append((image, pixels))
            count += read_batch(session, reader, batch)
        return count


def read_batch(session: Session, reader: Reader, batch: Batch) -> int:
    """Reads and records. Returns how many were read."""
    return record_batch(session, reader, score_batch(session, reader, batch))


def score_batch(session: Session, reader: Reader, batch: Batch) -> list[tuple[AwaitingImage, Read]]:
    """Those that could be read, with their reads; records why the others could not be."""
    routed = _triaged(session, reader, batch)
    done = []
    for task in {image.task for image, _ in routed}:
        group = [(image, pixels) for image, pixels in routed if image.task == task]
        reads = _each_or_all(session, group, lambda part, task=task: _scored(reader, task, part))
        done += [(image, read) for (image, _), read in zip(group, reads, strict=True) if read is not None]
    return done


def record_batch(session: Session, reader: Reader, done: list[tuple[AwaitingImage, Read]]) -> int:
    """Returns how many there were."""
    if done:
        reading.record_reads(
            session,
            ACTOR,
            [image.image_id for image, _ in done],
            [read for _, read in done],
            is_phantom=reader.is_phantom,
            read_rounds=[image.read_round for image, _ in done],
        )
    return len(done)


def _scored(reader: Reader, task: str, part: Batch) -> list[Read]:
    return reader.read_pixels(_stacked(part), task, [image.context for image, _ in part])


def _stacked(part: Batch) -> np.ndarray:
    return np.stack([pixels for _, pixels in part])


def _triaged(session: Session, reader: Reader, batch: Batch) -> Batch:
    """The batch with a task on every image; those that triage cannot route are recorded and left out."""
    routed = [(image, pixels) for image, pixels in batch if image.task is not None]
    unknown = [(image, pixels) for image, pixels in batch if image.task is None]
    views = _each_or_all(session, unknown, lambda part: reader.triage_pixels(_stacked(part)))
    for (image, pixels), view in zip(unknown, views, strict=True):
        if view is None:
            continue
        known = reading.record_triage(session, ACTOR, image.image_id, view[0], view[1])
        if known is not None:
            routed.append((known, pixels))
    return routed


def _each_or_all(session: Session, batch: Batch, work: Callable[[Batch], list[T]]) -> list[T | None]:
    """`work` on the whole batch; should that fail, on each image alone, so that one bad image costs only itself.
    None stands for an image that failed, which is then recorded."""
    if not batch:
        return []
    try:
        return list(work(batch))
    except ReaderUnavailable:
        raise
    except Exception:
        log.exception("a batch of %d failed and is read one by one", len(batch))
    return [_or_failure(session, item[0], lambda item=item: work([item])[0]) for item in batch]


def _or_failure(session: Session, image: AwaitingImage, work: Callable[[], T]) -> T | None:
    """The outermost line of one image's read: whatever fails is recorded with the image and ends there, unless it would
    have failed for any image."""
    try:
        return work()
    except ReaderUnavailable:
        raise
    except Exception as error:
        log.exception("image %d cannot be read", image.image_id)
        session.rollback()
        reading.record_read_failure(session, ACTOR, image.image_id, f"The read failed: {reason_of(error)}")
        return None


def _parts(items: list[T], size: int) -> Iterator[list[T]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
