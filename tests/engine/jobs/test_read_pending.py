"""engine.jobs.read_pending: order, bounds and failures of what one worker has in hand; without a process."""

import shutil
import threading
import time
from contextlib import contextmanager

import torch
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from db.models import Image
from db.session import session_scope
from engine.errors import ReaderLost, ReaderUnavailable, ReadFailed
from engine.findings.answers import ALLOWED, Task, View, fracture_answer
from engine.inference.checkpoint import load_reader
from engine.inference.read import Read
from engine.jobs import read_pending
from engine.jobs.read_pending import PendingReads, read_images
from engine.services.accounts import demo_reader, service_actor
from engine.services.reading import heartbeat, take_in_hand
from tests.fake_images import image_processor, sides_of


class FakeReader:
    model_version = "fake 1"
    is_phantom = True

    is_on_gpu = False
    image_processor = staticmethod(image_processor)

    def __init__(self, view=View.WRIST, *, gate=None, fails_on=None, away=None):
        self.view = view
        self.gate = gate  # a batch waits for it
        self.fails_on = fails_on  # a side
        self.away = away  # what every call raises
        self.batches = []
        self.tasks = []

    def triage_pixels(self, pixels):
        return [(self.view, {self.view.value: 1.0}) for _ in pixels]

    def read_pixels(self, pixels, task, contexts):
        self.batches.append(sides_of(pixels))
        self.tasks.append(task)
        if self.gate:
            assert self.gate.wait(30)
        if self.away:
            raise self.away
        if self.fails_on in sides_of(pixels):
            raise ReadFailed("The network's output is not a number.")
        answer = fracture_answer("normal") if task == "fracture" else ALLOWED[task][0]
        return [Read(str(task), answer, {"normal": 1.0}, None, None, False, None, "fake 1", 1.0) for _ in pixels]


@contextmanager
def reading(database_url, reader, name="w1"):
    """A worker's reads, filled once; stopped at the end. What it says to be lost is in `reads.lost`."""
    lost = []
    reads = PendingReads(database_url, name, lambda: reader, threading.Event(), silent_after_s=60, on_lost=lost.append)
    reads.lost = lost
    with session_scope(database_url) as session:
        heartbeat(session, service_actor("worker"), name, "fake 1")
    reads.fill()
    reads.start()
    try:
        yield reads
    finally:
        reads.stopping.set()
        if isinstance(reader, FakeReader) and reader.gate:
            reader.gate.set()
        reads.stop(within_s=10)


def test_done_images_are_not_read_again(waiting, database_url):
    ids = waiting.add(3)
    reader = FakeReader()
    assert read_images(database_url, lambda: reader, ids) == 3
    assert read_images(database_url, lambda: reader, ids) == 0
    assert len(reader.batches) == 1
    assert waiting.reads_by_image() == dict.fromkeys(ids, 1)


def test_an_image_without_a_task_is_routed_first(waiting, database_url):
    (image_id,) = waiting.add(1, task=None)
    assert read_images(database_url, lambda: FakeReader(View.WRIST), [image_id]) == 1
    assert waiting.reads_by_image() == {image_id: 1}


def test_an_image_of_something_else_is_not_read(waiting, database_url):
    (image_id,) = waiting.add(1, task=None)
    assert read_images(database_url, lambda: FakeReader(View.OTHER), [image_id]) == 0
    state, reason = waiting.states()[image_id]
    assert state == "blocked" and reason


def test_an_image_whose_pixels_are_gone_is_said_to_be_so(waiting, database_url, data_dir):
    ids = waiting.add(3)
    films = sorted(data_dir.rglob("pixels.gz"))
    assert len(films) == 3
    for trace in list(data_dir.rglob(f"{films[0].parent.name}*")):  # the film and the file it was decoded from
        shutil.rmtree(trace) if trace.is_dir() else trace.unlink()
    assert read_images(database_url, FakeReader, ids) == 2
    blocked = [reason for state, reason in waiting.states().values() if state == "blocked"]
    assert len(blocked) == 1 and blocked[0].startswith("The read failed")


def test_what_a_person_uploaded_overtakes_the_backlog(waiting, database_url):
    waiting.add(40)
    reader = FakeReader(gate=threading.Event())
    with reading(database_url, reader) as reads:
        waiting.until(lambda: reader.batches)  # a batch of the backlog is in the network
        (uploaded,) = waiting.add(1, first=40, sender=demo_reader())
        reads.fill()
        reader.gate.set()
        waiting.until(lambda: uploaded in waiting.reads_by_image())
        assert reader.batches[1] == [waiting.side(40)], "the next batch, and alone: it does not wait for others"
        assert len(waiting.reads_by_image()) < 41, "the backlog is still there"


