"""The loop that compresses the films which came in bulk, once nothing else wants the processor."""

from __future__ import annotations

import os
import sys
import threading

from engine.imaging import film_store
from engine.jobs.loop import Loop, Pulse
from engine.services import images
from engine.settings import Settings

LOOK_EVERY_S = 2.0
LEAST_PRIORITY = 19


def run(here: Settings, pulse: Pulse) -> None:
    if sys.platform == "linux":  # there a priority is a thread's own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LEAST_PRIORITY)
    pulse.succeeded()
    while not pulse.stopping.wait(LOOK_EVERY_S):
        for file_sha256 in film_store.loose(images.films_folder()):
            if pulse.stopping.is_set():
                return
            film_store.compress_loose(images.films_folder(), file_sha256)
            pulse.succeeded()
        pulse.alive()


LOOP = Loop("film_compression", lambda here: here.receives, run)
