"""engine.jobs.model_in_use and the worker around it: models change, reads neither stop nor get lost."""

import threading
import time
from collections import Counter

import pytest
from sqlalchemy import select

from db import models
from db.session import session_scope
from engine.errors import ModelUnavailable
from engine.inference import model_folder
from engine.jobs import model_in_use
from engine.jobs.model_in_use import Loaded, ModelInUse
from engine.jobs.worker import LOST, NO_MODEL, READY
from engine.services import registry, shadow, worklist
from engine.services.accounts import demo_admin, demo_reader
from tests.model_folders import promote, register

ADMIN = demo_admin()


class FakeReader:
    is_phantom = True

    def __init__(self, model_version):
        self.model_version = model_version


class Loader:
    """Loads names. Whatever is in `breaks` cannot be loaded; loading waits for `go`."""

    def __init__(self):
        self.loads, self.breaks, self.go = [], {}, threading.Event()
        self.go.set()

    def __call__(self, deployed):
        name = deployed.name if deployed else "configured"
        self.loads.append(name)
        self.go.wait()
        if name in self.breaks:
            raise self.breaks[name]
        if deployed:
            model_folder.verify(deployed.folder, deployed.folder_sha256)
        return FakeReader(name)


@pytest.fixture
def loader():
    return Loader()


@pytest.fixture
def model(database_url, loader):
    model = ModelInUse(database_url, Loaded(loader), on_change=lambda: None)
    model.load_first()
    return model


def follow(model, until):
    deadline = time.monotonic() + 10
    while not until():
        assert time.monotonic() < deadline, model.trouble
        model.follow()
        time.sleep(0.01)


def test_the_configured_model_is_in_use_until_another_is(session, model):
    assert model.reader.model_version == "configured" and model.trouble is None
    now = registry.model_in_use(session, ADMIN)
    assert (now.name, now.is_configured) == ("configured", True)


def test_the_old_model_reads_while_the_new_one_loads(session, data_dir, model, loader):
    loader.go.clear()
    new = register(session, data_dir, "new")
    promote(session, data_dir, new)
    for _ in range(3):
        model.follow()
    assert model.reader.model_version == "configured" and "loading new" in model.trouble
    loader.go.set()
    follow(model, lambda: model.reader.model_version == new.name)
    assert model.trouble is None and loader.loads == ["configured", new.name]


def test_a_rollback_takes_the_previous_model_from_memory(session, data_dir, model, loader):
    promote(session, data_dir, new := register(session, data_dir, "new"))
    follow(model, lambda: model.reader.model_version == new.name)
    loader.go.clear()  # nothing can be loaded from here on
    registry.roll_back(session, ADMIN)
    model.follow()
    assert model.reader.model_version == "configured"
    promote(session, data_dir, new)
    model.follow()
    assert model.reader.model_version == new.name


def test_a_worker_that_has_just_started_prepares_the_way_back(session, data_dir, database_url, loader):
    first, second = register(session, data_dir, "first"), register(session, data_dir, "second")
    promote(session, data_dir, first)
    promote(session, data_dir, second)
    model = ModelInUse(database_url, Loaded(loader), on_change=lambda: None)
    model.load_first()
    model.prepare_way_back()
    model.loaded.forget(all_but={model.key, model.previous_key})
    loader.go.clear()  # nothing can be loaded from here on
    registry.roll_back(session, ADMIN)
    model.follow()
    assert model.reader.model_version == first.name
    loader.go.set()


def test_a_way_back_that_cannot_be_loaded_harms_nothing(session, data_dir, database_url, loader):
    first, second = register(session, data_dir, "first"), register(session, data_dir, "second")
    promote(session, data_dir, first)
    promote(session, data_dir, second)
    (first.folder / "config.json").unlink()
    model = ModelInUse(database_url, Loaded(loader), on_change=lambda: None)
    model.load_first()
    model.prepare_way_back()
    model.follow()
    assert model.reader.model_version == second.name and model.trouble is None


def test_a_folder_changed_after_its_promotion_is_refused_and_the_old_model_reads_on(session, data_dir, model, loader):
    new = register(session, data_dir, "new")
    promote(session, data_dir, new)
    kept = (new.folder / "model.safetensors").read_bytes()
    (new.folder / "model.safetensors").write_bytes(b"other weights")
    follow(model, lambda: model.trouble and "changed or damaged" in model.trouble)
    assert model.reader.model_version == "configured" and "goes on with configured" in model.trouble
    model.follow()
    assert loader.loads == ["configured", new.name], "it is not tried again and again"
    session.rollback()
    (event,) = session.scalars(select(models.AuditEvent).where(models.AuditEvent.action == "model.refused"))
    assert event.subject == f"model:{new.model_version_id}" and "changed or damaged" in event.detail["reason"]
    (new.folder / "model.safetensors").write_bytes(kept)
    registry.roll_back(session, ADMIN)
    follow(model, lambda: model.trouble is None)


def test_a_load_that_fails_in_any_way_leaves_the_old_model(session, data_dir, model, loader):
    new = register(session, data_dir, "new")
    loader.breaks[new.name] = MemoryError("no memory left")
    promote(session, data_dir, new)
    follow(model, lambda: model.trouble and "no memory left" in model.trouble)
    assert model.reader.model_version == "configured"
    del loader.breaks[new.name]
    model._failed = (model._failed[0], time.monotonic() - model_in_use.RETRY_S - 1)  # a minute later
    follow(model, lambda: model.reader.model_version == new.name)


