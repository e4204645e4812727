"""engine.jobs.retrain with fake training steps: whatever happens on the way, a run ends as it should, once."""

import errno
import os
import signal
import threading
from hashlib import sha256
from types import SimpleNamespace

import psutil
import pytest

from db import models
from db.models import ModelState, RetrainState, RetrainStep
from db.session import session_scope
from engine.errors import Conflict, ModelUnavailable, Refused
from engine.jobs import bound_process
from engine.services import lineage, registry, retrain, training_set
from engine.services.accounts import demo_admin, service_actor
from engine.services.retrain_run import run_folder
from engine.settings import settings
from tests.fake_retraining import fake_retraining
from tests.fake_training import TRAINING_STEPS
from tests.model_folders import change_record, write_model_folder

ADMIN = demo_admin()
KEPT_AFTER = {"log.txt", "metrics.jsonl", "training.json", "comparison", "change-record.md", "change-record.pdf"}


@pytest.fixture(autouse=True)
def enough(monkeypatch):
    """Enough corrections, as far as the preview is concerned."""
    preview = SimpleNamespace(enough=True, why_not=None, estimate_minutes=6.0)
    monkeypatch.setattr(training_set, "preview", lambda session, actor: preview)


@pytest.fixture
def work(database_url):
    return worker_of(database_url)


def worker_of(database_url):
    """Does a run in this process, without a queue; the sentence it ends with is in the row."""
    retraining = fake_retraining(database_url, threading.Event())

    def work(run_id, steps=tuple(RetrainStep)):
        for step in steps:
            if not retraining.perform(run_id, step):
                break
        retraining.tidy(run_id)

    return work


def left_in(run_id):
    folder = run_folder(run_id)
    return (
        {path.name for path in folder.iterdir() if path.name not in ("lock", "sign.lock")} if folder.exists() else set()
    )


def view(session, run_id):
    session.rollback()
    return retrain.run(session, ADMIN, run_id)


def test_a_better_candidate_awaits_a_signature_and_is_in_use_once_signed(session, work, data_dir):
    run_id = retrain.start(session, ADMIN)
    work(run_id)
    seen = view(session, run_id)
    assert seen.state is RetrainState.AWAITING_SIGNATURE, seen.message
    assert [step.state for step in seen.steps] == ["done"] * 5
    assert [step for step, _ in seen.curve.loss] == list(range(1, TRAINING_STEPS + 1))
    assert registry.in_use(session, ADMIN) is None, "nothing changes before the signature"
    assert left_in(run_id) <= KEPT_AFTER

    with pytest.raises(Refused, match="comment"):
        retrain.sign(session, ADMIN, run_id, " ")
    record = retrain.sign(session, ADMIN, run_id, "Fewer errors at site B")
    signed = view(session, run_id)
    assert signed.state is RetrainState.PROMOTED
    assert signed.message == "Signed for by Demo admin: Fewer errors at site B"
    assert registry.in_use(session, ADMIN).name == seen.candidate
    text = record.read_text()
    for said in ("Fewer errors at site B", seen.candidate, sha256().hexdigest()):
        assert said in text
    with pytest.raises(Conflict):
        retrain.sign(session, ADMIN, run_id, "again")
    assert record.read_text() == text


def test_a_worse_candidate_is_held_with_the_reason(session, work, monkeypatch):
    monkeypatch.setenv("FAKE_VERDICT", "worse")
    run_id = retrain.start(session, ADMIN)
    work(run_id)
    seen = view(session, run_id)
    assert seen.state is RetrainState.HELD
    assert "Worse: bone age" in seen.message
    assert seen.change_record is not None
    assert registry.in_use(session, ADMIN) is None
    with pytest.raises(Conflict):
        retrain.sign(session, ADMIN, run_id, "I want it all the same")
    assert retrain.start(session, ADMIN) > run_id, "the next run may begin"


def test_declining_keeps_the_model_in_use_and_says_who_and_why(session, work):
    run_id = retrain.start(session, ADMIN)
    work(run_id)
    record = retrain.decline(session, ADMIN, run_id, "Two ROP cases got worse")
    seen = view(session, run_id)
    assert seen.state is RetrainState.HELD
    assert seen.message == "Declined by Demo admin: Two ROP cases got worse"
    assert "Two ROP cases got worse" in record.read_text()
    assert registry.in_use(session, ADMIN) is None


@pytest.mark.parametrize("step", ["train", "merge", "evaluate"])
def test_a_step_that_fails_ends_the_run_with_its_sentence_and_leaves_nothing(
    session, work, monkeypatch, data_dir, step
):
    monkeypatch.setenv("FAKE_FAIL", step)
    run_id = retrain.start(session, ADMIN)
    work(run_id)
    seen = view(session, run_id)
    assert seen.state is RetrainState.FAILED
    assert seen.message == f"The {step} found something wrong. The model in use was not touched."
    assert left_in(run_id) <= KEPT_AFTER
    assert not (data_dir / "models").exists()
    assert lineage.models(session, ADMIN) == []


