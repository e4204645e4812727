"""The whole workstation as `pediscreen up` starts it, in processes of its own."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytest

from engine.settings import PROJECT_DIR


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def pediscreen_up(environment: Mapping[str, str], *, ends_within_s: float = 30) -> Iterator[str]:
    """Without the demo; its address. Fails the test where it does not come up, or does not end well on Ctrl-C."""
    command = [sys.executable, "-m", "engine.cli", "up", "--no-demo", "--port", str(free_port())]
    process = subprocess.Popen(command, cwd=PROJECT_DIR, env=environment, stdout=subprocess.PIPE, text=True)
    said = []
    for line in process.stdout:
        said.append(line)
        if line.startswith("PediScreen: http"):
            break
    else:
        pytest.fail("pediscreen up ended before it was ready:\n" + "".join(said))
    yield line.split()[1]
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=ends_within_s) == 0
    process.stdout.close()