def test_an_upload_is_taken_though_the_line_is_full(waiting, database_url, monkeypatch):
    monkeypatch.setattr(read_pending, "AHEAD", 4)
    waiting.add(12)
    reader = FakeReader(gate=threading.Event())
    with reading(database_url, reader) as reads:
        waiting.until(lambda: reader.batches)
        for _ in range(3):
            reads.fill()
        assert len(reads._line + reads._in_hand) == 4, "the rest of the backlog waits in the database"
        waiting.add(1, first=12, sender=demo_reader())
        reads.fill()
        assert len(reads._line + reads._in_hand) == 5


def test_a_gpu_reads_a_few_while_an_upload_is_prepared_and_a_processor_waits(waiting, database_url):
    waiting.add(12)
    waiting.add(1, first=12, sender=demo_reader())
    reader = FakeReader()
    reads = PendingReads(database_url, "w1", lambda: reader, threading.Event(), silent_after_s=60, on_lost=print)
    reads.fill()
    for held in reads._line:
        held.reader = reader
        held.pixels = None if held.image.is_waited_for else image_processor([])
        held.since = time.monotonic() + 1
    assert reads._next_batch(reader) == []
    reads._processes = [read_pending.prepared]  # as beside a GPU
    batch = reads._next_batch(reader)
    assert len(batch) == read_pending.MEANWHILE and not any(held.image.is_waited_for for held in batch)


def test_a_gpu_reads_the_next_batch_while_one_is_recorded(waiting, database_url, monkeypatch):
    monkeypatch.setattr(read_pending, "PROCESSES", 1)
    monkeypatch.setattr(read_pending, "FIRST_BATCH", 2)
    ids = waiting.add(4)
    reader, record = FakeReader(), read_pending.record_batch
    reader.is_on_gpu = True
    read_meanwhile = []

    def recorded(*arguments):
        if not read_meanwhile:
            waiting.until(lambda: len(reader.batches) > 1)
            read_meanwhile.append(True)
        return record(*arguments)

    monkeypatch.setattr(read_pending, "record_batch", recorded)
    with reading(database_url, reader):
        waiting.until(waiting.all_done)
    assert waiting.reads_by_image() == dict.fromkeys(ids, 1)


def test_a_batch_is_of_one_task(waiting, database_url):
    tasks = [Task.FRACTURE, Task.ROP] * 6
    ids = [waiting.add(1, first=number, task=task)[0] for number, task in enumerate(tasks)]
    reader = FakeReader()
    with reading(database_url, reader):
        waiting.until(waiting.all_done)
    assert waiting.reads_by_image() == dict.fromkeys(ids, 1)
    for batch, task in zip(reader.batches, reader.tasks, strict=True):
        assert {tasks[side - waiting.side(0)] for side in batch} == {task}
    assert max(len(batch) for batch in reader.batches) > 1


def test_batches_shrink_to_the_budget(waiting, database_url, monkeypatch):
    monkeypatch.setattr(read_pending, "BUDGET_S", 0.0)  # every batch takes longer than that
    waiting.add(20)
    assert set(sizes_of_batches_that_are_ready(waiting, database_url)[-5:]) == {1}


def test_batches_grow_while_they_stay_within_the_budget(waiting, database_url, monkeypatch):
    monkeypatch.setattr(read_pending, "BUDGET_S", 100.0)
    waiting.add(40)
    assert max(sizes_of_batches_that_are_ready(waiting, database_url)) == read_pending.LARGEST_BATCH


def sizes_of_batches_that_are_ready(waiting, database_url) -> list[int]:
    reader = FakeReader(gate=threading.Event())
    with reading(database_url, reader) as reads:
        waiting.until(lambda: all(held.pixels is not None for held in reads._line))
        reader.gate.set()
        waiting.until(waiting.all_done)
    return [len(batch) for batch in reader.batches]


def test_one_image_that_fails_does_not_take_its_batch_with_it(waiting, database_url):
    ids = waiting.add(6)
    with reading(database_url, FakeReader(fails_on=waiting.side(2))):
        waiting.until(waiting.all_done)
    assert waiting.reads_by_image() == dict.fromkeys(ids[:2] + ids[3:], 1)
    assert waiting.states()[ids[2]] == ("blocked", "The read failed: The network's output is not a number.")


def test_an_image_that_cannot_be_prepared_costs_only_itself(waiting, database_url, data_dir):
    ids = waiting.add(1)
    (film,) = data_dir.rglob("pixels.gz")
    film.write_bytes(b"no gzip")
    ids += waiting.add(3, first=1)
    with reading(database_url, FakeReader()) as reads:
        waiting.until(lambda: reads.fill() or waiting.all_done())
    assert waiting.reads_by_image() == dict.fromkeys(ids[1:], 1)
    state, reason = waiting.states()[ids[0]]
    assert state == "blocked" and reason.startswith("The read failed")


