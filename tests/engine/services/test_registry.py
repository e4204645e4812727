"""engine.services.registry: one pointer, a way back, and no folder that is not what it was."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import AuditEvent, DeploymentKind, ModelState, RetrainRun, RetrainState
from db.session import session_scope
from engine.errors import Conflict, ModelUnavailable, NotAllowed, NotFound, Refused
from engine.findings.answers import Task
from engine.services import lineage, reading, registry
from engine.services.registry import Deployed
from engine.settings import settings
from tests.model_folders import change_record as signed_change_record
from tests.model_folders import write_model_folder

from .conftest import ADMIN, READER, WORKER

CONFIGURED = "configured 1"


@pytest.fixture
def change_record(data_dir: Path) -> Path:
    return signed_change_record(data_dir)


@pytest.fixture
def add(session: Session, data_dir: Path):
    registry.record_loaded(session, WORKER, CONFIGURED, is_phantom=True)

    def add(name: str, **more) -> Deployed:
        return registry.add_candidate(session, WORKER, write_model_folder(data_dir, name), **more)

    return add


def states(session: Session) -> dict[str, str]:
    return {row.name.split(" (")[0]: row.state.value for row in lineage.models(session, ADMIN)}


def test_a_fresh_install_has_the_configured_model_in_use(session: Session, data_dir: Path) -> None:
    before = registry.model_in_use(session, READER)
    assert before.name.startswith("phantom ") and before.is_configured and before.deployment_id == 0
    assert before.returns_to is None
    assert registry.in_use(session, WORKER) is None
    registry.record_loaded(session, WORKER, before.name, is_phantom=True)
    assert registry.model_in_use(session, READER).is_phantom
    assert [(row.name, row.state) for row in lineage.models(session, ADMIN)] == [(before.name, ModelState.IN_USE)]


def test_a_candidate_is_moved_to_where_models_are_kept_and_registered_once(
    session: Session, data_dir: Path, add
) -> None:
    source = write_model_folder(data_dir, "phantom 0.3 + 1a2b3c4d")
    first = registry.add_candidate(session, WORKER, source, base_model="phantom", code_version="1")
    assert first.folder.parent == data_dir / "models" and first.folder.is_dir() and not source.exists()
    assert first.name.startswith("phantom 0.3 + 1a2b3c4d (")
    os.rename(first.folder, source)  # as if killed between the commit and the rename
    assert registry.add_candidate(session, WORKER, source) == first
    assert first.folder.is_dir() and not source.exists()
    (row,) = [row for row in lineage.models(session, ADMIN) if not row.is_configured]
    assert (row.state, row.base_model, row.code_version, row.reads) == (ModelState.CANDIDATE, "phantom", "1", 0)


def test_a_run_finds_its_candidate_again_after_the_move(session: Session, data_dir: Path, add) -> None:
    session.add(RetrainRun(id=7, state=RetrainState.RUNNING, started_by="demo-admin"))
    session.commit()
    source = write_model_folder(data_dir, "new")
    made = registry.add_candidate(session, WORKER, source, retrain_run_id=7)
    assert registry.add_candidate(session, WORKER, source, retrain_run_id=7) == made
    (row,) = [row for row in lineage.models(session, ADMIN) if not row.is_configured]
    assert (row.retrain_run_id, row.started_by) == (7, "demo-admin")


def test_promotion_is_one_pointer_and_the_others_retire(session: Session, add, change_record: Path) -> None:
    first, second = add("first"), add("second")
    registry.promote(session, ADMIN, first.model_version_id, change_record=change_record, comment="better")
    assert registry.in_use(session, WORKER) == first
    assert states(session) == {"configured 1": "retired", "first": "in_use", "second": "candidate"}
    registry.promote(session, ADMIN, second.model_version_id, change_record=change_record)
    now = registry.model_in_use(session, READER)
    assert (now.name, now.by, now.kind, now.returns_to) == (second.name, "demo-admin", "promotion", first.name)
    assert states(session) == {"configured 1": "retired", "first": "retired", "second": "in_use"}
    assert [row.comment for row in lineage.deployments(session, ADMIN)] == [None, "better"]


def test_rolling_back_goes_the_way_back_step_by_step(session: Session, add, change_record: Path) -> None:
    first, second = add("first"), add("second")
    for one in (first, second):
        registry.promote(session, ADMIN, one.model_version_id, change_record=change_record)
    assert registry.ways_back(session, WORKER) == [first]
    assert registry.roll_back(session, ADMIN) == first
    assert registry.model_in_use(session, READER).returns_to == CONFIGURED
    assert registry.ways_back(session, WORKER) == [None]
    assert registry.roll_back(session, ADMIN) is None
    assert registry.in_use(session, WORKER) is None
    now = registry.model_in_use(session, READER)
    assert (now.name, now.kind, now.is_configured) == (CONFIGURED, DeploymentKind.ROLLBACK, True)
    assert now.returns_to is None and registry.ways_back(session, WORKER) == []
    with pytest.raises(Refused, match="nothing to return to"):
        registry.roll_back(session, ADMIN)
    registry.promote(session, ADMIN, second.model_version_id)  # it was in use before: no new record
    assert registry.model_in_use(session, READER).returns_to == CONFIGURED
    assert states(session) == {"configured 1": "retired", "first": "retired", "second": "in_use"}


def test_the_second_of_two_admins_is_told(session: Session, add, change_record: Path, database_url: str) -> None:
    first, second = add("first"), add("second")
    seen = registry.model_in_use(session, ADMIN).deployment_id
    registry.promote(session, ADMIN, first.model_version_id, change_record=change_record, seen_deployment_id=seen)
    with session_scope(database_url) as other:
        for late in (
            lambda: registry.promote(
                other, ADMIN, second.model_version_id, change_record=change_record, seen_deployment_id=seen
            ),
            lambda: registry.roll_back(other, ADMIN, seen_deployment_id=seen),
            lambda: registry.promote(other, ADMIN, first.model_version_id),
        ):
            with pytest.raises(Conflict):
                late()
    assert registry.in_use(session, WORKER) == first


def test_a_candidate_needs_its_signature(session: Session, add, change_record: Path, tmp_path: Path) -> None:
    held = RetrainRun(state=RetrainState.HELD, started_by="demo-admin", message="worse on fractures")
    session.add(held)
    session.commit()
    lone, of_run = add("lone"), add("of run", retrain_run_id=held.id)
    with pytest.raises(Refused, match="signing its change record"):
        registry.promote(session, ADMIN, lone.model_version_id)
    (outside := tmp_path / "record.md").write_text("signed")
    for wrong in (outside, change_record.with_name("missing.md")):
        with pytest.raises(Refused, match="no change record"):
            registry.promote(session, ADMIN, lone.model_version_id, change_record=wrong)
    with pytest.raises(Refused, match="worse on fractures"):
        registry.promote(session, ADMIN, of_run.model_version_id, change_record=change_record)
    held.state = RetrainState.AWAITING_SIGNATURE
    session.commit()
    registry.promote(session, ADMIN, of_run.model_version_id, change_record=change_record)
    session.refresh(held)
    assert held.state == RetrainState.PROMOTED and held.finished_at is not None
    with pytest.raises(NotFound):
        registry.promote(session, ADMIN, 99)
    configured = next(row for row in lineage.models(session, ADMIN) if row.is_configured)
    with pytest.raises(Refused, match="comes back by a rollback"):
        registry.promote(session, ADMIN, configured.model_version_id)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda folder: (folder / "model.safetensors").write_bytes(b"other"), "changed or damaged"),
        (lambda folder: (folder / "more.json").write_text("{}"), "changed or damaged"),
        (lambda folder: (folder / "pytorch_model.bin").write_bytes(b"pickle"), "could run a program"),
        (lambda folder: (folder / "modeling.py").write_text("import os"), "could run a program"),
        (lambda folder: (folder / "config.json").unlink(), "no config.json"),
        (lambda folder: (folder / "link.json").symlink_to("/etc/passwd"), "not a plain file"),
        (lambda folder: os.rename(folder, folder.with_name("elsewhere")), "missing"),
    ],
)
def test_a_folder_that_is_not_what_it_was_is_never_put_in_use(
    session: Session, add, change_record: Path, change, says: str
) -> None:
    first, second = add("first"), add("second")
    for one in (first, second):
        registry.promote(session, ADMIN, one.model_version_id, change_record=change_record)
    change(first.folder)
    for attempt in (
        lambda: registry.roll_back(session, ADMIN),
        lambda: registry.promote(session, ADMIN, first.model_version_id),
    ):
        with pytest.raises(ModelUnavailable, match=says):
            attempt()
    assert registry.in_use(session, WORKER) == second


def test_a_folder_with_a_program_in_it_is_not_registered(session: Session, data_dir: Path) -> None:
    source = write_model_folder(data_dir, "hostile")
    (source / "weights.pkl").write_bytes(b"")
    with pytest.raises(ModelUnavailable, match=r"weights\.pkl"):
        registry.add_candidate(session, WORKER, source)
    (source / "weights.pkl").unlink()
    (source / "processor_config.json").write_text('{"auto_map": {"AutoProcessor": "evil.Processor"}}')
    with pytest.raises(ModelUnavailable, match="names code to be run"):
        registry.add_candidate(session, WORKER, source)
    assert lineage.models(session, ADMIN) == [] and source.is_dir()


def test_a_folder_from_elsewhere_is_not_registered(session: Session, data_dir: Path, tmp_path: Path) -> None:
    source = write_model_folder(tmp_path / "elsewhere", "foreign")
    (data_dir / "link").symlink_to(source)
    for path in (source, data_dir / "link", data_dir / ".." / "elsewhere"):
        with pytest.raises(Refused, match="not in the data folder"):
            registry.add_candidate(session, WORKER, path)


def test_a_path_out_of_the_folder_of_models_is_refused(session: Session, add, change_record: Path) -> None:
    made = add("first")
    for folder in ("models/../retrain", "models/a/b", "/etc"):
        registry.version_of(session, made.model_version_id).folder = folder
        session.commit()
        with pytest.raises(ModelUnavailable, match="is not in"):
            registry.promote(session, ADMIN, made.model_version_id, change_record=change_record)


def test_only_an_admin_decides_and_everything_is_in_the_audit(session: Session, add, change_record: Path) -> None:
    made = add("first")
    for actor in (READER, WORKER):
        with pytest.raises(NotAllowed):
            registry.promote(session, actor, made.model_version_id, change_record=change_record)
        with pytest.raises(NotAllowed):
            registry.roll_back(session, actor)
    for forbidden in (lineage.models, lineage.deployments):
        with pytest.raises(NotAllowed):
            forbidden(session, READER)
    with pytest.raises(NotAllowed):
        registry.add_candidate(session, READER, made.folder)
    registry.promote(session, ADMIN, made.model_version_id, change_record=change_record)
    registry.roll_back(session, ADMIN)
    rows = session.execute(select(AuditEvent.action, AuditEvent.actor).order_by(AuditEvent.id)).all()
    assert [tuple(row) for row in rows] == [
        ("model.seen", "worker"),
        ("model.candidate", "worker"),
        ("model.promotion", "demo-admin"),
        ("model.rollback", "demo-admin"),
    ]


def test_readers_see_the_models_that_read_and_no_candidate(session: Session, new_case, add) -> None:
    new_case(Task.FRACTURE)
    add("candidate")
    reading.heartbeat(session, WORKER, "w1", CONFIGURED)
    assert [(row.name, row.reads, row.in_use) for row in lineage.models_that_read(session, READER)] == [
        ("phantom 0.3", 1, False),
        (CONFIGURED, 0, True),
    ]


def test_another_configured_model_takes_its_place_when_a_worker_loads_it(session: Session, add) -> None:
    registry.record_loaded(session, WORKER, "configured 2", is_phantom=False)
    assert states(session) == {"configured 1": "retired", "configured 2": "in_use"}
    assert settings().data_dir / "models" == registry.models_folder()
