"""The job that retrains: snapshot → train → merge → evaluate → gate, and then it awaits a signature or is held.

Every step is done once in effect, however often it is begun: what it makes appears by one rename, and where that is
there already the step is over. Training goes on from its last checkpoint. The steps that need torch are processes of
their own (engine.jobs.bound_process), so that reads go on and a crash there costs the run, never the worker.

    data_dir/retrain/<run>/  log.txt  dataset/  model/  merged/  comparison/  change-record.md, .pdf

dataset/, model/ and merged/ are gone when the run is over; a candidate's folder has moved to data_dir/models/."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from sqlalchemy.exc import SQLAlchemyError

from db.models import RetrainState, RetrainStep
from db.session import session_scope
from engine.code_version import code_version
from engine.errors import PediScreenError
from engine.inference import model_folder
from engine.jobs import bound_process, queue
from engine.jobs.bound_process import StepFailed
from engine.promotion_gate import Decision, decide
from engine.services import change_record, registry, retrain, retrain_run, training_set
from engine.services.accounts import service_actor
from engine.services.retrain_run import COMPARISON, LOG, METRICS, Order, run_folder
from engine.settings import PHANTOM_MODEL, settings

log = logging.getLogger(__name__)

JOB = "retrain"
MODULES = {
    RetrainStep.TRAIN: "training.train_radiology",
    RetrainStep.MERGE: "training.radiology_merge",
    RetrainStep.EVALUATE: "training.compare_models",
}
KEPT = {LOG, METRICS, "training.json", COMPARISON, change_record.FILE_NAME, change_record.PDF_NAME}
LOCKS = {"lock", retrain.SIGN_LOCK}
TRAIN_SHARES = {  # of the step's time, by what its bar is called
    "image tokens": (0.0, 0.4),
    "where the new films differ": (0.4, 0.5),
    "training": (0.5, 1.0),
}
UNCHANGED = "Merged equals base"  # what radiology_merge says of an adapter that training left as it began
NO_GAIN = (
    "No gain: at no moment of the training did the new model do better on the validation films than the one it began "
    "with, so there is nothing to put in use."
)
NOT_AGAIN_WITHIN_S = 10.0
LOOK_S = 0.5

ACTOR = service_actor("worker")


class Cancelled(PediScreenError):
    """The run is over: an admin has ended it."""


class NoGain(PediScreenError):
    """Training has found nothing better than what it began with."""


class Stopping(BaseException):
    """The worker stops. Not an Exception, so that the queue keeps the job and it is gone on with."""


class Retraining:
    """`modules`: the training steps' programs. `snapshot`: see engine.services.training_set."""

    def __init__(
        self,
        database_url: str,
        stopping: threading.Event,
        *,
        modules: Mapping[RetrainStep, str] = MODULES,
        snapshot: Callable = training_set.snapshot,
    ) -> None:
        self.database_url = database_url
        self.stopping = stopping
        self.modules = modules
        self.snapshot = snapshot

    def register(self) -> None:
        """Makes the job known to the queue; before `queue.launch`."""

        def as_step(step: RetrainStep) -> Callable[[int], bool]:
            @queue.step(f"retrain_{step}", attempts=3)
            def perform(run_id: int) -> bool:
                return self.perform(run_id, step)

            return perform

        steps = [as_step(step) for step in RetrainStep]

        @queue.step("retrain_tidy", attempts=3)
        def tidy(run_id: int) -> None:
            self.tidy(run_id)

        @queue.job(JOB)
        def retrain_job(run_id: int) -> None:
            for perform in steps:
                if not perform(run_id):
                    break
            tidy(run_id)

    def perform(self, run_id: int, step: RetrainStep) -> bool:
        """The outermost line of a step: whatever fails ends the run with a sentence. False when the run is over."""
        work = {
            RetrainStep.SNAPSHOT: self._snapshot,
            RetrainStep.TRAIN: self._train,
            RetrainStep.MERGE: self._merge,
            RetrainStep.EVALUATE: self._evaluate,
            RetrainStep.GATE: self._gate,
        }[step]
        try:
            with self._alone(run_id) as lock:
                order = self._order(run_id)
                if not self._in_session(retrain_run.begin, run_id, step):
                    return False
                log.info("retraining %d: %s", run_id, step)
                work(order, run_folder(run_id), lock)
            return self._order(run_id).is_on
        except Cancelled:
            return False
        except SQLAlchemyError:  # the queue tries again
            raise
        except PediScreenError as error:
            return self._failed(run_id, str(error))
        except OSError as error:
            log.exception("retraining %d failed", run_id)
            full = error.errno == errno.ENOSPC
            return self._failed(run_id, "The disk is full: free some space." if full else f"{step} failed: {error}")
        except Exception as error:
            log.exception("retraining %d failed", run_id)
            return self._failed(run_id, f"The step {step} failed unexpectedly: {type(error).__name__}: {error}")

    def tidy(self, run_id: int) -> None:
        """Removes what a run that is over has no use for any more."""
        folder = run_folder(run_id)
        if not folder.is_dir() or self._in_session(retrain_run.is_kept, run_id):
            return
        with self._alone(run_id):
            for made, kept in (("model/metrics.jsonl", METRICS), ("model/config.json", "training.json")):
                if (folder / made).is_file():
                    (folder / made).replace(folder / kept)
            _remove_all_but(folder, KEPT | LOCKS)
            if not {path.name for path in folder.iterdir()} & KEPT:
                shutil.rmtree(folder)

    def sweep(self) -> None:
        """Tidies after runs that ended while no worker was there."""
        with suppress(Stopping):
            for folder in run_folder(0).parent.glob("*"):
                if folder.name.isdecimal() and {path.name for path in folder.iterdir()} - KEPT - LOCKS:
                    self.tidy(int(folder.name))

    # ------------------------------------------------------------ the steps

    def _snapshot(self, order: Order, folder: Path, lock: IO) -> None:
        dataset = folder / "dataset"
        if order.data_set_id is not None and dataset.is_dir():
            return
        _remove_all_but(folder, LOCKS)
        with session_scope(self.database_url) as session:
            last_look = 0.0

            def progress(done: int, of: int) -> None:
                nonlocal last_look
                if time.monotonic() - last_look > LOOK_S:
                    last_look = time.monotonic()
                    self._look(order.run_id, done / max(1, of))

            made = self.snapshot(session, ACTOR, dataset, progress=progress)
        self._in_session(retrain_run.note, order.run_id, data_set_fk=made.data_set_id)

    def _train(self, order: Order, folder: Path, lock: IO) -> None:
        self._verify_data_set(order, folder)
        arguments = ["--data_dir", folder / "dataset", "--output_dir", folder / "model"]
        arguments += ["--base_model", order.settings["base_model"]]
        if order.settings["tasks"]:
            arguments += ["--tasks", ",".join(order.settings["tasks"])]
        for name, value in order.settings["training"].items():
            arguments += [f"--{name}", value]
        self._run(RetrainStep.TRAIN, order, arguments, lock)

    def _verify_data_set(self, order: Order, folder: Path) -> None:
        if order.data_set_id is not None:
            self._in_session(training_set.verify, order.data_set_id, folder / "dataset")

    def _merge(self, order: Order, folder: Path, lock: IO) -> None:
        merged, base = folder / "merged", order.settings["base_model"]
        if (merged / "config.json").is_file():
            return
        _remove(*folder.glob(".merged-*"))
        arguments = ["--adapter_path", folder / "model" / "lora", "--output_path", merged, "--base_model", base]
        arguments += ["--name", f"{Path(base).name} run {order.run_id}", "--trained_on", folder / "dataset"]
        if base != PHANTOM_MODEL:
            arguments += ["--data_dir", folder / "dataset", "--split", "val"]
        try:
            self._run(RetrainStep.MERGE, order, arguments, lock)
        except StepFailed as failed:
            raise NoGain(NO_GAIN) if str(failed).startswith(UNCHANGED) else failed from None

    def _evaluate(self, order: Order, folder: Path, lock: IO) -> None:
        comparison = folder / COMPARISON
        if (comparison / "comparison.json").is_file() and "model_in_use" in order.settings:
            return
        self._verify_data_set(order, folder)
        with session_scope(self.database_url) as session:
            pointer, deployed = registry.model_in_use(session, ACTOR), registry.in_use(session, ACTOR)
        arguments = ["--candidate", folder / "merged", "--data_dir", folder / "dataset", "--output_dir", comparison]
        if deployed is not None:
            model_folder.verify(deployed.folder, deployed.folder_sha256)
            arguments += ["--model_in_use", deployed.folder]
        else:
            adapter = settings().lora_adapter_path
            arguments += ["--model_in_use", settings().model, *(["--in_use_adapter", adapter] if adapter else [])]
        against = {"model_in_use": pointer.name, "deployment_id": pointer.deployment_id}
        self._in_session(retrain_run.note, order.run_id, settings=against)
        self._run(RetrainStep.EVALUATE, order, arguments, lock)

    def _gate(self, order: Order, folder: Path, lock: IO) -> None:
        against = order.settings["model_in_use"]
        tries = self._in_session(retrain_run.earlier_tries, order.run_id, against)
        comparison = json.loads((folder / COMPARISON / "comparison.json").read_text(encoding="utf-8"))
        decision = decide(comparison, earlier_tries=tries)
        with session_scope(self.database_url) as session:
            candidate = registry.add_candidate(
                session,
                ACTOR,
                folder / "merged",
                retrain_run_id=order.run_id,
                base_model=order.settings["base_model"],
                adapter_sha256=_sha256(folder / "model" / "lora" / "adapter_model.safetensors"),
                data_set_id=order.data_set_id,
                code_version=code_version(),
                settings=order.settings["training"],
                metrics=_metrics(decision),
            )
        found = {**decision.as_json(), "model_in_use": against}
        self._in_session(retrain_run.note, order.run_id, decision=found, progress=1.0)
        if decision.promote:
            message = f"{candidate.name} is better, and no worse anywhere. It awaits a signature."
            state = RetrainState.AWAITING_SIGNATURE
        else:
            with session_scope(self.database_url) as session:
                retrain.write_held_record(session, ACTOR, order.run_id)
            message = "The gate held the new model back. " + " ".join(decision.reasons)
            state = RetrainState.HELD
        self._in_session(retrain_run.end, order.run_id, state, message)

    # ------------------------------------------------------------ around them

    def _run(self, step: RetrainStep, order: Order, arguments: list, lock: IO) -> None:
        """One training step's process. Raises StepFailed, Cancelled, Stopping."""

        def look(what: str, share: float) -> None:
            low, high = TRAIN_SHARES.get(what, (0.0, 1.0)) if step is RetrainStep.TRAIN else (0.0, 1.0)
            self._look(order.run_id, low + share * (high - low))

        bound_process.run(
            self.modules[step],
            [str(argument) for argument in arguments],
            run_folder(order.run_id) / LOG,
            look=look,
            keep_open=[lock.fileno()],
        )

    def _look(self, run_id: int, progress: float) -> None:
        if self.stopping.is_set():
            raise Stopping
        if not self._in_session(retrain_run.report, run_id, progress):
            raise Cancelled("the run was cancelled")

    def _failed(self, run_id: int, sentence: str) -> bool:
        end = "" if sentence.endswith(".") else "."
        message = f"{sentence[:1].upper()}{sentence[1:]}{end} The model in use was not touched."
        self._in_session(retrain_run.end, run_id, RetrainState.FAILED, message)
        return False

    @contextmanager
    def _alone(self, run_id: int) -> Iterator[IO]:
        """Nobody else is at this run, neither another worker nor a process that a killed one has left: they inherit
        the lock. It goes when the last of them goes."""
        folder = run_folder(run_id)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if self.stopping.wait(LOOK_S):
                        raise Stopping from None
            yield lock

    def _order(self, run_id: int) -> Order:
        order = self._in_session(retrain_run.order, run_id)
        if order is None:
            raise Cancelled(f"there is no retrain run {run_id}")
        return order

    def _in_session(self, service: Callable, *arguments, **more):
        with session_scope(self.database_url) as session:
            return service(session, ACTOR, *arguments, **more)


