"""A loop of `pediscreen exchange`: what it is, what it says of itself, and what it has seen at its door."""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from db.exchange_tables import Channel
from db.session import session_scope
from engine.services import receiving
from engine.services.accounts import service_actor
from engine.services.receiving import Counts, Outcome, RefusalKey, Tally
from engine.settings import Settings

log = logging.getLogger(__name__)

ACTOR = service_actor("exchange")
HEARD_EVERY_S = 10.0
MOST_UNWRITTEN_REFUSALS = 200  # kinds of; what a flood brings beyond is counted together
SEVERAL = "(several)"


def log_failure(what: str, error: Exception) -> None:
    """Kind and place of an error. Its text stays out of the log: a library's may quote a child's data."""
    places = "".join(traceback.format_tb(error.__traceback__))
    log.error("%s: %s\n%s", what, type(error).__name__, places)


class Pulse:
    """What a loop says of itself, and how it learns that it has to end."""

    def __init__(self, name: str, database_url: str) -> None:
        self.name = name
        self.database_url = database_url
        self.stopping = threading.Event()
        self.has_worked = False  # since it was last started
        self._written_at = 0.0
        self._wrote_success = False
        self._trouble: str | None = None

    def alive(self) -> None:
        """Called every few seconds by the loop itself; one that hangs does not call it."""
        self._heard(did_work=False)

    def succeeded(self) -> None:
        """It reached what it talks to, or served somebody: an earlier error is over."""
        self._heard(did_work=True)

    def _heard(self, *, did_work: bool) -> None:
        is_news = did_work and not self._wrote_success
        if not is_news and time.monotonic() - self._written_at < HEARD_EVERY_S:
            return
        with session_scope(self.database_url) as session:
            receiving.loop_heard(session, ACTOR, self.name, did_work=did_work)
        self._written_at = time.monotonic()
        if did_work:
            self._trouble, self._wrote_success = None, True
        self.has_worked = self.has_worked or did_work

    def started(self) -> None:
        self.has_worked = self._wrote_success = False
        self._record(receiving.loop_started)

    def in_trouble(self, trouble: str) -> None:
        """It goes on, but something keeps it from its work. Written at most every few seconds."""
        if trouble == self._trouble and time.monotonic() - self._written_at < HEARD_EVERY_S:
            return
        self._trouble, self._wrote_success, self._written_at = trouble, False, time.monotonic()
        with session_scope(self.database_url) as session:
            receiving.loop_failed(session, ACTOR, self.name, trouble)

    def failed(self, error: str) -> None:
        self._wrote_success = False
        self._record(receiving.loop_failed, error)

    def stopped(self) -> None:
        self._record(receiving.loop_stopped)

    def _record(self, record: Callable[..., None], *arguments: str) -> None:
        """A database that does not answer may be the very failure to be recorded; the log has it then."""
        try:
            with session_scope(self.database_url) as session:
                record(session, ACTOR, self.name, *arguments)
        except SQLAlchemyError:
            log.exception("the state of %s could not be recorded", self.name)


@dataclass(frozen=True)
class Loop:
    """`run` works until `pulse.stopping` is set, and calls `pulse.alive()` or `pulse.succeeded()` every few seconds."""

    name: str
    is_on: Callable[[Settings], bool]
    run: Callable[[Settings, Pulse], None]


class Door:
    """Who came to one of the ways in, counted in memory and written down every few seconds. Threads may share it."""

    def __init__(self, channel: Channel, database_url: str) -> None:
        self.channel = channel
        self.database_url = database_url
        self._lock = threading.Lock()
        self._tally = Tally()

    def came(self, name: str, address: str | None, outcome: Outcome) -> None:
        with self._lock:
            counts = self._tally.senders.setdefault((self.channel, name), Counts())
            counts.address = address or counts.address
            counts.add(outcome)

    def refused(self, sender: str, address: str, code: str, reason: str) -> None:
        sender, address, reason = (receiving.plain(text, n) for text, n in ((sender, 64), (address, 64), (reason, 500)))
        with self._lock:
            key = RefusalKey(self.channel, sender, address, code)
            if key not in self._tally.refusals and len(self._tally.refusals) >= MOST_UNWRITTEN_REFUSALS:
                key = RefusalKey(self.channel, SEVERAL, SEVERAL, code)
            times, _ = self._tally.refusals.get(key, (0, ""))
            self._tally.refusals[key] = times + 1, reason

    def write_down(self) -> None:
        """Raises SQLAlchemyError where the database does not answer; the counts are kept for the next time."""
        with self._lock:
            tally, self._tally = self._tally, Tally()
        try:
            with session_scope(self.database_url) as session:
                receiving.write_tally(session, ACTOR, tally)
        except SQLAlchemyError:
            with self._lock:
                self._tally = tally.plus(self._tally)
            raise
