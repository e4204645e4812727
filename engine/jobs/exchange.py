"""`pediscreen exchange`: one process for what runs between the hospital's systems and us.

Each loop is a thread, and on only where its settings are. What goes wrong in one is recorded where IT sees it, and the
loop starts again after a pause that grows; the others do not notice. One such process is enough for an installation."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from db.session import session_scope
from engine.errors import PediScreenError
from engine.services import receiving
from engine.services.accounts import service_actor
from engine.settings import Settings

log = logging.getLogger(__name__)

ACTOR = service_actor("exchange")
HEARD_EVERY_S = 10.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
STOP_WITHIN_S = 8.0


class Pulse:
    """What a loop says of itself, and how it learns that it has to end."""

    def __init__(self, name: str, database_url: str) -> None:
        self.name = name
        self.database_url = database_url
        self.stopping = threading.Event()
        self.has_worked = False  # since it was last started
        self._written_at = 0.0
        self._wrote_success = False

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
        self._wrote_success = self._wrote_success or did_work
        self.has_worked = self.has_worked or did_work

    def started(self) -> None:
        self.has_worked = self._wrote_success = False
        self._record(receiving.loop_started)

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


LOOPS: list[Loop] = []


def configured(here: Settings) -> list[Loop]:
    """The loops that the settings switch on."""
    return [loop for loop in LOOPS if loop.is_on(here)]


def run(here: Settings, loops: list[Loop], stopping: threading.Event) -> None:
    """Runs `loops` until `stopping` is set, then ends them; one that does not end in time is left behind."""
    pulses = [Pulse(loop.name, here.database_url) for loop in loops]
    threads = [
        threading.Thread(target=_keep_running, args=(here, loop, pulse), name=loop.name, daemon=True)
        for loop, pulse in zip(loops, pulses, strict=True)
    ]
    for thread in threads:
        thread.start()
    stopping.wait()
    for pulse in pulses:
        pulse.stopping.set()
    deadline = time.monotonic() + STOP_WITHIN_S
    for thread in threads:
        thread.join(max(0.1, deadline - time.monotonic()))
        if thread.is_alive():
            log.error("%s did not end in time and is left behind", thread.name)


def _keep_running(here: Settings, loop: Loop, pulse: Pulse) -> None:
    pause_s = FIRST_PAUSE_S
    while not pulse.stopping.is_set():
        pulse.started()
        try:
            loop.run(here, pulse)
        except PediScreenError as error:
            log.error("%s: %s", loop.name, error)
            pulse.failed(str(error))
        except Exception as error:  # the loop's outermost line: recorded, and the loop goes on
            log.exception("%s failed", loop.name)
            pulse.failed(f"{type(error).__name__}: see the log of the exchange")
        if pulse.has_worked:
            pause_s = FIRST_PAUSE_S
        pulse.stopping.wait(pause_s)
        pause_s = min(LONGEST_PAUSE_S, pause_s * 2)
    pulse.stopped()


def main(here: Settings) -> None:
    """Until SIGTERM or Ctrl-C. Raises PediScreenError where nothing is configured."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("engine").setLevel(logging.INFO)
    loops = configured(here)
    if not loops:
        raise PediScreenError("Nothing is configured to be received or sent. docs/receive.md says what can be.")
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    log.info("the exchange runs %s", ", ".join(loop.name for loop in loops))
    run(here, loops, stopping)