class Dispatcher:
    """Puts the runs that wait into the queue, each once; also one whose job was lost with the jobs database."""

    def __init__(self, database_url: str) -> None:
        self.database_url = database_url
        self._dispatched: dict[int, float] = {}

    def dispatch(self) -> int:
        """Returns how many runs it put into the queue."""
        with session_scope(self.database_url) as session:
            waiting = retrain_run.waiting_runs(session, ACTOR)
        if not waiting:
            return 0
        in_queue = {job.arguments[0] for job in queue.unfinished() if job.name == JOB and job.arguments}
        now, put = time.monotonic(), 0
        for run_id in waiting:
            if run_id not in in_queue and now - self._dispatched.get(run_id, -1e9) > NOT_AGAIN_WITHIN_S:
                put += queue.enqueue(JOB, run_id, queue=queue.TRAIN_QUEUE, once=f"retrain-{run_id}")
                self._dispatched[run_id] = now
        return put


def _metrics(decision: Decision) -> dict[str, object]:
    """The figures that the gate judged by, for the registry."""
    return {
        f"{figure.task}, {figure.group}, {figure.measure} ({figure.unit})": round(figure.candidate, 4)
        for figure in decision.figures
        if figure.rule == "not worse"
    }


def _sha256(file: Path) -> str | None:
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else None


def _remove_all_but(folder: Path, kept: set[str]) -> None:
    _remove(*(path for path in folder.iterdir() if path.name not in kept))


def _remove(*paths: Path) -> None:
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
