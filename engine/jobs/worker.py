"""The worker process: holds the model in use, beats, reads the images that wait, and retrains when an admin asks for
it.

Every worker does all of it; with several machines each runs one, and whatever one of them leaves behind another takes
over. Without a model it beats on, says in its heartbeat what is missing, leaves the queue as it is and tries again.

A GPU that is gone is gone for its process: the worker then gives back what it has in hand, says so in its last
heartbeat and ends, for whoever started it to start it again (engine.supervisor, or the machine's service manager)."""

from __future__ import annotations

import fcntl
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from db.session import session_scope
from engine.errors import ModelUnavailable, ReaderLost, ReaderUnavailable
from engine.jobs import model_in_use, queue, retrain
from engine.jobs.model_in_use import Loaded, LoadReader, ModelInUse
from engine.jobs.read_pending import PendingReads
from engine.jobs.read_server import ReadServer
from engine.jobs.retrain import Retraining
from engine.jobs.shadow_reading import ShadowReading
from engine.services import reading, worklist
from engine.services.accounts import service_actor
from engine.services.reading import LOADING, LOST, NO_MODEL, READY, STOPPED
from engine.settings import Settings

if TYPE_CHECKING:
    from engine.inference.checkpoint import Reader

log = logging.getLogger(__name__)

TICK_S = 0.05  # how often it looks for new images
WARM_BATCH = 8  # what a GPU is ready for when the worker says so: more takes longer than a batch may on most
BEAT_S = 5.0
WATCH_S = 10.0
SILENT_AFTER_S = 60.0  # a worker without a heartbeat for this long has lost its jobs and images
ANOTHER_MODEL_S = 1.0  # how often one without a model looks whether there is another to try
FINISH_WITHIN_S = 8

ACTOR = service_actor("worker")