def test_what_a_stopped_worker_has_not_begun_is_free_at_once(waiting, database_url):
    ids = waiting.add(30)
    slow = FakeReader(gate=threading.Event())
    with reading(database_url, slow, "w1"):
        waiting.until(lambda: slow.batches)
        assert other_worker_takes(database_url) == [], "while the first is heard of, the images are its own"
    read = waiting.reads_by_image()
    assert 0 < len(read) < 30 and len(read) == len(slow.batches[0]), "the batch in hand was finished, no other begun"
    assert sorted([*read, *other_worker_takes(database_url)]) == ids


def other_worker_takes(database_url) -> list[int]:
    with session_scope(database_url) as session:
        taken = take_in_hand(session, service_actor("worker"), "w2", 100, held=[], silent_after_s=60)
        return [image.image_id for image in taken]


def test_a_batch_that_could_not_be_recorded_is_read_again(waiting, database_url, monkeypatch):
    ids = waiting.add(3)
    record, failures = read_pending.reading.record_reads, [OperationalError("", {}, Exception("locked"))]

    def away(*arguments, **more):
        if failures:
            raise failures.pop()
        return record(*arguments, **more)

    monkeypatch.setattr(read_pending.reading, "record_reads", away)
    with reading(database_url, FakeReader()) as reads:
        waiting.until(lambda: reads.fill() or waiting.all_done())
    assert waiting.reads_by_image() == dict.fromkeys(ids, 1)


def test_images_prepared_for_another_model_are_prepared_again(waiting, database_url):
    ids = waiting.add(12)
    old, new = FakeReader(gate=threading.Event()), FakeReader()
    with reading(database_url, old) as reads:
        waiting.until(lambda: old.batches and all(h.pixels is not None for h in reads._line))
        new.image_processor = lambda images, **how: {"pixel_values": image_processor(images)["pixel_values"] + 100}
        reads.current_reader = lambda: new
        old.gate.set()
        waiting.until(waiting.all_done)
    assert waiting.reads_by_image() == dict.fromkeys(ids, 1)
    shown = sorted(side for batch in new.batches for side in batch)
    assert shown and all(side >= waiting.side(100) for side in shown)


def starts(database_url) -> set[tuple[int, str | None]]:
    """How often the images were begun, and who has them in hand."""
    with session_scope(database_url) as session:
        return set(session.execute(select(Image.read_starts, Image.read_worker)).all())


def test_a_gpu_that_is_gone_costs_no_film_anything(waiting, database_url):
    ids = waiting.add(6)
    with reading(database_url, FakeReader(away=ReaderLost("The GPU does not work any more."))) as reads:
        waiting.until(lambda: reads.lost)
        reads.stopping.set()
        reads.stop(within_s=10, is_lost=True)
    assert waiting.states() == dict.fromkeys(ids, ("queued", None))
    assert starts(database_url) == {(0, None)}
    assert read_images(database_url, FakeReader, ids) == 6, "a worker that works reads them"


def test_the_shipped_models_reader_on_a_gpu_that_is_gone(waiting, database_url, monkeypatch):
    """Whatever the network itself raises, in a batch with a triage and without."""
    waiting.add(2), waiting.add(2, first=2, task=None)
    reader = load_reader("phantom", None)

    def gone(**inputs):
        raise torch.AcceleratorError("CUDA error: unspecified launch failure")

    monkeypatch.setattr(reader.network.model.vision_tower, "forward", gone)
    with reading(database_url, reader) as reads:
        waiting.until(lambda: reads.lost)
    assert {state for state, _ in waiting.states().values()} == {"queued"}
    assert waiting.reads_by_image() == {}


def test_a_model_that_reads_nothing_leaves_the_images_to_others_and_is_asked_again(waiting, database_url, monkeypatch):
    monkeypatch.setattr(read_pending, "AWAY_S", 1.0)
    ids = waiting.add(6)
    reader = FakeReader(away=ReaderUnavailable("The GPU's memory does not take one image."))
    with reading(database_url, reader) as reads:
        waiting.until(lambda: reads.trouble)
        assert "tried again every 1 s. The GPU's memory" in reads.trouble
        waiting.until(lambda: starts(database_url) == {(0, None)})
        waiting.until(lambda: reads.fill() or len(reader.batches) > 1)
        reader.away = None
        waiting.until(lambda: reads.fill() or waiting.all_done())
        waiting.until(lambda: reads.trouble is None)
    assert waiting.reads_by_image() == dict.fromkeys(ids, 1)


def test_a_gpu_that_never_comes_back_from_a_batch_is_lost(waiting, database_url, monkeypatch):
    monkeypatch.setattr(read_pending, "HUNG_S", 0.2)
    monkeypatch.setattr(read_pending, "PROCESSES", 1)
    waiting.add(2)
    reader = FakeReader(gate=threading.Event())
    reader.is_on_gpu = True
    with reading(database_url, reader) as reads:
        waiting.until(lambda: reads.fill() or reads.lost)
        assert "not come back" in str(reads.lost[0])
        reads.stopping.set()
        reads.stop(within_s=0.1, is_lost=True)
        assert starts(database_url) == {(0, None)}
