"""The loop of `pediscreen exchange` that sends: it notes what readers have signed, and hands it over, each destination
in a thread of its own, so that one that hangs holds up no other."""

from __future__ import annotations

import fcntl
import logging
import socket
import threading
import time
from collections.abc import Callable
from datetime import datetime

from sqlalchemy.exc import SQLAlchemyError

from db.session import session_scope
from db.types import utc_now
from engine.errors import PediScreenError
from engine.interop.destinations import Destination
from engine.interop.sending import NotDelivered, Unreachable
from engine.interop.sending.deliver import deliver
from engine.jobs.loop import ACTOR, Loop, Pulse, log_failure
from engine.services import sending
from engine.settings import Settings

log = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0
LOOK_AT_ALL_EVERY_S = 30.0
AFTER_ERROR_S = 10.0


def is_on(here: Settings) -> bool:
    return bool(here.destinations)


def run(here: Settings, pulse: Pulse) -> None:
    """Until `pulse.stopping` is set. Raises PediScreenError where another process on this machine sends."""
    sender, ended = socket.gethostname()[:64], threading.Event()
    here.data_dir.mkdir(parents=True, exist_ok=True)
    with (here.data_dir / f"sending-{sender}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PediScreenError("another process on this machine sends already: end one of the two") from None
        usable = [destination for destination in here.destinations if destination.problem is None]
        threads = [_Sender(here, destination, sender, ended) for destination in usable]
        for thread in threads:
            thread.start()
        try:
            looked_at_all, seen = -LOOK_AT_ALL_EVERY_S, 0
            while not pulse.stopping.is_set():
                if time.monotonic() - looked_at_all > LOOK_AT_ALL_EVERY_S:
                    looked_at_all, seen = time.monotonic(), 0
                seen = _note(here, pulse, threads, seen)
                pulse.stopping.wait(LOOK_EVERY_S)
        finally:
            ended.set()
            for thread in threads:
                thread.join()


def _note(here: Settings, pulse: Pulse, threads: list[_Sender], seen: int) -> int:
    """Returns up to which decision everything has been looked at now; the same as before where that failed."""
    try:
        with session_scope(here.database_url) as session:
            last = sending.last_review_id(session, ACTOR)
            sending.note_signed(session, ACTOR, here.destinations, here.send_after_s, after_review_id=seen)
    except SQLAlchemyError as error:  # locked or away: nothing is lost, it is asked again
        log_failure("the database did not answer", error)
        pulse.failed(f"{type(error).__name__}: see the log of the exchange")
        return seen
    trouble = next((thread.trouble for thread in threads if thread.trouble), None)
    if trouble is None:
        pulse.succeeded()
    else:
        pulse.in_trouble(trouble)
    return last


class _Sender(threading.Thread):
    """Sends to one destination. `trouble`: what keeps it from that, other than the destination itself."""

    def __init__(self, here: Settings, destination: Destination, sender: str, ended: threading.Event) -> None:
        super().__init__(name=f"sending to {destination.name}", daemon=True)
        self.here, self.destination, self.sender, self.ended = here, destination, sender, ended
        self.trouble: str | None = None

    def run(self) -> None:
        while not self.ended.is_set():
            try:
                self._send()
            except Exception as error:  # the thread's outermost line: recorded, and it goes on
                log_failure(f"{self.name} failed", error)
                self.trouble = f"{self.name}: {type(error).__name__}, see the log of the exchange"
                self.ended.wait(AFTER_ERROR_S)

    def _send(self) -> None:
        with session_scope(self.here.database_url) as session:
            sending.release(session, ACTOR, self.destination, self.sender)
        while not self.ended.is_set():
            has_sent = send_next(self.here.database_url, self.destination, self.sender, self.here.send_after_s)
            self.trouble = None
            if not has_sent:
                self.ended.wait(LOOK_EVERY_S)


def send_next(
    database_url: str,
    destination: Destination,
    sender: str,
    quiet_s: float,
    now: Callable[[], datetime] = utc_now,
) -> bool:
    """Hands over the next delivery that is due; False when there is none."""
    with session_scope(database_url) as session:
        in_hand = sending.take_in_hand(session, ACTOR, destination, sender, now())
    if in_hand is None:
        return False
    where = f"study {in_hand.study_id} to {destination.name}"
    try:
        with session_scope(database_url) as session:
            signed = sending.issue(session, ACTOR, in_hand, quiet_s, now())
        if signed is None:
            return True
        receipt = deliver(destination, signed)
    except NotDelivered as failed:
        nothing_left = isinstance(failed, Unreachable)
        with session_scope(database_url) as session:
            until = sending.record_failed(session, ACTOR, in_hand, str(failed), nothing_left=nothing_left, now=now())
        log.warning("%s did not go; the next attempt is at %s", where, until.isoformat(timespec="seconds"))
    except SQLAlchemyError:
        raise
    except Exception as error:  # the job's outermost line: what cannot be sent is recorded, and the next one's turn
        is_expected = isinstance(error, PediScreenError)
        if not is_expected:
            log_failure(f"{where} failed", error)
        log.error("%s needs somebody to look: %s", where, type(error).__name__)
        reason = str(error) if is_expected else f"{type(error).__name__}: see the log of the exchange"
        with session_scope(database_url) as session:
            sending.record_refused(session, ACTOR, in_hand.delivery_id, reason, now())
    else:
        with session_scope(database_url) as session:
            sending.record_sent(session, ACTOR, in_hand.delivery_id, receipt, now())
        log.info("%s is acknowledged", where)
    return True


LOOP = Loop("sending", is_on, run)