def test_a_pointer_that_changes_back_while_loading_ends_where_it_began(session, data_dir, model, loader):
    loader.go.clear()
    promote(session, data_dir, register(session, data_dir, "new"))
    model.follow()
    registry.roll_back(session, ADMIN)
    model.follow()
    assert model.reader.model_version == "configured" and model.trouble is None
    loader.go.set()
    model._loading[1].join()
    model.follow()
    assert model.reader.model_version == "configured" and model.trouble is None


def test_only_what_is_needed_stays_in_memory(session, data_dir, model):
    made = [register(session, data_dir, name) for name in ("a", "b", "c")]
    for one in made:
        promote(session, data_dir, one)
        follow(model, lambda name=one.name: model.reader.model_version == name)
        model.loaded.forget(all_but={model.key, model.previous_key})
    assert [model.loaded.get(one) is not None for one in (None, *made)] == [False, False, True, True]


def test_a_model_that_calls_itself_otherwise_is_refused(session, data_dir, monkeypatch):
    from engine.inference import checkpoint

    monkeypatch.setattr(checkpoint, "load_reader", lambda *_: FakeReader("somebody else"))
    with pytest.raises(ModelUnavailable, match="calls itself somebody else"):
        model_in_use.load_reader(register(session, data_dir, "new"))


# ---------------------------------------------------------------- with worker processes


def the_worker(database_url):
    with session_scope(database_url) as session:
        found = worklist.overview(session, demo_reader()).workers
    return found[0] if found else None


def versions_of_reads(database_url):
    query = (
        select(models.Prediction.image_fk, models.ModelVersion.name)
        .join(models.ModelVersion, models.Prediction.model_version_fk == models.ModelVersion.id)
        .order_by(models.Prediction.id)
    )
    with session_scope(database_url) as session:
        return [tuple(row) for row in session.execute(query)]


def compared(database_url, model):
    with session_scope(database_url) as session:
        return shadow.report(session, ADMIN, model.model_version_id).compared


def test_five_reads_a_second_across_a_swap_and_a_rollback_lose_and_repeat_none(
    waiting, start_worker, database_url, data_dir, session
):
    """Two workers, so that one may have the new model while the other has the old one."""
    for name in ("w1", "w2"):
        start_worker(name, FAKE_READ_S="0.3", FAKE_LOAD_S="0.5")
    waiting.until(lambda: the_worker(database_url) and the_worker(database_url).detail == READY)
    new = register(session, data_dir, "new")
    ids = []
    for number in range(20):
        if number == 5:
            promote(session, data_dir, new)
        if number == 13:
            registry.roll_back(session, ADMIN)
        due = time.monotonic() + 0.2
        ids += waiting.add(1, first=number)
        time.sleep(max(0, due - time.monotonic()))
    waiting.until(waiting.all_done)
    reads = versions_of_reads(database_url)
    assert Counter(image for image, _ in reads) == dict.fromkeys(ids, 1)
    assert {name for _, name in reads} == {"fake 1", new.name}
    assert reads[0][1] == "fake 1" and reads[-1][1] == "fake 1"


def test_a_worker_starts_with_the_model_in_use(waiting, start_worker, database_url, data_dir, session):
    new = register(session, data_dir, "new")
    promote(session, data_dir, new)
    waiting.add(1)
    start_worker()
    waiting.until(waiting.all_done)
    assert [name for _, name in versions_of_reads(database_url)] == [new.name]


def test_a_worker_that_starts_with_a_changed_folder_waits_for_a_rollback(
    waiting, start_worker, database_url, data_dir, session
):
    first, second = register(session, data_dir, "first"), register(session, data_dir, "second")
    promote(session, data_dir, first)
    promote(session, data_dir, second)
    (second.folder / "model.safetensors").write_bytes(b"other weights")
    waiting.add(1)
    start_worker()
    waiting.until(lambda: the_worker(database_url) and (the_worker(database_url).detail or "").startswith(NO_MODEL))
    assert "changed or damaged" in the_worker(database_url).detail
    assert not waiting.all_done()
    registry.roll_back(session, ADMIN)
    waiting.until(waiting.all_done)
    assert [name for _, name in versions_of_reads(database_url)] == [first.name]


def test_a_shadow_reads_after_the_real_read_and_is_ready_when_it_is_promoted(
    waiting, start_worker, database_url, data_dir, session
):
    new = register(session, data_dir, "new")
    ids = waiting.add(5)
    start_worker()
    waiting.until(waiting.all_done)
    shadow.start(session, ADMIN, new.model_version_id)
    ids += waiting.add(1, first=5)
    waiting.until(lambda: compared(database_url, new) == 6)
    session.rollback()
    assert Counter(session.scalars(select(models.ShadowRead.image_fk))) == dict.fromkeys(ids, 1)
    assert waiting.reads_by_image() == dict.fromkeys(ids, 1)
    assert {name for _, name in versions_of_reads(database_url)} == {"fake 1"}
    promote(session, data_dir, new)
    waiting.until(lambda: the_worker(database_url).model_version == new.name)
    waiting.add(1, first=6)
    waiting.until(waiting.all_done)
    assert versions_of_reads(database_url)[-1][1] == new.name


def test_a_shadow_on_a_gpu_that_is_gone_records_nothing_and_ends_the_worker(
    waiting, start_worker, database_url, data_dir, session
):
    new = register(session, data_dir, "new")
    waiting.add(1)
    worker = start_worker(FAKE_LOSE_MODEL=new.name)
    waiting.until(waiting.all_done)
    shadow.start(session, ADMIN, new.model_version_id)
    assert worker.wait(60) != 0
    assert the_worker(database_url).detail.startswith(LOST)
    session.rollback()
    assert session.scalars(select(models.ShadowRead)).all() == []
