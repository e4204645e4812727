"""engine.supervisor: children run, die, come back and stop with the command that started them."""

import io
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from engine import supervisor
from engine.sign_in_settings import SignInSettings
from engine.supervisor import CannotStart, Supervisor

SLEEPER = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]


def wait_until(condition, *, within_s=20):
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] != "Z"


@pytest.fixture
def watched():
    made = Supervisor(out=io.StringIO())
    yield made
    made.stop()


def test_a_killed_child_starts_again_and_it_is_said(watched, tmp_path):
    child = watched.add("worker", SLEEPER, tmp_path / "worker.log")
    first = child.process.pid
    child.signal(signal.SIGKILL)
    wait_until(lambda: child.process.poll() is not None)
    watched.tend()
    assert child.process.pid != first
    assert child.process.poll() is None
    assert "The worker stopped (killed by SIGKILL) and starts again" in watched.out.getvalue()


def test_a_child_that_keeps_dying_is_started_ever_more_slowly(watched, tmp_path):
    child = watched.add("worker", [sys.executable, "-c", "raise SystemExit(3)"], tmp_path / "worker.log")
    for _ in range(2):
        wait_until(lambda: child.process.poll() is not None)
        watched.tend()
    wait_until(lambda: child.process.poll() is not None)
    watched.tend()
    assert child.start_again_at is not None, "the third start has to wait"
    assert "exit status 3) and starts again in" in watched.out.getvalue()


def test_stop_ends_children_and_what_they_started(watched, tmp_path):
    script = f"import subprocess, time; print(subprocess.Popen({SLEEPER!r}).pid, flush=True); time.sleep(60)"
    child = watched.add("web", [sys.executable, "-c", script], tmp_path / "web.log")
    wait_until(lambda: child.last_lines().strip())
    grandchild = int(child.last_lines().split()[0])
    assert is_running(grandchild)
    watched.stop()
    assert child.process.returncode == -signal.SIGTERM
    wait_until(lambda: not is_running(grandchild))


@pytest.mark.skipif(sys.platform != "linux", reason="relies on prctl")
def test_children_end_even_when_the_supervisor_is_killed(tmp_path):
    child_script = (
        "from engine.supervisor import end_with_supervisor; import time;"
        "end_with_supervisor(); print('bound', flush=True); time.sleep(60)"
    )
    parent_script = (
        "import sys, time; from pathlib import Path; from engine.supervisor import Supervisor;"
        f"child = Supervisor().add('web', [sys.executable, '-c', {child_script!r}], Path({str(tmp_path / 'log')!r}));"
        "print(child.process.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", parent_script], stdout=subprocess.PIPE, text=True)
    child_pid = int(parent.stdout.readline())
    wait_until(lambda: "bound" in (tmp_path / "log").read_text())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_until(lambda: not is_running(child_pid))


def test_a_taken_port_is_named_with_the_way_out(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CannotStart, match=f"Port {port} is not free.*PEDISCREEN_PORT={port + 1}"):
            supervisor.up(
                data_dir=tmp_path, database_url=f"sqlite:///{tmp_path}/db.sqlite", port=port, sign_in=SignInSettings()
            )
    assert list(tmp_path.iterdir()) == []


def test_a_long_log_is_put_aside(watched, tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor, "LARGEST_LOG_BYTES", 10)
    log = tmp_path / "web.log"
    log.write_text("a log of more than ten bytes")
    watched.add("web", SLEEPER, log)
    assert (tmp_path / "web.old.log").read_text() == "a log of more than ten bytes"