def test_a_training_without_gain_is_said_to_be_so(session, work, monkeypatch):
    monkeypatch.setenv("FAKE_FAIL", "merge")
    monkeypatch.setenv("FAKE_SENTENCE", "Merged equals base in all 56 adapted layers: the adapter is untrained.")
    run_id = retrain.start(session, ADMIN)
    work(run_id)
    assert view(session, run_id).message.startswith("No gain: at no moment of the training")


NO_MEMORY = "The machine ran out of memory, or somebody ended the process. Free some memory and start again."
DISK_FULL = "The disk is full: free some space and start again."


@pytest.mark.parametrize(
    ("step", "crash", "sentence"),
    [
        ("train", "disk_full", DISK_FULL),
        ("merge", "disk_full", DISK_FULL),
        ("evaluate", "disk_full", DISK_FULL),
        ("train", "memory", NO_MEMORY),
        ("evaluate", "killed", NO_MEMORY),
        (
            "evaluate",
            "mistake",
            "Fake_training stopped unexpectedly (exit status 1). Its last words: ZeroDivisionError: division by zero.",
        ),
    ],
)
def test_a_step_that_crashes_ends_the_run_with_a_sentence(session, work, monkeypatch, data_dir, step, crash, sentence):
    monkeypatch.setenv("FAKE_FAIL", step)
    monkeypatch.setenv("FAKE_CRASH", crash)
    run_id = retrain.start(session, ADMIN)
    work(run_id)
    seen = view(session, run_id)
    assert seen.state is RetrainState.FAILED
    assert seen.message == f"{sentence} The model in use was not touched."
    assert left_in(run_id) <= KEPT_AFTER
    assert registry.in_use(session, ADMIN) is None and lineage.models(session, ADMIN) == []


@pytest.mark.parametrize("where", ["snapshot", "process"])
def test_a_disk_that_is_full_before_a_step_s_process_is_said_to_be_so(session, database_url, work, monkeypatch, where):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    if where == "process":
        monkeypatch.setattr(bound_process.subprocess, "Popen", full)
    else:
        monkeypatch.setattr("tests.fake_retraining.fake_snapshot", full)
        work = worker_of(database_url)
    run_id = retrain.start(session, ADMIN)
    work(run_id)
    seen = view(session, run_id)
    assert seen.state is RetrainState.FAILED
    assert seen.message == "The disk is full: free some space. The model in use was not touched."


def test_a_full_disk_is_noticed_before_the_start(session, monkeypatch):
    monkeypatch.setattr(retrain.shutil, "disk_usage", lambda _: SimpleNamespace(free=100_000_000))
    with pytest.raises(Refused, match=r"0\.1 GB left, and a retraining needs 2 GB"):
        retrain.start(session, ADMIN)


def test_too_few_corrections_are_refused_with_the_preview_s_sentence(session, monkeypatch):
    preview = SimpleNamespace(enough=False, why_not="There are 3 usable corrections.")
    monkeypatch.setattr(training_set, "preview", lambda *_: preview)
    with pytest.raises(Refused, match="There are 3 usable corrections"):
        retrain.start(session, ADMIN)


def test_a_candidate_whose_files_were_changed_is_not_signed(session, work, data_dir):
    run_id = retrain.start(session, ADMIN)
    work(run_id)
    (weights,) = (data_dir / "models").rglob("model.safetensors")
    weights.write_bytes(b"something else")
    with pytest.raises(ModelUnavailable, match="changed or damaged"):
        retrain.sign(session, ADMIN, run_id, "fine")
    seen = view(session, run_id)
    assert seen.state is RetrainState.FAILED and "changed or damaged" in seen.message
    assert seen.change_record is None
    assert registry.in_use(session, ADMIN) is None


def test_a_model_in_use_whose_files_were_changed_ends_the_run(session, work, data_dir):
    run_id = retrain.start(session, ADMIN)
    work(run_id)
    retrain.sign(session, ADMIN, run_id, "fine")
    (weights,) = (data_dir / "models").rglob("model.safetensors")
    weights.write_bytes(b"something else")
    second = retrain.start(session, ADMIN)
    work(second)
    seen = view(session, second)
    assert seen.state is RetrainState.FAILED and "changed or damaged" in seen.message


def test_a_model_put_in_use_since_the_comparison_stops_the_signature(session, work, data_dir):
    run_id = retrain.start(session, ADMIN)
    work(run_id)
    other = registry.add_candidate(session, service_actor("worker"), write_model_folder(data_dir, "other"))
    registry.promote(session, ADMIN, other.model_version_id, change_record=change_record(data_dir))
    with pytest.raises(Conflict, match="another model was put in use meanwhile"):
        retrain.sign(session, ADMIN, run_id, "fine")
    seen = view(session, run_id)
    assert seen.state is RetrainState.AWAITING_SIGNATURE and seen.change_record is None
    assert registry.in_use(session, ADMIN) == other
    retrain.decline(session, ADMIN, run_id, "compared with a model that is in use no more")
    assert view(session, run_id).state is RetrainState.HELD and registry.in_use(session, ADMIN) == other


