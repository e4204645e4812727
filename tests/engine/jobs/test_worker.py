"""engine.jobs.worker: whatever happens to workers, every waiting image is read, and recorded once."""

import os
import signal
import subprocess
import sys

from db.session import session_scope
from engine.jobs import queue
from engine.jobs.worker import LOST, NO_MODEL, READY, claim_name
from engine.services import worklist
from engine.services.accounts import demo_reader
from engine.settings import PROJECT_DIR, settings


def workers(database_url):
    with session_scope(database_url) as session:
        return worklist.overview(session, demo_reader()).workers


def test_a_worker_reads_what_waits_and_what_comes_later(waiting, start_worker):
    first = waiting.add(12)
    start_worker(FAKE_READ_S="0.2")
    waiting.until(waiting.all_done)
    later = waiting.add(1, first=12)
    waiting.until(waiting.all_done)
    assert waiting.reads_by_image() == dict.fromkeys(first + later, 1)
    assert len(start_worker.log.read_text().splitlines()) < 13, "images that wait together are read together"


def test_a_worker_beside_a_gpu_is_warmed_up_before_its_first_read(waiting, start_worker):
    waiting.add(3)
    start_worker(FAKE_ON_GPU="1")
    waiting.until(waiting.all_done)
    lines = start_worker.log.read_text().splitlines()
    assert lines[0] == "warmed up" and lines.count("warmed up") == 1


def test_a_worker_killed_in_a_batch_goes_on_after_its_restart(waiting, start_worker):
    ids = waiting.add(5)
    worker = start_worker(FAKE_READ_S="60")
    waiting.until(lambda: start_worker.log.exists())
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    assert waiting.reads_by_image() == {}
    assert {state for state, _ in waiting.states().values()} == {"queued"}
    start_worker()
    waiting.until(waiting.all_done)
    assert waiting.reads_by_image() == dict.fromkeys(ids, 1)


def test_another_worker_takes_over_from_one_that_stays_dead(waiting, start_worker):
    ids = waiting.add(4)
    dead = start_worker("w1", FAKE_READ_S="60")
    waiting.until(lambda: start_worker.log.exists())
    os.kill(dead.pid, signal.SIGKILL)
    dead.wait()
    start_worker("w2", silent_after_s=2)
    waiting.until(waiting.all_done)
    assert waiting.reads_by_image() == dict.fromkeys(ids, 1)


def test_two_workers_share_the_work_and_read_nothing_twice(waiting, start_worker, database_url):
    for name in ("w1", "w2"):
        start_worker(name, FAKE_READ_S="0.5")
    waiting.until(lambda: [worker.detail for worker in workers(database_url)] == [READY, READY])
    ids = waiting.add(40)
    waiting.until(waiting.all_done)
    assert waiting.reads_by_image() == dict.fromkeys(ids, 1)
    calls = [line.split() for line in start_worker.log.read_text().splitlines()]
    assert {name for name, *_ in calls} == {"w1", "w2"}


def test_an_image_that_fails_is_recorded_with_the_reason_and_holds_up_nobody(waiting, start_worker):
    ids = waiting.add(4)
    start_worker(FAKE_FAIL_SIDE=str(waiting.side(1)))
    waiting.until(waiting.all_done)
    assert waiting.reads_by_image() == dict.fromkeys([ids[0], ids[2], ids[3]], 1)
    state, reason = waiting.states()[ids[1]]
    assert state == "blocked"
    assert "this image cannot be read" in reason


def test_an_image_that_kills_its_worker_every_time_is_given_up(waiting, start_worker):
    ids = waiting.add(4)
    kills = {"FAKE_KILL_SIDE": str(waiting.side(1))}
    worker = start_worker(**kills)
    deaths = 0
    while not waiting.all_done():
        if worker.poll() is not None:
            deaths += 1
            assert deaths < 10
            worker = start_worker(**kills)
        waiting.until(lambda process=worker: process.poll() is not None or waiting.all_done())
    assert waiting.reads_by_image() == dict.fromkeys([ids[0], ids[2], ids[3]], 1)
    state, reason = waiting.states()[ids[1]]
    assert state == "blocked"
    assert "worker stopped or failed every time" in reason


def test_without_a_model_the_worker_says_what_is_missing_and_keeps_the_queue(waiting, start_worker, database_url):
    (image_id,) = waiting.add(1)
    worker = start_worker(FAKE_NO_MODEL="1")
    waiting.until(lambda: workers(database_url) and (workers(database_url)[0].detail or "").startswith(NO_MODEL))
    assert "the licence has not been accepted" in workers(database_url)[0].detail
    assert workers(database_url)[0].alive
    worker.terminate()
    assert worker.wait() == 0
    assert waiting.states()[image_id] == ("queued", None)
    start_worker()
    waiting.until(waiting.all_done)
    waiting.until(lambda: workers(database_url)[0].model_version == "fake 1")


