"""The loop that tidies up after receiving: what a killed process left half-received goes, and films that came in bulk
are compressed once nothing else wants the processor."""

from __future__ import annotations

import subprocess
import sys

from engine.errors import PediScreenError
from engine.imaging import film_store
from engine.jobs.loop import Loop, Pulse
from engine.services import images, incoming
from engine.settings import PROJECT_DIR, Settings

LOOK_EVERY_S = 2.0
LEFT_BEHIND_AFTER_S = 3600.0


def run(here: Settings, pulse: Pulse) -> None:
    incoming.sweep(LEFT_BEHIND_AFTER_S)
    pulse.succeeded()
    while not pulse.stopping.wait(LOOK_EVERY_S):
        if film_store.loose(images.films_folder()):
            compress(pulse)
        pulse.succeeded()


def compress(pulse: Pulse) -> None:
    """Raises PediScreenError where the process does not end well."""
    command = [sys.executable, "-m", "engine.imaging.compress_loose", str(images.films_folder())]
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd=PROJECT_DIR)
    try:
        while process.poll() is None:
            if pulse.stopping.wait(0.1):
                return
            pulse.alive()
    finally:
        process.terminate()
        process.wait()
    if process.returncode:
        raise PediScreenError(f"Films cannot be compressed (exit status {process.returncode}): see the exchange's log.")


LOOP = Loop("film_compression", lambda here: here.receives, run)
