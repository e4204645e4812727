"""engine.jobs.queue: writing to the jobs database is not running code in a worker."""

import base64
import os
import pickle
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

PROGRAM = """
import sys, time
from dbos import DBOSClient, DBOSPortableJSONSerializer
from engine.jobs import queue
url, step = sys.argv[1], sys.argv[2]
@queue.job("test_job")
def test_job(number):
    print("ran", number, flush=True)
if step == "put":
    queue.launch(url, "w")
    queue.stop()
    client = DBOSClient(system_database_url=url, serializer=DBOSPortableJSONSerializer())
    client.enqueue({"workflow_name": "test_job", "queue_name": queue.TRAIN_QUEUE, "app_version": "1"}, 5)
    client.destroy()
else:
    queue.launch(url, "w")
    for _ in range(30):
        time.sleep(0.1)
        print("unfinished", [job.arguments for job in queue.unfinished()], flush=True)
    queue.stop()
"""


class RunsOnLoad:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("serialization", ["py_pickle", "portable_json", None])
def test_a_pickle_in_the_jobs_database_is_not_loaded(tmp_path: Path, serialization: str | None) -> None:
    url, marker = f"sqlite:///{tmp_path}/jobs.sqlite", tmp_path / "loaded"
    command = [sys.executable, "-c", PROGRAM, url]
    subprocess.run([*command, "put"], check=True)
    payload = base64.b64encode(pickle.dumps({"args": (RunsOnLoad(marker),), "kwargs": {}})).decode()
    with closing(sqlite3.connect(tmp_path / "jobs.sqlite")) as connection, connection:
        assert connection.execute("UPDATE workflow_input SET inputs = ?", (payload,)).rowcount == 1
        connection.execute("UPDATE workflow_status SET serialization = ?", (serialization,))
    done = subprocess.run([*command, "work"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not marker.exists()
    assert "ran" not in done.stdout and "unfinished" in done.stdout
    if serialization == "py_pickle":
        assert "holds a pickle, which is not loaded" in done.stderr
    pickle.loads(base64.b64decode(payload))  # noqa: S301  what would have happened
    assert marker.exists()