def test_many_clicks_at_once_start_one_run(database_url):
    outcomes = []

    def click():
        with session_scope(database_url) as session:
            try:
                outcomes.append(retrain.start(session, ADMIN))
            except Conflict:
                outcomes.append(None)

    threads = [threading.Thread(target=click) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outcomes) == 8 and sum(outcome is not None for outcome in outcomes) == 1


def test_a_setting_cannot_smuggle_a_path_in(session):
    for name, value in (("output_dir", "/etc"), ("epochs", "1; rm"), ("--x", 1)):
        with pytest.raises(Refused):
            retrain.start(session, ADMIN, retrain.RetrainSettings(training={name: value}))


# ---------------------------------------------------------------- with a real worker


def state_of(database_url, run_id):
    with session_scope(database_url) as session:
        return session.get(models.RetrainRun, run_id).state


def training_processes():
    return [p for p in psutil.process_iter(["cmdline"]) if "tests.fake_training" in (p.info["cmdline"] or [])]


def test_a_run_survives_kills_and_a_stop_of_its_worker(session, database_url, start_worker, waiting, data_dir):
    run_id = retrain.start(session, ADMIN)
    slow = {"FAKE_RETRAIN": "1", "FAKE_STEP_S": "0.25"}
    for number in (signal.SIGTERM, signal.SIGKILL):
        worker = start_worker(**slow)
        waiting.until(lambda: training_processes())
        os.kill(worker.pid, number)
        worker.wait(timeout=20)
        waiting.until(lambda: not training_processes(), within_s=5)
        assert state_of(database_url, run_id) is RetrainState.RUNNING
    start_worker(FAKE_RETRAIN="1")
    waiting.until(lambda: state_of(database_url, run_id) is RetrainState.AWAITING_SIGNATURE)
    seen = view(session, run_id)
    assert [step for step, _ in seen.curve.loss] == list(range(1, TRAINING_STEPS + 1)), "no step twice in effect"
    assert {step.step: step.starts for step in seen.steps}[RetrainStep.TRAIN] == 3
    waiting.until(lambda: left_in(run_id) <= KEPT_AFTER)
    assert len(list((data_dir / "models").iterdir())) == 1
    (candidate,) = [row for row in lineage.models(session, ADMIN) if row.retrain_run_id == run_id]
    assert candidate.state is ModelState.CANDIDATE


def test_cancelling_ends_the_process_within_seconds_and_reads_went_on(session, database_url, start_worker, waiting):
    start_worker(FAKE_RETRAIN="1", FAKE_STEP_S="1")
    run_id = retrain.start(session, ADMIN)
    waiting.until(lambda: training_processes())
    waiting.add(3)
    waiting.until(waiting.all_done, within_s=10)
    assert state_of(database_url, run_id) is RetrainState.RUNNING
    retrain.cancel(session, ADMIN, run_id)
    waiting.until(lambda: not training_processes(), within_s=5)
    waiting.until(lambda: left_in(run_id) <= KEPT_AFTER, within_s=5)
    seen = view(session, run_id)
    assert seen.state is RetrainState.CANCELLED
    assert seen.message == "Cancelled by Demo admin. The model in use was not touched."
    second = retrain.start(session, ADMIN)
    waiting.until(lambda: state_of(database_url, second) is RetrainState.RUNNING)
    retrain.cancel(session, ADMIN, second)


def test_what_is_left_of_a_run_cancelled_without_a_worker_goes_when_one_starts(
    session, database_url, start_worker, waiting
):
    run_id = retrain.start(session, ADMIN)
    (run_folder(run_id) / "model").mkdir(parents=True)
    retrain.cancel(session, ADMIN, run_id)
    start_worker(FAKE_RETRAIN="1")
    waiting.until(lambda: not run_folder(run_id).exists())


def test_progress_is_read_from_what_the_process_says():
    assert bound_process.progress_in("loading\n") == ("", 0.0)
    assert bound_process.progress_in('{"done": 3, "of": 12}\n{"done": 6, "of": 12}\n') == ("", 0.5)
    bars = "image tokens: 100%|##########| 40/40 [00:03<00:00]\ntraining:  30%|###       | 3/10 [00:01<00:03, loss=0.4]"
    assert bound_process.progress_in(bars) == ("training", 0.3)


def test_a_model_that_is_elsewhere_cannot_be_trained_here(session, monkeypatch):
    monkeypatch.setenv("PEDISCREEN_MODEL", "https://gpu.example:8602")
    settings.cache_clear()
    with pytest.raises(Refused, match="can be trained only there"):
        retrain.start(session, ADMIN)


def test_a_data_set_that_was_changed_is_not_learned_from(session, work):
    run_id = retrain.start(session, ADMIN)
    work(run_id, steps=(RetrainStep.SNAPSHOT,))
    (run_folder(run_id) / "dataset" / "bone_age" / "one_more.png").write_bytes(b"put in by somebody")
    work(run_id, steps=(RetrainStep.TRAIN,))
    seen = retrain.run(session, ADMIN, run_id)
    assert seen.state is RetrainState.FAILED and "is not what was written" in seen.message
