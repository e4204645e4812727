"""What the network is shown of a film, made in a process of its own where a GPU should not wait for it."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from engine.errors import PediScreenError, ReadFailed
from engine.imaging.display import display_pixels
from engine.imaging.preprocess import model_image, model_pixels
from engine.services import images

START_LIMIT_S = 120.0  # for the imports, on a busy machine
TIME_LIMIT_S = 30.0  # a film of five megapixels takes a tenth of a second


def prepared(file_sha256: str, image_processor: Callable) -> np.ndarray:
    """(3, side, side) uint8 of the film that is kept under this hash. Raises NotFound, FileRefused."""
    picture = model_image(display_pixels(images.kept_film(file_sha256)))
    return model_pixels([picture], image_processor)[0]


def reason_of(error: Exception) -> str:
    """For the case: our own errors are sentences, of others the type says most."""
    return str(error) if isinstance(error, PediScreenError) else f"{type(error).__name__}: {error}"


class PreparingProcess:
    """Calls `work` in another process, one call at a time; both start with the first call, and again after a call
    that made the process die or took too long. `work` is a function of a module, and returns an array."""

    def __init__(self, work: Callable[..., np.ndarray] = prepared, *, time_limit_s: float = TIME_LIMIT_S) -> None:
        self.work = work
        self.time_limit_s = time_limit_s
        self._process: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection | None = None

    def __call__(self, *arguments: Any) -> np.ndarray:
        """Raises ReadFailed with the reason for whatever goes wrong."""
        if self._process is None:
            self._start()
        try:
            self._pipe.send(arguments)
            answer = self._answer(self.time_limit_s)
        except TimeoutError:
            self.close()
            raise ReadFailed(
                f"Preparing the film took longer than {self.time_limit_s:g} s and was stopped; the file may be damaged."
            ) from None
        except (EOFError, OSError):
            status = self.close()
            raise ReadFailed(
                f"The film made the process that prepared it stop (exit status {status}); the file may be damaged."
            ) from None
        if isinstance(answer, str):
            raise ReadFailed(answer)
        return answer

    def close(self) -> int | None:
        """Stops the process, whatever it is at. Returns its exit status."""
        process, self._process = self._process, None
        if process is None:
            return None
        process.join(0.1)  # one that is dying by itself has a status of its own
        process.kill()
        process.join()
        return process.exitcode

    def _start(self) -> None:
        spawn = multiprocessing.get_context("spawn")  # a fork would copy the threads' locks and the GPU's state
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(theirs, self.work, self.time_limit_s), daemon=True)
        self._process.start()
        theirs.close()
        try:
            self._answer(START_LIMIT_S)
        except (TimeoutError, EOFError, OSError):
            status = self.close()
            raise ReadFailed(
                f"The process that prepares films did not start (exit status {status}); is the machine out of memory?"
            ) from None

    def _answer(self, within_s: float) -> Any:
        if not self._pipe.poll(within_s):
            raise TimeoutError
        return self._pipe.recv()


def _serve(pipe: Connection, work: Callable[..., np.ndarray], time_limit_s: float) -> None:
    """The process: answers "ready", then each call, until the other end of the pipe is closed."""
    for number in (signal.SIGINT, signal.SIGTERM):  # meant for the worker, which finishes what it is at
        signal.signal(number, signal.SIG_IGN)
    pipe.send("ready")
    while True:
        try:
            arguments = pipe.recv()
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_REAL, time_limit_s + 5)  # if the worker is gone, nobody else stops it
        try:
            answer: np.ndarray | str = work(*arguments)
        except Exception as error:  # the outermost line of one film's preparation
            answer = reason_of(error)
        signal.setitimer(signal.ITIMER_REAL, 0)
        pipe.send(answer)
