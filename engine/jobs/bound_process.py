"""A training step as a process of its own: it yields to reads, and does not outlive the worker that started it.

    python -m engine.jobs.bound_process WORKER_PID MODULE ARGUMENTS...     what `run` starts; it becomes MODULE

Its output goes to the run's log. How far it is, it says there: as `{"done": 3, "of": 8}`, or by tqdm's bar."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from engine.errors import PediScreenError
from engine.settings import PROJECT_DIR

NICE = 10  # a read that comes in meanwhile gets the processor
POLL_S = 0.5
END_WITHIN_S = 3.0  # from SIGTERM to SIGKILL
TAIL_BYTES = 4000
QUIET = {"PYTHONWARNINGS": "ignore::FutureWarning,ignore::DeprecationWarning"}  # the libraries', not for an admin
DONE_OF = re.compile(r'\{"done": (\d+), "of": (\d+)')
BAR = re.compile(r"([a-z ]*)(?:: +)?\b(\d+)%\|")


class StepFailed(PediScreenError):
    """The step's process ended with an error; the message says what it said."""


def run(
    module: str,
    arguments: Sequence[str],
    log_path: Path,
    *,
    look: Callable[[str, float], None],
    keep_open: Sequence[int] = (),
) -> None:
    """Runs `python -m MODULE ARGUMENTS` to its end. `look` is called twice a second with what the process is at (the
    name of its bar, "" without one) and how far, 0 to 1; when it raises, the process and all that it started are ended
    first. `keep_open`: file descriptors it inherits.

    Raises StepFailed with the last thing the process said."""
    command = [sys.executable, "-m", "engine.jobs.bound_process", str(os.getpid()), module, *arguments]
    with log_path.open("ab") as log:
        start = log.tell()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=PROJECT_DIR,
            start_new_session=True,
            pass_fds=keep_open,
            env={**os.environ, **QUIET, "PYTHONUNBUFFERED": "1", "TQDM_MININTERVAL": "1"},
        )
    try:
        while (status := _status_after(process, POLL_S)) is None:
            look(*progress_in(_tail(log_path, start)))
    finally:
        _end(process)
    if status != 0:
        raise StepFailed(_what_it_said(module, _tail(log_path, start), status))


def progress_in(text: str) -> tuple[str, float]:
    """What is being done and how far, from the last line of `text` that says so."""
    counted, bars = DONE_OF.findall(text), BAR.findall(text)
    if counted:
        done, of = map(int, counted[-1])
        return "", min(1.0, done / max(1, of))
    return (bars[-1][0].strip(), min(1.0, int(bars[-1][1]) / 100)) if bars else ("", 0.0)


def _status_after(process: subprocess.Popen, seconds: float) -> int | None:
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def _end(process: subprocess.Popen) -> None:
    """The whole group, also what the process has left behind."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + END_WITHIN_S
        while process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _tail(path: Path, start: int) -> str:
    """The end of what was written after `start`."""
    with path.open("rb") as log:
        size = log.seek(0, os.SEEK_END)
        log.seek(max(start, size - TAIL_BYTES))
        return log.read().decode(errors="replace")


def _what_it_said(module: str, tail: str, status: int) -> str:
    """Our own steps end a refusal with one line "name: sentence"; anything else is not for the admin to read."""
    name = module.rpartition(".")[2]
    lines = [line for line in re.split(r"[\r\n]+", tail) if line.strip()]
    refusals = [line.removeprefix(f"{name}: ") for line in lines if line.startswith(f"{name}: ")]
    if refusals:
        return refusals[-1]
    if "No space left on device" in tail:
        return "The disk is full: free some space and start again."
    if status == -signal.SIGKILL or "MemoryError" in tail or "out of memory" in tail.lower():
        return "The machine ran out of memory, or somebody ended the process. Free some memory and start again."
    how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
    last = f" Its last words: {lines[-1][:200]}" if lines else ""
    return f"{name} stopped unexpectedly ({how}).{last}"


def _become(worker_pid: int, module: str, arguments: Sequence[str]) -> None:
    """Replaces this process by MODULE, bound to the worker first (by Linux; elsewhere the group alone binds it)."""
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1  # noqa: N806 - prctl(2)'s name; survives the exec below
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != worker_pid:
            raise SystemExit("the worker is gone")
    os.nice(NICE)
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
