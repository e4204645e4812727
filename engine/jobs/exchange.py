"""`pediscreen exchange`: one process for what runs between the hospital's systems and us.

Each loop is a thread, and on only where its settings are. What goes wrong in one is recorded where IT sees it, and the
loop starts again after a pause that grows; the others do not notice. One such process is enough for an installation."""

from __future__ import annotations

import logging
import signal
import threading
import time

from sqlalchemy.exc import SQLAlchemyError

from db.session import session_scope
from engine.errors import PediScreenError
from engine.jobs import film_compression, orthanc, sending, storage_scp, watched_folder
from engine.jobs.loop import ACTOR, Loop, Pulse, log_failure
from engine.services import receiving
from engine.settings import Settings

log = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
STOP_WITHIN_S = 8.0

LOOPS: list[Loop] = [storage_scp.LOOP, orthanc.LOOP, watched_folder.LOOP, film_compression.LOOP, sending.LOOP]


def configured(here: Settings) -> list[Loop]:
    """The loops that the settings switch on."""
    return [loop for loop in LOOPS if loop.is_on(here)]


def run(here: Settings, loops: list[Loop], stopping: threading.Event) -> None:
    """Runs `loops` until `stopping` is set, then ends them; one that does not end in time is left behind."""
    _forget_others(here, loops)
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


def _forget_others(here: Settings, loops: list[Loop]) -> None:
    """What is no longer configured is not missing."""
    try:
        with session_scope(here.database_url) as session:
            receiving.only_loops(session, ACTOR, [loop.name for loop in loops])
    except SQLAlchemyError as error:
        log_failure("the loops of before could not be looked at", error)


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
            log_failure(f"{loop.name} failed", error)
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
