"""Any file to a Film: the one entry. Decoding happens in other processes, with a memory and a time limit.

A few decode processes (engine/imaging/decode_process.py) live as long as this one and wait for files; starting one
takes about half a second, decoding a 5-megapixel film 20 to 150 ms. One that dies, hangs or runs out of memory is
replaced, and its file is refused with the reason."""

from __future__ import annotations

import atexit
import json
import os
import select
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

from engine.errors import FileRefused
from engine.imaging.film import Film
from engine.imaging.film_store import film_from
from engine.imaging.sniff import sniff
from engine.settings import PROJECT_DIR

TIME_LIMIT_S = 20.0
MEMORY_LIMIT_MB = 1500  # address space; the libraries themselves take about 300
START_LIMIT_S = 120.0  # for importing numpy and pydicom on a busy machine
MAX_PROCESSES = max(2, min(4, os.cpu_count() or 2))
FILES_PER_PROCESS = 1000  # bounds what a leaking codec can pile up
MAX_HEADER_BYTES = 16 * 2**20
MAX_PIXEL_BYTES = 256 * 2**20


def load_film(path: Path, *, time_limit_s: float = TIME_LIMIT_S, memory_limit_mb: int = MEMORY_LIMIT_MB) -> Film:
    """Decode `path`, whatever its name says it is. Safe to call from several threads.

    Raises FileRefused with one of these codes: not_a_file, empty, too_large, unknown_format, truncated, malformed,
    no_pixels, unsupported_syntax, unsupported_pixels, too_many_pixels, too_slow, too_much_memory, decoder_crashed."""
    return _decoded(path, sniff(path), time_limit_s, memory_limit_mb)


def load_stored_pixels(path: Path) -> np.ndarray:
    """The first frame of a DICOM file as it is stored: (rows, cols) uint16 for grey, signed values as the uint16 of the
    same bits; (rows, cols, 3) uint8 RGB for colour. Raises as `load_film`."""
    return _decoded(path, "dicom, stored values", TIME_LIMIT_S, MEMORY_LIMIT_MB).pixels


def _decoded(path: Path, file_format: str, time_limit_s: float, memory_limit_mb: int) -> Film:
    process = _pool.take(memory_limit_mb)
    healthy = False
    try:
        film = process.decode(path, file_format, time_limit_s)
        healthy = True
        return film
    except FileRefused:
        healthy = not process.spent
        raise
    finally:
        _pool.give_back(process, healthy)


def warm_up(processes: int = 1, memory_limit_mb: int = MEMORY_LIMIT_MB) -> None:
    """Start decode processes now, so that the first film does not wait for them."""
    taken = [_pool.take(memory_limit_mb) for _ in range(min(processes, MAX_PROCESSES))]
    for process in taken:
        _pool.give_back(process, healthy=True)


class DecodeProcess:
    """One decode process and the pipe to it. `spent` says that it must not get another file."""

    def __init__(self, memory_limit_mb: int) -> None:
        self.memory_limit_mb = memory_limit_mb
        self.spent = False
        self.files = 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "engine.imaging.decode_process", str(memory_limit_mb)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=PROJECT_DIR,
            bufsize=0,
            # Every thread of a codec's pool reserves address space; films are decoded side by side anyway.
            env=os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
        )
        self._buffer = bytearray()
        try:
            line = self._read_line(time.monotonic() + START_LIMIT_S)
        except (EOFError, TimeoutError):
            line = b""
        if line != b"ready":
            self.close()
            raise RuntimeError(
                f"the decode process did not start (exit status {self._process.returncode}); "
                f"try: {sys.executable} -m engine.imaging.decode_process {memory_limit_mb}"
            )

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def decode(self, path: Path, file_format: str, time_limit_s: float) -> Film:
        deadline = time.monotonic() + time_limit_s
        self.spent = True  # until it has answered
        self.files += 1
        request = {"path": str(path.resolve()), "format": file_format, "time_limit_s": time_limit_s}
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            reply = json.loads(self._read_line(deadline))
            if "refused" in reply:
                self.spent = reply["stop"]
                raise self._refusal(reply)
            size = reply["bytes"]
            if not 0 < size <= MAX_PIXEL_BYTES:
                raise FileRefused("decoder_crashed", "The decoder gave an impossible number of pixels.")
            film = film_from(reply["film"], self._read_exactly(size, deadline))
        except TimeoutError:
            raise FileRefused(
                "too_slow", f"Decoding took longer than {time_limit_s:g} s and was stopped; the file may be damaged."
            ) from None
        except (EOFError, BrokenPipeError):
            status = self._process.wait()
            if status == -9:  # nobody here sent it: the kernel did, for want of memory
                raise self._out_of_memory() from None
            raise FileRefused(
                "decoder_crashed", f"The file made the decoder crash (exit status {status}); it is damaged or hostile."
            ) from None
        self.spent = False
        return film

    def _refusal(self, reply: dict) -> FileRefused:
        if reply["refused"] == "too_much_memory":
            return self._out_of_memory()
        return FileRefused(reply["refused"], reply["message"])

    def _out_of_memory(self) -> FileRefused:
        return FileRefused(
            "too_much_memory",
            f"Decoding needs more than the {self.memory_limit_mb} MB allowed for a file; "
            "its header may declare sizes that are not true.",
        )

    def _read_line(self, deadline: float) -> bytes:
        while b"\n" not in self._buffer:
            if len(self._buffer) > MAX_HEADER_BYTES:
                raise EOFError
            self._wait(deadline)
            chunk = os.read(self._process.stdout.fileno(), 65536)
            if not chunk:
                raise EOFError
            self._buffer += chunk
        line, _, rest = self._buffer.partition(b"\n")
        self._buffer = bytearray(rest)
        return bytes(line)

    def _read_exactly(self, size: int, deadline: float) -> np.ndarray:
        data = np.empty(size, np.uint8)
        have = min(size, len(self._buffer))
        data[:have] = np.frombuffer(self._buffer[:have], np.uint8)
        self._buffer = self._buffer[have:]
        while have < size:
            self._wait(deadline)
            count = os.readv(self._process.stdout.fileno(), [memoryview(data)[have:]])
            if not count:
                raise EOFError
            have += count
        return data

    def _wait(self, deadline: float) -> None:
        poll = select.poll()
        poll.register(self._process.stdout, select.POLLIN | select.POLLHUP)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise TimeoutError

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()


class DecodePool:
    """At most MAX_PROCESSES decode processes, started when first needed and then kept."""

    def __init__(self) -> None:
        self._slots = threading.BoundedSemaphore(MAX_PROCESSES)
        self._lock = threading.Lock()
        self._idle: list[DecodeProcess] = []

    def take(self, memory_limit_mb: int) -> DecodeProcess:
        self._slots.acquire()
        try:
            while True:
                with self._lock:
                    process = self._idle.pop() if self._idle else None
                if process is None:
                    return DecodeProcess(memory_limit_mb)
                if process.alive and process.memory_limit_mb == memory_limit_mb:
                    return process
                process.close()
        except BaseException:
            self._slots.release()
            raise

    def give_back(self, process: DecodeProcess, healthy: bool) -> None:
        if healthy and process.files < FILES_PER_PROCESS:
            with self._lock:
                self._idle.append(process)
        else:
            process.close()
        self._slots.release()


def _new_pool() -> None:
    global _pool
    _pool = DecodePool()


_pool = DecodePool()
os.register_at_fork(after_in_child=_new_pool)  # a forked copy must not talk into its parent's pipes


@atexit.register
def _stop_idle_processes() -> None:
    while _pool._idle:
        _pool._idle.pop().close()
