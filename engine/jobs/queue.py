"""The durable queue of trainings: the only module that knows DBOS.

A job is a function whose finished steps are remembered in the jobs database; a worker that is killed goes on at the
step it was in. DBOS makes this true only under the conditions that this module fixes:

- a worker has a name of its own, the same after a restart (`executor_id`), and takes up its own jobs when it starts;
- `APPLICATION_VERSION` is pinned: by default it is a hash of the code, and an update would strand every waiting job;
- what is stored is JSON, never pickle, so that writing to the jobs database is not running code in a worker. DBOS reads
  a pickle whatever it was told to write, when the row says that it is one: that is taken away from it below;
- queues are registered after the launch, and a deduplication id frees itself when its job ends;
- nobody takes over the jobs of a worker that stays dead: `take_over` does, given the names that are still alive.

A step may run twice (killed before its end), so it must be idempotent. What a step raises that is no Exception (the
worker stops) leaves its job unfinished, to be gone on with."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from dbos import DBOS, DBOSClient, DBOSConfig, DBOSPortableJSONSerializer, error
from dbos._serialization import DefaultSerializer
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError

log = logging.getLogger(__name__)

APPLICATION_NAME = "pediscreen"
APPLICATION_VERSION = "1"  # changes only when the steps of a job change; jobs then wait for a worker of their version
TRAIN_QUEUE = "train"  # one at a time: a training takes all that a machine has
_UNFINISHED = ["ENQUEUED", "PENDING"]


def _refuse_pickle(self: DefaultSerializer, data: Any) -> Any:
    log.error("the jobs database holds a pickle, which is not loaded: somebody else has written to it")
    raise TypeError("a pickle in the jobs database is not loaded")


DefaultSerializer.serialize = DefaultSerializer.deserialize = _refuse_pickle  # type: ignore[method-assign]


@dataclass(frozen=True)
class Job:
    """One unfinished job. `worker` is None until a worker takes it."""

    job_id: str
    name: str
    queue: str
    arguments: tuple[Any, ...]
    worker: str | None


def job(name: str) -> Callable:
    """Decorator: a function that the queue may run. Register it before `launch`, in every worker, by the same name."""
    return DBOS.workflow(name=name, max_recovery_attempts=1000)


def step(name: str, *, attempts: int = 1) -> Callable:
    """Decorator: a part of a job whose result is kept, so that it is not run again after it has finished."""
    return DBOS.step(name=name, retries_allowed=attempts > 1, max_attempts=attempts, interval_seconds=0.5)


def launch(jobs_url: str, worker_name: str) -> None:
    """Starts taking jobs, one by one; its own interrupted jobs come first."""
    _prepare(jobs_url)
    config: DBOSConfig = {
        "name": APPLICATION_NAME,
        "system_database_url": jobs_url,
        "executor_id": worker_name,
        "application_version": APPLICATION_VERSION,
        "serializer": DBOSPortableJSONSerializer(),
        "log_level": "WARNING",
    }
    DBOS(config=config)
    DBOS.listen_queues([TRAIN_QUEUE])
    DBOS.launch()
    DBOS.register_queue(TRAIN_QUEUE, worker_concurrency=1, polling_interval_sec=1.0)


def stop(*, wait_s: int = 0) -> None:
    """Stops taking jobs; what is not finished within `wait_s` stays in the queue."""
    DBOS.destroy(workflow_completion_timeout_sec=wait_s)


def enqueue(name: str, *arguments: Any, queue: str, once: str) -> bool:
    """Puts a job in the queue unless an unfinished one carries the same `once`. Returns whether it did."""
    options = {
        "workflow_name": name,
        "queue_name": queue,
        "deduplication_id": once,
        "app_version": APPLICATION_VERSION,
    }
    try:
        DBOS.enqueue_workflow_with_options(options, *arguments)
    except error.DBOSQueueDeduplicatedError:
        return False
    return True


def unfinished() -> list[Job]:
    """The trainings that wait or run, on whichever worker."""
    found = DBOS.list_workflows(status=_UNFINISHED, queue_name=TRAIN_QUEUE, load_output=False)
    return [_as_job(status) for status in found]


def take_over(alive: Collection[str]) -> list[str]:
    """Puts the running jobs of workers that are not among `alive` back into their queues. Returns the job ids.

    Two workers may do this at the same moment; the job then runs twice, which idempotent steps allow."""
    lost = [job for job in unfinished() if job.worker is not None and job.worker not in alive]
    for job_ in lost:
        log.warning("taking over job %s of the silent worker %s", job_.job_id, job_.worker)
        DBOS.resume_workflow(job_.job_id, queue_name=job_.queue)
    return [job_.job_id for job_ in lost]


def count_unfinished(jobs_url: str) -> int | None:
    """How many trainings wait or run, asked from outside a worker; None when no worker has ever started here."""
    url = make_url(jobs_url)
    if url.get_backend_name() == "sqlite" and not _sqlite_has_tables(url.database):
        return None
    client = DBOSClient(
        system_database_url=jobs_url, serializer=DBOSPortableJSONSerializer(), retry_connection_errors=False
    )
    try:
        options = {"status": _UNFINISHED, "queue_name": TRAIN_QUEUE, "load_input": False, "load_output": False}
        return len(client.list_workflows(**options))
    except DBAPIError:
        return None  # no such table: PostgreSQL before the first worker
    finally:
        client.destroy()


def _as_job(status: Any) -> Job:
    readable = isinstance(status.input, dict) and "args" in status.input  # else somebody else wrote it: a text
    arguments = tuple(status.input["args"]) if readable else ()
    return Job(
        job_id=status.workflow_id,
        name=status.name,
        queue=status.queue_name or "",
        arguments=arguments,
        worker=status.executor_id if status.status == "PENDING" else None,
    )


def _prepare(jobs_url: str) -> None:
    """SQLite in WAL mode, so that a worker's writes do not block those who look."""
    url = make_url(jobs_url)
    if url.get_backend_name() == "sqlite":
        with sqlite3.connect(url.database) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        connection.close()


def _sqlite_has_tables(path: str | None) -> bool:
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    except sqlite3.OperationalError:
        return False
    try:
        return connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'workflow_status'").fetchone() is not None
    except sqlite3.OperationalError:
        return False
    finally:
        connection.close()