class Worker:
    def __init__(
        self,
        *,
        database_url: str,
        jobs_url: str,
        name: str,
        load_reader: LoadReader = model_in_use.load_reader,
        silent_after_s: float = SILENT_AFTER_S,
        retraining: Callable[[str, threading.Event], Retraining] = Retraining,
        door: Settings | None = None,
    ) -> None:
        """`door`: with a `reads_port`, reads are made for other machines too (engine.jobs.read_server). Raises
        PediScreenError where that cannot be."""
        self.database_url = database_url
        self.jobs_url = jobs_url
        self.name = name
        self.silent_after_s = silent_after_s
        self.detail = LOADING
        self.is_loading = False
        self.stopping = threading.Event()
        self.lost: ReaderLost | None = None  # why it had to end
        self.loaded = Loaded(load_reader)
        self.model = ModelInUse(database_url, self.loaded, on_change=self._beat)
        self.shadow = ShadowReading(database_url, self.loaded, self.stopping, on_lost=self.lose)
        self.retraining = retraining(database_url, self.stopping)
        self.reads = PendingReads(
            database_url,
            name,
            lambda: self.model.reader,
            self.stopping,
            silent_after_s=silent_after_s,
            on_lost=self.lose,
        )
        self.door = None if door is None else ReadServer(door, self._reader_now, self.lose)

    def _reader_now(self) -> Reader:
        """For those at the door. Raises ModelUnavailable with what the pages say, while there is none."""
        if self.model.version is None:
            raise ModelUnavailable(self.detail)
        return self.model.reader

    def stop(self) -> None:
        """From a signal handler: after the batch at hand, or at once while the model is being loaded."""
        self.stopping.set()
        if self.is_loading:
            raise SystemExit(0)

    def lose(self, lost: ReaderLost) -> None:
        """Its reader will never read again in this process. From any thread."""
        self.lost = self.lost or lost
        self.stopping.set()

    def run(self) -> None:
        """Works until `stopping` is set. Raises ReaderLost where the reader, and not a signal, ended it."""
        if self.door is not None:
            self.door.start()
        try:
            self._run()
        finally:
            if self.door is not None:
                self.door.stop()
        if self.lost is not None:
            raise self.lost

    def _run(self) -> None:
        threading.Thread(target=self._beat_on, name="heartbeat", daemon=True).start()
        self.is_loading = True
        has_model = self._wait_for_model()
        self.is_loading = False
        if not has_model:
            if self.lost is not None:
                self._take_leave()
            return
        self.retraining.register()
        queue.launch(self.jobs_url, self.name)
        self.reads.start()
        threading.Thread(target=self.shadow.run, name="shadow", daemon=True).start()
        threading.Thread(target=self.model.prepare_way_back, name="way back", daemon=True).start()
        self.detail = READY
        self._beat()
        log.info("worker %s is ready with model %s", self.name, self.model.reader.model_version)
        try:
            self._work()
        finally:
            self.reads.stop(within_s=FINISH_WITHIN_S, is_lost=self.lost is not None)
            queue.stop(wait_s=FINISH_WITHIN_S)
            self._take_leave()

    def _take_leave(self) -> None:
        self.detail = STOPPED if self.lost is None else f"{LOST}{self.lost}"
        self._beat()

    def _work(self) -> None:
        retrains = retrain.Dispatcher(self.database_url)
        watched_at, has_swept = time.monotonic(), False
        while not self.stopping.wait(TICK_S):
            try:
                if not has_swept:
                    self.retraining.sweep()
                    has_swept = True
                self._follow_model()
                self.reads.fill()
                retrains.dispatch()
                if time.monotonic() - watched_at > min(WATCH_S, self.silent_after_s):
                    watched_at = time.monotonic()
                    self._watch()
            except SQLAlchemyError:  # the database is locked or away: nothing is lost, it is asked again
                log.exception("the database did not answer")
                self.stopping.wait(2.0)

    def _follow_model(self) -> None:
        self.model.follow()
        self.loaded.forget(all_but={self.model.key, self.model.previous_key, self.model.loading_key, self.shadow.key})

    def _wait_for_model(self) -> bool:
        """False when the worker is stopped before there is one."""
        while not self.stopping.is_set():
            try:
                self.model.load_first()
                self._warm_up(self.model.reader)
            except ModelUnavailable as missing:
                self.detail = f"{NO_MODEL}{missing}"
                log.error("%s", missing)
                self._beat()
            except ReaderLost as lost:
                self.lose(lost)
                return False
            except SQLAlchemyError:
                log.exception("the database did not answer")
            else:
                return True
            while not self.stopping.wait(ANOTHER_MODEL_S) and not self.model.may_try_again():
                pass
        return False

    def _warm_up(self, reader: Reader) -> None:
        """Or the readers of the first minute would wait, one after the other, for what the GPU records."""
        if not reader.is_on_gpu:
            return
        try:
            reader.warm_up(WARM_BATCH)
        except ReaderLost:
            raise
        except ReaderUnavailable as away:  # it will be said where the reads are
            log.warning("the model could not be warmed up: %s", away)

    def _watch(self) -> None:
        """Puts back the jobs of workers that have gone silent."""
        others = {job.worker for job in queue.unfinished()} - {None, self.name}
        if not others:
            return
        with session_scope(self.database_url) as session:
            workers = worklist.overview(session, ACTOR).workers
        now = datetime.now(UTC)
        alive = {worker.name for worker in workers if abs((now - worker.at).total_seconds()) < self.silent_after_s}
        queue.take_over(alive | {self.name})

    def _beat_on(self) -> None:
        while not self.stopping.is_set():
            self._beat()
            self.stopping.wait(min(BEAT_S, self.silent_after_s / 3))

    def _beat(self) -> None:
        try:
            with session_scope(self.database_url) as session:
                reading.heartbeat(session, ACTOR, self.name, self.model.version, self._said())
        except SQLAlchemyError:
            log.exception("the heartbeat could not be written")

    def _said(self) -> str:
        """A sentence for the pages: that it is ready, or what keeps a model from reading."""
        troubles = [said for said in (self.reads.trouble, self.model.trouble, self.shadow.trouble) if said]
        return " ".join(troubles) if troubles and self.detail == READY else self.detail


def claim_name(data_dir: Path) -> tuple[str, IO[str]]:
    """A name that no living worker of this machine has, and the same again after a restart, even after kill -9.

    The name holds as long as the returned file stays open: the lock on it goes when the process goes."""
    folder = data_dir / "workers"
    folder.mkdir(parents=True, exist_ok=True)
    host = socket.gethostname()[:50]
    number = 1
    while True:
        lock = (folder / f"{host}-{number}.lock").open("w")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            number += 1
        else:
            return f"{host}-{number}", lock


def main(here: Settings) -> None:
    """One worker, until SIGTERM or Ctrl-C; the batch it is at is finished first where that takes a few seconds.

    Where its GPU is gone it ends with exit status 1, at once: what still belongs to the GPU could hold up an orderly
    end for ever."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("engine").setLevel(logging.INFO)
    name, lock = claim_name(here.data_dir)
    door = here if here.reads_port is not None else None
    worker = Worker(database_url=here.database_url, jobs_url=here.jobs_url, name=name, door=door)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: worker.stop())
    with lock:
        try:
            worker.run()
        except ReaderLost as lost:
            log.critical("the worker ends: %s", lost)
            os._exit(1)
