"""engine.jobs.read_pending.read_images: the work of the job, without a queue around it."""

import shutil

from engine.findings.answers import View, fracture_answer
from engine.inference.read import Read
from engine.jobs.read_pending import read_images


class FakeReader:
    model_version = "fake 1"
    is_phantom = True

    def __init__(self, view=View.WRIST):
        self.view = view
        self.batches = []

    def triage(self, images):
        return [(self.view, {self.view.value: 1.0}) for _ in images]

    def read(self, images, task, contexts):
        self.batches.append([image.width for image in images])
        assert all(image.mode == "RGB" and image.width == image.height for image in images)
        answer = fracture_answer("normal")
        return [Read(str(task), answer, {"normal": 1.0}, None, None, False, None, "fake 1", 1.0) for _ in images]


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


def test_large_films_go_through_in_smaller_batches(waiting, database_url, monkeypatch):
    ids = waiting.add(4)
    monkeypatch.setattr("engine.jobs.read_pending.BATCH_PIXELS", 2 * 256 * 256)
    reader = FakeReader()
    assert read_images(database_url, lambda: reader, ids) == 4
    assert [len(batch) for batch in reader.batches] == [2, 2]