def test_a_stopped_worker_finishes_its_batch_and_another_reads_the_rest(waiting, start_worker):
    ids = waiting.add(20)
    worker = start_worker(FAKE_READ_S="2")
    waiting.until(lambda: start_worker.log.exists())
    worker.terminate()
    assert worker.wait() == 0
    (begun,) = [line.split()[1:] for line in start_worker.log.read_text().splitlines()]
    assert len(waiting.reads_by_image()) == len(begun) < 20
    start_worker("w2")  # which need not wait until the first is missed
    waiting.until(waiting.all_done, within_s=30)
    assert waiting.reads_by_image() == dict.fromkeys(ids, 1)


def test_an_upload_is_read_while_a_backlog_waits(waiting, start_worker, database_url):
    waiting.add(60)
    start_worker(FAKE_READ_S="0.3")
    waiting.until(lambda: start_worker.log.exists())
    (uploaded,) = waiting.add(1, first=60, sender=demo_reader())
    waiting.until(lambda: uploaded in waiting.reads_by_image())
    assert len(waiting.reads_by_image()) < 30
    waiting.until(waiting.all_done)


def test_a_worker_whose_gpu_is_gone_ends_and_says_why_and_the_next_reads_everything(
    waiting, start_worker, database_url
):
    ids = waiting.add(8)
    worker = start_worker(FAKE_LOSE_SIDE=str(waiting.side(5)))
    assert worker.wait(60) != 0
    assert workers(database_url)[0].detail == f"{LOST}The GPU does not work any more: CUDA error: device lost"
    assert {state for state, _ in waiting.states().values()} <= {"queued", "done"}
    start_worker("w2")  # which need not wait until the first is missed
    waiting.until(waiting.all_done, within_s=30)
    assert waiting.reads_by_image() == dict.fromkeys(ids, 1)


def test_a_gpu_that_goes_while_the_model_is_loading_ends_the_worker(waiting, start_worker, database_url):
    (image_id,) = waiting.add(1)
    assert start_worker(FAKE_LOSE_AT_START="1").wait(60) != 0
    assert workers(database_url)[0].detail.startswith(LOST)
    assert waiting.states()[image_id] == ("queued", None)


def test_reads_that_an_older_version_left_in_the_jobs_database_are_nobodys_work(
    waiting, start_worker, database_url, data_dir
):
    """They waited there until the database became the queue; a worker neither counts nor runs them."""
    leave_read_jobs(settings().jobs_url)
    assert queue.count_unfinished(settings().jobs_url) == 0
    (image_id,) = waiting.add(1)
    worker = start_worker("w1")
    waiting.until(waiting.all_done)
    assert waiting.reads_by_image() == {image_id: 1}
    worker.terminate()
    assert worker.wait(30) == 0


def leave_read_jobs(jobs_url: str) -> None:
    """One that waits, and one that a worker w1 was at."""
    program = """
import sys, threading
from dbos import DBOS, DBOSPortableJSONSerializer
DBOS(config={"name": "pediscreen", "system_database_url": sys.argv[1], "executor_id": "w1",
             "application_version": "1", "serializer": DBOSPortableJSONSerializer(), "log_level": "WARNING"})
begun = threading.Event()
@DBOS.workflow(name="read_pending")
def read(image_ids):
    begun.set()
    threading.Event().wait()
DBOS.launch()
DBOS.register_queue("read", worker_concurrency=1, polling_interval_sec=0.1)
options = {"workflow_name": "read_pending", "queue_name": "read", "app_version": "1"}
for image in (1, 2):
    DBOS.enqueue_workflow_with_options(options, [image])
assert begun.wait(60)
import os; os._exit(0)
"""
    subprocess.run([sys.executable, "-c", program, jobs_url], check=True, cwd=PROJECT_DIR, timeout=100)


def test_worker_names_are_unique_among_the_living_and_return_after_a_restart(tmp_path):
    first, first_lock = claim_name(tmp_path)
    second, second_lock = claim_name(tmp_path)
    assert first != second
    first_lock.close()
    again, again_lock = claim_name(tmp_path)
    assert again == first
    second_lock.close()
    again_lock.close()


def test_asking_for_jobs_before_any_worker_ever_started(data_dir):
    assert queue.count_unfinished(settings().jobs_url) is None
    assert not (data_dir / "jobs.sqlite").exists()
